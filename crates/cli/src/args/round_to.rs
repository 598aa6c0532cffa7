//! Multiples that channel counts become.

use crate::alignment;
use serde::{Serialize, Serializer};
use std::str::FromStr;

/// `--round-to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RoundTo {
    /// As the CPU suggests.
    Auto,
    /// A number.
    To(usize),
}

impl RoundTo {
    /// The number.
    pub(crate) fn channels(self) -> usize {
        match self {
            Self::To(n) => n,
            Self::Auto => alignment::multiple(),
        }
    }
}

impl FromStr for RoundTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(n) if (1..=256).contains(&n) => Ok(Self::To(n)),
            _ if text == "auto" => Ok(Self::Auto),
            _ => Err("expected `auto` or a number from 1 to 256".to_owned()),
        }
    }
}

/// `auto` is not the same as its number, as it may give way where that costs much.
impl Serialize for RoundTo {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::To(n) => to.serialize_u64(*n as u64),
            Self::Auto => to.collect_str(&format_args!("auto: up to {}", self.channels())),
        }
    }
}
