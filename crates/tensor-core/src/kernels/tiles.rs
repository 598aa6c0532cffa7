//! Convolutions on tiles of bfloat16 where there are any.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) use super::amx::{forward, weight_gradient};

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(super) use elsewhere::{forward, weight_gradient};

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod elsewhere {
    use super::super::geometry::ConvGeometry;
    use crate::{Error, Result};

    pub(in super::super) fn forward(
        _x: &[f32],
        _weight: &[f32],
        _bias: Option<&[f32]>,
        _g: &ConvGeometry,
    ) -> Result<Vec<f32>> {
        Err(Error::internal("no tiles"))
    }

    pub(in super::super) fn weight_gradient(
        _x: &[f32],
        _dy: &[f32],
        _g: &ConvGeometry,
    ) -> Result<Vec<f32>> {
        Err(Error::internal("no tiles"))
    }
}
