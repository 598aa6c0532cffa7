//! What the agent sees of a layer.

use crate::search::Problem;
use tensor_core::cost::hardware::LayerKind;

/// Length of a state.
pub const STATE: usize = 10;

/// The first eight numbers of the states of all layers, each between 0 and 1 over the layers:
/// place, input and output channels, kernel, stride, size of the input, weights, and whether it is
/// depthwise. The last two belong to a step: 1 for weights and 0 for activations, and the action
/// of the step before.
///
/// As in the paper, a matrix product has kernel 1 and stride 0, and its size is the length of what it
/// reads. A number that is the same for all layers is 0.
pub fn states(problem: &Problem) -> Vec<[f32; STATE]> {
    let raw = |layer: usize| {
        let shape = problem.shape(layer);
        let is_product = shape.op == LayerKind::Linear;
        [
            layer as f64,
            shape.cin as f64,
            shape.cout as f64,
            shape.kernel[0] as f64,
            if is_product { 0.0 } else { shape.stride[0] as f64 },
            if is_product { shape.cin as f64 } else { (shape.h * shape.w) as f64 },
            shape.weights() as f64,
            f64::from(u8::from(shape.op == LayerKind::Depthwise)),
        ]
    };
    let rows: Vec<_> = (0..problem.len()).map(raw).collect();
    let mut states = vec![[0.0; STATE]; rows.len()];
    for column in 0..8 {
        let values = rows.iter().map(|row| row[column]);
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(f64::NEG_INFINITY, f64::max);
        if high > low {
            for (state, row) in states.iter_mut().zip(&rows) {
                state[column] = ((row[column] - low) / (high - low)) as f32;
            }
        }
    }
    states
}
