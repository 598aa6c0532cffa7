//! Masks: patterns, counts, ties, layouts.
#![allow(clippy::unwrap_used, reason = "tests")]

use candle_core::{DType, Device, Tensor};
use magnitude_schedule::{
    Distribution, LayerSize, LayerWeight, Layout, Mask, Pattern, masks, masks_of_counts, split,
};
use proptest::prelude::*;

fn tensor(values: &[f32], dims: &[usize]) -> Tensor {
    Tensor::from_slice(values, dims, &Device::Cpu).unwrap()
}

fn kept(mask: &Mask) -> Vec<usize> {
    (0..mask.keep().len()).filter(|&i| mask.keep()[i]).collect()
}

#[test]
fn ties_keep_the_lower_index() {
    let weight = tensor(&[1.0; 8], &[2, 4]);
    let mask = Mask::magnitude(&weight, 0.625, Pattern::Unstructured).unwrap();
    assert_eq!(kept(&mask), [0, 1, 2]);
    let mask = Mask::magnitude(&weight, 0.75, Pattern::NM(1, 4)).unwrap();
    assert_eq!(kept(&mask), [0, 4]);
    let mask = Mask::magnitude(&weight, 0.5, Pattern::Block(1, 2)).unwrap();
    assert_eq!(kept(&mask), [0, 1, 2, 3]);
    let mask = Mask::magnitude(&weight, 0.5, Pattern::Rows).unwrap();
    assert_eq!(kept(&mask), [0, 1, 2, 3]);
}

/// A convolution with two taps: the groups of four hold one tap of four inputs each.
#[test]
fn groups_run_along_the_inputs() {
    // [1 output, 4 inputs, 1 x 2]: tap 0 is 8 6 4 2, tap 1 is 1 3 5 7.
    let weight = tensor(&[8.0, 1.0, 6.0, 3.0, 4.0, 5.0, 2.0, 7.0], &[1, 4, 1, 2]);
    let mask = Mask::magnitude(&weight, 0.5, Pattern::NM(2, 4)).unwrap();
    assert_eq!(kept(&mask), [0, 2, 5, 7]);
    let mask = Mask::magnitude(&weight, 0.5, Pattern::Block(1, 2)).unwrap();
    // Means: tap 0 has 7 and 3, tap 1 has 2 and 6.
    assert_eq!(kept(&mask), [0, 2, 5, 7]);
    // The same weights of a matrix product, [inputs, outputs].
    let weight = tensor(&[8.0, 1.0, 6.0, 3.0, 4.0, 5.0, 2.0, 7.0], &[4, 2]);
    let layout = Layout::InputsFirst { groups: 1 };
    let mask = Mask::magnitude_in(&weight, layout, 0.5, Pattern::NM(2, 4)).unwrap();
    assert_eq!(kept(&mask), [0, 2, 5, 7]);
}

/// Of the last two of six inputs one may go: 2 * (4 - 2) / 4.
#[test]
fn remainders_go_in_proportion() {
    let weight = tensor(&[6.0, 5.0, 4.0, 3.0, 2.0, 1.0], &[1, 6]);
    let mask = Mask::magnitude(&weight, 0.5, Pattern::NM(2, 4)).unwrap();
    assert_eq!(kept(&mask), [0, 1, 4]);
    // One input alone stays: 1 * 2 / 4 rounds down.
    let weight = tensor(&[1.0, 2.0, 3.0, 4.0, 0.1], &[1, 5]);
    let mask = Mask::magnitude(&weight, 0.5, Pattern::NM(2, 4)).unwrap();
    assert_eq!(kept(&mask), [2, 3, 4]);
    // 4x4 blocks at the edges are smaller.
    let weight = tensor(&[1.0; 30], &[5, 6]);
    let mask = Mask::magnitude(&weight, 0.1, Pattern::Block(4, 4)).unwrap();
    assert_eq!(mask.zeros(), 2);
}

/// Of two groups of three outputs blocks of two rows are {0, 1}, {2}, {3, 4} and {5}.
#[test]
fn blocks_lie_within_a_group() {
    let weight = tensor(&[5.0, 5.0, 1.0, 1.0, 1.0, 5.0], &[6, 1, 1, 1]);
    let layout = Layout::GroupedOutputsFirst { groups: 2 };
    let mask = Mask::magnitude_in(&weight, layout, 0.5, Pattern::Block(2, 1)).unwrap();
    assert_eq!(kept(&mask), [0, 1, 5]);
    // A transposed convolution of the same rows: [inputs of both groups, outputs of one].
    let weight = tensor(&[5.0, 5.0, 1.0, 1.0, 1.0, 5.0], &[2, 3, 1, 1]);
    let layout = Layout::InputsFirst { groups: 2 };
    let mask = Mask::magnitude_in(&weight, layout, 0.5, Pattern::Block(2, 1)).unwrap();
    assert_eq!(kept(&mask), [0, 1, 5]);
}

#[test]
fn wrong_input_is_refused() {
    let weight = tensor(&[1.0, f32::NAN], &[1, 2]);
    let code = |weight: &Tensor, sparsity, pattern| {
        Mask::magnitude(weight, sparsity, pattern).unwrap_err().code()
    };
    assert_eq!(code(&weight, 0.5, Pattern::Unstructured), "E0433");
    let weight = tensor(&[1.0, 2.0], &[1, 2]);
    assert_eq!(code(&weight, 1.0, Pattern::Unstructured), "E0430");
    assert_eq!(code(&weight, 0.6, Pattern::NM(2, 4)), "E0431");
    assert_eq!(code(&weight, 0.1, Pattern::NM(4, 2)), "E0431");
    assert_eq!(code(&tensor(&[1.0], &[1]), 0.5, Pattern::Unstructured), "E0432");
    assert!(Mask::full(&[2]).apply(&weight).is_err());
    assert!(Mask::new(&[3], vec![true]).is_err());
}

#[test]
fn masks_are_applied_merged_and_counted() {
    let weight = tensor(&[1.0, -2.0, f32::NAN, 4.0], &[2, 2]);
    let a = Mask::new(&[2, 2], vec![true, true, false, false]).unwrap();
    let b = Mask::new(&[2, 2], vec![true, false, true, false]).unwrap();
    let applied = a.apply(&weight).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(applied.map_bits(), [1.0_f32, -2.0, 0.0, 0.0].map(f32::to_bits));
    assert_eq!(kept(&a.and(&b).unwrap()), [0]);
    assert_eq!((a.zeros(), a.sparsity()), (2, 0.5));
    assert_eq!(a.tensor(DType::F32).unwrap().to_vec2::<f32>().unwrap(), [[1., 1.], [0., 0.]]);
    assert_eq!(Mask::of_nonzeros(&tensor(&[0.0, 1.0, -0.0], &[3])).unwrap().zeros(), 2);
}

trait Bits {
    fn map_bits(self) -> [u32; 4];
}

impl Bits for Vec<f32> {
    fn map_bits(self) -> [u32; 4] {
        <[f32; 4]>::try_from(self).unwrap().map(f32::to_bits)
    }
}

#[test]
fn layers_share_a_sparsity() {
    let first = tensor(&[0.1, 0.2, 0.3, 0.4], &[2, 2]);
    let second = tensor(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[3, 2]);
    let layer = |weight| LayerWeight { weight, layout: Layout::OutputsFirst, mask: None };
    let layers = [layer(&first), layer(&second)];
    let zeros = |distribution, sparsity| -> Vec<usize> {
        let found = masks(&layers, distribution, sparsity, Pattern::Unstructured).unwrap();
        found.iter().map(Mask::zeros).collect()
    };
    assert_eq!(zeros(Distribution::Uniform, 0.5), [2, 3]);
    assert_eq!(zeros(Distribution::Layerwise, 0.5), [2, 3]);
    // All of the first are smaller, but one has to stay.
    assert_eq!(zeros(Distribution::Global, 0.5), [3, 2]);
    assert_eq!(zeros(Distribution::Erk, 0.5).iter().sum::<usize>(), 5);
    let given = masks_of_counts(&layers, &[1, 4], Pattern::Unstructured).unwrap();
    assert_eq!(given.iter().map(Mask::zeros).collect::<Vec<_>>(), [1, 4]);
    assert!(masks_of_counts(&layers, &[1], Pattern::Unstructured).is_err());
}

fn patterns() -> impl Strategy<Value = Pattern> {
    prop_oneof![
        Just(Pattern::Unstructured),
        Just(Pattern::NM(2, 4)),
        Just(Pattern::NM(4, 8)),
        Just(Pattern::NM(1, 4)),
        Just(Pattern::Block(1, 4)),
        Just(Pattern::Block(4, 4)),
        Just(Pattern::Rows),
    ]
}

/// Every group of a row's tap has no more weights than it may.
fn keeps_n_of_m(mask: &Mask, layout: Layout, n: usize, m: usize) -> bool {
    let grid = layout.grid(mask.dims()).unwrap();
    (0..grid.rows()).all(|row| {
        (0..grid.taps()).all(|tap| {
            (0..grid.inputs()).step_by(m).all(|start| {
                let end = (start + m).min(grid.inputs());
                let column = |input| grid.place(row, tap * grid.inputs() + input);
                let left = (start..end).filter(|&input| mask.keep()[column(input)]).count();
                left <= (n * (end - start)).div_ceil(m)
            })
        })
    })
}

proptest! {
    #[test]
    fn counts_are_exact_and_masks_grow(
        (outputs, inputs, taps) in (1_usize..9, 1_usize..19, 1_usize..5),
        pattern in patterns(),
        is_transposed in any::<bool>(),
        seed in any::<u32>(),
        sparsity in 0.0..0.99,
    ) {
        let count = outputs * inputs * taps;
        // Few different values, so that there are many ties.
        let values: Vec<f32> = (0..count)
            .map(|i| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 28) as f32 - 8.0)
            .collect();
        let (layout, dims) = match is_transposed {
            true => (Layout::InputsFirst { groups: 1 }, [inputs, outputs, taps]),
            false => (Layout::OutputsFirst, [outputs, inputs, taps]),
        };
        let weight = tensor(&values, &dims);
        let most = pattern.own_sparsity().unwrap_or(1.0);
        let sparsity = sparsity * most;
        let mask = Mask::magnitude_in(&weight, layout, sparsity, pattern).unwrap();
        let wanted = (sparsity * count as f64).round() as usize;
        match pattern {
            Pattern::Unstructured => prop_assert_eq!(mask.zeros(), wanted),
            Pattern::NM(..) => prop_assert!(mask.zeros() <= wanted),
            Pattern::Block(h, w) => prop_assert!(mask.zeros().abs_diff(wanted) <= h * w),
            Pattern::Rows => prop_assert!(mask.zeros().abs_diff(wanted) <= inputs * taps),
        }
        if let Pattern::NM(n, m) = pattern {
            let whole = Mask::magnitude_in(&weight, layout, most, pattern).unwrap();
            prop_assert!(keeps_n_of_m(&whole, layout, n, m));
        }
        // A further update of the masked weight masks no less.
        let masked = mask.apply(&weight).unwrap();
        let layer = LayerWeight { weight: &masked, layout, mask: Some(&mask) };
        let later = masks(&[layer], Distribution::Uniform, most * 0.99, pattern).unwrap();
        prop_assert!(mask.keep().iter().zip(later[0].keep()).all(|(a, b)| *a || !*b));
        prop_assert!(later[0].zeros() >= mask.zeros());
    }

    #[test]
    fn splits_are_exact(
        sizes in proptest::collection::vec((1_usize..40, 1_usize..40, 1_usize..4), 1..8),
        sparsity in 0.0..0.99,
        is_erk in any::<bool>(),
    ) {
        let layers: Vec<LayerSize> = sizes
            .into_iter()
            .map(|(outputs, inputs, side)| {
                let capacity = outputs * inputs * side * side;
                LayerSize { outputs, inputs, kernel: vec![side, side], capacity }
            })
            .collect();
        let distribution = if is_erk { Distribution::Erk } else { Distribution::Uniform };
        let counts = split(distribution, &layers, sparsity).unwrap();
        let all: usize = layers.iter().map(LayerSize::weights).sum();
        prop_assert_eq!(counts.iter().sum::<usize>(), (sparsity * all as f64).round() as usize);
        for (layer, &count) in layers.iter().zip(&counts) {
            let share = sparsity * layer.weights() as f64;
            prop_assert!(count <= layer.weights());
            prop_assert!(is_erk || (count as f64 - share).abs() < 1.0);
        }
    }
}
