//! Channel selection and reconstruction at the sizes of common layers, single-threaded.
//!
//! `cargo bench --bench lasso` (layers of `channels x kernel positions`, 64-512 outputs).
#![allow(clippy::unwrap_used, missing_docs, reason = "benchmarks")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lasso_prune::{
    LassoSystem, Problem, SelectionParams, Task, contiguous_blocks, eliminate, error_curve,
    exchange, lasso_path, reconstruct,
};
use std::hint::black_box;
use tensor_core::calibrate::Moments;

/// Xorshift in [-1, 1).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 40) as f32) / (1 << 23) as f32 - 1.0
    }
}

/// Rectified inputs that share factors, and noisy responses.
fn layer(samples: usize, p: usize, n: usize) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let mut random = Random(0x5EED);
    let factors = 24;
    let loading: Vec<f32> = (0..p * factors).map(|_| random.next()).collect();
    let w: Vec<f32> = (0..p * n).map(|_| random.next()).collect();
    let mut x = Vec::with_capacity(samples * p);
    for _ in 0..samples {
        let factor: Vec<f32> = (0..factors).map(|_| random.next()).collect();
        x.extend(loading.chunks(factors).map(|l| {
            let shared: f32 = l.iter().zip(&factor).map(|(a, b)| a * b).sum();
            (0.4 * shared + random.next() + 0.2).max(0.0)
        }));
    }
    // A sparse product is response enough here and keeps the setup short.
    let y = x
        .chunks(p)
        .flat_map(|row| {
            w.chunks(p)
                .map(|w| w.iter().zip(row).step_by(1 + p / 64).map(|(a, b)| a * b).sum::<f32>())
                .collect::<Vec<_>>()
        })
        .map(|v| v + 0.3 * random.next())
        .collect();
    (x, y, w)
}

fn task(samples: usize, channels: usize, width: usize, outputs: usize) -> Task {
    let (x, y, w) = layer(samples, channels * width, outputs);
    let mut moments = Moments::new(channels * width, outputs).unwrap();
    moments.push(&x, &y).unwrap();
    let problem = Problem::new(moments, &w, contiguous_blocks(channels, width)).unwrap();
    Task::new(vec![problem]).unwrap()
}

fn moments(c: &mut Criterion) {
    let mut group = c.benchmark_group("moments/1000 rows");
    for (p, n) in [(576, 64), (1152, 128), (2304, 256)] {
        let (x, y, _) = layer(1000, p, n);
        group.throughput(Throughput::Elements((1000 * p * p) as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{p}x{n}")), |b| {
            let mut moments = Moments::new(p, n).unwrap();
            b.iter(|| moments.push(&x, &y).unwrap());
        });
    }
    group.finish();
}

fn selection(c: &mut Criterion) {
    let cases = [(64, 9, 64), (128, 9, 128), (256, 9, 256), (512, 1, 512), (512, 9, 512)];
    for (channels, width, outputs) in cases {
        let task = task(channels * width + 500, channels, width, outputs);
        let id = |what: &str| format!("{what}/{channels}x{width}x{outputs}");
        let keep = channels / 2;
        let half: Vec<usize> = (0..keep).collect();
        let order: Vec<usize> = (0..channels).collect();
        let mut group = c.benchmark_group("select half");
        group.sample_size(10);
        group.bench_function(id("system"), |b| b.iter(|| LassoSystem::new(black_box(&task))));
        let system = LassoSystem::new(&task);
        group.bench_function(id("homotopy"), |b| b.iter(|| lasso_path(black_box(&system), keep)));
        group.bench_function(id("obs"), |b| b.iter(|| eliminate(&task, keep, 1e-6).unwrap()));
        group.bench_function(id("obs to the end"), |b| {
            b.iter(|| eliminate(&task, 0, 1e-6).unwrap());
        });
        let first = lasso_path(&system, keep).active;
        group.bench_function(id("1 exchange"), |b| {
            b.iter(|| exchange(&task, &first, 1e-6, 1).unwrap());
        });
        group.bench_function(id("32 exchanges"), |b| {
            b.iter(|| exchange(&task, &first, 1e-6, 32).unwrap());
        });
        group.bench_function(id("reconstruct"), |b| {
            b.iter(|| reconstruct(&task.problems()[0], &half, 1e-6).unwrap());
        });
        group.bench_function(id("curve"), |b| b.iter(|| error_curve(&task, &order, 1e-6).unwrap()));
        if channels <= 128 {
            for method in ["lasso-cd", "lasso-linfa"] {
                let selector = SelectionParams::new().method(method).check().unwrap().selector();
                group.bench_function(id(method), |b| {
                    b.iter(|| selector.select(&task, keep).unwrap());
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, moments, selection);
criterion_main!(benches);
