//! When the sparse kernel wins.

use super::super::simd::Level;
use super::weight::{SparseForm, SparseWeight, kept};

/// Time of one weight that is kept over that of one weight of the dense kernel.
///
/// From `cargo xtask crossover` on a processor with AVX-512, and with its wider instructions left
/// unused: the 1x1 layer whose crossover came last was even at 60 % zeros with AVX-512 (`Quads`: at
/// 22 %), at 45 % (below 30 %) with AVX2 and below 30 % without either. The figures here ask for
/// more zeros than that, as the positions of a layer, which are not known when weights are
/// analysed, move its crossover by some points.
fn cost(form: SparseForm) -> f64 {
    let (single, quads) = match Level::detected() {
        Level::Portable => (1.5, 1.2),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => (2.0, 1.2),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => (2.7, 1.3),
    };
    match form {
        SparseForm::Single => single,
        SparseForm::Quads => quads,
    }
}

/// What a weight that is kept costs more where the kernel has several taps: the dense kernel then
/// needs fewer products than weights (Winograd's filtering), and patches have to be gathered. The
/// latest crossovers of 3x3 layers were at 73 % zeros without a pattern and at 54 % in blocks of 4
/// outputs, those of 1x1 layers at 60 % and 22 %.
const TAPS_COST: f64 = 1.7;

impl SparseWeight {
    /// The weight in the faster form, if that beats the dense kernel on this processor: judged by
    /// the share of weights that each form multiplies. `depth` counts input
    /// channels times `taps`, the positions of the kernel. With AVX-512 that is from 63 % zeros
    /// without a pattern for one tap and 78 % for several, and from 23 % and 55 % in blocks of 4
    /// outputs.
    ///
    /// # Panics
    /// When `values` does not hold `outputs * depth` elements.
    pub fn if_faster(values: &[f32], outputs: usize, depth: usize, taps: usize) -> Option<Self> {
        let all = (outputs * depth).max(1) as f64;
        let factor = if taps > 1 { TAPS_COST } else { 1.0 };
        let costs = [SparseForm::Single, SparseForm::Quads].map(|form| {
            (factor * cost(form) * kept(values, outputs, depth, form) as f64 / all, form)
        });
        let (cost, form) = costs.into_iter().min_by(|a, b| a.0.total_cmp(&b.0))?;
        (cost < 1.0).then(|| Self::new(values, outputs, depth, form))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_follows_the_zeros() {
        let weight = |is_kept: fn(usize, usize) -> bool| -> Vec<f32> {
            let value = |i: usize| if is_kept(i / 64, i % 64) { 1.0 } else { 0.0 };
            (0..64 * 64).map(value).collect()
        };
        let form = |values: &[f32]| SparseWeight::if_faster(values, 64, 64, 1).map(|w| w.form());
        assert_eq!(form(&weight(|_, _| true)), None);
        assert_eq!(form(&weight(|row, term| (row + 5 * term) % 10 == 0)), Some(SparseForm::Single));
        assert_eq!(form(&weight(|row, term| (row / 4 + term) % 4 == 0)), Some(SparseForm::Quads));
        assert_eq!(form(&weight(|_, _| false)), Some(SparseForm::Single));
    }

    #[test]
    fn a_form_keeps_as_many_weights_as_are_counted() {
        let values: Vec<f32> = (0..37 * 11).map(|i| if i % 7 == 0 { 1.0 } else { 0.0 }).collect();
        for form in [SparseForm::Single, SparseForm::Quads] {
            let kept = kept(&values, 37, 11, form) as f64;
            let weight = SparseWeight::new(&values, 37, 11, form);
            assert!((weight.density() - kept / (37.0 * 11.0)).abs() < 1e-12, "{form:?}");
        }
    }
}
