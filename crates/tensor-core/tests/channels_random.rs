//! Random networks, cut at random: the cut model equals the masked one, and its shapes are what
//! the analysis predicted.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Attributes, Draws, Model, array, int, ints};
use proptest::prelude::*;
use std::collections::BTreeMap;
use tensor_core::channels::identity::{Mask, masked_against_cut};
use tensor_core::channels::{Channels, ClassId, SplitAxis, analyze_split, cut};
use tensor_core::graph::Attribute;
use tensor_core::rewrite::apply;
use tensor_core::run::{Facts, infer};
use tensor_core::{ElementType, Graph, ValueId};

/// A network under construction: its current value has shape (1, channels, size, size).
struct Net<'a> {
    model: Model,
    draws: &'a mut Draws,
    opset: i64,
    x: ValueId,
    channels: usize,
    size: usize,
}

impl Net<'_> {
    fn weight(&mut self, dims: &[usize]) -> ValueId {
        let fan: usize = dims[1..].iter().product();
        let bound = (3.0 / fan.max(1) as f32).sqrt();
        let values = self.draws.floats(dims.iter().product(), -bound, bound);
        self.model.floats(dims, &values)
    }

    fn vector(&mut self, dims: &[usize], low: f32, high: f32) -> ValueId {
        let values = self.draws.floats(dims.iter().product(), low, high);
        self.model.floats(dims, &values)
    }

    fn node(&mut self, op: &str, inputs: &[ValueId], attributes: Attributes) -> ValueId {
        self.model.node(op, inputs, attributes)
    }

    fn conv_of(
        &mut self,
        x: ValueId,
        from: usize,
        to: usize,
        kernel: usize,
        groups: usize,
    ) -> ValueId {
        let w = self.weight(&[to, from / groups, kernel, kernel]);
        let pad = (kernel / 2) as i64;
        let attributes = vec![("pads", ints(&[pad; 4])), ("group", int(groups as i64))];
        if self.draws.coin() {
            let b = self.vector(&[to], -0.5, 0.5);
            return self.node("Conv", &[x, w, b], attributes);
        }
        self.node("Conv", &[x, w], attributes)
    }

    fn conv(&mut self, to: usize, kernel: usize, groups: usize) {
        self.x = self.conv_of(self.x, self.channels, to, kernel, groups);
        self.channels = to;
    }

    fn width(&mut self) -> usize {
        self.draws.pick(&[4, 6, 8, 12])
    }

    fn pieces(&mut self, pieces: &[usize]) {
        for &piece in pieces {
            PIECES[piece](self);
            self.activation();
        }
    }

    fn activation(&mut self) {
        match self.draws.below(5) {
            1 => self.x = self.node("Relu", &[self.x], vec![]),
            2 => self.x = self.node("Sigmoid", &[self.x], vec![]),
            3 => {
                let slope = self.vector(&[self.channels, 1, 1], 0.0, 0.5);
                self.x = self.node("PRelu", &[self.x, slope], vec![]);
            }
            4 => {
                let c = self.channels;
                let scale = self.vector(&[c], 0.5, 1.5);
                let shift = self.vector(&[c], -0.5, 0.5);
                let mean = self.vector(&[c], -0.5, 0.5);
                let variance = self.vector(&[c], 0.5, 1.5);
                let inputs = [self.x, scale, shift, mean, variance];
                self.x = self.node("BatchNormalization", &inputs, vec![]);
            }
            _ => {}
        }
    }

    /// Integers as an initializer, or through a `Constant` node.
    fn sizes(&mut self, values: &[i64]) -> ValueId {
        if self.draws.coin() {
            return self.model.ints(values);
        }
        let constant = tensor_core::Constant::from_i64s(&[values.len()], values).unwrap();
        self.node("Constant", &[], vec![("value", Attribute::Tensor(constant))])
    }

    fn reshape(&mut self, x: ValueId, target: &[i64]) -> ValueId {
        let target = self.sizes(target);
        self.node("Reshape", &[x, target], vec![])
    }

    fn reduce_mean(&mut self, x: ValueId, axes: &[i64], keep: bool) -> ValueId {
        let mut attributes = vec![("keepdims", int(i64::from(keep)))];
        if self.opset >= 18 {
            let axes = self.sizes(axes);
            return self.node("ReduceMean", &[x, axes], attributes);
        }
        attributes.push(("axes", ints(axes)));
        self.node("ReduceMean", &[x], attributes)
    }

    fn split(&mut self, x: ValueId, axis: i64, parts: &[i64], stated: bool) -> Vec<ValueId> {
        let mut inputs = vec![Some(x)];
        let mut attributes = vec![("axis", int(axis))];
        if !stated {
            if self.opset >= 18 {
                attributes.push(("num_outputs", int(parts.len() as i64)));
            }
        } else if self.opset >= 13 {
            inputs.push(Some(self.sizes(parts)));
        } else {
            attributes.push(("split", ints(parts)));
        }
        self.model.nodes("Split", &inputs, parts.len(), attributes)
    }
}

type Piece = fn(&mut Net);

const PIECES: &[Piece] = &[
    // Plain convolution.
    |n| {
        let to = n.width();
        let kernel = n.draws.pick(&[1, 3]);
        n.conv(to, kernel, 1);
    },
    // Grouped convolution.
    |n| {
        let groups = 2;
        let to = n.width();
        n.conv(to, 3, groups);
    },
    // Depthwise, then pointwise.
    |n| {
        let c = n.channels;
        let multiplier = 1 + n.draws.below(2);
        n.conv(c * multiplier, 3, c);
        n.activation();
        let to = n.width();
        n.conv(to, 1, 1);
    },
    // Residual block.
    |n| {
        let (input, c) = (n.x, n.channels);
        let inner = n.width();
        n.conv(inner, 3, 1);
        n.activation();
        n.conv(c, 1, 1);
        n.x = n.node("Add", &[n.x, input], vec![]);
    },
    // Two branches joined.
    |n| {
        let (input, c) = (n.x, n.channels);
        let (a, b) = (n.width(), n.width());
        let left = n.conv_of(input, c, a, 3, 1);
        let right = n.conv_of(input, c, b, 1, 1);
        n.x = n.node("Concat", &[left, right, input], vec![("axis", int(1))]);
        n.channels = a + b + c;
        let to = n.width();
        n.conv(to, 1, 1);
    },
    // Split in parts, one of them transformed (C2f, CSP).
    |n| {
        let c = n.channels;
        let first = if n.draws.coin() { c / 2 } else { 1 + n.draws.below(c - 1) };
        let parts = [first as i64, (c - first) as i64];
        let stated = 2 * first != c || n.draws.coin();
        let parts = n.split(n.x, 1, &parts, stated);
        let changed = n.conv_of(parts[0], first, first, 3, 1);
        n.x = n.node("Concat", &[parts[1], changed, parts[0]], vec![("axis", int(1))]);
        n.channels = c + first;
        let to = n.width();
        n.conv(to, 1, 1);
    },
    // Slice of the channels.
    |n| {
        let c = n.channels;
        let start = n.draws.below(c - 1);
        let end = start + 2 + n.draws.below(c - start - 1);
        let count = end.min(c) - start;
        let raw_end = if end >= c && n.draws.coin() { i64::MAX } else { end as i64 };
        let raw_start = if n.draws.coin() { start as i64 - c as i64 } else { start as i64 };
        let (starts, ends, axes) = (n.sizes(&[raw_start]), n.sizes(&[raw_end]), n.sizes(&[1]));
        let part = n.node("Slice", &[n.x, starts, ends, axes], vec![]);
        let to = n.width();
        n.x = n.conv_of(part, count, to, 1, 1);
        n.channels = to;
    },
    // Gather of channels, with a repetition.
    |n| {
        let c = n.channels;
        let indices: Vec<i64> = [0, c as i64 - 1, 1, 1, -2].to_vec();
        let list = n.sizes(&indices);
        let part = n.node("Gather", &[n.x, list], vec![("axis", int(1))]);
        let to = n.width();
        n.x = n.conv_of(part, 5, to, 1, 1);
        n.channels = to;
    },
    // Squeeze and excite.
    |n| {
        let (input, c) = (n.x, n.channels);
        let pooled = if n.draws.coin() {
            n.node("GlobalAveragePool", &[input], vec![])
        } else {
            n.reduce_mean(input, &[2, 3], true)
        };
        let inner = n.width();
        let squeezed = n.conv_of(pooled, c, inner, 1, 1);
        let squeezed = n.node("Relu", &[squeezed], vec![]);
        let excited = n.conv_of(squeezed, inner, c, 1, 1);
        let gate = n.node("HardSigmoid", &[excited], vec![]);
        n.x = n.node("Mul", &[input, gate], vec![]);
    },
    // A spatial gate of one channel.
    |n| {
        let (input, c) = (n.x, n.channels);
        let gate = n.conv_of(input, c, 1, 3, 1);
        let gate = n.node("Sigmoid", &[gate], vec![]);
        n.x = n.node("Mul", &[input, gate], vec![]);
    },
    // Transposed convolution.
    |n| {
        let (c, to) = (n.channels, n.width());
        let w = n.weight(&[c, to, 2, 2]);
        let half = n.node(
            "MaxPool",
            &[n.x],
            vec![("kernel_shape", ints(&[2, 2])), ("strides", ints(&[2, 2]))],
        );
        n.x = n.node("ConvTranspose", &[half, w], vec![("strides", ints(&[2, 2]))]);
        n.channels = to;
    },
    // Channel shuffle.
    |n| {
        let (c, s) = (n.channels as i64, n.size as i64);
        let groups = 2;
        let open = if n.draws.coin() { -1 } else { c / groups };
        let first = if n.draws.coin() { 0 } else { 1 };
        let split = n.reshape(n.x, &[first, groups, open, s, s]);
        let swapped = n.node("Transpose", &[split], vec![("perm", ints(&[0, 2, 1, 3, 4]))]);
        n.x = n.reshape(swapped, &[1, c, s, s]);
    },
    // Attention over positions.
    |n| {
        let (input, c, s) = (n.x, n.channels, n.size);
        let tokens = (s * s) as i64;
        let (heads, width) = (2_i64, 4_i64);
        let flat = n.reshape(input, &[1, c as i64, tokens]);
        let flat = n.node("Transpose", &[flat], vec![("perm", ints(&[0, 2, 1]))]);
        let mut projected = |order: &[i64]| {
            let w = n.weight(&[c, (heads * width) as usize]);
            let all = n.node("MatMul", &[flat, w], vec![]);
            let open = if n.draws.coin() { -1 } else { width };
            let split = n.reshape(all, &[1, tokens, heads, open]);
            n.node("Transpose", &[split], vec![("perm", ints(order))])
        };
        let (q, k, v) =
            (projected(&[0, 2, 1, 3]), projected(&[0, 2, 3, 1]), projected(&[0, 2, 1, 3]));
        let scores = n.node("MatMul", &[q, k], vec![]);
        let weights = n.node("Softmax", &[scores], vec![("axis", int(3))]);
        let mixed = n.node("MatMul", &[weights, v], vec![]);
        let merged = n.node("Transpose", &[mixed], vec![("perm", ints(&[0, 2, 1, 3]))]);
        let merged = n.reshape(merged, &[1, tokens, heads * width]);
        let w = n.weight(&[(heads * width) as usize, c]);
        let out = n.node("MatMul", &[merged, w], vec![]);
        let back = n.node("Transpose", &[out], vec![("perm", ints(&[0, 2, 1]))]);
        let back = n.reshape(back, &[1, c as i64, s as i64, s as i64]);
        n.x = n.node("Add", &[back, input], vec![]);
    },
    // Zero channels put beside the others (option A shortcuts).
    |n| {
        let amounts = n.sizes(&[0, 1, 0, 0, 0, 1, 0, 0]);
        n.x = n.node("Pad", &[n.x, amounts], vec![]);
        n.channels += 2;
        let to = n.width();
        n.conv(to, 3, 1);
    },
    // Down and up again.
    |n| {
        let pool = vec![("kernel_shape", ints(&[2, 2])), ("strides", ints(&[2, 2]))];
        let small = n.node("AveragePool", &[n.x], pool);
        let (c, s) = (n.channels as i64, n.size as i64);
        n.x = if n.draws.coin() {
            let (none, scales) =
                (n.model.floats(&[0], &[]), n.model.floats(&[4], &[1.0, 1.0, 2.0, 2.0]));
            n.node("Resize", &[small, none, scales], vec![])
        } else {
            let (none, sizes) = (n.model.floats(&[0], &[]), n.sizes(&[1, c, s, s]));
            n.node("Resize", &[small, none, none, sizes], vec![])
        };
    },
    // Down and up with sizes that are read from a shape.
    |n| {
        let input = n.x;
        let pool = vec![("kernel_shape", ints(&[2, 2])), ("strides", ints(&[2, 2]))];
        let small = n.node("MaxPool", &[input], pool);
        let to = n.width();
        let small = n.conv_of(small, n.channels, to, 1, 1);
        n.channels = to;
        let (own, other) = (n.node("Shape", &[small], vec![]), n.node("Shape", &[input], vec![]));
        let (zero, two, four) = (n.sizes(&[0]), n.sizes(&[2]), n.sizes(&[4]));
        let head = n.node("Slice", &[own, zero, two], vec![]);
        let tail = n.node("Slice", &[other, two, four], vec![]);
        let sizes = n.node("Concat", &[head, tail], vec![("axis", int(0))]);
        let none = n.model.floats(&[0], &[]);
        n.x = n.node("Resize", &[small, none, none, sizes], vec![]);
    },
    // Space to depth and back.
    |n| {
        let down = n.node("SpaceToDepth", &[n.x], vec![("blocksize", int(2))]);
        let inner = 4 * n.width();
        let changed = n.conv_of(down, 4 * n.channels, inner, 1, 1);
        let mode = n.draws.pick(&["DCR", "CRD"]);
        let attributes = vec![("blocksize", int(2)), ("mode", common::text(mode))];
        n.x = n.node("DepthToSpace", &[changed], attributes);
        n.channels = inner / 4;
    },
    // Squeeze and excite through vectors.
    |n| {
        let (input, c) = (n.x, n.channels);
        let pooled = n.reduce_mean(input, &[2, 3], false);
        let inner = n.width();
        let (down, up) = (n.weight(&[inner, c]), n.weight(&[c, inner]));
        let hidden = n.node("Gemm", &[pooled, down], vec![("transB", int(1))]);
        let hidden = n.node("Relu", &[hidden], vec![]);
        let gate = n.node("Gemm", &[hidden, up], vec![("transB", int(1))]);
        let gate = n.node("Sigmoid", &[gate], vec![]);
        let gate = if n.opset >= 13 {
            let axes = n.sizes(&[2, 3]);
            n.node("Unsqueeze", &[gate, axes], vec![])
        } else {
            n.node("Unsqueeze", &[gate], vec![("axes", ints(&[2, 3]))])
        };
        let (c, s) = (c as i64, n.size as i64);
        let rows = n.draws.pick(&[1, c]);
        let target = n.sizes(&[1, rows, s, s]);
        let wide = n.node("Expand", &[gate, target], vec![]);
        n.x = n.node("Mul", &[input, wide], vec![]);
    },
    // Normalization over the channels, which fixes them.
    |n| {
        let input = n.x;
        let mean = n.reduce_mean(input, &[1], true);
        n.x = n.node("Sub", &[input, mean], vec![]);
        let to = n.width();
        n.conv(to, 1, 1);
    },
    // The channels twice.
    |n| {
        let repeats = n.sizes(&[1, 2, 1, 1]);
        let twice = n.node("Tile", &[n.x, repeats], vec![]);
        let (c, to) = (n.channels, n.width());
        n.x = n.conv_of(twice, 2 * c, to, 1, 1);
        n.channels = to;
    },
    // A choice between two branches at each position.
    |n| {
        let (input, c, s) = (n.x, n.channels, n.size);
        let chosen = n.draws.integers(s * s, 0, 1);
        let mask = n.model.constant(common::typed(ElementType::Bool, &[1, 1, s, s], &chosen));
        let other = n.conv_of(input, c, c, 3, 1);
        n.x = n.node("Where", &[mask, input, other], vec![]);
    },
    // Integer weights with a scale per output channel. Quantized activations are left out: they
    // turn a rounding difference into a whole step.
    |n| {
        let (c, to) = (n.channels, n.width());
        let values = n.draws.integers(to * c, -100, 100);
        let weight = n.model.constant(common::typed(ElementType::I8, &[to, c, 1, 1], &values));
        let zeros = n.draws.integers(to, -3, 3);
        let zeros = n.model.constant(common::typed(ElementType::I8, &[to], &zeros));
        let scales = n.vector(&[to], 0.001, 0.01);
        let weight = n.node("DequantizeLinear", &[weight, scales, zeros], vec![("axis", int(0))]);
        n.x = n.node("Conv", &[n.x, weight], vec![]);
        n.channels = to;
    },
    // A shape computed at run time from the number of channels.
    |n| {
        let (input, s) = (n.x, n.size as i64);
        let shape = n.node("Shape", &[input], vec![]);
        let (one, two) = (n.sizes(&[1]), n.sizes(&[2]));
        let count = n.node("Gather", &[shape, one], vec![]);
        let part = n.node("Div", &[count, two], vec![]);
        let rest = n.sizes(&[s, s]);
        let axis = || vec![("axis", int(0))];
        let split = n.node("Concat", &[one, two, part, rest], axis());
        let parts = n.node("Reshape", &[input, split], vec![]);
        let swapped = n.node("Transpose", &[parts], vec![("perm", ints(&[0, 2, 1, 3, 4]))]);
        let merged = n.node("Concat", &[one, count, rest], axis());
        n.x = n.node("Reshape", &[swapped, merged], vec![]);
        let to = n.width();
        n.conv(to, 1, 1);
    },
];

/// A random network of the given pieces, with a flatten or a pooled head.
fn network(draws: &mut Draws, pieces: &[usize]) -> Graph {
    let opset = draws.pick(&[11, 13, 17, 18]);
    let mut model = Model::new(opset);
    let size = 4;
    let x = model.input(ElementType::F32, &[1, 3, size, size]);
    let mut net = Net { model, draws, opset, x, channels: 3, size };
    net.conv(8, 3, 1);
    net.activation();
    net.pieces(pieces);
    let features = match net.draws.below(3) {
        0 => {
            let pooled = net.node("GlobalAveragePool", &[net.x], vec![]);
            (net.node("Flatten", &[pooled], vec![]), net.channels)
        }
        1 => (net.node("Flatten", &[net.x], vec![]), net.channels * size * size),
        _ => (net.reshape(net.x, &[1, -1]), net.channels * size * size),
    };
    let w = net.weight(&[5, features.1]);
    let bias = net.vector(&[5], -0.5, 0.5);
    let out = net.node("Gemm", &[features.0, w, bias], vec![("transB", int(1))]);
    net.model.finish(&[out])
}

/// Per group some of the classes that can be removed, never all.
fn choose(facts: &Facts, channels: &Channels, count: usize, draws: &mut Draws) -> Vec<ClassId> {
    let mut remove = Vec::new();
    for group in &channels.groups {
        for class in channels.removable(group) {
            if draws.below(3) == 1 {
                remove.push(class);
            }
        }
    }
    // Every axis must keep something.
    for i in 0..count {
        let value = ValueId::from_index(i);
        for axis in 0..facts.dims(value).map_or(0, <[usize]>::len) {
            if let Some(positions) = channels.positions(value, axis)
                && positions.iter().all(|class| remove.contains(class))
            {
                remove.retain(|class| Some(class) != positions.first());
            }
        }
    }
    remove
}

/// With every axis that can carry the channels of one that is split; how many classes were removed.
fn check(draws: Vec<u16>, pieces: &[usize]) -> Result<usize, TestCaseError> {
    let finest = check_split(draws.clone(), pieces, SplitAxis::Finest)?;
    Ok(finest + check_split(draws, pieces, SplitAxis::Heads)?)
}

fn check_split(
    draws: Vec<u16>,
    pieces: &[usize],
    split: SplitAxis,
) -> Result<usize, TestCaseError> {
    let mut draws = Draws::new(draws);
    let graph = network(&mut draws, pieces);
    let facts = infer(&graph, &BTreeMap::new()).unwrap();
    let channels = analyze_split(&graph, &facts, split).unwrap();
    let remove = choose(&facts, &channels, graph.value_count(), &mut draws);
    let edits =
        cut(&graph, &facts, &channels, &remove).map_err(|e| TestCaseError::fail(e.to_string()))?;
    let small = apply(&graph, &edits).map_err(|e| TestCaseError::fail(e.to_string()))?;
    let after = infer(&small, &BTreeMap::new()).map_err(|e| TestCaseError::fail(e.to_string()))?;
    for i in 0..graph.value_count() {
        let value = ValueId::from_index(i);
        let Some(old) = facts.dims(value) else { continue };
        // Sizes that are no longer read are dropped, others may be copied under a new name.
        let Some(new) = small.find(graph.name(value)).and_then(|value| after.dims(value)) else {
            continue;
        };
        if facts.get(value).unwrap().element != ElementType::F32 {
            continue;
        }
        let predicted: Vec<usize> = old
            .iter()
            .enumerate()
            .map(|(axis, &n)| match channels.positions(value, axis) {
                Some(positions) => positions.iter().filter(|class| !remove.contains(class)).count(),
                None => n,
            })
            .collect();
        prop_assert_eq!(new, predicted.as_slice(), "shape of `{}`", graph.name(value));
    }
    let x = array(&[1, 3, 4, 4], draws.floats(48, -1.0, 1.0));
    let mut mask = Mask::new(&graph, &channels, &remove).unwrap();
    let difference = masked_against_cut(&graph, &mut mask, &small, &[(graph.inputs[0], x)])
        .map_err(|e| TestCaseError::fail(e.to_string()))?;
    prop_assert!(difference <= 1e-4, "outputs differ by {difference} after removing {remove:?}");
    Ok(remove.len())
}

proptest! {
    #![proptest_config(common::config(1500))]

    #[test]
    fn masked_equals_cut(
        draws in prop::collection::vec(any::<u16>(), 200..600),
        pieces in prop::collection::vec(0..PIECES.len(), 1..7),
    ) {
        check(draws, &pieces)?;
    }
}

/// Each piece alone leaves something to remove, so that the property above is not empty.
#[test]
fn every_piece_can_be_cut() {
    for piece in 0..PIECES.len() {
        let removed: usize = (0..20_u16)
            .map(|seed| {
                let draws = (0..400_u16).map(|i| i.wrapping_mul(977) ^ (seed * 131)).collect();
                check(draws, &[piece]).unwrap_or_else(|e| panic!("piece {piece}: {e}"))
            })
            .sum();
        assert!(removed > 0, "piece {piece}");
    }
}
