//! How many channels each set keeps.

use super::curves::Curve;
use super::layers::Layer;
use super::names::Names;
use super::params::{Budget, Limit, ValidPruneParams, Widths};
use super::report::PredictedTime;
use super::sets::{Kind, Set};
use std::collections::BTreeMap;
use tensor_core::budget::{Choice, allocate};
use tensor_core::channels::Channels;
use tensor_core::cost::{Cost, Price, Scalable, WidthCost};
use tensor_core::graph::{Graph, Index};
use tensor_core::rewrite::stored_values;
use tensor_core::run::Facts;
use tensor_core::text::counted;
use tensor_core::{Error, ErrorKind, Result};

/// Cost as a function of the sets' widths, and the limit on it.
#[derive(Clone)]
pub(crate) struct Goal {
    price: Price,
    cost: WidthCost,
    limit: f64,
}

impl Goal {
    /// The goal for a budget; `scale` below 1 tightens it.
    pub(crate) fn new(
        graph: &Graph,
        facts: &Facts,
        channels: &Channels,
        layers: &[Layer],
        sets: &[Set],
        budget: &Budget,
    ) -> Result<Self> {
        let index = Index::new(graph);
        let scalable: Vec<Scalable> = sets
            .iter()
            .map(|set| {
                let reader = set.readers.first().map(|&reader| &layers[reader]);
                let only = match (set.kind, reader) {
                    (Kind::Sample, Some(layer)) => {
                        let values = stored_values(graph, &index, layer.node, layer.weight.0);
                        values.into_iter().map(|value| (value, layer.weight.1)).collect()
                    }
                    _ => Vec::new(),
                };
                Scalable { classes: set.classes.clone(), only, ..Scalable::default() }
            })
            .collect();
        let cost = WidthCost::priced(graph, facts, channels, &scalable, &budget.price)?;
        let full: Vec<usize> = sets.iter().map(|set| set.classes.len()).collect();
        let limit = match budget.limit {
            Limit::Keep(share) => share * cost.at(&full),
            Limit::AtMost(limit) => limit,
        };
        Ok(Self { price: budget.price.clone(), cost, limit })
    }

    /// What it may cost.
    pub(crate) fn limit(&self) -> f64 {
        self.limit
    }

    /// What a model that was cut to these widths costs, by what was counted in it. Time is that of the
    /// widths: a table has no rows for every number of channels.
    pub(crate) fn actual(&self, counted: &Cost, widths: &[usize]) -> f64 {
        match &self.price {
            Price::Count(resource) => counted.of(*resource) as f64,
            Price::Latency(_) => self.cost.at(widths),
        }
    }

    /// The time of full widths and of these, where the goal is one of time.
    pub(crate) fn time(&self, sets: &[Set], widths: &[usize]) -> Option<PredictedTime> {
        let Price::Latency(device) = &self.price else { return None };
        let full: Vec<usize> = sets.iter().map(|set| set.classes.len()).collect();
        Some(PredictedTime {
            device: device.name(),
            batch: device.batch(),
            before_us: self.cost.at(&full),
            after_us: self.cost.at(widths),
        })
    }

    /// The goal with the limit multiplied by `factor`.
    pub(crate) fn tightened(&self, factor: f64) -> Self {
        Self { limit: self.limit * factor, ..self.clone() }
    }

    /// Can the goal be met at all, in multiples of `step`?
    pub(crate) fn is_feasible(&self, sets: &[Set], step: usize) -> bool {
        let smallest: Vec<usize> =
            sets.iter().map(|set| set.step(step).min(set.classes.len())).collect();
        self.cost.at(&smallest) <= self.limit
    }
}

/// Picks the width of every set.
///
/// # Errors
/// `E0140` when the budget cannot be met; `E0142` when given widths do not fit the sets.
pub(crate) fn choose_widths(
    sets: &[Set],
    names: &Names,
    curves: &[Curve],
    goal: &Goal,
    params: &ValidPruneParams,
    step: usize,
) -> Result<Vec<usize>> {
    match &params.params.widths {
        Widths::Auto | Widths::Layerwise => {
            let choices: Vec<Choice> =
                sets.iter().zip(curves).map(|(set, curve)| choice(set, curve, step)).collect();
            let picks = allocate(&choices, |widths| goal.cost.at(widths), goal.limit)?;
            Ok(choices.iter().zip(picks).map(|(choice, pick)| choice.widths[pick]).collect())
        }
        Widths::Uniform => uniform(sets, goal, step),
        Widths::Given(given) => from_names(sets, names, given),
    }
}

/// The least predicted error under the goal when nothing is rounded.
///
/// # Errors
/// As [`choose_widths`].
pub(crate) fn unrounded_error(sets: &[Set], curves: &[Curve], goal: &Goal) -> Result<f64> {
    /// Widths per set that are tried without rounding: more would not move the sum visibly.
    const WIDTHS: usize = 64;
    let choices: Vec<Choice> = sets
        .iter()
        .zip(curves)
        .map(|(set, curve)| choice(set, curve, (set.classes.len() / WIDTHS).max(1)))
        .collect();
    let picks = allocate(&choices, |widths| goal.cost.at(widths), goal.limit)?;
    Ok(choices.iter().zip(picks).map(|(choice, pick)| choice.penalty[pick]).sum())
}

/// Predicted error of widths: the sum over the sets.
pub(crate) fn predicted_error(curves: &[Curve], widths: &[usize]) -> f64 {
    curves.iter().zip(widths).map(|(curve, &width)| curve.penalty(width)).sum()
}

/// The largest multiple that channel counts can round to: `round_to`, or the largest half, quarter,
/// ... of it with which the budget can be met, where that is allowed; 1 when none can.
pub(crate) fn rounding(sets: &[Set], goal: &Goal, params: &ValidPruneParams) -> usize {
    let wanted = params.params.round_to;
    let is_budgeted = !matches!(params.params.widths, Widths::Given(_));
    if !params.params.may_round_less || !is_budgeted {
        return wanted;
    }
    let mut step = wanted;
    while step > 1 && !goal.is_feasible(sets, step) {
        step /= 2;
    }
    step
}

/// Multiples of `step` up to the full width, and the full width.
fn allowed(full: usize, step: usize) -> Vec<usize> {
    let mut widths: Vec<usize> = (1..=full / step).map(|i| i * step).collect();
    if widths.last() != Some(&full) {
        widths.push(full);
    }
    widths
}

fn choice(set: &Set, curve: &Curve, step: usize) -> Choice {
    let widths = allowed(set.classes.len(), set.step(step));
    let penalty = widths.iter().map(|&k| curve.penalty(k)).collect();
    Choice { name: set.name.clone(), widths, penalty }
}

/// The largest common share of channels, rounded per set, that meets the goal.
fn uniform(sets: &[Set], goal: &Goal, step: usize) -> Result<Vec<usize>> {
    let at = |share: f64| -> Vec<usize> {
        let width = |set: &Set| {
            let wanted = share * set.classes.len() as f64;
            let widths = allowed(set.classes.len(), set.step(step));
            let near = |k: &usize| (*k as f64 - wanted).abs();
            widths.into_iter().min_by(|a, b| near(a).total_cmp(&near(b))).unwrap_or(1)
        };
        sets.iter().map(width).collect()
    };
    if goal.cost.at(&at(0.0)) > goal.limit {
        let (low, high) = (goal.cost.at(&at(0.0)), goal.cost.at(&at(1.0)));
        return Err(Error::new(
            ErrorKind::Infeasible,
            "E0140",
            format!("budget {:.0} cannot be met: attainable is {low:.0} to {high:.0}", goal.limit),
        )
        .hint("raise the budget; unless they are in use, smaller multiples (`round_to = 1`) and pruned streams (`streams = prune`) reach further down"));
    }
    let (mut low, mut high) = (0.0, 1.0);
    if goal.cost.at(&at(high)) <= goal.limit {
        return Ok(at(high));
    }
    // Widths are integers: 40 halvings are finer than any of them.
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        if goal.cost.at(&at(middle)) <= goal.limit { low = middle } else { high = middle }
    }
    Ok(at(low))
}

fn from_names(sets: &[Set], names: &Names, given: &BTreeMap<String, usize>) -> Result<Vec<usize>> {
    let mut widths: Vec<usize> = sets.iter().map(|set| set.classes.len()).collect();
    let mut named: Vec<Option<&str>> = vec![None; sets.len()];
    for (name, &width) in given {
        let at = names.set(sets, name)?;
        let full = sets[at].classes.len();
        let label = sets[at].label();
        let wrong = |what: String| Error::invalid(what).code_is("E0142");
        if !(1..=full).contains(&width) {
            return Err(wrong(format!(
                "`{name}`: group {label} has {}, {width} cannot be kept",
                counted(full, "channel")
            )));
        }
        if let Some(other) = named[at].replace(name)
            && widths[at] != width
        {
            return Err(wrong(format!(
                "`{other}` and `{name}` both name group {label}, with different widths"
            )));
        }
        widths[at] = width;
    }
    Ok(widths)
}
