//! The number format of products.

use super::geometry::ConvGeometry;
use crate::{Error, Result};
use serde::Serialize;

/// The number format of the products in convolutions of a training step. Values between operators,
/// sums and weights are `f32` in either case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 24 bits of significand: the reference.
    #[default]
    F32,
    /// 8 bits of significand (bfloat16), on processors with AMX: several times as fast. Grouped
    /// convolutions, and those of fewer than 8 channels or 16 output positions, stay in `f32`.
    Bf16,
}

impl Precision {
    /// Refuses what this processor cannot do.
    ///
    /// # Errors
    /// `E0408` for [`Bf16`](Self::Bf16) on a processor or system without AMX.
    pub fn check(self) -> Result<()> {
        if self == Self::F32 || tiles_available() {
            return Ok(());
        }
        Err(Error::unsupported("bfloat16 needs a processor with AMX-BF16, and Linux")
            .code_is("E0408")
            .hint("train in 32-bit precision"))
    }

    /// Does a convolution run on tiles of bfloat16?
    pub(crate) fn uses_tiles(self, g: &ConvGeometry) -> bool {
        self == Self::Bf16 && tiles_available() && tiles_suit(g)
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use super::amx::{available as tiles_available, suits as tiles_suit};

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn tiles_available() -> bool {
    false
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn tiles_suit(_g: &ConvGeometry) -> bool {
    false
}
