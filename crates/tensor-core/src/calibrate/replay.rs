//! Replays calibration data through a graph node by node without starting over each time.
//!
//! A [`Replay`] holds the values that are alive at one place of the graph for all batches. Moving
//! to a later place runs only what lies between. Where the live values would take more memory than
//! allowed, the replay stays where it is and the next move runs from there again.

use super::{Batches, Halves};
use crate::graph::Graph;
use crate::group::Group;
use crate::run::{Array, Facts, Session};
use crate::text::counted;
use crate::{Error, NodeId, Result, ValueId};

/// Calibration data on its way through a graph.
#[derive(Debug, Clone)]
pub struct Replay {
    /// Values that are held.
    held: Vec<ValueId>,
    /// The batches of this process.
    batches: Vec<Batch>,
    /// Samples over all batches, and over those of this process.
    samples: usize,
    own_samples: usize,
    /// Of the batches that it began with.
    halves: Halves,
    /// Most bytes to hold.
    memory: usize,
    /// Who holds the other batches.
    group: Group,
}

/// A batch on its way.
#[derive(Debug, Clone)]
struct Batch {
    /// Its number among the batches of all processes, and the samples before it.
    number: usize,
    start: usize,
    /// Held arrays, in the order of [`Replay::held`].
    held: Vec<Array>,
}

/// A move of a [`Replay`]: run it for every batch, give each result to [`Replay::advance`], then [`Replay::settle`].
pub struct Move<'g> {
    session: Session<'g>,
    targets: Vec<ValueId>,
    wanted: usize,
    keep: bool,
}

/// What a [`Move`] computed for one batch.
pub struct Moved {
    /// The wanted values.
    pub wanted: Vec<Array>,
    held: Vec<Array>,
}

impl Replay {
    /// Starts at the graph inputs; each batch lists them in the graph's order.
    ///
    /// # Errors
    /// When a batch has the wrong number of inputs.
    pub fn new(graph: &Graph, batches: impl Into<Batches>, memory: usize) -> Result<Self> {
        let Batches { arrays, first, mut start, halves, group } = batches.into();
        if let Some(batch) = arrays.iter().find(|batch| batch.len() != graph.inputs.len()) {
            return Err(Error::invalid(format!(
                "the model has {}, a batch has {}",
                counted(graph.inputs.len(), "input"),
                batch.len()
            )));
        }
        let own_samples = Batches::count(&arrays);
        let mut batches = Vec::with_capacity(arrays.len());
        for (number, held) in (first..).zip(arrays) {
            let samples = Batches::samples_of(&held);
            batches.push(Batch { number, start, held });
            start += samples;
        }
        let (held, samples) = (graph.inputs.clone(), halves.samples);
        Ok(Self { held, batches, samples, own_samples, halves, memory, group })
    }

    /// Number of batches of this process.
    pub fn batches(&self) -> usize {
        self.batches.len()
    }

    /// The number of one of them among the batches of all processes, which random draws go by.
    pub fn number(&self, batch: usize) -> usize {
        self.batches[batch].number
    }

    /// Does a sample of one of them belong to the second half of the data? The halves are blocks of neighbouring
    /// samples in turn.
    pub fn is_odd(&self, batch: usize, sample: usize) -> bool {
        self.halves.is_odd(self.batches[batch].start + sample)
    }

    /// The processes that the batches are spread over.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Number of samples over all batches of all processes.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// A replay at the same place with batches spread evenly over the data: with no more than about so many
    /// samples, but of both [halves](Self::is_odd).
    pub fn thinned(&self, samples: usize) -> Self {
        let stride = self.halves.stride(samples);
        let kept = self.batches.iter().filter(|batch| batch.number.is_multiple_of(stride));
        let batches: Vec<Batch> = kept.cloned().collect();
        // Batches are of one size but for the last, which the memory estimate may overlook.
        let own_samples = (self.own_samples * batches.len()).div_ceil(self.batches.len().max(1));
        Self {
            held: self.held.clone(),
            batches,
            samples: self.samples.div_ceil(stride),
            own_samples,
            halves: self.halves,
            memory: self.memory,
            group: self.group.clone(),
        }
    }

    /// Prepares a move to right before `node`, which also computes `wanted` values (before or
    /// after that place).
    ///
    /// # Errors
    /// When a node on the way cannot be prepared.
    pub fn prepare<'g>(
        &self,
        graph: &'g Graph,
        facts: &Facts,
        node: NodeId,
        wanted: &[ValueId],
    ) -> Result<Move<'g>> {
        self.prepare_to(graph, facts, node.index(), wanted)
    }

    /// Prepares a move to right behind `node`, as [`prepare`](Self::prepare).
    ///
    /// # Errors
    /// When a node on the way cannot be prepared.
    pub fn prepare_past<'g>(
        &self,
        graph: &'g Graph,
        facts: &Facts,
        node: NodeId,
        wanted: &[ValueId],
    ) -> Result<Move<'g>> {
        self.prepare_to(graph, facts, node.index() + 1, wanted)
    }

    fn prepare_to<'g>(
        &self,
        graph: &'g Graph,
        facts: &Facts,
        place: usize,
        wanted: &[ValueId],
    ) -> Result<Move<'g>> {
        let live = live_before(graph, facts, place);
        let sample_bytes: usize = live.iter().map(|&value| sample_bytes(facts, value)).sum();
        let keep = sample_bytes.saturating_mul(self.own_samples) <= self.memory;
        let mut targets = wanted.to_vec();
        if keep {
            targets.extend(&live);
        }
        let session = Session::between(graph, &self.held, &targets)?;
        Ok(Move { session, targets, wanted: wanted.len(), keep })
    }

    /// Runs one batch of a move.
    ///
    /// # Errors
    /// When a node fails.
    pub fn run(&self, step: &Move, batch: usize) -> Result<Moved> {
        let inputs: Vec<_> =
            self.held.iter().copied().zip(self.batches[batch].held.iter().cloned()).collect();
        let mut arrays = step.session.fetch(&inputs, &step.targets)?;
        let held = arrays.split_off(step.wanted);
        Ok(Moved { wanted: arrays, held })
    }

    /// Takes what a batch computed in place of what was held for it, so that never more than a few
    /// batches are held twice. The batch cannot run again before [`settle`](Self::settle).
    pub fn advance(&mut self, step: &Move, batch: usize, held: Held) {
        if step.keep {
            self.batches[batch].held = held.0;
        }
    }

    /// Takes the new place, once every batch has advanced.
    pub fn settle(&mut self, step: &Move) {
        if step.keep {
            self.held = step.targets[step.wanted..].to_vec();
        }
    }
}

/// The part of a [`Moved`] that the replay keeps.
pub struct Held(Vec<Array>);

impl Moved {
    /// Splits what the caller asked for from what the replay keeps.
    pub fn split(self) -> (Vec<Array>, Held) {
        (self.wanted, Held(self.held))
    }
}

/// Values made before the node at `place` that it or a later node reads, without constants.
fn live_before(graph: &Graph, facts: &Facts, place: usize) -> Vec<ValueId> {
    let mut read = vec![false; graph.value_count()];
    for later in &graph.nodes[place..] {
        for value in later.inputs.iter().flatten() {
            read[value.index()] = true;
        }
    }
    for output in &graph.outputs {
        read[output.index()] = true;
    }
    let made = graph.nodes[..place].iter().flat_map(|n| n.outputs.iter().flatten());
    // Without a fact a value depends on an unknown operator, so it cannot be computed.
    let varies = |value: ValueId| facts.get(value).is_some_and(|fact| !fact.fixed);
    let candidates = graph.inputs.iter().chain(made).copied();
    candidates.filter(|&value| read[value.index()] && varies(value)).collect()
}

fn sample_bytes(facts: &Facts, value: ValueId) -> usize {
    facts.get(value).map_or(0, |fact| {
        let batch = fact.dims.first().copied().unwrap_or(1).max(1);
        fact.count() / batch * 4
    })
}
