//! Which trial comes next: a function of the goal and of what earlier trials reached.

use super::trial::Trial;
use super::variant::{Format, Kept, Variant};
use crate::args::{GoalArgs, Spent};
use crate::units;

/// What can be done with the data and the time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Means {
    /// Passes of training after pruning; 0 where it does not train.
    pub(super) epochs: u32,
}

/// Trials with one number format, at most: the share to keep is found by then, or never.
const TRIALS_PER_FORMAT: usize = 4;

/// A trial that takes less than this share of what is allowed leaves accuracy unused.
const UNUSED: f64 = 0.92;

/// Shares that a correction aims at, of what is allowed: sizes follow the share that pruning keeps
/// closely, latencies do not.
const AIM: f64 = 0.98;

/// How latency falls with multiply-accumulates where only one trial is known: as their power.
const LATENCY_POWER: f64 = 0.8;

/// Bytes of weights of 4 bits, of those of 8, with the scales.
const HALF: f64 = 0.55;

/// How much too large 8 bits must be before 4 are tried: 4 bits cost accuracy, too.
const FAR_TOO_LARGE: f64 = 1.3;

/// Integers that take more than this share of the time of floats do not make the model faster.
const SLOWER: f64 = 0.95;

/// Least share that pruning is asked for.
const LEAST: f64 = 0.03;

/// Shares to keep where only accuracy is asked for.
const LADDER: [f64; 6] = [0.85, 0.7, 0.55, 0.4, 0.3, 0.2];

/// The next trial and why, or `None` when nothing is left that could be better.
pub(super) fn next(goal: &GoalArgs, trials: &[Trial], means: Means) -> Option<(Variant, String)> {
    let format = format(goal, trials)?;
    let own: Vec<&Trial> = of(trials, format).collect();
    let Some(last) = own.last() else { return Some(first(goal, trials, format, means)) };
    let (kept, share, why) = match goal.is_resource() {
        true => corrected(goal, &own)?,
        false => lower(last)?,
    };
    let variant = Variant { format, keep: Some((kept, share)), epochs: means.epochs };
    let is_new = own.iter().all(|trial| trial.variant.name() != variant.name());
    is_new.then_some((variant, why))
}

/// The trials of a number format.
fn of(trials: &[Trial], format: Format) -> impl Iterator<Item = &Trial> {
    trials.iter().filter(move |trial| trial.variant.format == format)
}

/// The number format to go on with.
fn format(goal: &GoalArgs, trials: &[Trial]) -> Option<Format> {
    let open = |format: Format| (!is_done(goal, trials, format)).then_some(format);
    if goal.macs.is_some() && !goal.is_timed() && !goal.is_sized() {
        return open(Format::Float);
    }
    let Some(plain) = of(trials, Format::Int8).next() else { return Some(Format::Int8) };
    // Integers that do not help, or lose too much, are not worth their error.
    if is_useless(goal, plain) || (!goal.is_resource() && !plain.meets()) {
        return open(Format::Float);
    }
    if let Some(format) = open(Format::Int8) {
        return Some(format);
    }
    let size = plain.limits(goal)?.into_iter().find(|limit| limit.of == Spent::Size);
    let is_far_too_large = size.is_some_and(|size| size.excess() > FAR_TOO_LARGE);
    open(Format::Int4).filter(|_| is_far_too_large)
}

/// Is there nothing left to be found with a number format?
fn is_done(goal: &GoalArgs, trials: &[Trial], format: Format) -> bool {
    let is_just_enough = |trial: &Trial| {
        let excess = trial.excess(goal);
        (UNUSED..=1.0).contains(&excess) || (excess <= 1.0 && trial.variant.keep.is_none())
    };
    let is_end = |trial: &Trial| {
        trial.error.is_some()
            || (format != Format::Float && is_useless(goal, trial))
            || (goal.is_resource() && is_just_enough(trial))
    };
    let is_searched = goal.is_resource() && of(trials, format).count() >= TRIALS_PER_FORMAT;
    is_searched || of(trials, format).any(is_end)
}

/// Could the integers not be made, or are they slower than floats where time is what is asked for?
fn is_useless(goal: &GoalArgs, trial: &Trial) -> bool {
    let times = trial.measured.as_ref().and_then(|measured| measured.weighed.latency_us);
    let is_slower = times.is_some_and(|(before, after)| after > SLOWER * before);
    trial.error.is_some() || (goal.is_timed() && is_slower)
}

/// The first trial with a number format.
fn first(goal: &GoalArgs, trials: &[Trial], format: Format, means: Means) -> (Variant, String) {
    let plain = Variant { format, keep: None, epochs: 0 };
    let pruned = |keep: (Kept, f64)| Variant { format, keep: Some(keep), epochs: means.epochs };
    match format {
        Format::Int8 => {
            (plain, "integers of 8 bits: a quarter of the bytes at the least loss".to_owned())
        }
        Format::Int4 => {
            // Half the bytes of 8 bits, and pruning for the rest.
            let int8 = of(trials, Format::Int8).next();
            let limits = int8.and_then(|trial| trial.limits(goal)).unwrap_or_default();
            let size = limits.into_iter().find(|limit| limit.of == Spent::Size);
            let share = AIM / (size.map_or(1.0, |size| size.excess()) * HALF);
            let why = "weights of 4 bits and less pruning in place of 8 bits and more".to_owned();
            (if share < 1.0 { pruned((Kept::Size, share)) } else { plain }, why)
        }
        Format::Float => {
            let kept = if goal.is_sized() { Kept::Size } else { Kept::Macs };
            let share = goal.macs.or(goal.size).or(goal.latency);
            let share = share.unwrap_or(if goal.is_resource() { 0.5 } else { LADDER[0] });
            let why = "fewer channels alone: integers would not help here".to_owned();
            (pruned((kept, share)), why)
        }
    }
}

/// The share to keep with which the worst resource would be met, from the trials so far.
fn corrected(goal: &GoalArgs, own: &[&Trial]) -> Option<(Kept, f64, String)> {
    let last = own.last()?;
    let worst = last.worst(goal)?;
    let kept = if worst.of == Spent::Size { Kept::Size } else { Kept::Macs };
    let share = kept_share(last);
    let usual = if worst.of == Spent::Latency { LATENCY_POWER } else { 1.0 };
    let power = own.iter().rev().skip(1).find_map(|other| slope(goal, other, last));
    let excess = worst.excess();
    let next = (share * (AIM / excess).powf(1.0 / power.unwrap_or(usual))).clamp(LEAST, 0.97);
    let why = format!(
        "{} was {} of what is allowed with {} kept",
        worst.of.name(),
        units::percent(excess),
        units::percent(share)
    );
    Some((kept, next, why))
}

/// The share that pruning kept.
fn kept_share(trial: &Trial) -> f64 {
    trial.variant.keep.map_or(1.0, |(_, share)| share)
}

/// With which power of the kept share the excess grew between two trials, where that says something.
fn slope(goal: &GoalArgs, first: &Trial, second: &Trial) -> Option<f64> {
    let share = (kept_share(second) / kept_share(first)).ln();
    let change = (second.excess(goal) / first.excess(goal)).ln() / share;
    (change.is_finite() && change > 0.0).then(|| change.clamp(0.3, 1.5))
}

/// The next lower share where only accuracy is asked for: as long as it is met.
fn lower(last: &Trial) -> Option<(Kept, f64, String)> {
    let share = LADDER.into_iter().find(|share| *share < kept_share(last))?;
    last.meets().then(|| (Kept::Macs, share, "accuracy was still met".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::super::run::Measured;
    use super::*;
    use crate::args::Weighed;

    /// A made-up network: what variants take of the original, and lose.
    struct World {
        /// Bytes and time that no pruning takes away, of the original's.
        fixed: f64,
        /// Power with which latency falls with operations.
        power: f64,
        /// Latency of integers, of floats.
        int8: f64,
        /// What integers and floats lose as they are.
        int8_lost: f64,
        float_lost: f64,
    }

    impl World {
        fn try_out(&self, goal: &GoalArgs, (variant, why): (Variant, String)) -> Trial {
            let share = variant.keep.map_or(1.0, |(_, share)| share);
            let (bytes, speed) = match variant.format {
                Format::Float => (1.0, 1.0),
                Format::Int8 => (0.26, self.int8),
                Format::Int4 => (0.14, 6.0 * self.int8),
            };
            let bits = match variant.format {
                Format::Float => self.float_lost,
                Format::Int8 => self.int8_lost,
                Format::Int4 => 4.0 * self.int8_lost,
            };
            let time = 1000.0 * speed * (self.fixed + (1.0 - self.fixed) * share.powf(self.power));
            let size = 1e6 * (self.fixed * 0.1 + bytes * share);
            let lost = bits + 0.05 * (1.0 - share).powi(2);
            let mut measured = Measured {
                weighed: Weighed {
                    file_bytes: (1_000_000, size as u64),
                    macs: (1_000_000, (1e6 * share) as u64),
                    latency_us: Some((1000.0, time)),
                },
                accuracy: None,
                agreement: Some(1.0 - lost),
                failures: Vec::new(),
            };
            let missed = goal.min_agreement.is_some_and(|least| 1.0 - lost < least);
            let limits = goal.limits(&measured.weighed);
            if missed || limits.iter().any(|limit| limit.missed().is_some()) {
                measured.failures.push("missed".to_owned());
            }
            let measured = Some(measured);
            Trial { variant, why, measured, error: None, seconds: 1.0, sha256: None }
        }

        /// All trials for a goal.
        fn search(&self, goal: &GoalArgs) -> Vec<Trial> {
            let mut trials = Vec::new();
            while let Some(next) = next(goal, &trials, Means { epochs: 0 }) {
                trials.push(self.try_out(goal, next));
                assert!(trials.len() < 20, "no end");
            }
            trials
        }
    }

    fn best<'t>(trials: &'t [Trial], goal: &GoalArgs) -> &'t Trial {
        trials.iter().reduce(|a, b| if b.beats(a, goal) { b } else { a }).expect("trials")
    }

    const WORLDS: [World; 3] = [
        World { fixed: 0.02, power: 1.0, int8: 0.4, int8_lost: 0.005, float_lost: 0.005 },
        World { fixed: 0.15, power: 0.7, int8: 0.5, int8_lost: 0.005, float_lost: 0.005 },
        World { fixed: 0.05, power: 0.9, int8: 1.1, int8_lost: 0.005, float_lost: 0.005 },
    ];

    #[test]
    fn budgets_are_met_with_little_to_spare() {
        for world in &WORLDS {
            for share in [0.7, 0.5, 0.35, 0.2] {
                for goal in [
                    GoalArgs { latency: Some(share), ..GoalArgs::default() },
                    GoalArgs { size: Some(share), ..GoalArgs::default() },
                    GoalArgs { macs: Some(share), ..GoalArgs::default() },
                    GoalArgs { latency: Some(share), size: Some(0.25), ..GoalArgs::default() },
                ] {
                    let trials = world.search(&goal);
                    let best = best(&trials, &goal);
                    let excess = best.excess(&goal);
                    assert!(best.meets(), "{goal:?}: {trials:#?}");
                    let is_plain = best.variant.keep.is_none();
                    assert!(excess > 0.85 || is_plain, "{goal:?}: {excess} {trials:#?}");
                    assert!(trials.len() <= 8, "{goal:?}: {}", trials.len());
                }
            }
        }
    }

    #[test]
    fn integers_are_used_where_they_help() {
        let goal = GoalArgs { latency: Some(0.5), ..GoalArgs::default() };
        let of = |world: &World| best(&world.search(&goal), &goal).variant.clone();
        let plain = Variant { format: Format::Int8, keep: None, epochs: 0 };
        assert_eq!(of(&WORLDS[0]), plain, "enough, so nothing is pruned");
        assert_eq!(of(&WORLDS[2]).format, Format::Float, "slower than floats");
        let goal = GoalArgs { size: Some(0.1), ..GoalArgs::default() };
        let formats: Vec<_> =
            WORLDS[0].search(&goal).iter().map(|trial| trial.variant.format).collect();
        assert!(formats.contains(&Format::Int4), "{formats:?}");
        let goal = GoalArgs { macs: Some(0.5), ..GoalArgs::default() };
        assert_eq!(of_one(&WORLDS[0], &goal), [Format::Float], "operations do not depend on bits");
    }

    fn of_one(world: &World, goal: &GoalArgs) -> Vec<Format> {
        world.search(goal).iter().map(|trial| trial.variant.format).collect()
    }

    #[test]
    fn accuracy_alone_goes_as_far_as_it_can() {
        let goal = GoalArgs { min_agreement: Some(0.984), ..GoalArgs::default() };
        let trials = WORLDS[0].search(&goal);
        let best = best(&trials, &goal);
        let (_, share) = best.variant.keep.expect("pruned");
        // 0.005 + 0.05 (1 - share)^2 is 0.0151 at a share of 0.55, and 0.023 at 0.4.
        assert_eq!(share, 0.55);
        assert!(best.meets() && !trials.last().expect("trials").meets());
        // Integers lose 0.005 as they are: too much, so floats are pruned a little.
        let goal = GoalArgs { min_agreement: Some(0.996), ..GoalArgs::default() };
        let world = World { float_lost: 0.0, ..WORLDS[0] };
        let trials = world.search(&goal);
        let best = self::best(&trials, &goal);
        assert_eq!((best.variant.format, best.meets()), (Format::Float, true), "{trials:#?}");
    }

    /// Weights of 4 bits that are slower than floats are not pruned to nothing for a goal of time.
    #[test]
    fn slow_integers_are_tried_once() {
        let goal = GoalArgs { latency: Some(0.6), size: Some(0.1), ..GoalArgs::default() };
        let trials = WORLDS[0].search(&goal);
        assert_eq!(of(&trials, Format::Int4).count(), 1, "{trials:#?}");
        assert!(best(&trials, &goal).meets());
    }
}
