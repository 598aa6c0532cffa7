//! Accuracy after a short training.

use super::{Bits, Judgement, Simulator};
use crate::model::{BiasCorrection, QuantizeParams, Rounding};
use crate::train::{FakeQuantizer, QatParams};
use tensor_core::data::Dataset;
use tensor_core::group::Group;
use tensor_core::journal::Identity;
use tensor_core::progress::Silent;
use tensor_core::run::Array;
use tensor_core::train::{self, Job, Length, Params, Plugin};
use tensor_core::{Error, Result};

/// Learning rate: training with quantization continues that of the float network.
const RATE: f64 = 0.005;

/// Trains each allocation for some steps before it is judged, as HAQ does for an epoch (Wang et al. 2019,
/// section 3.3): what few bits lose at first says less about them than what they lose for good.
#[derive(Clone, Copy)]
pub struct ShortTraining<'a> {
    /// The model, and the held-out samples that judge.
    pub simulator: &'a Simulator<'a>,
    /// Samples for the ranges that training begins with.
    pub calibration: &'a [Vec<Array>],
    /// Training samples with labels.
    pub data: &'a Dataset,
    /// Steps for each allocation, at least 1.
    pub steps: u64,
    /// Samples of a step.
    pub batch: usize,
    /// Drives the order of samples, alike for all allocations.
    pub seed: u64,
}

impl ShortTraining<'_> {
    /// What these bits do after the training.
    ///
    /// # Errors
    /// As [`FakeQuantizer::new`] and [`train::train`].
    pub fn judge(&self, bits: &[Bits]) -> Result<Judgement> {
        let prepared = self.simulator.prepared();
        // Training corrects what rounding and biases are optimized for elsewhere.
        let quantize = QuantizeParams {
            bits: self.simulator.assignment(bits),
            rounding: Rounding::Nearest,
            bias_correction: BiasCorrection::None,
            equalize: false,
            seed: self.seed,
            ..QuantizeParams::default()
        };
        let qat = QatParams { quantize, ..QatParams::default() };
        let (graph, shapes) = (&prepared.graph, &prepared.shapes);
        let quantizer = FakeQuantizer::new(graph, shapes, self.calibration, qat, &Silent)?;
        let graph = quantizer.graph().clone();
        let params = Params {
            length: Length::Steps(self.steps),
            batch: self.batch,
            rate: RATE,
            seed: self.seed,
            ..Params::default()
        };
        let mut plugins: Vec<Box<dyn Plugin>> = vec![Box::new(quantizer)];
        let trained = train::train(Job {
            graph: &graph,
            data: self.data,
            evaluation: None,
            params: &params,
            plugins: &mut plugins,
            folder: None,
            identity: Identity::new(),
            progress: &Silent,
            group: Group::alone(),
        })?;
        let quantizer = plugins.first().and_then(|plugin| {
            let any: &dyn std::any::Any = &**plugin;
            any.downcast_ref::<FakeQuantizer>()
        });
        let quantizer = quantizer.ok_or_else(|| Error::internal("a run lost its plug-in"))?;
        self.simulator.judge_graph(&quantizer.export(&trained.graph)?.graph)
    }
}
