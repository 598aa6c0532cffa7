//! The pass from shallow to deep, and what it walks on.

use super::curves::{Menu, menus};
use super::fit::{Fit, Fitted};
use super::forms::Form;
use super::params::FactorParams;
use super::report::{FactorReport, FactoredLayer};
use super::split::split;
use crate::model::layers::{Layer, find_layers};
use crate::model::params::{Budget, Limit};
use crate::model::problems::{LayerProblems, weight_rows};
use crate::model::prune::{MASK_TOLERANCE, NETWORKS, probe, warn_of_few_samples};
use crate::model::refit::weight_edits;
use std::collections::{BTreeMap, BTreeSet};
use tensor_core::budget::{Choice, allocate};
use tensor_core::calibrate::{CentredRows, Replay, Sampling, Statistics, Walk, collect};
use tensor_core::channels::{self, identity};
use tensor_core::cost::hardware::{self, LayerShape};
use tensor_core::cost::{self, Price};
use tensor_core::graph::{Graph, Index};
use tensor_core::progress::{self, Progress};
use tensor_core::rewrite::{self, fold_batch_norm};
use tensor_core::run::{self, Array, Facts};
use tensor_core::{Error, Result, ValueId};

/// A factorized model.
#[derive(Debug, Clone)]
pub struct Factored {
    /// The model of thinner layers.
    pub graph: Graph,
    /// What was done.
    pub report: FactorReport,
}

/// A model made ready for factorization.
pub(super) struct Model {
    /// BatchNormalization folded.
    pub(super) graph: Graph,
    pub(super) facts: Facts,
    pub(super) layers: Vec<Layer>,
    /// The shape of each layer that may be factorized.
    pub(super) shapes: Vec<Option<LayerShape>>,
    pub(super) sampling: Sampling,
}

impl Model {
    fn new(
        original: &Graph,
        shapes: &BTreeMap<String, Vec<usize>>,
        params: &FactorParams,
    ) -> Result<Self> {
        let graph = rewrite::apply(original, &fold_batch_norm(original)?)?;
        let facts = run::infer(&graph, shapes)?;
        let channels = channels::analyze(&graph, &facts)?;
        let layers = find_layers(&graph, &facts, &channels)?;
        let known = hardware::layers(&graph, &facts)?;
        let shape = |layer: &Layer| {
            let found = known.iter().find(|known| known.node == layer.node)?;
            let is_image = facts.dims(layer.output).is_some_and(|dims| dims.len() == 4);
            let is_conv = found.shape.op == hardware::LayerKind::Conv && found.shape.groups == 1;
            (is_image && is_conv).then(|| found.shape.clone())
        };
        let shapes: Vec<_> = layers.iter().map(shape).collect();
        let sampling =
            Sampling { positions: params.positions, seed: params.seed, keep_rows: false };
        Ok(Self { graph, facts, layers, shapes, sampling })
    }

    /// Is the output of a layer read by a ReLU alone?
    fn is_rectified(&self, index: &Index, layer: &Layer) -> bool {
        let [(reader, _)] = index.readers(layer.output) else { return false };
        let node = self.graph.node(*reader);
        node.op == "Relu" && node.domain.is_empty() && !self.graph.outputs.contains(&layer.output)
    }
}

/// Factorizes the convolutions of a model on calibration data, without labels and without training.
///
/// First BatchNormalization is folded. One pass over the data gives the held-out error of every form
/// of every layer; the budget picks one for each. Then, from shallow to deep, each layer is fitted in
/// its form: inputs from the current network, responses from the original. All of this is computed
/// from second moments of the layer's inputs; where a ReLU follows, a layer of reduced rank is improved
/// for what the ReLU leaves, on sampled rows. During the pass a layer holds the product of its factors;
/// at the end it is split, and both models must agree.
///
/// # Errors
/// `E0140` when the budget cannot be met, `E0141` when a parameter is out of range, `E0144` without
/// data, and when the data are not finite.
pub fn factorize(
    graph: &Graph,
    shapes: &BTreeMap<String, Vec<usize>>,
    batches: Vec<Vec<Array>>,
    params: &FactorParams,
    progress: &dyn Progress,
) -> Result<Factored> {
    let work = Factorizer::new(graph, shapes, batches, params, progress)?;
    work.at(&params.budget, &BTreeSet::new(), progress)
}

/// A model with its calibration data, to be factorized under any number of budgets: the errors of the
/// forms are measured once.
pub(crate) struct Factorizer<'a> {
    params: &'a FactorParams,
    model: Model,
    menus: Vec<Menu>,
    replay: Replay,
    sample: Vec<(ValueId, Array)>,
    folded_batch_norms: usize,
}

impl<'a> Factorizer<'a> {
    /// Measures what every form of every layer loses. The budget of `params` does not matter.
    ///
    /// # Errors
    /// As [`factorize`], but for its budget.
    pub(crate) fn new(
        graph: &Graph,
        shapes: &BTreeMap<String, Vec<usize>>,
        batches: Vec<Vec<Array>>,
        params: &'a FactorParams,
        progress: &dyn Progress,
    ) -> Result<Self> {
        params.check()?;
        let Some(first) = batches.first() else {
            return Err(Error::invalid("factorization needs calibration data").code_is("E0144"));
        };
        let sample = probe(graph, first)?;
        let model = Model::new(graph, shapes, params)?;
        let replay = Replay::new(&model.graph, batches, params.memory / NETWORKS)?;
        warn_of_few_samples(replay.samples(), progress);
        let menus = menus(&model, replay.clone(), params, progress)?;
        let folded_batch_norms = graph.nodes.len() - model.graph.nodes.len();
        Ok(Self { params, model, menus, replay, sample, folded_batch_norms })
    }

    /// The model under a budget; layers whose keys are in `whole` stay one convolution.
    ///
    /// # Errors
    /// As [`factorize`].
    pub(crate) fn at(
        &self,
        budget: &Budget,
        whole: &BTreeSet<String>,
        progress: &dyn Progress,
    ) -> Result<Factored> {
        let Self { params, model, menus, replay, sample, folded_batch_norms } = self;
        let key = |menu: &&Menu| model.graph.key(model.layers[menu.layer].node);
        let menus: Vec<&Menu> = menus.iter().filter(|menu| !whole.contains(key(menu))).collect();
        let forms = choose(model, &menus, budget)?;
        let (composed, fitted, layers) = fit_all(model, &forms, replay.clone(), params, progress)?;
        let index = Index::new(&composed);
        let mut edits = Vec::new();
        for ((layer, form), fitted) in model.layers.iter().zip(&forms).zip(&fitted) {
            if let Some(fitted) = fitted {
                edits.extend(split(&composed, &index, layer, *form, &fitted.factors)?);
            }
        }
        let graph = rewrite::apply(&composed, &edits)?;
        let mut mask = identity::Mask::default();
        let split_difference = identity::masked_against_cut(&composed, &mut mask, &graph, sample)?;
        if split_difference > MASK_TOLERANCE {
            return Err(Error::internal(format!(
                "the split model differs from the composed one by {split_difference:.1e} of the output range"
            )));
        }
        let (samples, folded_batch_norms) = (replay.samples(), *folded_batch_norms);
        let report = FactorReport { layers, samples, folded_batch_norms, split_difference };
        Ok(Factored { graph, report })
    }
}

/// The form of every layer under the budget.
fn choose(model: &Model, menus: &[&Menu], budget: &Budget) -> Result<Vec<Form>> {
    let choices: Vec<Choice> = menus
        .iter()
        .map(|menu| Choice {
            name: model.graph.key(model.layers[menu.layer].node).to_owned(),
            widths: (0..menu.forms.len()).collect(),
            penalty: menu.penalties(),
        })
        .collect();
    let price = &budget.price;
    let whole: f64 = menus.iter().filter_map(|menu| menu.forms.last().map(|form| form.1)).sum();
    // What is counted scales with the samples of a batch; time is that of the device's.
    let (rest, time) = match price {
        Price::Latency(device) => {
            let sum = hardware::sum_of_layers(&**device, &model.graph, &model.facts)?;
            (sum - whole, device.network())
        }
        Price::Count(_) => (
            price.of(&model.graph, &model.facts)? / batch(model, price)? - whole,
            hardware::NetworkTime::default(),
        ),
    };
    let cost = |picks: &[usize]| {
        let forms: f64 = menus.iter().zip(picks).map(|(menu, &pick)| menu.forms[pick].1).sum();
        time.at(rest + forms)
    };
    let full: Vec<usize> = menus.iter().map(|menu| menu.forms.len() - 1).collect();
    let limit = match budget.limit {
        Limit::Keep(share) => share * cost(&full),
        Limit::AtMost(most) => most,
    };
    let picks = allocate(&choices, cost, limit)?;
    let mut forms = vec![Form::Whole; model.layers.len()];
    for (menu, pick) in menus.iter().zip(picks) {
        forms[menu.layer] = menu.forms[pick].0;
    }
    Ok(forms)
}

/// Samples that multiply-accumulates are counted for.
fn batch(model: &Model, price: &Price) -> Result<f64> {
    if !matches!(price, Price::Count(cost::Resource::Macs)) {
        return Ok(1.0);
    }
    let total = cost::cost(&model.graph, &model.facts)?;
    let (mut counted, mut single) = (0, 0);
    for (layer, shape) in model.layers.iter().zip(&model.shapes) {
        if let Some(shape) = shape {
            counted += total.nodes[layer.node.index()].macs;
            single += shape.macs();
        }
    }
    Ok(if single > 0 { counted as f64 / single as f64 } else { 1.0 })
}

/// The pass: the graph with composed weights, the factors of each layer, and a report.
fn fit_all(
    model: &Model,
    forms: &[Form],
    replay: Replay,
    params: &FactorParams,
    progress: &dyn Progress,
) -> Result<(Graph, Vec<Option<Fitted>>, Vec<FactoredLayer>)> {
    let Model { graph, facts, layers, .. } = model;
    let original_index = Index::new(graph);
    let (mut original, mut current) = (replay.clone(), replay);
    let mut changed = graph.clone();
    let mut is_changed = false;
    let (mut all, mut reports) = (Vec::new(), Vec::new());
    progress.stage("factorize", layers.len());
    for (at, layer) in layers.iter().enumerate() {
        progress::check(progress)?;
        let form = forms[at];
        if form == Form::Whole && !is_changed {
            all.push(None);
            continue;
        }
        let is_narrowed = matches!(form, Form::Channel { .. } | Form::Both { .. });
        let rows = match is_narrowed && model.is_rectified(&original_index, layer) {
            true => sampled_rows(model, layer, (&original, &current), &changed, progress)?,
            false => None,
        };
        let mut from = Walk { graph, replay: &mut original };
        let mut to = Walk { graph: &changed, replay: &mut current };
        let sampling = model.sampling;
        let collected =
            collect(&layer.place(), facts, &mut from, Some(&mut to), sampling, progress)?;
        let index = Index::new(&changed);
        let weights = weight_rows(&changed, &index, layer)?;
        let problems = LayerProblems::new(collected.statistics, &weights)?;
        let fitted = match &model.shapes[at] {
            Some(shape) => {
                let sizes = [shape.cout, shape.cin, shape.kernel[0], shape.kernel[1]];
                let fit = Fit::new(&problems, &weights[0], sizes, params.ridge)?;
                let fitted = fit.solve(form, rows.as_ref())?;
                let macs =
                    |form: Form| -> u64 { form.layers(shape).iter().map(LayerShape::macs).sum() };
                reports.push(FactoredLayer {
                    key: graph.key(layer.node).to_owned(),
                    form,
                    convolutions: form.describe(shape.kernel),
                    macs_before: shape.macs(),
                    macs_after: macs(form),
                    error: fit.error(&fitted),
                    held_out_error: fit.held_out(form)?,
                });
                Some(fitted)
            }
            None => None,
        };
        let solved = match &fitted {
            Some(fitted) => vec![fitted.whole.clone()],
            None => refitted(&problems, params.ridge)?,
        };
        changed = rewrite::apply(&changed, &weight_edits(&changed, &index, layer, &solved)?)?;
        is_changed = true;
        all.push(fitted);
        progress.item(graph.key(layer.node));
    }
    Ok((changed, all, reports))
}

/// The least-squares solution of a layer that keeps its form.
fn refitted(problems: &LayerProblems, ridge: f64) -> Result<Vec<crate::Reconstruction>> {
    let (ridge, _) = crate::best_ridge(&problems.halves, &[], ridge)?;
    problems.all.iter().map(|problem| crate::reconstruct(problem, &[], ridge)).collect()
}

/// Rows of a layer's input in the network as it is, and of its original response.
fn sampled_rows(
    model: &Model,
    layer: &Layer,
    (original, current): (&Replay, &Replay),
    changed: &Graph,
    progress: &dyn Progress,
) -> Result<Option<CentredRows>> {
    /// Elements of the inputs: 128 MiB in doubles.
    const ELEMENTS: usize = 1 << 24;
    let wanted = ELEMENTS / layer.map.shape().columns().max(1) / original.samples().max(1);
    let sampling =
        Sampling { positions: Some(wanted.clamp(1, 20)), keep_rows: true, ..model.sampling };
    let (mut original, mut current) = (original.clone(), current.clone());
    let mut from = Walk { graph: &model.graph, replay: &mut original };
    let mut to = Walk { graph: changed, replay: &mut current };
    let place = layer.place();
    let collected = collect(&place, &model.facts, &mut from, Some(&mut to), sampling, progress)?;
    let Some([mut all, odd]) = collected.statistics.into_iter().next() else { return Ok(None) };
    all.merge(&odd)?;
    match all {
        Statistics::Rows(rows) => Ok(Some(rows.centred()?)),
        Statistics::Moments(_) => Ok(None),
    }
}
