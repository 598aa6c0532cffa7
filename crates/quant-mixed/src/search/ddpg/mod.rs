//! HAQ's search: an agent that gives one layer after the other its bits and learns from the accuracy of
//! the whole (Wang et al., "HAQ: hardware-aware automated quantization with mixed precision", CVPR 2019).
//!
//! Deep deterministic policy gradient (Lillicrap et al. 2016). Each layer that is not pinned takes two steps,
//! its weights and then its activations. A step's state is ten numbers ([`states`]), its action a number a
//! from 0 to 1 that stands for `round(b_min - 1/2 + a (b_max - b_min + 1))` bits. When all layers have theirs,
//! [`trim`](super::trim) takes bits until the budget holds, and the reward of every step is
//! `0.1 (accuracy - accuracy of the float model)`, in percent. [`Reward::Divergence`] puts `exp(-D) - 1` in the
//! place of this difference, where D is the mean divergence of the outputs from the float model's: the geometric
//! mean of what is left of the float model's probabilities, weighed by them. It needs no labels, and a few hundred samples
//! tell allocations apart by it that answer as many of them right.
//!
//! The first episode tries the same bits for all layers, as many as the budget allows, so that on the samples
//! that it selects by, a search never ends below these.
//!
//! Where paper and published code differ: both networks are the paper's (400 and 300 units, state and action
//! through layers of their own that are added, the actor too sees the previous action); the baseline, the
//! replay memory and the number of updates, on which the paper is silent, are the code's. What the code
//! does wrong is corrected: pins hold in every episode, not only where bits are trimmed; all states are
//! normalized; the flag of weights and activations means the same in every step; accuracies are of held-out
//! data, never of a running mean over training batches; transitions hold the actions of the bits that trimming
//! left, as the reward is that of these. Who scores allocations may train them first
//! ([`ShortTraining`](super::ShortTraining), with the feature `train`).
//!
//! A search is told the scores of earlier episodes to go on: it repeats its own computations, which cost little
//! beside the runs of the model, so it needs no checkpoint and ends with the same bytes as without the
//! interruption.

mod agent;
mod network;
mod noise;
mod params;
mod replay;
mod search;
mod states;

pub use params::{Constraint, DdpgParams, Reward};
pub use search::{Episode, Found, bits_of, search};
pub use states::{STATE, states};

use super::{Solver, View};

pub(super) const SOLVER: Solver = Solver {
    name: "ddpg",
    summary: "HAQ's reinforcement learning agent on the accuracy of whole allocations",
    view: View::Episodes,
};
