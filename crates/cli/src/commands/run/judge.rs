//! The result of a recipe against the model that it began with.

use super::super::proof::{self, Judge, Proof, ProofArgs, Subject};
use super::super::{Context, engine, samples};
use crate::args::{DataArgs, EvaluationArgs, GoalArgs, Limit, ModelArgs, Shared, Weighed};
use crate::recipe::{Recipe, flags_of, parsed};
use crate::report;
use crate::units;
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::path::Path;
use tensor_core::measure::{self, Choice};
use tensor_core::{Result, onnx};

/// What `[data]` and `[goal]` say.
pub(super) struct Judging {
    flags: JudgedArgs,
    goal: GoalArgs,
}

#[derive(Debug, Args)]
pub(crate) struct JudgedArgs {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    evaluation: EvaluationArgs,
    #[command(flatten)]
    proof: ProofArgs,
}

/// What came out.
pub(super) struct Judged {
    pub(super) text: String,
    pub(super) result: Map<String, Value>,
    pub(super) measured: Measured,
}

/// The original's numbers and the result's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// What both take.
    #[serde(flatten)]
    pub(crate) weighed: Weighed,
    /// Top-1 accuracy; absent without labels.
    pub(crate) accuracy: Option<(f64, f64)>,
    /// Share of samples for which both name the same class.
    pub(crate) agreement: Option<f64>,
    /// Goals that were not met, in words.
    pub(crate) failures: Vec<String>,
}

impl Judging {
    /// Reads both tables.
    ///
    /// # Errors
    /// `E0011`, `E0012` as those of steps.
    pub(super) fn of(recipe: &Recipe) -> Result<Self> {
        let goal: GoalArgs = parsed(&recipe.goal, "goal")?;
        let mut flags: JudgedArgs = parsed(&flags_of::<JudgedArgs>(&recipe.data), "data")?;
        flags.proof.assert_max_drop = goal.max_drop;
        Ok(Self { flags, goal })
    }

    /// Compares sizes, outputs, latency.
    pub(super) fn judge(
        &self,
        (model, output): (&Path, &Path),
        shared: &Shared,
        cx: &Context,
    ) -> Result<Judged> {
        let (original, made) = (onnx::read(model)?, onnx::read(output)?);
        let files = ModelArgs { model: model.to_owned(), output: output.to_owned(), force: true };
        let JudgedArgs { data, evaluation, proof } = &self.flags;
        let asserts_drop = proof.assert_max_drop.is_some();
        let judge = Judge { data, evaluation, asserts_drop, shared };
        let set = samples::calibration(&self.flags.data, shared, &original, cx)?;
        let set = judge.samples(&original, &set, cx.console)?;
        measure::check_named()?;
        let engine = engine::foreign(Choice::Auto, cx.console)?;
        let shapes = shared.shapes();
        let (sizes, uncounted) = report::change((model, &original), (output, &made), &shapes)?;
        let batch = self.flags.data.batch(&original);
        let subject =
            Subject { judge, proof, files: &files, made: &made, set: &set, batch, word: "result" };
        let mut proof = proof::prove(&subject, &*engine, Some(&sizes), Vec::new(), cx)?;
        let weighed = Weighed {
            file_bytes: (sizes.before.file_bytes, sizes.after.file_bytes),
            macs: (sizes.before.macs, sizes.after.macs),
            latency_us: proof.single_latency_us(),
        };
        let limits = self.goal.limits(&weighed);
        let missed = limits.iter().filter_map(Limit::missed).chain(self.disagreement(&proof));
        let missed: Vec<String> = missed.collect();
        proof.failures.extend(missed);
        let measured = Measured {
            weighed,
            accuracy: proof.accuracy(),
            agreement: proof.agreement(),
            failures: proof.failures.clone(),
        };
        let text =
            format!("{}\n{}", report::sizes(&sizes, &uncounted), proof.text(&sizes, "result"));
        let mut result = Map::new();
        result.insert("goal".into(), json!(self.goal));
        result.insert("sizes".into(), json!(sizes));
        result.insert("uncounted".into(), json!(uncounted));
        result.insert("proof".into(), json!(proof));
        Ok(Judged { text, result, measured })
    }

    /// Says so when both name the same class for too few samples. The drop of accuracy is among the
    /// goals of the proof.
    fn disagreement(&self, proof: &Proof) -> Option<String> {
        let least = self.goal.min_agreement?;
        match proof.agreement() {
            Some(found) if found >= least => None,
            Some(found) => Some(format!(
                "top-1 agreement is {}, less than {}",
                units::percent_fine(found),
                units::percent(least)
            )),
            None => Some("the top-1 agreement could not be measured".to_owned()),
        }
    }
}
