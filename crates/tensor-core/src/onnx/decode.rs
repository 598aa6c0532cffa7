//! `ModelProto` to [`Graph`].

use super::external::External;
use super::node::DEFAULT_DOMAIN;
use super::proto::{
    GraphProto, ModelProto, SparseTensorProto, StringStringEntryProto, TensorProto, ValueInfoProto,
};
use super::sparse::Budget;
use super::tensor::{self, Place};
use super::{info, nested, node, sort};
use crate::graph::{Graph, Listed, Opaque};
use crate::{Error, ErrorKind, Result};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;

/// The newest IR version of the schema. Newer files may have fields that would be lost.
const NEWEST_IR: i64 = super::proto::Version::IrVersion as i64;
const OLDEST_OPSET: i64 = 9;

/// Converts a model, apart from its main graph, and that graph, moving their data.
///
/// # Errors
/// `E0101` to `E0104`, as in [`crate::onnx::read`].
pub(super) fn graph(
    mut model: ModelProto,
    mut body: GraphProto,
    external: &mut External<'_>,
) -> Result<Graph> {
    let ir_version = model.ir_version.take().unwrap_or_default();
    if !(1..=NEWEST_IR).contains(&ir_version) {
        return Err(unsupported(format!(
            "IR version {ir_version} is not known, only 1 to {NEWEST_IR}"
        ))
        .hint("save the model with an older version of `onnx`, or update kerf"));
    }
    let mut graph = Graph {
        ir_version,
        opsets: opsets(&model)?,
        metadata: metadata(&mut model.metadata_props),
        producer: (text(&mut model.producer_name), text(&mut model.producer_version)),
        ..Graph::default()
    };
    check_opset(&graph, &body)?;

    let inputs = take(&mut body.input);
    add_inputs(&mut graph, &inputs)?;
    for one in take(&mut body.initializer) {
        add_initializer(&mut graph, one, external)?;
    }
    add_sparse(&mut graph, &body.sparse_initializer, external)?;
    for (index, one) in take(&mut body.node).into_iter().enumerate() {
        let node = node::decode(one, index, &mut graph, external)?;
        graph.nodes.push(node);
    }
    declare(&mut graph, inputs, take(&mut body.output), take(&mut body.value_info))?;

    let is_constant = graph.constants();
    let listed = graph.layout.inputs.iter().copied();
    graph.inputs = listed.filter(|value| !is_constant[value.index()]).collect();

    model.graph = Some(body);
    nested::in_model(&mut model, &mut |one| tensor::inline_external(one, external))?;
    graph.opaque = Opaque(model.encode_to_vec());
    sort::sort(&mut graph)?;
    graph.validate()?;
    Ok(graph)
}

/// Versions by domain. The list itself stays in the model, since its spelling is free.
fn opsets(model: &ModelProto) -> Result<BTreeMap<String, i64>> {
    let mut opsets = BTreeMap::new();
    for one in &model.opset_import {
        let domain = domain(one.domain());
        let old = opsets.insert(domain.to_owned(), one.version());
        if old.is_some_and(|old| old != one.version()) {
            return Err(twice(&format!("the version of operator set `{domain}`")));
        }
    }
    Ok(opsets)
}

/// The canonical spelling of a domain.
pub(super) fn domain(name: &str) -> &str {
    if name == DEFAULT_DOMAIN { "" } else { name }
}

fn check_opset(graph: &Graph, body: &GraphProto) -> Result<()> {
    let Some(&version) = graph.opsets.get("") else {
        return match body.node.iter().any(|node| domain(node.domain()).is_empty()) {
            true => {
                Err(unsupported("the model does not say which operator set it uses".to_owned())
                    .hint("convert it with `onnx.version_converter` to opset 13 or newer"))
            }
            false => Ok(()),
        };
    };
    if version < OLDEST_OPSET {
        return Err(unsupported(format!(
            "opset {version} is too old, {OLDEST_OPSET} is the oldest"
        ))
        .hint("convert the model with `onnx.version_converter` to opset 13 or newer"));
    }
    Ok(())
}

/// Keys and values. Entries without one of them stay in the model as well, to be written alike.
fn metadata(props: &mut Vec<StringStringEntryProto>) -> Vec<(String, String)> {
    let pairs = props.iter().map(|p| (p.key().to_owned(), p.value().to_owned())).collect();
    if props.iter().all(|p| p.key.is_some() && p.value.is_some()) {
        props.clear();
    }
    pairs
}

/// Moves a string out; an empty one stays, to tell "empty" from "absent".
fn text(field: &mut Option<String>) -> String {
    if field.as_ref().is_some_and(String::is_empty) {
        return String::new();
    }
    field.take().unwrap_or_default()
}

fn add_inputs(graph: &mut Graph, inputs: &[ValueInfoProto]) -> Result<()> {
    let mut names = BTreeSet::new();
    for one in inputs {
        let name = named(one.name(), "a graph input")?;
        if !names.insert(name) {
            return Err(twice(&format!("graph input `{name}`")));
        }
        let value = graph.value(name);
        graph.layout.inputs.push(value);
    }
    Ok(())
}

fn add_initializer(
    graph: &mut Graph,
    mut proto: TensorProto,
    external: &mut External<'_>,
) -> Result<()> {
    let name = proto.name.take().unwrap_or_default();
    let value = graph.value(named(&name, "an initializer")?);
    if graph.initializer(value).is_some() {
        return Err(twice(&format!("initializer `{name}`")));
    }
    let constant = tensor::decode(proto, Place::Initializer(&name), external)?;
    graph.set_initializer(value, constant);
    Ok(())
}

/// Reads sparse initializers as dense ones, where that can be.
fn add_sparse(
    graph: &mut Graph,
    list: &[SparseTensorProto],
    external: &mut External<'_>,
) -> Result<()> {
    let mut budget = Budget::new(list);
    let mut seen = BTreeSet::new();
    for one in list {
        let name = one.values.as_ref().map_or("", |values| values.name());
        let value = graph.value(named(name, "a sparse initializer")?);
        if !seen.insert(value) || graph.initializer(value).is_some() {
            return Err(twice(&format!("initializer `{name}`")));
        }
        match budget.dense(one, name, external)? {
            Some(constant) => {
                graph.layout.sparse.insert(value, constant.clone());
                graph.set_initializer(value, constant);
            }
            None => graph.sparse.push(value),
        }
    }
    Ok(())
}

/// Takes over declarations: the first list that names a value counts, others stay opaque.
fn declare(
    graph: &mut Graph,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
    value_infos: Vec<ValueInfoProto>,
) -> Result<()> {
    for one in inputs {
        let value = graph.value(one.name());
        graph.declare(value, Some(info::decode(one)));
    }
    for one in outputs {
        let value = graph.value(named(one.name(), "a graph output")?);
        graph.outputs.push(value);
        let declared = info::decode(one);
        match graph.declared(value) {
            None => graph.declare(value, Some(declared)),
            Some(_) => graph.layout.outputs.push((value, declared.opaque)),
        }
    }
    for one in value_infos {
        let listed = match graph.find(one.name()) {
            Some(value) if graph.declared(value).is_none() => {
                graph.declare(value, Some(info::decode(one)));
                Listed::Value(value)
            }
            _ => Listed::Other(Opaque(one.encode_to_vec())),
        };
        graph.layout.value_infos.push(listed);
    }
    graph.layout.redeclared.clear();
    Ok(())
}

fn named<'a>(name: &'a str, what: &str) -> Result<&'a str> {
    if name.is_empty() {
        return Err(Error::invalid(format!("{what} has no name")).code_is("E0102"));
    }
    Ok(name)
}

fn twice(what: &str) -> Error {
    Error::invalid(format!("{what} is given twice"))
        .code_is("E0102")
        .hint("names must be unique; rename one of the two")
}

fn unsupported(message: String) -> Error {
    Error::new(ErrorKind::Unsupported, "E0103", message)
}
