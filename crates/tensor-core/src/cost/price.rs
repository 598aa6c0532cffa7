//! What a network is charged for: something that is counted, or the time of a device.

use super::hardware::{FLOAT_BITS, Hardware, LayerShape, sum_of_layers};
use super::{Resource, cost};
use crate::graph::Graph;
use crate::run::Facts;
use crate::{Error, Result};
use std::fmt;
use std::sync::Arc;

/// What a network is charged for.
#[derive(Clone)]
pub enum Price {
    /// What can be counted in it.
    Count(Resource),
    /// Microseconds that it takes a device in 32-bit floats, by its layers.
    Latency(Arc<dyn Hardware>),
}

impl Price {
    /// Of a whole graph.
    ///
    /// # Errors
    /// As [`cost`] and [`sum_of_layers`].
    pub fn of(&self, graph: &Graph, facts: &Facts) -> Result<f64> {
        match self {
            Self::Count(resource) => Ok(cost(graph, facts)?.of(*resource) as f64),
            Self::Latency(device) => {
                Ok(device.network().at(sum_of_layers(&**device, graph, facts)?))
            }
        }
    }

    /// What is counted, in the plural.
    pub fn unit(&self) -> &'static str {
        match self {
            Self::Count(Resource::Macs) => "MACs",
            Self::Count(Resource::Parameters) => "parameters",
            Self::Count(Resource::Bytes) => "bytes",
            Self::Latency(_) => "microseconds",
        }
    }
}

impl From<Resource> for Price {
    fn from(resource: Resource) -> Self {
        Self::Count(resource)
    }
}

impl fmt::Debug for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(resource) => write!(f, "{resource:?}"),
            Self::Latency(device) => write!(f, "Latency({})", device.name()),
        }
    }
}

/// Microseconds of a layer in 32-bit floats.
///
/// # Errors
/// `E0559` when the device has no figures of latency; as [`Hardware::cost`].
pub fn layer_latency(device: &dyn Hardware, shape: &LayerShape) -> Result<f64> {
    let found = device.cost(shape, FLOAT_BITS, FLOAT_BITS)?.latency_us;
    found.ok_or_else(|| {
        Error::unsupported(format!("`{}` has no figures of latency", device.name()))
            .code_is("E0559")
            .hint("limit another resource, or take another device")
    })
}
