//! Elimination with more columns than rows, where updates lose digits.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Layer, Random};
use faer::prelude::Solve;
use faer::{Mat, Side};
use lasso_prune::eliminate;

/// Columns of a few factors, of sizes from 1 to `spread`, with little noise: strongly dependent.
fn dependent(seed: u64, spread: f32) -> Layer {
    let mut layer = Layer::random(seed, [48, 24, 9, 7], 0.1);
    let mut random = Random::new(seed ^ 1);
    let p = layer.inputs();
    let factors = 5;
    let loading: Vec<f64> = (0..p * factors).map(|_| random.normal()).collect();
    for row in layer.x.chunks_mut(p) {
        let factor: Vec<f64> = (0..factors).map(|_| random.normal()).collect();
        for (i, v) in row.iter_mut().enumerate() {
            let shared: f64 = (0..factors).map(|f| factor[f] * loading[i * factors + f]).sum();
            let size = spread.powf((i / 9) as f32 / 23.0);
            *v = size * (shared + 1e-3 * random.normal()) as f32;
        }
    }
    layer
}

/// `ridge Y^T (X_K X_K^T + ridge)^-1 Y` over the energy of `Y`, all centred.
fn objective(layer: &Layer, kept: &[usize], ridge: f64) -> f64 {
    let (s, p, n) = (layer.samples, layer.inputs(), layer.outputs);
    let centred = |values: &[f32], columns: usize| {
        let all = Mat::from_fn(s, columns, |r, c| f64::from(values[r * columns + c]));
        let mean = |c: usize| all.col(c).iter().sum::<f64>() / s as f64;
        Mat::from_fn(s, columns, |r, c| all[(r, c)] - mean(c))
    };
    let (x, y) = (centred(&layer.x, p), centred(&layer.y, n));
    let ridge = ridge * x.squared_norm_l2() / p as f64;
    let columns: Vec<usize> = kept.iter().flat_map(|&i| layer.blocks()[i].clone()).collect();
    let x = Mat::from_fn(s, columns.len(), |r, c| x[(r, columns[c])]);
    let mut kernel = &x * x.transpose();
    for i in 0..s {
        kernel[(i, i)] += ridge;
    }
    let solved = kernel.llt(Side::Lower).unwrap().solve(&y);
    let error: f64 = (0..n).map(|o| (0..s).map(|r| solved[(r, o)] * y[(r, o)]).sum::<f64>()).sum();
    ridge * error / y.squared_norm_l2()
}

#[test]
fn costs_of_dependent_columns_are_those_of_a_direct_solution() {
    for (spread, ridge) in
        [1.0, 1e2, 1e4].into_iter().flat_map(|s| [1e-4, 1e-6, 1e-8].map(|r| (s, r)))
    {
        let layer = dependent(spread as u64, spread);
        let result = eliminate(&layer.dual_task(), 1, ridge).unwrap();
        let mut kept: Vec<usize> = (0..layer.channels).collect();
        for (removed, found) in result.removed.iter().zip(&result.objective[1..]) {
            kept.retain(|i| i != removed);
            let direct = objective(&layer, &kept, ridge);
            let error = (found - direct).abs() / direct;
            // The condition of the kernel is about the inverse of the ridge.
            assert!(
                error <= 1e-14 / ridge,
                "{spread}, {ridge}, {} kept: off by {error}",
                kept.len()
            );
        }
    }
}
