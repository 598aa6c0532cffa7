//! Statistics of a layer are those of all its rows, in as many batches as there may be.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use candle_core::{Device, Tensor};
use common::{Attributes, Model};
use std::collections::BTreeMap;
use tensor_core::calibrate::{Place, Product, Replay, Sampling, Statistics, Walk, collect};
use tensor_core::progress::Silent;
use tensor_core::run::{Array, infer};
use tensor_core::{ElementType, NodeId};

const INPUTS: usize = 3;
const OUTPUTS: usize = 2;

/// Value `i` of row `row`.
fn value(row: usize, i: usize) -> f32 {
    ((row * 31 + i * 17) % 23) as f32 / 4.0 - 2.0
}

/// Halves of many small batches, merged, against sums over plain rows.
#[test]
fn every_row_of_every_batch_counts_once() {
    let mut model = Model::new(17);
    let x = model.input(ElementType::F32, &[2, INPUTS]);
    let weight: Vec<f32> = (0..INPUTS * OUTPUTS).map(|i| i as f32 - 2.5).collect();
    let w = model.floats(&[INPUTS, OUTPUTS], &weight);
    let y = model.node("MatMul", &[x, w], Attributes::new());
    let graph = model.finish(&[y]);
    let facts = infer(&graph, &BTreeMap::new()).unwrap();
    // More than are in memory at once, twice over.
    let batches = 21;
    let array = |batch: usize| {
        let rows = (0..2 * INPUTS).map(|i| value(2 * batch + i / INPUTS, i % INPUTS)).collect();
        Array::float(Tensor::from_vec(rows, (2, INPUTS), &Device::Cpu).unwrap())
    };
    let all: Vec<_> = (0..batches).map(|batch| vec![array(batch)]).collect();
    let mut replay = Replay::new(&graph, all, usize::MAX).unwrap();
    let map = Product {
        channels: INPUTS,
        outputs: OUTPUTS,
        rows: 1,
        transposed: false,
        alpha: 1.0,
        bias: Some((2, 1.0)),
    };
    let place =
        Place { node: NodeId::from_index(0), input: x, output: y, map: &map, shortcut: None };
    let sampling = Sampling { positions: Some(1), seed: 0, keep_rows: false };
    let mut walk = Walk { graph: &graph, replay: &mut replay };
    let mut found = collect(&place, &facts, &mut walk, None, sampling, &Silent).unwrap();
    let [mut even, odd] = found.statistics.pop().unwrap();
    even.merge(&odd).unwrap();
    let Statistics::Moments(moments) = even else { panic!("rows of so few columns") };
    let centred = moments.centred().unwrap();
    let rows = 2 * batches;
    assert_eq!(centred.rows, rows);
    let mean = |i: usize| (0..rows).map(|row| f64::from(value(row, i))).sum::<f64>() / rows as f64;
    for i in 0..INPUTS {
        assert!((centred.mean_x[i] - mean(i)).abs() < 1e-12);
        for j in 0..INPUTS {
            let of = |row: usize, i: usize| f64::from(value(row, i)) - mean(i);
            let expected: f64 = (0..rows).map(|row| of(row, i) * of(row, j)).sum();
            assert!((centred.gram[(i, j)] - expected).abs() < 1e-9 * rows as f64);
        }
    }
}
