//! When the sparse kernel wins.

use super::super::simd::Level;
use super::weight::{QUAD, SparseForm, SparseWeight};

/// Time of one weight that is kept over that of one weight of the dense kernel.
///
/// From the crossovers of `cargo xtask crossover` (`benches/sparse.md`), taken where the layer of
/// the latest crossover already wins: a layer below this density was faster sparse in every
/// shape that was measured.
fn cost(form: SparseForm) -> f64 {
    match (Level::detected(), form) {
        (_, SparseForm::Single) => 3.0,
        (_, SparseForm::Quads) => 1.6,
    }
}

impl SparseWeight {
    /// The weight in the faster form, if that beats the dense kernel on this processor: judged by
    /// the share of weights that each form multiplies. The outputs' positions, which are not known
    /// yet, move the crossover by a few points of density.
    ///
    /// # Panics
    /// When `values` does not hold `outputs * depth` elements.
    pub fn if_faster(values: &[f32], outputs: usize, depth: usize) -> Option<Self> {
        let all = (outputs * depth).max(1) as f64;
        let costs = [SparseForm::Single, SparseForm::Quads]
            .map(|form| (cost(form) * kept(values, outputs, depth, form) as f64 / all, form));
        let (cost, form) = costs.into_iter().min_by(|a, b| a.0.total_cmp(&b.0))?;
        (cost < 1.0).then(|| Self::new(values, outputs, depth, form))
    }
}

/// Weights that a form multiplies.
fn kept(values: &[f32], outputs: usize, depth: usize, form: SparseForm) -> usize {
    assert_eq!(values.len(), outputs * depth, "elements of the weight");
    match form {
        SparseForm::Single => values.iter().filter(|&&value| value != 0.0).count(),
        SparseForm::Quads => {
            let blocks = values.chunks(QUAD * depth.max(1));
            let used = |rows: &[f32]| {
                let any = |&term: &usize| rows.iter().skip(term).step_by(depth).any(|&v| v != 0.0);
                (0..depth).filter(any).count() * QUAD
            };
            blocks.map(used).sum()
        }
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
        let form = |values: &[f32]| SparseWeight::if_faster(values, 64, 64).map(|w| w.form());
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
