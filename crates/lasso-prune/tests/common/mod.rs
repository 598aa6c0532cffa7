//! Synthetic layers and stored reference values.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "tests")]

pub mod model;

use lasso_prune::{Problem, Task, contiguous_blocks};
use tensor_core::calibrate::{Moments, Rows};

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [-1, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// About normal.
    pub fn normal(&mut self) -> f64 {
        (0..6).map(|_| self.uniform()).sum::<f64>() / std::f64::consts::SQRT_2
    }
}

/// Rows of a layer: inputs, responses and weights, row-major.
#[derive(Debug, Clone)]
pub struct Layer {
    pub samples: usize,
    pub channels: usize,
    pub width: usize,
    pub outputs: usize,
    pub x: Vec<f32>,
    pub y: Vec<f32>,
    pub w: Vec<f32>,
}

impl Layer {
    /// Correlated, rectified inputs and the responses of the layer to slightly different ones.
    pub fn random(seed: u64, [samples, channels, width, outputs]: [usize; 4], noise: f64) -> Self {
        let mut random = Random::new(seed);
        let p = channels * width;
        let factors = (p / 3).max(1);
        let loading: Vec<f64> = (0..p * factors).map(|_| random.normal()).collect();
        let w: Vec<f32> = (0..outputs * p).map(|_| random.normal() as f32).collect();
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for _ in 0..samples {
            let factor: Vec<f64> = (0..factors).map(|_| random.normal()).collect();
            let row: Vec<f32> = (0..p)
                .map(|i| {
                    let shared: f64 =
                        (0..factors).map(|f| factor[f] * loading[i * factors + f]).sum();
                    (shared / (factors as f64).sqrt() + 0.7 * random.normal() + 0.3).max(0.0) as f32
                })
                .collect();
            let original: Vec<f64> =
                row.iter().map(|&v| f64::from(v) + noise * random.normal()).collect();
            y.extend(w.chunks(p).map(|w| {
                w.iter().zip(&original).map(|(&w, v)| f64::from(w) * v).sum::<f64>() as f32
            }));
            x.extend(row);
        }
        Self { samples, channels, width, outputs, x, y, w }
    }

    pub fn inputs(&self) -> usize {
        self.channels * self.width
    }

    pub fn blocks(&self) -> Vec<Vec<usize>> {
        contiguous_blocks(self.channels, self.width)
    }

    pub fn moments(&self) -> Moments {
        let mut moments = Moments::new(self.inputs(), self.outputs).unwrap();
        moments.push(&self.x, &self.y).unwrap();
        moments
    }

    pub fn rows(&self) -> Rows {
        let mut rows = Rows::new(self.inputs(), self.outputs, 1 << 30).unwrap();
        rows.push(&self.x, &self.y).unwrap();
        rows
    }

    pub fn problem(&self) -> Problem {
        Problem::new(self.moments(), &self.w, self.blocks()).unwrap()
    }

    pub fn dual_problem(&self) -> Problem {
        Problem::new(self.rows(), &self.w, self.blocks()).unwrap()
    }

    pub fn task(&self) -> Task {
        Task::new(vec![self.problem()]).unwrap()
    }

    pub fn dual_task(&self) -> Task {
        Task::new(vec![self.dual_problem()]).unwrap()
    }

    /// Squared error of new weights over the energy of the centred responses, from the rows.
    pub fn relative_error(&self, columns: &[usize], weight: &[f32], intercept: &[f32]) -> f64 {
        let (p, n) = (self.inputs(), self.outputs);
        let mean = |o: usize| {
            (0..self.samples).map(|s| f64::from(self.y[s * n + o])).sum::<f64>()
                / self.samples as f64
        };
        let (mut error, mut energy) = (0.0, 0.0);
        for o in 0..n {
            let mean = mean(o);
            for s in 0..self.samples {
                let prediction: f64 = columns
                    .iter()
                    .enumerate()
                    .map(|(k, &c)| {
                        f64::from(weight[o * columns.len() + k]) * f64::from(self.x[s * p + c])
                    })
                    .sum::<f64>()
                    + f64::from(intercept[o]);
                let y = f64::from(self.y[s * n + o]);
                error += (y - prediction).powi(2);
                energy += (y - mean).powi(2);
            }
        }
        error / energy
    }
}

/// A stored reference file.
pub struct Fixture(serde_json::Value);

impl Fixture {
    pub fn load(name: &str) -> Self {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fixtures/lasso")
            .join(name);
        Self(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
    }

    fn at(&self, pointer: &str) -> &serde_json::Value {
        self.0.pointer(pointer).unwrap_or_else(|| panic!("fixture has no {pointer}"))
    }

    pub fn number(&self, pointer: &str) -> f64 {
        self.at(pointer).as_f64().unwrap()
    }

    pub fn count(&self, pointer: &str) -> usize {
        self.at(pointer).as_u64().unwrap() as usize
    }

    pub fn numbers(&self, pointer: &str) -> Vec<f64> {
        self.at(pointer).as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    }

    pub fn counts(&self, pointer: &str) -> Vec<usize> {
        self.numbers(pointer).into_iter().map(|v| v as usize).collect()
    }

    pub fn rows(&self, pointer: &str) -> usize {
        self.at(pointer).as_array().unwrap().len()
    }

    pub fn layer(&self) -> Layer {
        let floats = |pointer| self.numbers(pointer).into_iter().map(|v| v as f32).collect();
        Layer {
            samples: self.count("/samples"),
            channels: self.count("/channels"),
            width: self.count("/width"),
            outputs: self.count("/outputs"),
            x: floats("/x"),
            y: floats("/y"),
            w: floats("/w"),
        }
    }
}

/// Asserts `|a - b| <= tolerance * scale`, with the largest `|b|` as scale.
pub fn assert_close(what: &str, a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len(), "{what}: lengths");
    let scale = b.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        assert!((x - y).abs() <= tolerance * scale, "{what}[{i}]: {x} is not {y}");
    }
}
