//! The model graph: nodes, values, attributes and constants.
//!
//! A [`Graph`] holds everything of an ONNX model. What this crate does not understand (functions,
//! sub-graphs, unknown fields) stays as opaque bytes beside the part it belongs to and is written
//! back untouched. Names are API: they are kept, and new names derive from old ones.

mod attribute;
mod batch_norm;
mod constant;
mod convert;
mod finite;
mod index;
#[cfg(feature = "onnx")]
mod layout;
mod node;

#[cfg(feature = "onnx")]
pub(crate) use attribute::Style;
pub use attribute::{Attribute, Attributes};
pub use constant::{Constant, Encoding};
pub use index::Index;
#[cfg(feature = "onnx")]
pub(crate) use layout::{Layout, Listed};
pub use node::{Node, NodeId, Value, ValueId};

use crate::{Error, Result};
use std::collections::{BTreeMap, HashMap};

/// Protobuf bytes of what is carried through without being understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opaque(pub Vec<u8>);

/// Declared type and shape of a value, as far as the file states them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Declared {
    /// Element type, when the value is a tensor.
    pub element: Option<crate::ElementType>,
    /// Dimensions, when the rank is stated.
    pub dims: Option<Vec<Dim>>,
    /// The `ValueInfoProto` as read.
    pub opaque: Opaque,
}

/// One declared dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// A number.
    Known(usize),
    /// A named size, such as `batch`.
    Symbol(String),
    /// Nothing is stated.
    Unknown,
}

/// A model: nodes in execution order, values by id, constants, and the rest as opaque bytes.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// Nodes in a valid execution order.
    pub nodes: Vec<Node>,
    /// Graph inputs, without those that merely name an initializer.
    pub inputs: Vec<ValueId>,
    /// Graph outputs.
    pub outputs: Vec<ValueId>,
    /// Operator-set versions by domain; the default domain is `""`.
    pub opsets: BTreeMap<String, i64>,
    /// IR version of the file.
    pub ir_version: i64,
    /// `metadata_props` in file order.
    pub metadata: Vec<(String, String)>,
    /// Producer name and version as read, replaced on writing by a caller who changed the model.
    pub producer: (String, String),
    /// What remains of the `ModelProto` and `GraphProto`.
    pub opaque: Opaque,
    pub(crate) values: Vec<Value>,
    pub(crate) by_name: HashMap<String, ValueId>,
    /// Initializers in file order.
    pub(crate) initializers: Vec<ValueId>,
    /// Values of sparse initializers that were not made dense; their data stays opaque.
    pub(crate) sparse: Vec<ValueId>,
    #[cfg(feature = "onnx")]
    pub(crate) layout: Layout,
}

impl Graph {
    /// The id of a name, made on first use. Every value has exactly one name.
    pub fn value(&mut self, name: &str) -> ValueId {
        if let Some(&id) = self.by_name.get(name) {
            return id;
        }
        let id = ValueId::from_index(self.values.len());
        self.values.push(Value::named(name));
        self.by_name.insert(name.to_owned(), id);
        id
    }

    /// The id of a name, when such a value exists.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.by_name.get(name).copied()
    }

    /// A name that no value has yet: `base`, or `base_2`, `base_3`, ...
    pub fn fresh_name(&self, base: &str) -> String {
        if !self.by_name.contains_key(base) {
            return base.to_owned();
        }
        let mut number = 2_usize;
        loop {
            let name = format!("{base}_{number}");
            if !self.by_name.contains_key(&name) {
                return name;
            }
            number += 1;
        }
    }

    /// The name of a value.
    pub fn name(&self, value: ValueId) -> &str {
        &self.values[value.index()].name
    }

    /// Number of values; ids are below it.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// What the file declares about a value.
    pub fn declared(&self, value: ValueId) -> Option<&Declared> {
        self.values[value.index()].declared.as_ref()
    }

    /// States type and shape of a value.
    pub fn declare(&mut self, value: ValueId, declared: Option<Declared>) {
        self.values[value.index()].declared = declared;
        #[cfg(feature = "onnx")]
        self.layout.redeclared.insert(value);
    }

    /// Initializers in file order.
    pub fn initializers(&self) -> &[ValueId] {
        &self.initializers
    }

    /// The initializer of that id.
    pub fn initializer(&self, value: ValueId) -> Option<&Constant> {
        self.values[value.index()].initializer.as_ref()
    }

    /// The constant behind a value: an initializer or a `Constant` node, also through `Identity`.
    pub fn constant(&self, mut value: ValueId, index: &Index) -> Option<&Constant> {
        loop {
            if let Some(constant) = self.initializer(value) {
                return Some(constant);
            }
            let node = self.node(index.producer(value)?);
            match (node.op.as_str(), node.attributes.get("value")) {
                ("Constant", Some(Attribute::Tensor(constant))) => return Some(constant),
                ("Identity", _) => value = node.input(0)?,
                _ => return None,
            }
        }
    }

    /// Adds or replaces an initializer.
    pub fn set_initializer(&mut self, value: ValueId, constant: Constant) {
        if self.values[value.index()].initializer.replace(constant).is_none() {
            self.initializers.push(value);
        }
    }

    /// Removes an initializer that nothing reads any more.
    pub fn remove_initializer(&mut self, value: ValueId) {
        if self.values[value.index()].initializer.take().is_some() {
            self.initializers.retain(|&other| other != value);
        }
    }

    /// Version of the default operator set.
    pub fn opset(&self) -> i64 {
        self.opsets.get("").copied().unwrap_or(1)
    }

    /// The node of that id.
    pub fn node(&self, node: NodeId) -> &Node {
        &self.nodes[node.index()]
    }

    /// Ids of all nodes in execution order.
    pub fn node_ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len()).map(NodeId::from_index)
    }

    /// How messages address a node: its name and operator, or its first output and `op#index` where
    /// it has no name of its own.
    pub fn describe(&self, node: NodeId) -> String {
        let n = self.node(node);
        if self.is_named(node) {
            return format!("`{}` ({})", n.name, n.op);
        }
        format!("`{}` ({}#{})", self.key(node), n.op, node.index())
    }

    /// A stable key for a node in tables and files: its name, or its first output's name where it
    /// has none or shares it.
    pub fn key(&self, node: NodeId) -> &str {
        let n = self.node(node);
        let output = n.outputs.iter().flatten().next().map(|&value| self.name(value));
        match output {
            Some(output) if !self.is_named(node) => output,
            _ => &n.name,
        }
    }

    /// Does a node have a name of its own? ONNX requires neither names nor different ones.
    fn is_named(&self, node: NodeId) -> bool {
        let name = &self.node(node).name;
        !name.is_empty() && self.nodes.iter().filter(|other| other.name == *name).nth(1).is_none()
    }

    /// Checks what every later step relies on: each value has one producer, every input is
    /// produced before it is read, outputs exist.
    ///
    /// # Errors
    /// `E0102` names the node and the value.
    pub fn validate(&self) -> Result<()> {
        let mut known = vec![false; self.values.len()];
        for &value in self.inputs.iter().chain(&self.initializers).chain(&self.sparse) {
            known[value.index()] = true;
        }
        for id in self.node_ids() {
            let node = self.node(id);
            for &value in node.inputs.iter().flatten().chain(&node.captures) {
                if !known[value.index()] {
                    return Err(Error::invalid(format!(
                        "reads `{}`, which nothing before it produces",
                        self.name(value)
                    ))
                    .code_is("E0102")
                    .in_node(self.describe(id))
                    .hint(
                        "the model is cyclic, unsorted or incomplete; `onnx.checker` says more",
                    ));
                }
            }
            for &value in node.outputs.iter().flatten() {
                if std::mem::replace(&mut known[value.index()], true) {
                    return Err(Error::invalid(format!(
                        "writes `{}`, which already has a producer",
                        self.name(value)
                    ))
                    .code_is("E0102")
                    .in_node(self.describe(id)));
                }
            }
        }
        match self.outputs.iter().find(|value| !known[value.index()]) {
            Some(&value) => Err(Error::invalid(format!(
                "graph output `{}` is never produced",
                self.name(value)
            ))
            .code_is("E0102")),
            None => Ok(()),
        }
    }
}
