//! Fashion-MNIST as experiments use it.

use std::path::PathBuf;
use std::process::Command;

/// How its images become the inputs of the fixture networks.
const PREPROCESS: [&str; 2] = ["--preprocess", "fixtures/preprocess/fmnist.json"];

/// The full set.
#[derive(clap::Args)]
pub(crate) struct FashionMnist {
    /// Where the Debian package `dataset-fashion-mnist` puts it
    #[arg(long, default_value = "/usr/share/datasets/fashion-mnist")]
    pub(crate) from: PathBuf,
}

impl FashionMnist {
    fn images(&self, split: &str) -> PathBuf {
        self.from.join(format!("{split}-images-idx3-ubyte.gz"))
    }

    /// The 60,000 training images.
    pub(crate) fn train(&self) -> PathBuf {
        self.images("train")
    }

    /// The 10,000 test images.
    pub(crate) fn test(&self) -> PathBuf {
        self.images("t10k")
    }

    /// Class numbers of the test images.
    pub(crate) fn test_labels(&self) -> PathBuf {
        self.from.join("t10k-labels-idx1-ubyte.gz")
    }

    /// The 1,000 training images of the fixtures.
    pub(crate) fn calibration() -> PathBuf {
        PathBuf::from("fixtures/data/train-1k-images-idx3-ubyte.gz")
    }

    /// Lets a command judge on the test images.
    pub(crate) fn judges<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.arg("--eval-data").arg(self.test()).args(PREPROCESS)
    }

    /// Lets a command train on the training images and judge on the test images.
    pub(crate) fn trains<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.arg("--data").arg(self.train());
        command.arg("--eval-data").arg(self.test()).args(PREPROCESS)
    }

    /// Lets a command calibrate on the 1,000 training images of the fixtures and judge on the test
    /// images.
    pub(crate) fn calibrates<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.arg("--data").arg(Self::calibration());
        self.judges(command)
    }

    /// Lets a command read some images, and nothing else.
    pub(crate) fn reads(command: &mut Command, images: PathBuf) -> &mut Command {
        command.arg("--data").arg(images).args(PREPROCESS)
    }
}
