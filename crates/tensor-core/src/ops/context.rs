//! What an operator sees of its node.

use crate::graph::{Attribute, Graph, Node};
use crate::{Error, NodeId, Result};
use std::any::Any;

/// A node within its graph, and what was prepared for it.
#[derive(Clone, Copy)]
pub struct NodeCx<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// The node's id.
    pub id: NodeId,
    /// The node.
    pub node: &'a Node,
    /// Result of [`Operator::prepare`](super::Operator::prepare).
    pub prepared: Option<&'a (dyn Any + Send + Sync)>,
}

impl<'a> NodeCx<'a> {
    /// The context of a node, with nothing prepared.
    pub fn new(graph: &'a Graph, id: NodeId) -> Self {
        Self { graph, id, node: graph.node(id), prepared: None }
    }

    /// Version of the default operator set.
    pub fn opset(&self) -> i64 {
        self.graph.opset()
    }

    /// An integer attribute.
    ///
    /// # Errors
    /// When it has another type.
    pub fn int(&self, name: &str, default: i64) -> Result<i64> {
        self.node.attributes.int(name, default)
    }

    /// A float attribute.
    ///
    /// # Errors
    /// When it has another type.
    pub fn float(&self, name: &str, default: f32) -> Result<f32> {
        self.node.attributes.float(name, default)
    }

    /// A list of integers, when present.
    ///
    /// # Errors
    /// When it has another type.
    pub fn ints(&self, name: &str) -> Result<Option<&'a [i64]>> {
        self.node.attributes.ints(name)
    }

    /// A string attribute.
    ///
    /// # Errors
    /// When it has another type.
    pub fn string(&self, name: &str, default: &'a str) -> Result<&'a str> {
        self.node.attributes.string(name, default)
    }

    /// Any attribute.
    pub fn attribute(&self, name: &str) -> Option<&'a Attribute> {
        self.node.attributes.get(name)
    }

    /// Names this node in an error.
    pub fn locate(&self, error: Error) -> Error {
        error.in_node(self.graph.describe(self.id))
    }
}

/// The inputs of a node, by position; optional ones may be absent.
#[derive(Debug)]
pub struct Inputs<'a, T>(Vec<Option<&'a T>>);

impl<'a, T> Inputs<'a, T> {
    /// From a list.
    pub fn new(inputs: Vec<Option<&'a T>>) -> Self {
        Self(inputs)
    }

    /// Input `i`, when present.
    pub fn get(&self, i: usize) -> Option<&'a T> {
        self.0.get(i).copied().flatten()
    }

    /// Input `i`.
    ///
    /// # Errors
    /// When it is absent.
    pub fn required(&self, i: usize) -> Result<&'a T> {
        self.get(i).ok_or_else(|| Error::invalid(format!("input {i} is missing")))
    }

    /// Number of positions, absent ones included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Are there no inputs?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All inputs, absent ones as `None`.
    pub fn iter(&self) -> impl Iterator<Item = Option<&'a T>> + '_ {
        self.0.iter().copied()
    }
}
