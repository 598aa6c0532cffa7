//! Inputs that state output sizes (`Reshape`, `Expand`, `Resize`): may a cut change them, and how.

use super::NodeCx;
use super::operand::size_constant;
use crate::channels::{CutCx, Flow, Labels};
use crate::graph::Graph;
use crate::rewrite::Edit;
use crate::{Error, Result, ValueId};

/// An input whose entries are sizes of output axes.
pub(super) struct Target {
    /// The input.
    pub(super) input: usize,
    /// The output axis of each entry.
    pub(super) axes: Vec<usize>,
    /// The entry that leaves the size open.
    pub(super) open: i64,
    /// Does a 0 copy the size of the same axis of input 0?
    pub(super) copies: bool,
}

impl Target {
    /// Freezes the labels whose axis could not follow a cut, and returns those of the output.
    ///
    /// A target that is constant can be rewritten. One that is computed from shapes adapts where
    /// its entry is open, or is read from an axis, which then is tied.
    pub(super) fn adapt(&self, cx: &NodeCx, flow: &mut Flow, labels: Labels) -> Labels {
        let Some(fact) = flow.fact(self.input) else { return labels };
        if fact.fixed {
            return labels;
        }
        let entries = fact.integers().unwrap_or_default();
        let target = cx.node.input(self.input);
        for (entry, &axis) in self.axes.iter().enumerate() {
            let list = labels.get(axis).cloned().flatten();
            let value = entries.get(entry).copied();
            if value == Some(self.open) {
                continue;
            }
            if value == Some(0) && self.copies && flow.input(0).get(axis) == Some(&list) {
                continue;
            }
            let source = target
                .and_then(|target| trace(cx.graph, flow, target, entry))
                .and_then(|(value, axis)| flow.labels(value).get(axis).cloned().flatten());
            match (list, source) {
                (Some(list), Some(source)) => flow.tie(&list, &source),
                (Some(list), None) | (None, Some(list)) => {
                    flow.freeze(
                        &list,
                        format!("{} computes sizes at run time", cx.graph.describe(cx.id)),
                    );
                }
                (None, None) => {}
            }
        }
        labels
    }

    /// The new constant after a cut, when the old one no longer fits.
    pub(super) fn rewrite(&self, cx: &NodeCx, cut: &CutCx) -> Result<Vec<Edit>> {
        let Some(fact) = cut.input_fact(self.input) else { return Ok(Vec::new()) };
        if !fact.fixed {
            return Ok(Vec::new());
        }
        let old = fact.integers()?;
        let (dims, old_dims, input) =
            (cut.output_dims(0), cut.old_output_dims(0), cut.input_dims(0));
        let mut new = old.clone();
        for (entry, &axis) in new.iter_mut().zip(&self.axes) {
            let (Some(&dim), Some(&old_dim)) = (dims.get(axis), old_dims.get(axis)) else {
                continue;
            };
            let copied = *entry == 0 && self.copies && input.get(axis) == Some(&dim);
            if dim != old_dim && *entry != self.open && !copied {
                *entry = i64::try_from(dim).map_err(|_| Error::internal("size overflow"))?;
            }
        }
        if new == old {
            return Ok(Vec::new());
        }
        let constant = size_constant(fact.element, &new)?;
        Ok(vec![Edit::SetInput { node: cx.id, input: self.input, constant }])
    }
}

/// Follows an entry of a computed size back to the axis it was read from.
fn trace(graph: &Graph, flow: &Flow, value: ValueId, entry: usize) -> Option<(ValueId, usize)> {
    let (mut value, mut entry) = (value, entry);
    // The path never visits a node twice, since the graph is acyclic.
    for _ in 0..=graph.nodes.len() {
        let node = graph.nodes.iter().find(|node| node.output(0) == Some(value))?;
        let constants = |input: usize| {
            let fact = node.input(input).and_then(|value| flow.fact_of(value))?;
            if fact.fixed { fact.integers().ok() } else { None }
        };
        let length = |value: ValueId| Some(flow.fact_of(value)?.count());
        match node.op.as_str() {
            "Shape" => {
                let rank = flow.fact_of(node.input(0)?)?.dims.len() as i64;
                let start = node.attributes.int("start", 0).ok()?;
                let start =
                    if start < 0 { start.saturating_add(rank) } else { start }.clamp(0, rank);
                return Some((node.input(0)?, start as usize + entry));
            }
            "Identity" | "Cast" | "Unsqueeze" | "Squeeze" | "Reshape" => value = node.input(0)?,
            "Gather" => {
                let index = *constants(1)?.get(entry)?;
                value = node.input(0)?;
                let from_front = if index < 0 { index + length(value)? as i64 } else { index };
                entry = usize::try_from(from_front).ok()?;
            }
            "Slice" if node.inputs.len() >= 3 => {
                if node.inputs.len() > 4 && constants(4)? != [1] {
                    return None;
                }
                let start = *constants(1)?.first()?;
                value = node.input(0)?;
                let length = length(value)? as i64;
                let start = if start < 0 { start.saturating_add(length) } else { start };
                entry += start.clamp(0, length) as usize;
            }
            "Concat" => {
                let mut inputs = node.inputs.iter();
                value = loop {
                    let part = (*inputs.next()?)?;
                    let length = length(part)?;
                    if entry < length {
                        break part;
                    }
                    entry -= length;
                };
            }
            _ => return None,
        }
    }
    None
}
