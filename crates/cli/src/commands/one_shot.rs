//! What the commands have in common that change a trained model on samples, without training: they
//! read and calibrate, and prove what they wrote.

use super::model::{Model, file_name};
use super::proof::{self, Judge, Proof, ProofArgs, Subject};
use super::{Context, Outcome, Verdict, engine, provenance, samples};
use crate::args::{DataArgs, EvaluationArgs, ModelArgs, OnUnsupported, SamplingArgs, Shared};
use crate::input;
use crate::report::{self, Change, Sizes};
use crate::units;
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Instant;
use tensor_core::calibrate::Batches;
use tensor_core::data::Dataset;
use tensor_core::measure::{self, Choice};
use tensor_core::run::Array;
use tensor_core::text::counted;
use tensor_core::{Graph, Result, onnx};

/// Flags of all of them.
#[derive(Debug, Args, Serialize)]
pub(super) struct OneShotArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) files: ModelArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) data: DataArgs,
    #[command(flatten)]
    #[serde(flatten)]
    evaluation: EvaluationArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) sampling: SamplingArgs,
    #[command(flatten)]
    #[serde(flatten)]
    proof: ProofArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) shared: Shared,
}

/// A model with its samples, and an engine that is being looked for beside the work.
pub(super) struct Job<'a> {
    args: &'a OneShotArgs,
    cx: &'a Context<'a>,
    search: engine::Search,
    pub(super) model: Model,
    /// The calibration samples.
    pub(super) set: Dataset,
    /// Samples per forward pass.
    pub(super) batch: usize,
    pub(super) shapes: BTreeMap<String, Vec<usize>>,
    start: Instant,
}

/// What a command made.
pub(super) struct Made<'a> {
    pub(super) graph: Graph,
    /// What was done to the model, such as `pruned`.
    pub(super) word: &'static str,
    /// What decides about the result.
    pub(super) settings: &'a Value,
    /// Is it worth timing?
    pub(super) is_timed: bool,
    /// The goal that was not met, in words, for these sizes.
    pub(super) missed: &'a dyn Fn(&Change<Sizes>) -> Option<String>,
}

/// Share of samples with the same class below which a model is hardly of use without training.
const ALIKE: f64 = 0.8;

/// What was written and proved.
pub(super) struct Proved {
    word: &'static str,
    recipe: Value,
    seconds: f64,
    sizes: Change<Sizes>,
    uncounted: Vec<String>,
    pub(super) proof: Proof,
}

impl<'a> Job<'a> {
    /// Reads model and samples; `preset` holds where nothing was said about unknown operators.
    pub(super) fn begin(
        args: &'a OneShotArgs,
        preset: OnUnsupported,
        cx: &'a Context<'a>,
    ) -> Result<Self> {
        let read = |graph: &Graph| samples::calibration(&args.data, &args.shared, graph, cx);
        Self::begin_on(args, preset, &read, cx)
    }

    /// As [`begin`](Self::begin), with samples from elsewhere.
    pub(super) fn begin_on(
        args: &'a OneShotArgs,
        preset: OnUnsupported,
        read: &dyn Fn(&Graph) -> Result<Dataset>,
        cx: &'a Context<'a>,
    ) -> Result<Self> {
        let search = engine::Search::start(Choice::Auto);
        let model = Model::load(&args.files.model, &args.shared)?;
        model.apply_policy(&args.shared, preset, cx.console)?;
        if !args.shared.dry_run {
            onnx::check_target(&model.graph, &args.files.output)?;
        }
        let set = read(&model.graph)?;
        let batch = samples::batch(&args.data, &model)?;
        cx.console.detail(&format!("batches of {}", counted(batch, "sample")));
        let shapes = args.shared.shapes();
        Ok(Self { args, cx, search, model, set, batch, shapes, start: Instant::now() })
    }

    /// The samples that the result is judged on: looked at before any work, as they may not fit.
    pub(super) fn judged(&self) -> Result<Dataset> {
        // An engine that was named and cannot be had should be known before the work, too.
        measure::check_named()?;
        self.judge().samples(&self.model.graph, &self.set, self.cx.console)
    }

    fn judge(&self) -> Judge<'a> {
        Judge {
            data: &self.args.data,
            evaluation: &self.args.evaluation,
            asserts_drop: self.args.proof.assert_max_drop.is_some(),
            shared: &self.args.shared,
        }
    }

    /// The calibration samples as the graph takes them. The time of the work counts from here.
    pub(super) fn batches(&mut self) -> Result<Vec<Vec<Array>>> {
        let cx = self.cx;
        let batches = samples::arrays(&self.model.graph, &self.set, self.batch, &cx.progress)?;
        self.start = Instant::now();
        Ok(batches)
    }

    /// As [`batches`](Self::batches), of which each process holds some.
    pub(super) fn shared_batches(&mut self) -> Result<Batches> {
        let batches = samples::shared_arrays(&self.model.graph, &self.set, self.batch, self.cx)?;
        self.start = Instant::now();
        Ok(batches)
    }

    /// Where the samples come from, and how many they are.
    pub(super) fn data(&self) -> String {
        let samples = counted(self.set.len(), "sample");
        format!("data {} ({samples})", self.args.data.path().display())
    }

    /// Writes the result, checks and measures it.
    pub(super) fn prove(self, made: Made, judged: &Dataset) -> Result<Proved> {
        let seconds = self.start.elapsed().as_secs_f64();
        self.cx.console.note(&format!("{} in {seconds:.2} s", made.word));
        let judge = self.judge();
        let Self { args, cx, search, model, batch, shapes, .. } = self;
        let engine = search.end(cx.console)?;
        let Made { mut graph, word, settings, is_timed, missed } = made;
        let recipe = provenance::write(&mut graph, &args.files, settings, args.shared.seed)?;
        let before = (args.files.model.as_path(), &model.graph);
        let after = (args.files.output.as_path(), &graph);
        let (sizes, uncounted) = report::change(before, after, &shapes)?;
        let (files, proof) = (&args.files, &args.proof);
        let subject = Subject { judge, proof, files, made: &graph, set: judged, batch, word };
        let timed = is_timed.then_some(&sizes);
        let missed = missed(&sizes).into_iter().collect();
        let proof = proof::prove(&subject, &*engine, timed, missed, cx)?;
        if let Some(same) = proof.agreement().filter(|same| *same < ALIKE) {
            cx.console.warn(&format!(
                "the {word} model names another class than the original for {} of the samples: change it \
                 less, or train it",
                units::percent(1.0 - same)
            ));
        }
        Ok(Proved { word, recipe, seconds, sizes, uncounted, proof })
    }
}

impl Proved {
    /// What the command says: a heading, what it did to the model under its key, and parts that stand
    /// behind the sizes.
    pub(super) fn outcome(
        self,
        args: &OneShotArgs,
        (heading, report): (&str, &str),
        (key, did): (&str, Value),
        behind: Option<(&str, String, Value)>,
        cx: &Context,
    ) -> Result<Outcome> {
        let Self { word, recipe, seconds, sizes, uncounted, proof } = self;
        let files = &args.files;
        let sha256 = input::sha256(&files.output)?;
        let mut result = Map::new();
        result.insert("output".into(), json!({ "path": files.output, "sha256": sha256 }));
        result.insert("recipe".into(), recipe);
        result.insert("seconds".into(), json!((1000.0 * seconds).round() / 1000.0));
        result.insert("sizes".into(), json!(sizes));
        result.insert("uncounted".into(), json!(uncounted));
        let mut more = String::new();
        if let Some((key, text, value)) = behind {
            result.insert(key.into(), value);
            more = text;
        }
        result.insert(key.into(), did);
        result.insert("proof".into(), json!(proof));
        let text = format!(
            "{} -> {}\n{heading}\n\n{report}\n{}{more}\n{}\nreplay  {}\n",
            file_name(&files.model),
            files.output.display(),
            report::sizes(&sizes, &uncounted),
            proof.text(&sizes, word),
            cx.replay,
        );
        let verdict = if proof.failures.is_empty() { Verdict::Pass } else { Verdict::Fail };
        Ok(Outcome::new(text, Value::Object(result), verdict))
    }
}
