//! Convolutions of few channels on a lattice against plain loops.

use super::conv::PackedConv;
use super::epilogue::Finish;
use super::geometry::{ConvGeometry, WindowAxis};
use super::tests::{assert_close, on_each_level, values};
use super::{lattice_conv, lattice_gradient, reference};
use proptest::prelude::*;

fn axis(
    inputs: std::ops::Range<usize>,
    strides: std::ops::Range<usize>,
) -> impl Strategy<Value = WindowAxis> {
    (inputs, 1_usize..4, strides, 1_usize..3, 0_usize..3, 0_usize..3).prop_filter_map(
        "the kernel fits",
        |(input, kernel, stride, dilation, pad_begin, pad_end)| {
            let room = (input + pad_begin + pad_end).checked_sub((kernel - 1) * dilation + 1)?;
            let output = room / stride + 1;
            Some(WindowAxis { input, output, kernel, stride, dilation, pad_begin, pad_end })
        },
    )
}

/// Geometries that are computed this way, with strides along the rows.
fn geometry() -> impl Strategy<Value = ConvGeometry> {
    (16_usize..20, 1_usize..6, 1_usize..20, axis(3..9, 1..3), axis(16..40, 1..2))
        .prop_map(|(batch, in_channels, out_channels, rows, columns)| ConvGeometry {
            batch,
            groups: 1,
            in_channels,
            out_channels,
            rows,
            columns,
        })
        .prop_filter("a convolution of few channels", |g| {
            lattice_conv::suits(g) && lattice_conv::suits_gradient(g)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn convolutions_on_a_lattice_match_loops(g in geometry(), seed in any::<u64>()) {
        let (x, weight) = (values(g.input_count(), seed), values(g.weight_count(), seed ^ 1));
        let bias = values(g.out_channels, seed ^ 2);
        let finish = Finish { bias: Some(&bias), ..Finish::default() };
        let packed = PackedConv::new(&weight, 1, g.out_channels, g.depth());
        let expected = reference::convolution(&x, &weight, Some(&bias), &g);
        on_each_level(|| {
            let found = lattice_conv::forward(&x, &packed, &g, &finish).expect("memory");
            assert_close(&found, &expected, g.depth());
        });
    }

    #[test]
    fn weight_gradients_on_a_lattice_match_loops(g in geometry(), seed in any::<u64>()) {
        let (x, dy) = (values(g.input_count(), seed), values(g.output_count(), seed ^ 1));
        let expected = reference::weight_gradient(&x, &dy, &g);
        on_each_level(|| {
            let found = lattice_gradient::weight_gradient(&x, &dy, &g).expect("memory");
            assert_close(&found, &expected, g.batch * g.output_area());
        });
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits(g in geometry(), seed in any::<u64>()) {
        let (x, weight) = (values(g.input_count(), seed), values(g.weight_count(), seed ^ 1));
        let dy = values(g.output_count(), seed ^ 2);
        let packed = PackedConv::new(&weight, 1, g.out_channels, g.depth());
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("a pool").install(|| {
                let y = lattice_conv::forward(&x, &packed, &g, &Finish::default());
                let dweight = lattice_gradient::weight_gradient(&x, &dy, &g);
                (y.expect("memory"), dweight.expect("memory"))
            })
        };
        prop_assert_eq!(on(1), on(3));
    }
}
