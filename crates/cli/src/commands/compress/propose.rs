//! Which trial comes next: a function of the goal and of what earlier trials reached.

use super::trial::Trial;
use super::variant::{Format, Kept, Variant};
use crate::args::{GoalArgs, Limit, Spent};
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

/// How much too large 8 bits must be before 4 are tried first: to keep twice the weights of a network
/// that is pruned to less than half is worth more than the bits.
const FEWER_BITS_FIRST: f64 = 2.0;

/// Integers that take more than this share of the time of floats do not make the model faster.
const SLOWER: f64 = 0.95;

/// Most by which a correction changes the share: a measured time is not exact, and a line through two
/// goes far astray.
const MOST_CHANGE: f64 = 4.0;

/// Least share that pruning is asked for.
const LEAST: f64 = 0.03;

/// Shares to keep where only accuracy is asked for.
const LADDER: [f64; 6] = [0.85, 0.7, 0.55, 0.4, 0.3, 0.2];

/// The next trial and why, or `None` when nothing is left that could be better.
///
/// What a model takes does not depend on its training: the share to keep is found without, which
/// takes seconds, and only what was found is trained.
pub(super) fn next(goal: &GoalArgs, trials: &[Trial], means: Means) -> Option<(Variant, String)> {
    let format = format(goal, trials, means)?;
    let own: Vec<&Trial> = of(trials, format).collect();
    let Some(last) = own.last() else { return Some(first(goal, trials, format, means)) };
    if !goal.is_resource() {
        let (kept, share, why) = lower(last)?;
        return Some((Variant { format, keep: Some((kept, share)), epochs: means.epochs }, why));
    }
    untrained(goal, &own, format).or_else(|| {
        let variant = to_train(goal, &own, means)?;
        Some((variant, "nothing smaller is needed: now it is trained".to_owned()))
    })
}

/// The trials of a number format.
fn of(trials: &[Trial], format: Format) -> impl Iterator<Item = &Trial> {
    trials.iter().filter(move |trial| trial.variant.format == format)
}

fn is_new(own: &[&Trial], variant: &Variant) -> bool {
    own.iter().all(|trial| trial.variant.name() != variant.name())
}

/// The number format to go on with.
fn format(goal: &GoalArgs, trials: &[Trial], means: Means) -> Option<Format> {
    let open = |format: Format| (!is_done(goal, trials, format, means)).then_some(format);
    if goal.macs.is_some() && !goal.is_timed() && !goal.is_sized() {
        return open(Format::Float);
    }
    let Some(plain) = of(trials, Format::Int8).next() else { return Some(Format::Int8) };
    // Integers that do not help, or lose too much, are not worth their error.
    if is_useless(goal, plain) || (!goal.is_resource() && !plain.meets()) {
        return open(Format::Float);
    }
    let limits = plain.limits(goal)?;
    let size = limits.iter().find(|limit| limit.of == Spent::Size).map_or(0.0, Limit::excess);
    let formats: &[Format] = match size {
        size if size > FEWER_BITS_FIRST => &[Format::Int4, Format::Int8],
        size if size > FAR_TOO_LARGE => &[Format::Int8, Format::Int4],
        _ => &[Format::Int8],
    };
    formats.iter().copied().find_map(open)
}

/// Is there nothing left to be found with a number format?
fn is_done(goal: &GoalArgs, trials: &[Trial], format: Format, means: Means) -> bool {
    let own: Vec<&Trial> = of(trials, format).collect();
    match goal.is_resource() {
        true if own.is_empty() => false,
        true => untrained(goal, &own, format).is_none() && to_train(goal, &own, means).is_none(),
        false => own.iter().any(|trial| is_end(goal, trial)),
    }
}

/// The next share to keep, without training; `None` when it is found, or given up.
fn untrained(goal: &GoalArgs, own: &[&Trial], format: Format) -> Option<(Variant, String)> {
    let last = own.last()?;
    let excess = last.excess(goal);
    let is_just_enough = (UNUSED..=1.0).contains(&excess);
    let is_enough_as_it_is = excess <= 1.0 && last.variant.keep.is_none();
    let tried = own.iter().filter(|trial| trial.variant.epochs == 0).count();
    if is_end(goal, last) || is_just_enough || is_enough_as_it_is || tried >= TRIALS_PER_FORMAT {
        return None;
    }
    let (kept, share, why) = corrected(goal, own)?;
    let variant = Variant { format, keep: Some((kept, share)), epochs: 0 };
    is_new(own, &variant).then_some((variant, why))
}

/// The best of a number format, to be trained, unless that was done or would not help.
fn to_train(goal: &GoalArgs, own: &[&Trial], means: Means) -> Option<Variant> {
    let better = |a, b| if Trial::beats(b, a, goal) { b } else { a };
    let best = own.iter().copied().reduce(better)?;
    let variant = Variant { epochs: means.epochs, ..best.variant.clone() };
    let helps = means.epochs > 0 && best.variant.keep.is_some() && best.measured.is_some();
    (helps && is_new(own, &variant)).then_some(variant)
}

/// Does nothing follow a trial in its number format?
fn is_end(goal: &GoalArgs, trial: &Trial) -> bool {
    trial.error.is_some() || (trial.variant.format != Format::Float && is_useless(goal, trial))
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
    // Where only accuracy is asked for, each share is trained: it must be judged.
    let epochs = if goal.is_resource() { 0 } else { means.epochs };
    let pruned = |keep: (Kept, f64)| Variant { format, keep: Some(keep), epochs };
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
    let here = (kept_share(last), worst.excess());
    let share = here.0;
    let other = own.iter().rev().find(|other| kept_share(other) != share);
    let line = other.and_then(|other| {
        let limit = other.limits(goal)?.into_iter().find(|limit| limit.of == worst.of)?;
        secant((kept_share(other), limit.excess()), here)
    });
    let usual = if worst.of == Spent::Latency { LATENCY_POWER } else { 1.0 };
    let next = line
        .unwrap_or_else(|| share * (AIM / worst.excess()).powf(1.0 / usual))
        .clamp((share / MOST_CHANGE).max(LEAST), (share * MOST_CHANGE).min(0.97));
    let why = format!(
        "{} was {} of what is allowed with {} kept",
        worst.of.name(),
        units::percent(worst.excess()),
        units::percent(share)
    );
    Some((kept, next, why))
}

/// The share that pruning kept.
fn kept_share(trial: &Trial) -> f64 {
    trial.variant.keep.map_or(1.0, |(_, share)| share)
}

/// The share at which the line through two trials reaches the aim, given what each kept and took: some
/// of a model takes the same however much is pruned. `None` where they do not rise together.
fn secant(first: (f64, f64), second: (f64, f64)) -> Option<f64> {
    let slope = (first.1 - second.1) / (first.0 - second.0);
    (slope.is_finite() && slope > 0.0).then(|| second.0 + (AIM - second.1) / slope)
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
            let regained = if variant.epochs > 0 { 0.2 } else { 1.0 };
            let lost = bits + regained * 0.05 * (1.0 - share).powi(2);
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
            self.search_with(goal, Means { epochs: 0 })
        }

        fn search_with(&self, goal: &GoalArgs, means: Means) -> Vec<Trial> {
            let mut trials = Vec::new();
            while let Some(next) = next(goal, &trials, means) {
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

    /// What fits is trained, once for each number format, and the best of them is a trained one.
    #[test]
    fn only_what_fits_is_trained() {
        for world in &WORLDS {
            for goal in [
                GoalArgs { size: Some(0.1), ..GoalArgs::default() },
                GoalArgs { size: Some(0.2), ..GoalArgs::default() },
                GoalArgs { latency: Some(0.3), ..GoalArgs::default() },
                GoalArgs { macs: Some(0.4), ..GoalArgs::default() },
            ] {
                let trials = world.search_with(&goal, Means { epochs: 2 });
                let trained = |trial: &&Trial| trial.variant.epochs > 0;
                for format in [Format::Float, Format::Int8, Format::Int4] {
                    let own: Vec<&Trial> = of(&trials, format).filter(trained).collect();
                    assert!(own.len() <= 1, "{goal:?}: {trials:#?}");
                    assert!(own.iter().all(|trial| trial.meets()), "{goal:?}: {trials:#?}");
                }
                let best = best(&trials, &goal);
                assert!(best.meets() && best.variant.epochs == 2, "{goal:?}: {trials:#?}");
            }
        }
    }

    /// Where no share is small enough, the search of one format does not end that of the others, and
    /// what comes closest is trained.
    #[test]
    fn out_of_reach_all_is_tried() {
        let goal = GoalArgs { size: Some(0.05), ..GoalArgs::default() };
        let world = World { fixed: 0.6, ..WORLDS[0] };
        let trials = world.search_with(&goal, Means { epochs: 1 });
        for format in [Format::Int8, Format::Int4] {
            let trained = of(&trials, format).filter(|trial| trial.variant.epochs > 0);
            assert_eq!(trained.count(), 1, "{format:?}: {trials:#?}");
        }
        assert!(!best(&trials, &goal).meets());
    }

    /// Half of the weights with 4 bits lose less than a quarter with 8: they come first, lest time ends.
    #[test]
    fn few_bytes_begin_with_few_bits() {
        let goal = GoalArgs { size: Some(0.08), ..GoalArgs::default() };
        let trials = WORLDS[0].search_with(&goal, Means { epochs: 1 });
        let formats: Vec<Format> = trials.iter().map(|trial| trial.variant.format).collect();
        assert_eq!(formats[..2], [Format::Int8, Format::Int4], "{trials:#?}");
        assert_eq!(formats.last(), Some(&Format::Int8), "{trials:#?}");
    }
}
