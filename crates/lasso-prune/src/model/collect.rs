//! Collects a layer's statistics: inputs from the current network, responses from the original.

use super::layers::Layer;
use rayon::prelude::*;
use tensor_core::calibrate::{Held, Move, Replay, Statistics, StatisticsLimits};
use tensor_core::graph::Graph;
use tensor_core::progress::{self, Progress};
use tensor_core::random;
use tensor_core::run::{Array, Facts};
use tensor_core::{Error, Result, ValueId};

/// A network with its calibration data on the way through it.
pub(crate) struct Walk<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) replay: &'a mut Replay,
}

/// Where and how much to sample.
#[derive(Clone, Copy)]
pub(crate) struct Sampling {
    /// Output positions per sample.
    pub(crate) positions: usize,
    pub(crate) seed: u64,
}

/// Batches whose rows are in memory at once.
const WAVE: usize = 8;

/// Statistics of a layer, one per convolution group.
///
/// Without `current`, inputs come from the original network too. With it, the response is
/// corrected by what the shortcut lost: `Y + shortcut - shortcut'` (He et al. 2017, section 3.3).
pub(crate) fn collect(
    layer: &Layer,
    facts: &Facts,
    original: &mut Walk,
    mut current: Option<&mut Walk>,
    sampling: Sampling,
    progress: &dyn Progress,
) -> Result<Vec<Statistics>> {
    let shape = layer.map.shape();
    let shortcut = layer.shortcut.filter(|_| current.is_some());
    let mut from_original: Vec<ValueId> = vec![layer.output];
    let mut from_current: Vec<ValueId> = vec![layer.input];
    if current.is_none() {
        from_original.push(layer.input);
    }
    from_original.extend(shortcut);
    from_current.extend(shortcut);
    let to = layer.node;
    let first = original.replay.prepare(original.graph, facts, to, &from_original)?;
    let second = match &current {
        Some(walk) => Some(walk.replay.prepare(walk.graph, facts, to, &from_current)?),
        None => None,
    };
    let take = sampling.positions.min(shape.positions);
    let mirrored = if layer.map.bias().is_none() { 2 } else { 1 };
    let expected = original.replay.samples() * take * mirrored;
    let mut statistics = (0..shape.groups)
        .map(|_| {
            let limits = StatisticsLimits::default();
            Statistics::new(shape.columns(), shape.group_outputs(), expected, limits)
        })
        .collect::<Result<Vec<_>>>()
        .map_err(|error| error.in_node(original.graph.describe(to)))?;
    let (mut held_original, mut held_current) = (Vec::new(), Vec::new());
    for start in (0..original.replay.batches()).step_by(WAVE) {
        progress::check(progress)?;
        let end = (start + WAVE).min(original.replay.batches());
        let rows: Vec<BatchRows> = (start..end)
            .into_par_iter()
            .map(|batch| {
                let walks = (&*original.replay, current.as_ref().map(|walk| &*walk.replay));
                let moves = (&first, second.as_ref());
                batch_rows(layer, walks, moves, batch, take, sampling.seed)
            })
            .collect::<Result<_>>()?;
        for batch in rows {
            for (statistics, (x, y)) in statistics.iter_mut().zip(&batch.rows) {
                statistics.push(x, y).map_err(|e| e.in_node(original.graph.describe(to)))?;
                if mirrored == 2 {
                    // Without a bias to absorb it, the mean is part of the response: mirrored rows
                    // have mean zero, so that centring changes nothing.
                    let negated = |rows: &[f32]| rows.iter().map(|v| -v).collect::<Vec<_>>();
                    statistics.push(&negated(x), &negated(y))?;
                }
            }
            held_original.push(batch.original);
            held_current.extend(batch.current);
        }
    }
    original.replay.settle(&first, held_original);
    if let (Some(walk), Some(second)) = (&mut current, &second) {
        walk.replay.settle(second, held_current);
    }
    Ok(statistics)
}

struct BatchRows {
    /// Input and response rows by convolution group.
    rows: Vec<(Vec<f32>, Vec<f32>)>,
    original: Held,
    current: Option<Held>,
}

fn batch_rows(
    layer: &Layer,
    (original, current): (&Replay, Option<&Replay>),
    (first, second): (&Move, Option<&Move>),
    batch: usize,
    take: usize,
    seed: u64,
) -> Result<BatchRows> {
    let (mut wanted, held_original) = original.run(first, batch)?.split();
    let mut held_current = None;
    let (input, correction) = match (current, second) {
        (Some(current), Some(second)) => {
            let (mut now, held) = current.run(second, batch)?.split();
            held_current = Some(held);
            let correction = (wanted.len() == 2 && now.len() == 2)
                .then(|| wanted.pop().zip(now.pop()))
                .flatten();
            (now.pop(), correction)
        }
        _ => (wanted.pop(), None),
    };
    let (Some(input), Some(output)) = (input, wanted.pop()) else {
        return Err(Error::internal("a layer's input or output was not computed"));
    };
    let x = Samples::new(&input)?;
    let y = Samples::new(&output)?;
    let correction = match correction {
        Some((then, now)) => Some((Samples::new(&then)?, Samples::new(&now)?)),
        None => None,
    };
    if x.count != y.count {
        return Err(Error::unsupported(format!(
            "the first axis changes from {} to {} within a layer",
            x.count, y.count
        )));
    }
    let shape = layer.map.shape();
    let (p, n) = (shape.columns(), shape.group_outputs());
    let mut rng = random::stream(seed, &format!("positions/{}/{batch}", layer.node.index()));
    let chosen: Vec<Vec<usize>> =
        (0..x.count).map(|_| choose(&mut rng, shape.positions, take)).collect();
    let mut rows = Vec::with_capacity(shape.groups);
    for group in 0..shape.groups {
        let mut xs = vec![0.0; x.count * take * p];
        let mut ys = vec![0.0; x.count * take * n];
        let mut other = vec![0.0; n];
        let places = chosen.iter().enumerate().flat_map(|(s, c)| c.iter().map(move |&at| (s, at)));
        for (row, (sample, position)) in places.enumerate() {
            layer.map.input_row(x.at(sample), position, group, &mut xs[row * p..][..p]);
            let target = &mut ys[row * n..][..n];
            layer.map.output_row(y.at(sample), position, group, target);
            if let Some((then, now)) = &correction {
                layer.map.output_row(then.at(sample), position, group, &mut other);
                target.iter_mut().zip(&other).for_each(|(t, o)| *t += o);
                layer.map.output_row(now.at(sample), position, group, &mut other);
                target.iter_mut().zip(&other).for_each(|(t, o)| *t -= o);
            }
        }
        rows.push((xs, ys));
    }
    Ok(BatchRows { rows, original: held_original, current: held_current })
}

/// An array split along its first axis.
struct Samples {
    data: Vec<f32>,
    count: usize,
}

impl Samples {
    fn new(array: &Array) -> Result<Self> {
        let count = array.dims().first().copied().unwrap_or(1).max(1);
        Ok(Self { data: array.to_f32s()?, count })
    }

    fn at(&self, sample: usize) -> &[f32] {
        let length = self.data.len() / self.count;
        &self.data[sample * length..][..length]
    }
}

/// `take` distinct positions below `count`, ascending; all of them when `take` is `count`.
fn choose(rng: &mut rand_chacha::ChaCha8Rng, count: usize, take: usize) -> Vec<usize> {
    let mut positions: Vec<usize> = (0..count).collect();
    if take < count {
        for i in 0..take {
            positions.swap(i, i + random::below(rng, (count - i) as u64) as usize);
        }
        positions.truncate(take);
        positions.sort_unstable();
    }
    positions
}
