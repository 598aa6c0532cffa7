//! The points as text.

use super::cases::{PATTERNS, Pattern, SHAPES, Shape};
use super::measure::Measured;
use std::fmt::Write;
use tensor_core::measure::cpu;

/// All points, one line each.
pub(super) fn csv(points: &[Measured]) -> String {
    let mut text = String::from(
        "layer,inputs,outputs,side,kernel,pattern,sparsity,dense_us,sparse_us,speedup,speedup_p10,\
         speedup_p90,dense_gflops,sparse_useful_gflops\n",
    );
    for p in points {
        let Shape { name, inputs, outputs, side, kernel } = p.shape;
        let [low, median, high] = p.speedup;
        let [dense, sparse] = p.rates();
        text.push_str(&format!(
            "{name},{inputs},{outputs},{side},{kernel},{},{:.2},{:.2},{:.2},{median:.3},{low:.3},{high:.3},\
             {dense:.1},{sparse:.1}\n",
            p.pattern.name, p.sparsity, p.dense, p.sparse
        ));
    }
    text
}

/// The points of one layer and pattern.
pub(super) fn of<'a>(
    points: &'a [Measured],
    shape: &'a Shape,
    pattern: Pattern,
) -> impl Iterator<Item = &'a Measured> {
    points.iter().filter(move |p| p.shape.name == shape.name && p.pattern == pattern)
}

/// The sparsity from which on sparse is faster at every measured point, between points on a line.
fn crossover(points: &[Measured], shape: &Shape, pattern: Pattern) -> Option<f64> {
    let mut found = None;
    let mut before: Option<&Measured> = None;
    for point in of(points, shape, pattern) {
        let speedup = point.speedup[1];
        if speedup < 1.0 {
            found = None;
        } else if found.is_none() {
            found = Some(before.map_or(point.sparsity, |before| {
                let share = (1.0 - before.speedup[1]) / (speedup - before.speedup[1]);
                before.sparsity + share * (point.sparsity - before.sparsity)
            }));
        }
        before = Some(point);
    }
    found
}

/// What was measured, where and how, and the figures at the sparsities that people use.
pub(super) fn markdown(points: &[Measured]) -> String {
    let cpu = cpu::this();
    let mut text = format!(
        "# Sparse against dense convolutions\n\n\
         Written by `cargo xtask crossover`: our sparse kernel against our own dense one, one image, one thread, rectifier\n\
         included, in turn. Layers are 1x1 unless named otherwise; the dense kernel computes 3x3 ones by Winograd's\n\
         filtering, and its GFLOP/s count plain products. Patterns are outputs x inputs, blocks at random places. Cells are\n\
         dense over sparse time: the median of pairs of neighbouring runs (10 % to 90 % of the pairs). All points are in\n\
         `sparse.csv`; `sparse.svg` draws them. Machine: {}, {}.\n",
        cpu.name,
        cpu.features.join(" ")
    );
    for pattern in PATTERNS {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n## {}\n\n| layer | dense us (GFLOP/s) | faster from | 50 % | 75 % | 90 % | 95 % | useful GFLOP/s at 90 % |\n\
             |---|---|---|---|---|---|---|---|\n",
            pattern.name
        );
        for shape in &SHAPES {
            text.push_str(&row(points, shape, pattern));
        }
    }
    text
}

fn row(points: &[Measured], shape: &Shape, pattern: Pattern) -> String {
    let at = |sparsity: f64| {
        of(points, shape, pattern).find(move |p| (p.sparsity - sparsity).abs() < 1e-9)
    };
    let speedup = |sparsity| {
        at(sparsity).map_or_else(
            || "-".to_owned(),
            |p| format!("{:.2} ({:.2} to {:.2})", p.speedup[1], p.speedup[0], p.speedup[2]),
        )
    };
    let dense = of(points, shape, pattern).next();
    let dense = dense.map_or_else(String::new, |p| format!("{:.0} ({:.0})", p.dense, p.rates()[0]));
    let from = crossover(points, shape, pattern);
    let from = from.map_or_else(|| "never".to_owned(), |s| format!("{:.0} %", 100.0 * s));
    let useful = at(0.9).map_or_else(String::new, |p| format!("{:.0}", p.rates()[1]));
    format!(
        "| {}: {} to {} at {}x{} | {dense} | {from} | {} | {} | {} | {} | {useful} |\n",
        shape.name,
        shape.inputs,
        shape.outputs,
        shape.side,
        shape.side,
        speedup(0.5),
        speedup(0.75),
        speedup(0.9),
        speedup(0.95),
    )
}
