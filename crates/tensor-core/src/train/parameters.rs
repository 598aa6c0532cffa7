//! Which constants of a graph are parameters, told from the operators that read them.

use crate::graph::{Attribute, Graph, Index, Node};
use crate::run::Array;
use crate::text::{matches, near};
use crate::{Constant, ElementType, Error, NodeId, Result, ValueId};
use candle_core::{DType, Tensor, Var};
use std::collections::{BTreeMap, BTreeSet};

/// What a parameter does in its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Multiplied with a value: the only kind that decays.
    Weight,
    /// Added.
    Bias,
    /// The scale of a normalization.
    Scale,
    /// The slope of a `PRelu`.
    Slope,
}

/// A trainable or frozen parameter.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Name of the initializer.
    pub name: String,
    /// Its id in the graph.
    pub value: ValueId,
    /// What it does in the first node that reads it.
    pub role: Role,
    /// Its number of inputs per output, for initialization; 1 unless it is a weight.
    pub fan_in: usize,
    /// Its value: a variable, also where it is frozen.
    pub var: Var,
    /// Factor of the learning rate; 0 when it is frozen.
    pub rate: f64,
    element: ElementType,
    /// Keys of the nodes that read it.
    readers: Vec<String>,
}

impl Parameter {
    /// Does it stay as it is?
    pub fn is_frozen(&self) -> bool {
        self.rate == 0.0
    }

    /// Its value, or a view of it, as a node reads it.
    pub fn array(&self, tensor: Tensor) -> Array {
        Array { tensor, element: self.element }
    }

    fn answers_to(&self, pattern: &str) -> bool {
        matches(pattern, &self.name) || self.readers.iter().any(|key| matches(pattern, key))
    }
}

/// All parameters of a graph, in the order of its initializers.
#[derive(Debug, Clone, Default)]
pub struct Parameters {
    list: Vec<Parameter>,
    /// Running statistics of batch normalizations, by the initializer that holds them.
    statistics: BTreeMap<ValueId, Tensor>,
}

impl Parameters {
    /// The parameters of a [prepared](prepare) graph, all trainable at the full rate.
    ///
    /// Weights and biases of `Conv`, `ConvTranspose`, `Gemm` and `MatMul` (also behind a `Transpose`
    /// or another change of shape), the tables of `Gather`, scales and biases of normalizations, and
    /// slopes of `PRelu`, where they are floats. Exporters write biases and scales as `Add` and `Mul`
    /// too: constant vectors in an `Add` or `Mul` right behind one of these products, behind such a
    /// `Mul`, or behind the `Div` by a computed value in which a written-out normalization ends.
    ///
    /// # Errors
    /// `E0402` when there is none.
    pub fn of(graph: &Graph) -> Result<Self> {
        let index = Index::new(graph);
        let mut found: BTreeMap<ValueId, (Role, usize, Vec<String>)> = BTreeMap::new();
        for id in graph.node_ids() {
            for (input, role) in slots(graph, &index, id) {
                let Some(value) = graph.node(id).input(input) else { continue };
                let Some(value) = origin(graph, &index, value) else { continue };
                let fan_in = fan_in(graph.node(id), input, role, graph.initializer(value));
                let entry = found.entry(value).or_insert((role, fan_in, Vec::new()));
                entry.2.push(graph.key(id).to_owned());
            }
        }
        let mut parameters = Self::default();
        for &value in graph.initializers() {
            let (Some((role, fan_in, readers)), Some(constant)) =
                (found.remove(&value), graph.initializer(value))
            else {
                continue;
            };
            let array = Array::from_constant(constant)?;
            parameters.list.push(Parameter {
                name: graph.name(value).to_owned(),
                value,
                role,
                fan_in,
                var: Var::from_tensor(&array.tensor)?,
                rate: 1.0,
                element: array.element,
                readers,
            });
        }
        for node in graph.nodes.iter().filter(|node| is_batch_norm(node)) {
            for value in [3, 4].into_iter().filter_map(|input| node.input(input)) {
                if let Some(constant) = graph.initializer(value) {
                    parameters.statistics.insert(value, Array::from_constant(constant)?.tensor);
                }
            }
        }
        if parameters.list.is_empty() {
            return Err(Error::unsupported("the model has no parameter in 32-bit floats to train")
                .code_is("E0402")
                .hint("quantized models are trained before they are quantized"));
        }
        Ok(parameters)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Parameter> {
        self.list.iter()
    }

    /// The parameter of that name.
    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.list.iter().find(|parameter| parameter.name == name)
    }

    /// Multiplies the learning rate of what a pattern names; 0 freezes.
    ///
    /// `*` stands for any text. Names are those of parameters and of the nodes that read them.
    ///
    /// # Errors
    /// `E0407` when nothing has such a name.
    pub fn scale_rate(&mut self, pattern: &str, factor: f64) -> Result<()> {
        let mut any = false;
        for parameter in self.list.iter_mut().filter(|p| p.answers_to(pattern)) {
            parameter.rate *= factor;
            any = true;
        }
        if any {
            return Ok(());
        }
        let known = self.list.iter().flat_map(|p| p.readers.iter().chain([&p.name]));
        let known: std::collections::BTreeSet<&str> = known.map(String::as_str).collect();
        Err(Error::invalid(format!("no parameter or layer is named `{pattern}`"))
            .code_is("E0407")
            .hint(format!("the nearest names are {}", near(pattern, known.into_iter()))))
    }

    /// Applies the patterns of a run: [frozen parts](super::Params::freeze) and
    /// [factors of the rate](super::Params::rates).
    ///
    /// # Errors
    /// `E0407` when nothing has such a name.
    #[cfg(feature = "train")]
    pub(super) fn scale_rates(&mut self, params: &super::Params) -> Result<()> {
        for pattern in &params.freeze {
            self.scale_rate(pattern, 0.0)?;
        }
        params.rates.iter().try_for_each(|(pattern, factor)| self.scale_rate(pattern, *factor))
    }

    /// The factor of the learning rate of an initializer; `None` when it is no parameter.
    #[cfg(feature = "train")]
    pub(super) fn rate(&self, value: ValueId) -> Option<f64> {
        self.list.iter().find(|parameter| parameter.value == value).map(|p| p.rate)
    }

    /// Sets the factor of the learning rate of an initializer.
    #[cfg(feature = "train")]
    pub(super) fn set_rate(&mut self, value: ValueId, rate: f64) {
        for parameter in self.list.iter_mut().filter(|parameter| parameter.value == value) {
            parameter.rate = rate;
        }
    }

    /// Sets values that are not frozen to random ones, drawn from the seed: weights by He's normal initialization
    /// (variance 2 / fan-in; 1 / fan-in for the layer that makes the scores, which no rectifier
    /// follows), biases 0, scales 1, slopes 0.25, running means 0 and variances 1.
    ///
    /// He et al., "Delving Deep into Rectifiers", 2015.
    ///
    /// # Errors
    /// When candle fails.
    pub fn reinitialize(&mut self, graph: &Graph, scores: ValueId, seed: u64) -> Result<()> {
        let index = Index::new(graph);
        let last = index.producer(scores).map(|id| graph.key(id).to_owned());
        for parameter in self.list.iter().filter(|parameter| !parameter.is_frozen()) {
            let count = parameter.var.elem_count();
            let values = match parameter.role {
                Role::Weight => {
                    let is_last = last.as_ref().is_some_and(|key| parameter.readers.contains(key));
                    let gain: f64 = if is_last { 1.0 } else { 2.0 };
                    let deviation = (gain / parameter.fan_in.max(1) as f64).sqrt();
                    super::initialize::normals(seed, &parameter.name, count, deviation)
                }
                Role::Bias => vec![0.0; count],
                Role::Scale => vec![1.0; count],
                Role::Slope => vec![0.25; count],
            };
            let dims = parameter.var.dims();
            parameter.var.set(&Tensor::from_vec(values, dims, parameter.var.device())?)?;
        }
        let frozen = self.frozen_nodes(graph);
        let norms = graph.node_ids().filter(|id| is_batch_norm(graph.node(*id)));
        for node in norms.filter(|id| !frozen.contains(id)).map(|id| graph.node(id)) {
            for (input, value) in [(3, 0.0), (4, 1.0)] {
                if let Some(old) = node.input(input).and_then(|id| self.statistics.get_mut(&id)) {
                    *old = old.affine(0.0, value)?;
                }
            }
        }
        Ok(())
    }

    /// Running statistics of batch normalizations by the initializer that holds them.
    pub fn statistics(&self) -> &BTreeMap<ValueId, Tensor> {
        &self.statistics
    }

    /// Replaces the running statistics of one initializer.
    pub fn set_statistics(&mut self, value: ValueId, statistics: Tensor) {
        self.statistics.insert(value, statistics);
    }

    /// A copy of the graph with the given values of parameters, in their order, and the running
    /// statistics.
    ///
    /// # Errors
    /// When a value has another type than its parameter.
    pub fn written(&self, graph: &Graph, tensors: &[Tensor]) -> Result<Graph> {
        let mut graph = graph.clone();
        let parameters = self.list.iter().zip(tensors);
        let parameters = parameters.map(|(parameter, tensor)| (parameter.value, tensor));
        let statistics = self.statistics.iter().map(|(&value, tensor)| (value, tensor));
        for (value, tensor) in parameters.chain(statistics) {
            let Some(old) = graph.initializer(value) else { continue };
            let encoding = old.encoding;
            let mut constant = Array::new(tensor.detach(), old.element())?.to_constant()?;
            constant.encoding = encoding;
            graph.set_initializer(value, constant);
        }
        Ok(graph)
    }

    /// Nodes that compute as at inference: normalizations of which every parameter is frozen.
    pub fn frozen_nodes(&self, graph: &Graph) -> Vec<NodeId> {
        let is_free = |node: &Node| {
            let mut own = self.list.iter().filter(|p| node.inputs.contains(&Some(p.value)));
            own.any(|parameter| !parameter.is_frozen())
        };
        let frozen = |id: &NodeId| is_batch_norm(graph.node(*id)) && !is_free(graph.node(*id));
        graph.node_ids().filter(frozen).collect()
    }
}

/// Brings parameters into initializers of their own: out of `Constant` nodes, and out of `Identity`
/// nodes by which exporters let equal constants share one (at the start of training all scales are
/// equal). Parameters that nodes read directly together stay shared, running statistics do not:
/// each normalization sees other values.
pub fn prepare(graph: &Graph) -> Graph {
    let index = Index::new(graph);
    let mut is_parameter = vec![false; graph.value_count()];
    for id in graph.node_ids() {
        let statistics = if is_batch_norm(graph.node(id)) { 3..5 } else { 0..0 };
        let inputs = slots(graph, &index, id).into_iter().map(|(input, _)| input);
        for mut value in inputs.chain(statistics).filter_map(|i| graph.node(id).input(i)) {
            is_parameter[value.index()] = true;
            while let Some(before) = passed_on(graph, &index, value) {
                is_parameter[before.index()] = true;
                value = before;
            }
        }
    }
    let mut new = graph.clone();
    let mut kept = Vec::new();
    for node in std::mem::take(&mut new.nodes) {
        let output = node.output(0).filter(|v| is_parameter[v.index()]);
        let constant = match (node.op.as_str(), node.attributes.get("value")) {
            ("Constant", Some(Attribute::Tensor(constant))) => Some(constant.clone()),
            ("Identity", _) => node.input(0).and_then(|v| new.initializer(v).cloned()),
            _ => None,
        };
        match (output, constant) {
            (Some(output), Some(constant)) if !new.outputs.contains(&output) => {
                new.set_initializer(output, constant);
            }
            _ => kept.push(node),
        }
    }
    new.nodes = kept;
    separate_statistics(&mut new);
    new
}

/// Gives each normalization its own running mean and variance.
fn separate_statistics(graph: &mut Graph) {
    let mut taken = BTreeSet::new();
    for at in 0..graph.nodes.len() {
        if !is_batch_norm(&graph.nodes[at]) {
            continue;
        }
        for input in [3, 4] {
            let Some(value) = graph.nodes[at].input(input) else { continue };
            if taken.insert(value) {
                continue;
            }
            let Some(constant) = graph.initializer(value).cloned() else { continue };
            let name = graph.fresh_name(graph.name(value));
            let copy = graph.value(&name);
            graph.set_initializer(copy, constant);
            graph.nodes[at].inputs[input] = Some(copy);
            taken.insert(copy);
        }
    }
}

fn is_batch_norm(node: &Node) -> bool {
    node.domain.is_empty() && node.op == "BatchNormalization"
}

/// The inputs of a node that hold parameters when they are constant.
fn slots(graph: &Graph, index: &Index, id: NodeId) -> Vec<(usize, Role)> {
    let node = graph.node(id);
    if !node.domain.is_empty() {
        return Vec::new();
    }
    match node.op.as_str() {
        "Conv" | "ConvTranspose" => vec![(1, Role::Weight), (2, Role::Bias)],
        "Gemm" => vec![(0, Role::Weight), (1, Role::Weight), (2, Role::Bias)],
        "MatMul" => vec![(0, Role::Weight), (1, Role::Weight)],
        "Gather" => vec![(0, Role::Weight)],
        "BatchNormalization"
        | "InstanceNormalization"
        | "GroupNormalization"
        | "LayerNormalization"
        | "RMSNormalization" => vec![(1, Role::Scale), (2, Role::Bias)],
        "PRelu" => vec![(1, Role::Slope)],
        "Add" | "Mul" => {
            let role = if node.op == "Add" { Role::Bias } else { Role::Scale };
            let follows = |input: usize| {
                let before = node.input(1 - input).and_then(|value| index.producer(value));
                before.is_some_and(|id| makes_channels(graph, index, id))
            };
            let is_vector = |input: usize| {
                let constant = node.input(input).and_then(|value| origin(graph, index, value));
                let dims = constant.and_then(|value| graph.initializer(value)).map(Constant::dims);
                dims.is_some_and(|dims| dims.iter().filter(|&&n| n > 1).count() == 1)
            };
            let inputs = [0, 1].into_iter().filter(|&input| follows(input) && is_vector(input));
            inputs.map(|input| (input, role)).collect()
        }
        _ => Vec::new(),
    }
}

/// Is what a node makes scaled and shifted per channel, if anything is?
fn makes_channels(graph: &Graph, index: &Index, id: NodeId) -> bool {
    let node = graph.node(id);
    match node.op.as_str() {
        _ if !node.domain.is_empty() => false,
        "Conv" | "ConvTranspose" | "Gemm" | "MatMul" => true,
        "Div" => node.input(1).is_some_and(|divisor| index.producer(divisor).is_some()),
        "Mul" => !slots(graph, index, id).is_empty(),
        _ => false,
    }
}

/// The float initializer behind a value, through changes of shape.
fn origin(graph: &Graph, index: &Index, mut value: ValueId) -> Option<ValueId> {
    loop {
        if let Some(constant) = graph.initializer(value) {
            let element = constant.element();
            let is_float = element.is_float() && element.storage() == Some(DType::F32);
            return is_float.then_some(value);
        }
        value = passed_on(graph, index, value)?;
    }
}

/// What a value is a copy or another shape of.
fn passed_on(graph: &Graph, index: &Index, value: ValueId) -> Option<ValueId> {
    let node = graph.node(index.producer(value)?);
    let passes = ["Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"];
    (node.domain.is_empty() && passes.contains(&node.op.as_str())).then(|| node.input(0)).flatten()
}

/// Number of products that make one output.
fn fan_in(node: &Node, input: usize, role: Role, constant: Option<&Constant>) -> usize {
    let dims = constant.map(Constant::dims).unwrap_or_default();
    let is_set = |name| matches!(node.attributes.get(name), Some(Attribute::Int(n)) if *n != 0);
    match (role, node.op.as_str(), dims) {
        (Role::Weight, "Conv", [_, rest @ ..]) => rest.iter().product(),
        (Role::Weight, "ConvTranspose", [inputs, _, window @ ..]) => {
            inputs * window.iter().product::<usize>()
        }
        (Role::Weight, "Gemm", &[rows, columns]) => {
            let name = if input == 0 { "transA" } else { "transB" };
            if is_set(name) == (input == 1) { columns } else { rows }
        }
        (Role::Weight, "MatMul", [.., rows, columns]) => {
            if input == 1 {
                *rows
            } else {
                *columns
            }
        }
        _ => 1,
    }
}
