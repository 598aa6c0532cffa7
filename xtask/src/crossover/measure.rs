//! Dense and sparse runs in turn.

use super::cases::{Pattern, Shape};
use anyhow::Result;
use candle_core::{Device, Tensor};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use tensor_core::kernels::{
    ConvGeometry, Epilogue, PackedConv, SparseWeight, WindowAxis, convolution,
};
use tensor_core::measure::statistics::quantile;

/// Seconds of one timing, so that the clock does not matter.
const BLOCK: f64 = 2e-3;

/// One point of the plot.
pub(super) struct Measured {
    pub(super) shape: Shape,
    pub(super) pattern: Pattern,
    pub(super) sparsity: f64,
    /// Medians in microseconds.
    pub(super) dense: f64,
    pub(super) sparse: f64,
    /// Dense over sparse of neighbouring runs: 10 %, 50 % and 90 % quantiles.
    pub(super) speedup: [f64; 3],
}

impl Measured {
    /// Times one layer on one thread.
    pub(super) fn new(
        shape: &Shape,
        pattern: Pattern,
        sparsity: f64,
        pairs: usize,
    ) -> Result<Self> {
        let Shape { inputs, outputs, side, kernel, .. } = *shape;
        let axis = WindowAxis {
            input: side,
            output: side,
            kernel,
            stride: 1,
            dilation: 1,
            pad_begin: kernel / 2,
            pad_end: kernel / 2,
        };
        let geometry = ConvGeometry {
            batch: 1,
            groups: 1,
            in_channels: inputs,
            out_channels: outputs,
            rows: axis,
            columns: axis,
        };
        let values = pattern.weight(shape, sparsity);
        let dense = Arc::new(PackedConv::new(&values, 1, outputs, shape.depth()));
        let sparse = SparseWeight::new(&values, outputs, shape.depth(), pattern.form);
        let sparse = Arc::new(PackedConv::from(sparse));
        let weight = Tensor::from_vec(values, (outputs, inputs, kernel, kernel), &Device::Cpu)?;
        let count = inputs * side * side;
        let x = (0..count).map(|i| (i.wrapping_mul(2_654_435_761) % 1000) as f32 / 1000.0 - 0.5);
        let x = Tensor::from_iter(x, &Device::Cpu)?.reshape((1, inputs, side, side))?;
        let epilogue = || Epilogue { clamp: Some((0.0, f32::INFINITY)), ..Epilogue::default() };
        let run = |packed| convolution(&x, &weight, None, &geometry, Some(packed), epilogue());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
        let (mut a, mut b, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        pool.install(|| -> Result<()> {
            let repeats = [repeats(&|| run(&dense))?, repeats(&|| run(&sparse))?];
            for _ in 0..pairs {
                a.push(time(&|| run(&dense), repeats[0])?);
                b.push(time(&|| run(&sparse), repeats[1])?);
                ratios.push(a[a.len() - 1] / b[b.len() - 1]);
            }
            Ok(())
        })?;
        [&mut a, &mut b, &mut ratios].into_iter().for_each(|v| v.sort_by(f64::total_cmp));
        Ok(Self {
            shape: *shape,
            pattern,
            sparsity,
            dense: quantile(&a, 0.5) * 1e6,
            sparse: quantile(&b, 0.5) * 1e6,
            speedup: [0.1, 0.5, 0.9].map(|p| quantile(&ratios, p)),
        })
    }

    /// Multiply-accumulates of the dense layer.
    fn macs(&self) -> f64 {
        (self.shape.depth() * self.shape.outputs * self.shape.side * self.shape.side) as f64
    }

    /// Useful operations of the dense and the sparse run, in 10^9 a second.
    pub(super) fn rates(&self) -> [f64; 2] {
        let operations = 2.0 * self.macs() / 1e3;
        [operations / self.dense, operations * (1.0 - self.sparsity) / self.sparse]
    }

    /// One line.
    pub(super) fn text(&self) -> String {
        let [low, median, high] = self.speedup;
        let [dense, sparse] = self.rates();
        format!(
            "{} {} {:.0}%: dense {:.1} us ({dense:.0} GFLOP/s), sparse {:.1} us ({sparse:.0}), {median:.2}x ({low:.2} to {high:.2})",
            self.shape.name,
            self.pattern.name,
            100.0 * self.sparsity,
            self.dense,
            self.sparse
        )
    }
}

/// Runs that fill a block.
fn repeats(run: &dyn Fn() -> candle_core::Result<Tensor>) -> Result<usize> {
    time(run, 2)?;
    let once = time(run, 3)?;
    Ok((BLOCK / once.max(1e-9)).ceil() as usize)
}

/// Seconds per run.
fn time(run: &dyn Fn() -> candle_core::Result<Tensor>, repeats: usize) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..repeats {
        black_box(run()?);
    }
    Ok(start.elapsed().as_secs_f64() / repeats as f64)
}
