//! Factorization of layers: several thin layers in place of a wide one.
//!
//! * [`Spatial`]: a `kh x kw` convolution as `kh x 1` and `1 x kw` (Jaderberg, Vedaldi and Zisserman,
//!   "Speeding up convolutional neural networks with low rank expansions", BMVC 2014);
//! * [`reduced_rank`]: a layer of few outputs and a `1 x 1` one behind it, whose product has the least
//!   squared error on the responses (reduced-rank regression; Izenman, 1975);
//! * [`rectified`]: the same for what a ReLU leaves of the responses (Zhang, Zou, He and Sun,
//!   "Accelerating very deep convolutional networks for classification and detection", 2015).

mod channel;
mod rectified;
mod spatial;

pub use channel::{ReducedRank, reduced_rank};
pub use rectified::rectified;
pub use spatial::Spatial;

use faer::Mat;

/// The columns of `a` in another order or fewer of them.
fn columns(a: &Mat<f64>, which: impl ExactSizeIterator<Item = usize>) -> Mat<f64> {
    let which: Vec<usize> = which.collect();
    Mat::from_fn(a.nrows(), which.len(), |i, j| a[(i, which[j])])
}
