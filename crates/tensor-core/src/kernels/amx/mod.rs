//! Products of bfloat16 on the tile unit of x86 processors (AMX), with sums in `f32`: convolutions,
//! and moments of columns.
//!
//! Inputs of convolutions are rounded to bfloat16 (8 bits of significand) image by image, in the layout that tiles
//! load: no patches are gathered. Padding and stride are resolved then, by a [`Lattice`](super::lattice::Lattice), so that
//! every tap of a window is the same plane of values at another offset.

mod column_panels;
mod convert;
mod forward;
mod tile;
mod weight_gradient;

pub(super) use column_panels::TilePanels;
pub(super) use forward::forward;
pub(super) use weight_gradient::weight_gradient;

#[cfg(test)]
#[allow(clippy::expect_used, reason = "tests")]
mod tests;

use super::geometry::ConvGeometry;
use std::sync::OnceLock;

/// Channels below which most of a tile would be empty.
const MIN_CHANNELS: usize = 8;

/// Positions of an image below which most of a tile would be empty.
const MIN_POSITIONS: usize = 16;

/// Can this process use tiles of bfloat16?
pub(super) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| tile::detected() && tile::permitted())
}

/// Is it a convolution that fills tiles?
pub(super) fn suits(g: &ConvGeometry) -> bool {
    g.groups == 1
        && g.in_channels.min(g.out_channels) >= MIN_CHANNELS
        && g.output_area() >= MIN_POSITIONS
}
