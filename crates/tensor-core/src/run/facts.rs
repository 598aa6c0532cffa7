//! Shape and type inference at concrete input shapes.

use super::Array;
use crate::graph::{Dim, Graph};
use crate::ops::{self, Inputs, NodeCx};
use crate::{ElementType, Error, Result, ValueId};
use std::collections::BTreeMap;

/// What is known about a value at the given input shapes.
#[derive(Debug, Clone)]
pub struct Fact {
    /// Element type.
    pub element: ElementType,
    /// Dimensions.
    pub dims: Vec<usize>,
    /// The elements, where they depend on nothing but constants and the input shapes.
    pub value: Option<Array>,
    /// The elements depend on constants only, not on any input shape.
    pub fixed: bool,
}

impl Fact {
    /// A value of which only type and shape are known.
    pub fn new(element: ElementType, dims: Vec<usize>) -> Self {
        Self { element, dims, value: None, fixed: false }
    }

    /// Number of elements.
    pub fn count(&self) -> usize {
        self.dims.iter().product()
    }

    /// The integers of a value that is known.
    ///
    /// # Errors
    /// When it depends on data.
    pub fn integers(&self) -> Result<Vec<i64>> {
        match &self.value {
            Some(array) => array.to_i64s(),
            None => Err(Error::unsupported("sizes that depend on the data")),
        }
    }
}

/// Facts of all values of a graph.
#[derive(Debug, Clone)]
pub struct Facts(Vec<Option<Fact>>);

impl Facts {
    /// The fact of a value; `None` where an operator is unknown.
    pub fn get(&self, value: ValueId) -> Option<&Fact> {
        self.0.get(value.index()).and_then(Option::as_ref)
    }

    /// Dimensions of a value, where known.
    pub fn dims(&self, value: ValueId) -> Option<&[usize]> {
        self.get(value).map(|fact| fact.dims.as_slice())
    }
}

/// Largest number of elements that inference evaluates: sizes and small tables, not weights.
const MAX_FOLDED: usize = 4096;

/// Largest number of elements of any value, against shapes that lie.
const MAX_ELEMENTS: usize = 1 << 33;

/// Infers facts for all values.
///
/// `shapes` overrides or completes the declared input shapes by name; the first dimension of an
/// input is taken as 1 when it is open and not given. Nodes with unknown operators, and what
/// depends on them, get no facts.
///
/// # Errors
/// `E0111` when an input dimension is open and not given; invalid shapes and attributes.
pub fn infer(graph: &Graph, shapes: &BTreeMap<String, Vec<usize>>) -> Result<Facts> {
    let (facts, errors) = infer_all(graph, shapes);
    match errors.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(facts),
    }
}

/// As [`infer`], but takes the file's word for what unknown operators make, where it declares type
/// and shape (`value_info`). For counting only: what is behind such an operator cannot be run.
///
/// # Errors
/// As [`infer`].
pub fn infer_declared(graph: &Graph, shapes: &BTreeMap<String, Vec<usize>>) -> Result<Facts> {
    let (facts, errors) = infer_with(graph, shapes, &|facts, value| declared(graph, facts, value));
    match errors.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(facts),
    }
}

/// As [`infer`], but goes on after an error, without facts for what depends on it.
///
/// Returns what could be inferred, and every error in graph order.
pub fn infer_all(graph: &Graph, shapes: &BTreeMap<String, Vec<usize>>) -> (Facts, Vec<Error>) {
    infer_with(graph, shapes, &|_, _| None)
}

/// Inference with a rule for the outputs of unknown operators.
fn infer_with(
    graph: &Graph,
    shapes: &BTreeMap<String, Vec<usize>>,
    unknown: &dyn Fn(&Facts, ValueId) -> Option<Fact>,
) -> (Facts, Vec<Error>) {
    let mut facts = Facts(vec![None; graph.value_count()]);
    let mut errors = Vec::new();
    for name in shapes.keys() {
        if !graph.inputs.iter().any(|&input| graph.name(input) == name) {
            errors.push(
                Error::invalid(format!("the model has no input `{name}`"))
                    .code_is("E0111")
                    .hint(input_names(graph)),
            );
        }
    }
    for &input in &graph.inputs {
        facts.0[input.index()] =
            input_fact(graph, input, shapes).map_err(|error| errors.push(error)).ok();
    }
    for &value in graph.initializers() {
        let Some(constant) = graph.initializer(value) else { continue };
        let mut fact = Fact::new(constant.element(), constant.dims().to_vec());
        fact.fixed = true;
        if constant.count() <= MAX_FOLDED && constant.element().storage().is_some() {
            fact.value = Array::from_constant(constant).map_err(|error| errors.push(error)).ok();
        }
        facts.0[value.index()] = Some(fact);
    }
    for id in graph.node_ids() {
        let cx = NodeCx::new(graph, id);
        let Some(operator) = ops::lookup(&cx.node.domain, &cx.node.op) else {
            for &value in cx.node.outputs.iter().flatten() {
                facts.0[value.index()] = unknown(&facts, value);
            }
            continue;
        };
        if cx.node.inputs.iter().flatten().any(|&value| facts.get(value).is_none()) {
            continue;
        }
        let inputs = Inputs::new(
            cx.node.inputs.iter().map(|value| value.and_then(|v| facts.get(v))).collect(),
        );
        let outputs = match infer_node(operator, &cx, &inputs) {
            Ok(outputs) => outputs,
            Err(error) => {
                errors.push(cx.locate(error));
                continue;
            }
        };
        for (value, fact) in cx.node.outputs.iter().zip(outputs) {
            if let Some(value) = value {
                facts.0[value.index()] = Some(fact);
            }
        }
    }
    (facts, errors)
}

/// Outputs of one node: by evaluation when all inputs are known and small, else by shape rules.
fn infer_node(
    operator: &dyn ops::Operator,
    cx: &NodeCx,
    inputs: &Inputs<Fact>,
) -> Result<Vec<Fact>> {
    let mut facts = operator.infer(cx, inputs)?;
    for fact in &facts {
        let count = fact.dims.iter().try_fold(1_usize, |n, &dim| n.checked_mul(dim));
        if count.is_none_or(|count| count > MAX_ELEMENTS) {
            return Err(Error::invalid(format!("output shape {:?} is too large", fact.dims)));
        }
    }
    let fixed = inputs.iter().flatten().all(|fact| fact.fixed);
    let known = inputs.iter().flatten().all(|fact| fact.value.is_some());
    if known && facts.iter().all(|fact| fact.value.is_none() && fact.count() <= MAX_FOLDED) {
        let arrays = Inputs::new(inputs.iter().map(|f| f.and_then(|f| f.value.as_ref())).collect());
        for (fact, array) in facts.iter_mut().zip(operator.eval(cx, &arrays)?) {
            fact.value = Some(array);
        }
    }
    for fact in &mut facts {
        fact.fixed |= fixed;
    }
    Ok(facts)
}

/// What a file declares of a value, with the symbols of the graph inputs. An open first dimension is
/// that of the first input.
fn declared(graph: &Graph, facts: &Facts, value: ValueId) -> Option<Fact> {
    let declared = graph.declared(value)?;
    let batch = graph.inputs.first().and_then(|&input| facts.dims(input)?.first().copied());
    let dims = declared.dims.as_ref()?.iter().enumerate().map(|(axis, dim)| match dim {
        Dim::Known(n) => Some(*n),
        Dim::Symbol(symbol) => symbol_length(graph, facts, symbol).or(batch.filter(|_| axis == 0)),
        Dim::Unknown => batch.filter(|_| axis == 0),
    });
    let dims: Vec<usize> = dims.collect::<Option<_>>()?;
    let count = dims.iter().try_fold(1_usize, |n, &dim| n.checked_mul(dim))?;
    (count <= MAX_ELEMENTS).then_some(Fact::new(declared.element?, dims))
}

/// The length that a symbol stands for in the graph inputs.
fn symbol_length(graph: &Graph, facts: &Facts, symbol: &str) -> Option<usize> {
    graph.inputs.iter().find_map(|&input| {
        let dims = graph.declared(input)?.dims.as_ref()?;
        let axis = dims.iter().position(|dim| matches!(dim, Dim::Symbol(s) if s == symbol))?;
        facts.dims(input)?.get(axis).copied()
    })
}

fn input_fact(
    graph: &Graph,
    input: ValueId,
    shapes: &BTreeMap<String, Vec<usize>>,
) -> Result<Fact> {
    let name = graph.name(input);
    let declared = graph.declared(input);
    let element = declared.and_then(|d| d.element).unwrap_or(ElementType::F32);
    let declared = declared.and_then(|d| d.dims.as_deref());
    if let Some(given) = shapes.get(name) {
        let fits = declared.is_none_or(|dims| {
            dims.len() == given.len()
                && dims.iter().zip(given).all(|(dim, n)| !matches!(dim, Dim::Known(d) if d != n))
        });
        if !fits {
            return Err(Error::invalid(format!(
                "shape {given:?} does not fit input `{name}`, declared as {}",
                show(declared.unwrap_or_default())
            ))
            .code_is("E0111"));
        }
        return Ok(Fact::new(element, given.clone()));
    }
    let open = |what: &str| {
        Error::invalid(format!("input `{name}` has an open dimension: {what}"))
            .code_is("E0111")
            .hint(format!("give its shape, such as `shape = {name}=1x3x224x224`"))
    };
    let dims = declared.ok_or_else(|| open("its rank"))?;
    let dims = dims
        .iter()
        .enumerate()
        .map(|(axis, dim)| match dim {
            Dim::Known(n) => Ok(*n),
            _ if axis == 0 => Ok(1),
            Dim::Symbol(symbol) => Err(open(&format!("`{symbol}` (axis {axis})"))),
            Dim::Unknown => Err(open(&format!("axis {axis}"))),
        })
        .collect::<Result<_>>()?;
    Ok(Fact::new(element, dims))
}

fn input_names(graph: &Graph) -> String {
    let names: Vec<_> = graph.inputs.iter().map(|&input| graph.name(input)).collect();
    format!("its inputs are: {}", names.join(", "))
}

/// A declared shape as `batch x 3 x 224 x 224`.
fn show(dims: &[Dim]) -> String {
    let dims: Vec<_> = dims
        .iter()
        .map(|dim| match dim {
            Dim::Known(n) => n.to_string(),
            Dim::Symbol(symbol) => symbol.clone(),
            Dim::Unknown => "?".to_owned(),
        })
        .collect();
    dims.join(" x ")
}
