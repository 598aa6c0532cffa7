//! The result of a recipe against the model that it began with.

use super::super::proof::{self, Judge, Proof, ProofArgs, Subject};
use super::super::{Context, engine, samples};
use crate::args::{DataArgs, GoalArgs, ModelArgs, Shared};
use crate::recipe::{Recipe, flags_of, parsed};
use crate::report::{self, Change, Sizes};
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
    /// Bytes of the file.
    pub(crate) file_bytes: (u64, u64),
    /// Multiply-accumulates.
    pub(crate) macs: (u64, u64),
    /// Median latency of one sample; absent where it could not be measured.
    pub(crate) latency_us: Option<(f64, f64)>,
    /// Top-1 accuracy; absent without labels.
    pub(crate) accuracy: Option<(f64, f64)>,
    /// Share of samples for which both name the same class.
    pub(crate) agreement: Option<f64>,
    /// Goals that were not met, in words.
    pub(crate) failures: Vec<String>,
}

impl Measured {
    fn of(sizes: &Change<Sizes>, proof: &Proof) -> Self {
        let (before, after) = (sizes.before, sizes.after);
        Self {
            file_bytes: (before.file_bytes, after.file_bytes),
            macs: (before.macs, after.macs),
            latency_us: proof.single_latency_us(),
            accuracy: proof.accuracy(),
            agreement: proof.agreement(),
            failures: proof.failures.clone(),
        }
    }
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
        let judge = Judge { data: &self.flags.data, proof: &self.flags.proof, shared };
        let set = samples::calibration(&self.flags.data, shared, &original, cx)?;
        let set = judge.samples(&original, &set, cx.console)?;
        measure::check_named()?;
        let engine = engine::foreign(Choice::Auto, cx.console)?;
        let shapes = shared.shapes();
        let (sizes, uncounted) = report::change((model, &original), (output, &made), &shapes)?;
        let batch = self.flags.data.batch(&original);
        let subject =
            Subject { judge, files: &files, made: &made, set: &set, batch, word: "result" };
        let mut proof = proof::prove(&subject, &*engine, Some(&sizes), Vec::new(), cx)?;
        let missed = self.missed(&sizes, &proof);
        proof.failures.extend(missed);
        let text =
            format!("{}\n{}", report::sizes(&sizes, &uncounted), proof.text(&sizes, "result"));
        let mut result = Map::new();
        result.insert("goal".into(), json!(self.goal));
        result.insert("sizes".into(), json!(sizes));
        result.insert("uncounted".into(), json!(uncounted));
        result.insert("proof".into(), json!(proof));
        Ok(Judged { text, result, measured: Measured::of(&sizes, &proof) })
    }

    /// Goals that were not met, in words. The drop of accuracy is among those of the proof.
    fn missed(&self, sizes: &Change<Sizes>, proof: &Proof) -> Vec<String> {
        let goal = &self.goal;
        let mut missed = Vec::new();
        let (before, after) = (sizes.before, sizes.after);
        for (what, kept, before, after) in [
            ("file", goal.size, before.file_bytes, after.file_bytes),
            ("multiply-accumulates", goal.macs, before.macs, after.macs),
        ] {
            if let Some(most) = kept
                && after as f64 > most * before as f64
            {
                missed.push(format!(
                    "{what}: {} of the original's, more than {}",
                    units::share(after, before),
                    units::percent(most)
                ));
            }
        }
        if let Some(most) = goal.max_size
            && after.file_bytes > most
        {
            let (found, most) = (units::bytes(after.file_bytes), units::bytes(most));
            missed.push(format!("the file has {found}, more than {most}"));
        }
        missed.extend(self.too_slow(proof));
        if let Some(least) = goal.min_agreement {
            match proof.agreement() {
                Some(found) if found >= least => {}
                Some(found) => missed.push(format!(
                    "top-1 agreement is {}, less than {}",
                    units::percent_fine(found),
                    units::percent(least)
                )),
                None => missed.push("the top-1 agreement could not be measured".to_owned()),
            }
        }
        missed
    }

    fn too_slow(&self, proof: &Proof) -> Option<String> {
        if !self.goal.is_timed() {
            return None;
        }
        let Some((before, after)) = proof.single_latency_us() else {
            return Some("the latency could not be measured".to_owned());
        };
        let relative = self.goal.latency.map(|share| share * before);
        let most = [relative, self.goal.max_latency].into_iter().flatten().reduce(f64::min)?;
        (after > most).then(|| {
            let ms = |us: f64| units::milliseconds(us / 1000.0);
            format!("latency is {}, more than {} (original {})", ms(after), ms(most), ms(before))
        })
    }
}
