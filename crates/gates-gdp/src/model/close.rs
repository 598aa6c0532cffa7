//! Zeros in place of weights behind closed gates.

use super::Placement;
use std::collections::BTreeMap;
use tensor_core::graph::{Constant, Graph, Index};
use tensor_core::rewrite::Edit;
use tensor_core::{Error, Result, ValueId, rewrite};

/// A copy of the graph whose weights are 0 wherever they meet a gate that is `closed`, by list and
/// place.
///
/// # Errors
/// When the graph lacks a weight of the placement.
pub fn close(graph: &Graph, placement: &Placement, closed: &[Vec<bool>]) -> Result<Graph> {
    let mut zeroed: BTreeMap<ValueId, Constant> = BTreeMap::new();
    let is_closed = |list: usize, place: usize| {
        closed.get(list).and_then(|list| list.get(place)) == Some(&true)
    };
    for site in &placement.sites {
        let (value, constant) = find(graph, &site.parameter)?;
        let dims = constant.dims();
        if dims.get(site.axis) != Some(&site.gates.len()) {
            return Err(lacks(&site.parameter));
        }
        let inner: usize = dims[site.axis + 1..].iter().product();
        let mut values = constant.to_f32s()?;
        for (at, value) in values.iter_mut().enumerate() {
            let gate = site.gates[at / inner.max(1) % site.gates.len()];
            if gate.is_some_and(|(list, place)| is_closed(list, place)) {
                *value = 0.0;
            }
        }
        zeroed.insert(value, Constant::from_f32s(dims, &values)?);
    }
    for site in placement.branches.iter().filter(|site| is_closed(site.list, 0)) {
        for name in site.scaled.iter().chain([&site.weight]) {
            let (value, constant) = find(graph, name)?;
            let zeros = vec![0.0; constant.count()];
            zeroed.insert(value, Constant::from_f32s(constant.dims(), &zeros)?);
        }
    }
    let index = Index::new(graph);
    let mut edits = Vec::new();
    for (value, constant) in zeroed {
        for &(node, input) in index.readers(value) {
            edits.push(Edit::SetInput { node, input, constant: constant.clone() });
        }
    }
    rewrite::apply(graph, &edits)
}

fn find<'a>(graph: &'a Graph, name: &str) -> Result<(ValueId, &'a Constant)> {
    let value = graph.find(name);
    value.and_then(|value| Some((value, graph.initializer(value)?))).ok_or_else(|| lacks(name))
}

fn lacks(name: &str) -> Error {
    Error::invalid(format!("the graph lacks `{name}`"))
}
