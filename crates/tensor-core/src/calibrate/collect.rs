//! Collects a layer's statistics: inputs from the current network, responses from the original.

use super::{Held, LinearMap, Move, Replay, Statistics, StatisticsLimits};
use crate::graph::{Graph, Index};
use crate::group::Group;
use crate::progress::{self, Progress};
use crate::random;
use crate::run::{Array, Facts, Floats};
use crate::{Error, NodeId, Result, ValueId};
use rayon::prelude::*;

/// A linear layer of a graph.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Its node.
    pub node: NodeId,
    /// The value whose rows are the inputs.
    pub input: ValueId,
    /// The value whose rows are the responses.
    pub output: ValueId,
    /// How rows are read.
    pub map: &'a dyn LinearMap,
    /// An earlier value that the output is only [added to](shortcut).
    pub shortcut: Option<ValueId>,
}

/// The other operand of the Add that alone reads `output`, if it exists before `node` runs and has
/// the same shape.
pub fn shortcut(
    graph: &Graph,
    facts: &Facts,
    index: &Index,
    node: NodeId,
    output: ValueId,
) -> Option<ValueId> {
    let [(reader, position)] = index.readers(output) else { return None };
    let add = graph.node(*reader);
    if add.op != "Add" || !add.domain.is_empty() || graph.outputs.contains(&output) {
        return None;
    }
    let other = add.input(1 - position)?;
    let fact = facts.get(other)?;
    let is_earlier = index.producer(other).is_none_or(|producer| producer < node);
    (is_earlier && !fact.fixed && Some(fact.dims.as_slice()) == facts.dims(output)).then_some(other)
}

/// A network with its calibration data on the way through it.
pub struct Walk<'a> {
    /// The network.
    pub graph: &'a Graph,
    /// Where its data is.
    pub replay: &'a mut Replay,
}

/// Where and how much to sample.
#[derive(Clone, Copy)]
pub struct Sampling {
    /// Output positions per sample; `None` chooses by the layer.
    pub positions: Option<usize>,
    /// Drives the choice of positions.
    pub seed: u64,
    /// Keep the rows themselves, for what moments do not tell.
    pub keep_rows: bool,
}

impl Sampling {
    /// Positions per sample for a layer of `columns` input columns.
    fn take(self, columns: usize, samples: usize) -> usize {
        /// Neighbouring positions say much the same: more of them cost more than they tell.
        const FEW: usize = 20;
        const MANY: usize = 80;
        /// Columns up to which many positions cost little; the cost grows with their square.
        const NARROW: usize = 288;
        /// Rows per column below which held-out errors leave those on the sample.
        const ROWS_PER_COLUMN: usize = 16;
        const MOST_ROWS: usize = 1024;
        let usual = (MANY * NARROW / columns.max(1)).clamp(FEW, MANY);
        // Beyond this many columns rows are kept instead of moments, and solving costs the cube of
        // their number.
        let is_wide = columns > StatisticsLimits::default().max_gram_columns;
        let rows = if is_wide { MOST_ROWS } else { ROWS_PER_COLUMN * columns };
        let usual = if is_wide { 1 } else { usual };
        let wanted = rows.div_ceil(samples.max(1));
        self.positions.unwrap_or(wanted.max(usual))
    }
}

/// Batches whose rows are in memory at once.
const WAVE: usize = 8;

/// What was collected for one layer.
pub struct Collected {
    /// One pair per convolution group: the two [halves](Replay::is_odd) of the samples apart, so that what is
    /// fitted on one can be judged on the other.
    pub statistics: Vec<[Statistics; 2]>,
    /// Centred energy of the responses over that of the sum with the shortcut, at most 1: how much
    /// an error relative to the response weighs in the stream that the layer writes to.
    pub share: f64,
}

/// Collects a layer's statistics.
///
/// Batches may be spread over the processes of a [`Group`]; all of them get the statistics of all batches.
///
/// Without `current`, inputs come from the original network too. With it, the response is
/// corrected by what the shortcut lost: `Y + shortcut - shortcut'` (He et al. 2017, section 3.3).
///
/// # Errors
/// When a node fails, the statistics do not fit in memory or values are not finite.
pub fn collect(
    layer: &Place,
    facts: &Facts,
    original: &mut Walk,
    mut current: Option<&mut Walk>,
    sampling: Sampling,
    progress: &dyn Progress,
) -> Result<Collected> {
    let shape = layer.map.shape();
    let shortcut = layer.shortcut;
    let mut from_original: Vec<ValueId> = vec![layer.output];
    let mut from_current: Vec<ValueId> = vec![layer.input];
    from_original.extend(shortcut);
    from_current.extend(shortcut);
    if current.is_none() {
        from_original.push(layer.input);
    }
    let to = layer.node;
    // The response is the layer's output, so the original network moves on behind the layer; the
    // current one stops before it, as its weight will change.
    let first = original.replay.prepare_past(original.graph, facts, to, &from_original)?;
    let second = match &current {
        Some(walk) => Some(walk.replay.prepare(walk.graph, facts, to, &from_current)?),
        None => None,
    };
    let take = sampling.take(shape.columns(), original.replay.samples()).min(shape.positions);
    let mirrored = if layer.map.bias().is_none() { 2 } else { 1 };
    let expected = original.replay.samples() * take * mirrored;
    let empty = || {
        let mut limits = StatisticsLimits::default();
        if sampling.keep_rows {
            limits.max_gram_columns = 0;
        }
        Statistics::new(shape.columns(), shape.group_outputs(), expected, limits)
    };
    let mut statistics = (0..shape.groups)
        .map(|_| Ok([empty()?, empty()?]))
        .collect::<Result<Vec<_>>>()
        .map_err(|error| error.in_node(original.graph.describe(to)))?;
    let (mut response, mut stream) = (Energy::default(), Energy::default());
    let mut blocks = vec![(Vec::new(), Vec::new()); 2 * shape.groups];
    for start in (0..original.replay.batches()).step_by(WAVE) {
        progress::check(progress)?;
        let end = (start + WAVE).min(original.replay.batches());
        let rows: Vec<BatchRows> = (start..end)
            .into_par_iter()
            .map(|batch| {
                let walks = (&*original.replay, current.as_ref().map(|walk| &*walk.replay));
                let moves = (&first, second.as_ref());
                batch_rows(layer, walks, moves, batch, (take, sampling.seed))
            })
            .collect::<Result<_>>()?;
        // Sums over a whole wave pass through memory once.
        let halves = statistics.iter_mut().flatten().zip(&mut blocks).enumerate();
        halves
            .collect::<Vec<_>>()
            .into_par_iter()
            .try_for_each(|(at, (statistics, (x, y)))| {
                let halves = || rows.iter().map(|batch| &batch.rows[at / 2][at % 2]);
                join(x, halves().map(|(x, _)| x));
                join(y, halves().map(|(_, y)| y));
                statistics.push(x, y)?;
                if mirrored == 2 {
                    // Without a bias to absorb it, the mean is part of the response: mirrored rows
                    // have mean zero, so that centring changes nothing.
                    x.iter_mut().chain(&mut *y).for_each(|v| *v = -*v);
                    statistics.push(x, y)?;
                }
                Ok(())
            })
            .map_err(|error: Error| error.in_node(original.graph.describe(to)))?;
        for (number, batch) in (start..end).zip(rows) {
            response.merge(&batch.response);
            stream.merge(&batch.stream);
            original.replay.advance(&first, number, batch.original);
            if let (Some(walk), Some(second), Some(held)) = (&mut current, &second, batch.current) {
                walk.replay.advance(second, number, held);
            }
        }
    }
    original.replay.settle(&first);
    if let (Some(walk), Some(second)) = (&mut current, &second) {
        walk.replay.settle(second);
    }
    let group = original.replay.group();
    for statistics in statistics.iter_mut().flatten() {
        statistics.sum_over(group)?;
    }
    for energy in [&mut response, &mut stream] {
        energy.sum_over(group, shape.group_outputs())?;
    }
    let share = match stream.centred() {
        Some(stream) if stream > 0.0 => (response.centred().unwrap_or(stream) / stream).min(1.0),
        _ => 1.0,
    };
    Ok(Collected { statistics, share })
}

/// Puts all rows behind each other, in place of what `block` holds.
fn join<'a>(block: &mut Vec<f32>, rows: impl Iterator<Item = &'a Vec<f32>> + Clone) {
    block.clear();
    block.reserve(rows.clone().map(Vec::len).sum());
    rows.for_each(|rows| block.extend_from_slice(rows));
}

/// Adds a row of `len` zeros and returns it.
fn next_row(rows: &mut Vec<f32>, len: usize) -> &mut [f32] {
    let start = rows.len();
    rows.resize(start + len, 0.0);
    &mut rows[start..]
}

/// Sums from which the centred energy of rows follows.
#[derive(Default)]
struct Energy {
    rows: usize,
    sum: Vec<f64>,
    square: f64,
}

impl Energy {
    fn add(&mut self, row: &[f32]) {
        self.sum.resize(row.len(), 0.0);
        self.rows += 1;
        for (sum, &v) in self.sum.iter_mut().zip(row) {
            *sum += f64::from(v);
            self.square += f64::from(v).powi(2);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.sum.resize(other.sum.len().max(self.sum.len()), 0.0);
        self.rows += other.rows;
        self.square += other.square;
        self.sum.iter_mut().zip(&other.sum).for_each(|(mine, other)| *mine += other);
    }

    /// Over the rows of all processes; a row has `length` numbers.
    fn sum_over(&mut self, group: &Group, length: usize) -> Result<()> {
        if group.is_alone() {
            return Ok(());
        }
        self.sum.resize(length, 0.0);
        self.sum.extend([self.square, self.rows as f64]);
        group.sum_f64(&mut self.sum)?;
        let [square, rows] = [length, length + 1].map(|at| self.sum[at]);
        self.sum.truncate(length);
        (self.square, self.rows) = (square, rows as usize);
        Ok(())
    }

    fn centred(&self) -> Option<f64> {
        let mean_square = |sum: &f64| sum * sum / self.rows as f64;
        (self.rows > 0).then(|| self.square - self.sum.iter().map(mean_square).sum::<f64>())
    }
}

struct BatchRows {
    /// Energy of the responses, and of their sum with the shortcut.
    response: Energy,
    stream: Energy,
    /// Input and response rows of even and odd blocks of samples, by convolution group.
    rows: Vec<[(Vec<f32>, Vec<f32>); 2]>,
    original: Held,
    current: Option<Held>,
}

fn batch_rows(
    layer: &Place,
    (original, current): (&Replay, Option<&Replay>),
    (first, second): (&Move, Option<&Move>),
    batch: usize,
    (take, seed): (usize, u64),
) -> Result<BatchRows> {
    let number = original.number(batch);
    let (mut wanted, held_original) = original.run(first, batch)?.split();
    let mut held_current = None;
    let (input, shortcut_now) = match (current, second) {
        (Some(current), Some(second)) => {
            let (mut now, held) = current.run(second, batch)?.split();
            held_current = Some(held);
            let shortcut = (now.len() == 2).then(|| now.pop()).flatten();
            (now.pop(), shortcut)
        }
        _ => (wanted.pop(), None),
    };
    let shortcut = (wanted.len() == 2).then(|| wanted.pop()).flatten();
    let (Some(input), Some(output)) = (input, wanted.pop()) else {
        return Err(Error::internal("a layer's input or output was not computed"));
    };
    let x = Samples::new(&input)?;
    let y = Samples::new(&output)?;
    let then = shortcut.as_ref().map(Samples::new).transpose()?;
    let now = shortcut_now.as_ref().map(Samples::new).transpose()?;
    let (mut response, mut stream) = (Energy::default(), Energy::default());
    if x.count != y.count {
        return Err(Error::unsupported(format!(
            "the first axis changes from {} to {} within a layer",
            x.count, y.count
        )));
    }
    let shape = layer.map.shape();
    let (p, n) = (shape.columns(), shape.group_outputs());
    let mut rng = random::stream(seed, &format!("positions/{}/{number}", layer.node.index()));
    let chosen: Vec<Vec<usize>> =
        (0..x.count).map(|_| choose(&mut rng, shape.positions, take)).collect();
    let mut rows = Vec::with_capacity(shape.groups);
    for group in 0..shape.groups {
        let mut halves = [0, 1].map(|odd| {
            let mine =
                |(sample, _): &(usize, _)| usize::from(original.is_odd(batch, *sample)) == odd;
            let rows = chosen.iter().enumerate().filter(mine).map(|(_, c)| c.len()).sum::<usize>();
            (Vec::with_capacity(rows * p), Vec::with_capacity(rows * n))
        });
        let mut other = vec![0.0; n];
        let places = chosen.iter().enumerate().flat_map(|(s, c)| c.iter().map(move |&at| (s, at)));
        for (sample, position) in places {
            let (xs, ys) = &mut halves[usize::from(original.is_odd(batch, sample))];
            layer.map.input_row(x.at(sample), position, group, next_row(xs, p));
            let target = next_row(ys, n);
            layer.map.output_row(y.at(sample), position, group, target);
            if let Some(then) = &then {
                layer.map.output_row(then.at(sample), position, group, &mut other);
                let sum: Vec<f32> = target.iter().zip(&other).map(|(t, o)| t + o).collect();
                response.add(target);
                stream.add(&sum);
                if let Some(now) = &now {
                    layer.map.output_row(now.at(sample), position, group, &mut other);
                    target
                        .iter_mut()
                        .zip(sum.iter().zip(&other))
                        .for_each(|(t, (s, o))| *t = s - o);
                }
            }
        }
        rows.push(halves);
    }
    Ok(BatchRows { response, stream, rows, original: held_original, current: held_current })
}

/// An array split along its first axis.
struct Samples<'a> {
    data: Floats<'a>,
    count: usize,
}

impl<'a> Samples<'a> {
    fn new(array: &'a Array) -> Result<Self> {
        let count = array.dims().first().copied().unwrap_or(1).max(1);
        Ok(Self { data: array.f32s()?, count })
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
