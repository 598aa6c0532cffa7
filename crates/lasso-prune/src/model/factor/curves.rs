//! What each form of each layer loses and costs: one pass over the data.

use super::fit::Fit;
use super::forms::Form;
use super::params::FactorParams;
use super::walk::Model;
use crate::model::effect::{Trial, effects};
use crate::model::layers::Layer;
use crate::model::problems::{LayerProblems, weight_rows};
use crate::model::prune::FEW_SAMPLES;
use crate::model::refit::weight_edits;
use rayon::prelude::*;
use tensor_core::Result;
use tensor_core::calibrate::{Replay, Walk, collect};
use tensor_core::graph::Index;
use tensor_core::progress::Progress;

/// A layer that may be factorized, with its forms by rising cost and falling error.
pub(super) struct Menu {
    /// Index of the layer.
    pub(super) layer: usize,
    /// Form, cost and held-out error; the last is the whole layer.
    pub(super) forms: Vec<(Form, f64, f64)>,
    /// What an error counts, by what it does to the outputs.
    pub(super) weight: f64,
}

impl Menu {
    /// Weighed errors above that of the whole layer.
    pub(super) fn penalties(&self) -> Vec<f64> {
        let whole = self.forms.last().map_or(0.0, |(.., error)| *error);
        self.forms.iter().map(|(.., error)| self.weight * (error - whole).max(0.0)).collect()
    }
}

/// The menus of all layers that have one.
///
/// # Errors
/// When a node fails, or a device has no latency for a form.
pub(super) fn menus(
    model: &Model,
    mut replay: Replay,
    params: &FactorParams,
    progress: &dyn Progress,
) -> Result<Vec<Menu>> {
    let Model { graph, facts, layers, shapes, .. } = model;
    let index = Index::new(graph);
    let start = replay.clone();
    let (mut menus, mut trials) = (Vec::new(), Vec::new());
    progress.stage("error curves", layers.len());
    for (at, layer) in layers.iter().enumerate() {
        let Some(shape) = shapes[at].clone() else { continue };
        let mut walk = Walk { graph, replay: &mut replay };
        let sampling = model.sampling;
        let collected = collect(&layer.place(), facts, &mut walk, None, sampling, progress)?;
        let weights = weight_rows(graph, &index, layer)?;
        let problems = LayerProblems::new(collected.statistics, &weights)?;
        let sizes = [shape.cout, shape.cin, shape.kernel[0], shape.kernel[1]];
        let fit = Fit::new(&problems, &weights[0], sizes, params.ridge)?;
        let kinds = (params.spatial, params.channel);
        let price = &params.budget.price;
        let measured = |(form, cost)| Ok((form, cost, collected.share * fit.held_out(form)?));
        let candidates = Form::candidates(&shape, kinds, price)?;
        let mut forms = candidates.into_par_iter().map(measured).collect::<Result<Vec<_>>>()?;
        let whole = collected.share * fit.held_out(Form::Whole)?;
        forms.push((Form::Whole, Form::Whole.cost(&shape, price)?, whole));
        let mut menu = Menu { layer: at, forms: front(forms), weight: 1.0 };
        if menu.forms.len() > 1 {
            trials.push(trial(model, &index, layer, &fit, &menu)?);
            // Relative to what the trial's own form loses.
            menu.weight = middle(&menu).2 / collected.share.max(f64::MIN_POSITIVE);
            menus.push(menu);
        }
        progress.item(graph.key(layer.node));
    }
    let is_weighed = start.samples() >= FEW_SAMPLES;
    let found = match is_weighed {
        true => effects((graph, facts), &start, &trials, progress)?,
        false => None,
    };
    for (at, menu) in menus.iter_mut().enumerate() {
        let error = menu.weight;
        menu.weight = found.as_ref().map_or(1.0, |effects| weight(effects[at], error));
    }
    Ok(menus)
}

/// What an error counts: the effect on the outputs over the error, to a power below one, as in
/// channel pruning.
fn weight(effect: f64, error: f64) -> f64 {
    /// Relative errors below this are as good as none.
    const SMALL: f64 = 1e-6;
    const TRUST: f64 = 0.75;
    let ratio = (effect + SMALL) / (error + SMALL);
    if ratio.is_finite() { ratio.powf(TRUST) } else { 1.0 }
}

/// The form whose cost is nearest to half of the whole one's.
fn middle(menu: &Menu) -> (Form, f64, f64) {
    let half = menu.forms.last().map_or(0.0, |(_, cost, _)| 0.5 * cost);
    let distance = |form: &&(Form, f64, f64)| (form.1 - half).abs();
    let others = &menu.forms[..menu.forms.len() - 1];
    let nearest = others.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
    nearest.copied().unwrap_or((Form::Whole, 0.0, 0.0))
}

/// The layer in its middle form, fitted on even blocks of samples.
fn trial(model: &Model, index: &Index, layer: &Layer, fit: &Fit, menu: &Menu) -> Result<Trial> {
    let fitted = fit.even(middle(menu).0)?;
    let edits = weight_edits(&model.graph, index, layer, &[fitted.whole])?;
    Ok(Trial { node: layer.node, edits })
}

/// Those of the forms that no other beats in both cost and error, by rising cost. The last, which is
/// the whole layer, stays in any case.
fn front(mut forms: Vec<(Form, f64, f64)>) -> Vec<(Form, f64, f64)> {
    let Some(whole) = forms.pop() else { return Vec::new() };
    forms.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.2.total_cmp(&b.2)));
    let mut best: Vec<(Form, f64, f64)> = Vec::new();
    for form in forms {
        let is_better = best.last().is_none_or(|last| form.2 < last.2);
        // Of the same cost the first has the least error.
        let is_dearer = best.last().is_none_or(|last| form.1 > last.1);
        if is_better && is_dearer {
            best.push(form);
        }
    }
    best.push(whole);
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_keeps_what_is_not_beaten() {
        let form = |rank| Form::Channel { rank };
        let forms = vec![
            (form(3), 30.0, 0.2),
            (form(1), 10.0, 0.5),
            (form(2), 20.0, 0.6),
            (form(4), 30.0, 0.1),
            (Form::Whole, 50.0, 0.15),
        ];
        let kept: Vec<Form> = front(forms).into_iter().map(|(form, ..)| form).collect();
        assert_eq!(kept, [form(1), form(4), Form::Whole]);
    }
}
