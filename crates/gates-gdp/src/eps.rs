//! How `eps` goes over a run.

use crate::params::{check_eps, out_of_range};
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use tensor_core::{Error, Result};

/// `eps` over a run: `first` until a share `from` of it, then by a constant factor per step down to
/// `last` at the share `until`.
///
/// As text `0.1`, `0.1:0.0001` or `0.1:0.0001@50%-75%`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpsSchedule {
    /// At the begin, above 0.
    pub first: f64,
    /// At the end, above 0.
    pub last: f64,
    /// Share of the run before it changes, in `[0, 1]`.
    pub from: f64,
    /// Share of the run after which it stays, at least `from`.
    pub until: f64,
}

impl Default for EpsSchedule {
    fn default() -> Self {
        Self { first: 0.1, last: 1e-8, from: 0.5, until: 0.75 }
    }
}

impl EpsSchedule {
    /// The same all the time.
    pub fn constant(eps: f64) -> Self {
        Self { first: eps, last: eps, ..Self::default() }
    }

    /// Checks ranges.
    ///
    /// # Errors
    /// `E0440` names what is out of range.
    pub fn check(&self) -> Result<()> {
        check_eps(self.first)?;
        check_eps(self.last)?;
        if !(0.0..=1.0).contains(&self.from) || !(self.from..=1.0).contains(&self.until) {
            let found = format!("{}-{}", self.from, self.until);
            return Err(out_of_range("eps interval", found, "within 0 to 1, not turned around"));
        }
        Ok(())
    }

    /// The value at a step in `0..steps`.
    pub fn at(&self, step: u64, steps: u64) -> f64 {
        let done = step as f64 / steps.max(1) as f64;
        let length = self.until - self.from;
        let share = match length > 0.0 {
            true => ((done - self.from) / length).clamp(0.0, 1.0),
            false => f64::from(u8::from(done >= self.from)),
        };
        match share {
            0.0 => self.first,
            1.0 => self.last,
            share => self.first * (self.last / self.first).powf(share),
        }
    }
}

impl fmt::Display for EpsSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.last != self.first {
            let [from, until] = [self.from, self.until].map(|share| share * 100.0);
            write!(f, ":{}@{from}%-{until}%", self.last)?;
        }
        Ok(())
    }
}

impl Serialize for EpsSchedule {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl FromStr for EpsSchedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = || {
            Error::invalid(format!("`{text}` is no schedule of eps"))
                .code_is("E0440")
                .hint("one value such as `0.1`, two such as `0.1:0.0001`, or with the share of the run `0.1:0.0001@50%-75%`")
        };
        let number = |text: &str| text.trim().parse::<f64>().map_err(|_| refuse());
        let share = |text: &str| {
            text.trim().strip_suffix('%').ok_or_else(refuse).and_then(|t| Ok(number(t)? / 100.0))
        };
        let (values, interval) = match text.split_once('@') {
            Some((values, interval)) => (values, Some(interval)),
            None => (text, None),
        };
        let mut schedule = match values.split_once(':') {
            Some((first, last)) => {
                Self { first: number(first)?, last: number(last)?, ..Self::default() }
            }
            None => Self::constant(number(values)?),
        };
        if let Some(interval) = interval {
            let (from, until) = interval.split_once('-').ok_or_else(refuse)?;
            (schedule.from, schedule.until) = (share(from)?, share(until)?);
        }
        schedule.check()?;
        Ok(schedule)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn forms() {
        for text in ["0.1", "0.1:0.0001@50%-75%", "0.01:0.1@0%-100%"] {
            assert_eq!(text.parse::<EpsSchedule>().unwrap().to_string(), text);
        }
        assert_eq!("0.1:1e-8".parse::<EpsSchedule>().unwrap(), EpsSchedule::default());
        for wrong in ["", "0", "-1", "x", "0.1:", "0.1:0@0%-1%", "1@5", "1:2@9%-3%", "1@0-1", "NaN"]
        {
            assert_eq!(wrong.parse::<EpsSchedule>().unwrap_err().code(), "E0440", "{wrong}");
        }
    }

    #[test]
    fn it_stays_falls_and_stays() {
        let schedule = EpsSchedule { first: 0.1, last: 0.001, from: 0.5, until: 0.75 };
        let at = |step| schedule.at(step, 8);
        assert_eq!([at(0), at(4), at(6), at(7)], [0.1, 0.1, 0.001, 0.001]);
        assert!((at(5) - 0.01).abs() < 1e-12);
        let at_once = EpsSchedule { from: 0.5, until: 0.5, ..schedule };
        assert_eq!([at_once.at(3, 8), at_once.at(4, 8)], [0.1, 0.001]);
    }
}
