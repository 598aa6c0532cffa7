//! What a result must reach against the model that it was made of.

use crate::units;
use clap::Args;
use serde::{Deserialize, Serialize};

/// Goals; each that is given must be met.
#[derive(Debug, Clone, Default, Args, Serialize)]
#[command(next_help_heading = "Goal")]
pub(crate) struct GoalArgs {
    /// Measured latency at most this share of the original's, such as `50%`
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_kept)]
    pub(crate) latency: Option<f64>,
    /// Measured latency of one sample at most, such as `4ms` or `900us`
    #[arg(long, value_name = "TIME", value_parser = units::parse_time)]
    pub(crate) max_latency: Option<f64>,
    /// Bytes of the file at most this share of the original's, such as `25%`
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_kept)]
    pub(crate) size: Option<f64>,
    /// Bytes of the file at most, such as `4MiB`
    #[arg(long, value_name = "BYTES", value_parser = units::parse_bytes)]
    pub(crate) max_size: Option<u64>,
    /// Multiply-accumulates at most this share of the original's, such as `50%`
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_kept)]
    pub(crate) macs: Option<f64>,
    /// Most points of top-1 accuracy that may be lost, such as `0.5%`; needs labels
    #[arg(long, value_name = "POINTS", value_parser = units::parse_percentage)]
    pub(crate) max_drop: Option<f64>,
    /// Least share of samples for which both name the same class, such as `95%`; needs no labels
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_share)]
    pub(crate) min_agreement: Option<f64>,
}

/// What a goal is for, beside accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spent {
    /// Bytes of the file.
    Size,
    /// Microseconds for one sample.
    Latency,
    /// Multiply-accumulates.
    Macs,
}

/// A model's numbers and those of what was made of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Weighed {
    /// Bytes of the file.
    pub(crate) file_bytes: (u64, u64),
    /// Multiply-accumulates.
    pub(crate) macs: (u64, u64),
    /// Median latency of one sample; absent where it could not be measured.
    pub(crate) latency_us: Option<(f64, f64)>,
}

/// What a result takes of a resource, and what it may.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limit {
    pub(crate) of: Spent,
    pub(crate) original: f64,
    /// Infinite where it could not be measured.
    pub(crate) found: f64,
    pub(crate) allowed: f64,
}

impl Limit {
    /// The share of what is allowed: 1 is just enough, more is too much.
    pub(crate) fn excess(&self) -> f64 {
        self.found / self.allowed
    }

    /// Says so when it is too much.
    pub(crate) fn missed(&self) -> Option<String> {
        if self.excess() <= 1.0 {
            return None;
        }
        let (found, allowed) = (self.show(self.found), self.show(self.allowed));
        let share = units::percent(self.found / self.original);
        let what = self.of.name();
        Some(match self.found.is_finite() {
            true => format!("{what}: {found}, more than {allowed} ({share} of the original's)"),
            false => format!("{what} could not be measured"),
        })
    }

    fn show(&self, value: f64) -> String {
        match self.of {
            Spent::Size => units::bytes(value as u64),
            Spent::Latency => units::milliseconds(value / 1000.0),
            Spent::Macs => units::si(value as u64),
        }
    }
}

impl Spent {
    /// In sentences.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Size => "the size of the file",
            Self::Latency => "the latency",
            Self::Macs => "the number of multiply-accumulates",
        }
    }
}

impl GoalArgs {
    /// Is there any goal?
    pub(crate) fn is_any(&self) -> bool {
        self.is_resource() || self.max_drop.is_some() || self.min_agreement.is_some()
    }

    /// Is there a goal for what the model takes, beside those for its accuracy?
    pub(crate) fn is_resource(&self) -> bool {
        self.is_timed() || self.is_sized() || self.macs.is_some()
    }

    /// Is there a goal for the bytes of the file?
    pub(crate) fn is_sized(&self) -> bool {
        self.size.is_some() || self.max_size.is_some()
    }

    /// Does it need a measured latency?
    pub(crate) fn is_timed(&self) -> bool {
        self.latency.is_some() || self.max_latency.is_some()
    }

    /// What is asked of these numbers. Of a relative and an absolute limit the lower one counts.
    pub(crate) fn limits(&self, weighed: &Weighed) -> Vec<Limit> {
        let float = |(before, after): (u64, u64)| (before as f64, after as f64);
        let most = self.max_size.map(|bytes| bytes as f64);
        let times = weighed.latency_us.unwrap_or((f64::INFINITY, f64::INFINITY));
        let all = [
            (Spent::Size, float(weighed.file_bytes), self.size, most),
            (Spent::Latency, times, self.latency, self.max_latency),
            (Spent::Macs, float(weighed.macs), self.macs, None),
        ];
        let limit = |(of, (original, found), kept, most): (Spent, _, Option<f64>, Option<f64>)| {
            let relative = kept.map(|kept| kept * original);
            let allowed = [relative, most].into_iter().flatten().reduce(f64::min)?;
            // What cannot be measured is not within any limit.
            let allowed = if allowed.is_finite() { allowed } else { 1.0 };
            Some(Limit { of, original, found, allowed })
        };
        all.into_iter().filter_map(limit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHED: Weighed =
        Weighed { file_bytes: (1000, 300), macs: (2000, 2000), latency_us: Some((80.0, 50.0)) };

    fn missed(goal: &GoalArgs, weighed: &Weighed) -> Vec<String> {
        goal.limits(weighed).iter().filter_map(Limit::missed).collect()
    }

    #[test]
    fn of_two_limits_the_lower_one_counts() {
        let goal = GoalArgs { size: Some(0.5), max_size: Some(200), ..GoalArgs::default() };
        assert_eq!(goal.limits(&WEIGHED)[0].allowed, 200.0);
        let goal = GoalArgs { size: Some(0.1), ..goal };
        assert_eq!(goal.limits(&WEIGHED)[0].allowed, 100.0);
        assert_eq!(
            missed(&goal, &WEIGHED),
            ["the size of the file: 300 B, more than 100 B (30.0% of the original's)"]
        );
    }

    #[test]
    fn just_enough_is_enough() {
        let goal = GoalArgs { size: Some(0.3), macs: Some(1.0), ..GoalArgs::default() };
        assert_eq!(missed(&goal, &WEIGHED), Vec::<String>::new());
        let goal = GoalArgs { latency: Some(0.624), ..GoalArgs::default() };
        assert_eq!(missed(&goal, &WEIGHED).len(), 1);
    }

    #[test]
    fn what_is_not_measured_is_missed() {
        let weighed = Weighed { latency_us: None, ..WEIGHED };
        for goal in [
            GoalArgs { latency: Some(0.9), ..GoalArgs::default() },
            GoalArgs { max_latency: Some(1e9), ..GoalArgs::default() },
        ] {
            assert_eq!(missed(&goal, &weighed), ["the latency could not be measured"]);
        }
        assert_eq!(missed(&GoalArgs::default(), &weighed), Vec::<String>::new());
    }
}
