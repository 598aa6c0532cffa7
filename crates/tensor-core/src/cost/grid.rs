//! The time of a layer as a function of its channels.

use super::hardware::{Hardware, LayerKind, LayerShape};
use super::price::layer_latency;
use super::widths::WidthAxis;
use crate::Result;

/// Most numbers of channels that a device is asked about, for each side of a layer.
const KNOTS: usize = 33;

/// What a device takes for one layer, asked at some numbers of channels and bilinear between them.
///
/// It never falls when a width grows: where fewer channels would take longer, as they do when they
/// are no multiple of what kernels work on, they count as the next number that takes less. Below the
/// narrowest layer that a device knows, that layer's time counts.
#[derive(Debug, Clone)]
pub(super) struct LatencyGrid {
    inputs: WidthAxis,
    outputs: WidthAxis,
    /// Sets without which the layer is gone.
    parts: Vec<usize>,
    knots: [Vec<usize>; 2],
    /// Microseconds, by knots of the inputs, then of the outputs.
    values: Vec<f64>,
}

impl LatencyGrid {
    /// Asks the device.
    ///
    /// # Errors
    /// When it has no latency for the layer at its full size.
    pub(super) fn new(
        device: &dyn Hardware,
        shape: &LayerShape,
        (inputs, outputs): (WidthAxis, WidthAxis),
        parts: Vec<usize>,
    ) -> Result<Self> {
        let is_depthwise = shape.op == LayerKind::Depthwise;
        let many = knots(inputs.base, shape.cin);
        let few = if is_depthwise { vec![shape.cout] } else { knots(outputs.base, shape.cout) };
        let (rows, columns) = (many.len(), few.len());
        let mut values = vec![layer_latency(device, shape)?; rows * columns];
        for row in (0..rows).rev() {
            for column in (0..columns).rev() {
                let cout = match is_depthwise {
                    true => many[row] * shape.cout / shape.cin.max(1),
                    false => few[column],
                };
                let own = layer_latency(device, &shape.with_channels(many[row], cout)).ok();
                let below = (row + 1 < rows).then(|| values[(row + 1) * columns + column]);
                let right = (column + 1 < columns).then(|| values[row * columns + column + 1]);
                let least = [own, below, right].into_iter().flatten().min_by(f64::total_cmp);
                if let Some(least) = least {
                    values[row * columns + column] = least;
                }
            }
        }
        Ok(Self { inputs, outputs, parts, knots: [many, few], values })
    }

    /// Microseconds at the given widths, one per set.
    pub(super) fn at(&self, widths: &[usize]) -> f64 {
        let (x, y) = (self.inputs.at(widths), self.outputs.at(widths));
        if x <= 0.0 || y <= 0.0 || self.parts.iter().any(|&set| widths[set] == 0) {
            return 0.0;
        }
        let [many, few] = &self.knots;
        let ((row, down), (column, right)) = (place(many, x), place(few, y));
        let value = |row: usize, column: usize| self.values[row * few.len() + column];
        let along = |row: usize| {
            let next = (column + 1).min(few.len() - 1);
            value(row, column) * (1.0 - right) + value(row, next) * right
        };
        along(row) * (1.0 - down) + along((row + 1).min(many.len() - 1)) * down
    }

    /// What one member of a set takes on average: without any of them, the layer is as narrow as its
    /// other channels are.
    pub(super) fn mean(&self, widths: &[usize], set: usize) -> f64 {
        let mut without = widths.to_vec();
        without[set] = 0;
        (self.at(widths) - self.at(&without)) / widths[set].max(1) as f64
    }
}

/// Numbers of channels from the fewest to all, evenly spaced.
fn knots(base: f64, full: usize) -> Vec<usize> {
    let least = (base as usize).clamp(1, full.max(1));
    let steps = (full - least.min(full)).clamp(1, KNOTS - 1);
    let mut knots: Vec<usize> = (0..=steps).map(|i| least + (full - least) * i / steps).collect();
    knots.dedup();
    knots
}

/// The knot before a number of channels, and how far it is to the next.
fn place(knots: &[usize], x: f64) -> (usize, f64) {
    let at = knots.partition_point(|&knot| knot as f64 <= x).saturating_sub(1);
    match knots.get(at + 1) {
        Some(&next) if x > knots[at] as f64 => {
            (at, (x - knots[at] as f64) / (next - knots[at]) as f64)
        }
        _ => (at, 0.0),
    }
}
