//! Plain loops in `f64` that the kernels are compared with.

use super::geometry::ConvGeometry;

/// The convolution of `x` with `weight`.
pub(super) fn convolution(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    g: &ConvGeometry,
) -> Vec<f64> {
    let mut y = Vec::with_capacity(g.output_count());
    visit(g, |terms, channel| {
        let bias = bias.map_or(0.0, |bias| f64::from(bias[channel]));
        y.push(bias + terms.iter().map(|&(i, j)| product(x[i], weight[j])).sum::<f64>());
    });
    y
}

/// The transposed convolution: each output element flows back to what it was computed from.
pub(super) fn input_gradient(
    y: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    g: &ConvGeometry,
) -> Vec<f64> {
    let area = g.input_area();
    let channel = |i: usize| i / area % g.in_channels;
    let mut x: Vec<f64> = (0..g.input_count())
        .map(|i| bias.map_or(0.0, |bias| f64::from(bias[channel(i)])))
        .collect();
    let mut at = 0;
    visit(g, |terms, _| {
        for &(i, j) in terms {
            x[i] += product(y[at], weight[j]);
        }
        at += 1;
    });
    x
}

/// Each product of the convolution flows back to the weight element in it.
pub(super) fn weight_gradient(x: &[f32], dy: &[f32], g: &ConvGeometry) -> Vec<f64> {
    let mut weight = vec![0.0; g.weight_count()];
    let mut at = 0;
    visit(g, |terms, _| {
        for &(i, j) in terms {
            weight[j] += product(x[i], dy[at]);
        }
        at += 1;
    });
    weight
}

fn product(a: f32, b: f32) -> f64 {
    f64::from(a) * f64::from(b)
}

/// Calls `each` for every output element, in order, with the pairs of input and weight elements
/// that it sums, and its channel.
fn visit(g: &ConvGeometry, mut each: impl FnMut(&[(usize, usize)], usize)) {
    let (rows, columns) = (&g.rows, &g.columns);
    let mut terms = Vec::new();
    for place in 0..g.output_count() {
        let (rest, column) = (place / columns.output, place % columns.output);
        let (rest, row) = (rest / rows.output, rest % rows.output);
        let (image, channel) = (rest / g.out_channels, rest % g.out_channels);
        let group = channel / g.group_outputs();
        terms.clear();
        for k in 0..g.depth() {
            let (inner, tap) = (k / g.taps(), k % g.taps());
            let source = rows
                .source(row, tap / columns.kernel)
                .zip(columns.source(column, tap % columns.kernel));
            if let Some((y, x)) = source {
                let plane = image * g.in_channels + group * g.group_inputs() + inner;
                terms.push((
                    plane * g.input_area() + y * columns.input + x,
                    channel * g.depth() + k,
                ));
            }
        }
        each(&terms, channel);
    }
}
