//! Gradients through candle's autograd against plain loops and against candle's own operations in
//! `f64`.
#![allow(clippy::expect_used, reason = "tests")]

use super::geometry::{ConvGeometry, WindowAxis};
use super::reference;
use super::tests::{assert_close, axis, geometry, on_each_level, values};
use super::{
    Epilogue, Pooling, ProductShape, batch_norm_train, convolution, global_pool, matrix_product,
    normalize_rows, pool, scale_channels, transposed_convolution,
};
use crate::group::Group;
use candle_core::{D, DType, Device, Result, Shape, Tensor, Var};
use proptest::prelude::*;

fn variable(values: &[f32], shape: impl Into<Shape>) -> Var {
    let tensor = Tensor::from_slice(values, shape.into(), &Device::Cpu).expect("sizes fit");
    Var::from_tensor(&tensor).expect("a variable")
}

fn wide(var: &Var) -> Var {
    Var::from_tensor(&var.to_dtype(DType::F64).expect("a float")).expect("a variable")
}

/// Gradients of the variables when `dy` is the gradient of the result.
fn gradients(run: impl FnOnce() -> Result<Tensor>, dy: &[f32], vars: &[&Var]) -> Vec<Vec<f32>> {
    let result = run().and_then(|y| {
        let dy = Tensor::from_slice(dy, y.dims(), &Device::Cpu)?.to_dtype(y.dtype())?;
        let gradients = (y * dy)?.sum_all()?.backward()?;
        vars.iter()
            .map(|var| match gradients.get(var) {
                Some(gradient) => gradient.flatten_all()?.to_dtype(DType::F32)?.to_vec1(),
                None => candle_core::bail!("a variable without gradient"),
            })
            .collect()
    });
    result.expect("gradients")
}

fn wide_values(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

proptest! {
    #[test]
    fn convolutions_pass_on_all_gradients(g in geometry(), seed in any::<u64>()) {
        let (rows, columns) = (&g.rows, &g.columns);
        let x_shape = (g.batch, g.in_channels, rows.input, columns.input);
        let w_shape = (g.out_channels, g.group_inputs(), rows.kernel, columns.kernel);
        let x = values(g.input_count(), seed);
        let weight = values(g.weight_count(), seed ^ 1);
        let y = values(g.output_count(), seed ^ 3);
        let to_weight = reference::weight_gradient(&x, &y, &g);

        let [xv, wv] = [variable(&x, x_shape), variable(&weight, w_shape)];
        let bias = variable(&values(g.out_channels, seed ^ 2), g.out_channels);
        let found = gradients(
            || convolution(&xv, &wv, Some(&bias), &g, None, Epilogue::default()),
            &y,
            &[&xv, &wv, &bias],
        );
        let expected = reference::input_gradient(&y, &weight, None, &g);
        assert_close(&found[0], &expected, g.group_outputs() * g.taps());
        assert_close(&found[1], &to_weight, g.batch * g.output_area());
        let sums = channel_sums(&y, g.out_channels, g.output_area());
        assert_close(&found[2], &sums, g.batch * g.output_area());

        let yv = variable(&y, (g.batch, g.out_channels, rows.output, columns.output));
        let bias = variable(&values(g.in_channels, seed ^ 2), g.in_channels);
        let found =
            gradients(|| transposed_convolution(&yv, &wv, Some(&bias), &g), &x, &[&yv, &wv, &bias]);
        assert_close(&found[0], &reference::convolution(&x, &weight, None, &g), g.depth());
        assert_close(&found[1], &to_weight, g.batch * g.output_area());
        let sums = channel_sums(&x, g.in_channels, g.input_area());
        assert_close(&found[2], &sums, g.batch * g.input_area());
    }

    #[test]
    fn pooling_gradients_match_loops(
        rows in axis(), columns in axis(), include_padding in any::<bool>(), seed in any::<u64>(),
    ) {
        let x = values(3 * rows.input * columns.input, seed);
        let dy = values(3 * rows.output * columns.output, seed ^ 1);
        let xv = variable(&x, (1, 3, rows.input, columns.input));
        for pooling in [Pooling::Maximum, Pooling::Average { include_padding }] {
            let expected = pool_gradient(&x, &dy, &rows, &columns, pooling);
on_each_level(|| {
            let found = gradients(|| pool(&xv, &rows, &columns, pooling), &dy, &[&xv]);
            assert_close(&found[0], &expected, rows.kernel * columns.kernel);
});
        }
    }

    /// Values of which many are equal, in the windows that have code of their own.
    #[test]
    fn the_first_of_equal_elements_gets_the_gradient(
        height in 1_usize..9, width in 1_usize..40, seed in any::<u64>(),
    ) {
        let halved = |output| WindowAxis {
            input: 2 * output, output, kernel: 2, stride: 2, dilation: 1, pad_begin: 0, pad_end: 0,
        };
        let (rows, columns) = (halved(height), halved(width));
        let x: Vec<f32> = values(12 * height * width, seed).iter().map(|x| (2.0 * x).round()).collect();
        let dy = values(3 * height * width, seed ^ 1);
        let xv = variable(&x, (1, 3, 2 * height, 2 * width));
        let expected = pool_gradient(&x, &dy, &rows, &columns, Pooling::Maximum);
        on_each_level(|| {
            let run = || pool(&xv, &rows, &columns, Pooling::Maximum);
            assert_close(&gradients(run, &dy, &[&xv])[0], &expected, 1);
        });
    }

    #[test]
    fn product_gradients_match_loops(
        rows in 1_usize..20, inner in 1_usize..40, columns in 1_usize..60,
        transpose_a in any::<bool>(), transpose_b in any::<bool>(), seed in any::<u64>(),
    ) {
        let shape = ProductShape { rows, inner, columns, transpose_a, transpose_b };
        let pairs = [(0, 1), (1, 1), (1, 0)];
        let (a, b) = (values(2 * rows * inner, seed), values(2 * inner * columns, seed ^ 1));
        let dy = values(3 * rows * columns, seed ^ 2);
        let bias = variable(&values(columns, seed ^ 3), columns);
        let (mut da, mut db) = (vec![0.0; a.len()], vec![0.0; b.len()]);
        for (p, (i, j)) in pairs.into_iter().enumerate() {
            for place in 0..rows * inner * columns {
                let (row, k, column) =
                    (place / columns / inner, place / columns % inner, place % columns);
                let left = if transpose_a { k * rows + row } else { row * inner + k };
                let right = if transpose_b { column * inner + k } else { k * columns + column };
                let (left, right) = (i * rows * inner + left, j * inner * columns + right);
                let dy = f64::from(dy[(p * rows + row) * columns + column]);
                da[left] += dy * f64::from(b[right]);
                db[right] += dy * f64::from(a[left]);
            }
        }
        let (av, bv) = (variable(&a, a.len()), variable(&b, b.len()));
        let run = || matrix_product(&av, &bv, &shape, &pairs, None, Some(&bias));
        let found = gradients(run, &dy, &[&av, &bv, &bias]);
        assert_close(&found[0], &da, 2 * columns);
        assert_close(&found[1], &db, 2 * rows);
        let sums: Vec<f64> = (0..columns)
            .map(|c| dy[c..].iter().step_by(columns).map(|&dy| f64::from(dy)).sum())
            .collect();
        assert_close(&found[2], &sums, 3 * rows);
    }

    #[test]
    fn normalization_matches_its_definition(
        batch in 1_usize..5, channels in 1_usize..6, area in 2_usize..70, seed in any::<u64>(),
    ) {
        let count = batch * channels * area;
        let (x, dy) = (values(count, seed), values(count, seed ^ 1));
        let x = variable(&x, (batch, channels, area));
        let scale = variable(&values(channels, seed ^ 2), channels);
        let bias = variable(&values(channels, seed ^ 3), channels);
        let epsilon = 0.1;
        let (x64, scale64, bias64) = (wide(&x), wide(&scale), wide(&bias));
        let defined = || {
            let sums = |x: &Tensor| x.sum_keepdim((0, 2))? / (batch * area) as f64;
            let centred = x64.broadcast_sub(&sums(&x64)?)?;
            let deviation = (sums(&centred.sqr()?)? + epsilon)?.sqrt()?;
            let by_channel = |p: &Var| p.reshape((1, channels, 1));
            centred
                .broadcast_div(&deviation)?
                .broadcast_mul(&by_channel(&scale64)?)?
                .broadcast_add(&by_channel(&bias64)?)
        };
        let expected = gradients(defined, &dy, &[&x64, &scale64, &bias64]);
        let y: Vec<f64> =
            defined().and_then(|y| y.flatten_all()?.to_vec1()).expect("sizes fit");
on_each_level(|| {
        let run = || Ok(batch_norm_train(&x, &scale, &bias, epsilon, &Group::alone())?.y);
        let found = gradients(run, &dy, &[&x, &scale, &bias]);
        for (found, expected) in found.iter().zip(&expected) {
            // Values up to 1 / sqrt(epsilon), summed over the channel.
            assert_close(found, &wide_values(expected), 8 * batch * area);
        }
        let values: Vec<f32> =
            run().and_then(|y| y.flatten_all()?.to_vec1()).expect("sizes fit");
        assert_close(&values, &y, 40);
});
    }

    #[test]
    fn rows_are_normalized_by_their_definition(
        rows in 1_usize..5, length in 2_usize..70, seed in any::<u64>(),
    ) {
        let dy = values(rows * length, seed ^ 1);
        let x = variable(&values(rows * length, seed), (rows, length));
        let wide = wide(&x);
        let epsilon = 0.1;
        let defined = || {
            let centred = wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)?;
            let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
            centred.broadcast_div(&(variance + epsilon)?.sqrt()?)
        };
        let expected = gradients(defined, &dy, &[&wide]);
        let found = gradients(|| Ok(normalize_rows(&x, epsilon)?.y), &dy, &[&x]);
        assert_close(&found[0], &wide_values(&expected[0]), 8 * length);
    }
}

fn channel_sums(y: &[f32], channels: usize, area: usize) -> Vec<f64> {
    let mut sums = vec![0.0; channels];
    for (plane, values) in y.chunks(area).enumerate() {
        sums[plane % channels] += values.iter().map(|&value| f64::from(value)).sum::<f64>();
    }
    sums
}

/// The gradient of pooling three planes.
fn pool_gradient(
    x: &[f32],
    dy: &[f32],
    rows: &WindowAxis,
    columns: &WindowAxis,
    pooling: Pooling,
) -> Vec<f64> {
    let area = rows.input * columns.input;
    let mut dx = vec![0.0; x.len()];
    let taps = rows.kernel * columns.kernel;
    for (place, &dy) in dy.iter().enumerate() {
        let (rest, column) = (place / columns.output, place % columns.output);
        let (plane, row) = (rest / rows.output, rest % rows.output);
        let sources: Vec<usize> = (0..taps)
            .filter_map(|tap| {
                let y = rows.source(row, tap / columns.kernel)?;
                Some(
                    plane * area
                        + y * columns.input
                        + columns.source(column, tap % columns.kernel)?,
                )
            })
            .collect();
        let padded = |axis: &WindowAxis, output: usize| {
            let end = axis.input + axis.pad_begin + axis.pad_end;
            (0..axis.kernel).filter(|tap| output * axis.stride + tap * axis.dilation < end).count()
        };
        match pooling {
            Pooling::Maximum => {
                let largest = |best: usize, &at: &usize| if x[at] > x[best] { at } else { best };
                if let Some(&first) = sources.first() {
                    dx[sources.iter().fold(first, largest)] += f64::from(dy);
                }
            }
            Pooling::Average { include_padding } => {
                let count = match include_padding {
                    true => padded(rows, row) * padded(columns, column),
                    false => sources.len(),
                };
                sources.iter().for_each(|&at| dx[at] += f64::from(dy) / count as f64);
            }
        }
    }
    dx
}

#[test]
fn global_pools_pass_on_gradients() {
    let x = variable(&[1.0, 5.0, 5.0, -2.0, -3.0, -1.0], (1, 2, 3));
    let dy = [6.0, 3.0];
    let mean = Pooling::Average { include_padding: false };
    let found = gradients(|| global_pool(&x, mean), &dy, &[&x]);
    assert_eq!(found[0], [2.0, 2.0, 2.0, 1.0, 1.0, 1.0]);
    let found = gradients(|| global_pool(&x, Pooling::Maximum), &dy, &[&x]);
    assert_eq!(found[0], [0.0, 6.0, 0.0, 0.0, 0.0, 3.0]);
}

#[test]
fn channel_scales_pass_on_gradients() {
    let x = variable(&[1.0, 2.0, 3.0, 4.0], (1, 2, 2));
    let (factors, shifts) = (variable(&[2.0, -1.0], 2), variable(&[0.0, 0.0], 2));
    let run = || scale_channels(&x, &factors, &shifts);
    let found = gradients(run, &[1.0, 10.0, 100.0, 1000.0], &[&x, &factors, &shifts]);
    assert_eq!(found[0], [2.0, 20.0, -100.0, -1000.0]);
    assert_eq!(found[1], [21.0, 4300.0]);
    assert_eq!(found[2], [11.0, 1100.0]);
}

#[test]
fn a_fused_convolution_refuses_gradients() {
    let g = ConvGeometry {
        batch: 1,
        groups: 1,
        in_channels: 1,
        out_channels: 1,
        rows: WindowAxis::UNIT,
        columns: WindowAxis::UNIT,
    };
    let (x, weight) = (variable(&[1.0], (1, 1, 1, 1)), variable(&[1.0], (1, 1, 1, 1)));
    let epilogue = Epilogue { clamp: Some((0.0, 6.0)), ..Epilogue::default() };
    let y = convolution(&x, &weight, None, &g, None, epilogue).expect("sizes fit");
    assert!(y.backward().is_err());
}

/// Gradients of layers that are large enough to be split over threads.
#[test]
fn any_number_of_threads_gives_the_same_gradients() {
    let axis = WindowAxis {
        input: 15,
        output: 8,
        kernel: 3,
        stride: 2,
        dilation: 1,
        pad_begin: 1,
        pad_end: 1,
    };
    for (groups, outputs) in [(1, 60), (1, 250), (50, 50)] {
        let g = ConvGeometry {
            batch: 5,
            groups,
            in_channels: 50,
            out_channels: outputs,
            rows: axis,
            columns: axis,
        };
        let x = variable(&values(g.input_count(), 1), (5, 50, 15, 15));
        let weight = variable(&values(g.weight_count(), 2), (outputs, g.group_inputs(), 3, 3));
        let bias = variable(&values(outputs, 3), outputs);
        let dy = values(5 * outputs * 16, 4);
        let run = |threads| {
            let threads = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            threads.expect("threads").install(|| {
                let layer = || {
                    let y = convolution(&x, &weight, Some(&bias), &g, None, Epilogue::default())?;
                    let y = batch_norm_train(&y, &bias, &bias, 1e-5, &Group::alone())?.y;
                    let half = WindowAxis { input: 8, output: 4, pad_end: 0, ..axis };
                    pool(&y, &half, &half, Pooling::Maximum)
                };
                gradients(layer, &dy, &[&x, &weight, &bias])
            })
        };
        assert!(run(1) == run(2) && run(1) == run(3), "{groups} groups");
    }
}
