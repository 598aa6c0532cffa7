//! The whole procedure.

use super::allot::allot;
use super::fit::{Fit, Solved};
use super::layers::{Found, Layer, find_layers};
use super::params::{Method, SparsifyParams, ValidSparsifyParams};
use super::quadratic::Quadratic;
use super::report::{SparseLayer, SparsifyReport};
use crate::Prunable;
use faer::Mat;
use std::collections::BTreeMap;
use tensor_core::calibrate::{Batches, Replay, Sampling, Statistics, Walk, collect};
use tensor_core::graph::{Constant, Graph, Index};
use tensor_core::progress::{self, Progress};
use tensor_core::rewrite::{self, Edit, fold_batch_norm};
use tensor_core::run::{self, Facts};
use tensor_core::{Error, NodeId, Result};

/// A sparsified model.
#[derive(Debug, Clone)]
pub struct Sparsified {
    /// The model; its nodes are those of the original, BatchNormalization folded.
    pub graph: Graph,
    /// What was done.
    pub report: SparsifyReport,
}

/// What the stages look at.
pub(super) struct Scope<'a> {
    pub(super) graph: &'a Graph,
    pub(super) facts: &'a Facts,
    pub(super) layers: &'a [Layer],
    pub(super) params: &'a SparsifyParams,
}

/// Networks that hold activations: the original and the current one.
const NETWORKS: usize = 2;

/// Sets weights to zero on calibration data, without labels and without training.
///
/// BatchNormalization is folded first. Then, from shallow to deep, each layer loses its share of
/// weights and the others are solved by least squares: inputs from the network as it is by then,
/// responses from the original, so that later layers make up for earlier ones. Layers that stay
/// dense are refitted too once their input has changed. What is zero already stays zero, and counts.
///
/// `batches` hold the calibration samples; each lists arrays in the order of the graph's inputs. They may
/// be spread over processes, all of which get the result.
/// `shapes` are the input shapes for inference, as for [`tensor_core::run::infer`].
///
/// # Errors
/// `E0140` when the error curves leave too few zeros, `E0144` without data, `E0432` when there is no layer to prune, `E0433` when a weight is not finite,
/// `E0434` when a name is unknown, `E0435` when the statistics are singular.
pub fn sparsify(
    graph: &Graph,
    shapes: &BTreeMap<String, Vec<usize>>,
    batches: impl Into<Batches>,
    params: &ValidSparsifyParams,
    progress: &dyn Progress,
) -> Result<Sparsified> {
    let batches = batches.into();
    if batches.is_empty() {
        return Err(Error::invalid("sparsifying needs calibration data").code_is("E0144"));
    }
    let params = &params.0;
    let folded = rewrite::apply(graph, &fold_batch_norm(graph)?)?;
    let folded_batch_norms = graph.nodes.len() - folded.nodes.len();
    let facts = run::infer(&folded, shapes)?;
    let found = find_layers(&folded, &facts, params)?;
    found.check()?;
    let Found { layers, left } = found;
    let replay = Replay::new(&folded, batches, params.memory / NETWORKS)?;
    let samples = replay.samples();
    let scope = Scope { graph: &folded, facts: &facts, layers: &layers, params };
    let counts = allot(&scope, replay.clone(), progress)?;
    let (graph, reports) = refit_all(&scope, replay, &counts, progress)?;
    warn_of_more(&scope, &counts, &reports, progress)?;
    let reports = with_left(&scope, reports, left)?;
    let pruned = reports.iter().filter(|layer| layer.dense.is_none());
    let (weights, zeros) =
        pruned.fold((0, 0), |(w, z), layer| (w + layer.weights, z + layer.zeros));
    let report = SparsifyReport {
        method: params.method,
        pattern: params.pattern,
        distribution: params.spread,
        weights,
        zeros,
        sparsity: zeros as f64 / weights.max(1) as f64,
        layers: reports,
        samples,
        folded_batch_norms,
    };
    Ok(Sparsified { graph, report })
}

impl Scope<'_> {
    /// The error of a layer as a function of its weight.
    pub(super) fn fit(&self, layer: &Layer, statistics: Vec<[Statistics; 2]>) -> Result<Fit> {
        let index = Index::new(self.graph);
        let problems = statistics
            .into_iter()
            .map(|halves| Quadratic::new(halves, self.params.ridge))
            .collect::<Result<Vec<_>>>()?;
        let rows = layer.rows(self.graph, &index)?;
        if let Some(value) = rows.iter().find(|value| !value.is_finite()) {
            let message = format!("`{}` holds {value}", layer.weight.name);
            return Err(Error::invalid(message).code_is("E0433"));
        }
        Fit::new(problems, &rows, layer.map.shape(), self.params.pattern)
    }

    /// How statistics are sampled.
    pub(super) fn sampling(&self) -> Sampling {
        Sampling { positions: self.params.positions, seed: self.params.seed, keep_rows: false }
    }
}

/// Names the layers that are sparser than asked, because zeros that the model has stay.
fn warn_of_more(
    scope: &Scope,
    counts: &[usize],
    reports: &[SparseLayer],
    progress: &dyn Progress,
) -> Result<()> {
    /// Whole blocks come this near to what was asked.
    const NEAR: f64 = 5e-3;
    let index = Index::new(scope.graph);
    for ((layer, &count), report) in scope.layers.iter().zip(counts).zip(reports) {
        let asked = count as f64 / layer.count().max(1) as f64;
        if report.dense.is_none()
            && report.sparsity > asked + NEAR
            && layer.rows(scope.graph, &index)?.contains(&0.0)
        {
            progress.warn(&format!(
                "{:.1}% of `{}` are zero, not {:.1}%: zeros that the model has stay",
                report.sparsity * 100.0,
                report.key,
                asked * 100.0
            ));
        }
    }
    Ok(())
}

/// The pass from shallow to deep: the graph with its new weights, and a report per layer.
fn refit_all(
    scope: &Scope,
    replay: Replay,
    counts: &[usize],
    progress: &dyn Progress,
) -> Result<(Graph, Vec<SparseLayer>)> {
    let mut original = replay.clone();
    let mut current = replay;
    let mut changed = scope.graph.clone();
    let mut is_changed = false;
    let mut reports = Vec::new();
    progress.stage("sparsify", scope.layers.len());
    for (layer, &count) in scope.layers.iter().zip(counts) {
        progress::check(progress)?;
        let is_pruned = layer.weight.dense.is_none();
        let may_refit = scope.params.method == Method::Obs && is_changed;
        if !is_pruned && !may_refit {
            reports.push(untouched(scope, layer)?);
            progress.item(&layer.weight.key);
            continue;
        }
        let mut from = Walk { graph: scope.graph, replay: &mut original };
        let mut to = Walk { graph: &changed, replay: &mut current };
        let place = layer.place();
        let sampling = scope.sampling();
        let collected = collect(&place, scope.facts, &mut from, Some(&mut to), sampling, progress)?;
        let located = |error: Error| error.in_node(scope.graph.describe(layer.weight.node));
        let fit = scope.fit(layer, collected.statistics).map_err(located)?;
        let (edits, report) = one_layer(scope, layer, &fit, count).map_err(located)?;
        changed = rewrite::apply(&changed, &edits)?;
        reports.push(report);
        is_changed = true;
        progress.item(&layer.weight.key);
    }
    Ok((changed, reports))
}

/// Removes weights of one layer and says what that does.
fn one_layer(
    scope: &Scope,
    layer: &Layer,
    fit: &Fit,
    count: usize,
) -> Result<(Vec<Edit>, SparseLayer)> {
    let index = Index::new(scope.graph);
    let bias = layer.bias(scope.graph, &index)?;
    let is_pruned = layer.weight.dense.is_none();
    let method = scope.params.method;
    let solved = match method {
        Method::Obs if is_pruned => fit.compensated()?.without(count)?,
        Method::Obs => fit.dense()?,
        Method::Magnitude => fit.magnitude(count)?,
    };
    let magnitude = match is_pruned {
        true => Some(fit.error(&fit.magnitude(count)?.weights, Some(&bias))),
        false => None,
    };
    let new_bias = layer.map.bias().filter(|_| method == Method::Obs);
    let own = match new_bias {
        Some(_) => None,
        None => Some(bias.as_slice()),
    };
    let zeros = solved.keep.iter().filter(|&&keep| !keep).count();
    let report = SparseLayer {
        rows: fit.problems.first().map_or(0, |problem| problem.rows),
        error: fit.error(&solved.weights, own),
        uncompensated_error: fit.error(&fit.masked(&solved.keep), Some(&bias)),
        magnitude_error: magnitude,
        ..entry(scope, layer, zeros)
    };
    let biases = new_bias.map(|(input, factor)| {
        let values = fit.intercept(&solved.weights);
        (input, values.iter().map(|b| (b / f64::from(factor)) as f32).collect::<Vec<_>>())
    });
    Ok((edits(scope, layer, &index, &solved, biases)?, report))
}

/// The new weight, exactly zero where it is masked, and the new bias.
fn edits(
    scope: &Scope,
    layer: &Layer,
    index: &Index,
    solved: &Solved,
    bias: Option<(usize, Vec<f32>)>,
) -> Result<Vec<Edit>> {
    let shape = layer.map.shape();
    let (p, n) = (shape.columns(), shape.group_outputs());
    let value = |at: usize| -> f32 {
        let weights: &Mat<f64> = &solved.weights[at / p / n];
        if solved.keep[at] { weights[(at % p, at / p % n)] as f32 } else { 0.0 }
    };
    let rows: Vec<f32> = (0..solved.keep.len()).map(value).collect();
    // A negative factor of a product would turn zeros into -0.
    let weight: Vec<f32> = layer.map.weight_of_rows(&rows).into_iter().map(|w| w + 0.0).collect();
    let values = || weight.iter().chain(bias.iter().flat_map(|(_, bias)| bias));
    if values().any(|value| !value.is_finite()) {
        return Err(super::linear::singular());
    }
    let node = layer.weight.node;
    let stored = rewrite::Stored::required(scope.graph, index, node, layer.weight.input)?;
    let constant = Constant::from_f32s(stored.constant.dims(), &weight)?;
    let mut edits = vec![stored.replaced(&constant)?];
    if let Some((input, bias)) = bias {
        let constant = Constant::from_f32s(&[bias.len()], &bias)?;
        edits.push(rewrite::set_stored(scope.graph, index, (node, input), constant)?);
    }
    Ok(edits)
}

/// The report of a layer that stays as it is.
fn untouched(scope: &Scope, layer: &Layer) -> Result<SparseLayer> {
    let rows = layer.rows(scope.graph, &Index::new(scope.graph))?;
    Ok(entry(scope, layer, rows.iter().filter(|&&value| value == 0.0).count()))
}

/// The reports of all weights in execution order, those that were left as they are among them.
fn with_left(
    scope: &Scope,
    reports: Vec<SparseLayer>,
    left: Vec<Prunable>,
) -> Result<Vec<SparseLayer>> {
    let index = Index::new(scope.graph);
    let places = scope.layers.iter().map(|layer| layer.weight.node);
    let mut all: Vec<(NodeId, SparseLayer)> = places.zip(reports).collect();
    for weight in left {
        let constant = scope
            .graph
            .constant(weight.value, &index)
            .ok_or_else(|| Error::internal("a weight is no constant"))?;
        let values = constant.to_f32s()?;
        let zeros = values.iter().filter(|&&value| value == 0.0).count();
        all.push((weight.node, described(scope, &weight, values.len(), zeros)));
    }
    all.sort_by_key(|(node, _)| node.index());
    Ok(all.into_iter().map(|(_, report)| report).collect())
}

/// What is known of a layer without statistics.
fn entry(scope: &Scope, layer: &Layer, zeros: usize) -> SparseLayer {
    described(scope, &layer.weight, layer.count(), zeros)
}

fn described(scope: &Scope, weight: &Prunable, weights: usize, zeros: usize) -> SparseLayer {
    SparseLayer {
        key: weight.key.clone(),
        op: scope.graph.node(weight.node).op.clone(),
        weight: weight.name.clone(),
        weights,
        zeros,
        sparsity: zeros as f64 / weights.max(1) as f64,
        dense: weight.dense.clone(),
        rows: 0,
        error: 0.0,
        uncompensated_error: 0.0,
        magnitude_error: None,
    }
}
