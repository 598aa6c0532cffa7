//! Factorization and channel pruning together: the three parts of "3C" (He et al. 2017, section 4.1.3).

use super::params::FactorParams;
use super::report::FactorReport;
use super::walk::factorize;
use crate::model::params::PruneParams;
use crate::model::params::{Budget, Limit, ValidPruneParams};
use crate::model::prune::{Pruned, prune};
use serde::Serialize;
use std::collections::BTreeMap;
use tensor_core::graph::Graph;
use tensor_core::progress::Progress;
use tensor_core::run::{self, Array, Session};
use tensor_core::{Error, Result};

/// A model that was factorized and pruned.
#[derive(Debug, Clone)]
pub struct ThreeC {
    /// The result.
    pub graph: Graph,
    /// What was done.
    pub report: ThreeReport,
}

/// How the budget was split, and what each part did.
#[derive(Debug, Clone, Serialize)]
pub struct ThreeReport {
    /// Share of the cost that factorization kept; pruning takes the rest.
    pub factor_share: f64,
    /// Shares that were tried, with the error of the outputs on the calibration samples.
    pub tried: Vec<(f64, f64)>,
    /// The factorization.
    pub factoring: FactorReport,
    /// The pruning of the factorized model.
    pub pruning: crate::PruneReport,
}

/// Exponents of the whole share that factorization alone is asked to meet.
const SPLITS: [f64; 3] = [0.25, 0.5, 0.75];

/// Factorizes a model, then prunes the channels of what came out, ranks included.
///
/// How much of the budget each takes is tried in a few steps; the split with the least error of the
/// outputs on the calibration samples, without labels, is taken.
///
/// # Errors
/// As [`factorize`] and [`prune`]; the last of these when no split meets the budget.
pub fn three_c(
    graph: &Graph,
    shapes: &BTreeMap<String, Vec<usize>>,
    batches: &[Vec<Array>],
    (factoring, pruning): (&FactorParams, &PruneParams),
    progress: &dyn Progress,
) -> Result<ThreeC> {
    let budget = &pruning.budget;
    let before = budget.price.of(graph, &run::infer_declared(graph, shapes)?)?;
    let (share, limit) = match budget.limit {
        Limit::Keep(share) => (share, share * before),
        Limit::AtMost(limit) => (limit / before, limit),
    };
    let mut best: Option<(f64, ThreeC)> = None;
    let (mut tried, mut refusal) = (Vec::new(), None);
    for split in SPLITS {
        let factor_share = share.min(1.0).powf(split);
        let attempt = || -> Result<(f64, ThreeC)> {
            let kept = Limit::Keep(factor_share);
            let first = FactorParams {
                budget: Budget { price: budget.price.clone(), limit: kept },
                ..factoring.clone()
            };
            let factored = factorize(graph, shapes, batches.to_vec(), &first, progress)?;
            let rest = Budget { price: budget.price.clone(), limit: Limit::AtMost(limit) };
            let params: ValidPruneParams =
                PruneParams { budget: rest, ..pruning.clone() }.check()?;
            let Pruned { graph: made, report: pruned, .. } =
                prune(&factored.graph, shapes, batches.to_vec(), &params, progress)?;
            let error = output_error(graph, &made, batches)?;
            let report = ThreeReport {
                factor_share,
                tried: Vec::new(),
                factoring: factored.report,
                pruning: pruned,
            };
            Ok((error, ThreeC { graph: made, report }))
        };
        match attempt() {
            Ok((error, made)) => {
                tried.push((factor_share, error));
                if best.as_ref().is_none_or(|(least, _)| error < *least) {
                    best = Some((error, made));
                }
            }
            Err(error) if error.code() == "E0140" => refusal = Some(error),
            Err(error) => return Err(error),
        }
    }
    match best {
        Some((_, made)) => Ok(ThreeC { report: ThreeReport { tried, ..made.report }, ..made }),
        None => Err(refusal.unwrap_or_else(|| Error::internal("no split was tried"))),
    }
}

/// Squared error of the float outputs relative to their centred energy, summed over the outputs.
fn output_error(original: &Graph, made: &Graph, batches: &[Vec<Array>]) -> Result<f64> {
    let (reference, result) = (Session::new(original)?, Session::new(made)?);
    let mut sums = vec![(0.0, 0.0, 0.0, 0.0); original.outputs.len()];
    for batch in batches {
        let given = |graph: &Graph| -> Vec<_> {
            graph.inputs.iter().copied().zip(batch.iter().cloned()).collect()
        };
        let (expected, actual) = (reference.run(&given(original))?, result.run(&given(made))?);
        for ((expected, actual), sum) in expected.iter().zip(&actual).zip(&mut sums) {
            if !expected.element.is_float() {
                continue;
            }
            for (e, a) in expected.to_f32s()?.into_iter().zip(actual.to_f32s()?) {
                let (e, a) = (f64::from(e), f64::from(a));
                sum.0 += 1.0;
                sum.1 += e;
                sum.2 += e * e;
                sum.3 += (e - a).powi(2);
            }
        }
    }
    let relative = |&(count, total, square, error): &(f64, f64, f64, f64)| {
        let energy = square - total * total / count;
        if energy > 0.0 { error / energy } else { 0.0 }
    };
    Ok(sums.iter().map(relative).sum())
}
