//! Cost as a function of widths: what a model would cost with other channel counts.

use super::{Cost, cost};
use crate::channels::{Channels, ClassId};
use crate::graph::{Graph, Index};
use crate::run::Facts;
use crate::{Result, ValueId};
use std::collections::BTreeMap;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Multiply-accumulates.
    Macs,
    /// Elements of float constants.
    Parameters,
    /// Bytes of constants.
    Bytes,
}

impl Cost {
    /// The total of a resource.
    pub fn of(&self, resource: Resource) -> u64 {
        match resource {
            Resource::Macs => self.macs,
            Resource::Parameters => self.parameters,
            Resource::Bytes => self.parameter_bytes,
        }
    }
}

/// A set of channels whose number may change: the classes, and where they count.
#[derive(Debug, Clone)]
pub struct Scalable {
    /// The classes.
    pub classes: Vec<ClassId>,
    /// When given, only this axis of this constant follows the width (a channel sampler before
    /// one reader); otherwise every place of the classes does.
    pub only: Option<(ValueId, usize)>,
}

/// One axis of a constant: `base + sum(per_channel * width)`.
#[derive(Debug, Clone, Default)]
struct Axis {
    base: f64,
    parts: Vec<(usize, f64)>,
}

#[derive(Debug, Clone)]
struct Term {
    coefficient: f64,
    axes: Vec<Axis>,
}

/// A resource as a function of widths. Products of axes make it multilinear.
#[derive(Debug, Clone)]
pub struct WidthCost {
    constant: f64,
    terms: Vec<Term>,
}

impl WidthCost {
    /// Sets up the function for widths of the given sets.
    ///
    /// The multiply-accumulates of a node with a constant weight are proportional to the elements
    /// of that weight. Where the classes of a set have different numbers of positions, the mean
    /// stands for each.
    ///
    /// # Errors
    /// As [`cost`].
    pub fn new(
        graph: &Graph,
        facts: &Facts,
        channels: &Channels,
        sets: &[Scalable],
        resource: Resource,
    ) -> Result<Self> {
        let mut set_of: BTreeMap<ClassId, usize> = BTreeMap::new();
        for (set, scalable) in sets.iter().enumerate().filter(|(_, s)| s.only.is_none()) {
            set_of.extend(scalable.classes.iter().map(|&class| (class, set)));
        }
        let total = cost(graph, facts)?;
        let index = Index::new(graph);
        let mut result = Self { constant: 0.0, terms: Vec::new() };
        for (value, coefficient) in coefficients(graph, &index, &total, resource) {
            let Some(constant) = facts.get(value) else { continue };
            let mut axes = Vec::new();
            for (axis, &length) in constant.dims.iter().enumerate() {
                let positions = channels.positions(value, axis);
                let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
                let sampler = sets.iter().position(|set| set.only == Some((value, axis)));
                for class in positions.unwrap_or_default() {
                    let set = match sampler {
                        Some(set) if sets[set].classes.contains(class) => Some(set),
                        _ => set_of.get(class).copied(),
                    };
                    if let Some(set) = set {
                        *counts.entry(set).or_default() += 1;
                    }
                }
                let scaled: usize = counts.values().sum();
                let parts = counts
                    .into_iter()
                    .map(|(set, count)| (set, count as f64 / sets[set].classes.len() as f64))
                    .collect();
                axes.push(Axis { base: (length - scaled) as f64, parts });
            }
            result.terms.push(Term { coefficient, axes });
        }
        let full: Vec<usize> = sets.iter().map(|set| set.classes.len()).collect();
        result.constant = total.of(resource) as f64 - result.at(&full);
        Ok(result)
    }

    /// The resource at the given widths, one per set.
    pub fn at(&self, widths: &[usize]) -> f64 {
        let axis = |axis: &Axis| {
            let parts = axis.parts.iter().map(|&(set, each)| each * widths[set] as f64);
            axis.base + parts.sum::<f64>()
        };
        let term = |t: &Term| t.coefficient * t.axes.iter().map(axis).product::<f64>();
        self.constant + self.terms.iter().map(term).sum::<f64>()
    }
}

/// The constants that a resource is proportional to, with the factor per element.
fn coefficients(
    graph: &Graph,
    index: &Index,
    total: &Cost,
    resource: Resource,
) -> Vec<(ValueId, f64)> {
    let constants = (0..graph.value_count()).map(ValueId::from_index).filter_map(|value| {
        let is_constant = graph.initializer(value).is_some()
            || index.producer(value).is_some_and(|node| graph.node(node).op == "Constant");
        is_constant.then(|| Some((value, graph.constant(value, index)?))).flatten()
    });
    match resource {
        Resource::Parameters => constants
            .filter(|(_, constant)| constant.element().is_float())
            .map(|(value, _)| (value, 1.0))
            .collect(),
        Resource::Bytes => constants
            .filter_map(|(value, constant)| Some((value, constant.element().size()? as f64)))
            .collect(),
        Resource::Macs => graph
            .node_ids()
            .zip(&total.nodes)
            .filter(|(_, row)| row.macs > 0)
            .filter_map(|(id, row)| {
                let weight = graph.node(id).input(1)?;
                let count = graph.constant(weight, index)?.count();
                (count > 0).then_some((weight, row.macs as f64 / count as f64))
            })
            .collect(),
    }
}
