//! The fast CPU paths: convolution, depthwise convolution, pooling, normalization and matrix products
//! as candle custom operations, with their gradients.
//!
//! Everything rests on one product of small blocks (`block`), written once over `simd::Simd`
//! and compiled for AVX-512, AVX2 and any other processor; which one runs is decided at run time.
//! Work is split over the current rayon pool by output positions only, never along a sum, so
//! results are the same bits for any number of threads.
//!
//! This is the only module with `unsafe` code.
#![allow(unsafe_code, reason = "vector instructions, and threads that fill parts of one output")]

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod batch_norm;
mod block;
mod channelwise;
mod conv;
mod conv_op;
mod depthwise;
mod depthwise_gradient;
mod epilogue;
mod geometry;
mod input_gradient;
mod lattice;
mod lattice_conv;
mod lattice_gradient;
mod matmul;
mod normalize;
mod parallel;
mod patches;
mod pool;
mod pool_gradient;
mod precision;
mod products;
mod simd;
mod sparse;
mod storage;
mod tiles;
mod training;
mod transpose;
mod weight_gradient;
mod widest;
mod winograd;

pub use channelwise::scale_channels;
pub use conv::PackedConv;
pub use conv_op::{convolution, convolution_in, transposed_convolution};
pub use epilogue::Epilogue;
pub use geometry::{ConvGeometry, WindowAxis, check_count};
pub use matmul::{PackedMatrix, ProductShape, matrix_product};
pub use normalize::{Normalized, batch_norm_train, normalize_rows};
pub use pool::{Pooling, global_pool, pool};
pub use precision::Precision;
pub use products::{ColumnPanels, TILE, add_products};
pub use sparse::{SparseForm, SparseWeight};
pub use training::{
    add, batch_norm_backward, batch_norm_forward, clamp_backward, convolution_backward,
    pool_backward,
};
pub use widest::widest;

#[cfg(test)]
mod gradient_tests;
#[cfg(test)]
#[allow(clippy::expect_used, reason = "tests")]
mod lattice_tests;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
