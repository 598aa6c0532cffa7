//! Where the resource should be, and the weight of its term that brings it there.

use crate::{Prox, Resource};

/// How far below the goal a whole lump may end.
const TOLERANCE: f64 = 0.01;

/// What the resource may be over a run: all of it at first, then along
///
/// ```text
/// goal + (full - goal) (1 - x)^curve,   x from 0 to 1 between begin and end
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Controller {
    /// The resource with all gates open.
    pub full: f64,
    /// What it may be at the end.
    pub goal: f64,
    /// Share of the run before which nothing closes.
    pub begin: f64,
    /// Share of the run at which the goal is reached.
    pub end: f64,
    /// Exponent, at least 1: above 1 more closes early, when it matters least.
    pub curve: f64,
}

impl Controller {
    /// What the resource may be after `done` of `steps` steps.
    pub fn limit(&self, done: u64, steps: u64) -> f64 {
        let share = done as f64 / steps.max(1) as f64;
        let length = self.end - self.begin;
        let x = match length > 0.0 {
            true => ((share - self.begin) / length).clamp(0.0, 1.0),
            false => f64::from(u8::from(share >= self.end)),
        };
        let goal = self.goal.min(self.full);
        goal + (self.full - goal) * (1.0 - x).powf(self.curve)
    }
}

/// An open gate is no nearer to 0: its square has to be a number, too.
pub(crate) const LEAST_OPEN: f32 = 1e-12;

/// A list of gates that may shrink.
#[derive(Debug)]
pub(crate) struct List<'a> {
    pub(crate) alphas: &'a mut [f32],
    /// What the penalty of each gate is divided by, at least 0.
    pub(crate) strength: &'a [f64],
    /// Gates that stay open.
    pub(crate) floor: usize,
    /// Gates that close together.
    pub(crate) lump: usize,
}

impl List<'_> {
    fn open(&self) -> usize {
        self.alphas.iter().filter(|alpha| **alpha != 0.0).count()
    }
}

/// Numbers of open gates.
pub(crate) fn counts(lists: &[List]) -> Vec<usize> {
    lists.iter().map(List::open).collect()
}

/// Gates of one list that close together, the weakest first.
struct Lump {
    list: usize,
    gates: Vec<usize>,
    /// The weight of the term at which they close.
    score: f64,
}

/// One proximal step with the smallest weight of the term after which the resource is within
/// `limit`; gives that weight, 0 where it is already.
///
/// A gate alone closes at the weight `|alpha| strength / A_u`, where its soft threshold
/// `weight A_u / strength` reaches it; lumps shrink as a whole and close at the mean of that over
/// their gates. `A_u` is frozen during the step, the numbers of open gates are exact. Near `goal` no
/// lump is closed whole that would end more than 1 % below it, if a part of it suffices.
pub(crate) fn shrink(
    lists: &mut [List],
    resource: &Resource,
    (limit, goal): (f64, f64),
    prox: Prox,
) -> f64 {
    let mut open = counts(lists);
    if resource.at(&open) <= limit {
        return 0.0;
    }
    let mut lumps = lumps(lists, resource, &open);
    lumps.sort_by(|a, b| a.score.total_cmp(&b.score));
    let mut weight = 0.0;
    let mut closed = 0;
    for lump in &lumps {
        if resource.at(&open) <= limit {
            break;
        }
        let size = needed(lump, resource, &open, (limit, goal));
        for &gate in &lump.gates[..size] {
            lists[lump.list].alphas[gate] = 0.0;
        }
        open[lump.list] -= size;
        weight = lump.score;
        closed += 1;
    }
    if prox == Prox::Soft {
        for lump in lumps.iter().skip(closed).filter(|lump| lump.score > weight) {
            let factor = (1.0 - weight / lump.score) as f32;
            for &gate in &lump.gates {
                let alpha = &mut lists[lump.list].alphas[gate];
                let shrunk = *alpha * factor;
                *alpha = match shrunk.abs() < LEAST_OPEN {
                    true => LEAST_OPEN.copysign(*alpha),
                    false => shrunk,
                };
            }
        }
    }
    weight
}

/// One proximal step with a given weight of the term. The strongest `floor` gates of each list stay
/// as they are.
pub(crate) fn shrink_by(lists: &mut [List], resource: &Resource, weight: f64, prox: Prox) {
    let open = counts(lists);
    for (at, list) in lists.iter_mut().enumerate() {
        let price = weight * resource.relaxation(&open, at);
        let mut order = ascending(list);
        order.truncate(open[at].saturating_sub(list.floor));
        for gate in order {
            let threshold = (price / list.strength[gate].max(f64::MIN_POSITIVE)) as f32;
            let alpha = &mut list.alphas[gate];
            *alpha = match prox {
                Prox::Soft => crate::prox::soft(*alpha, threshold),
                Prox::Hard => crate::prox::hard(*alpha, threshold),
            };
        }
    }
}

/// Open gates of a list, the weakest first, of equal ones the first.
fn ascending(list: &List) -> Vec<usize> {
    let size = |gate: usize| f64::from(list.alphas[gate].abs()) * list.strength[gate];
    let mut order: Vec<usize> =
        (0..list.alphas.len()).filter(|&gate| list.alphas[gate] != 0.0).collect();
    order.sort_by(|&a, &b| size(a).total_cmp(&size(b)));
    order
}

fn lumps(lists: &[List], resource: &Resource, open: &[usize]) -> Vec<Lump> {
    let mut lumps = Vec::new();
    for (at, list) in lists.iter().enumerate() {
        let order = ascending(list);
        let price = resource.relaxation(open, at).max(f64::MIN_POSITIVE);
        let mut left = &order[..order.len().saturating_sub(list.floor)];
        // What is left is a multiple of the lump.
        let odd = order.len() % list.lump;
        let mut size = if odd > 0 { odd } else { list.lump };
        while !left.is_empty() {
            let (gates, rest) = left.split_at(size.min(left.len()));
            let size_of = |&gate: &usize| f64::from(list.alphas[gate].abs()) * list.strength[gate];
            let mean = gates.iter().map(size_of).sum::<f64>() / gates.len() as f64;
            lumps.push(Lump { list: at, gates: gates.to_vec(), score: mean / price });
            (left, size) = (rest, list.lump);
        }
    }
    lumps
}

/// How many gates of a lump are closed: all, or fewer where that would end too far below the goal.
fn needed(lump: &Lump, resource: &Resource, open: &[usize], (limit, goal): (f64, f64)) -> usize {
    let after = |size: usize| {
        let mut open = open.to_vec();
        open[lump.list] -= size;
        resource.at(&open)
    };
    let whole = lump.gates.len();
    let least = goal.min(limit) * (1.0 - TOLERANCE);
    if after(whole) >= least {
        return whole;
    }
    let mut step = whole;
    loop {
        let size = (1..=whole.div_ceil(step)).map(|i| (i * step).min(whole));
        let size = size.into_iter().find(|&size| after(size) <= limit).unwrap_or(whole);
        if step == 1 || after(size) >= least {
            return size;
        }
        step /= 2;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::Side;
    use proptest::prelude::*;

    fn chain(widths: &[usize]) -> Resource {
        let mut resource =
            Resource::new(widths).layer(90, &[Side::Fixed(1), Side::Gated(0)]).unwrap();
        for list in 1..widths.len() {
            resource = resource.layer(9, &[Side::Gated(list - 1), Side::Gated(list)]).unwrap();
        }
        resource.layer(1, &[Side::Gated(widths.len() - 1), Side::Fixed(10)]).unwrap()
    }

    #[test]
    fn the_line_falls_from_all_to_the_goal() {
        let line = Controller { full: 100.0, goal: 40.0, begin: 0.1, end: 0.5, curve: 2.0 };
        let found = [0, 10, 30, 50, 100].map(|done| line.limit(done, 100));
        assert_eq!(found, [100.0, 100.0, 55.0, 40.0, 40.0]);
        let at_once = Controller { begin: 0.0, end: 0.0, ..line };
        assert_eq!(at_once.limit(0, 100), 40.0);
        assert_eq!(Controller { goal: 200.0, ..line }.limit(100, 100), 100.0);
    }

    /// The weight is the soft threshold's that closes exactly the first gate.
    #[test]
    fn one_gate_closes_and_the_others_shrink() {
        let resource = Resource::new(&[4]).layer(1, &[Side::Gated(0)]).unwrap();
        let mut alphas = [1.0, -0.5, 0.25, 0.75];
        let strength = [1.0; 4];
        let mut lists = [List { alphas: &mut alphas, strength: &strength, floor: 1, lump: 1 }];
        let weight = shrink(&mut lists, &resource, (3.0, 2.0), Prox::Soft);
        // A_u is a quarter, so the threshold is weight / 4.
        assert_eq!(weight, 1.0);
        // The strongest gate has to stay open, and is left alone.
        assert_eq!(alphas, [1.0, -0.25, 0.0, 0.5]);
        let mut lists = [List { alphas: &mut alphas, strength: &strength, floor: 1, lump: 1 }];
        assert_eq!(shrink(&mut lists, &resource, (2.0, 2.0), Prox::Hard), 1.0);
        assert_eq!(alphas, [1.0, 0.0, 0.0, 0.5]);
    }

    proptest! {
        /// However gates stand, the step ends within the limit, and above it without the last gate
        /// that closed; no list closes.
        #[test]
        fn a_step_ends_at_the_limit(
            values in prop::collection::vec((0.01_f32..1.0, 0.0_f64..1.0), 40),
            limit in 0.2_f64..1.0,
            lump in 1_usize..5,
        ) {
            let widths = [8, 20, 12];
            let resource = chain(&widths);
            let mut alphas: Vec<f32> = values.iter().map(|v| v.0).collect();
            let strength: Vec<f64> = values.iter().map(|v| v.1).collect();
            let limit = limit * resource.at(&widths);
            let (first, rest) = alphas.split_at_mut(8);
            let (second, third) = rest.split_at_mut(20);
            let mut lists = [
                List { alphas: first, strength: &strength[..8], floor: 1, lump },
                List { alphas: second, strength: &strength[8..28], floor: 1, lump },
                List { alphas: third, strength: &strength[28..], floor: 1, lump },
            ];
            shrink(&mut lists, &resource, (limit, limit), Prox::Soft);
            let open = counts(&lists);
            prop_assert!(open.iter().all(|&n| n > 0));
            let after = resource.at(&open);
            prop_assert!(after <= limit || open.iter().all(|&n| n == 1));
            // Within 1 %, or one channel's worth.
            let one = (0..3).filter(|&i| open[i] < widths[i]).any(|i| {
                let mut more = open.clone();
                more[i] += 1;
                resource.at(&more) > limit
            });
            prop_assert!(after >= 0.99 * limit || one);
        }
    }
}
