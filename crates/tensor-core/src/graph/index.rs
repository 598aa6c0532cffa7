//! Who produces and who reads each value.

use super::{Graph, NodeId, ValueId};

/// Producers and readers, built once for a graph that stays unchanged meanwhile.
#[derive(Debug)]
pub struct Index {
    producer: Vec<Option<NodeId>>,
    readers: Vec<Vec<(NodeId, usize)>>,
}

impl Index {
    /// Builds the index. Readers include captures, as inputs past the last one.
    pub fn new(graph: &Graph) -> Self {
        let mut producer = vec![None; graph.value_count()];
        let mut readers = vec![Vec::new(); graph.value_count()];
        for id in graph.node_ids() {
            let node = graph.node(id);
            for (i, value) in node.inputs.iter().enumerate() {
                if let Some(value) = value {
                    readers[value.index()].push((id, i));
                }
            }
            for (i, value) in node.captures.iter().enumerate() {
                readers[value.index()].push((id, node.inputs.len() + i));
            }
            for value in node.outputs.iter().flatten() {
                producer[value.index()] = Some(id);
            }
        }
        Self { producer, readers }
    }

    /// The node that writes a value; `None` for graph inputs and initializers.
    pub fn producer(&self, value: ValueId) -> Option<NodeId> {
        self.producer[value.index()]
    }

    /// The nodes that read a value, with the input position.
    pub fn readers(&self, value: ValueId) -> &[(NodeId, usize)] {
        &self.readers[value.index()]
    }
}
