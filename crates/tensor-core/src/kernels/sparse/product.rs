//! Products of dense rows with a sparse matrix.

use super::super::epilogue::Finish;
use super::super::geometry::{ConvGeometry, WindowAxis};
use super::super::transpose::transpose;
use super::conv::forward;
use super::weight::SparseWeight;
use crate::Result;
use std::borrow::Cow;

/// `[rows, inner] x [inner, columns]`, with the right factor as a weight of `columns` outputs. `a`
/// is stored as `inner x rows` if `transposed`; `bias` is added to each row.
///
/// Rows of `a` are the positions of a convolution, which want to be innermost.
///
/// # Errors
/// When there is no memory for the result.
///
/// # Panics
/// When `a` does not hold `rows` rows.
pub(in super::super) fn product(
    a: &[f32],
    weight: &SparseWeight,
    rows: usize,
    transposed: bool,
    bias: Option<&[f32]>,
) -> Result<Vec<f32>> {
    let (inner, columns) = (weight.depth(), weight.rows());
    assert_eq!(a.len(), rows * inner, "elements of the left factor");
    let a = match transposed || rows == 1 {
        true => Cow::Borrowed(a),
        false => Cow::Owned(turned(a, rows, inner)),
    };
    let axis = |length| WindowAxis {
        input: length,
        output: length,
        kernel: 1,
        stride: 1,
        dilation: 1,
        pad_begin: 0,
        pad_end: 0,
    };
    let geometry = ConvGeometry {
        batch: 1,
        groups: 1,
        in_channels: inner,
        out_channels: columns,
        rows: axis(1),
        columns: axis(rows),
    };
    let finish = Finish { bias, ..Finish::default() };
    let product = forward(&a, weight, &geometry, &finish)?;
    Ok(if rows == 1 { product } else { turned(&product, columns, rows) })
}

/// The transposed matrix.
fn turned(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    assert_eq!(values.len(), rows * columns, "elements of the matrix");
    let mut turned = vec![0.0; values.len()];
    // SAFETY: the slices hold `rows` rows of `columns` elements and the converse.
    unsafe { transpose(values.as_ptr(), columns, [rows, columns], turned.as_mut_ptr(), rows) };
    turned
}
