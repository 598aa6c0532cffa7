//! How small the result must become: one budget, with its unit.

use crate::units;
use clap::Args;
use lasso_prune::{Budget, Limit};
use serde::Serialize;
use tensor_core::cost::{Price, Resource};

/// The budget flags; at most one may be given.
#[derive(Debug, Clone, Args, Serialize)]
#[group(id = "budget", required = false, multiple = false)]
#[command(next_help_heading = "Budget (exactly one)")]
pub(crate) struct BudgetArgs {
    /// Share of the multiply-accumulates to keep, such as `50%`
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_kept)]
    macs: Option<f64>,
    /// Multiply-accumulates at most, such as `1.2G`
    #[arg(long, value_name = "COUNT", value_parser = units::parse_count)]
    max_macs: Option<u64>,
    /// Share of the parameters to keep, such as `50%`
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_kept)]
    params: Option<f64>,
    /// Parameters at most, such as `500k`
    #[arg(long, value_name = "COUNT", value_parser = units::parse_count)]
    max_params: Option<u64>,
    /// Share of the bytes of all constants to keep, such as `60%`
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_kept)]
    size: Option<f64>,
    /// Bytes of all constants at most, such as `4MiB`
    #[arg(long, value_name = "BYTES", value_parser = units::parse_bytes)]
    max_size: Option<u64>,
}

impl BudgetArgs {
    /// The budget, if one was given.
    pub(crate) fn budget(&self) -> Option<Budget> {
        let flags = [
            (Resource::Macs, self.macs, self.max_macs),
            (Resource::Parameters, self.params, self.max_params),
            (Resource::Bytes, self.size, self.max_size),
        ];
        flags.into_iter().find_map(|(resource, share, most)| {
            let most = most.map(|most| Limit::AtMost(most as f64));
            let limit = share.map(Limit::Keep).or(most)?;
            Some(Budget { price: resource.into(), limit })
        })
    }
}

/// A budget in words.
pub(crate) fn describe(budget: &Budget) -> String {
    match (budget.limit, &budget.price) {
        (Limit::Keep(share), Price::Latency(device)) => {
            format!("keep {} of the time on {}", units::percent(share), device.name())
        }
        (Limit::Keep(share), price) => {
            format!("keep {} of the {}", units::percent(share), price.unit())
        }
        (Limit::AtMost(most), Price::Count(Resource::Bytes)) => {
            format!("at most {}", units::bytes(most as u64))
        }
        (Limit::AtMost(most), Price::Latency(device)) => {
            format!("at most {} on {}", units::milliseconds(most / 1000.0), device.name())
        }
        (Limit::AtMost(most), price) => {
            format!("at most {} {}", units::si(most as u64), price.unit())
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

    fn parse(args: &[&str]) -> Result<Option<String>, clap::Error> {
        let args = std::iter::once("probe").chain(args.iter().copied());
        Probe::try_parse_from(args).map(|probe| probe.budget.budget().as_ref().map(describe))
    }

    #[test]
    fn at_most_one_with_its_unit() {
        for (args, expected) in [
            (&["--macs", "50%"][..], Some("keep 50.0% of the MACs")),
            (&["--max-macs", "1.2G"], Some("at most 1.20 G MACs")),
            (&["--params", "33.3%"], Some("keep 33.3% of the parameters")),
            (&["--max-params", "500"], Some("at most 500 parameters")),
            (&["--size", "60%"], Some("keep 60.0% of the bytes")),
            (&["--max-size", "4MiB"], Some("at most 4.00 MiB")),
            (&[], None),
        ] {
            assert_eq!(parse(args).ok(), Some(expected.map(str::to_owned)), "{args:?}");
        }
        assert!(parse(&["--macs", "50%", "--params", "50%"]).is_err());
    }
}
