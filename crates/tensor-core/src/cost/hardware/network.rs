//! From the time of single layers to that of a network.
//!
//! Layers that are timed one by one do not add up to a network: each run has a cost of its own, what lies
//! between layers takes time too (additions, poolings), and inside a network inputs are already in the
//! cache. So whole networks are timed as well, at full and at narrower widths, and the time of other
//! widths follows from the sum of their layers by interpolation between these.

use super::Hardware;
use super::layer::layers;
use crate::cost::price::layer_latency;
use crate::graph::Graph;
use crate::run::Facts;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// A whole network that was timed, and what the table says of its layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkRow {
    /// Name of the model, with the share of the channels that it kept.
    pub network: String,
    /// Sum of the latencies of its layers in 32-bit floats, in microseconds.
    pub layers_us: f64,
    /// Median latency of the network in microseconds.
    pub latency_us: f64,
    /// Timed runs.
    #[serde(default)]
    pub n: usize,
    /// Spread of their times.
    #[serde(default)]
    pub std_us: f64,
}

impl NetworkRow {
    /// Are its figures times?
    pub(super) fn is_valid(&self) -> bool {
        let is_time = |time: f64| time.is_finite() && time > 0.0;
        is_time(self.layers_us) && is_time(self.latency_us)
    }
}

/// The time of a network as a function of the sum of its layers: linear between the networks that were
/// timed, and proportional below the smallest and above the largest. Without any it is the sum itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NetworkTime {
    /// Sums of layers, ascending, and times, both rising.
    knots: Vec<(f64, f64)>,
}

impl NetworkTime {
    /// Through these networks. Where one is faster than another of smaller layers, by noise or because
    /// engines like some numbers of channels more, the mean of both stands for both, so that time always
    /// rises with the sum.
    pub fn through(networks: &[NetworkRow]) -> Self {
        let mut rows: Vec<_> = networks.iter().map(|row| (row.layers_us, row.latency_us)).collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        // Sums of both figures, and of how many networks.
        let mut pools: Vec<(f64, f64, f64)> = Vec::new();
        for (layers, time) in rows {
            let mut pool = (layers, time, 1.0);
            while let Some(last) = pools.last().copied() {
                if last.1 / last.2 < pool.1 / pool.2 && last.0 / last.2 < pool.0 / pool.2 {
                    break;
                }
                pool = (pool.0 + last.0, pool.1 + last.1, pool.2 + last.2);
                pools.pop();
            }
            pools.push(pool);
        }
        Self { knots: pools.into_iter().map(|(s, t, n)| (s / n, t / n)).collect() }
    }

    /// The time of a network whose layers take `sum` microseconds.
    pub fn at(&self, sum: f64) -> f64 {
        let (low, slope) = self.piece(sum);
        low.1 + slope * (sum - low.0)
    }

    /// What a microsecond more in the layers adds there.
    pub fn slope(&self, sum: f64) -> f64 {
        self.piece(sum).1
    }

    /// A knot of the piece that holds a sum, and its slope.
    fn piece(&self, sum: f64) -> ((f64, f64), f64) {
        const ORIGIN: (f64, f64) = (0.0, 0.0);
        let above = self.knots.partition_point(|knot| knot.0 < sum);
        match (above.checked_sub(1).map(|below| self.knots[below]), self.knots.get(above)) {
            (None, None) => (ORIGIN, 1.0),
            (None, Some(first)) => (ORIGIN, first.1 / first.0),
            (Some(last), None) => (ORIGIN, last.1 / last.0),
            (Some(low), Some(high)) => (low, (high.1 - low.1) / (high.0 - low.0)),
        }
    }
}

/// Sum of the latencies of a network's layers in 32-bit floats, in microseconds.
///
/// # Errors
/// As [`layers`], and when the device has no latency for a layer.
pub fn sum_of_layers(device: &dyn Hardware, graph: &Graph, facts: &Facts) -> Result<f64> {
    layers(graph, facts)?
        .iter()
        .map(|layer| {
            layer_latency(device, &layer.shape).map_err(|error: Error| error.in_node(&layer.name))
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(layers_us: f64, latency_us: f64) -> NetworkRow {
        let network = "n".to_owned();
        NetworkRow { network, layers_us, latency_us, n: 1, std_us: 0.0 }
    }

    #[test]
    fn timed_networks_are_met_and_what_lies_between_is_linear() {
        let time = NetworkTime::through(&[row(400.0, 350.0), row(100.0, 60.0), row(200.0, 150.0)]);
        for (sum, expected, slope) in [
            (50.0, 30.0, 0.6),
            (100.0, 60.0, 0.6),
            (150.0, 105.0, 0.9),
            (300.0, 250.0, 1.0),
            (400.0, 350.0, 1.0),
            (800.0, 700.0, 0.875),
        ] {
            assert!((time.at(sum) - expected).abs() < 1e-9, "{sum}: {}", time.at(sum));
            assert!((time.slope(sum) - slope).abs() < 1e-9, "{sum}: {}", time.slope(sum));
        }
    }

    #[test]
    fn time_always_rises_and_without_networks_it_is_the_sum() {
        let rows = [row(100.0, 80.0), row(200.0, 70.0), row(100.0, 60.0), row(300.0, 72.0)];
        let time = NetworkTime::through(&rows);
        // 80 and 60 at 100 are 70, not below the 70 at 200, and 72 at 300 is above.
        assert_eq!(time.knots, [(400.0 / 3.0, 70.0), (300.0, 72.0)]);
        assert!(time.at(200.0) < time.at(201.0));
        assert_eq!((NetworkTime::default().at(7.0), NetworkTime::default().slope(7.0)), (7.0, 1.0));
    }
}
