//! Zeros in place of weights behind closed gates.

use super::Site;
use tensor_core::graph::{Constant, Graph, Index};
use tensor_core::rewrite::Edit;
use tensor_core::{Error, Result, rewrite};

/// A copy of the graph whose weights are 0 wherever they meet a channel that is `closed`, by list and
/// place.
///
/// # Errors
/// When the graph lacks a weight of the sites, or `closed` a list.
pub fn close(graph: &Graph, sites: &[Site], closed: &[Vec<bool>]) -> Result<Graph> {
    let index = Index::new(graph);
    let mut edits = Vec::new();
    for site in sites {
        let value = graph.find(&site.parameter);
        let found = value.and_then(|value| Some((value, graph.initializer(value)?)));
        let (value, constant) = found
            .filter(|(_, constant)| constant.dims().get(site.axis) == Some(&site.gates.len()))
            .ok_or_else(|| Error::invalid(format!("the graph lacks `{}`", site.parameter)))?;
        let dims = constant.dims();
        let inner: usize = dims[site.axis + 1..].iter().product();
        let is_closed = |gate: &Option<(usize, usize)>| {
            let gates = gate.iter().copied().chain(site.branch.map(|list| (list, 0)));
            let mut gates = gates.map(|(list, place)| closed.get(list).and_then(|l| l.get(place)));
            gates.any(|gate| gate == Some(&true))
        };
        let is_closed: Vec<bool> = site.gates.iter().map(is_closed).collect();
        let mut values = constant.to_f32s()?;
        for (at, value) in values.iter_mut().enumerate() {
            if is_closed[at / inner.max(1) % is_closed.len()] {
                *value = 0.0;
            }
        }
        let zeroed = Constant::from_f32s(dims, &values)?;
        for &(node, input) in index.readers(value) {
            edits.push(Edit::SetInput { node, input, constant: zeroed.clone() });
        }
    }
    rewrite::apply(graph, &edits)
}
