//! The sets of channels that are pruned: coupled groups, or samples of a stream.

use super::layers::Layer;
use super::names::Names;
use super::params::Streams;
use std::collections::{BTreeMap, BTreeSet};
use tensor_core::ValueId;
use tensor_core::channels::{Channels, ClassId, Group};
use tensor_core::graph::{Graph, Index};
use tensor_core::rewrite::Stored;
use tensor_core::run::Facts;

/// What happens to the channels that a set loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// They are removed everywhere.
    Cut,
    /// One reader samples its input with a Gather; the stream keeps its width (He et al. 2017,
    /// section 3.3).
    Sample,
}

impl Kind {
    /// As reports name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Sample => "sample",
        }
    }
}

/// Channels that are chosen together.
#[derive(Debug, Clone)]
pub(crate) struct Set {
    /// The root of the group, in the model as it was given; the reader, marked, for a sample.
    pub(crate) name: String,
    /// The short name of the group.
    pub(crate) id: String,
    /// Index of the group in the analysis of the folded model.
    pub(crate) group: usize,
    pub(crate) kind: Kind,
    /// Removable classes.
    pub(crate) classes: Vec<ClassId>,
    /// Indices of the layers that read them.
    pub(crate) readers: Vec<usize>,
    /// Sum of absolute weights of the filters that make each class.
    pub(crate) producer_norms: Vec<f64>,
    /// Channels that a class is at least wherever it is made or read: those of a head, or 1.
    pub(crate) channels: usize,
    /// Places in `classes` of which one at least has to stay, because they alone fill an axis (a
    /// branch of a concatenation).
    pub(crate) axes: Vec<Vec<usize>>,
}

/// A group that is left alone, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frozen {
    pub(crate) name: String,
    /// The short name of the group.
    pub(crate) id: String,
    pub(crate) channels: usize,
    pub(crate) reason: String,
}

impl Set {
    /// The kept places, with the strongest of every axis that would be left without any.
    pub(crate) fn completed(&self, mut kept: Vec<usize>) -> Vec<usize> {
        for axis in &self.axes {
            if axis.iter().all(|place| !kept.contains(place)) {
                let norm = |place: &usize| self.producer_norms[*place];
                kept.extend(axis.iter().copied().max_by(|a, b| norm(a).total_cmp(&norm(b))));
            }
        }
        kept.sort_unstable();
        kept
    }

    /// How many classes make a multiple of so many channels, at least nearly.
    pub(crate) fn step(&self, channels: usize) -> usize {
        (channels / self.channels).max(1)
    }

    /// Are its channels chosen before the pass from shallow to deep: because several layers read
    /// them, or because channels of different branches cost different amounts, so that the choice
    /// decides what the model costs?
    pub(crate) fn is_joint(&self) -> bool {
        self.readers.len() > 1 || !self.axes.is_empty()
    }

    /// Both names, for people.
    pub(crate) fn label(&self) -> String {
        format!("{} (`{}`)", self.id, self.name)
    }
}

/// Sorts the groups of a model into sets to prune and groups to leave alone.
pub(crate) fn find_sets(
    graph: &Graph,
    facts: &Facts,
    channels: &Channels,
    layers: &[Layer],
    names: &Names,
    streams: Streams,
    is_excluded: impl Fn(&str) -> bool,
) -> (Vec<Set>, Vec<Frozen>) {
    let index = Index::new(graph);
    let norms = producer_norms(graph, &index, channels);
    let (mut sets, mut frozen) = (Vec::new(), Vec::new());
    for (at, (group, named)) in channels.groups.iter().zip(&names.groups).enumerate() {
        let classes = channels.removable(group);
        let refuse = |reason: String| Frozen {
            name: named.root.clone(),
            id: named.id.clone(),
            channels: group.classes.len(),
            reason,
        };
        if classes.is_empty() {
            frozen.push(refuse(group.frozen.clone().unwrap_or_else(|| "it is empty".to_owned())));
            continue;
        }
        if let Some(name) = named.all.iter().find(|name| is_excluded(name)) {
            frozen.push(refuse(format!("`{name}` is excluded")));
            continue;
        }
        let linear: Option<Vec<usize>> = group
            .readers
            .iter()
            .map(|&reader| {
                let contraction = &channels.contractions[reader];
                layers.iter().position(|l| {
                    l.node == contraction.node && l.data == (contraction.input, contraction.axis)
                })
            })
            .collect();
        let Some(readers) = linear else {
            frozen.push(refuse(unreadable(graph, facts, channels, layers, group)));
            continue;
        };
        let of_class = |class: &ClassId| norms.get(class).copied().unwrap_or(0.0);
        let set = Set {
            name: named.root.clone(),
            id: named.id.clone(),
            group: at,
            kind: Kind::Cut,
            producer_norms: classes.iter().map(of_class).collect(),
            axes: partial_axes(graph, facts, channels, &classes),
            channels: channels_of_a_class(group),
            classes,
            readers,
        };
        match (is_stream(graph, facts, channels, group), streams) {
            (false, _) | (true, Streams::Prune) => sets.push(set),
            (true, Streams::Keep | Streams::Auto) => {
                frozen.push(refuse("it is a shared stream, which is kept".to_owned()));
            }
            (true, Streams::Sample) => {
                for &reader in &set.readers {
                    let name = graph.key(layers[reader].node);
                    sets.push(Set {
                        name: format!("{name} (sampled)"),
                        kind: Kind::Sample,
                        readers: vec![reader],
                        ..set.clone()
                    });
                }
            }
        }
    }
    (sets, frozen)
}

/// The fewest positions that a class has on an axis of a parameter.
fn channels_of_a_class(group: &Group) -> usize {
    let of = group.parameters.iter().map(|member| member.count / group.classes.len().max(1));
    of.min().unwrap_or(1).max(1)
}

/// The axes that some but not all of the classes fill alone, as places in `classes`.
fn partial_axes(
    graph: &Graph,
    facts: &Facts,
    channels: &Channels,
    classes: &[ClassId],
) -> Vec<Vec<usize>> {
    let place_of: BTreeMap<ClassId, usize> =
        classes.iter().enumerate().map(|(place, &class)| (class, place)).collect();
    let mut axes = BTreeSet::new();
    for value in (0..graph.value_count()).map(ValueId::from_index) {
        for axis in 0..facts.dims(value).map_or(0, <[usize]>::len) {
            let positions = channels.positions(value, axis).unwrap_or_default();
            let places: Option<BTreeSet<usize>> =
                positions.iter().map(|class| place_of.get(class).copied()).collect();
            if let Some(places) = places
                && (1..classes.len()).contains(&places.len())
            {
                axes.insert(places.into_iter().collect());
            }
        }
    }
    axes.into_iter().collect()
}

/// Why a layer that reads a group cannot be refitted.
fn unreadable(
    graph: &Graph,
    facts: &Facts,
    channels: &Channels,
    layers: &[Layer],
    group: &Group,
) -> String {
    let behind =
        group.readers.iter().map(|&reader| channels.contractions[reader].node).find(|&id| {
            let node = graph.node(id);
            let mut values = node.inputs.iter().chain(&node.outputs).flatten();
            values.any(|&value| facts.get(value).is_none())
        });
    match behind {
        Some(id) => format!("{} comes after an operator that is not known", graph.describe(id)),
        None => {
            let refittable = |&&reader: &&usize| {
                let node = channels.contractions[reader].node;
                layers.iter().any(|layer| layer.node == node)
            };
            let reader = group.readers.iter().find(|reader| !refittable(reader));
            let reader = reader
                .or(group.readers.first())
                .map(|&reader| graph.describe(channels.contractions[reader].node));
            format!(
                "{} cannot be refitted: it multiplies two activations, its weight is no 32-bit \
                 float constant, as is or behind one Cast, or its attributes have no least-squares form",
                reader.unwrap_or_default()
            )
        }
    }
}

/// Is the group a residual stream: does a sum of two activations carry it?
fn is_stream(graph: &Graph, facts: &Facts, channels: &Channels, group: &Group) -> bool {
    let varies = |value: &&ValueId| facts.get(**value).is_some_and(|fact| !fact.fixed);
    graph.nodes.iter().filter(|node| matches!(node.op.as_str(), "Add" | "Sub" | "Sum")).any(
        |node| {
            let is_sum = node.inputs.iter().flatten().filter(varies).count() > 1;
            let axes = node.output(0).and_then(|v| Some((v, facts.dims(v)?.len())));
            is_sum
                && axes.is_some_and(|(output, rank)| {
                    (0..rank)
                        .filter_map(|axis| channels.positions(output, axis))
                        .any(|positions| positions.iter().any(|c| group.classes.contains(c)))
                })
        },
    )
}

/// Sum of absolute weights of everything that makes a class.
fn producer_norms(graph: &Graph, index: &Index, channels: &Channels) -> BTreeMap<ClassId, f64> {
    let mut norms = BTreeMap::new();
    for contraction in &channels.contractions {
        let (Some((input, _)), Some(axis)) = (contraction.weight, contraction.weight_out) else {
            continue;
        };
        let Some(value) = graph.node(contraction.node).input(input) else { continue };
        let Some(positions) = channels.positions(value, axis) else { continue };
        let Some(stored) = Stored::find(graph, index, contraction.node, input) else { continue };
        let weight = stored.constant;
        let Ok(values) = weight.to_f32s() else { continue };
        let inner: usize = weight.dims()[axis + 1..].iter().product();
        for (i, w) in values.iter().enumerate() {
            let position = i / inner.max(1) % positions.len();
            *norms.entry(positions[position]).or_insert(0.0) += f64::from(w.abs());
        }
    }
    norms
}
