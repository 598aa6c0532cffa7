//! Statistics in a file: what they are of, and whether that is what a command was given.

use crate::args::{DataArgs, SamplingArgs, Shared};
use crate::input;
use clap::{Args, ValueEnum};
use lasso_prune::{Calibration, Inputs};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use tensor_core::data::{self, Dataset, InputSpec, Options};
use tensor_core::{Error, ErrorKind, Graph, Result};

/// What `kerf calibrate` says to do next.
pub(super) const NEXT: &str =
    "next    `kerf prune MODEL --statistics FILE --macs 50% -o OUTPUT`, for any budget";

/// Flags of commands that can take statistics in place of samples, or beside them.
#[derive(Debug, Args, Serialize)]
pub(super) struct StatisticsArgs {
    /// Statistics from `kerf calibrate`. Without `--data` layers are refitted on original inputs; with
    /// it, only the error curves come from the file
    #[arg(long, value_name = "FILE", help_heading = "Data options")]
    pub(super) statistics: Option<PathBuf>,
    /// What layers are refitted on: their inputs in the pruned network as it is by then (current, the
    /// default with `--data`) or in the original one (original, the default with `--statistics` alone)
    #[arg(long, value_enum, value_name = "WHICH", help_heading = "Method")]
    pub(super) inputs: Option<InputsArg>,
}

/// `--inputs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum InputsArg {
    /// In the pruned network as it is by then
    Current,
    /// In the original network
    Original,
}

impl StatisticsArgs {
    /// What layers are refitted on.
    ///
    /// # Errors
    /// `E0010` when that needs samples that were not given.
    pub(super) fn inputs(&self, data: &DataArgs) -> Result<Inputs> {
        match (self.inputs, data.is_given()) {
            (Some(InputsArg::Current), false) => Err(Error::new(
                ErrorKind::Invalid,
                "E0010",
                "`--inputs current` needs the samples, not only statistics of them",
            )
            .hint("give `--data`, too")),
            (Some(InputsArg::Original), _) | (None, false) => Ok(Inputs::Original),
            (Some(InputsArg::Current) | None, true) => Ok(Inputs::Current),
        }
    }

    /// Reads the statistics, if there are to be any, and checks what they are of.
    ///
    /// # Errors
    /// `E0146` when they are of another model, of other samples or no statistics at all.
    pub(super) fn open(
        &self,
        model: &Path,
        data: &DataArgs,
        sampling: &SamplingArgs,
        shared: &Shared,
    ) -> Result<Option<Calibration>> {
        let Some(path) = &self.statistics else { return Ok(None) };
        let calibration = Calibration::read(path)?;
        let origin = calibration.origin();
        let here = Origin::new(model, data, sampling, shared)?.to_value()?;
        let mut of = vec![("model_sha256", "another model"), ("shapes", "other `--shape`s")];
        if data.is_given() {
            of.push(("data", "other samples than `--data`"));
            of.push(("preparation", "samples with other preprocessing, number or batches"));
        }
        for (key, what) in of {
            if origin[key] != here[key] {
                let message = format!(
                    "{}: statistics of {what}: {key} is {} there, {} here",
                    path.display(),
                    origin[key],
                    here[key]
                );
                return Err(Error::invalid(message)
                    .code_is("E0146")
                    .hint("`kerf calibrate` makes them for this model and these samples"));
            }
        }
        Ok(Some(calibration))
    }
}

/// The settings as they would be if the samples had been given in place of statistics alone: what the
/// result is stamped with.
pub(super) fn as_with_data(mut settings: Value, calibration: &Calibration) -> Value {
    if let Some(settings) = settings.as_object_mut() {
        let stored = calibration.origin()["settings"].as_object();
        for (key, value) in stored.into_iter().flatten() {
            settings.insert(key.clone(), value.clone());
        }
        settings.insert("inputs".to_owned(), json!("original"));
    }
    settings
}

/// The few samples in a file of statistics, to check results with.
pub(super) fn few_samples(calibration: &Calibration, graph: &Graph) -> Result<Dataset> {
    let arrays = calibration.arrays(graph)?;
    let named = graph.inputs.iter().zip(arrays);
    let inputs = named
        .map(|(&input, array)| Ok((graph.name(input).to_owned(), array.to_constant()?)))
        .collect::<Result<Vec<_>>>()?;
    data::from_memory(inputs, None, &Options { inputs: InputSpec::of(graph), ..Options::default() })
}

/// What statistics are of.
pub(super) struct Origin<'a> {
    model_sha256: String,
    data: Option<String>,
    preparation: Value,
    shared: &'a Shared,
    settings: Map<String, Value>,
}

impl<'a> Origin<'a> {
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn new(
        model: &Path,
        data: &DataArgs,
        sampling: &SamplingArgs,
        shared: &'a Shared,
    ) -> Result<Self> {
        let mut settings = Map::new();
        for part in [json!(data), json!(sampling)] {
            settings.extend(part.as_object().cloned().unwrap_or_default());
        }
        Ok(Self {
            model_sha256: input::sha256(model)?,
            data: data.is_given().then(|| input::fingerprint(data.path())).transpose()?,
            preparation: data.preparation()?,
            shared,
            settings,
        })
    }

    /// As it stands in the file.
    pub(super) fn to_value(&self) -> Result<Value> {
        Ok(json!({
            "model_sha256": self.model_sha256,
            "shapes": self.shared.shapes(),
            "data": self.data,
            "preparation": self.preparation,
            "settings": self.settings,
        }))
    }
}
