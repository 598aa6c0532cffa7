//! The analysis: labels through the graph, then classes and groups.

use super::{Channels, Class, ClassId, Flow, Group, Member, SplitAxis};
use crate::graph::Graph;
use crate::ops::{self, NodeCx};
use crate::run::Facts;
use crate::{Result, ValueId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Labels a graph and collects what can be removed.
///
/// # Errors
/// When an operator finds the graph invalid.
pub fn analyze(graph: &Graph, facts: &Facts) -> Result<Channels> {
    analyze_split(graph, facts, SplitAxis::default())
}

/// As [`analyze`], with a choice of what a class is where channels are split over several axes.
///
/// # Errors
/// When an operator finds the graph invalid.
pub fn analyze_split(graph: &Graph, facts: &Facts, split: SplitAxis) -> Result<Channels> {
    let mut flow = Flow::new(graph, facts, split);
    for &value in graph.initializers() {
        let Some(constant) = graph.initializer(value) else { continue };
        if constant.element().is_float() {
            let labels = constant.dims().iter().map(|&n| Some(flow.fresh(n))).collect();
            flow.labels[value.index()] = labels;
        }
    }
    for id in graph.node_ids() {
        flow.node = id;
        let cx = NodeCx::new(graph, id);
        let known = cx.node.outputs.iter().flatten().all(|&value| facts.get(value).is_some());
        match ops::lookup(&cx.node.domain, &cx.node.op) {
            Some(operator) if known => {
                operator.channels(&cx, &mut flow).map_err(|error| cx.locate(error))?;
            }
            Some(_) => flow.barrier("its shapes are not known".to_owned()),
            None => flow.barrier("the operator is unknown".to_owned()),
        }
    }
    freeze_counted(&mut flow);
    for &output in &graph.outputs {
        let reason = format!("it reaches graph output `{}`", graph.name(output));
        for labels in flow.labels[output.index()].clone().into_iter().flatten() {
            flow.freeze(&labels, reason.clone());
        }
    }
    Ok(collect(flow))
}

/// Freezes values whose dimensions end up as numbers to compute with: a `Shape` is harmless while
/// only sizes are made of it, but a cast to float means the model divides by a channel count.
fn freeze_counted(flow: &mut Flow) {
    let graph = flow.graph;
    let mut sources: Vec<BTreeSet<ValueId>> = vec![BTreeSet::new(); graph.value_count()];
    for node in &graph.nodes {
        let mut reached = BTreeSet::new();
        match (node.op.as_str(), node.input(0)) {
            ("Shape" | "Size", Some(input)) => {
                reached.insert(input);
            }
            _ => {
                for value in node.inputs.iter().flatten() {
                    let is_integer =
                        flow.facts.get(*value).is_some_and(|fact| !fact.element.is_float());
                    if is_integer {
                        reached.extend(&sources[value.index()]);
                    }
                }
            }
        }
        if node.op == "Cast" {
            let output = node.output(0).and_then(|value| flow.facts.get(value));
            if output.is_some_and(|fact| fact.element.is_float()) {
                for &value in &reached {
                    flow.freeze_value(value, "its size is used as a number");
                }
            }
        }
        let makes_integers = node
            .outputs
            .iter()
            .flatten()
            .all(|value| flow.facts.get(*value).is_some_and(|fact| !fact.element.is_float()));
        if makes_integers {
            for value in node.outputs.iter().flatten() {
                sources[value.index()] = reached.clone();
            }
        }
    }
}

fn collect(mut flow: Flow) -> Channels {
    let graph = flow.graph;
    let count = flow.frozen.len();
    let roots: Vec<u32> = (0..count as u32).map(|label| flow.ties.find(label)).collect();
    let mut class_of = BTreeMap::new();
    let mut classes: Vec<Class> = Vec::new();
    let mut label_class = vec![0; count];
    let mut group_of_origin = BTreeMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for label in 0..count {
        let class = *class_of.entry(roots[label]).or_insert_with(|| {
            let origin = flow.origins.find(flow.origin[label]);
            let group = *group_of_origin.entry(origin).or_insert_with(|| {
                groups.push(Group {
                    root: String::new(),
                    classes: Vec::new(),
                    parameters: Vec::new(),
                    readers: Vec::new(),
                    frozen: None,
                });
                groups.len() - 1
            });
            let class = classes.len() as ClassId;
            classes.push(Class { group, frozen: None });
            groups[group].classes.push(class);
            class
        });
        label_class[label] = class;
        if let Some(reason) = flow.frozen[label] {
            let reason = &flow.reasons[reason as usize];
            classes[class as usize].frozen.get_or_insert_with(|| reason.clone());
        }
    }
    let positions: Vec<Vec<Option<Arc<[ClassId]>>>> = flow
        .labels
        .iter()
        .map(|axes| {
            let class =
                |labels: &Arc<[u32]>| labels.iter().map(|&l| label_class[l as usize]).collect();
            axes.iter().map(|labels| labels.as_ref().map(class)).collect()
        })
        .collect();
    let mut channels = Channels {
        classes,
        groups,
        contractions: std::mem::take(&mut flow.contractions),
        split: flow.split(),
        positions,
    };
    find_members(graph, flow.facts, &mut channels);
    channels
}

/// Names groups after the first activation that carries them, and lists parameters and readers;
/// drops groups that no contraction reads.
fn find_members(graph: &Graph, facts: &Facts, channels: &mut Channels) {
    let mut groups = std::mem::take(&mut channels.groups);
    let per_group = |positions: &[ClassId]| {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for &class in positions {
            *counts.entry(channels.classes[class as usize].group).or_default() += 1;
        }
        counts
    };
    for index in 0..graph.value_count() {
        let value = ValueId::from_index(index);
        if graph.initializer(value).is_none() {
            continue;
        }
        for (axis, positions) in channels.positions[index].iter().enumerate() {
            for (group, count) in per_group(positions.as_deref().unwrap_or_default()) {
                groups[group].parameters.push(Member { value, axis, count });
            }
        }
    }
    // What depends on constants only is a parameter, whichever node makes it.
    let varies = |value: &&ValueId| !facts.get(**value).is_some_and(|fact| fact.fixed);
    let made = graph.nodes.iter().flat_map(|node| node.outputs.iter().flatten());
    for &value in graph.inputs.iter().chain(made).filter(varies) {
        for positions in channels.positions[value.index()].iter().flatten() {
            for group in per_group(positions).into_keys() {
                if groups[group].root.is_empty() {
                    groups[group].root = graph.name(value).to_owned();
                }
            }
        }
    }
    for (reader, contraction) in channels.contractions.iter().enumerate() {
        let Some(value) = graph.node(contraction.node).input(contraction.input) else { continue };
        let positions = channels.positions(value, contraction.axis).unwrap_or_default();
        for group in per_group(positions).into_keys() {
            groups[group].readers.push(reader);
        }
    }
    for group in &mut groups {
        let mut reasons =
            group.classes.iter().map(|&c| channels.classes[c as usize].frozen.as_ref());
        if reasons.all(|reason| reason.is_some()) {
            group.frozen =
                group.classes.first().and_then(|&c| channels.classes[c as usize].frozen.clone());
        }
    }
    groups.sort_by_key(|group| group.readers.first().copied());
    // Group numbers of classes follow the groups that remain.
    let mut kept = Vec::new();
    for group in groups {
        if group.readers.is_empty() {
            continue;
        }
        for &class in &group.classes {
            channels.classes[class as usize].group = kept.len();
        }
        kept.push(group);
    }
    channels.groups = kept;
}
