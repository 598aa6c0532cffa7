//! Which trial comes next: a function of the goal and of what earlier trials reached.

use super::trial::{Excess, Trial};
use super::variant::{Format, Kept, Variant};
use crate::args::GoalArgs;
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

/// Least share that pruning is asked for.
const LEAST: f64 = 0.03;

/// Shares to keep where only accuracy is asked for.
const LADDER: [f64; 6] = [0.85, 0.7, 0.55, 0.4, 0.3, 0.2];

/// The next trial and why, or `None` when nothing is left that could be better.
pub(super) fn next(goal: &GoalArgs, trials: &[Trial], means: Means) -> Option<(Variant, String)> {
    let format = format(goal, trials)?;
    let own: Vec<&Trial> = trials.iter().filter(|trial| trial.variant.format == format).collect();
    let Some(last) = own.last() else { return Some(first(goal, trials, format, means)) };
    let (kept, share, why) = match goal.is_resource() {
        true => corrected(goal, &own)?,
        false => lower(&own, last)?,
    };
    let variant = Variant { format, keep: Some((kept, share)), epochs: means.epochs };
    let is_new = own.iter().all(|trial| trial.variant.name() != variant.name());
    is_new.then_some((variant, why))
}

/// The number format to go on with.
fn format(goal: &GoalArgs, trials: &[Trial]) -> Option<Format> {
    let of = |format: Format| trials.iter().filter(move |trial| trial.variant.format == format);
    let float = (!is_done(goal, of(Format::Float))).then_some(Format::Float);
    if goal.macs.is_some() && !goal.is_timed() && !goal.is_sized() {
        return float;
    }
    let Some(plain) = of(Format::Int8).next() else { return Some(Format::Int8) };
    // Integers that do not help are not worth their error.
    if plain.error.is_some() || (goal.is_timed() && is_slower(plain)) {
        return float;
    }
    if !is_done(goal, of(Format::Int8)) {
        return Some(Format::Int8);
    }
    let size = plain.excess(goal).and_then(|excess| excess.size).unwrap_or(0.0);
    (size > FAR_TOO_LARGE && !is_done(goal, of(Format::Int4))).then_some(Format::Int4)
}

/// Is there nothing left to be found with the number format of these trials?
fn is_done<'a>(goal: &GoalArgs, trials: impl Iterator<Item = &'a Trial> + Clone) -> bool {
    let is_just_enough = |trial: &Trial| {
        trial.excess(goal).is_some_and(|excess| {
            let worst = excess.worst();
            (UNUSED..=1.0).contains(&worst) || (worst <= 1.0 && trial.variant.keep.is_none())
        })
    };
    if !goal.is_resource() {
        return false;
    }
    trials.clone().count() >= TRIALS_PER_FORMAT
        || trials.clone().any(|trial| trial.error.is_some() || is_just_enough(trial))
}

fn is_slower(trial: &Trial) -> bool {
    let times = trial.measured.as_ref().and_then(|measured| measured.latency_us);
    times.is_some_and(|(before, after)| after > 0.95 * before)
}

/// The first trial with a number format.
fn first(goal: &GoalArgs, trials: &[Trial], format: Format, means: Means) -> (Variant, String) {
    let plain = Variant { format, keep: None, epochs: 0 };
    match format {
        Format::Int8 => {
            (plain, "integers of 8 bits: a quarter of the bytes at the least loss".to_owned())
        }
        Format::Int4 => {
            // Half the bytes of 8 bits, and pruning for the rest.
            let int8 = trials.iter().find(|trial| trial.variant.format == Format::Int8);
            let excess = int8.and_then(|trial| trial.excess(goal)).and_then(|e| e.size);
            let share = AIM / (excess.unwrap_or(1.0) * HALF);
            let why = "weights of 4 bits and less pruning in place of 8 bits and more".to_owned();
            match share < 1.0 {
                true => (
                    Variant { keep: Some((Kept::Size, share)), epochs: means.epochs, ..plain },
                    why,
                ),
                false => (plain, why),
            }
        }
        Format::Float => {
            let kept = if goal.is_sized() { Kept::Size } else { Kept::Macs };
            let share = goal.macs.or(goal.size).or(goal.latency).unwrap_or(0.5);
            let keep = Some((kept, share));
            let why = "fewer channels alone: integers would not help here".to_owned();
            (Variant { keep, epochs: means.epochs, ..plain }, why)
        }
    }
}

/// The share to keep with which a resource would be met, from the trials so far.
fn corrected(goal: &GoalArgs, own: &[&Trial]) -> Option<(Kept, f64, String)> {
    let last = own.last()?;
    let excess = last.excess(goal)?;
    let worst = excess.worst();
    let (kept, what) = binding(&excess);
    let share = last.variant.keep.map_or(1.0, |(_, share)| share);
    let power = own.iter().rev().skip(1).find_map(|other| slope(goal, other, last));
    let usual =
        if kept == Kept::Macs && excess.latency == Some(worst) { LATENCY_POWER } else { 1.0 };
    let power = power.unwrap_or(usual);
    let next = (share * (AIM / worst).powf(1.0 / power)).clamp(LEAST, 0.97);
    let why = format!(
        "{what} was {} of what is allowed with {} kept",
        units::percent(worst),
        units::percent(share)
    );
    Some((kept, next, why))
}

/// Which resource decides, and what pruning keeps to follow it.
fn binding(excess: &Excess) -> (Kept, &'static str) {
    let worst = excess.worst();
    match (excess.size == Some(worst), excess.latency == Some(worst)) {
        (true, _) => (Kept::Size, "the size"),
        (_, true) => (Kept::Macs, "the latency"),
        _ => (Kept::Macs, "the number of operations"),
    }
}

/// With which power of the kept share the excess grew between two trials, where that says something.
fn slope(goal: &GoalArgs, first: &Trial, second: &Trial) -> Option<f64> {
    let share = |trial: &Trial| trial.variant.keep.map_or(1.0, |(_, share)| share);
    let excess = |trial: &Trial| trial.excess(goal).map(|excess| excess.worst());
    let change = (excess(second)? / excess(first)?).ln() / (share(second) / share(first)).ln();
    (change.is_finite() && change > 0.0).then(|| change.clamp(0.3, 1.5))
}

/// The next lower share where only accuracy is asked for: as long as it is met.
fn lower(own: &[&Trial], last: &Trial) -> Option<(Kept, f64, String)> {
    if !last.meets() {
        return None;
    }
    let share = LADDER.get(own.len() - 1)?;
    Some((Kept::Macs, *share, "accuracy was still met".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::super::run::Measured;
    use super::*;

    /// A made-up network: what variants take of the original, and lose.
    struct World {
        /// Bytes and time that no pruning takes away, of the original's.
        fixed: f64,
        /// Power with which latency falls with operations.
        power: f64,
        /// Latency of integers, of floats.
        int8: f64,
    }

    impl World {
        fn try_out(&self, goal: &GoalArgs, (variant, why): (Variant, String)) -> Trial {
            let share = variant.keep.map_or(1.0, |(_, share)| share);
            let (bytes, speed) = match variant.format {
                Format::Float => (1.0, 1.0),
                Format::Int8 => (0.26, self.int8),
                Format::Int4 => (0.14, 3.0 * self.int8),
            };
            let bits = if variant.format == Format::Int4 { 0.02 } else { 0.005 };
            let time = 1000.0 * speed * (self.fixed + (1.0 - self.fixed) * share.powf(self.power));
            let size = 1e6 * (self.fixed * 0.1 + bytes * share);
            let lost = bits + 0.05 * (1.0 - share).powi(2);
            let mut measured = Measured {
                file_bytes: (1_000_000, size as u64),
                macs: (1_000_000, (1e6 * share) as u64),
                latency_us: Some((1000.0, time)),
                accuracy: None,
                agreement: Some(1.0 - lost),
                failures: Vec::new(),
            };
            let missed = goal.min_agreement.is_some_and(|least| 1.0 - lost < least);
            if missed || Excess::of(goal, &measured).worst() > 1.0 {
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
        World { fixed: 0.02, power: 1.0, int8: 0.4 },
        World { fixed: 0.15, power: 0.7, int8: 0.5 },
        World { fixed: 0.05, power: 0.9, int8: 1.1 },
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
                    let excess = best.excess(&goal).expect("measured").worst();
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
    }
}
