//! Transitions that the agent learns from.

use super::STATE;
use rand_chacha::rand_core::RngCore;
use tensor_core::random;

/// One step: what was seen, what was done, what came of it, and what was seen next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Transition {
    pub(super) state: [f32; STATE],
    pub(super) action: f32,
    pub(super) reward: f64,
    pub(super) next: [f32; STATE],
    pub(super) is_last: bool,
}

/// The newest transitions.
#[derive(Debug)]
pub(super) struct Memory {
    held: Vec<Transition>,
    capacity: usize,
    /// Where the next one goes once the memory is full.
    place: usize,
}

impl Memory {
    pub(super) fn new(capacity: usize) -> Self {
        Self { held: Vec::new(), capacity: capacity.max(1), place: 0 }
    }

    pub(super) fn push(&mut self, transition: Transition) {
        if self.held.len() < self.capacity {
            self.held.push(transition);
        } else {
            self.held[self.place] = transition;
            self.place = (self.place + 1) % self.capacity;
        }
    }

    /// Different ones, fewer than asked for while there are fewer.
    pub(super) fn draw(&self, count: usize, rng: &mut impl RngCore) -> Vec<Transition> {
        let mut order: Vec<usize> = (0..self.held.len()).collect();
        let count = count.min(order.len());
        for place in 0..count {
            let rest = (order.len() - place) as u64;
            order.swap(place, place + random::below(rng, rest) as usize);
        }
        order[..count].iter().map(|&at| self.held[at]).collect()
    }
}
