//! Masks by magnitude against what candle itself offers: sort all magnitudes, compare with the one
//! at the wanted share. Ties make that inexact, and it knows no patterns.
//!
//! `cargo bench --bench masks` (a layer of 512 x 512 x 3 x 3 weights, 80 % zeros or 2:4).
#![allow(clippy::unwrap_used, missing_docs, reason = "benchmarks")]

use candle_core::{Device, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use magnitude_schedule::{Mask, Pattern};
use std::hint::black_box;

const SPARSITY: f64 = 0.8;

/// The mask by sorting.
fn sorted(weight: &Tensor) -> candle_core::Result<Tensor> {
    let magnitudes = weight.abs()?.flatten_all()?;
    let (ascending, _) = magnitudes.sort_last_dim(true)?;
    let place = (SPARSITY * weight.elem_count() as f64).round() as usize;
    weight.abs()?.broadcast_ge(&ascending.get(place)?)
}

fn masks(c: &mut Criterion) {
    let weight = Tensor::randn(0_f32, 1.0, (512, 512, 3, 3), &Device::Cpu).unwrap();
    let zeros = |mask: &Mask| mask.zeros() as f64 / weight.elem_count() as f64;
    assert!(
        (zeros(&Mask::magnitude(&weight, SPARSITY, Pattern::Unstructured).unwrap()) - SPARSITY)
            .abs()
            < 1e-6
    );
    let mut group = c.benchmark_group("masks");
    group.throughput(Throughput::Elements(weight.elem_count() as u64)).sample_size(10);
    group.bench_function("sorting in candle", |b| b.iter(|| sorted(black_box(&weight)).unwrap()));
    let patterns = [
        ("unstructured", Pattern::Unstructured, SPARSITY),
        ("2:4", Pattern::NM(2, 4), 0.5),
        ("blocks of 4x4", Pattern::Block(4, 4), SPARSITY),
        ("rows", Pattern::Rows, SPARSITY),
    ];
    for (name, pattern, sparsity) in patterns {
        group.bench_function(name, |b| {
            b.iter(|| Mask::magnitude(black_box(&weight), sparsity, pattern).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, masks);
criterion_main!(benches);
