//! From removed classes to edits.

use super::{Channels, ClassId};
use crate::graph::{Graph, Index};
use crate::ops::{self, NodeCx};
use crate::rewrite::Edit;
use crate::run::{Fact, Facts};
use crate::{Error, Node, Result, ValueId};

/// What a cut leaves of the values around one node.
pub struct CutCx<'a> {
    channels: &'a Channels,
    removed: &'a [bool],
    node: &'a Node,
    facts: &'a Facts,
}

impl CutCx<'_> {
    /// Positions that stay along an axis of an input; `None` when all do.
    pub fn input_keep(&self, input: usize, axis: usize) -> Option<Vec<usize>> {
        kept(self.channels, self.removed, self.node.input(input)?, axis)
    }

    /// Positions that stay along an axis of an output; `None` when all do.
    pub fn output_keep(&self, output: usize, axis: usize) -> Option<Vec<usize>> {
        kept(self.channels, self.removed, self.node.output(output)?, axis)
    }

    /// What inference knew about an input before the cut.
    pub fn input_fact(&self, input: usize) -> Option<&Fact> {
        self.node.input(input).and_then(|value| self.facts.get(value))
    }

    /// Dimensions of an input after the cut.
    pub fn input_dims(&self, input: usize) -> Vec<usize> {
        self.node.input(input).map_or(Vec::new(), |value| self.dims(value))
    }

    /// Dimensions of an output after the cut.
    pub fn output_dims(&self, output: usize) -> Vec<usize> {
        self.node.output(output).map_or(Vec::new(), |value| self.dims(value))
    }

    /// Dimensions of an output before the cut.
    pub fn old_output_dims(&self, output: usize) -> &[usize] {
        self.node.output(output).and_then(|value| self.facts.dims(value)).unwrap_or_default()
    }

    /// Does the cut change any dimension of this node's inputs or outputs?
    pub fn touches(&self) -> bool {
        self.node
            .inputs
            .iter()
            .chain(&self.node.outputs)
            .flatten()
            .any(|&value| self.facts.dims(value).is_some_and(|dims| dims != self.dims(value)))
    }

    fn dims(&self, value: ValueId) -> Vec<usize> {
        let dims = self.facts.dims(value).unwrap_or_default().iter().enumerate();
        dims.map(|(axis, &length)| {
            kept(self.channels, self.removed, value, axis).map_or(length, |keep| keep.len())
        })
        .collect()
    }
}

fn kept(channels: &Channels, removed: &[bool], value: ValueId, axis: usize) -> Option<Vec<usize>> {
    let positions = channels.positions(value, axis)?;
    let keep: Vec<usize> =
        (0..positions.len()).filter(|&i| !removed[positions[i] as usize]).collect();
    (keep.len() < positions.len()).then_some(keep)
}

/// The edits that remove classes from a graph: slices of parameters, and what each operator
/// changes in its own sizes.
///
/// # Errors
/// When a class is frozen, or a layer would be left without channels.
pub fn cut(
    graph: &Graph,
    facts: &Facts,
    channels: &Channels,
    remove: &[ClassId],
) -> Result<Vec<Edit>> {
    let mut removed = vec![false; channels.classes.len()];
    for &class in remove {
        let known = channels.classes.get(class as usize);
        let class_state =
            known.ok_or_else(|| Error::invalid(format!("no channel class {class}")))?;
        if let Some(reason) = &class_state.frozen {
            return Err(
                Error::invalid(format!("channel is frozen because {reason}")).code_is("E0120")
            );
        }
        removed[class as usize] = true;
    }
    let index = Index::new(graph);
    let mut edits = Vec::new();
    for i in 0..graph.value_count() {
        let value = ValueId::from_index(i);
        let rank = channels.positions[i].len();
        for axis in 0..rank {
            let Some(keep) = kept(channels, &removed, value, axis) else { continue };
            if keep.is_empty() {
                return Err(Error::invalid(format!(
                    "the cut leaves no channel on axis {axis} of `{}`",
                    graph.name(value)
                ))
                .code_is("E0121"));
            }
            let is_constant_node =
                index.producer(value).is_some_and(|node| graph.node(node).op == "Constant");
            if graph.initializer(value).is_some() || is_constant_node {
                edits.push(Edit::Slice { value, axis, keep });
            }
        }
    }
    for id in graph.node_ids() {
        let cx = NodeCx::new(graph, id);
        let cut = CutCx { channels, removed: &removed, node: cx.node, facts };
        if let Some(operator) = ops::lookup(&cx.node.domain, &cx.node.op)
            && cut.touches()
        {
            edits.extend(operator.follow_cut(&cx, &cut).map_err(|error| cx.locate(error))?);
        }
    }
    Ok(edits)
}
