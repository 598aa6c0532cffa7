//! Attention loses whole heads, or the same dimensions of all.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::model::Model;
use lasso_prune::{Attention, Budget, Limit, PruneParams, Widths, prune};
use std::collections::BTreeMap;
use tensor_core::cost::{Resource, cost};
use tensor_core::graph::{Attribute, Graph};
use tensor_core::progress::Silent;
use tensor_core::run::{Array, Session, infer};
use tensor_core::{Constant, ValueId};

const BATCH: i64 = 8;
const LENGTH: i64 = 6;
const WIDTH: usize = 12;
const HEADS: usize = 3;
const DIMENSIONS: usize = 5;
const INNER: usize = HEADS * DIMENSIONS;

/// Column of a head's dimension in the weight of one of `parts` projections that lie side by side.
fn column(part: usize, head: usize, dimension: usize) -> usize {
    (part * HEADS + head) * DIMENSIONS + dimension
}

/// A projection of `parts` matrices, of which the last head is a copy of the first.
fn projection(model: &mut Model, parts: usize) -> ValueId {
    let columns = parts * INNER;
    let mut values: Vec<f32> =
        (0..WIDTH * columns).map(|_| 0.5 * model.random.normal() as f32).collect();
    for row in 0..WIDTH {
        for part in 0..parts {
            for dimension in 0..DIMENSIONS {
                values[row * columns + column(part, HEADS - 1, dimension)] =
                    values[row * columns + column(part, 0, dimension)];
            }
        }
    }
    let weight = model.weight(&[WIDTH, columns]);
    model.graph.set_initializer(weight, Constant::from_f32s(&[WIDTH, columns], &values).unwrap());
    weight
}

fn integers(model: &mut Model, dims: &[usize], values: &[i64]) -> ValueId {
    let value = model.graph.value(&format!("n{}", model.graph.value_count()));
    model.graph.set_initializer(value, Constant::from_i64s(dims, values).unwrap());
    value
}

fn transpose(model: &mut Model, x: ValueId, perm: &[i64]) -> ValueId {
    model.node("Transpose", &[x], &[("perm", Attribute::Ints(perm.to_vec()))])
}

/// Self-attention with queries, keys and values from one weight each, or from one for all.
fn attention(is_packed: bool) -> (Graph, Vec<Vec<Array>>) {
    let (mut model, x) = Model::new(3, &[BATCH as usize, LENGTH as usize, WIDTH]);
    let (heads, dimensions) = (HEADS as i64, DIMENSIONS as i64);
    let parts: Vec<ValueId> = if is_packed {
        let weight = projection(&mut model, 3);
        let all = model.node("MatMul", &[x, weight], &[]);
        let to = integers(&mut model, &[5], &[BATCH, LENGTH, 3, heads, dimensions]);
        let all = model.node("Reshape", &[all, to], &[]);
        let all = transpose(&mut model, all, &[2, 0, 3, 1, 4]);
        let take = |part| {
            let at = integers(&mut model, &[], &[part]);
            model.node("Gather", &[all, at], &[("axis", Attribute::Int(0))])
        };
        (0..3).map(take).collect()
    } else {
        let project = |_| {
            let weight = projection(&mut model, 1);
            let one = model.node("MatMul", &[x, weight], &[]);
            let to = integers(&mut model, &[4], &[0, 0, heads, dimensions]);
            let one = model.node("Reshape", &[one, to], &[]);
            transpose(&mut model, one, &[0, 2, 1, 3])
        };
        (0..3).map(project).collect()
    };
    let keys = transpose(&mut model, parts[1], &[0, 1, 3, 2]);
    let scores = model.node("MatMul", &[parts[0], keys], &[]);
    let scores = model.node("Softmax", &[scores], &[("axis", Attribute::Int(-1))]);
    let mixed = model.node("MatMul", &[scores, parts[2]], &[]);
    let mixed = transpose(&mut model, mixed, &[0, 2, 1, 3]);
    let to = integers(&mut model, &[3], &[0, 0, INNER as i64]);
    let mixed = model.node("Reshape", &[mixed, to], &[]);
    let weight = model.weight(&[INNER, WIDTH]);
    let y = model.node("MatMul", &[mixed, weight], &[]);
    model.finish(y)
}

fn outputs(graph: &Graph, batch: &[Array]) -> Vec<f32> {
    let inputs: Vec<_> = graph.inputs.iter().copied().zip(batch.iter().cloned()).collect();
    let found = Session::new(graph).unwrap().fetch(&inputs, &graph.outputs).unwrap();
    found[0].f32s().unwrap().to_vec()
}

/// The group that the last product reads.
fn name(graph: &Graph) -> String {
    graph.nodes.last().unwrap().name.clone()
}

/// Without the copy the output stays what it was: its part goes to the head that it was copied from.
#[test]
fn a_head_that_another_repeats_is_free() {
    for is_packed in [false, true] {
        let (graph, batches) = attention(is_packed);
        let widths = Widths::Given(BTreeMap::from([(name(&graph), HEADS - 1)]));
        let params = PruneParams { widths, attention: Attention::Heads, ..PruneParams::default() };
        let params = params.check().unwrap();
        let shapes = BTreeMap::new();
        let pruned = prune(&graph, &shapes, batches.clone(), &params, &Silent).unwrap();
        let (whole, less) = (outputs(&graph, &batches[0]), outputs(&pruned.graph, &batches[0]));
        let scale = whole.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        let off = whole.iter().zip(&less).map(|(a, b)| (a - b).abs()).fold(0.0_f32, f32::max);
        assert!(off < 1e-4 * scale, "packed {is_packed}: {off} of {scale}");
        let kept =
            |graph: &Graph| cost(graph, &infer(graph, &shapes).unwrap()).unwrap().parameters as f64;
        // All parameters are those of heads.
        let share = kept(&pruned.graph) / kept(&graph);
        assert!((share - 2.0 / 3.0).abs() < 1e-9, "packed {is_packed}: {share}");
    }
}

/// Dimensions go from all heads; heads go whole, whatever channel counts should be multiples of.
#[test]
fn budgets_take_dimensions_or_heads() {
    for (attention_loses, round_to) in
        [(Attention::Dimensions, 1), (Attention::Heads, 1), (Attention::Heads, 8)]
    {
        let (graph, batches) = attention(false);
        let budget = Budget { price: Resource::Macs.into(), limit: Limit::Keep(0.75) };
        let params =
            PruneParams { budget, attention: attention_loses, round_to, ..PruneParams::default() };
        let params = params.check().unwrap();
        let shapes = BTreeMap::new();
        let pruned = prune(&graph, &shapes, batches, &params, &Silent).unwrap();
        let facts = infer(&pruned.graph, &shapes).unwrap();
        let last = pruned.graph.nodes.last().unwrap();
        let columns = facts.dims(last.input(0).unwrap()).unwrap()[2];
        let unit = match attention_loses {
            Attention::Dimensions => HEADS,
            Attention::Heads => DIMENSIONS,
        };
        assert!(columns < INNER && columns.is_multiple_of(unit), "{attention_loses:?}: {columns}");
        let macs = |graph: &Graph| cost(graph, &infer(graph, &shapes).unwrap()).unwrap().macs;
        assert!(macs(&pruned.graph) as f64 <= 0.75 * macs(&graph) as f64);
    }
}
