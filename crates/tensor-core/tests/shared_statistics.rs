//! Statistics of samples that are spread over processes are those of one process.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "common/threads.rs"]
mod threads;

use candle_core::{Device, Tensor};
use common::{Attributes, Draws, Model};
use std::collections::BTreeMap;
use tensor_core::calibrate::{
    Batches, Collected, Place, Product, Replay, Sampling, Statistics, Walk, collect,
};
use tensor_core::graph::Graph;
use tensor_core::group::Group;
use tensor_core::progress::Silent;
use tensor_core::run::{Array, infer};
use tensor_core::{ElementType, NodeId, ValueId};
use threads::together;

const INPUTS: usize = 6;
const OUTPUTS: usize = 3;
const POSITIONS: usize = 5;
const BATCHES: usize = 11;

/// A product of rows, behind it a sum with its own input, as in a residual branch.
fn network() -> (Graph, [ValueId; 3]) {
    let mut m = Model::new(17);
    let x = m.input(ElementType::F32, &[2, POSITIONS, INPUTS]);
    let shortcut = m.input(ElementType::F32, &[2, POSITIONS, OUTPUTS]);
    let weight = Draws::new(vec![4]).floats(INPUTS * OUTPUTS, -1.0, 1.0);
    let w = m.floats(&[INPUTS, OUTPUTS], &weight);
    let y = m.node("MatMul", &[x, w], Attributes::new());
    let sum = m.node("Add", &[y, shortcut], Attributes::new());
    (m.finish(&[sum]), [x, y, shortcut])
}

/// Batches of two samples far from zero, the last of one.
fn batch(number: usize) -> Vec<Array> {
    let samples = if number + 1 == BATCHES { 1 } else { 2 };
    let array = |width: usize, seed: u16| {
        let count = samples * POSITIONS * width;
        let values = Draws::new(vec![seed, number as u16]).floats(count, 29.0, 31.0);
        Array::float(Tensor::from_vec(values, (samples, POSITIONS, width), &Device::Cpu).unwrap())
    };
    vec![array(INPUTS, 1), array(OUTPUTS, 2)]
}

fn collected(group: &Group, keep_rows: bool) -> Collected {
    let (graph, [input, output, shortcut]) = network();
    let facts = infer(&graph, &BTreeMap::new()).unwrap();
    let own = group.share(BATCHES);
    let arrays = own.clone().map(batch).collect();
    let batches = Batches::shared(arrays, own.start, group.clone()).unwrap();
    let mut replay = Replay::new(&graph, batches, usize::MAX).unwrap();
    assert_eq!(replay.samples(), 2 * BATCHES - 1);
    let (bias, transposed, alpha) = (Some((2, 1.0)), false, 1.0);
    let (channels, outputs, rows) = (INPUTS, OUTPUTS, POSITIONS);
    let map = Product { channels, outputs, rows, transposed, alpha, bias };
    let node = NodeId::from_index(0);
    let place = Place { node, input, output, map: &map, shortcut: Some(shortcut) };
    let sampling = Sampling { positions: Some(3), seed: 7, keep_rows };
    let mut walk = Walk { graph: &graph, replay: &mut replay };
    collect(&place, &facts, &mut walk, None, sampling, &Silent).unwrap()
}

#[test]
fn moments_of_processes_are_those_of_one() {
    let alone = collected(&Group::alone(), false);
    // With more processes than batches some have none.
    for size in [2, 3, 13] {
        let all = together(size, |group| collected(&group, false));
        for found in &all {
            // Variances near 1 from squares near 900.
            assert!((found.share - alone.share).abs() < 1e-10, "{} {}", found.share, alone.share);
            for (a, b) in alone.statistics[0].iter().zip(&found.statistics[0]) {
                let (Statistics::Moments(a), Statistics::Moments(b)) = (a.clone(), b.clone())
                else {
                    panic!("moments");
                };
                let (a, b) = (a.centred().unwrap(), b.centred().unwrap());
                assert_eq!(a.rows, b.rows);
                // Sums of squares of numbers around 30, in double precision.
                let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
                assert!(close(a.energy, b.energy), "{} {}", a.energy, b.energy);
                for i in 0..INPUTS {
                    assert!(close(a.mean_x[i], b.mean_x[i]));
                    assert!((0..INPUTS).all(|j| close(a.gram[(i, j)], b.gram[(i, j)])));
                    assert!((0..OUTPUTS).all(|j| close(a.cross[(i, j)], b.cross[(i, j)])));
                }
            }
        }
    }
}

/// Rows of processes stand in their order, which is that of the batches.
#[test]
fn rows_of_processes_are_those_of_one() {
    let parts = |collected: &Collected| -> Vec<_> {
        collected.statistics[0].iter().map(|half| half.to_parts().unwrap()).collect()
    };
    let alone = parts(&collected(&Group::alone(), true));
    assert!(alone[0].contains_key("x"));
    for found in together(3, |group| collected(&group, true)) {
        assert_eq!(parts(&found), alone);
    }
}

/// Which half a sample is in does not depend on how samples are batched.
#[test]
fn halves_are_those_of_the_samples() {
    let (graph, _) = network();
    let odd = |sizes: &[usize]| -> Vec<bool> {
        let array = |samples, width| {
            let values = vec![0f32; samples * POSITIONS * width];
            let dims = (samples, POSITIONS, width);
            Array::float(Tensor::from_vec(values, dims, &Device::Cpu).unwrap())
        };
        let batches = sizes.iter().map(|&n| vec![array(n, INPUTS), array(n, OUTPUTS)]);
        let replay = Replay::new(&graph, batches.collect::<Vec<_>>(), usize::MAX).unwrap();
        let of = |(batch, &n)| (0..n).map(move |sample| (batch, sample));
        let places = sizes.iter().enumerate().flat_map(of);
        places.map(|(batch, sample)| replay.is_odd(batch, sample)).collect()
    };
    let one = odd(&[32]);
    assert_eq!(one.iter().filter(|odd| **odd).count(), 16);
    assert_eq!(odd(&[1, 20, 2, 9]), one);
    assert_eq!(odd(&[1; 32]), one);
}
