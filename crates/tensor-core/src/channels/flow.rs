//! What an operator does with channel labels.

use super::union_find::UnionFind;
use crate::graph::Graph;
use crate::run::Facts;
use crate::{NodeId, ValueId};
use std::sync::Arc;

/// Name of one position along one axis. Positions with tied labels live or die together.
pub type Label = u32;

/// Labels along the axes of a value; `None` for an axis without channels (batch, space).
pub type Labels = Vec<Option<Arc<[Label]>>>;

/// Which axis carries the channels of an axis that a reshape splits over several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SplitAxis {
    /// The one that leaves the most classes: of attention, a dimension of all heads at once.
    #[default]
    Finest,
    /// The last but one of those that are longer than 1: of attention, whole heads.
    Heads,
}

/// A place where a node sums over channels: masking this input there removes the channels'
/// contribution exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contraction {
    /// The summing node.
    pub node: NodeId,
    /// Its data input.
    pub input: usize,
    /// The axis of the data input that is summed over.
    pub axis: usize,
    /// The weight input and its axis that meets the channels; `None` when both sides are data.
    pub weight: Option<(usize, usize)>,
    /// The weight axis that makes the outputs, when there is a weight.
    pub weight_out: Option<usize>,
}

/// Labels of a whole graph while operators are visited in order.
pub struct Flow<'a> {
    pub(super) graph: &'a Graph,
    pub(super) facts: &'a Facts,
    pub(super) labels: Vec<Labels>,
    pub(super) ties: UnionFind,
    /// Label to the list it was made in; tied lists form one group.
    pub(super) origin: Vec<u32>,
    pub(super) origins: UnionFind,
    /// Reason index by label, for labels frozen directly.
    pub(super) frozen: Vec<Option<u32>>,
    pub(super) reasons: Vec<String>,
    pub(super) contractions: Vec<Contraction>,
    pub(super) node: NodeId,
    split: SplitAxis,
}

impl<'a> Flow<'a> {
    pub(super) fn new(graph: &'a Graph, facts: &'a Facts, split: SplitAxis) -> Self {
        Self {
            graph,
            facts,
            labels: vec![Vec::new(); graph.value_count()],
            ties: UnionFind::default(),
            origin: Vec::new(),
            origins: UnionFind::default(),
            frozen: Vec::new(),
            reasons: Vec::new(),
            contractions: Vec::new(),
            node: NodeId::from_index(0),
            split,
        }
    }

    /// What carries the channels of an axis that is split.
    pub fn split(&self) -> SplitAxis {
        self.split
    }

    fn input_value(&self, input: usize) -> Option<ValueId> {
        self.graph.node(self.node).input(input)
    }

    /// Dimensions of an input of the current node; empty when absent.
    pub fn dims(&self, input: usize) -> &'a [usize] {
        self.input_value(input).and_then(|value| self.facts.dims(value)).unwrap_or_default()
    }

    /// Dimensions of an output of the current node.
    pub fn output_dims(&self, output: usize) -> &'a [usize] {
        let value = self.graph.node(self.node).output(output);
        value.and_then(|value| self.facts.dims(value)).unwrap_or_default()
    }

    /// What inference knows about an input.
    pub fn fact(&self, input: usize) -> Option<&'a crate::run::Fact> {
        self.input_value(input).and_then(|value| self.facts.get(value))
    }

    /// What inference knows about any value.
    pub fn fact_of(&self, value: ValueId) -> Option<&'a crate::run::Fact> {
        self.facts.get(value)
    }

    /// The labels of any value that was visited, by axis.
    pub fn labels(&self, value: ValueId) -> &Labels {
        &self.labels[value.index()]
    }

    /// The labels of an input, by axis.
    pub fn input(&self, input: usize) -> Labels {
        let rank = self.dims(input).len();
        let mut labels =
            self.input_value(input).map_or(Vec::new(), |value| self.labels[value.index()].clone());
        labels.resize(rank, None);
        labels
    }

    /// Gives an integer initializer labels of its own, as float initializers have from the start:
    /// its elements are values of channels, not sizes or indices.
    pub fn adopt(&mut self, input: usize) {
        if let Some(value) = self.input_value(input)
            && self.labels[value.index()].is_empty()
            && let Some(constant) = self.graph.initializer(value)
        {
            let labels = constant.dims().iter().map(|&n| Some(self.fresh(n))).collect();
            self.labels[value.index()] = labels;
        }
    }

    /// Labels along one axis of an input. An axis without labels gets frozen ones.
    pub fn axis(&mut self, input: usize, axis: usize) -> Arc<[Label]> {
        let Some(value) = self.input_value(input) else { return Arc::new([]) };
        let mut labels = self.input(input);
        if let Some(Some(existing)) = labels.get(axis) {
            return existing.clone();
        }
        let length = self.dims(input).get(axis).copied().unwrap_or(0);
        let what = format!("axis {axis} of `{}` carries no channels", self.graph.name(value));
        let fresh = self.fresh_frozen(length, what);
        if axis < labels.len() {
            labels[axis] = Some(fresh.clone());
            self.labels[value.index()] = labels;
        }
        fresh
    }

    /// New labels that nothing ties yet.
    pub fn fresh(&mut self, count: usize) -> Arc<[Label]> {
        let origin = self.origins.add();
        (0..count)
            .map(|_| {
                self.origin.push(origin);
                self.frozen.push(None);
                self.ties.add()
            })
            .collect()
    }

    /// New labels that can never be cut.
    pub fn fresh_frozen(&mut self, count: usize, reason: String) -> Arc<[Label]> {
        let labels = self.fresh(count);
        self.freeze(&labels, reason);
        labels
    }

    /// States the labels of an output; axes beyond the list have none.
    pub fn set_output(&mut self, output: usize, labels: Labels) {
        if let Some(value) = self.graph.node(self.node).output(output) {
            self.labels[value.index()] = labels;
        }
    }

    /// Ties two lists position by position; lists of different lengths freeze both.
    pub fn tie(&mut self, a: &[Label], b: &[Label]) {
        if a.len() != b.len() {
            let reason = format!("lengths {} and {} do not match", a.len(), b.len());
            self.freeze(a, reason.clone());
            self.freeze(b, reason);
            return;
        }
        for (&a, &b) in a.iter().zip(b) {
            self.tie_two(a, b);
        }
    }

    /// Ties all labels of a list together.
    pub fn tie_together(&mut self, labels: &[Label]) {
        for pair in labels.windows(2) {
            self.tie_two(pair[0], pair[1]);
        }
    }

    fn tie_two(&mut self, a: Label, b: Label) {
        self.ties.union(a, b);
        self.origins.union(self.origin[a as usize], self.origin[b as usize]);
    }

    /// Freezes labels; `reason` completes "frozen because ...".
    pub fn freeze(&mut self, labels: &[Label], reason: String) {
        let reason = match self.reasons.iter().rposition(|known| *known == reason) {
            Some(index) => index,
            None => {
                self.reasons.push(reason);
                self.reasons.len() - 1
            }
        };
        for &label in labels {
            self.frozen[label as usize].get_or_insert(reason as u32);
        }
    }

    /// Freezes one axis of an input, if it carries labels.
    pub fn freeze_axis(&mut self, input: usize, axis: usize, reason: &str) {
        if let Some(Some(labels)) = self.input(input).get(axis) {
            let reason = self.at_node(reason);
            self.freeze(labels, reason);
        }
    }

    /// Freezes every label of one input.
    pub fn freeze_input(&mut self, input: usize, reason: &str) {
        for axis in 0..self.dims(input).len() {
            self.freeze_axis(input, axis, reason);
        }
        // Without facts the rank is unknown here, but labels may exist.
        if let Some(value) = self.input_value(input) {
            self.freeze_value(value, reason);
        }
    }

    pub(super) fn freeze_value(&mut self, value: ValueId, reason: &str) {
        let reason = self.at_node(reason);
        for labels in self.labels[value.index()].clone().into_iter().flatten() {
            self.freeze(&labels, reason.clone());
        }
    }

    /// Freezes every label that reaches the current node; its outputs carry none.
    pub fn barrier(&mut self, reason: String) {
        let node = self.graph.node(self.node);
        for value in node.inputs.iter().flatten().chain(&node.captures) {
            self.freeze_value(*value, &reason);
        }
    }

    /// Notes that the current node sums over an axis of an input, and ties it to the weight's axis.
    pub fn contract(
        &mut self,
        (input, axis): (usize, usize),
        weight: Option<(usize, usize)>,
        weight_out: Option<usize>,
    ) {
        self.contractions.push(Contraction { node: self.node, input, axis, weight, weight_out });
    }

    fn at_node(&self, reason: &str) -> String {
        format!("{reason} (node {})", self.graph.describe(self.node))
    }
}
