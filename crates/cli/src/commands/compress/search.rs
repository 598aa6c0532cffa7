//! The loop over trials, with its journal; the best result so far is always on disk.

use super::super::run::Pipeline;
use super::super::{Context, Outcome};
use super::CompressArgs;
use super::means::{self, Flags};
use super::propose::{self, Means};
use super::trial::Trial;
use super::variant::Variant;
use crate::recipe::{Place, Recipe, Table};
use crate::{app, input, written};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tensor_core::files::write_whole;
use tensor_core::journal::Journal;
use tensor_core::{Error, ErrorKind, Result, onnx};

/// Samples of which one pass tells how long training takes.
const PILOT: i64 = 512;

/// A run of `kerf compress`.
pub(super) struct Search<'a> {
    args: &'a CompressArgs,
    output: &'a Path,
    folder: &'a Path,
    cx: &'a Context<'a>,
    flags: Flags,
    /// Samples that training takes.
    samples: usize,
    journal: Journal,
    trials: Vec<Trial>,
    seconds_per_epoch: Option<f64>,
}

/// What would be tried first, and by which rule it goes on.
pub(super) fn plan(
    args: &CompressArgs,
    output: &Path,
    folder: &Path,
    cx: &Context,
) -> Result<Outcome> {
    let graph = onnx::read(&args.model)?;
    let (flags, _) = Flags::of(args, &graph, cx)?;
    let means = Means { epochs: means::epochs(args, None) };
    let (variant, why) =
        propose::next(&args.goal, &[], means).ok_or_else(|| Error::internal("no first trial"))?;
    let pipeline = pipeline(args, &flags, &variant, output.to_owned(), folder.to_owned());
    let first = pipeline.plan()?;
    let text = format!(
        "first  {}: {why}\n{}then   shares to keep and fewer bits, as what was measured says, in up to {} trials\n",
        variant.name(),
        first.text,
        args.trials
    );
    Ok(Outcome::answer(
        text,
        json!({ "dry_run": true, "first": variant, "steps": first.result["steps"] }),
    ))
}

fn pipeline<'a>(
    args: &'a CompressArgs,
    flags: &Flags,
    variant: &Variant,
    output: PathBuf,
    folder: PathBuf,
) -> Pipeline<'a> {
    let steps = variant.steps(&flags.calibration);
    let recipe = Recipe::new(args.shared.seed, flags.data.clone(), steps, flags.goal.clone());
    Pipeline {
        recipe,
        model: args.model.clone(),
        output,
        force: true,
        folder,
        shared: &args.shared,
    }
}

impl<'a> Search<'a> {
    /// Opens the run folder and reads what is done.
    pub(super) fn open(
        args: &'a CompressArgs,
        output: &'a Path,
        folder: &'a Path,
        cx: &'a Context<'a>,
    ) -> Result<Self> {
        let graph = onnx::read(&args.model)?;
        let (flags, samples) = Flags::of(args, &graph, cx)?;
        let (journal, entries) = Journal::open(folder, "compress", &identity(args, &flags)?)?;
        let mut trials = Vec::new();
        let mut seconds_per_epoch = None;
        for entry in entries {
            if let Some(seconds) = entry["seconds_per_epoch"].as_f64() {
                seconds_per_epoch = Some(seconds);
                continue;
            }
            let trial = serde_json::from_value(entry).map_err(|error| {
                Error::invalid(format!("{}: {error}", folder.display())).code_is("E0404")
            })?;
            trials.push(trial);
        }
        Ok(Self { args, output, folder, cx, flags, samples, journal, trials, seconds_per_epoch })
    }

    /// Makes trials until none is left that could be better.
    pub(super) fn run(&mut self) -> Result<()> {
        // What an interruption may have kept from being written.
        self.keep_best()?;
        while self.trials.len() < self.args.trials as usize {
            if means::needs_pilot(self.args) && self.seconds_per_epoch.is_none() {
                self.pilot()?;
            }
            let means = Means { epochs: means::epochs(self.args, self.seconds_per_epoch) };
            let Some((variant, why)) = propose::next(&self.args.goal, &self.trials, means) else {
                break;
            };
            if !self.is_time_left(&variant) {
                break;
            }
            let trial = self.try_out(variant, why)?;
            self.journal.append(&json!(trial))?;
            self.trials.push(trial);
            self.keep_best()?;
        }
        Ok(())
    }

    /// All trials.
    pub(super) fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// The best trial that could be made.
    ///
    /// # Errors
    /// `E0601` when none could.
    pub(super) fn best(&self) -> Result<&Trial> {
        let made = self.trials.iter().filter(|trial| trial.measured.is_some());
        let best = made.reduce(|best, trial| match trial.beats(best, &self.args.goal) {
            true => trial,
            false => best,
        });
        best.ok_or_else(|| {
            let errors: Vec<&str> =
                self.trials.iter().filter_map(|trial| trial.error.as_deref()).collect();
            Error::new(
                ErrorKind::Invalid,
                "E0601",
                format!("no trial could be made: {}", errors.join("; ")),
            )
            .hint("`kerf check MODEL` lists what keeps the model from being compressed")
        })
    }

    /// Is there time for a trial as long as the longest of its kind so far?
    fn is_time_left(&self, variant: &Variant) -> bool {
        let Some(time) = self.args.time else { return true };
        if self.trials.is_empty() {
            return true;
        }
        let longest = |of: &dyn Fn(&Trial) -> bool| {
            let own = self.trials.iter().filter(|trial| of(trial));
            own.map(|trial| trial.seconds).reduce(f64::max)
        };
        let trained = |trial: &Trial| trial.variant.epochs > 0;
        let expected = match variant.epochs {
            0 => longest(&|trial| !trained(trial)),
            epochs => longest(&trained).or_else(|| {
                let training = self.seconds_per_epoch? * f64::from(epochs);
                Some(training + longest(&|_| true)?)
            }),
        };
        let spent: f64 = self.trials.iter().map(|trial| trial.seconds).sum();
        spent + expected.unwrap_or(0.0) <= time
    }

    /// Measures how long a pass of training takes.
    fn pilot(&mut self) -> Result<()> {
        let mut step = Table::new();
        step.insert("kind".into(), toml::Value::String("finetune".into()));
        step.insert("teacher".into(), toml::Value::String("@model".into()));
        step.insert("epochs".into(), toml::Value::Integer(1));
        step.insert("samples".into(), toml::Value::Integer(PILOT));
        step.insert("no_verify".into(), toml::Value::Boolean(true));
        let mut data = self.flags.data.clone();
        for key in ["eval_data", "eval_labels", "hold_out"] {
            data.remove(key);
        }
        let recipe = Recipe::new(self.args.shared.seed, data, vec![step], Table::new());
        let folder = self.folder.join("pilot");
        fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, &error))?;
        let place = Place {
            folder: &folder,
            model: &self.args.model,
            original: &self.args.model,
            made: &[],
            threads: self.args.shared.threads,
        };
        let steps = recipe.steps()?;
        let step = steps.first().ok_or_else(|| Error::internal("a pilot without a step"))?;
        let call = step.call(&place)?;
        let start = Instant::now();
        call.run(self.cx.console)?;
        let seconds = start.elapsed().as_secs_f64();
        let pass = seconds * self.samples as f64 / PILOT as f64;
        self.journal.append(&json!({ "seconds_per_epoch": pass }))?;
        self.seconds_per_epoch = Some(pass);
        Ok(())
    }

    /// Runs the recipe of a variant in a folder of its own.
    fn try_out(&self, variant: Variant, why: String) -> Result<Trial> {
        let name = variant.name();
        self.cx.console.note(&format!("trial {}: {name} ({why})", self.trials.len() + 1));
        let folder = self.place(&variant);
        let output = folder.join("model.onnx");
        let start = Instant::now();
        let pipeline = pipeline(self.args, &self.flags, &variant, output.clone(), folder);
        let ran = match pipeline.run(self.cx) {
            Ok(ran) => Ok(ran),
            Err(error) if is_of_the_trial(&error) => Err(error.to_string()),
            Err(error) => return Err(self.advise(error)),
        };
        let seconds = start.elapsed().as_secs_f64();
        let (measured, error) = match ran {
            Ok(ran) => {
                let folder = self.place(&variant);
                let command = format!("kerf run {}", folder.join("recipe.toml").display());
                let document = app::recipe_document(&self.args.model, &command, &ran.outcome)?;
                app::write_report(&folder, &document)?;
                (ran.measured, None)
            }
            Err(error) => (None, Some(error)),
        };
        let sha256 = measured.as_ref().map(|_| input::sha256(&output)).transpose()?;
        Ok(Trial { variant, why, measured, error, seconds, sha256 })
    }

    fn place(&self, variant: &Variant) -> PathBuf {
        self.folder.join("trials").join(variant.name())
    }

    fn advise(&self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::Interrupted => {
                error.hint(format!("go on with\n  kerf resume {}", self.folder.display()))
            }
            _ => error,
        }
    }

    /// Writes the best result so far, and the recipe that makes it.
    fn keep_best(&self) -> Result<()> {
        let Ok(best) = self.best() else { return Ok(()) };
        let folder = self.place(&best.variant);
        let made = folder.join("model.onnx");
        let bytes = fs::read(&made).map_err(|error| Error::io(&made, &error))?;
        // First the note: what is written next is ours.
        written::remember(self.folder, &made)?;
        write_whole(self.output, |part| fs::write(part, bytes))?;
        let pipeline =
            pipeline(self.args, &self.flags, &best.variant, self.output.to_owned(), folder);
        let text = pipeline.recipe.between(&self.args.model, self.output).text()?;
        write_whole(&self.folder.join("recipe.toml"), |part| fs::write(part, text))
    }
}

/// Is it this way to a smaller model that does not work, and not the model, the data or the machine?
fn is_of_the_trial(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Infeasible | ErrorKind::Unsupported)
}

/// What determines the result.
fn identity(args: &CompressArgs, flags: &Flags) -> Result<Map<String, Value>> {
    let mut identity = Map::new();
    identity.insert("version".into(), env!("CARGO_PKG_VERSION").into());
    identity.insert("model".into(), input::sha256(&args.model)?.into());
    identity.insert("data".into(), input::fingerprint(args.data.path())?.into());
    let eval_data = args.evaluation.eval_data.as_deref().map(input::fingerprint).transpose()?;
    identity.insert("eval_data".into(), json!(eval_data));
    identity.insert("preparation".into(), args.data.preparation()?);
    identity.insert("flags".into(), json!([flags.data, flags.calibration, flags.goal]));
    let effort = json!([args.trains(), args.epochs, args.time, args.trials]);
    identity.insert("effort".into(), effort);
    identity.insert("seed".into(), args.shared.seed.into());
    Ok(identity)
}
