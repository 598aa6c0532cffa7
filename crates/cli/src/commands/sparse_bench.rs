//! `kerf bench --sparse`: our own executor with dense and with sparse weights.

use super::engine::{Own, own_name};
use super::latency::{self, Plan};
use super::{Context, Outcome, Verdict};
use crate::args::Shared;
use crate::report::{self, Weight};
use crate::table::Table;
use crate::units;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde_json::{Value, json};
use tensor_core::kernels::SparseForm;
use tensor_core::measure::latency::{Report, Settings, time_loaded};
use tensor_core::measure::{Named, Runner};
use tensor_core::run::{self, Session, SparseLayer};
use tensor_core::{Error, Graph, Result, cost};

/// Times a model in our own executor, with its weights as they are and without their zeros.
///
/// # Errors
/// When the model cannot be run.
pub(super) fn time(
    graph: &Graph,
    weight: Weight,
    plan: &Plan,
    least: Option<f64>,
    shared: &Shared,
    cx: &Context,
) -> Result<Outcome> {
    let threads = shared.threads.map_or(1, usize::from);
    let settings = Settings { runs: plan.runs, limit: plan.limit, threads, ..Settings::default() };
    let sparse = Session::new(graph)?.sparse()?;
    let layers = sparse.sparse_layers().to_vec();
    let mut runners: Vec<Box<dyn Runner + '_>> = vec![
        Box::new(Pooled::new(Own::new(graph)?, threads)?),
        Box::new(Pooled::new(Own::of(graph, sparse), threads)?),
    ];
    let mut reports = Vec::new();
    for &batch in plan.batches {
        let inputs = latency::inputs(graph, batch, shared)?;
        let names = ["dense", "sparse"];
        let report = time_loaded(own_name(), &names, &mut runners, &inputs, &settings)?;
        report::doubts(&report).iter().for_each(|doubt| cx.console.warn(doubt));
        reports.push(report);
    }
    let met = is_met(&reports, least);
    let multiplied = Weight { macs: multiplied(graph, weight.macs, &layers, shared)?, ..weight };
    let mut text = report::latency(&reports, &[weight, multiplied]);
    text.push_str(&table(graph, &layers).render());
    if let Some(least) = least {
        let word = if met { "met" } else { "not met" };
        text.push_str(&format!("goal  speed-up of at least {least:.2}x: {word}\n"));
    }
    let none = "no layer is sparse enough for the sparse kernels to be faster".to_owned();
    let result = json!({
        "latency": reports,
        "macs": [weight.macs, multiplied.macs],
        "sparse_layers": layers.iter().map(|layer| entry(graph, layer)).collect::<Vec<_>>(),
    });
    let verdict = if met { Verdict::Pass } else { Verdict::Fail };
    let hint = layers.is_empty().then_some(none);
    Ok(Outcome { hint, ..Outcome::new(text, result, verdict) })
}

/// Multiply-accumulates without those of zero weights that are left out, of `macs` in all.
fn multiplied(graph: &Graph, macs: u64, layers: &[SparseLayer], shared: &Shared) -> Result<u64> {
    let cost = cost::cost(graph, &run::infer(graph, &shared.shapes())?)?;
    let saved: f64 = layers
        .iter()
        .flat_map(|layer| {
            let rows = cost.nodes.iter().filter(|row| row.index == layer.node.index());
            rows.map(|row| row.macs as f64 * (1.0 - layer.density))
        })
        .sum();
    Ok((macs as f64 * (1.0 - saved / cost.macs.max(1) as f64)).round() as u64)
}

fn is_met(reports: &[Report], least: Option<f64>) -> bool {
    let mut speedups = reports.iter().flat_map(|r| &r.models).filter_map(|t| t.speedup);
    speedups.all(|speedup| speedup.median >= least.unwrap_or(0.0))
}

fn form(layer: &SparseLayer) -> &'static str {
    match layer.form {
        SparseForm::Single => "single weights",
        SparseForm::Quads => "blocks of 4 outputs",
    }
}

/// The layers that run sparse.
fn table(graph: &Graph, layers: &[SparseLayer]) -> Table {
    let mut table = Table::new(&["sparse layer", "operator", ">multiplied", "kept as"]);
    for layer in layers {
        let node = graph.node(layer.node);
        table.row([
            node.name.clone(),
            node.op.clone(),
            units::percent(layer.density),
            form(layer).to_owned(),
        ]);
    }
    table
}

fn entry(graph: &Graph, layer: &SparseLayer) -> Value {
    let node = graph.node(layer.node);
    json!({ "name": node.name, "op": node.op, "density": layer.density, "form": form(layer) })
}

/// A model that runs on threads of its own.
struct Pooled<'g> {
    own: Own<'g>,
    pool: ThreadPool,
}

impl<'g> Pooled<'g> {
    fn new(own: Own<'g>, threads: usize) -> Result<Self> {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|error| Error::internal(format!("no threads: {error}")))?;
        Ok(Self { own, pool })
    }
}

impl Runner for Pooled<'_> {
    fn outputs(&self) -> &[String] {
        self.own.outputs()
    }

    fn prepare(&mut self, inputs: &[Named]) -> Result<()> {
        self.own.prepare(inputs)
    }

    fn step(&mut self) -> Result<()> {
        let own = &mut self.own;
        self.pool.install(|| own.step())
    }

    fn run(&mut self, inputs: &[Named]) -> Result<Vec<Named>> {
        let own = &mut self.own;
        self.pool.install(|| own.run(inputs))
    }
}
