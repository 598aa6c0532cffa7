//! Constant weights without their zeros.

use super::Prepared;
use crate::Result;
use crate::kernels::{PackedMatrix, SparseForm, SparseWeight};
use crate::run::Array;
use std::any::Any;
use std::sync::Arc;

/// What an operator prepared from a weight without its zeros.
pub struct PreparedSparse {
    /// What [`Operator::eval`](super::Operator::eval) finds in
    /// [`NodeCx::prepared`](super::NodeCx::prepared).
    pub prepared: Prepared,
    /// How the weight is kept.
    pub form: SparseForm,
    /// Weights that are multiplied, as a share of all.
    pub density: f64,
}

impl PreparedSparse {
    /// What `make` makes of a weight.
    pub(super) fn new<T: Any + Send + Sync>(
        weight: SparseWeight,
        make: impl FnOnce(SparseWeight) -> T,
    ) -> Self {
        let (form, density) = (weight.form(), weight.density());
        Self { prepared: Arc::new(make(weight)), form, density }
    }

    /// The right factor of a product, stored as `outputs x inner` if `transposed`; `None` where the
    /// sparse kernel would not be faster.
    ///
    /// # Errors
    /// When the values cannot be read.
    pub(super) fn matrix(factor: &Array, transposed: bool) -> Result<Option<Self>> {
        let &[rows, columns] = factor.dims() else { return Ok(None) };
        let stored = factor.to_f32s()?;
        let (outputs, inner) = if transposed { (rows, columns) } else { (columns, rows) };
        let values = match transposed {
            true => stored,
            false => {
                (0..outputs * inner).map(|i| stored[i % inner * outputs + i / inner]).collect()
            }
        };
        let weight = SparseWeight::if_faster(&values, outputs, inner, 1);
        Ok(weight.map(|weight| Self::new(weight, |weight| Arc::new(PackedMatrix::from(weight)))))
    }
}
