//! Timing models in turn on random inputs.

use super::{Context, engine};
use crate::args::{Shared, fixed_batch};
use crate::report::{Weight, doubts};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;
use tensor_core::graph::Dim;
use tensor_core::measure::latency::{self, Candidate, Report, Settings};
use tensor_core::measure::{Choice, Named};
use tensor_core::progress::{self, Progress};
use tensor_core::run::Facts;
use tensor_core::{Error, Graph, Result, cost, onnx, random, run};

/// A model to time.
pub(super) struct Timed {
    /// Name for tables.
    pub(super) name: String,
    bytes: Vec<u8>,
    graph: Graph,
}

impl Timed {
    /// Reads a model.
    pub(super) fn read(name: &str, path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|error| Error::io(path, &error))?;
        Ok(Self { name: name.to_owned(), bytes, graph: onnx::read(path)? })
    }

    /// Costs at one sample, and the size of the file.
    pub(super) fn weight(&self, shapes: &BTreeMap<String, Vec<usize>>) -> Result<Weight> {
        let facts = run::infer(&self.graph, shapes)?;
        let cost = cost::cost(&self.graph, &facts)?;
        let samples = self.batch(&facts).max(1) as u64;
        Ok(Weight { macs: cost.macs / samples, file_bytes: self.bytes.len() as u64 })
    }

    /// The model.
    pub(super) fn graph(&self) -> &Graph {
        &self.graph
    }

    fn batch(&self, facts: &Facts) -> usize {
        let first = self.graph.inputs.first().and_then(|&input| facts.dims(input));
        first.and_then(|dims| dims.first()).copied().unwrap_or(1)
    }
}

/// How long and on what to measure.
pub(super) struct Plan<'a> {
    /// The engine.
    pub(super) engine: Choice,
    /// Batch sizes.
    pub(super) batches: &'a [usize],
    /// Timed runs per model and batch size.
    pub(super) runs: usize,
    /// Time per batch size.
    pub(super) limit: Duration,
}

/// Times the models in turn, the first one as the base, at each batch size.
pub(super) fn measure(
    models: &[Timed],
    plan: &Plan,
    shared: &Shared,
    cx: &Context,
) -> Result<Vec<Report>> {
    let engine = engine::foreign(plan.engine, cx.console)?;
    let threads = shared.threads.map_or(1, usize::from);
    let settings = Settings { runs: plan.runs, limit: plan.limit, threads, ..Settings::default() };
    let candidates: Vec<_> =
        models.iter().map(|model| Candidate { name: &model.name, model: &model.bytes }).collect();
    let mut reports = Vec::new();
    cx.progress.stage("time", plan.batches.len());
    for &batch in plan.batches {
        progress::check(&cx.progress)?;
        let Some(model) = models.first() else { break };
        let inputs = inputs(&model.graph, batch, shared)?;
        let report = latency::measure(&*engine, &candidates, &inputs, &settings)?;
        for doubt in doubts(&report) {
            cx.progress.warn(&doubt);
        }
        reports.push(report);
        cx.progress.item(&format!("batch {batch}"));
    }
    Ok(reports)
}

/// Uniform random inputs in 0..1; integers are zero, which is a valid index.
pub(super) fn inputs(graph: &Graph, batch: usize, shared: &Shared) -> Result<Vec<Named>> {
    let facts = run::infer(graph, &shared.shapes())?;
    let mut rng = random::stream(shared.seed, "latency inputs");
    let mut inputs = Vec::new();
    for &input in &graph.inputs {
        let name = graph.name(input);
        let Some(fact) = facts.get(input) else { continue };
        let mut dims = fact.dims.clone();
        if let Some(first) = dims.first_mut() {
            let declared = graph.declared(input).and_then(|d| d.dims.as_ref()?.first());
            if matches!(declared, Some(Dim::Known(fixed)) if *fixed != batch) {
                return Err(Error::invalid(format!(
                    "input `{name}` has a fixed batch of {first}, not {batch}"
                ))
                .code_is("E0111")
                .hint(format!("`--batch {first}`")));
            }
            *first = batch;
        }
        let count = dims.iter().product();
        let tensor = if fact.element.is_float() {
            /// Steps of the uniform draw: what a float's mantissa holds.
            const STEPS: u64 = 1 << 24;
            let draw = || random::below(&mut rng, STEPS) as f32 / STEPS as f32;
            let values: Vec<f32> = std::iter::repeat_with(draw).take(count).collect();
            Tensor::from_vec(values, dims, &Device::Cpu)?
        } else {
            Tensor::zeros(dims, DType::I64, &Device::Cpu)?
        };
        inputs.push((name.to_owned(), tensor));
    }
    Ok(inputs)
}

/// Batch sizes that a model takes: `wanted`, or the fixed one.
pub(super) fn batches(graph: &Graph, wanted: &[usize]) -> Vec<usize> {
    fixed_batch(graph).map_or_else(|| wanted.to_vec(), |fixed| vec![fixed])
}
