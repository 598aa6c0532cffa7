//! Factorization against numpy (`fixtures/lasso/make_factor.py`).
#![allow(clippy::unwrap_used, reason = "tests")]

use faer::Mat;
use lasso_prune::factor::rectified;
use lasso_prune::{Problem, Reconstruction, Spatial, error_on, reconstruct, reduced_rank};
use serde_json::Value;
use tensor_core::calibrate::{Moments, Rows};

struct Reference(Value);

impl Reference {
    fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/lasso/factor.json");
        Self(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
    }

    fn floats(&self, key: &str) -> Vec<f32> {
        floats(&self.0[key]).into_iter().map(|v| v as f32).collect()
    }

    fn sizes(&self) -> [usize; 4] {
        let sizes: Vec<usize> = floats(&self.0["sizes"]).into_iter().map(|v| v as usize).collect();
        sizes.try_into().unwrap()
    }

    fn cases(&self, key: &str) -> Vec<(usize, Value)> {
        let cases = self.0[key].as_array().unwrap().iter();
        cases.map(|case| (case["rank"].as_u64().unwrap() as usize, case.clone())).collect()
    }

    /// The layer, on moments and on rows.
    fn problems(&self) -> [Problem; 2] {
        let [n, c, kh, kw] = self.sizes();
        let (x, y, w) = (self.floats("x"), self.floats("y"), self.floats("w"));
        let mut moments = Moments::new(c * kh * kw, n).unwrap();
        moments.push(&x, &y).unwrap();
        let mut rows = Rows::new(c * kh * kw, n, 1 << 30).unwrap();
        rows.push(&x, &y).unwrap();
        [Problem::new(moments, &w, Vec::new()), Problem::new(rows, &w, Vec::new())]
            .map(Result::unwrap)
    }
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn close(found: impl IntoIterator<Item = f64>, expected: &[f64], tolerance: f64) {
    let found: Vec<f64> = found.into_iter().collect();
    assert_eq!(found.len(), expected.len());
    for (at, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance, "{at}: {a} against {b}");
    }
}

#[test]
fn the_spatial_factors_are_the_best_of_their_rank() {
    let reference = Reference::read();
    let [n, c, kh, kw] = reference.sizes();
    let all = Spatial::new(&reference.floats("w"), reference.sizes()).unwrap();
    assert_eq!(all.rank(), Spatial::full_rank(reference.sizes()));
    for (rank, case) in reference.cases("spatial") {
        let factors = all.truncated(rank);
        let (v, h) = (factors.vertical_weight(), factors.horizontal_weight());
        assert_eq!((v.len(), h.len()), (rank * c * kh, n * rank * kw));
        // W[o, ch, i, j] = sum_r H[o, r, j] V[r, ch, i], from what is written to the model.
        let composed = (0..n * c * kh * kw).map(|at| {
            let (j, i) = (at % kw, at / kw % kh);
            let (ch, o) = (at / (kw * kh) % c, at / (kw * kh * c));
            (0..rank)
                .map(|r| {
                    f64::from(h[(o * rank + r) * kw + j]) * f64::from(v[(r * c + ch) * kh + i])
                })
                .sum::<f64>()
        });
        // Factors are 32-bit floats.
        close(composed, &floats(&case["weight"]), 1e-6);
    }
}

#[test]
fn the_horizontal_factor_is_refitted_on_what_the_vertical_gives() {
    let reference = Reference::read();
    let all = Spatial::new(&reference.floats("w"), reference.sizes()).unwrap();
    for problem in reference.problems() {
        for (rank, case) in reference.cases("spatial") {
            let factors = all.truncated(rank);
            let transform = factors.transform();
            let thin = problem.transformed(&transform, &factors.horizontal_weight()).unwrap();
            let fit = reconstruct(&thin, &[], 0.0).unwrap();
            close([fit.relative_error], &[case["error"].as_f64().unwrap()], 1e-9);
            // The same rows, through the composed weight of the original columns.
            let n = fit.intercept.len();
            let q = transform.ncols();
            let h = Mat::from_fn(q, n, |i, o| f64::from(fit.weight[o * q + i]));
            let whole = &transform * &h;
            let p = whole.nrows();
            let composed = Reconstruction {
                columns: (0..p).collect(),
                weight: (0..n * p).map(|i| whole[(i % p, i / p)] as f32).collect(),
                ..fit
            };
            close([error_on(&problem, &composed)], &[case["error"].as_f64().unwrap()], 1e-6);
        }
    }
}

#[test]
fn reduced_rank_regression_is_numpys() {
    let reference = Reference::read();
    for problem in reference.problems() {
        let full = reconstruct(&problem, &[], 0.0).unwrap();
        for (rank, case) in reference.cases("reduced") {
            let found = reduced_rank(&problem, &full, rank).unwrap();
            assert_eq!((found.narrow.ncols(), found.mixture.ncols()), (rank, rank));
            let made = found.reconstruction();
            // The full solution passes through 32-bit floats.
            close(made.weight.iter().map(|&w| f64::from(w)), &floats(&case["weight"]), 1e-5);
            close(made.intercept.iter().map(|&b| f64::from(b)), &floats(&case["intercept"]), 1e-5);
            close([error_on(&problem, &made)], &[case["error"].as_f64().unwrap()], 1e-6);
        }
    }
}

/// The error behind the ReLU falls to what the alternation of the paper gives in numpy.
#[test]
fn the_relu_is_made_up_for() {
    let reference = Reference::read();
    let [n, c, kh, kw] = reference.sizes();
    let p = c * kh * kw;
    let (x, y) = (reference.floats("x"), reference.floats("y"));
    let rows = y.len() / n;
    let x = Mat::from_fn(rows, p, |s, i| f64::from(x[s * p + i]));
    let y = Mat::from_fn(rows, n, |s, o| f64::from(y[s * n + o]));
    let [problem, _] = reference.problems();
    let full = reconstruct(&problem, &[], 0.0).unwrap();
    let weight = Mat::from_fn(p, n, |i, o| f64::from(full.weight[o * p + i]));
    let now = {
        let mut now = &x * &weight;
        for o in 0..n {
            now.col_mut(o).iter_mut().for_each(|v| *v += f64::from(full.intercept[o]));
        }
        now
    };
    let error = |found: &Reconstruction| -> f64 {
        let made = Mat::from_fn(p, n, |i, o| f64::from(found.weight[o * p + i]));
        let response = &x * &made;
        let one = |s: usize, o: usize| {
            let z = (response[(s, o)] + f64::from(found.intercept[o])).max(0.0);
            (z - y[(s, o)].max(0.0)).powi(2)
        };
        (0..rows).flat_map(|s| (0..n).map(move |o| (s, o))).map(|(s, o)| one(s, o)).sum()
    };
    for (rank, case) in reference.cases("rectified") {
        let start = reduced_rank(&problem, &full, rank).unwrap();
        let (before, after) = (case["before"].as_f64().unwrap(), case["after"].as_f64().unwrap());
        close([error(&start.reconstruction())], &[before], 1e-4 * before);
        let found = rectified(&full, start, now.as_ref(), y.as_ref()).unwrap();
        assert_eq!(found.mixture.ncols(), rank);
        // Where it would not fall, the start stays.
        close([error(&found.reconstruction())], &[after.min(before)], 1e-4 * before);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let reference = Reference::read();
    let w = reference.floats("w");
    let [n, c, kh, kw] = reference.sizes();
    assert!(Spatial::new(&w, [n + 1, c, kh, kw]).is_err());
    assert!(Spatial::new(&[], [0, c, kh, kw]).is_err());
    let [problem, _] = reference.problems();
    let map = Mat::zeros(c * kh * kw, 2);
    assert!(problem.transformed(&map, &vec![0.0; 2 * n + 1]).is_err());
    assert!(problem.transformed(&Mat::zeros(3, 2), &vec![0.0; 2 * n]).is_err());
    let infinite = vec![f32::INFINITY; 2 * n];
    assert!(problem.transformed(&map, &infinite).is_err());
}
