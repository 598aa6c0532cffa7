//! Convolutions forward and backward through candle's autograd, on one thread and on two.
//!
//! `cargo bench --bench backward [-- NAME]`. Elements are floating-point operations, so that the
//! throughput is FLOP/s: two per multiply-accumulate forward, and twice as many backward, for the
//! gradients of the input and of the weight.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark stops at the first failure")]

use candle_core::{DType, Device, Tensor, Var};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use tensor_core::group::Group;
use tensor_core::kernels::{ConvGeometry, Epilogue, WindowAxis, batch_norm_train, convolution};

// As in the command-line program: blocks of memory are reused between operators.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Layer {
    name: &'static str,
    geometry: ConvGeometry,
}

impl Layer {
    fn new(
        name: &'static str,
        [batch, inputs, outputs, groups]: [usize; 4],
        [size, kernel, stride]: [usize; 3],
    ) -> Self {
        let pad = kernel / 2;
        let axis = WindowAxis {
            input: size,
            output: (size + 2 * pad - kernel) / stride + 1,
            kernel,
            stride,
            dilation: 1,
            pad_begin: pad,
            pad_end: pad,
        };
        let geometry = ConvGeometry {
            batch,
            groups,
            in_channels: inputs,
            out_channels: outputs,
            rows: axis,
            columns: axis,
        };
        Self { name, geometry }
    }

    fn variables(&self) -> (Var, Var) {
        let g = &self.geometry;
        let random = |dims: [usize; 4]| Var::rand_f64(-1.0, 1.0, &dims, DType::F32, &Device::Cpu);
        let x = random([g.batch, g.in_channels, g.rows.input, g.columns.input]).unwrap();
        let weight = [g.out_channels, g.group_inputs(), g.rows.kernel, g.columns.kernel];
        (x, random(weight).unwrap())
    }

    fn flops(&self) -> u64 {
        2 * (self.geometry.output_count() * self.geometry.depth()) as u64
    }
}

fn convolutions(criterion: &mut Criterion) {
    let layers = [
        Layer::new("3x3-3to16-28", [128, 3, 16, 1], [28, 3, 1]),
        Layer::new("3x3-16-28", [128, 16, 16, 1], [28, 3, 1]),
        Layer::new("3x3-16to32-stride2", [128, 16, 32, 1], [28, 3, 2]),
        Layer::new("3x3-64-28", [32, 64, 64, 1], [28, 3, 1]),
        Layer::new("3x3-256-7", [32, 256, 256, 1], [7, 3, 1]),
        Layer::new("1x1-256to64-14", [32, 256, 64, 1], [14, 1, 1]),
        Layer::new("depthwise-96-28", [32, 96, 96, 96], [28, 3, 1]),
        Layer::new("depthwise-96-28-stride2", [32, 96, 96, 96], [28, 3, 2]),
    ];
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut group = criterion.benchmark_group(format!("threads-{threads}"));
        for layer in &layers {
            let (x, weight) = layer.variables();
            let forward =
                || convolution(&x, &weight, None, &layer.geometry, None, Epilogue::default());
            group.throughput(Throughput::Elements(layer.flops()));
            group.bench_function(BenchmarkId::new("forward", layer.name), |bencher| {
                pool.install(|| bencher.iter(|| black_box(forward().unwrap())));
            });
            group.throughput(Throughput::Elements(3 * layer.flops()));
            group.bench_function(BenchmarkId::new("forward-backward", layer.name), |bencher| {
                pool.install(|| bencher.iter(|| black_box(forward().unwrap().backward().unwrap())));
            });
        }
        group.finish();
    }
}

/// Elements are values of the batch.
fn batch_norm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch-norm-1-thread");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    for (channels, size) in [(16, 32), (128, 56)] {
        let dims = [if size == 32 { 128 } else { 16 }, channels, size, size];
        let x = Var::rand_f64(-1.0, 1.0, &dims, DType::F32, &Device::Cpu).unwrap();
        let scale = Var::ones(channels, DType::F32, &Device::Cpu).unwrap();
        let bias = Tensor::zeros(channels, DType::F32, &Device::Cpu).unwrap();
        group.throughput(Throughput::Elements(x.elem_count() as u64));
        group.bench_function(BenchmarkId::new("forward-backward", channels), |bencher| {
            let step = || {
                let y = batch_norm_train(&x, &scale, &bias, 1e-5, &Group::alone()).unwrap().y;
                black_box(y.backward().unwrap())
            };
            pool.install(|| bencher.iter(step));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = convolutions, batch_norm
}
criterion_main!(benches);
