//! Cuts what contributes exactly nothing.

use super::blocks::without_branch;
use super::weights::weight;
use std::collections::BTreeMap;
use tensor_core::channels::{Channels, ClassId, analyze, cut};
use tensor_core::graph::{Graph, Index};
use tensor_core::run::{Facts, infer};
use tensor_core::{Result, ValueId, rewrite};

/// A smaller graph.
#[derive(Debug, Clone)]
pub struct Cut {
    /// It computes what the graph before did, up to rounding.
    pub graph: Graph,
    /// Channels that are gone.
    pub channels: usize,
    /// Keys of the last layers of branches that are gone.
    pub branches: Vec<String>,
}

/// Removes every channel that all its readers multiply by exact zeros, with everything that makes
/// it, and branches beside a skip path that are left without channels; their constant is added to
/// the skip path.
///
/// One channel stays wherever an axis would be empty. Input shapes are as for [`infer`].
///
/// # Errors
/// When the graph is invalid, or too large a value would be needed.
pub fn cut_zeros(graph: &Graph, shapes: &BTreeMap<String, Vec<usize>>) -> Result<Cut> {
    let mut branches = Vec::new();
    let mut graph = graph.clone();
    let (facts, labels) = loop {
        let facts = infer(&graph, shapes)?;
        let labels = analyze(&graph, &facts)?;
        let dead = dead(&graph, &labels)?;
        let is_dead = |class: ClassId| dead[class as usize];
        match without_branch(&graph, &facts, &labels, &is_dead)? {
            Some(without) => {
                branches.push(without.key);
                graph = without.graph;
            }
            None => break (facts, labels),
        }
    };
    let mut dead = dead(&graph, &labels)?;
    keep_one(&graph, &facts, &labels, &mut dead);
    let remove: Vec<ClassId> =
        (0..labels.classes.len()).filter(|&class| dead[class]).map(|c| c as ClassId).collect();
    if !remove.is_empty() {
        let mut new = rewrite::apply(&graph, &cut(&graph, &facts, &labels, &remove)?)?;
        let new_facts = infer(&new, shapes)?;
        rewrite::drop_stale_shapes(&mut new, &facts, &new_facts);
        graph = new;
    }
    Ok(Cut { graph, channels: remove.len(), branches })
}

/// Which classes contribute nothing: they may be cut, something reads them, and every reader has a
/// weight that is 0 there.
fn dead(graph: &Graph, channels: &Channels) -> Result<Vec<bool>> {
    let index = Index::new(graph);
    let mut dead = vec![false; channels.classes.len()];
    for group in &channels.groups {
        for class in channels.removable(group) {
            dead[class as usize] = true;
        }
    }
    for contraction in &channels.contractions {
        let input = graph.node(contraction.node).input(contraction.input);
        let read = input.and_then(|value| channels.positions(value, contraction.axis));
        let found = weight(graph, &index, channels, contraction).ok();
        let constant = found.as_ref().and_then(|weight| graph.initializer(weight.value));
        let (Some(weight), Some(constant)) = (found, constant) else {
            for &class in read.unwrap_or_default() {
                dead[class as usize] = false;
            }
            continue;
        };
        let inner: usize = constant.dims()[weight.axis + 1..].iter().product();
        for (at, value) in constant.to_f32s()?.into_iter().enumerate() {
            if value != 0.0 {
                let position = at / inner.max(1) % weight.classes.len();
                dead[weight.classes[position] as usize] = false;
            }
        }
    }
    Ok(dead)
}

/// Lets a class live wherever an axis would be left without any.
fn keep_one(graph: &Graph, facts: &Facts, channels: &Channels, dead: &mut [bool]) {
    for value in (0..graph.value_count()).map(ValueId::from_index) {
        for axis in 0..facts.dims(value).map_or(0, <[usize]>::len) {
            let positions = channels.positions(value, axis).unwrap_or_default();
            if let Some(&first) = positions.first()
                && positions.iter().all(|&class| dead[class as usize])
            {
                dead[first as usize] = false;
            }
        }
    }
}
