//! The sets of channels that are pruned: coupled groups, or samples of a stream.

use super::layers::Layer;
use super::params::Streams;
use std::collections::BTreeMap;
use tensor_core::ValueId;
use tensor_core::channels::{Channels, ClassId, Contraction, Group};
use tensor_core::graph::{Graph, Index};
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

/// Channels that are chosen together.
#[derive(Debug, Clone)]
pub(crate) struct Set {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Removable classes.
    pub(crate) classes: Vec<ClassId>,
    /// Indices of the layers that read them.
    pub(crate) readers: Vec<usize>,
    /// Sum of absolute weights of the filters that make each class.
    pub(crate) producer_norms: Vec<f64>,
}

/// A group that is left alone, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frozen {
    pub(crate) name: String,
    pub(crate) channels: usize,
    pub(crate) reason: String,
}

/// Sorts the groups of a model into sets to prune and groups to leave alone.
pub(crate) fn find_sets(
    graph: &Graph,
    facts: &Facts,
    channels: &Channels,
    layers: &[Layer],
    streams: Streams,
    is_excluded: impl Fn(&str) -> bool,
) -> (Vec<Set>, Vec<Frozen>) {
    let index = Index::new(graph);
    let norms = producer_norms(graph, &index, channels);
    let (mut sets, mut frozen) = (Vec::new(), Vec::new());
    for group in &channels.groups {
        let classes = channels.removable(group);
        let refuse = |reason: String| Frozen {
            name: group.root.clone(),
            channels: group.classes.len(),
            reason,
        };
        if classes.is_empty() {
            frozen.push(refuse(group.frozen.clone().unwrap_or_else(|| "it is empty".to_owned())));
            continue;
        }
        if let Some(name) = names(graph, channels, group).into_iter().find(|n| is_excluded(n)) {
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
            frozen.push(refuse("a reader multiplies two activations".to_owned()));
            continue;
        };
        let of_class = |class: &ClassId| norms.get(class).copied().unwrap_or(0.0);
        let set = Set {
            name: group.root.clone(),
            kind: Kind::Cut,
            producer_norms: classes.iter().map(of_class).collect(),
            classes,
            readers,
        };
        match (is_stream(graph, facts, channels, group), streams) {
            (false, _) | (true, Streams::Prune) => sets.push(set),
            (true, Streams::Keep) => {
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

/// Does a layer write the channels of a group?
fn makes(graph: &Graph, channels: &Channels, layer: &Contraction, group: &Group) -> bool {
    let (Some((input, _)), Some(axis)) = (layer.weight, layer.weight_out) else { return false };
    let value = graph.node(layer.node).input(input);
    let positions = value.and_then(|value| channels.positions(value, axis));
    positions.unwrap_or_default().iter().any(|class| group.classes.contains(class))
}

/// Names a user may call the group by: its root, its parameters, the layers that write or read it.
pub(crate) fn names(graph: &Graph, channels: &Channels, group: &Group) -> Vec<String> {
    let parameters = group.parameters.iter().map(|member| graph.name(member.value));
    let readers = group.readers.iter().map(|&r| graph.key(channels.contractions[r].node));
    let makers = channels
        .contractions
        .iter()
        .filter(|maker| makes(graph, channels, maker, group))
        .map(|maker| graph.key(maker.node));
    std::iter::once(group.root.as_str())
        .chain(parameters)
        .chain(readers)
        .chain(makers)
        .map(str::to_owned)
        .collect()
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
        let Some(weight) = graph.constant(value, index) else {
            continue;
        };
        let Ok(values) = weight.to_f32s() else { continue };
        let inner: usize = weight.dims()[axis + 1..].iter().product();
        for (i, w) in values.iter().enumerate() {
            let position = i / inner.max(1) % positions.len();
            *norms.entry(positions[position]).or_insert(0.0) += f64::from(w.abs());
        }
    }
    norms
}
