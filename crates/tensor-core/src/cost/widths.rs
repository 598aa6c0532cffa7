//! Cost as a function of widths: what a model would cost with other channel counts.

use super::grid::LatencyGrid;
use super::hardware::{Hardware, LayerKind, NetworkTime, layers};
use super::{Cost, Price, cost};
use crate::channels::{Channels, ClassId};
use crate::graph::{Graph, Index};
use crate::run::Facts;
use crate::{NodeId, Result, ValueId};
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

/// A set of channels whose number may change: the classes, and where they count. Without classes: a
/// part of the graph that is there or not, as a set with one member.
#[derive(Debug, Clone, Default)]
pub struct Scalable {
    /// The classes.
    pub classes: Vec<ClassId>,
    /// When not empty, only these axes of these values follow the width (the weight of one reader
    /// behind a channel sampler); otherwise every place of the classes does.
    pub only: Vec<(ValueId, usize)>,
    /// Values that are gone when no member is left.
    pub part: Vec<ValueId>,
}

impl Scalable {
    /// Is it a part of the graph, and no channels?
    fn is_whole(&self) -> bool {
        self.classes.is_empty() && !self.part.is_empty()
    }

    fn len(&self) -> usize {
        if self.is_whole() { 1 } else { self.classes.len() }
    }
}

/// A length as a function of widths: `base + sum(per_channel * width)`.
#[derive(Debug, Clone, Default)]
pub struct WidthAxis {
    /// What does not change.
    pub base: f64,
    /// Sets, and how often each of their channels counts.
    pub parts: Vec<(usize, f64)>,
}

impl WidthAxis {
    /// The length at the given widths, one per set.
    pub(super) fn at(&self, widths: &[usize]) -> f64 {
        let parts = self.parts.iter().map(|&(set, each)| each * widths[set] as f64);
        self.base + parts.sum::<f64>()
    }
}

/// A factor times the lengths of axes.
#[derive(Debug, Clone)]
pub struct WidthTerm {
    /// The factor.
    pub coefficient: f64,
    /// The axes.
    pub axes: Vec<WidthAxis>,
    /// Sets without any of which the term is 0.
    pub needs: Vec<usize>,
}

impl WidthTerm {
    /// Is every set there that it needs?
    fn counts(&self, widths: &[usize]) -> bool {
        self.needs.iter().all(|&set| widths[set] > 0)
    }
}

/// A resource as a function of widths. Products of axes make it multilinear; the time of a device is
/// whatever that device takes.
#[derive(Debug, Clone, Default)]
pub struct WidthCost {
    constant: f64,
    terms: Vec<WidthTerm>,
    grids: Vec<LatencyGrid>,
    /// From the sum of the grids to the time of the network.
    network: NetworkTime,
}

impl WidthCost {
    /// The function with these terms.
    pub fn of_terms(constant: f64, terms: Vec<WidthTerm>) -> Self {
        Self { constant, terms, ..Self::default() }
    }

    /// Sets up the function for what a network is charged for.
    ///
    /// # Errors
    /// As [`new`](Self::new) and [`latency`](Self::latency).
    pub fn priced(
        graph: &Graph,
        facts: &Facts,
        channels: &Channels,
        sets: &[Scalable],
        price: &Price,
    ) -> Result<Self> {
        match price {
            Price::Count(resource) => Self::new(graph, facts, channels, sets, *resource),
            Price::Latency(device) => Self::latency(graph, facts, channels, sets, &**device),
        }
    }

    /// The microseconds that the graph takes a device in 32-bit floats, as a [function](Hardware::network)
    /// of the sum of its layers. Layers are asked about at up to 33 widths of each side and are linear
    /// between; they never get faster by more channels.
    ///
    /// # Errors
    /// When the device has no latency for a layer of the graph as it is.
    pub fn latency(
        graph: &Graph,
        facts: &Facts,
        channels: &Channels,
        sets: &[Scalable],
        device: &dyn Hardware,
    ) -> Result<Self> {
        let set_of = set_of_classes(sets);
        let mut result = Self { network: device.network(), ..Self::default() };
        for layer in layers(graph, facts)? {
            let node = graph.node(layer.node);
            let sampler = sets.iter().position(|set| {
                set.only.iter().any(|&(weight, _)| {
                    node.inputs.iter().skip(1).any(|&input| input == Some(weight))
                })
            });
            let side = |value: Option<ValueId>, full: usize, sampler: Option<usize>| {
                let positions = value.and_then(|value| {
                    let last = facts.dims(value)?.len().checked_sub(1)?;
                    let is_product = layer.shape.op == LayerKind::Linear;
                    channels.positions(value, if is_product { last } else { 1 })
                });
                let positions = positions.unwrap_or_default();
                width_axis(full, positions, sets, |class| match sampler {
                    Some(set) if sets[set].classes.contains(&class) => Some(set),
                    _ => set_of.get(&class).copied(),
                })
            };
            let sides = (
                side(node.input(0), layer.shape.cin, sampler),
                side(node.output(0), layer.shape.cout, None),
            );
            let is_part = |set: &Scalable| node.output(0).is_some_and(|v| set.part.contains(&v));
            let parts = (0..sets.len()).filter(|&set| is_part(&sets[set])).collect();
            result.grids.push(LatencyGrid::new(device, &layer.shape, sides, parts)?);
        }
        Ok(result)
    }

    /// Sets up the function for widths of the given sets.
    ///
    /// The multiply-accumulates of a convolution are proportional to the elements of its constant
    /// weight, those of a matrix product to the elements of its output and to the length of what is
    /// summed over. Where the classes of a set have different numbers of positions, the mean stands
    /// for each.
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
        let set_of = set_of_classes(sets);
        let total = cost(graph, facts)?;
        let mut result = Self::default();
        for Product { places, coefficient } in products(graph, facts, channels, &total, resource) {
            let mut axes = Vec::new();
            for &(value, axis) in &places {
                let length = facts.dims(value).map_or(0, |dims| dims[axis]);
                let positions = channels.positions(value, axis).unwrap_or_default();
                let sampler = sets.iter().position(|set| set.only.contains(&(value, axis)));
                axes.push(width_axis(length, positions, sets, |class| match sampler {
                    Some(set) if sets[set].classes.contains(&class) => Some(set),
                    _ => set_of.get(&class).copied(),
                }));
            }
            let mut needs = Vec::new();
            for (at, set) in sets.iter().enumerate().filter(|(_, set)| has_any(set, &places)) {
                match set.is_whole() {
                    true => axes.push(WidthAxis { base: 0.0, parts: vec![(at, 1.0)] }),
                    false => needs.push(at),
                }
            }
            result.terms.push(WidthTerm { coefficient, axes, needs });
        }
        let full: Vec<usize> = sets.iter().map(Scalable::len).collect();
        result.constant = total.of(resource) as f64 - result.at(&full);
        Ok(result)
    }

    /// The resource at the given widths, one per set.
    pub fn at(&self, widths: &[usize]) -> f64 {
        let term = |t: &WidthTerm| {
            t.coefficient * t.axes.iter().map(|axis| axis.at(widths)).product::<f64>()
        };
        let terms = self.terms.iter().filter(|term| term.counts(widths));
        self.constant + terms.map(term).sum::<f64>() + self.network.at(self.sum_of_layers(widths))
    }

    fn sum_of_layers(&self, widths: &[usize]) -> f64 {
        self.grids.iter().map(|grid| grid.at(widths)).sum()
    }

    /// The derivative by the width of one set, at the given widths: what one channel of it costs
    /// while the others stay. Of time it is the mean over the channels of the set, as time has steps.
    pub fn slope(&self, widths: &[usize], set: usize) -> f64 {
        let mut slope = 0.0;
        for term in self.terms.iter().filter(|term| term.counts(widths)) {
            for (at, axis) in term.axes.iter().enumerate() {
                let own = axis.parts.iter().filter(|(part, _)| *part == set);
                let own: f64 = own.map(|(_, each)| each).sum();
                if own != 0.0 {
                    let others = term.axes.iter().enumerate().filter(|(other, _)| *other != at);
                    let others: f64 = others.map(|(_, axis)| axis.at(widths)).product();
                    slope += term.coefficient * own * others;
                }
            }
        }
        let layers = self.grids.iter().map(|grid| grid.mean(widths, set)).sum::<f64>();
        match self.grids.is_empty() {
            true => slope,
            false => slope + self.network.slope(self.sum_of_layers(widths)) * layers,
        }
    }
}

/// The set of each class that counts wherever it is.
fn set_of_classes(sets: &[Scalable]) -> BTreeMap<ClassId, usize> {
    let mut set_of = BTreeMap::new();
    for (set, scalable) in sets.iter().enumerate().filter(|(_, set)| set.only.is_empty()) {
        set_of.extend(scalable.classes.iter().map(|&class| (class, set)));
    }
    set_of
}

/// A length that the classes at its positions make up.
fn width_axis(
    length: usize,
    positions: &[ClassId],
    sets: &[Scalable],
    set_of: impl Fn(ClassId) -> Option<usize>,
) -> WidthAxis {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for &class in positions {
        if let Some(set) = set_of(class) {
            *counts.entry(set).or_default() += 1;
        }
    }
    let scaled: usize = counts.values().sum();
    let each = |(set, count): (usize, usize)| (set, count as f64 / sets[set].classes.len() as f64);
    let parts = counts.into_iter().map(each).collect();
    WidthAxis { base: length.saturating_sub(scaled) as f64, parts }
}

/// Does the part of the graph that a set stands for have any of these values?
fn has_any(set: &Scalable, places: &[(ValueId, usize)]) -> bool {
    places.iter().any(|(value, _)| set.part.contains(value))
}

/// A part of a resource: a factor times the lengths of axes.
struct Product {
    places: Vec<(ValueId, usize)>,
    coefficient: f64,
}

impl Product {
    /// A factor per element of a value.
    fn of_elements(value: ValueId, rank: usize, coefficient: f64) -> Self {
        Self { places: (0..rank).map(|axis| (value, axis)).collect(), coefficient }
    }
}

/// What a resource is proportional to.
fn products(
    graph: &Graph,
    facts: &Facts,
    channels: &Channels,
    total: &Cost,
    resource: Resource,
) -> Vec<Product> {
    let index = Index::new(graph);
    let constants = (0..graph.value_count()).map(ValueId::from_index).filter_map(|value| {
        let is_constant = graph.initializer(value).is_some()
            || index.producer(value).is_some_and(|node| graph.node(node).op == "Constant");
        is_constant.then(|| Some((value, graph.constant(value, &index)?))).flatten()
    });
    // Constants of unknown shape are not cut.
    let rank = |value: ValueId| facts.dims(value).map_or(0, <[usize]>::len);
    match resource {
        Resource::Parameters => constants
            .filter(|(_, constant)| constant.element().is_float())
            .map(|(value, _)| Product::of_elements(value, rank(value), 1.0))
            .collect(),
        Resource::Bytes => constants
            .filter_map(|(value, constant)| {
                // Two 4-bit elements share a byte.
                let size = constant.element().bytes(2)? as f64 / 2.0;
                Some(Product::of_elements(value, rank(value), size))
            })
            .collect(),
        Resource::Macs => graph
            .node_ids()
            .zip(&total.nodes)
            .filter(|(_, row)| row.macs > 0)
            .filter_map(|(id, row)| {
                let node = graph.node(id);
                let weight = node.input(1)?;
                let places = match node.op.as_str() {
                    "MatMul" | "Gemm" => matrix_product(graph, facts, channels, id)?,
                    _ if facts.get(weight).is_some_and(|fact| fact.fixed) => {
                        (0..rank(weight)).map(|axis| (weight, axis)).collect()
                    }
                    _ => return None,
                };
                let lengths =
                    places.iter().map(|&(value, axis)| facts.dims(value)?.get(axis).copied());
                let count: usize =
                    lengths.map(|length: Option<usize>| length.unwrap_or(0)).product();
                let coefficient = row.macs as f64 / count as f64;
                (count > 0).then_some(Product { places, coefficient })
            })
            .collect(),
    }
}

/// The axes of the output, and the one that is summed over where the weight, or else the other
/// factor, has it.
fn matrix_product(
    graph: &Graph,
    facts: &Facts,
    channels: &Channels,
    id: NodeId,
) -> Option<Vec<(ValueId, usize)>> {
    let node = graph.node(id);
    let output = node.output(0)?;
    let contraction = channels.contractions.iter().find(|contraction| contraction.node == id)?;
    let (input, axis) = contraction.weight.unwrap_or((contraction.input, contraction.axis));
    let mut places: Vec<_> = (0..facts.dims(output)?.len()).map(|axis| (output, axis)).collect();
    places.push((node.input(input)?, axis));
    Some(places)
}
