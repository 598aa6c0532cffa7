//! Which activations are quantized, and which of them share a scale.
//!
//! A pair of QuantizeLinear and DequantizeLinear stands where runtimes look for it to make integer
//! kernels: on what a layer reads and on what a convolution, sum or average writes, behind the
//! rectifier or clip that the kernel takes along. Operators that only move elements (pooling by
//! maxima, reshaping, concatenation) have one scale on both sides. All other operators compute in
//! floats.

use super::layers::Layer;
use tensor_core::graph::{Attribute, Graph, Index};
use tensor_core::run::Facts;
use tensor_core::{ElementType, NodeId, ValueId};

/// The quantized activations of a graph.
#[derive(Debug, Clone)]
pub(super) struct Sites {
    /// The class of each value; `None` for values that stay float.
    class_of: Vec<Option<usize>>,
    /// Values that share a scale, by class, in graph order.
    pub(super) classes: Vec<Class>,
}

/// Values with one scale.
#[derive(Debug, Clone, Default)]
pub(super) struct Class {
    /// All values.
    pub(super) values: Vec<ValueId>,
    /// The values whose range counts: the others hold the same elements.
    pub(super) roots: Vec<ValueId>,
    /// Does something other than layers read it?
    pub(super) is_shared: bool,
}

impl Sites {
    /// All values stay float.
    pub(super) fn none() -> Self {
        Self { class_of: Vec::new(), classes: Vec::new() }
    }

    /// The class of a value.
    pub(super) fn class(&self, value: ValueId) -> Option<usize> {
        self.class_of.get(value.index()).copied().flatten()
    }
}

/// What an operator is for quantization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A layer of this index.
    Layer(usize),
    /// Adds or multiplies two activations.
    Sum,
    /// Takes means.
    Average,
    /// Moves elements of its first input.
    Moves,
    /// Moves elements of all inputs.
    Joins,
    Float,
}

/// Finds the quantized activations.
pub(super) fn find_sites(graph: &Graph, facts: &Facts, layers: &[Layer]) -> Sites {
    let index = Index::new(graph);
    let mut finder = Finder {
        graph,
        facts,
        index,
        parent: (0..graph.value_count()).collect(),
        is_site: vec![false; graph.value_count()],
        is_integer: vec![false; graph.value_count()],
        moved: vec![false; graph.value_count()],
    };
    for id in graph.node_ids() {
        let role = finder.role(id, layers);
        finder.visit(id, role);
    }
    finder.finish(layers)
}

struct Finder<'a> {
    graph: &'a Graph,
    facts: &'a Facts,
    index: Index,
    parent: Vec<usize>,
    is_site: Vec<bool>,
    /// Written by a kernel that can write integers.
    is_integer: Vec<bool>,
    /// Holds elements of another value.
    moved: Vec<bool>,
}

impl Finder<'_> {
    fn role(&self, id: NodeId, layers: &[Layer]) -> Role {
        let node = self.graph.node(id);
        if let Some(layer) = layers.iter().position(|layer| layer.node == id) {
            return Role::Layer(layer);
        }
        if !node.domain.is_empty() || node.outputs.iter().flatten().count() != 1 {
            return Role::Float;
        }
        let floats = |value: Option<ValueId>| value.is_some_and(|value| self.is_float(value));
        let integer = |i: usize| node.input(i).is_some_and(|v| self.is_integer[v.index()]);
        match node.op.as_str() {
            "Add" | "Mul"
                if floats(node.input(0)) && floats(node.input(1)) && (integer(0) || integer(1)) =>
            {
                Role::Sum
            }
            "AveragePool" | "GlobalAveragePool" if integer(0) => Role::Average,
            "MaxPool" | "Reshape" | "Flatten" | "Transpose" | "Squeeze" | "Unsqueeze" | "Slice"
            | "DepthToSpace" | "SpaceToDepth"
                if integer(0) =>
            {
                Role::Moves
            }
            "Resize" if integer(0) && self.is_nearest(id) => Role::Moves,
            "Concat" if (0..node.inputs.len()).all(integer) => Role::Joins,
            _ => Role::Float,
        }
    }

    fn is_float(&self, value: ValueId) -> bool {
        self.facts.get(value).is_some_and(|f| !f.fixed && f.element == ElementType::F32)
    }

    fn is_nearest(&self, id: NodeId) -> bool {
        match self.graph.node(id).attributes.get("mode") {
            None => true,
            Some(Attribute::Bytes(mode)) => mode == b"nearest",
            Some(_) => false,
        }
    }

    fn visit(&mut self, id: NodeId, role: Role) {
        let node = self.graph.node(id);
        let Some(output) = node.output(0) else { return };
        match role {
            Role::Float => {}
            Role::Layer(_) => {
                // Without an integer kernel only the weight is integers.
                if node.op == "ConvTranspose" {
                    return;
                }
                node.input(0).into_iter().for_each(|input| self.is_site[input.index()] = true);
                // A matrix product can write floats from its integers; a convolution cannot.
                if node.op == "Conv" {
                    self.writes(output);
                } else {
                    let last = self.fused(output);
                    self.is_integer[last.index()] = true;
                }
            }
            Role::Sum | Role::Average => {
                for input in node.inputs.iter().flatten() {
                    self.is_site[input.index()] = true;
                }
                self.writes(output);
            }
            Role::Moves | Role::Joins => {
                let count = if role == Role::Joins { node.inputs.len() } else { 1 };
                let inputs: Vec<ValueId> =
                    node.inputs.iter().take(count).flatten().copied().collect();
                for input in inputs {
                    self.is_site[input.index()] = true;
                    self.join(input, output);
                }
                self.is_site[output.index()] = true;
                self.is_integer[output.index()] = true;
                self.moved[output.index()] = true;
            }
        }
    }

    /// The output of a kernel that writes integers becomes a site.
    fn writes(&mut self, output: ValueId) {
        let last = self.fused(output);
        self.is_site[last.index()] = true;
        self.is_integer[last.index()] = true;
    }

    /// The output of the rectifier or clip behind a value that nothing else reads, or the value.
    fn fused(&self, value: ValueId) -> ValueId {
        let [(reader, 0)] = self.index.readers(value) else { return value };
        let node = self.graph.node(*reader);
        let fuses = node.domain.is_empty() && ["Relu", "Clip"].contains(&node.op.as_str());
        match node.output(0) {
            Some(next) if fuses && !self.graph.outputs.contains(&value) => next,
            _ => value,
        }
    }

    fn root(&self, mut at: usize) -> usize {
        while self.parent[at] != at {
            at = self.parent[at];
        }
        at
    }

    fn join(&mut self, a: ValueId, b: ValueId) {
        let (a, b) = (self.root(a.index()), self.root(b.index()));
        self.parent[a.max(b)] = a.min(b);
    }

    /// Does something read a value that is neither a layer nor moves its elements?
    fn is_shared(&self, value: ValueId, layers: &[Layer]) -> bool {
        let is_other = |&(id, input): &(NodeId, usize)| {
            let is_layer = input == 0 && layers.iter().any(|layer| layer.node == id);
            let output = self.graph.node(id).output(0);
            !is_layer && !output.is_some_and(|output| self.moved[output.index()])
        };
        self.graph.outputs.contains(&value) || self.index.readers(value).iter().any(is_other)
    }

    fn finish(self, layers: &[Layer]) -> Sites {
        let mut class_of = vec![None; self.is_site.len()];
        let mut classes: Vec<Class> = Vec::new();
        let mut numbers = vec![None; self.is_site.len()];
        for i in (0..self.is_site.len()).filter(|&i| self.is_site[i]) {
            let number = *numbers[self.root(i)].get_or_insert_with(|| {
                classes.push(Class::default());
                classes.len() - 1
            });
            let (value, class) = (ValueId::from_index(i), &mut classes[number]);
            class.values.push(value);
            class.is_shared |= self.is_shared(value, layers);
            if !self.moved[i] {
                class.roots.push(value);
            }
            class_of[i] = Some(number);
        }
        Sites { class_of, classes }
    }
}
