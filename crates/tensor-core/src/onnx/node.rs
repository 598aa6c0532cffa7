//! `NodeProto` to [`Node`] and back.

use super::external::External;
use super::proto::NodeProto;
use super::{attribute, nested};
use crate::graph::{Graph, Node, Opaque};
use crate::{Error, Result, ValueId};
use prost::Message;
use std::collections::BTreeSet;
use std::mem::take;

/// Another spelling of the default domain.
pub(super) const DEFAULT_DOMAIN: &str = "ai.onnx";

/// Makes a node, moving its data; `index` is its position in the file.
///
/// # Errors
/// `E0102` without an operator and from attributes, `E0101` and `E0104` from tensors.
pub(super) fn decode(
    mut proto: NodeProto,
    index: usize,
    graph: &mut Graph,
    external: &mut External<'_>,
) -> Result<Node> {
    let place = place(&proto, index);
    let mut node = Node {
        inputs: values(graph, take(&mut proto.input)),
        outputs: values(graph, take(&mut proto.output)),
        op: proto.op_type.take().unwrap_or_default(),
        ..Node::default()
    };
    if node.op.is_empty() {
        return Err(Error::invalid("has no operator").code_is("E0102").in_node(place));
    }
    // Empty strings stay in the rest, to tell "empty" from "absent".
    if !proto.name().is_empty() {
        node.name = proto.name.take().unwrap_or_default();
    }
    if !matches!(proto.domain(), "" | DEFAULT_DOMAIN) {
        node.domain = proto.domain.take().unwrap_or_default();
    }
    let captures: BTreeSet<&str> = proto.attribute.iter().flat_map(nested::captures).collect();
    node.captures = captures.into_iter().map(|name| graph.value(name)).collect();
    let mut names = BTreeSet::new();
    for one in take(&mut proto.attribute) {
        if !names.insert(one.name().to_owned()) {
            let message = format!("attribute `{}` is given twice", one.name());
            return Err(Error::invalid(message).code_is("E0102").in_node(place));
        }
        attribute::decode(one, &mut node.attributes, external)
            .map_err(|error| error.in_node(place.clone()))?;
    }
    node.opaque = Opaque(proto.encode_to_vec());
    Ok(node)
}

/// The message of a node.
pub(super) fn encode(graph: &Graph, node: &Node) -> Result<NodeProto> {
    let mut proto = NodeProto::decode(node.opaque.0.as_slice())
        .map_err(|error| Error::internal(format!("opaque part of a node: {error}")))?;
    proto.input = names(graph, &node.inputs);
    proto.output = names(graph, &node.outputs);
    proto.op_type = Some(node.op.clone());
    if !node.name.is_empty() {
        proto.name = Some(node.name.clone());
    }
    if !node.domain.is_empty() {
        proto.domain = Some(node.domain.clone());
    }
    for (name, value, style) in node.attributes.styled() {
        proto.attribute.push(attribute::encode(name, value, style)?);
    }
    Ok(proto)
}

fn values(graph: &mut Graph, names: Vec<String>) -> Vec<Option<ValueId>> {
    names.iter().map(|name| (!name.is_empty()).then(|| graph.value(name))).collect()
}

fn names(graph: &Graph, values: &[Option<ValueId>]) -> Vec<String> {
    values.iter().map(|value| value.map_or("", |value| graph.name(value)).to_owned()).collect()
}

/// As [`Graph::describe`], before the node is in its graph.
fn place(proto: &NodeProto, index: usize) -> String {
    let output = proto.output.iter().find(|name| !name.is_empty()).map_or("", String::as_str);
    match proto.name() {
        "" => format!("`{output}` ({}#{index})", proto.op_type()),
        name => format!("`{name}` ({})", proto.op_type()),
    }
}
