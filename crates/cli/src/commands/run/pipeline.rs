//! Runs the steps of a recipe and judges the last model against the first.

use super::super::{Context, Outcome, Verdict, provenance};
use super::journal::{Done, Log};
use super::judge::{self, Measured};
use crate::app::Finished;
use crate::args::Shared;
use crate::output::{self, Target};
use crate::recipe::{Call, Made, Place, Recipe, Step};
use crate::{input, resume, shell, written};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tensor_core::files::write_whole;
use tensor_core::text::counted;
use tensor_core::{Error, ErrorKind, Result, onnx};

/// A recipe and where it runs.
pub(crate) struct Pipeline<'a> {
    pub(crate) recipe: Recipe,
    pub(crate) model: PathBuf,
    pub(crate) output: PathBuf,
    /// May it replace an existing output?
    pub(crate) force: bool,
    /// Journal, and a folder for each step.
    pub(crate) folder: PathBuf,
    pub(crate) shared: &'a Shared,
}

/// A recipe that has been run.
pub(crate) struct Ran {
    pub(crate) outcome: Outcome,
    /// Absent where a step ended the run.
    pub(crate) measured: Option<Measured>,
}

/// What the steps made so far.
struct Chain {
    /// The model of the last step.
    model: PathBuf,
    /// Names of steps, and what they made.
    made: Vec<(String, PathBuf)>,
    /// What the journal says of them.
    done: Vec<Done>,
}

impl Pipeline<'_> {
    /// What would be done.
    pub(crate) fn plan(&self) -> Result<Outcome> {
        let steps = self.recipe.steps()?;
        judge::Judging::of(&self.recipe)?;
        let mut chain = self.chain();
        let mut lines = Vec::new();
        for step in &steps {
            let call = self.call(step, &chain)?;
            lines.push(shell::replay(&call.arguments));
            chain.follow(step, call.output);
        }
        let text = format!(
            "{} in {}\n  {}\nthen {}\n",
            counted(steps.len(), "step"),
            self.folder.display(),
            lines.join("\n  "),
            self.output.display()
        );
        Ok(Outcome::answer(text, json!({ "dry_run": true, "steps": lines })))
    }

    /// Runs what the journal does not have yet, and judges the result.
    pub(crate) fn run(&self, cx: &Context) -> Result<Ran> {
        let steps = self.recipe.steps()?;
        let judging = judge::Judging::of(&self.recipe)?;
        let mut log = Log::open(self, &steps)?;
        resume::remember(&self.folder, cx.arguments)?;
        let force = self.force || written::is_own(Some(&self.folder), &self.output);
        output::check(Target::File { path: &self.output, force }, &[&self.model])?;
        let text = self.text()?;
        write_whole(&self.folder.join("recipe.toml"), |part| fs::write(part, text))?;
        let mut chain = self.chain();
        for (at, step) in steps.iter().enumerate() {
            let call = self.call(step, &chain)?;
            let done = match log.done(step, &call.output)? {
                Some(done) => done,
                None => {
                    cx.console.note(&format!("step {} of {}: {}", at + 1, steps.len(), step.name));
                    let done = self.perform(step, &call, cx)?;
                    log.add(&done)?;
                    done
                }
            };
            let failed = done.failed();
            chain.follow(step, call.output);
            chain.done.push(done);
            // What follows would be built on what was not reached.
            if failed {
                return Ok(Ran { outcome: self.stopped(step, &chain), measured: None });
            }
        }
        self.finish(&chain, &judging, cx)
    }

    fn chain(&self) -> Chain {
        Chain { model: self.model.clone(), made: Vec::new(), done: Vec::new() }
    }

    fn call(&self, step: &Step, chain: &Chain) -> Result<Call> {
        step.call(&Place {
            folder: &self.folder.join(&step.name),
            model: &chain.model,
            original: &self.model,
            made: &chain.made,
            threads: self.shared.threads,
        })
    }

    /// The recipe as it is run, with what the command line replaced.
    fn text(&self) -> Result<String> {
        self.recipe.between(&self.model, &self.output).text()
    }

    /// Runs one step; its document goes into its folder.
    fn perform(&self, step: &Step, call: &Call, cx: &Context) -> Result<Done> {
        let folder = self.folder.join(&step.name);
        fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, &error))?;
        let start = Instant::now();
        let Finished { document, text, verdict, .. } =
            call.run(cx.console).map_err(|error| self.within(step, error, cx))?;
        let seconds = start.elapsed().as_secs_f64();
        write_whole(&folder.join("report.json"), |part| fs::write(part, document))?;
        write_whole(&folder.join("report.txt"), |part| fs::write(part, text))?;
        Done::new(step, &call.output, verdict, seconds)
    }

    /// An error of a step, with the step, and how to go on after an interruption.
    fn within(&self, step: &Step, error: Error, cx: &Context) -> Error {
        match error.kind() {
            ErrorKind::Interrupted => error.hint(format!("go on with\n  {}", cx.replay)),
            _ => in_step(&error, step),
        }
    }

    /// A step that did not reach its goals.
    fn stopped(&self, step: &Step, chain: &Chain) -> Outcome {
        let report = self.folder.join(&step.name).join("report.txt");
        let text =
            format!("{}\nnot met  {}: see {}\n", chain.table(), step.title(), report.display());
        let failures = [format!("{} did not reach its goals", step.title())];
        let result = json!({ "steps": chain.done, "failures": failures });
        Outcome::new(text, result, Verdict::Fail)
    }

    /// Writes the last model to its place and judges it.
    fn finish(&self, chain: &Chain, judging: &judge::Judging, cx: &Context) -> Result<Ran> {
        let mut graph = onnx::read(&chain.model)?;
        let recipe = self.recipe_value()?;
        provenance::stamp(&mut graph, &recipe, &input::sha256(&self.model)?, self.recipe.seed);
        onnx::write(&graph, &self.output)?;
        written::remember(&self.folder, &self.output)?;
        let judged = judging.judge((&self.model, &self.output), self.shared, cx)?;
        let text = format!(
            "{} -> {}\n\n{}\n{}\nreplay  {}\n",
            self.model.display(),
            self.output.display(),
            chain.table(),
            judged.text,
            cx.replay
        );
        let mut result = json!({
            "output": { "path": self.output, "sha256": input::sha256(&self.output)? },
            "run": self.folder,
            "recipe": recipe,
            "steps": chain.done,
        });
        for (key, value) in judged.result {
            result[key] = value;
        }
        let met = judged.measured.failures.is_empty();
        let verdict = if met { Verdict::Pass } else { Verdict::Fail };
        let outcome = Outcome::new(text, result, verdict);
        Ok(Ran { outcome, measured: Some(judged.measured) })
    }

    /// What the result depends on, beside its inputs.
    fn recipe_value(&self) -> Result<Value> {
        let steps = self.recipe.steps()?;
        let steps: Vec<Value> =
            steps.iter().map(|step| json!({ "kind": step.kind, "flags": step.table() })).collect();
        Ok(json!({ "steps": steps }))
    }
}

impl Chain {
    fn follow(&mut self, step: &Step, output: PathBuf) {
        if step.made == Made::Model {
            self.model.clone_from(&output);
        }
        self.made.push((step.name.clone(), output));
    }

    /// What every step took and made.
    fn table(&self) -> String {
        let mut table = crate::table::Table::new(&["step", "verdict", ">seconds", ">file"]);
        for done in &self.done {
            table.row(done.row());
        }
        table.render()
    }
}

/// The same error, with the step that it comes from.
fn in_step(error: &Error, step: &Step) -> Error {
    let message = format!("{}: {}", step.title(), error.message());
    let mut named = Error::new(error.kind(), error.code(), message);
    if let Some(node) = error.node() {
        named = named.in_node(node);
    }
    if let Some(hint) = error.hint_text() {
        named = named.hint(hint);
    }
    named
}

/// Bytes of a file, 0 where there is none.
pub(super) fn file_bytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}
