//! The statistics that a layer is refitted on, during the pass from shallow to deep.

use super::calibration::Calibration;
use super::layers::Layer;
use super::params::Inputs;
use super::scope::Scope;
use super::source::Checked;
use tensor_core::calibrate::{Replay, Statistics, Walk, collect};
use tensor_core::graph::Graph;
use tensor_core::progress::Progress;
use tensor_core::{Error, Result};

/// Where statistics come from.
pub(crate) struct Evidence<'a> {
    scope: &'a Scope<'a>,
    from: From<'a>,
}

enum From<'a> {
    /// Samples on their way through the original network and, unless layers are refitted on original
    /// inputs, through the current one.
    Samples { original: Replay, current: Option<Replay> },
    /// A file.
    Stored(&'a Calibration),
}

impl<'a> Evidence<'a> {
    /// At the beginning of the pass.
    pub(crate) fn new(scope: &'a Scope, source: &Checked<'a>) -> Result<Self> {
        let is_current = scope.params.params.inputs == Inputs::Current;
        let from = match (&source.replay, source.calibration) {
            (Some(replay), _) => From::Samples {
                original: replay.clone(),
                current: is_current.then(|| replay.clone()),
            },
            (None, Some(calibration)) => From::Stored(calibration),
            (None, None) => return Err(Error::internal("neither samples nor statistics")),
        };
        Ok(Self { scope, from })
    }

    /// The statistics of a layer, given the network as it is now. Layers come in execution order.
    pub(crate) fn of(
        &mut self,
        layer: &Layer,
        now: &Graph,
        progress: &dyn Progress,
    ) -> Result<Vec<[Statistics; 2]>> {
        let Scope { graph, facts, sampling, .. } = *self.scope;
        match &mut self.from {
            From::Stored(calibration) => calibration.statistics(graph.key(layer.node), layer),
            From::Samples { original, current } => {
                let mut from = Walk { graph, replay: original };
                let mut to = current.as_mut().map(|replay| Walk { graph: now, replay });
                let place = layer.place();
                Ok(collect(&place, facts, &mut from, to.as_mut(), sampling, progress)?.statistics)
            }
        }
    }
}
