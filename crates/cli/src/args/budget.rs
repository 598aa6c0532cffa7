//! How small the result must become: exactly one budget, with its unit.

use crate::units;
use clap::Args;
use serde::Serialize;

/// What a budget counts, and how much of it may remain.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Budget {
    /// Multiply-accumulates.
    Macs(Amount),
    /// Float parameters.
    Parameters(Amount),
    /// Bytes of all constants.
    Bytes(Amount),
}

/// How much may remain.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Amount {
    /// A share of the original, in (0, 1].
    Keep(f64),
    /// A number.
    AtMost(u64),
}

/// The budget flags; exactly one is needed.
#[derive(Debug, Clone, Args, Serialize)]
#[group(id = "budget", required = true, multiple = false)]
#[command(next_help_heading = "Budget (exactly one)")]
pub(crate) struct BudgetArgs {
    /// Share of the multiply-accumulates to keep, such as `50%`
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_share)]
    macs: Option<f64>,
    /// Multiply-accumulates at most, such as `1.2G`
    #[arg(long, value_name = "COUNT", value_parser = units::parse_count)]
    max_macs: Option<u64>,
    /// Share of the parameters to keep, such as `50%`
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_share)]
    params: Option<f64>,
    /// Parameters at most, such as `500k`
    #[arg(long, value_name = "COUNT", value_parser = units::parse_count)]
    max_params: Option<u64>,
    /// Share of the bytes to keep, such as `60%`
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_share)]
    size: Option<f64>,
    /// Bytes at most, such as `4MiB`
    #[arg(long, value_name = "BYTES", value_parser = units::parse_bytes)]
    max_size: Option<u64>,
}

impl BudgetArgs {
    /// The budget that was given; `None` only when the parser let none through.
    pub(crate) fn budget(&self) -> Option<Budget> {
        use Amount::{AtMost, Keep};
        let macs = self.macs.map(Keep).or(self.max_macs.map(AtMost)).map(Budget::Macs);
        let params = self.params.map(Keep).or(self.max_params.map(AtMost)).map(Budget::Parameters);
        let size = self.size.map(Keep).or(self.max_size.map(AtMost)).map(Budget::Bytes);
        macs.or(params).or(size)
    }
}

impl std::fmt::Display for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (what, amount) = match self {
            Self::Macs(amount) => ("MACs", amount),
            Self::Parameters(amount) => ("parameters", amount),
            Self::Bytes(amount) => ("bytes", amount),
        };
        match (amount, self) {
            (Amount::Keep(share), _) => write!(f, "keep {} of {what}", units::percent(*share)),
            (Amount::AtMost(n), Self::Bytes(_)) => write!(f, "at most {}", units::bytes(*n)),
            (Amount::AtMost(n), _) => write!(f, "at most {} {what}", units::si(*n)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Probe {
        #[command(flatten)]
        budget: BudgetArgs,
    }

    fn parse(args: &[&str]) -> Option<Budget> {
        let args = std::iter::once("probe").chain(args.iter().copied());
        Probe::try_parse_from(args).ok().and_then(|probe| probe.budget.budget())
    }

    #[test]
    fn exactly_one() {
        assert_eq!(parse(&["--macs", "50%"]), Some(Budget::Macs(Amount::Keep(0.5))));
        assert_eq!(parse(&["--max-size", "4MiB"]), Some(Budget::Bytes(Amount::AtMost(4 << 20))));
        assert_eq!(
            parse(&["--max-params", "500k"]),
            Some(Budget::Parameters(Amount::AtMost(500_000)))
        );
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&["--macs", "50%", "--params", "50%"]), None);
    }

    #[test]
    fn shown_with_unit() {
        assert_eq!(Budget::Macs(Amount::Keep(0.5)).to_string(), "keep 50.0% of MACs");
        assert_eq!(Budget::Bytes(Amount::AtMost(4 << 20)).to_string(), "at most 4.00 MiB");
        assert_eq!(Budget::Parameters(Amount::AtMost(500)).to_string(), "at most 500 parameters");
    }
}
