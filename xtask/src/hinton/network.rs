//! Networks trained by the binary, as a user would.

use crate::kerf::{command, run};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// A network to be trained.
pub(super) struct Run {
    /// Units in each of the two hidden layers.
    pub(super) hidden: u32,
    /// Training images, with labels beside them.
    pub(super) data: PathBuf,
    /// Test images.
    pub(super) test: PathBuf,
    /// Passes over the images.
    pub(super) epochs: u32,
    /// Seed of weights and order.
    pub(super) seed: u64,
    /// Where models go.
    pub(super) folder: PathBuf,
}

/// A trained network.
pub(super) struct Done {
    /// Its file.
    pub(super) model: PathBuf,
    /// Errors on the test images.
    pub(super) errors: u64,
}

impl Run {
    /// By labels.
    pub(super) fn on_labels(&self, name: &str) -> Result<Done> {
        self.train(name, "0", "train", &[])
    }

    /// By labels, with dropout and shifts.
    pub(super) fn regularized(&self, name: &str, dropout: f64, shift: u32) -> Result<Done> {
        self.train(name, &dropout.to_string(), "train", &["--shift", &shift.to_string()])
    }

    /// By the teacher's soft targets alone.
    pub(super) fn distilled(&self, name: &str, teacher: &Path, temperature: f64) -> Result<Done> {
        let temperature = temperature.to_string();
        let teacher = teacher.to_string_lossy();
        let more = ["--teacher", &teacher, "--temperature", &temperature, "--hard-weight", "0"];
        self.train(name, "0", "train", &more)
    }

    fn train(&self, name: &str, dropout: &str, task: &str, more: &[&str]) -> Result<Done> {
        let Self { hidden, seed, .. } = self;
        let path = |end: &str| self.folder.join(format!("{name}-{hidden}-{seed}{end}.onnx"));
        let (start, model) = (path("-start"), path(""));
        let (hidden, seed) = (hidden.to_string(), seed.to_string());
        let mut new = command(&["new", "mlp", "--hidden", &hidden, "--dropout", dropout]);
        run(new.args(["--seed", &seed, "-o"]).arg(&start))?;
        let mut train = command(&[task]);
        train.arg(&start).arg("--data").arg(&self.data).arg("--eval-data").arg(&self.test);
        train.args(["--preprocess", "fixtures/preprocess/fmnist.json", "--batch", "128"]);
        train.args(["--lr", "0.02", "--weight-decay", "0", "--no-verify", "--seed", &seed]);
        train.args(["--epochs", &self.epochs.to_string(), "-o"]).arg(&model).args(more);
        let document = run(&mut train)?;
        let score = &document["result"]["training"]["kept"]["evaluation"];
        let (Some(accuracy), Some(samples)) =
            (score["accuracy"].as_f64(), score["samples"].as_f64())
        else {
            bail!("no accuracy in {document}");
        };
        Ok(Done { model, errors: ((1.0 - accuracy) * samples).round() as u64 })
    }
}
