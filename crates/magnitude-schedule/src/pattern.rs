//! Which weights may be zero together.

use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use tensor_core::{Error, Result};

/// The shape that zeros take in a weight seen as one row per output and, in each row, the inputs of
/// one tap of the kernel side by side ([`Grid`](crate::Grid)).
///
/// As text `unstructured`, `2:4`, `block:1x4` or `rows`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pattern {
    /// Any weight.
    #[default]
    Unstructured,
    /// `NM(n, m)`: of `m` consecutive inputs of a row at most `n` stay. Where the inputs are no
    /// multiple of `m`, the last `r` of each tap keep `n r / m` of theirs, rounded up.
    NM(usize, usize),
    /// `Block(outputs, inputs)`: rectangles of so many rows and consecutive inputs of a tap stay or
    /// go as a whole, within a group of a convolution; those at the edges may be smaller. A weight's
    /// count of zeros is then met as closely as whole blocks allow.
    Block(usize, usize),
    /// All weights of an output.
    Rows,
}

/// Largest group or block side.
const LARGEST: usize = 1024;

impl Pattern {
    /// Checks the numbers.
    ///
    /// # Errors
    /// `E0431` unless `1 <= n < m <= 1024` and block sides are from 1 to 1024.
    pub fn check(self) -> Result<Self> {
        let is_right = match self {
            Self::Unstructured | Self::Rows => true,
            Self::NM(n, m) => n >= 1 && n < m && m <= LARGEST,
            Self::Block(h, w) => (1..=LARGEST).contains(&h) && (1..=LARGEST).contains(&w),
        };
        match is_right {
            true => Ok(self),
            false => Err(Error::invalid(format!("`{self}` is no pattern"))
                .code_is("E0431")
                .hint("such as `unstructured`, `2:4`, `block:1x4` or `rows`")),
        }
    }

    /// The sparsity that the pattern itself has when it is complete: `1 - n/m` for N:M.
    pub fn own_sparsity(self) -> Option<f64> {
        match self {
            Self::NM(n, m) => Some(1.0 - n as f64 / m as f64),
            _ => None,
        }
    }

    /// Checks that weights of this pattern can have a sparsity.
    ///
    /// # Errors
    /// `E0431` when the sparsity is above what N:M has, `E0430` when it is not in `[0, 1)`.
    pub fn check_sparsity(self, sparsity: f64) -> Result<()> {
        if !(0.0..1.0).contains(&sparsity) {
            let message = format!("sparsity should be in [0, 1), but is {sparsity}");
            return Err(Error::invalid(message).code_is("E0430"));
        }
        match self.own_sparsity() {
            Some(most) if sparsity > most + 1e-9 => Err(Error::invalid(format!(
                "`{self}` has a sparsity of {:.1}%, not of {:.1}%",
                most * 100.0,
                sparsity * 100.0
            ))
            .code_is("E0431")),
            _ => Ok(()),
        }
    }

    /// How many of a group of `length` inputs may go, where groups matter.
    pub(crate) fn removable(n: usize, m: usize, length: usize) -> usize {
        length * (m - n) / m
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unstructured => f.write_str("unstructured"),
            Self::NM(n, m) => write!(f, "{n}:{m}"),
            Self::Block(h, w) => write!(f, "block:{h}x{w}"),
            Self::Rows => f.write_str("rows"),
        }
    }
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let pair = |text: &str, between: char| {
            let (a, b) = text.split_once(between)?;
            Some((a.parse::<usize>().ok()?, b.parse::<usize>().ok()?))
        };
        let block = text.strip_prefix("block:").and_then(|sides| pair(sides, 'x'));
        let parsed = match text {
            "unstructured" => Some(Self::Unstructured),
            "rows" => Some(Self::Rows),
            _ => block
                .map(|(h, w)| Self::Block(h, w))
                .or_else(|| pair(text, ':').map(|(n, m)| Self::NM(n, m))),
        };
        let unknown = || {
            Error::invalid(format!("`{text}` is no pattern"))
                .code_is("E0431")
                .hint("such as `unstructured`, `2:4`, `block:1x4` or `rows`")
        };
        parsed.ok_or_else(unknown)?.check()
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn texts() {
        for (text, pattern) in [
            ("unstructured", Pattern::Unstructured),
            ("2:4", Pattern::NM(2, 4)),
            ("block:4x1", Pattern::Block(4, 1)),
            ("rows", Pattern::Rows),
        ] {
            assert_eq!(text.parse::<Pattern>().unwrap(), pattern);
            assert_eq!(pattern.to_string(), text);
        }
        for wrong in ["4:2", "0:4", "4:4", "2:", "block:0x4", "block:4", "blocks", "2:9999"] {
            assert_eq!(wrong.parse::<Pattern>().unwrap_err().code(), "E0431", "{wrong}");
        }
    }

    #[test]
    fn n_of_m_limits_the_sparsity() {
        assert!(Pattern::NM(2, 4).check_sparsity(0.5).is_ok());
        assert_eq!(Pattern::NM(2, 4).check_sparsity(0.51).unwrap_err().code(), "E0431");
        assert_eq!(Pattern::Rows.check_sparsity(1.0).unwrap_err().code(), "E0430");
    }
}
