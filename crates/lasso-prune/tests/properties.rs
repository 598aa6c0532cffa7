//! Invariants on random layers.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Layer, Random, assert_close};
use faer::Mat;
use lasso_prune::{
    LassoSystem, METHODS, Problem, SelectionParams, Selector, Task, eliminate, error_curve,
    exchange, lasso_path, reconstruct,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const RIDGE: f64 = 1e-6;

fn selector(method: &str) -> Box<dyn Selector> {
    SelectionParams::new().method(method).check().unwrap().selector()
}

/// A system from random contributions; with fewer rows than channels it is singular. Rounded to
/// whole numbers, correlations and directions tie.
fn random_system(seed: u64, channels: usize, rows: usize, rounded: bool) -> LassoSystem {
    let mut random = Random::new(seed);
    let mut draw = || if rounded { random.normal().round() } else { random.normal() };
    let z = Mat::from_fn(rows, channels, |_, _| draw());
    let y: Vec<f64> = (0..rows).map(|_| draw()).collect();
    let linear =
        (0..channels).map(|i| (0..rows).map(|r| z[(r, i)] * y[r]).sum()).collect::<Vec<f64>>();
    LassoSystem { gram: z.transpose() * &z, linear, energy: y.iter().map(|v| v * v).sum() }
}

fn correlations(system: &LassoSystem, beta: &[f64]) -> Vec<f64> {
    (0..beta.len())
        .map(|i| {
            let fitted: f64 = (0..beta.len()).map(|j| system.gram[(i, j)] * beta[j]).sum();
            system.linear[i] - fitted
        })
        .collect()
}

/// Layer sizes: samples, channels, width, outputs.
fn sizes() -> impl Strategy<Value = [usize; 4]> {
    (10usize..60, 1usize..9, 1usize..5, 1usize..5).prop_map(|(s, c, k, n)| [s, c, k, n])
}

proptest! {
    // A fixed seed, so that a run that passed passes again; PROPTEST_CASES widens the search.
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(2017),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// The Karush-Kuhn-Tucker conditions, which make the end of the path the LASSO solution there.
    #[test]
    fn path_is_stationary(
        seed: u64, channels in 1usize..24, rows in 1usize..30, keep in 1usize..24, rounded: bool,
    ) {
        let system = random_system(seed, channels, rows, rounded);
        let path = lasso_path(&system, keep);
        prop_assert!(path.active.len() <= keep);
        let scale = system.linear.iter().fold(0.0, |m: f64, b| m.max(b.abs()));
        for (c, beta) in correlations(&system, &path.coefficients).iter().zip(&path.coefficients) {
            prop_assert!(c.abs() <= path.lambda + 1e-8 * scale, "{c} above {}", path.lambda);
            if *beta != 0.0 {
                prop_assert!((c - path.lambda * beta.signum()).abs() <= 1e-8 * scale);
            }
        }
        let falling = path.knots.windows(2).all(|w| w[1].lambda <= w[0].lambda * (1.0 + 1e-12));
        prop_assert!(falling, "penalties fall along the path");
        // Generic contributions: the path goes on until the rank is exhausted.
        if !rounded && keep <= channels.min(rows) {
            prop_assert_eq!(path.active.len(), keep);
        }
    }

    /// Exactly the wanted number of distinct channels, also with dead and duplicate channels.
    #[test]
    fn counts_are_exact(seed: u64, size in sizes(), keep in 1usize..9, twins: bool, dead: bool) {
        let mut layer = Layer::random(seed, size, 0.3);
        let (p, k) = (layer.inputs(), layer.width);
        let keep = keep.min(layer.channels);
        if twins && layer.channels > 1 {
            for row in layer.x.chunks_mut(p).chain(layer.w.chunks_mut(p)) {
                row.copy_within(0..k, p - k);
            }
        }
        if dead {
            layer.x.chunks_mut(p).for_each(|row| row[..k].fill(0.0));
        }
        for task in [layer.task(), layer.dual_task()] {
            for method in METHODS {
                let kept = selector(method.name).select(&task, keep).unwrap();
                prop_assert_eq!(kept.len(), keep, "{}", method.name);
                prop_assert!(kept.windows(2).all(|w| w[0] < w[1]), "{}", method.name);
                prop_assert!(kept.iter().all(|&i| i < layer.channels));
                let mut order = selector(method.name).order(&task).unwrap();
                order.sort_unstable();
                prop_assert!(order.into_iter().eq(0..layer.channels), "{}", method.name);
            }
        }
    }

    /// The error that the statistics predict is the one that the rows show.
    #[test]
    fn reported_error_is_the_error_on_the_rows(seed: u64, size in sizes(), keep in 1usize..9) {
        let layer = Layer::random(seed, size, 0.5);
        let kept: Vec<usize> = (0..keep.min(layer.channels)).collect();
        for problem in [layer.problem(), layer.dual_problem()] {
            let new = reconstruct(&problem, &kept, 1e-4).unwrap();
            let error = layer.relative_error(&new.columns, &new.weight, &new.intercept);
            // The weights are handed out in f32.
            prop_assert!(
                (error - new.relative_error).abs() <= 1e-4 * error + 1e-7,
                "{} is not {error}", new.relative_error
            );
        }
    }

    /// Moments and rows give the same answers.
    #[test]
    fn dual_equals_primal(seed: u64, size in sizes(), keep in 1usize..9) {
        let layer = Layer::random(seed, size, 0.3);
        let (primal, dual) = (layer.task(), layer.dual_task());
        let (a, b) = (LassoSystem::new(&primal), LassoSystem::new(&dual));
        assert_close("b", &a.linear, &b.linear, 1e-10);
        for j in 0..layer.channels {
            assert_close("A", a.gram.col_as_slice(j), b.gram.col_as_slice(j), 1e-10);
        }
        let kept: Vec<usize> = (0..keep.min(layer.channels)).collect();
        let ridge = 1e-3;
        let x = reconstruct(&primal.problems()[0], &kept, ridge).unwrap();
        let y = reconstruct(&dual.problems()[0], &kept, ridge).unwrap();
        prop_assert!((x.relative_error - y.relative_error).abs() < 1e-9);
        for (a, b) in x.weight.iter().zip(&y.weight) {
            prop_assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()));
        }
        let order: Vec<usize> = (0..layer.channels).rev().collect();
        assert_close(
            "curve",
            &error_curve(&primal, &order, ridge).unwrap(),
            &error_curve(&dual, &order, ridge).unwrap(),
            1e-9,
        );
        let (a, b) = (eliminate(&primal, 0, ridge).unwrap(), eliminate(&dual, 0, ridge).unwrap());
        prop_assert_eq!(a.removed, b.removed);
        assert_close("objective", &a.objective, &b.objective, 1e-9);
    }

    /// The curve never rises with more channels, starts at 1, and is the reconstruction error.
    #[test]
    fn curve_is_monotone_and_exact(seed: u64, [samples, c, k, n] in sizes()) {
        let layer = Layer::random(seed, [samples + 3 * c * k, c, k, n], 0.5);
        let task = layer.task();
        let order: Vec<usize> = (0..layer.channels).rev().collect();
        let curve = error_curve(&task, &order, RIDGE).unwrap();
        prop_assert!((curve[0] - 1.0).abs() < 1e-12);
        prop_assert!(curve.windows(2).all(|w| w[1] <= w[0]));
        for keep in 0..=layer.channels {
            let error = reconstruct(&task.problems()[0], &order[..keep], RIDGE).unwrap();
            // The curve includes the ridge term, which pulls towards zero; it is small where the
            // rows outnumber the columns.
            prop_assert!(error.relative_error <= curve[keep] + 1e-9);
            prop_assert!(curve[keep] - error.relative_error <= 1e-4);
        }
    }

    /// Every removal is the best single one, and its cost is exact, for several layers that share
    /// the channels, with scattered columns, columns nobody owns, and a layer that reads only some.
    #[test]
    fn each_removal_is_the_best(seed: u64, channels in 2usize..6, samples in 12usize..50) {
        let ridge = 1e-3;
        let first = Layer::random(seed, [samples, channels + 1, 3, 2], 0.5);
        let scattered = (0..channels).map(|i| vec![i, i + channels + 1, i + 2 * channels + 2]);
        let second = Layer::random(seed ^ 1, [samples + 5, channels, 2, 3], 0.5);
        let partial = (0..channels).map(|i| if i == 0 { vec![] } else { vec![2 * i + 1, 2 * i] });
        let task = Task::new(vec![
            Problem::new(first.moments(), &first.w, scattered.collect()).unwrap(),
            Problem::new(second.rows(), &second.w, partial.collect()).unwrap(),
        ])
        .unwrap();
        let objective = |kept: &[usize]| {
            let rest = (0..channels).filter(|i| !kept.contains(i));
            let order: Vec<usize> = kept.iter().copied().chain(rest).collect();
            error_curve(&task, &order, ridge).unwrap()[kept.len()]
        };
        let result = eliminate(&task, 0, ridge).unwrap();
        let mut kept: Vec<usize> = (0..channels).collect();
        prop_assert!((result.objective[0] - objective(&kept)).abs() < 1e-9);
        for (step, &channel) in result.removed.iter().enumerate() {
            let best = kept
                .iter()
                .map(|&i| objective(&kept.iter().copied().filter(|&j| j != i).collect::<Vec<_>>()))
                .fold(f64::INFINITY, f64::min);
            kept.retain(|&i| i != channel);
            let value = objective(&kept);
            prop_assert!((value - best).abs() < 1e-9, "{value} is not the best, {best}");
            prop_assert!((result.objective[step + 1] - value).abs() < 1e-9);
        }
    }

    /// Renaming the channels renames the selection.
    #[test]
    fn permutation_equivariance(seed: u64, shift in 1usize..6, keep in 1usize..7) {
        let (channels, width) = (7, 3);
        let layer = Layer::random(seed, [60, channels, width, 4], 0.3);
        // Channel i of the renamed task is channel `name(i)` of the original.
        let name = |i: usize| (i + shift) % channels;
        let blocks = (0..channels).map(|i| layer.blocks()[name(i)].clone()).collect();
        let renamed = Problem::new(layer.moments(), &layer.w, blocks).unwrap();
        let renamed = Task::new(vec![renamed]).unwrap();
        for method in ["lasso", "lasso-cd", "obs", "max-response"] {
            let original = selector(method).select(&layer.task(), keep).unwrap();
            let mut back: Vec<usize> =
                selector(method).select(&renamed, keep).unwrap().into_iter().map(name).collect();
            back.sort_unstable();
            prop_assert_eq!(&original, &back, "{}", method);
        }
    }

    /// With all channels and unchanged inputs the original weights come back.
    #[test]
    fn keeping_everything_returns_the_weights(seed: u64, size in sizes()) {
        let layer = Layer::random(seed, size, 0.0);
        let all: Vec<usize> = (0..layer.channels).collect();
        let scale = layer.w.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
        for problem in [layer.problem(), layer.dual_problem()] {
            let new = reconstruct(&problem, &all, RIDGE).unwrap();
            for (a, b) in new.weight.iter().zip(&layer.w) {
                prop_assert!((a - b).abs() <= 1e-4 * scale, "{a} is not {b}");
            }
            prop_assert!(new.relative_error < 1e-9);
        }
    }
}

/// Exchanges keep the count, never raise the error, and end where no single exchange helps.
#[test]
fn exchanges_reach_a_local_optimum() {
    for seed in 0..6 {
        let first = Layer::random(seed, [80, 8, 3, 4], 0.3);
        let second = Layer::random(seed + 50, [60, 8, 2, 3], 0.3);
        // The second layer reads one more channel that is not up for selection.
        let blocks = (0..8).map(|i| if i == 7 { vec![] } else { vec![2 * i, 2 * i + 1] });
        let second = Problem::new(second.moments(), &second.w, blocks.collect()).unwrap();
        let task = Task::new(vec![first.problem(), second]).unwrap();
        let objective = |kept: &[usize]| {
            let rest = (0..8).filter(|i| !kept.contains(i));
            let order: Vec<usize> = kept.iter().copied().chain(rest).collect();
            error_curve(&task, &order, RIDGE).unwrap()[kept.len()]
        };
        let start = [0, 1, 2];
        let mut last = objective(&start);
        for limit in 1..5 {
            let value = objective(&exchange(&task, &start, RIDGE, limit).unwrap());
            assert!(value <= last * (1.0 + 1e-9));
            last = value;
        }
        let kept = exchange(&task, &start, RIDGE, usize::MAX).unwrap();
        assert_eq!(kept.len(), 3);
        assert!(objective(&kept) < objective(&start));
        // The best channel to add, and then the cheapest to remove, is the same one.
        let best = |sets: Vec<Vec<usize>>| {
            sets.into_iter().min_by(|a, b| objective(a).total_cmp(&objective(b))).unwrap()
        };
        let outside = (0..8).filter(|i| !kept.contains(i));
        let more = best(outside.map(|i| kept.iter().copied().chain([i]).collect()).collect());
        let without = |i: usize| more.iter().copied().filter(|&j| j != i).collect::<Vec<_>>();
        let back = best(more.iter().map(|&i| without(i)).collect());
        assert!(objective(&back) >= objective(&kept) * (1.0 - 1e-8));
    }
}

/// The paper's figure 4 on synthetic layers: better selection, lower error after reconstruction.
#[test]
fn better_methods_have_lower_errors_on_average() {
    let mean_error = |method: &str| -> f64 {
        (0..20)
            .map(|seed| {
                let layer = Layer::random(seed, [300, 16, 4, 8], 0.2);
                let task = layer.task();
                let params = SelectionParams::new().method(method).exchanges(0).check().unwrap();
                let kept = params.selector().select(&task, 8).unwrap();
                reconstruct(&task.problems()[0], &kept, RIDGE).unwrap().relative_error / 20.0
            })
            .sum()
    };
    let [obs, lasso, most, first] = ["obs", "lasso", "max-response", "first-k"].map(mean_error);
    assert!(obs < lasso && lasso < most.min(first), "{obs} {lasso} {most} {first}");
}

/// A path through ties: equal correlations, and duplicates of the same contribution.
#[test]
fn ties_and_duplicates_do_not_stop_the_path() {
    let c = 12;
    let equal = LassoSystem { gram: Mat::identity(c, c), linear: vec![1.0; c], energy: c as f64 };
    for keep in 1..=c {
        let path = lasso_path(&equal, keep);
        assert_eq!(path.active, (0..keep).collect::<Vec<_>>());
    }
    // Two of everything: the first of each pair is enough.
    let twins = LassoSystem {
        gram: Mat::from_fn(c, c, |i, j| f64::from(u8::from(i / 2 == j / 2))),
        linear: (0..c).map(|i| (i / 2 + 1) as f64).collect(),
        energy: 91.0,
    };
    let path = lasso_path(&twins, c);
    assert_eq!(path.active, [10, 8, 6, 4, 2, 0]);
    let nothing = LassoSystem { gram: Mat::zeros(3, 3), linear: vec![0.0; 3], energy: 0.0 };
    assert!(lasso_path(&nothing, 2).active.is_empty());
}

/// A layer whose inputs never vary has nothing to select by, and is no reason to fail.
#[test]
fn constant_inputs_are_handled() {
    let mut layer = Layer::random(5, [30, 4, 2, 3], 0.1);
    layer.x.fill(1.5);
    for task in [layer.task(), layer.dual_task()] {
        for method in METHODS {
            assert_eq!(selector(method.name).select(&task, 2).unwrap().len(), 2);
        }
        let new = reconstruct(&task.problems()[0], &[0, 1], RIDGE).unwrap();
        assert!((new.relative_error - 1.0).abs() < 1e-9);
        assert!(error_curve(&task, &[0, 1, 2, 3], RIDGE).is_ok());
    }
    layer.y.fill(2.0);
    let task = layer.task();
    for method in METHODS {
        assert_eq!(selector(method.name).select(&task, 3).unwrap().len(), 3);
    }
    assert_eq!(reconstruct(&task.problems()[0], &[0], RIDGE).unwrap().relative_error, 0.0);
}
