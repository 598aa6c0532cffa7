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
    pub(crate) lump: Lumping,
}

/// Gates that close together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lumping {
    /// Their number, at least 1.
    pub(crate) size: usize,
    /// May fewer close where all of them would end too far below the goal?
    pub(crate) may_split: bool,
}

impl List<'_> {
    fn open(&self) -> usize {
        self.alphas.iter().filter(|alpha| **alpha != 0.0).count()
    }

    /// The weight of the term at which a gate closes, times `A_u`: where the soft threshold
    /// `weight A_u / strength` reaches `|alpha|`, or twice the hard one reaches `alpha^2`.
    fn resistance(&self, gate: usize, prox: Prox) -> f64 {
        let alpha = f64::from(self.alphas[gate]);
        let reached = match prox {
            Prox::Soft => alpha.abs(),
            Prox::Hard => alpha * alpha / 2.0,
        };
        reached * self.strength[gate]
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
/// `weight A_u / strength` reaches it, or at `alpha^2 strength / (2 A_u)` for the hard one; lumps close
/// at the mean of that over their gates, and shrink as a whole. `A_u` is frozen during the step, the
/// numbers of open gates are exact. What would end more than 1 % below `goal` is left open as long as
/// cheaper gates suffice.
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
    let mut lumps = lumps(lists, resource, &open, prox);
    lumps.sort_by(|a, b| a.score.total_cmp(&b.score));
    let least = goal.min(limit) * (1.0 - TOLERANCE);
    let mut weight = 0.0;
    let mut done = 0;
    for lump in &lumps {
        if resource.at(&open) <= limit || after(lump, resource, &open, lump.gates.len()) < least {
            break;
        }
        close(&lump.gates, lists, &mut open, lump.list);
        weight = lump.score;
        done += 1;
    }
    let mut kept = lumps.split_off(done);
    if resource.at(&open) > limit {
        let cheap = cheaper(&kept, lists.len(), resource, &open, (limit, least));
        for (at, size) in
            cheap.or_else(|| nearest(&kept, lists, resource, &open, limit)).into_iter().flatten()
        {
            let lump = &mut kept[at];
            let gates: Vec<usize> = lump.gates.drain(..size).collect();
            close(&gates, lists, &mut open, lump.list);
        }
    }
    if prox == Prox::Soft {
        shrink_kept(&kept, lists, weight);
    }
    weight
}

/// Closes gates of a list.
fn close(gates: &[usize], lists: &mut [List], open: &mut [usize], list: usize) {
    for &gate in gates {
        lists[list].alphas[gate] = 0.0;
    }
    open[list] -= gates.len();
}

/// The resource when so many gates of a lump are closed, too.
fn after(lump: &Lump, resource: &Resource, open: &[usize], size: usize) -> f64 {
    let mut open = open.to_vec();
    open[lump.list] -= size;
    resource.at(&open)
}

/// Whole lumps, as places and sizes, that end within the limit and not too far below it, the weakest
/// first; those that are too dear are passed over, with what is behind them in their lists.
fn cheaper(
    kept: &[Lump],
    lists: usize,
    resource: &Resource,
    open: &[usize],
    (limit, least): (f64, f64),
) -> Option<Vec<(usize, usize)>> {
    let mut open = open.to_vec();
    let mut is_passed = vec![false; lists];
    let mut chosen = Vec::new();
    for (at, lump) in kept.iter().enumerate() {
        let size = lump.gates.len();
        if is_passed[lump.list] || after(lump, resource, &open, size) < least {
            is_passed[lump.list] = true;
            continue;
        }
        open[lump.list] -= size;
        chosen.push((at, size));
        if resource.at(&open) <= limit {
            return Some(chosen);
        }
    }
    None
}

/// One lump of those that are next in their lists, or a part of it: what ends highest within the limit.
fn nearest(
    kept: &[Lump],
    lists: &[List],
    resource: &Resource,
    open: &[usize],
    limit: f64,
) -> Option<Vec<(usize, usize)>> {
    let mut best: Option<(f64, (usize, usize))> = None;
    let mut is_seen = vec![false; lists.len()];
    for (at, lump) in kept.iter().enumerate() {
        if std::mem::replace(&mut is_seen[lump.list], true) {
            continue;
        }
        let whole = lump.gates.len();
        let least = if lists[lump.list].lump.may_split { 1 } else { whole };
        let ends = (least..=whole).map(|size| (after(lump, resource, open, size), size));
        if let Some((end, size)) = ends.into_iter().find(|(end, _)| *end <= limit)
            && best.is_none_or(|(known, _)| end > known)
        {
            best = Some((end, (at, size)));
        }
    }
    best.map(|(_, found)| vec![found])
}

/// The soft step of what stays open.
fn shrink_kept(kept: &[Lump], lists: &mut [List], weight: f64) {
    for lump in kept.iter().filter(|lump| lump.score > weight) {
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

/// One proximal step with a given weight of the term. The strongest `floor` gates of each list stay
/// as they are.
pub(crate) fn shrink_by(lists: &mut [List], resource: &Resource, weight: f64, prox: Prox) {
    let open = counts(lists);
    for (at, list) in lists.iter_mut().enumerate() {
        let price = weight * resource.relaxation(&open, at);
        let mut order = ascending(list, prox);
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
fn ascending(list: &List, prox: Prox) -> Vec<usize> {
    let mut order: Vec<usize> =
        (0..list.alphas.len()).filter(|&gate| list.alphas[gate] != 0.0).collect();
    order.sort_by(|&a, &b| list.resistance(a, prox).total_cmp(&list.resistance(b, prox)));
    order
}

fn lumps(lists: &[List], resource: &Resource, open: &[usize], prox: Prox) -> Vec<Lump> {
    let mut lumps = Vec::new();
    for (at, list) in lists.iter().enumerate() {
        let order = ascending(list, prox);
        let price = resource.relaxation(open, at).max(f64::MIN_POSITIVE);
        let mut left = &order[..order.len().saturating_sub(list.floor)];
        // What is left is a multiple of the lump.
        let odd = order.len() % list.lump.size;
        let mut size = if odd > 0 { odd } else { list.lump.size };
        while !left.is_empty() {
            let (gates, rest) = left.split_at(size.min(left.len()));
            let sum: f64 = gates.iter().map(|&gate| list.resistance(gate, prox)).sum();
            let score = sum / gates.len() as f64 / price;
            lumps.push(Lump { list: at, gates: gates.to_vec(), score });
            (left, size) = (rest, list.lump.size);
        }
    }
    lumps
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
        let lump = Lumping { size: 1, may_split: true };
        let mut lists = [List { alphas: &mut alphas, strength: &strength, floor: 1, lump }];
        let weight = shrink(&mut lists, &resource, (3.0, 2.0), Prox::Soft);
        // A_u is a quarter, so the threshold is weight / 4.
        assert_eq!(weight, 1.0);
        // The strongest gate has to stay open, and is left alone.
        assert_eq!(alphas, [1.0, -0.25, 0.0, 0.5]);
        let mut lists = [List { alphas: &mut alphas, strength: &strength, floor: 1, lump }];
        // The hard threshold is the weight times A_u too, now a quarter still: 0.25^2 / 2 = weight / 4.
        assert_eq!(shrink(&mut lists, &resource, (2.0, 2.0), Prox::Hard), 0.125);
        assert_eq!(alphas, [1.0, 0.0, 0.0, 0.5]);
    }

    /// The hard step closes what the operator of the same weight closes, in every list.
    #[test]
    fn the_hard_step_is_the_proximal_one() {
        let resource = chain(&[4, 4]);
        let start = [0.9_f32, 0.3, 0.5, 0.7, 0.2, 0.6, 0.4, 0.8];
        let strength = [1.0, 2.0, 0.5, 1.5];
        let lump = Lumping { size: 1, may_split: true };
        let (mut ours, mut theirs) = (start, start);
        let limit = 0.6 * resource.at(&[4, 4]);
        let (first, second) = ours.split_at_mut(4);
        let list = |alphas| List { alphas, strength: &strength, floor: 0, lump };
        let mut lists = [list(first), list(second)];
        let weight = shrink(&mut lists, &resource, (limit, 0.0), Prox::Hard);
        let (first, second) = theirs.split_at_mut(4);
        let mut lists = [list(first), list(second)];
        shrink_by(&mut lists, &resource, weight * (1.0 + 1e-6), Prox::Hard);
        assert_eq!(ours, theirs);
        assert!(ours.contains(&0.0));
    }

    /// A list whose channels are dear is passed over where cheap ones reach the goal.
    #[test]
    fn cheap_gates_close_where_a_dear_one_would_be_too_much() {
        let resource = Resource::new(&[2, 40])
            .layer(40, &[Side::Gated(0)])
            .and_then(|resource| resource.layer(1, &[Side::Gated(1)]))
            .unwrap();
        // The dear gates are the weakest by far.
        let (mut dear, mut cheap) = ([1e-3_f32, 2e-3], [0.5_f32; 40]);
        let strength = [1.0; 40];
        let lump = Lumping { size: 1, may_split: true };
        let mut lists = [
            List { alphas: &mut dear, strength: &strength[..2], floor: 0, lump },
            List { alphas: &mut cheap, strength: &strength, floor: 0, lump },
        ];
        shrink(&mut lists, &resource, (110.0, 110.0), Prox::Soft);
        assert_eq!(resource.at(&counts(&lists)), 110.0);
        assert_eq!(counts(&lists), [2, 30]);
        // Below what cheap ones can give, one dear gate goes and cheap ones stay.
        shrink(&mut lists, &resource, (75.0, 75.0), Prox::Soft);
        assert_eq!(counts(&lists), [1, 30]);
    }

    #[test]
    fn lumps_that_may_not_be_split_leave_multiples() {
        for (may_split, expected) in [(false, 8), (true, 13)] {
            let resource = Resource::new(&[20]).layer(1, &[Side::Gated(0)]).unwrap();
            let mut alphas: Vec<f32> = (1..=20).map(|i| i as f32 / 20.0).collect();
            let lump = Lumping { size: 8, may_split };
            let strength = [1.0; 20];
            let mut lists = [List { alphas: &mut alphas, strength: &strength, floor: 8, lump }];
            shrink(&mut lists, &resource, (13.0, 13.0), Prox::Soft);
            assert_eq!(counts(&lists), [expected]);
        }
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
            let lump = Lumping { size: lump, may_split: true };
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
