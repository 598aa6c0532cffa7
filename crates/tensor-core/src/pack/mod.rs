//! Sparse model files that are small: packing without loss.
//!
//! Zeroed weights take as much space in an ONNX file as any others. [`pack`] cuts the data of float
//! tensors out of the file and stores each as the smallest of three [codings](Coding); [`unpack`]
//! gives back the file byte for byte. A packed file is a valid `safetensors` file:
//!
//! | entry | type | what |
//! |---|---|---|
//! | metadata `kerf.pack` | JSON | size and SHA-256 of the model file; place, element type, count and coding of each cut tensor |
//! | `skeleton` | `U8` | the model file without the cut ranges |
//! | `<i>.values` | as the tensor | the elements of cut tensor `i` that are not zero, in order |
//! | `<i>.mask` | `U8` | coding `mask`: a bit per element, lowest first, 1 where an element is not zero |
//! | `<i>.gaps` | `U8` | coding `gaps`: 4-bit relative indices, lower half first |
//!
//! An element is zero when all of its bits are: `-0.0` and NaN are kept as values, bit for bit.
//!
//! The codings are those of the tables 5 and 6 in Zhu and Gupta, "To prune, or not to prune"
//! (2017), after Han et al., "Deep Compression" (2016). [`expected_bytes`] is the formula. The
//! paper counts half a byte for each non-zero element; gaps of 15 and more need further indices,
//! which the formula here counts as well. Unlike in "Deep Compression" these store no zero beside
//! them, which at 95 % sparsity would almost double the file.

mod container;
mod formula;
mod mask;
mod plan;
mod relative;

pub use container::{METADATA, unpack};
pub use formula::{expected_bytes, index_bytes};
pub use plan::{Coding, Packed, PackedTensor, pack};
