//! What numbers of few bits stand for.

mod affine;
mod k_means;
mod tensor;

pub use affine::{Affine, check_bits};
pub use k_means::Codebook;
pub use tensor::Quantizer;
