//! HAQ's agent, with a journal of its episodes.

use super::args::SearchArgs;
use crate::commands::Context;
use crate::input;
use quant_mixed::search::{Bits, Judgement, Problem, ShortTraining, Simulator, ddpg};
use serde_json::{Value, json};
use tensor_core::data::Dataset;
use tensor_core::journal::{Identity, Journal};
use tensor_core::run::Array;
use tensor_core::{Error, Result};

/// Samples that neither calibrate nor judge; those that calibrate where no others are left.
fn training(args: &SearchArgs, shuffled: &Dataset) -> Dataset {
    let calibration = args.calibration as usize;
    let is_apart = args.eval_data.is_some() || args.data.is_held_out();
    let judging = if is_apart { 0 } else { args.eval_samples as usize };
    let rest = shuffled.without_first(calibration + judging);
    if rest.is_empty() { shuffled.first(calibration) } else { rest }
}

/// The agent's search, which goes on with the episodes of its run folder. Allocations are judged as
/// they are, or after a short training.
pub(super) fn search(
    args: &SearchArgs,
    (problem, simulator): (&Problem, &Simulator),
    (calibration, shuffled, batch): (&[Vec<Array>], &Dataset, usize),
    float: Judgement,
    cx: &Context,
) -> Result<ddpg::Found> {
    let trained = args.episode_steps.map(|steps| (steps, training(args, shuffled)));
    let mut judge = |bits: &[Bits]| match &trained {
        Some((steps, data)) => {
            let (steps, seed) = (*steps, args.shared.seed);
            ShortTraining { simulator, calibration, data, steps, batch, seed }.judge(bits)
        }
        None => simulator.judge(bits),
    };
    let params = args.ddpg(float.score.is_some());
    let Some(folder) = &args.run else {
        let mut ignore = |_: &ddpg::Episode| Ok(());
        return ddpg::search(problem, &params, float, &[], &mut judge, &mut ignore, &cx.progress);
    };
    let (mut journal, entries) = Journal::open(folder, "search", &identity(args, problem, float)?)?;
    let known = entries.iter().map(read_judgement).collect::<Result<Vec<Judgement>>>()?;
    let mut write = |episode: &ddpg::Episode| journal.append(&json!(episode));
    ddpg::search(problem, &params, float, &known, &mut judge, &mut write, &cx.progress)
}

fn read_judgement(entry: &Value) -> Result<Judgement> {
    serde_json::from_value(entry.clone()).map_err(|error| {
        Error::invalid(format!("an episode of the journal has no judgement: {error}"))
            .code_is("E0404")
    })
}

/// Everything that determines the episodes; their number only says where they end.
fn identity(args: &SearchArgs, problem: &Problem, float: Judgement) -> Result<Identity> {
    let mut identity = Identity::new();
    let mut add = |name: &str, value: Value| identity.insert(name.to_owned(), value);
    add("kerf", json!(env!("CARGO_PKG_VERSION")));
    add("model", json!(input::sha256(&args.model)?));
    add("data", json!(input::fingerprint(args.data.path())?));
    let eval_data = args.eval_data.as_deref().map(input::fingerprint).transpose()?;
    add("eval_data", json!(eval_data));
    add("samples", json!([args.calibration, args.eval_samples]));
    add("episode_steps", json!(args.episode_steps));
    add("preparation", args.data.preparation()?);
    add("shapes", json!(args.shared.shapes()));
    add("float", json!(float));
    add("device", json!(problem.device()));
    add("budget", json!(problem.limits()));
    add("full", json!(problem.full()));
    add("space", json!(problem.params()));
    let params = ddpg::DdpgParams { episodes: 0, ..args.ddpg(float.score.is_some()) };
    add("agent", json!(params));
    Ok(identity)
}
