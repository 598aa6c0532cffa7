//! Sparse convolutions against plain loops and the dense kernel.

use super::super::epilogue::Finish;
use super::super::geometry::{ConvGeometry, WindowAxis};
use super::super::tests::{assert_close, axis, on_each_level, values};
use super::super::{PackedConv, conv, reference};
use super::{SparseForm, SparseWeight, forward};
use proptest::prelude::*;

const FORMS: [SparseForm; 2] = [SparseForm::Single, SparseForm::Quads];

/// Keeps the share `density` of a weight, in blocks of `block` outputs.
fn thinned(mut weight: Vec<f32>, depth: usize, density: f64, block: usize) -> Vec<f32> {
    let drawn = values(weight.len(), 77);
    for (i, value) in weight.iter_mut().enumerate() {
        let (row, term) = (i / depth, i % depth);
        if f64::from(drawn[row / block * depth + term]) > 2.0 * density - 1.0 {
            *value = 0.0;
        }
    }
    weight
}

fn plain(input: usize) -> WindowAxis {
    WindowAxis { input, output: input, kernel: 1, stride: 1, dilation: 1, pad_begin: 0, pad_end: 0 }
}

fn geometry() -> impl Strategy<Value = ConvGeometry> {
    let window = prop_oneof![
        (axis(), axis()),
        (1_usize..40, 1_usize..40).prop_map(|(r, c)| { (plain(r), plain(c)) })
    ];
    (window, 1_usize..4, 1_usize..40, 1_usize..40).prop_map(
        |((rows, columns), batch, in_channels, out_channels)| ConvGeometry {
            batch,
            groups: 1,
            in_channels,
            out_channels,
            rows,
            columns,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn any_size_and_density(
        g in geometry(),
        density in 0.0..1.0_f64,
        block in prop_oneof![Just(1_usize), Just(4), Just(8)],
    ) {
        let x = values(g.input_count(), 1);
        let weight = thinned(values(g.weight_count(), 2), g.depth(), density, block);
        let bias = values(g.out_channels, 3);
        let expected = reference::convolution(&x, &weight, Some(&bias), &g);
        on_each_level(|| {
            for form in FORMS {
                let sparse = SparseWeight::new(&weight, g.out_channels, g.depth(), form);
                let finish = Finish { bias: Some(&bias), ..Finish::default() };
                let y = forward(&x, &sparse, &g, &finish).expect("a valid geometry");
                assert_close(&y, &expected, g.depth());
            }
        });
    }
}

/// Depths of several parts, rows beyond one task and batches of small images.
#[test]
fn large_sizes() {
    for (batch, side, inputs, outputs) in [(1, 14, 2500, 9), (3, 7, 40, 1030), (70, 1, 130, 65)] {
        let (rows, columns) = (plain(side), plain(side));
        let g = ConvGeometry {
            batch,
            groups: 1,
            in_channels: inputs,
            out_channels: outputs,
            rows,
            columns,
        };
        let x = values(g.input_count(), 4);
        let weight = thinned(values(g.weight_count(), 5), g.depth(), 0.2, 1);
        let expected = reference::convolution(&x, &weight, None, &g);
        for form in FORMS {
            let sparse = SparseWeight::new(&weight, outputs, inputs, form);
            let y = forward(&x, &sparse, &g, &Finish::default()).expect("a valid geometry");
            assert_close(&y, &expected, g.depth());
        }
    }
}

#[test]
fn the_epilogue_is_that_of_the_dense_kernel() {
    let (rows, columns) = (plain(11), plain(13));
    let g = ConvGeometry { batch: 2, groups: 1, in_channels: 24, out_channels: 10, rows, columns };
    let x = values(g.input_count(), 6);
    let weight = thinned(values(g.weight_count(), 7), g.depth(), 0.4, 1);
    let (bias, residual) = (values(10, 8), values(g.output_count(), 9));
    let scale = (values(10, 10), values(10, 11));
    let finish = Finish {
        bias: Some(&bias),
        scale: Some(&scale),
        residual: Some(&residual),
        clamp: Some((-0.5, 0.75)),
    };
    let packed = PackedConv::new(&weight, 1, 10, 24);
    let dense = conv::forward(&x, &packed, &g, &finish).expect("a valid geometry");
    let dense: Vec<f64> = dense.into_iter().map(f64::from).collect();
    for form in FORMS {
        let sparse = SparseWeight::new(&weight, 10, 24, form);
        let y = forward(&x, &sparse, &g, &finish).expect("a valid geometry");
        assert_close(&y, &dense, 2 * g.depth());
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for (batch, side) in [(1, 28), (5, 7), (1, 1)] {
        let (rows, columns) = (plain(side), plain(side));
        let g =
            ConvGeometry { batch, groups: 1, in_channels: 96, out_channels: 130, rows, columns };
        let x = values(g.input_count(), 12);
        let weight = thinned(values(g.weight_count(), 13), g.depth(), 0.3, 4);
        for form in FORMS {
            let sparse = SparseWeight::new(&weight, 130, 96, form);
            let with = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                let run = || forward(&x, &sparse, &g, &Finish::default());
                pool.expect("threads").install(run).expect("a valid geometry")
            };
            let one: Vec<u32> = with(1).into_iter().map(f32::to_bits).collect();
            for threads in [2, 3, 7] {
                let many: Vec<u32> = with(threads).into_iter().map(f32::to_bits).collect();
                assert!(one == many, "{threads} threads");
            }
        }
    }
}

#[test]
fn zero_weights_are_not_kept() {
    let weight = thinned(values(64 * 32, 14), 32, 0.25, 4);
    let nonzeros = weight.iter().filter(|&&value| value != 0.0).count();
    let share = nonzeros as f64 / weight.len() as f64;
    for form in FORMS {
        assert_eq!(SparseWeight::new(&weight, 64, 32, form).density(), share, "{form:?}");
    }
}
