//! `kerf cost`: what layers cost on a device: show it, measure it here, import it.

mod measure;
mod networks;
mod plot;
mod show;

use super::{Context, Outcome, Task};
use crate::args::{HardwareArgs, Shared};
use crate::output::Target;
use crate::units;
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tensor_core::cost::hardware::{self, Layer};
use tensor_core::measure::latency;
use tensor_core::{Error, ErrorKind, Graph, Result, onnx, run};

/// What to do about costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    /// Layers of a model on a device, or the rows of a table
    Show,
    /// Time the layers of a model in ONNX Runtime here, as floats, int8, and with 4-bit weights
    Measure,
    /// The table that HAQ's authors released (.npy), for the model that it is of
    Import,
}

/// Arguments of `kerf cost`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct CostArgs {
    /// What to do
    #[arg(value_enum)]
    action: Action,
    /// The model; for `show` without a device, a cost table
    #[arg(required_unless_present = "list")]
    path: Option<PathBuf>,
    /// List all hardware models
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    #[serde(flatten)]
    device: HardwareArgs,
    /// Bits to show, for weights and activations alike
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "8,4,2", value_parser = clap::value_parser!(u32).range(1..=32))]
    bits: Vec<u32>,
    /// Where the table (`measure`, `import`) or the drawing (`show`, SVG) goes
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long)]
    #[serde(skip)]
    force: bool,
    /// Go on with a table of the same device and model that was interrupted
    #[arg(long)]
    #[serde(skip)]
    resume: bool,
    /// Also measure other channel counts, of layers and of the network: shares such as `25%,50%,75%`
    #[arg(long, value_name = "PERCENT,...", value_delimiter = ',', value_parser = units::parse_kept)]
    widths: Vec<f64>,
    /// Time layers as floats only, which is all that pruning asks for
    #[arg(long)]
    floats: bool,
    /// Samples of a timed run
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch: u32,
    /// Timed runs per layer
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Seconds per layer, after which timing stops early
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    limit: u64,
    /// The released table that is imported
    #[arg(long, value_name = "FILE")]
    npy: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    shared: Shared,
}

impl Task for CostArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn model(&self) -> Option<&Path> {
        self.path.as_deref().filter(|_| !self.list)
    }

    fn outputs(&self) -> Vec<Target<'_>> {
        let force = self.force || self.resume;
        self.output.iter().map(|path| Target::File { path, force }).collect()
    }

    fn run(&self, cx: &Context) -> Result<Outcome> {
        self.check_flags(cx)?;
        match self.action {
            Action::Show if self.list => Ok(show::list()),
            Action::Show => show::run(self, cx),
            Action::Measure => measure::run(self, cx),
            Action::Import => measure::import(self),
        }
    }
}

/// Flags that one action takes.
const OWN: [(&str, Action); 9] = [
    ("list", Action::Show),
    ("bits", Action::Show),
    ("resume", Action::Measure),
    ("widths", Action::Measure),
    ("floats", Action::Measure),
    ("batch", Action::Measure),
    ("runs", Action::Measure),
    ("limit", Action::Measure),
    ("npy", Action::Import),
];

impl CostArgs {
    /// A flag that would do nothing is a mistake.
    fn check_flags(&self, cx: &Context) -> Result<()> {
        for (name, action) in OWN {
            if cx.given.contains_key(name) && action != self.action {
                let action = format!("{action:?}").to_lowercase();
                return Err(usage(&format!("`--{name}` is for `kerf cost {action}`")));
            }
        }
        Ok(())
    }

    fn path(&self) -> Result<&Path> {
        self.path.as_deref().ok_or_else(|| usage("a model is needed"))
    }

    fn target(&self) -> Result<&Path> {
        self.output.as_deref().ok_or_else(|| usage("`--output FILE` says where the table goes"))
    }

    /// How long to measure.
    fn settings(&self) -> latency::Settings {
        latency::Settings {
            runs: self.runs as usize,
            limit: Duration::from_secs(self.limit),
            threads: self.shared.threads.map_or(1, usize::from),
            ..latency::Settings::default()
        }
    }

    /// The model and its layers, for one sample.
    fn layers(&self) -> Result<(Graph, Vec<Layer>)> {
        let graph = onnx::read(self.path()?)?;
        let facts = run::infer(&graph, &self.shared.shapes())?;
        let layers = hardware::layers(&graph, &facts)?;
        if layers.is_empty() {
            return Err(Error::invalid(
                "the model has no convolution or matrix product with constant weights",
            )
            .code_is("E0554"));
        }
        Ok((graph, layers))
    }
}

fn usage(message: &str) -> Error {
    Error::new(ErrorKind::Invalid, "E0010", message)
}
