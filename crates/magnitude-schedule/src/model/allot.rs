//! How many weights each layer loses.

use super::fit::Fit;
use super::params::{Method, Spread};
use super::sparsify::Scope;
use crate::Distribution;
use crate::candidates::Candidates;
use crate::distribution::{LayerSize, split, split_by_magnitude};
use crate::layout::Layout;
use tensor_core::Result;
use tensor_core::budget::{Choice, allocate};
use tensor_core::calibrate::{Replay, Walk, collect};
use tensor_core::graph::Index;
use tensor_core::progress::{self, Progress};
use tensor_core::{Error, ErrorKind};

/// Zeros of each layer, none for those that stay dense.
pub(super) fn allot(scope: &Scope, replay: Replay, progress: &dyn Progress) -> Result<Vec<usize>> {
    let pruned: Vec<usize> =
        (0..scope.layers.len()).filter(|&at| scope.layers[at].weight.dense.is_none()).collect();
    let index = Index::new(scope.graph);
    let (mut candidates, mut sizes) = (Vec::new(), Vec::new());
    for &at in &pruned {
        let layer = &scope.layers[at];
        let shape = layer.map.shape();
        let inputs = shape.columns() / shape.taps.max(1);
        let layout = Layout::GroupedOutputsFirst { groups: shape.groups };
        let grid = layout.grid(&[shape.outputs, inputs, shape.taps])?;
        let scores: Vec<f32> = layer.rows(scope.graph, &index)?.into_iter().map(f32::abs).collect();
        let nonzero: Vec<bool> = scores.iter().map(|&score| score != 0.0).collect();
        let found = Candidates::new(&scores, grid, scope.params.pattern, Some(&nonzero))
            .map_err(|error| error.in_node(scope.graph.describe(layer.weight.node)))?;
        // The sides of the kernel; a matrix has none.
        let stored = scope.graph.constant(layer.weight.value, &index);
        let dims = stored.map(|constant| constant.dims().to_vec()).unwrap_or_default();
        sizes.push(LayerSize {
            outputs: shape.outputs,
            inputs,
            kernel: dims.get(2..).unwrap_or_default().to_vec(),
            capacity: found.capacity(),
        });
        candidates.push(found);
    }
    let sparsity = scope.params.sparsity;
    let counts = match scope.params.spread {
        Spread::By(Distribution::Global) => {
            let weights: Vec<usize> = sizes.iter().map(LayerSize::weights).collect();
            let count = (sparsity * weights.iter().sum::<usize>() as f64).round() as usize;
            split_by_magnitude(&candidates, &weights, count)
        }
        Spread::By(distribution) => split(distribution, &sizes, sparsity)?,
        Spread::Error => {
            let zeros: Vec<usize> = candidates.iter().map(Candidates::masked).collect();
            by_error(scope, replay, (&pruned, &sizes, &zeros), progress)?
        }
    };
    let mut all = vec![0; scope.layers.len()];
    for (&at, count) in pruned.iter().zip(counts) {
        all[at] = count;
    }
    Ok(all)
}

/// Sparsities at which the error of a layer is computed.
const POINTS: [f64; 9] = [0.0, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95];

/// Steps between no zeros and all that may go, of which the split chooses one per layer.
const STEPS: usize = 100;

/// The zeros that cost least of the responses, all layers together: errors relative to the variance
/// of each response add up. What is zero already goes in any case.
fn by_error(
    scope: &Scope,
    mut replay: Replay,
    (pruned, sizes, zeros): (&[usize], &[LayerSize], &[usize]),
    progress: &dyn Progress,
) -> Result<Vec<usize>> {
    let weights: usize = sizes.iter().map(LayerSize::weights).sum();
    let capacity: usize = sizes.iter().map(|size| size.capacity).sum();
    let wanted = ((scope.params.sparsity * weights as f64).round() as usize).min(capacity);
    let wanted = wanted.max(zeros.iter().sum());
    let most = sizes.iter().zip(zeros).map(|(size, &zeros)| removed(size, STEPS).max(zeros));
    let most: usize = most.sum();
    if wanted > most {
        let names = pruned.iter().map(|&at| scope.layers[at].weight.key.as_str());
        return Err(infeasible(
            scope.params.sparsity,
            most as f64 / weights as f64,
            names.zip(sizes),
        ));
    }
    progress.stage("error curves", pruned.len());
    let mut choices = Vec::new();
    for ((&at, size), &zeros) in pruned.iter().zip(sizes).zip(zeros) {
        progress::check(progress)?;
        let layer = &scope.layers[at];
        let mut walk = Walk { graph: scope.graph, replay: &mut replay };
        let (facts, sampling) = (scope.facts, scope.sampling());
        let collected = collect(&layer.place(), facts, &mut walk, None, sampling, progress)?;
        let fit = scope.fit(layer, collected.statistics)?;
        let curve = curve(&fit, scope.params.method, size)?;
        // The share of the stream that the layer writes to.
        let weigh = |error: f64| error * collected.share;
        let kept = |step: usize| size.weights() - removed(size, STEPS - step).max(zeros);
        choices.push(Choice {
            name: layer.weight.key.clone(),
            widths: (0..=STEPS).map(kept).collect(),
            penalty: (0..=STEPS).map(|step| weigh(at_step(&curve, size, STEPS - step))).collect(),
        });
        progress.item(&layer.weight.key);
    }
    let cost = |kept: &[usize]| kept.iter().sum::<usize>() as f64;
    let picks = allocate(&choices, cost, (weights - wanted) as f64)?;
    let mut counts: Vec<usize> = picks
        .iter()
        .zip(sizes)
        .zip(zeros)
        .map(|((&pick, size), &zeros)| removed(size, STEPS - pick).max(zeros))
        .collect();
    // The steps overshoot by less than one of them: the layers that lose most give the rest back.
    let mut spare = counts.iter().sum::<usize>().saturating_sub(wanted);
    while spare > 0 {
        let Some(most) = (0..counts.len()).max_by_key(|&i| counts[i] - zeros[i]) else { break };
        let back = spare.min(counts[most] - zeros[most]).min(sizes[most].weights() / STEPS + 1);
        if back == 0 {
            break;
        }
        counts[most] -= back;
        spare -= back;
    }
    Ok(counts)
}

/// More zeros were asked for than the last steps of all layers give.
fn infeasible<'a>(
    wanted: f64,
    most: f64,
    layers: impl Iterator<Item = (&'a str, &'a LayerSize)>,
) -> Error {
    let kept = |size: &LayerSize| size.weights() - removed(size, STEPS);
    let binding = layers.max_by_key(|(_, size)| kept(size)).map_or(String::new(), |(key, size)| {
        format!(", where `{key}` keeps the most: {} of {}", kept(size), size.weights())
    });
    // Rounded down: what is named can be had.
    let most = (most * 1000.0).floor() / 10.0;
    let message = format!(
        "a sparsity of {}% is not attainable by the errors of the layers: each keeps a hundredth of \
         its weights or more, which allows {most:.1}%{binding}",
        (wanted * 1e5).round() / 1e3
    );
    Error::new(ErrorKind::Infeasible, "E0140", message)
        .hint("ask for fewer zeros, or spread them in another way, such as `global`")
}

/// Weights that go in a step; the last step takes all but one per hundred, or what the pattern lets.
fn removed(size: &LayerSize, step: usize) -> usize {
    let most =
        size.capacity.min(size.weights() - size.weights().div_ceil(STEPS).min(size.weights()));
    (most as f64 * step as f64 / STEPS as f64).round() as usize
}

/// Relative errors at the [`POINTS`] as pairs with the number of zeros; they never fall.
fn curve(fit: &Fit, method: Method, size: &LayerSize) -> Result<Vec<(f64, f64)>> {
    let prepared = match method {
        Method::Obs => Some(fit.compensated()?),
        Method::Magnitude => None,
    };
    let mut curve: Vec<(f64, f64)> = Vec::new();
    for sparsity in POINTS {
        let count = (sparsity * size.weights() as f64).round() as usize;
        if count > size.capacity {
            break;
        }
        let solved = match &prepared {
            Some(prepared) => prepared.without(count)?,
            None => fit.magnitude(count)?,
        };
        let before = curve.last().map_or(0.0, |&(_, error)| error);
        curve.push((count as f64, fit.error(&solved.weights, None).max(before)));
    }
    // With nothing left the response is its mean.
    let last = curve.last().map_or(1.0, |&(_, error)| error.max(1.0));
    curve.push((size.weights() as f64, last));
    Ok(curve)
}

/// The error of a step, on straight lines between the points.
fn at_step(curve: &[(f64, f64)], size: &LayerSize, step: usize) -> f64 {
    let count = removed(size, step) as f64;
    let after = curve.iter().position(|&(zeros, _)| zeros >= count);
    match after.and_then(|after| Some((*curve.get(after.checked_sub(1)?)?, *curve.get(after)?))) {
        Some(((x0, y0), (x1, y1))) if x1 > x0 => y0 + (y1 - y0) * (count - x0) / (x1 - x0),
        _ => curve.first().map_or(0.0, |&(_, error)| error),
    }
}
