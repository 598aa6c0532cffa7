//! Convolutions on tiles against plain loops over rounded values.

use super::super::geometry::ConvGeometry;
use super::super::input_gradient::input_gradient;
use super::super::precision::Precision;
use super::super::reference;
use super::super::tests::{assert_close, axis, values};
use super::{available, forward, weight_gradient};
use proptest::prelude::*;

/// Values that bfloat16 holds exactly, so that only the order of sums differs.
fn rounded(count: usize, seed: u64) -> Vec<f32> {
    let round = |x: f32| half::bf16::from_f32(x).to_f32();
    values(count, seed).into_iter().map(round).collect()
}

fn geometry() -> impl Strategy<Value = ConvGeometry> {
    (1_usize..6, 8_usize..70, 8_usize..70, axis(), axis()).prop_map(
        |(batch, in_channels, out_channels, rows, columns)| ConvGeometry {
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
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn convolutions_on_tiles_match_loops(g in geometry(), seed in any::<u64>()) {
        if !available() {
            return Ok(());
        }
        let (x, weight) = (rounded(g.input_count(), seed), rounded(g.weight_count(), seed ^ 1));
        let bias = rounded(g.out_channels, seed ^ 2);
        let found = forward(&x, &weight, Some(&bias), &g).expect("memory");
        assert_close(&found, &reference::convolution(&x, &weight, Some(&bias), &g), g.depth());
    }

    #[test]
    fn gradients_on_tiles_match_loops(g in geometry(), seed in any::<u64>()) {
        if !available() {
            return Ok(());
        }
        let (x, weight) = (rounded(g.input_count(), seed), rounded(g.weight_count(), seed ^ 1));
        let dy = rounded(g.output_count(), seed ^ 2);
        let terms = g.batch * g.output_area();
        let found = weight_gradient(&x, &dy, &g).expect("memory");
        assert_close(&found, &reference::weight_gradient(&x, &dy, &g), terms);
        let found = input_gradient(&dy, &weight, None, &g, Precision::Bf16).expect("memory");
        assert_close(&found, &reference::input_gradient(&dy, &weight, None, &g), g.out_channels * g.taps());
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits(g in geometry(), seed in any::<u64>()) {
        if !available() {
            return Ok(());
        }
        let g = ConvGeometry { batch: 8 * g.batch, ..g };
        let (x, weight) = (values(g.input_count(), seed), values(g.weight_count(), seed ^ 1));
        let dy = values(g.output_count(), seed ^ 2);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("a pool").install(|| {
                let y = forward(&x, &weight, None, &g).expect("memory");
                (y, weight_gradient(&x, &dy, &g).expect("memory"))
            })
        };
        prop_assert_eq!(on(1), on(3));
    }
}

/// What the tests above skip on other processors is refused there.
#[test]
fn tiles_are_there_or_refused() {
    assert_eq!(Precision::Bf16.check().is_ok(), available());
}

/// Tiles of so few positions are nearly empty.
#[test]
fn small_images_do_not_use_tiles() {
    let axis = |output| super::super::geometry::WindowAxis {
        input: output,
        output,
        kernel: 1,
        stride: 1,
        dilation: 1,
        pad_begin: 0,
        pad_end: 0,
    };
    let of = |output| ConvGeometry {
        batch: 128,
        groups: 1,
        in_channels: 512,
        out_channels: 512,
        rows: axis(output),
        columns: axis(output),
    };
    assert!(!Precision::Bf16.uses_tiles(&of(3)));
    assert_eq!(Precision::Bf16.uses_tiles(&of(4)), available());
}

/// An image without values, and one with room for a single window.
#[test]
fn small_images_have_their_own_values_only() {
    if !available() {
        return;
    }
    let one = super::super::geometry::WindowAxis {
        input: 1,
        output: 1,
        kernel: 3,
        stride: 2,
        dilation: 1,
        pad_begin: 1,
        pad_end: 1,
    };
    let g = ConvGeometry {
        batch: 1,
        groups: 1,
        in_channels: 9,
        out_channels: 17,
        rows: one,
        columns: one,
    };
    let (x, weight) = (rounded(9, 1), rounded(g.weight_count(), 2));
    let found = forward(&x, &weight, None, &g).expect("memory");
    assert_close(&found, &reference::convolution(&x, &weight, None, &g), g.depth());
}
