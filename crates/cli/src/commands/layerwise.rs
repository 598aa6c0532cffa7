//! Does another engine compute every quantized activation as kerf does?
//!
//! Each is compared on its own: kerf computes it from what the engine has for the ones before it, so
//! that a number that lies between two steps and falls on the other side in one of the two counts once
//! and not in everything behind it.

use super::engine;
use crate::args::Shared;
use serde::Serialize;
use tensor_core::graph::{Declared, Graph, Index};
use tensor_core::measure::compare::LabelledBatch;
use tensor_core::measure::{Engine, Named};
use tensor_core::run::{Array, Session};
use tensor_core::text::counted;
use tensor_core::{ElementType, Error, Result, ValueId, onnx};

/// Steps that two correct engines differ by: one, and float rounding of it.
const ONE_STEP: f64 = 1.001;

/// What was compared.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Layerwise {
    engine: String,
    samples: usize,
    /// In execution order.
    activations: Vec<Compared>,
}

/// One quantized activation.
#[derive(Debug, Clone, Serialize)]
struct Compared {
    name: String,
    elements: u64,
    /// Elements that differ.
    different: u64,
    /// The largest difference in steps of its scale.
    most_steps: f64,
}

/// A value that has gone through integers, and its step.
struct Site {
    value: ValueId,
    step: f64,
}

/// Does the graph quantize activations?
pub(super) fn is_quantized(graph: &Graph) -> bool {
    !sites(graph).is_empty()
}

/// Compares every activation that has gone through integers.
pub(super) fn compare(
    graph: &Graph,
    engine: &dyn Engine,
    batches: impl IntoIterator<Item = Result<LabelledBatch>>,
    shared: &Shared,
) -> Result<Layerwise> {
    let sites = sites(graph);
    let mut shown = graph.clone();
    for site in &sites {
        if !shown.outputs.contains(&site.value) {
            shown.outputs.push(site.value);
            let element = Some(ElementType::F32);
            shown.declare(site.value, Some(Declared { element, ..Declared::default() }));
        }
    }
    let mut runner = engine.load(&onnx::encode(&shown)?, engine::threads(shared))?;
    let values: Vec<ValueId> = sites.iter().map(|site| site.value).collect();
    let sessions = values
        .iter()
        .map(|&value| {
            let others: Vec<ValueId> = values.iter().copied().filter(|&v| v != value).collect();
            Session::between(graph, &others, &[value])
        })
        .collect::<Result<Vec<_>>>()?;
    let mut activations: Vec<Compared> = sites
        .iter()
        .map(|site| Compared {
            name: graph.name(site.value).to_owned(),
            elements: 0,
            different: 0,
            most_steps: 0.0,
        })
        .collect();
    let mut samples = 0;
    for batch in batches {
        let (inputs, _) = batch?;
        samples += inputs.first().and_then(|(_, x)| x.dims().first().copied()).unwrap_or(1);
        let theirs = runner.run(&inputs)?;
        let mut given = super::samples::in_order(graph, &inputs)?;
        for &value in &values {
            given.push((value, Array::float(find(&theirs, graph.name(value))?)));
        }
        let inputs = graph.inputs.len();
        for (i, session) in sessions.iter().enumerate() {
            let (value, their) = &given[inputs + i];
            let mut known = given.clone();
            known.remove(inputs + i);
            let own = session.fetch(&known, &[*value])?;
            activations[i].add(&own[0], their, sites[i].step)?;
        }
    }
    Ok(Layerwise { engine: engine.name(), samples, activations })
}

fn find(outputs: &[Named], name: &str) -> Result<candle_core::Tensor> {
    let found = outputs.iter().find(|(other, _)| other == name);
    found
        .map(|(_, tensor)| tensor.clone())
        .ok_or_else(|| Error::internal(format!("the engine gives no `{name}`")))
}

/// Values behind pairs of QuantizeLinear and DequantizeLinear with one scale.
fn sites(graph: &Graph) -> Vec<Site> {
    let index = Index::new(graph);
    let site = |id| {
        let node = graph.node(id);
        let source = node.input(0).and_then(|value| index.producer(value))?;
        let is_pair = node.op == "DequantizeLinear" && graph.node(source).op == "QuantizeLinear";
        let scale =
            node.input(1).and_then(|value| graph.constant(value, &index))?.to_f32s().ok()?;
        let value = node.output(0).filter(|_| is_pair)?;
        match scale[..] {
            [step] => Some(Site { value, step: f64::from(step) }),
            _ => None,
        }
    };
    graph.node_ids().filter_map(site).collect()
}

impl Compared {
    fn add(&mut self, own: &Array, their: &Array, step: f64) -> Result<()> {
        let (own, their) = (own.f32s()?, their.f32s()?);
        if own.len() != their.len() {
            return Err(Error::internal(format!("`{}` has another size there", self.name)));
        }
        self.elements += own.len() as u64;
        for (&a, &b) in own.iter().zip(their.iter()) {
            let steps = (f64::from(a) - f64::from(b)).abs() / step;
            // NaN differs by more than any number of steps.
            let steps = if steps.is_nan() { f64::INFINITY } else { steps };
            self.different += u64::from(steps > 0.5);
            self.most_steps = self.most_steps.max(steps);
        }
        Ok(())
    }
}

impl Layerwise {
    /// The activations that differ by more than rounding, in words.
    pub(super) fn failures(&self) -> Vec<String> {
        let wrong = self.activations.iter().filter(|found| found.most_steps > ONE_STEP);
        wrong
            .map(|found| {
                format!(
                    "`{}` differs by {:.1} steps of its scale between {} and kerf",
                    found.name, found.most_steps, self.engine
                )
            })
            .collect()
    }

    /// One line for people.
    pub(super) fn text(&self) -> String {
        let sum = |count: fn(&Compared) -> u64| self.activations.iter().map(count).sum::<u64>();
        let share = sum(|found| found.different) as f64 / sum(|found| found.elements).max(1) as f64;
        let most = self.activations.iter().map(|found| found.most_steps).fold(0.0, f64::max);
        format!(
            "layer by layer  {} in {} are those of kerf but for {:.4}% of the numbers, which differ \
             by {:.0} step of their scale ({})\n",
            counted(self.activations.len(), "quantized activation"),
            self.engine,
            share * 100.0,
            most,
            counted(self.samples, "sample"),
        )
    }
}
