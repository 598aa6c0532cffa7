//! Flags of gates.

use crate::args::{BudgetArgs, RoundTo, TimeArgs, describe_budget};
use crate::{flags, input, units};
use clap::{Args, ValueEnum};
use gates_gdp::train::{Gater, Method, Rival, TrainParams};
use gates_gdp::{EpsSchedule, GateParams, Goal, Penalty, Prox, Rounding};
use lasso_prune::Limit;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::str::FromStr;
use tensor_core::cost::{Price, Resource};
use tensor_core::train::{Params, Plugin};
use tensor_core::{Error, ErrorKind, Graph, Result};

/// How channels are switched off.
#[derive(Debug, Args, Serialize)]
pub(crate) struct GatesArgs {
    #[command(flatten)]
    #[serde(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    #[serde(flatten)]
    time: TimeArgs,
    #[command(flatten)]
    #[serde(flatten)]
    method: MethodArgs,
}

#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Gates")]
struct MethodArgs {
    /// How channels are trained towards zero: gdp, or what it is measured against: sigmoid gates,
    /// slimming (L1 on the scales of BatchNormalization) or polarization (a regularizer on them).
    /// These are no exact zeros, so their weakest channels are cut with loss, to the budget and not
    /// to multiples
    #[arg(long, value_enum, value_name = "NAME", default_value_t = MethodArg::Gdp)]
    method: MethodArg,
    /// Weight of the penalty of the other methods [default: one per method, not tuned]
    #[arg(long, value_name = "WEIGHT")]
    strength: Option<f64>,
    /// Instead of a budget: a fixed price of the resource, such as 0.5; where it ends is open
    #[arg(long, value_name = "WEIGHT", conflicts_with_all = ["budget", "round_to", "gates_from", "gates_until"])]
    price: Option<f64>,
    /// What `--price` is for
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = ResourceArg::Macs, conflicts_with = "budget")]
    resource: ResourceArg,
    /// How gates close: l1 shrinks all of them until the smallest are 0, l0 cuts the smallest off
    #[arg(long, value_enum, value_name = "NORM", default_value_t = ProxArg::L1)]
    prox: ProxArg,
    /// How the shrink is spread: adaptive (less where a channel matters, with its exponent after a
    /// colon, such as `adaptive:1`) or uniform
    #[arg(long, value_name = "NAME", default_value = "adaptive")]
    penalty: PenaltyArg,
    /// Change of a gate per step by the loss, relative to the mean gradient
    #[arg(long, value_name = "RATE", default_value_t = GateParams::default().rate)]
    gate_lr: f64,
    /// Smoothness of the gates: one value, or begin, end and share of the run
    #[arg(long, value_name = "EPS", default_value_t = EpsSchedule::default(), value_parser = flags::read::<EpsSchedule>)]
    eps: EpsSchedule,
    /// Share of the run before channels close
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = units::parse_percentage)]
    gates_from: f64,
    /// Share of the run at which the budget is met; the rest recovers
    #[arg(long, value_name = "PERCENT", default_value = "35%", value_parser = units::parse_percentage)]
    gates_until: f64,
    /// Channel counts become multiples of N; `auto` is what the runtime's kernels like here, or a
    /// half, quarter, ... of it in layers where that is more than an eighth of the channels
    #[arg(long, value_name = "N", default_value = "auto")]
    round_to: RoundTo,
    /// One gate more for each residual branch, which closes it as a whole
    #[arg(long)]
    branches: bool,
    /// Leave groups alone, by id, root, layer or parameter; `*` matches any text (repeatable)
    #[arg(long, value_name = "PATTERN")]
    keep_channels: Vec<String>,
}

/// `--method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum MethodArg {
    /// Gates with differentiable polarization
    Gdp,
    /// Sigmoid gates under an L1 penalty
    Sigmoid,
    /// L1 on the scales of BatchNormalization
    Slimming,
    /// The polarization regularizer on these scales
    Polarization,
}

impl MethodArg {
    fn rival(self) -> Option<Method> {
        match self {
            Self::Gdp => None,
            Self::Sigmoid => Some(Method::Sigmoid),
            Self::Slimming => Some(Method::Slimming),
            Self::Polarization => Some(Method::Polarization),
        }
    }
}

/// `--resource`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum ResourceArg {
    /// Multiply-accumulates
    Macs,
    /// Parameters
    Parameters,
}

/// `--prox`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum ProxArg {
    /// Soft threshold
    L1,
    /// Hard threshold
    L0,
}

/// `--penalty`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(transparent)]
struct PenaltyArg(Penalty);

impl FromStr for PenaltyArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || "expected adaptive, adaptive:EXPONENT or uniform".to_owned();
        match (text, text.strip_prefix("adaptive:")) {
            ("adaptive", _) => Ok(Self(GateParams::default().penalty)),
            ("uniform", _) => Ok(Self(Penalty::Uniform)),
            (_, Some(power)) => {
                power.parse().map(|power| Self(Penalty::Adaptive(power))).map_err(|_| refuse())
            }
            _ => Err(refuse()),
        }
    }
}

impl GatesArgs {
    /// What the network is charged for.
    ///
    /// # Errors
    /// `E0010` for a device without a budget of time, or the other way round; when its table cannot be
    /// read.
    pub(super) fn price(&self) -> Result<Price> {
        let budget = self.time.budget()?.or_else(|| self.budget.budget());
        Ok(match (budget, self.method.resource) {
            (Some(budget), _) => budget.price,
            (None, ResourceArg::Macs) => Resource::Macs.into(),
            (None, ResourceArg::Parameters) => Resource::Parameters.into(),
        })
    }

    /// The goal in words.
    pub(super) fn goal(&self) -> String {
        match (self.time.limit(), self.budget.budget()) {
            (Some(Limit::Keep(share)), _) => format!("keep {} of the time", units::percent(share)),
            (Some(Limit::AtMost(most)), _) => format!("at most {most} microseconds"),
            (None, Some(budget)) => describe_budget(&budget),
            (None, None) => format!("price {}", self.method.price.unwrap_or_default()),
        }
    }

    /// What decides about a run: the flags, and what is in the table.
    ///
    /// # Errors
    /// `E0003` when the table cannot be read.
    pub(crate) fn identity(&self) -> Result<Value> {
        let mut identity = json!(self);
        if let Some(path) = self.time.table() {
            identity["cost"] = json!(input::sha256(path)?);
        }
        Ok(identity)
    }

    /// What is to be left.
    ///
    /// # Errors
    /// `E0010` when nothing says so.
    pub(super) fn gate_goal(&self) -> Result<Goal> {
        let limit = self.time.limit().or(self.budget.budget().map(|budget| budget.limit));
        match (limit, self.method.price) {
            (Some(Limit::Keep(share)), _) => Ok(Goal::Keep(share)),
            (Some(Limit::AtMost(most)), _) => Ok(Goal::AtMost(most)),
            (None, Some(price)) => Ok(Goal::Weight(price)),
            (None, None) => {
                Err(Error::new(ErrorKind::Invalid, "E0010", "no budget was given").hint(
                    "say what to keep: `--macs 50%`, `--params 50%`, `--size 60%` or `--latency 60%`, or \
                     an upper bound with `--max-macs 1.2G`, `--max-params 500k`, `--max-size 4MiB` or \
                     `--max-latency 4ms`",
                ))
            }
        }
    }

    /// The technique, for a run with these parameters.
    ///
    /// # Errors
    /// `E0010` without a goal; `E0440` when a parameter is out of range; `E0443` when the run is none
    /// for gates.
    pub(crate) fn plugin(
        &self,
        graph: &Graph,
        params: &Params,
        shapes: BTreeMap<String, Vec<usize>>,
    ) -> Result<Box<dyn Plugin>> {
        let method = &self.method;
        let goal = self.gate_goal()?;
        check_run(params)?;
        let gates = GateParams {
            goal,
            prox: match method.prox {
                ProxArg::L1 => Prox::Soft,
                ProxArg::L0 => Prox::Hard,
            },
            penalty: method.penalty.0,
            rate: method.gate_lr,
            begin: method.gates_from,
            end: method.gates_until,
            eps: method.eps,
            rounding: match method.round_to {
                RoundTo::To(n) => Rounding::To(n),
                auto @ RoundTo::Auto => Rounding::UpTo(auto.channels()),
            },
            ..GateParams::default()
        };
        let train = TrainParams {
            gates,
            resource: self.price()?,
            exclude: method.keep_channels.clone(),
            frozen: params.freeze.clone(),
            branches: method.branches,
            shapes,
            original: Some(graph.clone()),
        };
        match (method.method.rival(), method.strength) {
            (None, None) => Ok(Box::new(Gater::new(train)?)),
            (None, Some(_)) => Err(Error::new(
                ErrorKind::Invalid,
                "E0443",
                "the weight of the penalty follows from the budget",
            )
            .hint("leave out `--strength`, or choose a `--method` that needs it")),
            (Some(rival), strength) => {
                check_rival(&train, method.round_to)?;
                let strength = strength.unwrap_or(rival.default_strength());
                Ok(Box::new(Rival::new(rival, strength, params.rate, train)?))
            }
        }
    }
}

/// Refuses flags of gates for a method that has none.
fn check_rival(params: &TrainParams, round_to: RoundTo) -> Result<()> {
    let gates = &params.gates;
    let defaults =
        GateParams { goal: gates.goal, rounding: gates.rounding, ..GateParams::default() };
    if *gates == defaults && !params.branches && matches!(round_to, RoundTo::Auto | RoundTo::To(1))
    {
        return Ok(());
    }
    let message = "flags of gates are given, but the method has no such gates";
    Err(Error::new(ErrorKind::Invalid, "E0443", message).hint(
        "leave out `--prox`, `--penalty`, `--gate-lr`, `--eps`, `--gates-from`, `--gates-until`, \
         `--branches` and `--round-to`, or `--method`",
    ))
}

/// Refuses what gives weights of another moment than the gates.
fn check_run(params: &Params) -> Result<()> {
    let refuse = |message: &str, hint: &str| {
        Err(Error::new(ErrorKind::Invalid, "E0443", message).hint(hint.to_owned()))
    };
    if params.keep == tensor_core::train::Keep::Best {
        return refuse(
            "the most accurate weights may be those before channels closed",
            "leave out `--keep best`: the last weights are those of the small model",
        );
    }
    if params.average.is_some() {
        return refuse(
            "a moving average of the weights does not belong to the gates of the last step",
            "leave out `--ema`, and average when the small model is fine-tuned",
        );
    }
    Ok(())
}
