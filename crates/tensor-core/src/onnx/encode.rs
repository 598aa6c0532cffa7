//! [`Graph`] to `ModelProto`.

use super::decode::domain;
use super::proto::tensor_proto::DataLocation;
use super::proto::{GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto};
use super::proto::{TensorProto, ValueInfoProto};
use super::{info, node, tensor};
use crate::graph::{Constant, Graph, Listed, Opaque};
use crate::{Error, Result, ValueId};
use prost::Message;
use std::collections::{BTreeMap, VecDeque};

/// Below this IR version, initializers must be listed as graph inputs too.
const FREE_INITIALIZERS_IR: i64 = 4;

/// Where the data of an initializer goes in a data file.
#[derive(Debug, Clone)]
pub(super) struct Region {
    /// Name of the data file.
    pub(super) location: String,
    /// First byte.
    pub(super) offset: u64,
    /// Number of bytes.
    pub(super) length: usize,
}

/// Makes the message, sharing the data of constants. `place` says which initializers go into a
/// data file, and where.
///
/// # Errors
/// When the graph is not valid.
pub(super) fn model(
    graph: &Graph,
    place: &mut dyn FnMut(&Constant) -> Option<Region>,
) -> Result<ModelProto> {
    graph.validate()?;
    let mut model = ModelProto::decode(graph.opaque.0.as_slice())
        .map_err(|error| Error::internal(format!("opaque part of a model: {error}")))?;
    model.ir_version = Some(graph.ir_version);
    if !graph.producer.0.is_empty() {
        model.producer_name = Some(graph.producer.0.clone());
    }
    if !graph.producer.1.is_empty() {
        model.producer_version = Some(graph.producer.1.clone());
    }
    set_opsets(&mut model, graph);
    set_metadata(&mut model, graph);

    let body = model.graph.get_or_insert_default();
    for one in &graph.nodes {
        body.node.push(node::encode(graph, one)?);
    }
    let is_sparse = |value: ValueId| graph.layout.is_sparse(value, graph.initializer(value));
    body.sparse_initializer.retain(|one| {
        let value = graph.find(one.values.as_ref().map_or("", |values| values.name()));
        value.is_some_and(|value| !graph.layout.sparse.contains_key(&value) || is_sparse(value))
    });
    for &value in graph.initializers().iter().filter(|&&value| !is_sparse(value)) {
        if let Some(constant) = graph.initializer(value) {
            body.initializer.push(initializer(graph.name(value), constant, place)?);
        }
    }
    let mut listed = vec![false; graph.value_count()];
    set_inputs(body, graph, &mut listed)?;
    set_outputs(body, graph, &mut listed)?;
    set_value_infos(body, graph, &mut listed)?;
    Ok(model)
}

fn set_opsets(model: &mut ModelProto, graph: &Graph) {
    let mut missing = graph.opsets.clone();
    model.opset_import.retain_mut(|one| {
        let name = domain(one.domain());
        missing.remove(name);
        match graph.opsets.get(name) {
            Some(&version) if version != one.version() => one.version = Some(version),
            Some(_) => {}
            None => return false,
        }
        true
    });
    model.opset_import.extend(
        missing.into_iter().map(|(name, version)| OperatorSetIdProto {
            domain: Some(name),
            version: Some(version),
        }),
    );
}

fn set_metadata(model: &mut ModelProto, graph: &Graph) {
    let old = model.metadata_props.iter().map(|p| (p.key(), p.value()));
    if old.eq(graph.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str()))) {
        return;
    }
    let entry = |(key, value): &(String, String)| entry(key, value.clone());
    model.metadata_props = graph.metadata.iter().map(entry).collect();
}

fn initializer(
    name: &str,
    constant: &Constant,
    place: &mut dyn FnMut(&Constant) -> Option<Region>,
) -> Result<TensorProto> {
    let Some(region) = place(constant) else {
        return tensor::encode(constant, Some(name));
    };
    let mut proto = tensor::describe(constant, Some(name))?;
    proto.data_location = Some(DataLocation::External as i32);
    proto.external_data = vec![
        entry("location", region.location),
        entry("offset", region.offset.to_string()),
        entry("length", region.length.to_string()),
    ];
    Ok(proto)
}

fn entry(key: &str, value: String) -> StringStringEntryProto {
    StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) }
}

fn set_inputs(body: &mut GraphProto, graph: &Graph, listed: &mut [bool]) -> Result<()> {
    let constants = graph.constants();
    let is_constant = |value: ValueId| constants[value.index()];
    let file_order = graph.layout.inputs.iter().copied();
    let proper = file_order.clone().filter(|&value| !is_constant(value));
    let mut values: Vec<ValueId> = if proper.eq(graph.inputs.iter().copied()) {
        file_order.collect()
    } else {
        graph.inputs.iter().copied().chain(file_order.filter(|&value| is_constant(value))).collect()
    };
    if graph.ir_version < FREE_INITIALIZERS_IR {
        values.extend(graph.initializers());
    }
    for value in values {
        if !std::mem::replace(&mut listed[value.index()], true) {
            body.input.push(match graph.initializer(value) {
                Some(constant) => {
                    let declared = info::of_constant(graph.declared(value), constant);
                    info::encode(graph.name(value), &declared)?
                }
                None => value_info(graph, value)?,
            });
        }
    }
    Ok(())
}

fn set_outputs(body: &mut GraphProto, graph: &Graph, listed: &mut [bool]) -> Result<()> {
    let mut repeated: BTreeMap<ValueId, VecDeque<&Opaque>> = BTreeMap::new();
    for (value, opaque) in &graph.layout.outputs {
        repeated.entry(*value).or_default().push_back(opaque);
    }
    for &value in &graph.outputs {
        let is_first = !std::mem::replace(&mut listed[value.index()], true);
        let other = match is_first || graph.layout.redeclared.contains(&value) {
            true => None,
            false => repeated.get_mut(&value).and_then(VecDeque::pop_front),
        };
        body.output.push(match other {
            Some(opaque) => {
                let mut proto = info::from_opaque(opaque)?;
                proto.name = Some(graph.name(value).to_owned());
                proto
            }
            None => value_info(graph, value)?,
        });
    }
    Ok(())
}

fn set_value_infos(body: &mut GraphProto, graph: &Graph, listed: &mut [bool]) -> Result<()> {
    let mut exists = vec![false; graph.value_count()];
    let produced = graph.nodes.iter().flat_map(|node| node.outputs.iter().flatten());
    for value in produced.chain(graph.initializers()).chain(&graph.sparse) {
        exists[value.index()] = true;
    }
    let mut add = |body: &mut GraphProto, value: ValueId| -> Result<()> {
        if exists[value.index()]
            && graph.declared(value).is_some()
            && !std::mem::replace(&mut listed[value.index()], true)
        {
            body.value_info.push(value_info(graph, value)?);
        }
        Ok(())
    };
    for one in &graph.layout.value_infos {
        match one {
            Listed::Value(value) => add(body, *value)?,
            Listed::Other(opaque) => {
                let proto = info::from_opaque(opaque)?;
                let value = graph.find(proto.name());
                if !value.is_some_and(|value| graph.layout.redeclared.contains(&value)) {
                    body.value_info.push(proto);
                }
            }
        }
    }
    (0..graph.value_count()).map(ValueId::from_index).try_for_each(|value| add(body, value))
}

fn value_info(graph: &Graph, value: ValueId) -> Result<ValueInfoProto> {
    match graph.declared(value) {
        Some(declared) => info::encode(graph.name(value), declared),
        None => Ok(ValueInfoProto {
            name: Some(graph.name(value).to_owned()),
            ..ValueInfoProto::default()
        }),
    }
}
