//! Matrix products.

use super::block::{Block, LEFT_SLACK, PANEL, ROWS, depth_step, multiply, pack_rows};
use super::geometry::check_count;
use super::parallel::{Output, filled, for_each, threads, with_scratch};
use super::simd::{Kernel, SECTION, Simd, dispatch};
use super::sparse::{self, SparseWeight};
use super::storage::{candle_error, elements, with_elements};
use super::transpose::transpose;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Tensor, bail};
use std::ops::Range;
use std::sync::Arc;

/// Elements of packed left rows that one task holds.
const LEFT: usize = 1 << 16;

/// Sizes of a product `[rows, inner] x [inner, columns]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProductShape {
    /// Rows of the result.
    pub rows: usize,
    /// Terms of each sum.
    pub inner: usize,
    /// Columns of the result.
    pub columns: usize,
    /// Is the left factor stored as `inner x rows`?
    pub transpose_a: bool,
    /// Is the right factor stored as `columns x inner`?
    pub transpose_b: bool,
}

impl ProductShape {
    /// Multiply-accumulates.
    pub fn macs(&self) -> u64 {
        [self.rows, self.inner, self.columns]
            .iter()
            .fold(1, |macs: u64, &n| macs.saturating_mul(n as u64))
    }
}

/// A right factor in the order in which the kernel reads it: panels of columns, term by term.
#[derive(Debug)]
pub struct PackedMatrix {
    values: Vec<f32>,
    inner: usize,
    columns: usize,
    /// The matrix without its zeros, as a weight of `columns` outputs; `values` is empty then.
    sparse: Option<SparseWeight>,
}

impl From<SparseWeight> for PackedMatrix {
    fn from(sparse: SparseWeight) -> Self {
        let (inner, columns) = (sparse.depth(), sparse.rows());
        Self { values: Vec::new(), inner, columns, sparse: Some(sparse) }
    }
}

impl PackedMatrix {
    /// Packs a matrix `inner x columns`, stored as `columns x inner` if `transposed`.
    ///
    /// # Panics
    /// When `values` does not hold `inner * columns` elements.
    pub fn new(values: &[f32], inner: usize, columns: usize, transposed: bool) -> Self {
        assert_eq!(values.len(), inner * columns, "elements of the matrix");
        let mut packed = vec![0.0; inner * columns.next_multiple_of(SECTION)];
        for first in (0..columns).step_by(PANEL) {
            let (count, width) = (PANEL.min(columns - first), panel_width(columns, first));
            if transposed && inner > 0 {
                let from = &values[first * inner..(first + count) * inner];
                let to = &mut packed[first * inner..][..(inner - 1) * width + count];
                // SAFETY: the slices hold `count` rows of `inner` elements and the converse.
                unsafe { transpose(from.as_ptr(), inner, [count, inner], to.as_mut_ptr(), width) };
                continue;
            }
            for k in 0..inner {
                let row = &mut packed[first * inner + k * width..][..count];
                row.copy_from_slice(&values[k * columns + first..][..count]);
            }
        }
        Self { values: packed, inner, columns, sparse: None }
    }
}

/// Columns of the panel that starts at column `first`, rounded up to whole sections.
fn panel_width(columns: usize, first: usize) -> usize {
    PANEL.min(columns - first).next_multiple_of(SECTION)
}

/// The products of the given pairs of matrices, stacked: `[pairs, rows, columns]`.
///
/// `a` and `b` hold matrices one after the other, and a pair gives an index into each. `packed`
/// may hold the packed form of the only matrix of `b`. `bias` is added to each row. Gradients flow to
/// both factors and to the bias.
///
/// # Errors
/// When an operand does not have the size or type that `shape` implies.
pub fn matrix_product(
    a: &Tensor,
    b: &Tensor,
    shape: &ProductShape,
    pairs: &[(usize, usize)],
    packed: Option<&Arc<PackedMatrix>>,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let product = Product { shape: *shape, pairs: pairs.to_vec(), packed: packed.cloned() };
    let (a, b) = (a.contiguous()?, b.contiguous()?);
    match bias {
        Some(bias) => a.apply_op3(&b, &bias.contiguous()?, product),
        None => a.apply_op2(&b, product),
    }
}

struct Product {
    shape: ProductShape,
    pairs: Vec<(usize, usize)>,
    packed: Option<Arc<PackedMatrix>>,
}

const NAME: &str = "matrix product";

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(elements(a, a_layout)?, elements(b, b_layout)?, None)
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.backward(a, b, &dy.contiguous()?)
    }
}

impl CustomOp3 for Product {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (a, b) = (elements(a, a_layout)?, elements(b, b_layout)?);
        self.forward(a, b, Some(elements(bias, bias_layout)?))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (da, db) = self.backward(a, b, &dy.contiguous()?)?;
        let dbias = bias.track_op().then(|| dy.sum((0, 1))?.reshape(bias.dims()));
        Ok((da, db, dbias.transpose()?))
    }
}

impl Product {
    fn forward(&self, a: &[f32], b: &[f32], bias: Option<&[f32]>) -> Result<(CpuStorage, Shape)> {
        let s = &self.shape;
        let values = self.product(a, b, bias)?;
        Ok((CpuStorage::F32(values), (self.pairs.len(), s.rows, s.columns).into()))
    }

    fn product(&self, a: &[f32], b: &[f32], bias: Option<&[f32]>) -> Result<Vec<f32>> {
        let s = &self.shape;
        for dims in [[s.rows, s.inner], [s.inner, s.columns], [s.rows, s.columns]] {
            check_count(&[self.pairs.len().max(1), dims[0], dims[1]]).map_err(candle_error)?;
        }
        let (a_count, b_count) = (s.rows * s.inner, s.inner * s.columns);
        let fits = |len: usize, count: usize, index: usize| (index + 1) * count <= len;
        let sizes_fit =
            self.pairs.iter().all(|&(i, j)| fits(a.len(), a_count, i) && fits(b.len(), b_count, j));
        if !sizes_fit || bias.is_some_and(|bias| bias.len() != s.columns) {
            bail!("operands do not have the sizes of {s:?}");
        }
        let matrices: Vec<Arc<PackedMatrix>> = match &self.packed {
            Some(packed) if (packed.inner, packed.columns) == (s.inner, s.columns) => {
                vec![packed.clone()]
            }
            _ => {
                let count = self.pairs.iter().map(|pair| pair.1 + 1).max().unwrap_or(0);
                let matrix = |i| &b[i * b_count..(i + 1) * b_count];
                let pack = |i| PackedMatrix::new(matrix(i), s.inner, s.columns, s.transpose_b);
                (0..count).map(|i| Arc::new(pack(i))).collect()
            }
        };
        if self.pairs.iter().any(|&(_, j)| j >= matrices.len()) {
            bail!("a packed factor of one matrix for several");
        }
        self.multiply(a, &matrices, bias).map_err(candle_error)
    }

    /// Gradients of the factors that lead to variables. With `C = A B`, `dA = dC B'` and
    /// `dB = A' dC`; a factor that is stored transposed gets the transposed gradient.
    fn backward(
        &self,
        a: &Tensor,
        b: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ProductShape { rows, inner, columns, transpose_a, transpose_b } = self.shape;
        let numbered = || self.pairs.iter().copied().enumerate();
        let da = || {
            let places: Vec<usize> = self.pairs.iter().map(|pair| pair.0).collect();
            if transpose_a {
                let shape = ProductShape {
                    rows: inner,
                    inner: columns,
                    columns: rows,
                    transpose_a: transpose_b,
                    transpose_b: true,
                };
                gradient(b, dy, shape, numbered().map(|(p, (_, j))| (j, p)).collect(), &places, a)
            } else {
                let shape = ProductShape {
                    rows,
                    inner: columns,
                    columns: inner,
                    transpose_a: false,
                    transpose_b: !transpose_b,
                };
                gradient(dy, b, shape, numbered().map(|(p, (_, j))| (p, j)).collect(), &places, a)
            }
        };
        let db = || {
            let places: Vec<usize> = self.pairs.iter().map(|pair| pair.1).collect();
            if transpose_b {
                let shape = ProductShape {
                    rows: columns,
                    inner: rows,
                    columns: inner,
                    transpose_a: true,
                    transpose_b: transpose_a,
                };
                gradient(dy, a, shape, numbered().map(|(p, (i, _))| (p, i)).collect(), &places, b)
            } else {
                let shape = ProductShape {
                    rows: inner,
                    inner: rows,
                    columns,
                    transpose_a: !transpose_a,
                    transpose_b: false,
                };
                gradient(a, dy, shape, numbered().map(|(p, (i, _))| (i, p)).collect(), &places, b)
            }
        };
        let da = a.track_op().then(da).transpose()?;
        Ok((da, b.track_op().then(db).transpose()?))
    }

    /// The products of all left factors with one sparse matrix.
    fn multiply_sparse(
        &self,
        a: &[f32],
        weight: &SparseWeight,
        bias: Option<&[f32]>,
    ) -> crate::Result<Vec<f32>> {
        let s = &self.shape;
        let size = s.rows * s.inner;
        let mut products = Vec::new();
        for &(i, _) in &self.pairs {
            let a = &a[i * size..(i + 1) * size];
            let product = sparse::product(a, weight, s.rows, s.transpose_a, bias)?;
            if self.pairs.len() == 1 {
                return Ok(product);
            }
            products.extend(product);
        }
        Ok(products)
    }

    fn multiply(
        &self,
        a: &[f32],
        matrices: &[Arc<PackedMatrix>],
        bias: Option<&[f32]>,
    ) -> crate::Result<Vec<f32>> {
        let s = &self.shape;
        let count = self.pairs.len() * s.rows * s.columns;
        if s.inner == 0 {
            return Ok((0..count).map(|i| bias.map_or(0.0, |bias| bias[i % s.columns])).collect());
        }
        if let Some(sparse) = matrices.first().and_then(|matrix| matrix.sparse.as_ref()) {
            return self.multiply_sparse(a, sparse, bias);
        }
        let rows = (LEFT / s.inner / ROWS * ROWS).clamp(ROWS, 8 * ROWS).min(s.rows.max(1));
        let row_parts = s.rows.div_ceil(rows);
        let panels = s.columns.div_ceil(PANEL);
        let parts = threads().div_ceil((self.pairs.len() * row_parts).max(1)).min(panels.max(1));
        let share = panels.div_ceil(parts);
        let tasks = self.pairs.len() * row_parts * parts;
        // SAFETY: every row of every pair lies in one part of rows, every column in one share.
        unsafe {
            filled(count, |output| {
                for_each(tasks, rows * s.inner * share * PANEL, |task| {
                    let (place, part) = (task / parts, task % parts);
                    let (pair, row_part) = (place / row_parts, place % row_parts);
                    let (i, j) = self.pairs[pair];
                    let first_row = row_part * rows;
                    let columns = (part * share * PANEL).min(s.columns)
                        ..((part + 1) * share * PANEL).min(s.columns);
                    with_scratch(rows * s.inner + LEFT_SLACK + rows * PANEL, |scratch| {
                        let (left, sums) = scratch.split_at_mut(rows * s.inner + LEFT_SLACK);
                        dispatch(Part {
                            shape: s,
                            a: &a[i * s.rows * s.inner..][..s.rows * s.inner],
                            matrix: &matrices[j],
                            bias,
                            output,
                            start: pair * s.rows * s.columns,
                            rows: first_row..(first_row + rows).min(s.rows),
                            columns,
                            left,
                            sums,
                        });
                    });
                });
            })
        }
    }
}

/// The products of `a` and `b`, each added to its place among the matrices of `like`.
fn gradient(
    a: &Tensor,
    b: &Tensor,
    shape: ProductShape,
    pairs: Vec<(usize, usize)>,
    places: &[usize],
    like: &Tensor,
) -> Result<Tensor> {
    let count = shape.rows * shape.columns;
    let product = Product { shape, pairs, packed: None };
    let values = with_elements(a, |a| with_elements(b, |b| product.product(a, b, None)))???;
    let in_order = places.iter().copied().eq(0..places.len());
    let values = if in_order && values.len() == like.elem_count() {
        values
    } else {
        let mut sums = vec![0.0; like.elem_count()];
        for (&place, values) in places.iter().zip(values.chunks_exact(count.max(1))) {
            let sums = &mut sums[place * count..(place + 1) * count];
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
        sums
    };
    Tensor::from_vec(values, like.dims(), &Device::Cpu)
}

/// Some rows and columns of one product.
struct Part<'a> {
    shape: &'a ProductShape,
    a: &'a [f32],
    matrix: &'a PackedMatrix,
    bias: Option<&'a [f32]>,
    output: &'a Output<'a>,
    start: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    left: &'a mut [f32],
    sums: &'a mut [f32],
}

impl Kernel for Part<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let s = self.shape;
        let count = self.rows.len();
        pack_rows(count, s.inner, self.left, |row, k| {
            let row = self.rows.start + row;
            self.a[if s.transpose_a { k * s.rows + row } else { row * s.inner + k }]
        });
        let step = depth_step(s.inner);
        for first in self.columns.clone().step_by(PANEL) {
            let columns = PANEL.min(s.columns - first);
            let width = panel_width(s.columns, first);
            let panel = &self.matrix.values[first * s.inner..][..s.inner * width];
            for term in (0..s.inner).step_by(step) {
                let terms = step.min(s.inner - term);
                for row in (0..count).step_by(ROWS) {
                    let rows = ROWS.min(count - row);
                    let left =
                        &self.left[row * s.inner + term * rows..][..terms * rows + LEFT_SLACK];
                    let sums = &mut self.sums[row * PANEL..][..rows * PANEL];
                    // SAFETY: the slices have the sizes of the block; panels are whole sections.
                    unsafe {
                        multiply::<S>(Block {
                            rows,
                            columns,
                            depth: terms,
                            left: left.as_ptr(),
                            left_step: rows,
                            right: panel[term * width..].as_ptr(),
                            right_step: width,
                            sums: sums.as_mut_ptr(),
                            add: term > 0,
                        });
                    }
                }
            }
            for (row, sums) in self.sums.chunks_exact(PANEL).enumerate().take(count) {
                let start = self.start + (self.rows.start + row) * s.columns + first;
                // SAFETY: this task alone writes these rows and columns.
                let out = unsafe { self.output.part(start, columns) };
                for (j, &sum) in sums[..columns].iter().enumerate() {
                    let bias = self.bias.map_or(0.0, |bias| bias[first + j]);
                    // SAFETY: `j` lies within the part.
                    unsafe { out.add(j).write(sum + bias) };
                }
            }
        }
    }
}
