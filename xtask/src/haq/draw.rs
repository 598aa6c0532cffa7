//! The figures: bits per layer, and accuracy over cost.

use super::{CROSSED, Report, Solved};
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use quant_mixed::search::Bits;
use tensor_core::cost::hardware::{Layer, LayerKind};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

/// Colours that the colour-blind tell apart (Okabe and Ito).
const BLUE: RGBColor = RGBColor(0, 114, 178);
const ORANGE: RGBColor = RGBColor(230, 159, 0);
const GREEN: RGBColor = RGBColor(0, 158, 115);
const PINK: RGBColor = RGBColor(204, 121, 167);

/// Pixels of a panel.
const PANEL: (u32, u32) = (900, 240);

fn svg(size: (u32, u32), draw: impl FnOnce(&Area) -> Drawn) -> Result<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        area.fill(&WHITE)
            .map_err(|error| error.to_string())
            .and_then(|()| draw(&area).map_err(|error| error.to_string()))
            .and_then(|()| area.present().map_err(|error| error.to_string()))
            .map_err(|error| anyhow!("drawing: {error}"))?;
    }
    Ok(text)
}

/// Weights up, activations down, a panel for each device; depthwise layers are orange and
/// have a mark on the axis. The line is multiply-accumulates per byte at 8 bits, on a logarithmic scale.
pub(super) fn bits(report: &Report) -> Result<String> {
    let count = CROSSED.len();
    let height = PANEL.1 * u32::try_from(count)?;
    svg((PANEL.0, height), |area| {
        let panels = area.split_evenly((count, 1));
        let policies = CROSSED.iter().zip(&report.policies);
        for (panel, (device, policy)) in panels.iter().zip(policies) {
            let title = format!("{}, searched for {device}", report.name);
            policy_panel(panel, &title, &report.network.layers, policy)?;
        }
        Ok(())
    })
}

fn policy_panel(panel: &Area, title: &str, layers: &[Layer], policy: &[Bits]) -> Drawn {
    let mut chart = ChartBuilder::on(panel)
        .caption(title, ("sans-serif", 16))
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(48)
        .build_cartesian_2d(-0.5..layers.len() as f64 - 0.5, -9.0..9.0)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(layers.len().min(30))
        .x_label_formatter(&|at| format!("{at:.0}"))
        .y_desc("activations | weights")
        .y_label_formatter(&|bits: &f64| format!("{:.0}", bits.abs()))
        .draw()?;
    for (at, (layer, bits)) in layers.iter().zip(policy).enumerate() {
        let x = at as f64;
        let is_depthwise = layer.shape.op == LayerKind::Depthwise;
        let color = if is_depthwise { ORANGE } else { BLUE };
        let (up, down) = (f64::from(bits.weights), -f64::from(bits.activations));
        chart.draw_series([
            Rectangle::new([(x - 0.4, 0.0), (x + 0.4, up)], color.filled()),
            Rectangle::new([(x - 0.4, down), (x + 0.4, 0.0)], color.mix(0.55).filled()),
        ])?;
        if is_depthwise {
            let mark = [(x - 0.15, -0.35), (x + 0.15, 0.35)];
            chart.draw_series([Rectangle::new(mark, BLACK.filled())])?;
        }
    }
    let intensity = |layer: &Layer| {
        let shape = &layer.shape;
        let bytes = shape.weights() + shape.inputs() + shape.outputs();
        (shape.macs() as f64 / bytes.max(1) as f64).max(1e-3).log10()
    };
    // From 0.01 to 100 multiply-accumulates per byte over the height.
    let line = layers.iter().enumerate().map(|(at, layer)| (at as f64, 4.5 * intensity(layer)));
    chart.draw_series(LineSeries::new(line, BLACK.mix(0.5).stroke_width(1)))?;
    Ok(())
}

/// Test accuracy over the share of the cost at 8 bits; a panel for each device that has several budgets.
pub(super) fn pareto(report: &Report) -> Result<String> {
    let devices = ["bismo-edge", "bismo-cloud"];
    svg((PANEL.0, 340), |area| {
        let panels = area.split_evenly((1, devices.len()));
        for (panel, device) in panels.iter().zip(devices) {
            let rows: Vec<&Solved> =
                report.solved.iter().filter(|solved| solved.row.device == device).collect();
            front(panel, &format!("{} on {device}", report.name), report.float, &rows)?;
        }
        Ok(())
    })
}

fn front(panel: &Area, title: &str, float: f64, rows: &[&Solved]) -> Drawn {
    let all = || rows.iter().flat_map(|row| row.outcomes.iter().map(move |o| (row.full, o)));
    let low = all().map(|(_, outcome)| outcome.test).fold(float, f64::min);
    let costs = || all().map(|(full, outcome)| 100.0 * outcome.cost / full);
    let (left, right) =
        (costs().fold(f64::INFINITY, f64::min), costs().fold(f64::NEG_INFINITY, f64::max));
    if rows.is_empty() {
        return Ok(());
    }
    let mut chart = ChartBuilder::on(panel)
        .caption(title, ("sans-serif", 16))
        .margin(8)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(left - 3.0..right + 3.0, low - 1.0..float + 1.0)?;
    chart.configure_mesh().x_desc("latency, % of 8 bits").y_desc("top-1, %").draw()?;
    chart.draw_series(LineSeries::new(
        [(left - 3.0, float), (right + 3.0, float)],
        BLACK.mix(0.5).stroke_width(1),
    ))?;
    for (place, (method, color)) in [
        ("uniform", BLACK.mix(1.0)),
        ("greedy", GREEN.mix(1.0)),
        ("exact", BLUE.mix(1.0)),
        ("ddpg", PINK.mix(1.0)),
    ]
    .into_iter()
    .enumerate()
    {
        let mut points: Vec<(f64, f64)> = all()
            .filter(|(_, outcome)| outcome.method == method)
            .map(|(full, outcome)| (100.0 * outcome.cost / full, outcome.test))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        if points.is_empty() {
            continue;
        }
        chart.draw_series(LineSeries::new(points.clone(), color.stroke_width(1)))?;
        // Sizes differ too, as colour alone is no mark.
        let radius = 3 + i32::try_from(place)?;
        let dots =
            points.into_iter().map(|point| Circle::new(point, radius, color.stroke_width(2)));
        chart
            .draw_series(dots)?
            .label(method)
            .legend(move |(x, y)| Circle::new((x + 6, y), radius, color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}
