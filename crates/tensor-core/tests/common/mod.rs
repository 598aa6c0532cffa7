//! Builds small graphs for tests.

#![allow(dead_code, reason = "each test binary uses a part")]

use proptest::test_runner::{Config as ProptestConfig, RngSeed};
use std::collections::BTreeMap;
use tensor_core::graph::{Attribute, Declared, Dim, Encoding, Graph};
use tensor_core::run::{Array, infer};
use tensor_core::{Constant, ElementType, Node, ValueId};

/// A graph under construction. Values and nodes are named by their number.
pub(crate) struct Model {
    pub(crate) graph: Graph,
}

impl Model {
    pub(crate) fn new(opset: i64) -> Self {
        let mut graph = Graph::default();
        graph.ir_version = 8;
        graph.opsets.insert(String::new(), opset);
        Self { graph }
    }

    /// A graph input.
    pub(crate) fn input(&mut self, element: ElementType, dims: &[usize]) -> ValueId {
        let value = self.graph.value(&format!("x{}", self.graph.inputs.len()));
        let dims = Some(dims.iter().map(|&n| Dim::Known(n)).collect());
        self.graph
            .declare(value, Some(Declared { element: Some(element), dims, ..Declared::default() }));
        self.graph.inputs.push(value);
        value
    }

    /// An initializer.
    pub(crate) fn constant(&mut self, constant: Constant) -> ValueId {
        let value = self.graph.value(&format!("c{}", self.graph.value_count()));
        self.graph.set_initializer(value, constant);
        value
    }

    /// A float initializer.
    pub(crate) fn floats(&mut self, dims: &[usize], values: &[f32]) -> ValueId {
        self.constant(Constant::from_f32s(dims, values).unwrap())
    }

    /// A list of integers as initializer.
    pub(crate) fn ints(&mut self, values: &[i64]) -> ValueId {
        self.constant(Constant::from_i64s(&[values.len()], values).unwrap())
    }

    /// A node with one output.
    pub(crate) fn node(&mut self, op: &str, inputs: &[ValueId], attributes: Attributes) -> ValueId {
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        self.nodes(op, &inputs, 1, attributes)[0]
    }

    /// A node with optional inputs and several outputs.
    pub(crate) fn nodes(
        &mut self,
        op: &str,
        inputs: &[Option<ValueId>],
        outputs: usize,
        attributes: Attributes,
    ) -> Vec<ValueId> {
        let name = format!("{op}_{}", self.graph.nodes.len());
        let made: Vec<ValueId> =
            (0..outputs).map(|i| self.graph.value(&format!("{name}_{i}"))).collect();
        let mut node = Node::new(&name, op, &[], &made);
        node.inputs = inputs.to_vec();
        for (name, value) in attributes {
            node.attributes.set(name, value);
        }
        self.graph.nodes.push(node);
        made
    }

    /// States the outputs, with the element types that inference finds.
    pub(crate) fn finish(mut self, outputs: &[ValueId]) -> Graph {
        self.graph.outputs = outputs.to_vec();
        let facts = infer(&self.graph, &BTreeMap::new()).unwrap_or_else(|e| panic!("{e}"));
        for &output in outputs {
            let element = facts.get(output).map(|fact| fact.element);
            self.graph.declare(output, Some(Declared { element, ..Declared::default() }));
        }
        self.graph.validate().unwrap();
        self.graph
    }
}

/// The same cases in every run, unless `PROPTEST_RNG_SEED` asks for others.
pub(crate) fn config(cases: u32) -> ProptestConfig {
    let base = ProptestConfig::default();
    let rng_seed = match base.rng_seed {
        RngSeed::Random => RngSeed::Fixed(1),
        given => given,
    };
    ProptestConfig { cases, rng_seed, failure_persistence: None, max_shrink_iters: 3000, ..base }
}

/// Attributes of a node.
pub(crate) type Attributes = Vec<(&'static str, Attribute)>;

pub(crate) fn int(value: i64) -> Attribute {
    Attribute::Int(value)
}

pub(crate) fn ints(values: &[i64]) -> Attribute {
    Attribute::Ints(values.to_vec())
}

pub(crate) fn text(value: &str) -> Attribute {
    Attribute::Bytes(value.as_bytes().to_vec())
}

/// Choices of a random case, drawn from a list that proptest makes and shrinks: smaller numbers
/// and shorter lists give simpler cases. Past its end every draw is 0.
pub(crate) struct Draws {
    list: Vec<u16>,
    next: usize,
}

impl Draws {
    pub(crate) fn new(list: Vec<u16>) -> Self {
        Self { list, next: 0 }
    }

    fn raw(&mut self) -> usize {
        let value = self.list.get(self.next).copied().unwrap_or(0);
        self.next += 1;
        usize::from(value)
    }

    /// A number in `0..n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.raw() % n.max(1)
    }

    /// A number in `low..=high`.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as usize) as i64
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.below(2) == 1
    }

    pub(crate) fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    /// A shape with the given bounds on rank and lengths.
    pub(crate) fn shape(&mut self, low: usize, high: usize, longest: usize) -> Vec<usize> {
        let rank = self.between(low as i64, high as i64) as usize;
        (0..rank).map(|_| 1 + self.below(longest)).collect()
    }

    /// A shape that broadcasts to `dims`.
    pub(crate) fn broadcast_to(&mut self, dims: &[usize]) -> Vec<usize> {
        let skip = self.below(dims.len() + 1);
        dims[skip..].iter().map(|&n| if self.below(3) == 2 { 1 } else { n }).collect()
    }

    /// An axis, counted from either end.
    pub(crate) fn axis(&mut self, rank: usize) -> i64 {
        let axis = self.below(rank) as i64;
        if self.coin() { axis - rank as i64 } else { axis }
    }

    /// Some axes without repetition, in random order, counted from either end.
    pub(crate) fn axes(&mut self, rank: usize) -> Vec<i64> {
        let mut left: Vec<i64> = (0..rank as i64).collect();
        let count = 1 + self.below(rank);
        (0..count)
            .map(|_| {
                let axis = left.remove(self.below(left.len()));
                if self.coin() { axis - rank as i64 } else { axis }
            })
            .collect()
    }

    /// Floats in `[low, high)`, from one draw.
    pub(crate) fn floats(&mut self, count: usize, low: f32, high: f32) -> Vec<f32> {
        let mut state = self.raw() as u64;
        (0..count)
            .map(|_| low + (high - low) * (step(&mut state) as f32 / (1_u64 << 24) as f32))
            .collect()
    }

    /// Integers in `low..=high`, from one draw.
    pub(crate) fn integers(&mut self, count: usize, low: i64, high: i64) -> Vec<i64> {
        let mut state = self.raw() as u64;
        let span = (high - low + 1) as u64;
        (0..count).map(|_| low + (step(&mut state) % span) as i64).collect()
    }
}

/// 24 random bits (SplitMix64).
fn step(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) >> 40
}

/// An integer constant of any byte-sized type.
pub(crate) fn typed(element: ElementType, dims: &[usize], values: &[i64]) -> Constant {
    let size = element.size().unwrap();
    let bytes = values.iter().flat_map(|v| v.to_le_bytes().into_iter().take(size)).collect();
    let mut constant = Constant::from_bytes(element, dims.to_vec(), bytes).unwrap();
    constant.encoding = Encoding::Raw;
    constant
}

/// A float array.
pub(crate) fn array(dims: &[usize], values: Vec<f32>) -> Array {
    let device = &candle_core::Device::Cpu;
    Array::float(candle_core::Tensor::from_vec(values, dims, device).unwrap())
}
