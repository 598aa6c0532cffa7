//! Parameters of the optimizer of gates.

use crate::controller::Lumping;
use crate::{EpsSchedule, Prox};
use serde::Serialize;
use std::fmt;
use tensor_core::{Error, Result};

/// What the resource term is for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// Keep this share of the resource, in `(0, 1]`.
    Keep(f64),
    /// Keep at most this much of it, above 0.
    AtMost(f64),
    /// No end: a fixed weight of the term, at least 0, in steps of the rate for a gate of mean importance.
    /// Widths are no multiples then, and nothing closes once `eps` falls.
    Weight(f64),
}

/// How the shrink is spread over the gates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Penalty {
    /// `A_u / q^power` of each gate, where `q` is the running root mean square of
    /// `gate * dL/dgate`, the importance of the channel (Molchanov et al., "Importance estimation for
    /// neural network pruning", 2019): an adaptive LASSO (Zou, 2006).
    Adaptive(f64),
    /// `A_u / rms_u` of each gate, where `rms_u` is that of the gradients of its list: the plain L1 norm of
    /// the relaxation, against gates that move by their gradient over `rms_u`.
    Uniform,
}

/// Widths that are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// Multiples of this number, at least 1.
    To(usize),
    /// Multiples of this number, or of its half, quarter, ... in lists where it is more than an
    /// eighth of the width; one list ends between two where the goal would be missed by 1 % otherwise.
    UpTo(usize),
}

impl Rounding {
    /// Gates that close together in a list of so many.
    pub(crate) fn lump(self, width: usize) -> Lumping {
        /// Widths that a list should be able to have, at least.
        const WIDTHS: usize = 8;
        match self {
            Self::To(size) => Lumping { size, may_split: false },
            Self::UpTo(mut n) => {
                while n > 1 && n * WIDTHS > width {
                    n /= 2;
                }
                Lumping { size: n, may_split: true }
            }
        }
    }
}

/// Parameters of [`GateOptimizer`](crate::GateOptimizer).
///
/// | name | default | purpose | range |
/// | --- | --- | --- | --- |
/// | `goal` | keep 50 % | where shrinking ends | see [`Goal`] |
/// | `prox` | soft | L1 or L0 | see [`Prox`] |
/// | `penalty` | adaptive, power 2 | how the shrink is spread | power in `[0, 4]` |
/// | `rate` | 0.003 | change of a gate per step by the task, relative to the root mean square of its list's gradients | `>= 0` |
/// | `momentum` | 0.9 | of that change | `[0, 1)` |
/// | `begin`, `end` | 5 %, 35 % | share of the run in which the resource falls to the goal | `0 <= begin <= end <= 1` |
/// | `curve` | 2 | exponent of the line that it falls along | `>= 1` |
/// | `eps` | 0.1, then to 1e-8 from 50 % to 75 % | see [`EpsSchedule`] | above 0 |
/// | `rounding` | no | widths that are multiples | at least 1 |
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateParams {
    /// Where shrinking ends.
    pub goal: Goal,
    /// L1 or L0.
    pub prox: Prox,
    /// How the shrink is spread over the gates.
    pub penalty: Penalty,
    /// Change of a gate per step by the task, relative to the root mean square gradient.
    pub rate: f64,
    /// Momentum of that change.
    pub momentum: f64,
    /// Share of the run before which nothing shrinks.
    pub begin: f64,
    /// Share of the run after which nothing shrinks.
    pub end: f64,
    /// Exponent of the line along which the resource falls.
    pub curve: f64,
    /// How `eps` goes over the run.
    pub eps: EpsSchedule,
    /// Widths that are multiples.
    pub rounding: Rounding,
}

impl Default for GateParams {
    fn default() -> Self {
        Self {
            goal: Goal::Keep(0.5),
            prox: Prox::Soft,
            penalty: Penalty::Adaptive(2.0),
            rate: 0.003,
            momentum: 0.9,
            begin: 0.05,
            end: 0.35,
            curve: 2.0,
            eps: EpsSchedule::default(),
            rounding: Rounding::To(1),
        }
    }
}

impl GateParams {
    /// Checks every range.
    ///
    /// # Errors
    /// `E0440` names the parameter, its value and its range.
    pub fn check(&self) -> Result<()> {
        self.eps.check()?;
        let is = |ok: bool, name: &str, found: f64, range: &str| match ok {
            true => Ok(()),
            false => Err(out_of_range(name, found, range)),
        };
        match self.goal {
            Goal::Keep(share) => is(share > 0.0 && share <= 1.0, "share", share, "in (0, 1]")?,
            Goal::AtMost(most) => is(most > 0.0 && most.is_finite(), "most", most, "above 0")?,
            Goal::Weight(w) => is(w >= 0.0 && w.is_finite(), "weight", w, "at least 0")?,
        }
        if let Penalty::Adaptive(power) = self.penalty {
            is((0.0..=4.0).contains(&power), "power", power, "in [0, 4]")?;
        }
        is(self.rate >= 0.0 && self.rate.is_finite(), "gate_lr", self.rate, "at least 0")?;
        is((0.0..1.0).contains(&self.momentum), "momentum", self.momentum, "in [0, 1)")?;
        is((0.0..=1.0).contains(&self.begin), "gates_from", self.begin, "in [0, 1]")?;
        is(
            (self.begin..=1.0).contains(&self.end),
            "gates_until",
            self.end,
            "from `gates_from` to 1",
        )?;
        is((1.0..=9.0).contains(&self.curve), "curve", self.curve, "in [1, 9]")?;
        let (Rounding::To(n) | Rounding::UpTo(n)) = self.rounding;
        is(n > 0, "rounding", n as f64, "at least 1")
    }
}

pub(crate) fn check_eps(eps: f64) -> Result<()> {
    match eps.is_finite() && (1e-12..=1e6).contains(&eps) {
        true => Ok(()),
        false => Err(out_of_range("eps", eps, "in [1e-12, 1e6]")),
    }
}

pub(crate) fn out_of_range(name: &str, found: impl fmt::Display, range: &str) -> Error {
    Error::invalid(format!("`{name}` is {found}, but must be {range}"))
        .code_is("E0440")
        .hint(format!("give another `{name}`"))
}
