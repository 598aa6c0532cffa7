//! What a prune knows of the data: samples, statistics of them, or both.

use super::calibration::Calibration;
use super::curves::{Curve, curves};
use super::params::{Inputs, PruneParams, ValidPruneParams, Widths};
use super::prepare::Prepared;
use super::prune::NETWORKS;
use super::sets::Set;
use tensor_core::calibrate::Replay;
use tensor_core::graph::Graph;
use tensor_core::progress::Progress;
use tensor_core::run::Array;
use tensor_core::{Error, Result};

/// What a prune knows of the data.
#[derive(Debug, Clone)]
pub enum Source<'a> {
    /// The calibration samples; each batch lists arrays in the order of the graph's inputs.
    Samples(Vec<Vec<Array>>),
    /// What was measured on them, without the samples: layers are refitted on
    /// [original](Inputs::Original) inputs.
    Statistics(&'a Calibration),
    /// Both: error curves come from the statistics, and layers are refitted on the samples.
    Both(Vec<Vec<Array>>, &'a Calibration),
}

impl From<Vec<Vec<Array>>> for Source<'_> {
    fn from(batches: Vec<Vec<Array>>) -> Self {
        Self::Samples(batches)
    }
}

/// A source that fits a model and parameters.
pub(crate) struct Checked<'a> {
    /// The samples at the graph's inputs; absent where there are only statistics.
    pub(crate) replay: Option<Replay>,
    pub(crate) calibration: Option<&'a Calibration>,
    /// A few samples, as [`probe`](super::prune::probe) gives them.
    pub(crate) few: Vec<Array>,
    pub(crate) samples: usize,
}

impl<'a> Source<'a> {
    /// # Errors
    /// `E0144` without samples, `E0141` where the parameters need samples, `E0146` when the
    /// statistics are of another model or setting.
    pub(crate) fn checked(self, graph: &Graph, params: &PruneParams) -> Result<Checked<'a>> {
        let (batches, calibration) = match self {
            Self::Samples(batches) => (Some(batches), None),
            Self::Statistics(calibration) => (None, Some(calibration)),
            Self::Both(batches, calibration) => (Some(batches), Some(calibration)),
        };
        if let Some(calibration) = calibration {
            calibration.check(params)?;
        }
        let Some(batches) = batches else {
            let calibration = calibration.ok_or_else(no_data)?;
            if params.inputs == Inputs::Current {
                return Err(Error::invalid(
                    "statistics without samples have the original inputs of layers only",
                )
                .code_is("E0141")
                .hint("give the samples too, or refit on original inputs (`inputs = original`)"));
            }
            let few = calibration.arrays(graph)?;
            return Ok(Checked {
                replay: None,
                calibration: Some(calibration),
                few,
                samples: calibration.samples(),
            });
        };
        let few = batches.first().cloned().ok_or_else(no_data)?;
        let replay = Replay::new(graph, batches, params.memory / NETWORKS)?;
        let samples = replay.samples();
        Ok(Checked { replay: Some(replay), calibration, few, samples })
    }
}

fn no_data() -> Error {
    Error::invalid("pruning needs calibration data").code_is("E0144")
}

impl Checked<'_> {
    /// Error curves, where widths or joint choices need them.
    pub(crate) fn needed_curves(
        &self,
        prepared: &Prepared,
        params: &ValidPruneParams,
        progress: &dyn Progress,
    ) -> Result<Vec<Curve>> {
        let is_joint = prepared.parts.sets.iter().any(Set::is_joint);
        if !params.params.widths.need_curves() && !is_joint {
            return Ok(Vec::new());
        }
        match (self.calibration, &self.replay) {
            (Some(calibration), _) => {
                let is_weighed = params.params.widths == Widths::Auto;
                calibration.curves(&prepared.parts.sets, is_weighed)
            }
            (None, Some(replay)) => {
                curves(&prepared.scope(params), replay.clone(), &mut |_, _| Ok(()), progress)
            }
            (None, None) => Err(no_data()),
        }
    }
}
