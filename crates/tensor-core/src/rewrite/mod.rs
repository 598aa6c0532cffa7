//! The only way to change a graph: a list of [`Edit`]s, applied to a copy, then checked.

mod fold_batch_norm;
mod insert_batch_norm;
mod stored;

pub use fold_batch_norm::{fold_batch_norm, fold_batch_norms};
pub use insert_batch_norm::{OutputStatistics, insert_batch_norm, lacks_batch_norm};
pub use stored::{Stored, set_stored, stored_values};

use crate::graph::{Attribute, Attributes, Constant, Graph, Index, Node};
use crate::run::Facts;
use crate::{Error, NodeId, Result, ValueId};

/// One change. Node and value ids refer to the graph before any edit of the list.
#[derive(Debug, Clone)]
pub enum Edit {
    /// Keeps some slices of an initializer or of a `Constant` node's value.
    Slice {
        /// The constant.
        value: ValueId,
        /// The axis.
        axis: usize,
        /// Indices that stay, in order.
        keep: Vec<usize>,
    },
    /// Gives a node another constant input. A constant that other nodes read too is copied first,
    /// under a new name.
    SetInput {
        /// The node.
        node: NodeId,
        /// The input position.
        input: usize,
        /// The new constant.
        constant: Constant,
    },
    /// Sets an attribute.
    SetAttribute {
        /// The node.
        node: NodeId,
        /// The attribute.
        name: String,
        /// Its new value.
        attribute: Attribute,
    },
    /// Puts a node between an input of a node and its producer.
    InsertBefore {
        /// The reading node.
        node: NodeId,
        /// The input position.
        input: usize,
        /// Operator of the new node.
        op: String,
        /// Attributes of the new node.
        attributes: Attributes,
        /// Constant inputs of the new node after its first, with name suffixes.
        constants: Vec<(String, Constant)>,
    },
    /// Puts a node behind the first output of a node. The new node's output takes over the name, so
    /// readers and graph outputs stay as they are.
    InsertAfter {
        /// The producing node.
        node: NodeId,
        /// Operator of the new node.
        op: String,
        /// Attributes of the new node.
        attributes: Attributes,
        /// Constant inputs of the new node after its first, with name suffixes.
        constants: Vec<(String, Constant)>,
    },
    /// Replaces a node; outputs that keep their names keep their readers.
    Replace {
        /// The node.
        node: NodeId,
        /// What comes in its place.
        with: Node,
    },
    /// Removes a node and lets its readers read another value instead.
    Bypass {
        /// The node.
        node: NodeId,
        /// What readers of its first output read instead.
        with: ValueId,
    },
    /// Removes a node whose outputs another edit produces or nothing reads.
    Remove {
        /// The node.
        node: NodeId,
    },
}

/// Applies edits to a copy of the graph and checks the result.
///
/// Constants that nothing reads any more are dropped, and so are declared shapes that the change
/// made stale.
///
/// # Errors
/// When an edit does not fit the graph, or the result is not a valid graph.
pub fn apply(graph: &Graph, edits: &[Edit]) -> Result<Graph> {
    let mut new = graph.clone();
    let index = Index::new(graph);
    // Each with the position that it comes before.
    let mut inserted: Vec<(usize, Node)> = Vec::new();
    let mut removed = vec![false; graph.nodes.len()];
    for edit in edits {
        match edit {
            Edit::Slice { value, axis, keep } => slice(&mut new, &index, *value, *axis, keep)?,
            Edit::SetInput { node, input, constant } => {
                set_input(&mut new, &index, *node, *input, constant.clone())?;
            }
            Edit::SetAttribute { node, name, attribute } => {
                new.nodes[node.index()].attributes.set(name, attribute.clone());
            }
            Edit::InsertBefore { node, input, op, attributes, constants } => {
                let made = insert(&mut new, *node, *input, op, attributes, constants)?;
                inserted.push((node.index(), made));
            }
            Edit::InsertAfter { node, op, attributes, constants } => {
                let made = insert_after(&mut new, *node, op, attributes, constants)?;
                inserted.push((node.index() + 1, made));
            }
            Edit::Replace { node, with } => new.nodes[node.index()] = with.clone(),
            Edit::Bypass { node, with } => {
                removed[node.index()] = true;
                bypass(&mut new, *node, *with)?;
            }
            Edit::Remove { node } => removed[node.index()] = true,
        }
    }
    rebuild_nodes(&mut new, inserted, &removed);
    drop_unread_constants(graph, &mut new);
    new.validate()?;
    Ok(new)
}

/// Drops declared shapes of values whose dimensions are no longer what they were.
pub fn drop_stale_shapes(graph: &mut Graph, old: &Facts, new: &Facts) {
    let boundary: Vec<ValueId> = graph.inputs.iter().chain(&graph.outputs).copied().collect();
    for i in 0..graph.value_count() {
        let value = ValueId::from_index(i);
        if old.dims(value) != new.dims(value) && !boundary.contains(&value) {
            graph.declare(value, None);
        }
    }
}

fn slice(
    graph: &mut Graph,
    index: &Index,
    value: ValueId,
    axis: usize,
    keep: &[usize],
) -> Result<()> {
    if let Some(constant) = graph.initializer(value) {
        let cut = constant.select(axis, keep)?;
        graph.set_initializer(value, cut);
        return Ok(());
    }
    let Some(producer) = index.producer(value) else {
        return Err(Error::internal(format!("`{}` is not a constant", graph.name(value))));
    };
    match graph.nodes[producer.index()].attributes.get("value") {
        Some(Attribute::Tensor(constant)) => {
            let cut = Attribute::Tensor(constant.select(axis, keep)?);
            graph.nodes[producer.index()].attributes.set("value", cut);
            Ok(())
        }
        _ => Err(Error::unsupported("slicing a Constant that is not a tensor")
            .in_node(graph.describe(producer))),
    }
}

fn set_input(
    graph: &mut Graph,
    index: &Index,
    node: NodeId,
    input: usize,
    constant: Constant,
) -> Result<()> {
    let old = graph.node(node).input(input);
    let alone = |old: &ValueId| index.readers(*old).len() == 1 && !graph.outputs.contains(old);
    if let Some(old) = old.filter(alone) {
        if let Some(encoding) = graph.initializer(old).map(|constant| constant.encoding) {
            let mut constant = constant;
            constant.encoding = encoding;
            graph.set_initializer(old, constant);
            return Ok(());
        }
        // Nodes keep their places, so callers can go on using their ids.
        if let Some(producer) = index.producer(old).map(|id| &mut graph.nodes[id.index()])
            && producer.op == "Constant"
            && matches!(producer.attributes.get("value"), Some(Attribute::Tensor(_)))
        {
            producer.attributes.set("value", Attribute::Tensor(constant));
            return Ok(());
        }
    }
    let base = old.map_or_else(
        || format!("{}_input{input}", graph.key(node)),
        |old| graph.name(old).to_owned(),
    );
    let name = graph.fresh_name(&base);
    let value = graph.value(&name);
    graph.set_initializer(value, constant);
    let inputs = &mut graph.nodes[node.index()].inputs;
    if inputs.len() <= input {
        inputs.resize(input + 1, None);
    }
    inputs[input] = Some(value);
    Ok(())
}

fn insert(
    graph: &mut Graph,
    node: NodeId,
    input: usize,
    op: &str,
    attributes: &Attributes,
    constants: &[(String, Constant)],
) -> Result<Node> {
    let source = graph
        .node(node)
        .input(input)
        .ok_or_else(|| Error::internal(format!("input {input} is missing")))?;
    let base = format!("{}_{}", graph.name(source), op.to_lowercase());
    let output_name = graph.fresh_name(&base);
    let output = graph.value(&output_name);
    let made = made(graph, (&output_name, op), [source, output], attributes, constants);
    graph.nodes[node.index()].inputs[input] = Some(output);
    Ok(made)
}

fn insert_after(
    graph: &mut Graph,
    node: NodeId,
    op: &str,
    attributes: &Attributes,
    constants: &[(String, Constant)],
) -> Result<Node> {
    let output =
        graph.node(node).output(0).ok_or_else(|| Error::internal("the first output is missing"))?;
    let name = format!("{}_{}", graph.name(output), op.to_lowercase());
    let source_name = graph.fresh_name(&format!("{name}_input"));
    let source = graph.value(&source_name);
    let made = made(graph, (&name, op), [source, output], attributes, constants);
    graph.nodes[node.index()].outputs[0] = Some(source);
    Ok(made)
}

/// A new node between two values, with constants of its own.
fn made(
    graph: &mut Graph,
    (name, op): (&str, &str),
    [source, output]: [ValueId; 2],
    attributes: &Attributes,
    constants: &[(String, Constant)],
) -> Node {
    let mut node = Node::new(name, op, &[source], &[output]);
    node.attributes = attributes.clone();
    for (suffix, constant) in constants {
        let name = graph.fresh_name(&format!("{name}_{suffix}"));
        let value = graph.value(&name);
        graph.set_initializer(value, constant.clone());
        node.inputs.push(Some(value));
    }
    node
}

fn bypass(graph: &mut Graph, node: NodeId, with: ValueId) -> Result<()> {
    let Some(output) = graph.node(node).output(0) else { return Ok(()) };
    if graph.outputs.contains(&output) {
        return Err(Error::unsupported(format!(
            "removing the node that makes graph output `{}`",
            graph.name(output)
        )));
    }
    for other in &mut graph.nodes {
        if other.captures.contains(&output) {
            return Err(Error::unsupported("removing a node that a sub-graph reads"));
        }
        for input in other.inputs.iter_mut().flatten() {
            if *input == output {
                *input = with;
            }
        }
    }
    Ok(())
}

fn rebuild_nodes(graph: &mut Graph, mut inserted: Vec<(usize, Node)>, removed: &[bool]) {
    inserted.sort_by_key(|(before, _)| *before);
    let mut inserted = inserted.into_iter().peekable();
    let old = std::mem::take(&mut graph.nodes);
    for (i, node) in old.into_iter().enumerate() {
        while let Some((_, new)) = inserted.next_if(|(before, _)| *before == i) {
            graph.nodes.push(new);
        }
        if !removed[i] {
            graph.nodes.push(node);
        }
    }
    graph.nodes.extend(inserted.map(|(_, node)| node));
}

/// Drops constants that had readers before the edits and have none now.
fn drop_unread_constants(old: &Graph, new: &mut Graph) {
    let (before, after) = (Index::new(old), Index::new(new));
    let was_read =
        |value: ValueId| value.index() < old.value_count() && !before.readers(value).is_empty();
    let is_read = |value: ValueId| !after.readers(value).is_empty();
    for value in old.initializers().to_vec() {
        if was_read(value) && !is_read(value) && !new.outputs.contains(&value) {
            new.remove_initializer(value);
        }
    }
    let outputs = new.outputs.clone();
    new.nodes.retain(|node| {
        let unread = |value: &ValueId| was_read(*value) && !is_read(*value);
        let unread = node.outputs.iter().flatten().all(unread);
        node.op != "Constant"
            || !unread
            || node.outputs.iter().flatten().any(|v| outputs.contains(v))
    });
}
