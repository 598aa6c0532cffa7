//! One file per command.

mod bench;
mod calibrate;
mod check;
mod completions;
mod compress;
mod cost;
mod engine;
mod eval;
mod explain;
mod factor;
mod gate;
mod groups;
mod inspect;
mod latency;
mod layerwise;
mod man;
mod model;
mod network;
mod new;
mod one_shot;
mod pack;
mod pareto;
mod proof;
mod provenance;
mod prune;
mod quantize;
mod report;
mod resume;
mod run;
mod samples;
mod schedule;
mod search;
mod sparse_bench;
mod sparsify;
mod statistics;
mod train;
mod unpack;
mod verify;
mod view;

use crate::args::Shared;
use crate::console::Console;
use crate::output;
use crate::progress::Reporter;
use crate::recipe::Table;
use clap::Subcommand;
use serde::Serialize;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tensor_core::Result;
use tensor_core::group::Group;

/// What was asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What is in the model? Layers, shapes, costs, and what can be pruned
    Inspect(inspect::InspectArgs),
    /// Will it work? Every problem at once
    Check(check::CheckArgs),
    /// Which channels are tied together, and why must some stay?
    Groups(groups::GroupsArgs),
    /// The graph with channels, bits and groups, in the terminal
    View(view::ViewArgs),
    /// How accurate is it?
    Eval(Box<eval::EvalArgs>),
    /// What pruning measures on samples, in a file, for any number of budgets
    Calibrate(Box<calibrate::CalibrateArgs>),
    /// Fewer channels under a budget, refitted on calibration data, with proof
    #[command(mut_arg("data", |arg| arg.required(false).required_unless_present("statistics")))]
    Prune(Box<prune::PruneArgs>),
    /// Many budgets from one calibration: models, a table and a drawing of cost against accuracy
    #[command(mut_arg("data", |arg| arg.required(false).required_unless_present("statistics")))]
    Pareto(Box<pareto::ParetoArgs>),
    /// Thin convolutions in place of wide ones under a budget, fitted on calibration data, with proof
    Factor(Box<factor::FactorArgs>),
    /// Exact zeros in the weights, the others refitted on calibration data, with proof
    Sparsify(Box<sparsify::SparsifyArgs>),
    /// Integers in place of floats, on calibration data, with proof
    Quantize(Box<quantize::QuantizeArgs>),
    /// Train a model from scratch or on, with checkpoints and resume
    Train(Box<train::TrainArgs>),
    /// Train a trained model a little further, such as after pruning
    Finetune(Box<train::TrainArgs>),
    /// Train a small model by larger ones, with or without labels
    #[command(
        mut_arg("model", |arg| arg.long("student").value_name("MODEL").help("The model that learns")),
        mut_arg("teacher", |arg| arg.required(true))
    )]
    Distill(Box<train::TrainArgs>),
    /// Fewer channels under a budget, switched off while the model trains, then cut without loss
    Gate(Box<gate::GateArgs>),
    /// What do layers cost on a device, by bits? Show, measure here, import
    Cost(Box<cost::CostArgs>),
    /// Bits per layer under a budget of latency, energy or size on a device
    Search(Box<search::SearchArgs>),
    /// A smaller, faster model under one goal: chooses, tries, measures, keeps the best
    Compress(Box<compress::CompressArgs>),
    /// The steps of a recipe, in order, with proof of what came of them
    Run(run::RunArgs),
    /// Go on with an interrupted run
    Resume(resume::ResumeArgs),
    /// What a run did, as one HTML page: goals, layers, errors, costs
    Report(report::ReportArgs),
    /// Are two models close enough?
    Verify(Box<verify::VerifyArgs>),
    /// Is it actually faster here?
    Bench(bench::BenchArgs),
    /// A sparse model as a small file, without loss
    Pack(pack::PackArgs),
    /// The model that was packed, byte for byte
    Unpack(unpack::UnpackArgs),
    /// A well-known network with initial weights
    New(new::NewArgs),
    /// How does sparsity rise over a run?
    Schedule(schedule::ScheduleArgs),
    /// Explain an error or lint code at length
    Explain(explain::ExplainArgs),
    /// What a shell needs to complete commands and flags
    Completions(completions::CompletionsArgs),
    /// Manual pages, one for each command
    Man(man::ManArgs),
}

impl Command {
    /// The task behind a sub-command.
    pub(crate) fn task(&self) -> &dyn Task {
        match self {
            Self::Inspect(args) => args,
            Self::Check(args) => args,
            Self::Groups(args) => args,
            Self::View(args) => args,
            Self::Eval(args) => &**args,
            Self::Calibrate(args) => &**args,
            Self::Prune(args) => &**args,
            Self::Factor(args) => &**args,
            Self::Pareto(args) => &**args,
            Self::Sparsify(args) => &**args,
            Self::Quantize(args) => &**args,
            Self::Train(args) | Self::Finetune(args) | Self::Distill(args) => &**args,
            Self::Gate(args) => &**args,
            Self::Cost(args) => &**args,
            Self::Search(args) => &**args,
            Self::Compress(args) => &**args,
            Self::Run(args) => args,
            Self::Resume(args) => args,
            Self::Report(args) => args,
            Self::Verify(args) => &**args,
            Self::Bench(args) => args,
            Self::Pack(args) => args,
            Self::Unpack(args) => args,
            Self::New(args) => args,
            Self::Schedule(args) => args,
            Self::Explain(args) => args,
            Self::Completions(args) => args,
            Self::Man(args) => args,
        }
    }
}

/// The arguments of a command as a document: what runs, replays and reports call its settings.
pub(crate) trait Settings {
    /// All arguments, resolved.
    fn settings(&self) -> Value;
}

impl<T: Serialize> Settings for T {
    fn settings(&self) -> Value {
        json!(self)
    }
}

/// A command with its arguments.
pub(crate) trait Task: Settings {
    /// The flags that every command has.
    fn shared(&self) -> &Shared;

    /// The model it reads, if any.
    fn model(&self) -> Option<&Path> {
        None
    }

    /// A second model it reads, if any.
    fn other_model(&self) -> Option<&Path> {
        None
    }

    /// Files and folders that it will write. They are checked before any work.
    fn outputs(&self) -> Vec<output::Target<'_>> {
        Vec::new()
    }

    /// The folder of its journal, if it has one.
    fn run_folder(&self) -> Option<&Path> {
        None
    }

    /// Does `--dry-run` have its own answer, from [`run`](Self::run)?
    fn plans(&self) -> bool {
        false
    }

    /// Can several processes share its work?
    fn is_shared(&self) -> bool {
        false
    }

    /// Checks what can be checked of the arguments alone, beyond what the parser does.
    ///
    /// # Errors
    /// What [`run`](Self::run) would say, too.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Does the work.
    ///
    /// # Errors
    /// Whatever keeps it from being done.
    fn run(&self, cx: &Context) -> Result<Outcome>;
}

/// What a command may use.
pub(crate) struct Context<'a> {
    /// Messages.
    pub(crate) console: &'a Console,
    /// Progress of long work, and Ctrl-C.
    pub(crate) progress: Reporter<'a>,
    /// The command line that repeats this run.
    pub(crate) replay: String,
    /// The same, argument by argument.
    pub(crate) arguments: &'a [OsString],
    /// The flags that were given, as a step of a recipe has them.
    pub(crate) given: Table,
    /// The processes that share the work. The first one writes and speaks.
    pub(crate) group: Group,
}

/// Was the goal met?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Every stated goal and check.
    Pass,
    /// Not all of them.
    Fail,
}

impl Verdict {
    /// As documents have it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
        }
    }
}

/// What a command found.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// For people, on stdout.
    pub(crate) text: String,
    /// The same for programs.
    pub(crate) result: Value,
    /// Was the goal met?
    pub(crate) verdict: Verdict,
    /// What to do next.
    pub(crate) hint: Option<String>,
    /// A run folder that is to hold the document, beside the one that the flags name.
    pub(crate) folder: Option<PathBuf>,
    /// Has the text colours, and nothing of a model that could steer a terminal?
    pub(crate) is_painted: bool,
}

impl Outcome {
    /// An answer without a goal.
    pub(crate) fn answer(text: String, result: Value) -> Self {
        Self::new(text, result, Verdict::Pass)
    }

    /// What was found, and whether the goal was met.
    pub(crate) fn new(text: String, result: Value, verdict: Verdict) -> Self {
        Self { text, result, verdict, hint: None, folder: None, is_painted: false }
    }

    /// That of a process that is not the first, which says what they found together.
    pub(crate) fn of_another() -> Self {
        Self::answer(String::new(), Value::Null)
    }

    /// With a run folder that is to hold the document.
    pub(crate) fn kept_in(self, folder: &Path) -> Self {
        Self { folder: Some(folder.to_owned()), ..self }
    }
}
