//! What may be spent.

use serde::Serialize;
use std::fmt;
use tensor_core::cost::hardware::LayerCost;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Microseconds of a run.
    Latency,
    /// Microjoules of a run.
    Energy,
    /// Bytes of the weights.
    Size,
}

impl Resource {
    /// The figure of a layer, where the device has it.
    pub fn of(self, cost: &LayerCost) -> Option<f64> {
        match self {
            Self::Latency => cost.latency_us,
            Self::Energy => cost.energy_uj,
            Self::Size => Some(cost.bytes),
        }
    }

    /// An amount with its unit.
    pub fn show(self, amount: f64) -> String {
        match self {
            Self::Latency if amount >= 1e3 => format!("{:.3} ms", amount / 1e3),
            Self::Latency => format!("{amount:.1} us"),
            Self::Energy if amount >= 1e3 => format!("{:.3} mJ", amount / 1e3),
            Self::Energy => format!("{amount:.1} uJ"),
            Self::Size if amount >= 1024.0 => format!("{:.1} KiB", amount / 1024.0),
            Self::Size => format!("{amount:.0} B"),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Latency => "latency",
            Self::Energy => "energy",
            Self::Size => "size",
        })
    }
}

/// How much of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// A share of what 8 bits everywhere take, in `(0, 1]`.
    Keep(f64),
    /// Microseconds, microjoules or bytes.
    AtMost(f64),
}

/// A limit on a resource.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Budget {
    /// What is limited.
    pub resource: Resource,
    /// To how much.
    pub limit: Limit,
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.limit {
            Limit::Keep(share) => {
                write!(f, "{:.1}% of the {} at 8 bits", share * 100.0, self.resource)
            }
            Limit::AtMost(amount) => write!(f, "at most {}", self.resource.show(amount)),
        }
    }
}
