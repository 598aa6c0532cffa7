//! Kernels against plain loops, over random sizes and on every instruction set of this machine.
#![allow(clippy::expect_used, reason = "tests")]

use super::depthwise_gradient::depthwise_weight_gradient;
use super::epilogue::Finish;
use super::geometry::{ConvGeometry, WindowAxis};
use super::input_gradient::input_gradient;
use super::precision::Precision;
use super::simd::{LIMIT, Level};
use super::weight_gradient::weight_gradient;
use super::{PackedConv, Pooling, ProductShape, global_pool, matrix_product, pool, scale_channels};
use super::{conv, depthwise, reference, winograd};
use candle_core::{Device, Tensor};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Values whose products and sums stay small.
pub(super) fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
}

pub(super) fn vector(values: &[f32]) -> Tensor {
    Tensor::from_slice(values, values.len(), &Device::Cpu).expect("a vector")
}

/// Sums of `depth` products of values below one may be off by rounding each of them.
pub(super) fn assert_close(actual: &[f32], expected: &[f64], depth: usize) {
    assert_eq!(actual.len(), expected.len());
    let tolerance = f64::from(f32::EPSILON) * (depth as f64 + 2.0);
    for (i, (&a, &e)) in actual.iter().zip(expected).enumerate() {
        let close = f64::from(a) == e || (f64::from(a) - e).abs() <= tolerance;
        assert!(close, "element {i}: {a} instead of {e}");
    }
}

/// Runs a check on every instruction set of this machine, in this thread.
pub(super) fn on_each_level(check: impl Fn() + Send + Sync) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    pool.install(|| {
        let mut level = Some(Level::detected());
        while let Some(limit) = level {
            LIMIT.set(Some(limit));
            check();
            level = limit.below();
        }
        LIMIT.set(None);
    });
}

pub(super) fn axis() -> impl Strategy<Value = WindowAxis> {
    (1_usize..20, 1_usize..5, 1_usize..4, 1_usize..3, 0_usize..4, 0_usize..4).prop_filter_map(
        "the kernel fits",
        |(input, kernel, stride, dilation, pad_begin, pad_end)| {
            let room = (input + pad_begin + pad_end).checked_sub((kernel - 1) * dilation + 1)?;
            let output = room / stride + 1;
            Some(WindowAxis { input, output, kernel, stride, dilation, pad_begin, pad_end })
        },
    )
}

pub(super) fn geometry() -> impl Strategy<Value = ConvGeometry> {
    (1_usize..4, 1_usize..4, 1_usize..6, 1_usize..20, axis(), axis()).prop_map(
        |(batch, groups, inputs, outputs, rows, columns)| ConvGeometry {
            batch,
            groups,
            in_channels: groups * inputs,
            out_channels: groups * outputs,
            rows,
            columns,
        },
    )
}

proptest! {
    #[test]
    fn convolution_matches_loops(g in geometry(), seed in any::<u64>()) {
        let x = values(g.input_count(), seed);
        let weight = values(g.weight_count(), seed ^ 1);
        let bias = values(g.out_channels, seed ^ 2);
        let finish = Finish { bias: Some(&bias), ..Finish::default() };
        let packed = PackedConv::new(&weight, g.groups, g.out_channels, g.depth());
        let expected = reference::convolution(&x, &weight, Some(&bias), &g);
on_each_level(|| {
        let actual = conv::forward(&x, &packed, &g, &finish).expect("there is memory");
        assert_close(&actual, &expected, g.depth());
});
    }

    #[test]
    fn winograd_matches_loops(
        (batch, inputs, outputs) in (1_usize..5, 16_usize..24, 16_usize..24),
        (height, width) in (4_usize..19, 4_usize..19),
        pads in prop::array::uniform4(0_usize..3),
        skipped in 0_usize..16,
        seed in any::<u64>(),
    ) {
        let axis = |input, pad_begin, pad_end| WindowAxis {
            input, output: input + pad_begin + pad_end - 2, kernel: 3, stride: 1, dilation: 1,
            pad_begin, pad_end,
        };
        let g = ConvGeometry {
            batch, groups: 1, in_channels: inputs, out_channels: outputs,
            rows: axis(height + 2, pads[0], pads[1]), columns: axis(width + 2, pads[2], pads[3]),
        };
        prop_assert!(winograd::suits(&g));
        let x = values(g.input_count(), seed);
        let mut weight = values(g.weight_count(), seed ^ 1);
        // Channels without weights are left out.
        for filter in weight.chunks_mut(9 * inputs) {
            filter[9 * skipped..9 * (skipped + 1)].fill(0.0);
        }
        let bias = values(outputs, seed ^ 2);
        let finish = Finish { bias: Some(&bias), ..Finish::default() };
        let packed = PackedConv::new(&weight, 1, outputs, g.depth());
        let expected = reference::convolution(&x, &weight, Some(&bias), &g);
on_each_level(|| {
        let transformed = packed.winograd(&weight);
        let actual = winograd::forward(&x, transformed, &g, &finish).expect("there is memory");
        assert_close(&actual, &expected, g.depth());
});
    }

    #[test]
    fn depthwise_matches_loops(g in geometry(), seed in any::<u64>()) {
        let g = ConvGeometry { in_channels: g.groups, ..g };
        let x = values(g.input_count(), seed);
        let weight = values(g.weight_count(), seed ^ 1);
        let expected = reference::convolution(&x, &weight, None, &g);
on_each_level(|| {
        let actual = depthwise::forward(&x, &weight, &g, &Finish::default()).expect("there is memory");
        assert_close(&actual, &expected, g.depth());
});
    }

    #[test]
    fn input_gradients_match_loops(g in geometry(), seed in any::<u64>()) {
        let y = values(g.output_count(), seed);
        let weight = values(g.weight_count(), seed ^ 1);
        let bias = values(g.in_channels, seed ^ 2);
        let expected = reference::input_gradient(&y, &weight, Some(&bias), &g);
on_each_level(|| {
        let actual = input_gradient(&y, &weight, Some(&bias), &g, Precision::F32).expect("there is memory");
        assert_close(&actual, &expected, g.group_outputs() * g.taps());
});
    }

    #[test]
    fn depthwise_input_gradients_match_loops(g in geometry(), seed in any::<u64>()) {
        let g = ConvGeometry { in_channels: g.groups, out_channels: g.groups, ..g };
        let y = values(g.output_count(), seed);
        let weight = values(g.weight_count(), seed ^ 1);
        let expected = reference::input_gradient(&y, &weight, None, &g);
on_each_level(|| {
        let actual = input_gradient(&y, &weight, None, &g, Precision::F32).expect("there is memory");
        assert_close(&actual, &expected, g.taps());
});
    }

    #[test]
    fn weight_gradients_match_loops(g in geometry(), seed in any::<u64>()) {
        let x = values(g.input_count(), seed);
        let dy = values(g.output_count(), seed ^ 1);
        let expected = reference::weight_gradient(&x, &dy, &g);
on_each_level(|| {
        let actual = weight_gradient(&x, &dy, &g).expect("there is memory");
        assert_close(&actual, &expected, g.batch * g.output_area());
});
    }

    #[test]
    fn depthwise_weight_gradients_match_loops(g in geometry(), seed in any::<u64>()) {
        let g = ConvGeometry { in_channels: g.groups, ..g };
        let x = values(g.input_count(), seed);
        let dy = values(g.output_count(), seed ^ 1);
        let expected = reference::weight_gradient(&x, &dy, &g);
on_each_level(|| {
        let actual = depthwise_weight_gradient(&x, &dy, &g).expect("there is memory");
        assert_close(&actual, &expected, g.batch * g.output_area());
});
    }

    #[test]
    fn products_match_loops(
        rows in 1_usize..70, inner in 0_usize..300, columns in 1_usize..110,
        transpose_a in any::<bool>(), transpose_b in any::<bool>(), seed in any::<u64>(),
    ) {
        let shape = ProductShape { rows, inner, columns, transpose_a, transpose_b };
        let pairs = [(0, 1), (1, 1), (1, 0)];
        let a = values(2 * rows * inner, seed);
        let b = values(2 * inner * columns, seed ^ 1);
        let bias = values(columns, seed ^ 2);
        let mut expected = Vec::new();
        for (i, j) in pairs {
            for place in 0..rows * columns {
                let (row, column) = (place / columns, place % columns);
                let left = |k| if transpose_a { k * rows + row } else { row * inner + k };
                let right = |k| if transpose_b { column * inner + k } else { k * columns + column };
                let term = |k| {
                    f64::from(a[i * rows * inner + left(k)])
                        * f64::from(b[j * inner * columns + right(k)])
                };
                expected.push(f64::from(bias[column]) + (0..inner).map(term).sum::<f64>());
            }
        }
on_each_level(|| {
        let product =
            matrix_product(&vector(&a), &vector(&b), &shape, &pairs, None, Some(&vector(&bias)));
        let actual = product.and_then(|p| p.flatten_all()?.to_vec1()).expect("sizes fit");
        assert_close(&actual, &expected, inner);
});
    }

    #[test]
    fn pooling_matches_loops(rows in axis(), columns in axis(), include_padding in any::<bool>(), seed in any::<u64>()) {
        let area = rows.input * columns.input;
        let x = values(3 * area, seed);
        let tensor = Tensor::from_slice(&x, (1, 3, rows.input, columns.input), &Device::Cpu);
        let tensor = tensor.expect("sizes fit");
        for pooling in [Pooling::Maximum, Pooling::Average { include_padding }] {
            let expected: Vec<_> = (0..3 * rows.output * columns.output)
                .map(|place| {
                    let (rest, column) = (place / columns.output, place % columns.output);
                    let (plane, row) = (rest / rows.output, rest % rows.output);
                    pooled(&x[plane * area..], &rows, &columns, (row, column), pooling)
                })
                .collect();
on_each_level(|| {
            let actual = pool(&tensor, &rows, &columns, pooling);
            let actual: Vec<f32> =
                actual.and_then(|p| p.flatten_all()?.to_vec1()).expect("sizes fit");
            assert_close(&actual, &expected, rows.kernel * columns.kernel);
});
        }
    }
}

/// One pooled window.
fn pooled(
    plane: &[f32],
    rows: &WindowAxis,
    columns: &WindowAxis,
    (row, column): (usize, usize),
    pooling: Pooling,
) -> f64 {
    let padded = |axis: &WindowAxis, output: usize, tap: usize| {
        output * axis.stride + tap * axis.dilation < axis.input + axis.pad_begin + axis.pad_end
    };
    let (mut largest, mut sum, mut count) = (f64::NEG_INFINITY, 0.0, 0);
    for i in 0..rows.kernel {
        for j in 0..columns.kernel {
            if let Some((y, x)) = rows.source(row, i).zip(columns.source(column, j)) {
                let value = f64::from(plane[y * columns.input + x]);
                largest = largest.max(value);
                sum += value;
                count += 1;
            } else if pooling == (Pooling::Average { include_padding: true })
                && padded(rows, row, i)
                && padded(columns, column, j)
            {
                count += 1;
            }
        }
    }
    if pooling == Pooling::Maximum { largest } else { sum / f64::from(count.max(1)) }
}

#[test]
fn epilogue_scales_adds_and_clamps() {
    let axis = |n| WindowAxis { input: n, output: n, ..WindowAxis::UNIT };
    let g = ConvGeometry {
        batch: 2,
        groups: 1,
        in_channels: 1,
        out_channels: 2,
        rows: axis(3),
        columns: axis(5),
    };
    let (x, weight) = (values(30, 1), [2.0, -1.0]);
    let (bias, residual) = ([0.5, 0.25], values(60, 2));
    let scale = (vec![3.0, -2.0], vec![0.125, -0.5]);
    let finish = Finish {
        bias: Some(&bias),
        scale: Some(&scale),
        residual: Some(&residual),
        clamp: Some((-1.0, 2.0)),
    };
    let packed = PackedConv::new(&weight, 1, 2, 1);
    on_each_level(|| {
        let actual = conv::forward(&x, &packed, &g, &finish).expect("there is memory");
        let expected: Vec<f64> = (0..60)
            .map(|i| {
                let (image, c, at) = (i / 30, i / 15 % 2, i % 15);
                let sum = f64::from(x[image * 15 + at] * weight[c] + bias[c]);
                let scaled = sum * f64::from(scale.0[c]) + f64::from(scale.1[c]);
                (scaled + f64::from(residual[i])).clamp(-1.0, 2.0)
            })
            .collect();
        assert_close(&actual, &expected, 20);
    });
}

#[test]
fn clamping_keeps_nan() {
    let g = ConvGeometry {
        batch: 1,
        groups: 1,
        in_channels: 1,
        out_channels: 1,
        rows: WindowAxis::UNIT,
        columns: WindowAxis::UNIT,
    };
    let packed = PackedConv::new(&[1.0], 1, 1, 1);
    let finish = Finish { clamp: Some((0.0, 6.0)), ..Finish::default() };
    on_each_level(|| {
        let y = conv::forward(&[f32::NAN], &packed, &g, &finish).expect("there is memory");
        assert!(y[0].is_nan());
    });
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let axis = WindowAxis {
        input: 14,
        output: 14,
        kernel: 3,
        stride: 1,
        dilation: 1,
        pad_begin: 1,
        pad_end: 1,
    };
    let g = ConvGeometry {
        batch: 3,
        groups: 1,
        in_channels: 70,
        out_channels: 90,
        rows: axis,
        columns: axis,
    };
    let x = values(g.input_count(), 5);
    let weight = values(g.weight_count(), 6);
    let packed = PackedConv::new(&weight, 1, g.out_channels, g.depth());
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| {
            let forward = conv::forward(&x, &packed, &g, &Finish::default());
            let forward = forward.expect("there is memory");
            let to_input = input_gradient(&forward, &weight, None, &g, Precision::F32)
                .expect("there is memory");
            let to_weight = weight_gradient(&x, &forward, &g).expect("there is memory");
            (forward, to_input, to_weight)
        })
    };
    assert_eq!(run(1), run(3));
}

/// Sizes at which sums are split in every direction: chunks of images, rows and columns.
#[test]
fn gradients_of_many_channels_match_loops() {
    let axis = WindowAxis {
        input: 27,
        output: 14,
        kernel: 3,
        stride: 2,
        dilation: 1,
        pad_begin: 1,
        pad_end: 1,
    };
    let g = ConvGeometry {
        batch: 9,
        groups: 1,
        in_channels: 70,
        out_channels: 250,
        rows: axis,
        columns: WindowAxis { input: 5, output: 3, ..axis },
    };
    let (x, dy) = (values(g.input_count(), 1), values(g.output_count(), 2));
    let actual = weight_gradient(&x, &dy, &g).expect("there is memory");
    assert_close(&actual, &reference::weight_gradient(&x, &dy, &g), g.batch * g.output_area());
    let weight = values(g.weight_count(), 3);
    let actual = input_gradient(&dy, &weight, None, &g, Precision::F32).expect("there is memory");
    let expected = reference::input_gradient(&dy, &weight, None, &g);
    assert_close(&actual, &expected, g.out_channels * g.taps());
}

#[test]
fn global_pools_and_channel_scales() {
    let x = values(2 * 3 * 35, 7);
    let tensor = Tensor::from_slice(&x, (2, 3, 5, 7), &Device::Cpu).expect("sizes fit");
    let pooled = |pooling| {
        let pooled = global_pool(&tensor, pooling);
        pooled.and_then(|p| p.flatten_all()?.to_vec1::<f32>()).expect("sizes fit")
    };
    let planes: Vec<Vec<f64>> =
        x.chunks(35).map(|plane| plane.iter().map(|&v| f64::from(v)).collect()).collect();
    let means: Vec<_> = planes.iter().map(|p| p.iter().sum::<f64>() / 35.0).collect();
    let largest: Vec<_> =
        planes.iter().map(|p| p.iter().copied().fold(f64::NEG_INFINITY, f64::max)).collect();
    assert_close(&pooled(Pooling::Average { include_padding: false }), &means, 35);
    assert_close(&pooled(Pooling::Maximum), &largest, 0);

    let scaled = scale_channels(&tensor, &vector(&[2.0, -1.0, 0.5]), &vector(&[1.0, 0.0, -3.0]));
    let scaled = scaled.and_then(|s| s.flatten_all()?.to_vec1::<f32>()).expect("sizes fit");
    for (i, (&y, &x)) in scaled.iter().zip(&x).enumerate() {
        let c = i / 35 % 3;
        assert_eq!(y, x * [2.0, -1.0, 0.5][c] + [1.0, 0.0, -3.0][c]);
    }
}
