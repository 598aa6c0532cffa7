//! `kerf quantize`: integers in place of floats, as any runtime reads them, with proof.

mod args;

pub(crate) use args::QuantizeArgs;

use super::one_shot::{Job, Made};
use super::{Context, Outcome, Settings, Task};
use crate::args::{OnUnsupported, Shared};
use crate::output::Target;
use crate::report;
use quant_mixed::model::{Quantized, quantize};
use serde_json::json;
use std::path::Path;
use tensor_core::Result;

impl Task for QuantizeArgs {
    fn shared(&self) -> &Shared {
        &self.common.shared
    }

    fn model(&self) -> Option<&Path> {
        Some(&self.common.files.model)
    }

    fn outputs(&self) -> Vec<Target<'_>> {
        vec![self.common.files.target()]
    }

    fn run(&self, cx: &Context) -> Result<Outcome> {
        let mut params = self.params()?;
        self.check_flags(&params, cx)?;
        let mut job = Job::begin(&self.common, OnUnsupported::Skip, cx)?;
        self.pin(&mut params.bits, &job.model, cx.console)?;
        let params = params.check()?;
        let judged = job.judged()?;
        let heading = job.data();
        let batches = job.batches()?;
        let Quantized { graph, report } =
            quantize(&job.model.graph, &job.shapes, &batches, &params, &cx.progress)?;
        drop(batches);
        let made = Made {
            graph,
            word: "quantized",
            settings: &self.settings(),
            is_timed: !self.no_bench,
            missed: &|_| None,
        };
        let proved = job.prove(made, &judged)?;
        let text = report::quantization(&report);
        proved.outcome(&self.common, (&heading, &text), ("quantization", json!(report)), None, cx)
    }
}
