//! Graphs node by node.

use super::Random;
use tensor_core::graph::{Attribute, Declared, Dim, Graph};
use tensor_core::run::Array;
use tensor_core::{Constant, ElementType, Node, ValueId};

/// A graph with one input, and a stream of random numbers for its weights.
pub struct Model {
    pub graph: Graph,
    pub random: Random,
    dims: Vec<usize>,
}

impl Model {
    pub fn new(seed: u64, dims: &[usize]) -> (Self, ValueId) {
        let mut graph = Graph::default();
        graph.ir_version = 8;
        graph.opsets.insert(String::new(), 17);
        let x = graph.value("x");
        let known = dims.iter().map(|&n| Dim::Known(n)).collect();
        let element = Some(ElementType::F32);
        graph.declare(x, Some(Declared { element, dims: Some(known), ..Declared::default() }));
        graph.inputs.push(x);
        (Self { graph, random: Random::new(seed), dims: dims.to_vec() }, x)
    }

    pub fn weight(&mut self, dims: &[usize]) -> ValueId {
        let values: Vec<f32> =
            (0..dims.iter().product()).map(|_| 0.3 * self.random.normal() as f32).collect();
        let name = format!("w{}", self.graph.value_count());
        let value = self.graph.value(&name);
        self.graph.set_initializer(value, Constant::from_f32s(dims, &values).unwrap());
        value
    }

    pub fn node(
        &mut self,
        op: &str,
        inputs: &[ValueId],
        attributes: &[(&str, Attribute)],
    ) -> ValueId {
        let name = format!("{}{}", op.to_lowercase(), self.graph.nodes.len());
        let output = self.graph.value(&name);
        let mut node = Node::new(&name, op, inputs, &[output]);
        for (name, attribute) in attributes {
            node.attributes.set(name, attribute.clone());
        }
        self.graph.nodes.push(node);
        output
    }

    pub fn conv(&mut self, input: ValueId, weight: ValueId, bias: Option<ValueId>) -> ValueId {
        let kernel = self.graph.initializer(weight).unwrap().dims()[2] as i64;
        let inputs: Vec<_> = [input, weight].into_iter().chain(bias).collect();
        let made = self.node("Conv", &inputs, &[("pads", Attribute::Ints(vec![kernel / 2; 4]))]);
        self.node("Relu", &[made], &[])
    }

    pub fn finish(mut self, output: ValueId) -> (Graph, Vec<Vec<Array>>) {
        self.graph.outputs.push(output);
        let batches = (0..4).map(|_| {
            let count = self.dims.iter().product::<usize>();
            let values: Vec<f32> = (0..count).map(|_| self.random.normal() as f32).collect();
            let constant = Constant::from_f32s(&self.dims, &values).unwrap();
            vec![Array::from_constant(&constant).unwrap()]
        });
        let batches = batches.collect();
        (self.graph, batches)
    }
}
