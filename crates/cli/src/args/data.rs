//! Flags that say where samples come from and how they are prepared.

use crate::console::Console;
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tensor_core::data::{self, Dataset, InputSpec, Layout, Options, PerChannel, Preprocess, Size};
use tensor_core::graph::Dim;
use tensor_core::text::counted;
use tensor_core::{Error, ErrorKind, Graph, Result};

/// Axis order of the model's image input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LayoutArg {
    /// Batch, channels, height, width
    Nchw,
    /// Batch, height, width, channels
    Nhwc,
}

/// `--labels` without a path, where a command allows that: those that belong to the samples.
pub(crate) const OWN_LABELS: &str = "own";

/// Data flags.
#[derive(Debug, Clone, Args, Serialize)]
#[command(next_help_heading = "Data options")]
pub(crate) struct DataArgs {
    /// Samples: an IDX file, a folder of images, .npz, .npy, .safetensors, or ONNX test data
    #[arg(long, value_name = "PATH", required = true)]
    data: Option<PathBuf>,
    /// Class numbers, where they are apart from the samples
    #[arg(long, value_name = "PATH")]
    labels: Option<PathBuf>,
    /// File with the preprocessing flags below; a flag given here replaces its value
    #[arg(long, value_name = "FILE")]
    preprocess: Option<PathBuf>,
    /// Resize images to a shorter side `N` or to `HxW`
    #[arg(long, value_name = "SIZE")]
    resize: Option<Size>,
    /// Centre crop to `NxN` or `HxW`
    #[arg(long, value_name = "SIZE")]
    crop: Option<Size>,
    /// Subtract, on pixels scaled to 0..1: one value or one per channel, `0.485,0.456,0.406`
    #[arg(long, value_name = "VALUES", allow_hyphen_values = true)]
    mean: Option<PerChannel>,
    /// Divide by, after the mean: one value or one per channel
    #[arg(long, value_name = "VALUES")]
    std: Option<PerChannel>,
    /// Axis order of the model's image input [default: from the model]
    #[arg(long, value_enum, value_name = "ORDER")]
    layout: Option<LayoutArg>,
    /// Use at most N samples, drawn by the seed [default: all]
    #[arg(long, value_name = "N", requires = "data", value_parser = clap::value_parser!(u32).range(1..))]
    samples: Option<u32>,
    /// Keep N samples, drawn by the seed, apart from the others to evaluate on
    #[arg(long, value_name = "N", requires = "data", group = "evaluation", value_parser = clap::value_parser!(u32).range(1..))]
    hold_out: Option<u32>,
    /// Samples per forward pass; `prune` takes fewer where activations are large
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch: u32,
}

impl DataArgs {
    /// Where the samples come from; empty where a command that can do without was given none.
    pub(crate) fn path(&self) -> &Path {
        self.data.as_deref().unwrap_or(Path::new(""))
    }

    /// Were samples given?
    pub(crate) fn is_given(&self) -> bool {
        self.data.is_some()
    }

    /// Samples per forward pass: what the model fixes, else what was asked for.
    pub(crate) fn batch(&self, graph: &Graph) -> usize {
        fixed_batch(graph).unwrap_or(self.batch as usize)
    }

    /// The samples that fill whole batches, where the model fixes the size of a batch.
    ///
    /// # Errors
    /// `E0205` when they do not fill one.
    pub(crate) fn whole_batches(
        &self,
        set: Dataset,
        graph: &Graph,
        console: &Console,
    ) -> Result<Dataset> {
        let Some(batch) = fixed_batch(graph) else { return Ok(set) };
        fills_batch(&set, batch)?;
        let left = set.len() % batch;
        if left > 0 {
            console.warn(&format!(
                "the model takes batches of {batch}: the last {left} of {} are left out",
                counted(set.len(), "sample")
            ));
        }
        Ok(set.first(set.len() - left))
    }

    /// Checks samples of which each step takes one batch, where the model fixes the size of a batch.
    ///
    /// # Errors
    /// `E0205` when they do not fill one.
    pub(crate) fn check_batch(
        &self,
        set: &Dataset,
        graph: &Graph,
        console: &Console,
    ) -> Result<()> {
        let Some(batch) = fixed_batch(graph) else { return Ok(()) };
        if batch != self.batch as usize {
            console.detail(&format!("batches of {batch}, as the model takes them"));
        }
        fills_batch(set, batch)
    }

    /// Opens all samples for a model, whatever part of them is to be taken.
    pub(crate) fn open_all(&self, graph: &Graph) -> Result<Dataset> {
        self.open_path(self.path(), self.labels_apart(), graph)
    }

    /// Are the class numbers those that belong to the samples?
    pub(crate) fn has_own_labels(&self) -> bool {
        self.labels.as_deref() == Some(Path::new(OWN_LABELS))
    }

    /// The file of class numbers, where it was named.
    fn labels_apart(&self) -> Option<PathBuf> {
        self.labels.clone().filter(|_| !self.has_own_labels())
    }

    /// Were class numbers given?
    pub(crate) fn labels_are_given(&self) -> bool {
        self.labels.is_some()
    }

    /// Was a number of samples asked for?
    pub(crate) fn is_limited(&self) -> bool {
        self.samples.is_some()
    }

    /// Opens the samples for a model, `--samples` of them, without those that are held out.
    pub(crate) fn open(&self, graph: &Graph, seed: u64) -> Result<Dataset> {
        let set = self.open_all(graph)?;
        let set = match self.held_out_count(&set)? {
            Some(count) => set.shuffled(seed).without_first(count).in_source_order(),
            None => set,
        };
        Ok(match self.samples {
            Some(samples) => set.subset(samples as usize, seed),
            None => set,
        })
    }

    /// Opens the samples that `--hold-out` keeps apart, if it was given.
    pub(crate) fn open_held_out(&self, graph: &Graph, seed: u64) -> Result<Option<Dataset>> {
        if self.hold_out.is_none() {
            return Ok(None);
        }
        let set = self.open_all(graph)?;
        let count = self.held_out_count(&set)?;
        Ok(count.map(|count| set.shuffled(seed).first(count)))
    }

    /// Opens what is to be judged: the samples that `--hold-out` keeps apart, or `--samples` of all.
    pub(crate) fn open_judged(&self, graph: &Graph, seed: u64) -> Result<Dataset> {
        match self.open_held_out(graph, seed)? {
            Some(set) => Ok(set),
            None => self.open(graph, seed),
        }
    }

    /// Are samples kept apart?
    pub(crate) fn is_held_out(&self) -> bool {
        self.hold_out.is_some()
    }

    /// How many samples `--hold-out` keeps apart, if it was given.
    pub(crate) fn held_out_count(&self, set: &Dataset) -> Result<Option<usize>> {
        let Some(count) = self.hold_out.map(|count| count as usize) else { return Ok(None) };
        if count < set.len() {
            return Ok(Some(count));
        }
        let message = format!("cannot hold out {count} of {}", counted(set.len(), "sample"));
        Err(Error::new(ErrorKind::Invalid, "E0205", message)
            .hint("`--hold-out` leaves at least one sample to work with"))
    }

    /// Opens another set with the same preprocessing, all of it.
    pub(crate) fn open_path(
        &self,
        path: &Path,
        labels: Option<PathBuf>,
        graph: &Graph,
    ) -> Result<Dataset> {
        let options =
            Options { labels, preprocess: self.preprocess()?, inputs: InputSpec::of(graph) };
        data::open(path, &options)
    }

    /// Which samples are taken and what becomes of them: with the hash of the source, what identifies
    /// them.
    pub(crate) fn preparation(&self) -> Result<Value> {
        Ok(json!({
            "preprocess": self.preprocess()?,
            "samples": self.samples,
            "hold_out": self.hold_out,
            "batch": self.batch,
        }))
    }

    /// The file's settings, replaced by the flags that were given.
    fn preprocess(&self) -> Result<Preprocess> {
        let file = match &self.preprocess {
            Some(path) => Preprocess::read(path)?,
            None => Preprocess::default(),
        };
        let layout = self.layout.map(|layout| match layout {
            LayoutArg::Nchw => Layout::Nchw,
            LayoutArg::Nhwc => Layout::Nhwc,
        });
        let merged = Preprocess {
            resize: self.resize.or(file.resize),
            crop: self.crop.or(file.crop),
            mean: self.mean.clone().or(file.mean),
            std: self.std.clone().or(file.std),
            layout: layout.or(file.layout),
        };
        merged.check()?;
        Ok(merged)
    }
}

/// Refuses samples that do not fill one batch.
fn fills_batch(set: &Dataset, batch: usize) -> Result<()> {
    if set.len() >= batch {
        return Ok(());
    }
    let message = format!(
        "the model takes batches of {batch}, but there are {} only",
        counted(set.len(), "sample")
    );
    let hint = format!(
        "give at least {}, or export the model with an open batch dimension",
        counted(batch, "sample")
    );
    Err(Error::new(ErrorKind::Invalid, "E0205", message).hint(hint))
}

/// The batch that the model's first input fixes, if it does.
pub(crate) fn fixed_batch(graph: &Graph) -> Option<usize> {
    let declared = graph.declared(*graph.inputs.first()?)?;
    match declared.dims.as_ref()?.first()? {
        Dim::Known(batch) if *batch > 0 => Some(*batch),
        _ => None,
    }
}
