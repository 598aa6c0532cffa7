//! What runs on tiles of bfloat16, where there are any.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) use super::amx::{TilePanels, forward, weight_gradient};

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(super) use elsewhere::{TilePanels, forward, weight_gradient};

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

    /// Never made.
    #[derive(Debug)]
    pub(in super::super) enum TilePanels {}

    impl TilePanels {
        pub(in super::super) fn new() -> Option<Self> {
            None
        }

        pub(in super::super) fn fill(
            &mut self,
            _values: &[f32],
            _shift: &[f32],
            _sums: &mut [f64],
        ) {
            match *self {}
        }

        pub(in super::super) fn add_products(
            &self,
            _i: usize,
            _b: (&Self, usize, usize),
            _sums: &mut [f64],
        ) {
            match *self {}
        }
    }
}
