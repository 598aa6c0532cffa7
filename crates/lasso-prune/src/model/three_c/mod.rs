//! Spatial factorization, channel factorization and channel pruning under one budget (3C, He et al.
//! 2017, section 4.1.3).

mod chains;
mod report;

pub use report::{Split, ThreeCReport};

use super::factor::{FactorParams, FactorReport, Factored, Factorizer, Form};
use super::outputs::output_error;
use super::params::{Budget, Limit, PruneParams};
use super::prune::{Pruned, prune};
use super::report::PruneReport;
use chains::dearer_than_merged;
use std::collections::{BTreeMap, BTreeSet};
use tensor_core::cost::Price;
use tensor_core::graph::Graph;
use tensor_core::progress::{self, Progress};
use tensor_core::rewrite::{self, fold_batch_norm};
use tensor_core::run::{self, Array};
use tensor_core::{Error, Result};

/// A model that was factorized and pruned.
#[derive(Debug, Clone)]
pub struct ThreeC {
    /// The model.
    pub graph: Graph,
    /// What was done.
    pub report: ThreeCReport,
}

/// Exponents of the kept share that factorization takes as its part of the budget; what is left is
/// that of pruning. At 0 nothing is factorized, at 1 nothing is pruned.
const EXPONENTS: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

/// One batch of so many is held out while the split of the budget is chosen.
const HELD_OUT: usize = 4;

/// Factorizes a model, then prunes the channels of what comes of it, with the budget of `pruning`.
///
/// The ranks of a factorization are channels of the factorized network, so pruning chooses ranks and
/// widths together, from error curves under the one budget. How far factorization goes before is
/// chosen by the error of the outputs on samples that are held out meanwhile: three to four of five
/// shares are tried, going on while the error falls. The chosen one is made again on all samples.
/// Where a layer's factors would cost more at the pruned widths than one convolution in their place,
/// it is left whole and the rest is made anew.
///
/// Of `factoring`, everything but the budget counts.
///
/// # Errors
/// As [`factorize`](crate::factorize) and [`prune`]; `E0141` for a budget of time.
pub fn three_c(
    graph: &Graph,
    shapes: &BTreeMap<String, Vec<usize>>,
    batches: &[Vec<Array>],
    (factoring, pruning): (&FactorParams, &PruneParams),
    progress: &dyn Progress,
) -> Result<ThreeC> {
    let price = &pruning.budget.price;
    if let Price::Latency(_) = price {
        return Err(Error::invalid("factorization and pruning share a budget that is counted")
            .code_is("E0141")
            .hint("limit multiply-accumulates, parameters or bytes"));
    }
    pruning.budget.check()?;
    let folded = rewrite::apply(graph, &fold_batch_norm(graph)?)?;
    let full = price.of(&folded, &run::infer_declared(&folded, shapes)?)?;
    let limit = match pruning.budget.limit {
        Limit::Keep(share) => share * full,
        Limit::AtMost(limit) => limit,
    };
    let share = |exponent: f64| (limit / full).min(1.0).powf(exponent);
    let (fit, judge) = halves(batches);
    let mut trials = Trials { tried: vec![None; EXPONENTS.len()], refused: None };
    {
        let work = Work::new((graph, shapes), fit, (factoring, pruning), limit, progress)?;
        // The error falls towards the best split from both sides.
        let middle = EXPONENTS.len() / 2;
        let mut measure = |at: usize| -> Result<f64> {
            progress::check(progress)?;
            let share = share(EXPONENTS[at]);
            let made = work.at(share * full, &BTreeSet::new(), progress);
            let error = match made {
                Ok(made) => output_error(graph, &made.graph, &judge)?,
                Err(error) if error.code() == "E0140" => {
                    trials.refused = Some(error);
                    return Ok(f64::INFINITY);
                }
                Err(error) => return Err(error),
            };
            let (left, lost) = (100.0 * share, 100.0 * error);
            progress.note(&format!(
                "factorized to {left:.0}%, then pruned: {lost:.3}% error of the outputs"
            ));
            trials.tried[at] = Some(Split { factored: share, error });
            Ok(error)
        };
        let (mut least, next) = (measure(middle)?, measure(middle + 1)?);
        let ways: &[usize] = match next < least {
            true => &[4],
            false => &[1, 0],
        };
        least = least.min(next);
        for &at in ways {
            let error = measure(at)?;
            if error > least {
                break;
            }
            least = error;
        }
    }
    let Trials { tried, refused } = trials;
    let tried: Vec<Split> = tried.into_iter().flatten().collect();
    let best = tried.iter().min_by(|a, b| a.error.total_cmp(&b.error));
    let Some(best) = best.map(|split| split.factored) else {
        return Err(refused.unwrap_or_else(|| Error::internal("no split was tried")));
    };
    let work = Work::new((graph, shapes), batches.to_vec(), (factoring, pruning), limit, progress)?;
    let mut whole = BTreeSet::new();
    loop {
        let made = work.at(best * full, &whole, progress)?;
        let forms = made.factoring.iter().flat_map(|report| &report.layers);
        let dearer = dearer_than_merged(&made.graph, shapes, forms)?;
        let before = whole.len();
        whole.extend(dearer);
        if whole.len() > before {
            continue;
        }
        let Made { graph, factoring, pruning } = made;
        let merged = whole.into_iter().collect();
        let report = ThreeCReport { tried, factored: best, merged, factoring, pruning };
        return Ok(ThreeC { graph, report });
    }
}

/// Splits that were tried, by the place of their exponent, and why the last one that was refused was.
struct Trials {
    tried: Vec<Option<Split>>,
    refused: Option<Error>,
}

/// What is the same for all splits.
struct Work<'a> {
    graph: &'a Graph,
    shapes: &'a BTreeMap<String, Vec<usize>>,
    batches: Vec<Vec<Array>>,
    factorizer: Factorizer<'a>,
    pruning: &'a PruneParams,
    limit: f64,
}

/// One split of the budget.
struct Made {
    graph: Graph,
    factoring: Option<FactorReport>,
    pruning: Option<PruneReport>,
}

impl<'a> Work<'a> {
    fn new(
        (graph, shapes): (&'a Graph, &'a BTreeMap<String, Vec<usize>>),
        batches: Vec<Vec<Array>>,
        (factoring, pruning): (&'a FactorParams, &'a PruneParams),
        limit: f64,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let factorizer = Factorizer::new(graph, shapes, batches.clone(), factoring, progress)?;
        Ok(Self { graph, shapes, batches, factorizer, pruning, limit })
    }

    /// The model factorized to at most this cost, without the layers that are to stay whole, and
    /// pruned to the limit.
    fn at(&self, most: f64, whole: &BTreeSet<String>, progress: &dyn Progress) -> Result<Made> {
        let price = &self.pruning.budget.price;
        let budget = |most| Budget { price: price.clone(), limit: Limit::AtMost(most) };
        let Factored { graph, report } = self.factorizer.at(&budget(most), whole, progress)?;
        let factoring = report.layers.iter().any(|l| l.form != Form::Whole).then_some(report);
        // Where nothing is factorized, the model is pruned as it was given.
        let now = if factoring.is_some() { &graph } else { self.graph };
        if price.of(now, &run::infer_declared(now, self.shapes)?)? <= self.limit {
            return Ok(Made { graph, factoring, pruning: None });
        }
        let params = PruneParams { budget: budget(self.limit), ..self.pruning.clone() };
        let pruned = prune(now, self.shapes, self.batches.clone(), &params.check()?, progress)?;
        let Pruned { graph, report, .. } = pruned;
        Ok(Made { graph, factoring, pruning: Some(report) })
    }
}

/// The batches to fit on, and those to judge by; the same where there are few.
fn halves(batches: &[Vec<Array>]) -> (Vec<Vec<Array>>, Vec<Vec<Array>>) {
    if batches.len() < HELD_OUT {
        return (batches.to_vec(), batches.to_vec());
    }
    let is_held = |at: usize| at % HELD_OUT == HELD_OUT - 1;
    let part = |held: bool| {
        let all = batches.iter().enumerate();
        all.filter(|(at, _)| is_held(*at) == held).map(|(_, batch)| batch.clone()).collect()
    };
    (part(false), part(true))
}
