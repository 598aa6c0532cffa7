//! Interpolation along one axis, as a table of source positions and weights.

use super::elementwise::{fill_rows, slice};
use crate::{Error, Result};
use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use std::sync::Arc;

/// How output positions map to source coordinates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    /// Crop to a part of the source, given in relative coordinates.
    TfCropAndResize,
}

/// How a nearest position is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nearest {
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
}

/// The interpolation between source positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Mode {
    Nearest(Nearest),
    Linear,
    /// With its coefficient a.
    Cubic(f64),
}

/// What to do along one axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    /// Source length.
    pub(super) from: usize,
    /// Output length.
    pub(super) to: usize,
    /// Output length over source length, before rounding.
    pub(super) scale: f64,
    /// First and last relative coordinate of the crop.
    pub(super) crop: (f64, f64),
}

/// Rules that all axes share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) mode: Mode,
    pub(super) coordinates: Coordinates,
    /// Weights outside the source count as zero, and the rest are scaled up.
    pub(super) exclude_outside: bool,
    /// Widen the filter when the output is smaller.
    pub(super) antialias: bool,
}

/// Source positions and weights of each output position: `taps` of each.
#[derive(Debug)]
pub(super) struct Table {
    from: usize,
    to: usize,
    taps: usize,
    positions: Vec<usize>,
    weights: Vec<f32>,
    /// Output positions whose source coordinate lies outside a crop's source.
    outside: Vec<usize>,
}

impl Axis {
    fn source(&self, rules: &Rules, position: f64) -> f64 {
        let (from, to) = (self.from as f64, self.scale * self.from as f64);
        match rules.coordinates {
            Coordinates::HalfPixel => (position + 0.5) / self.scale - 0.5,
            Coordinates::PytorchHalfPixel if self.to == 1 => 0.0,
            Coordinates::PytorchHalfPixel => (position + 0.5) / self.scale - 0.5,
            Coordinates::HalfPixelSymmetric => {
                let offset = from / 2.0 * (1.0 - self.to as f64 / to);
                offset + (position + 0.5) / self.scale - 0.5
            }
            Coordinates::AlignCorners if to == 1.0 => 0.0,
            Coordinates::AlignCorners => position * (from - 1.0) / (to - 1.0),
            Coordinates::Asymmetric => position / self.scale,
            Coordinates::TfCropAndResize => {
                let (start, end) = self.crop;
                let within = if to == 1.0 {
                    (end - start) * (from - 1.0) / 2.0
                } else {
                    position * (end - start) * (from - 1.0) / (to - 1.0)
                };
                within + start * (from - 1.0)
            }
        }
    }

    /// Does interpolation leave every position as it is?
    pub(super) fn is_identity(&self, rules: &Rules) -> bool {
        self.from == self.to
            && self.scale == 1.0
            && rules.coordinates != Coordinates::TfCropAndResize
    }
}

impl Table {
    /// Works out all positions of an axis.
    ///
    /// # Errors
    /// When coordinates are not finite.
    pub(super) fn new(axis: &Axis, rules: &Rules) -> Result<Self> {
        let mut table = Self {
            from: axis.from,
            to: axis.to,
            taps: 1,
            positions: Vec::new(),
            weights: Vec::new(),
            outside: Vec::new(),
        };
        if axis.to == 0 {
            return Ok(table);
        }
        let last =
            axis.from.checked_sub(1).ok_or_else(|| Error::invalid("resize of an empty axis"))?;
        for position in 0..axis.to {
            let source = axis.source(rules, position as f64);
            if !source.is_finite() {
                return Err(Error::invalid(format!("resize by {} from {}", axis.scale, axis.from)));
            }
            if rules.coordinates == Coordinates::TfCropAndResize
                && !(0.0..=last as f64).contains(&source)
            {
                table.outside.push(position);
            }
            let (first, mut weights) = taps(axis, rules, source);
            table.taps = weights.len();
            let inside = |tap: usize| (0..axis.from as i64).contains(&(first + tap as i64));
            if rules.exclude_outside {
                for (tap, weight) in weights.iter_mut().enumerate() {
                    if !inside(tap) {
                        *weight = 0.0;
                    }
                }
                let sum: f64 = weights.iter().sum();
                if sum != 0.0 {
                    weights.iter_mut().for_each(|weight| *weight /= sum);
                }
            }
            for (tap, weight) in weights.into_iter().enumerate() {
                let clamped = (first + tap as i64).clamp(0, last as i64);
                table.positions.push(clamped as usize);
                table.weights.push(weight as f32);
            }
        }
        Ok(table)
    }

    /// The single source position of each output position, for `nearest`.
    pub(super) fn nearest(&self) -> &[usize] {
        &self.positions
    }

    /// Output positions to fill with the extrapolation value.
    pub(super) fn outside(&self) -> &[usize] {
        &self.outside
    }
}

/// The first source position and the weights from there on.
fn taps(axis: &Axis, rules: &Rules, source: f64) -> (i64, Vec<f64>) {
    let floor = source.floor();
    let kernel: fn(f64, f64) -> f64 = match rules.mode {
        Mode::Nearest(nearest) => {
            let chosen = match nearest {
                Nearest::RoundPreferFloor => (source - 0.5).ceil(),
                Nearest::RoundPreferCeil => (source + 0.5).floor(),
                Nearest::Floor => floor,
                Nearest::Ceil => source.ceil(),
            };
            return (chosen as i64, vec![1.0]);
        }
        Mode::Linear => |_, distance| (1.0 - distance).max(0.0),
        Mode::Cubic(_) => cubic,
    };
    let (a, reach) = match rules.mode {
        Mode::Cubic(a) => (a, 2.0),
        _ => (0.0, 1.0),
    };
    let narrow = if rules.antialias { axis.scale.min(1.0) } else { 1.0 };
    // The source position itself counts as the right neighbour of the one before it.
    let (base, ratio) = if floor == source { (floor - 1.0, 1.0) } else { (floor, source - floor) };
    let first = (-reach / narrow).floor() as i64 + 1;
    let count = 2 - 2 * first;
    let mut weights: Vec<f64> = (first..first + count)
        .map(|tap| kernel(a, ((tap as f64 - ratio) * narrow).abs()))
        .collect();
    if rules.antialias {
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
    }
    (base as i64 + first, weights)
}

/// Keys' cubic convolution kernel.
fn cubic(a: f64, x: f64) -> f64 {
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

/// Applies a table along an axis of an `f32` tensor.
pub(super) fn interpolate(x: &Tensor, axis: usize, table: Arc<Table>) -> Result<Tensor> {
    Ok(x.contiguous()?.apply_op1(Interpolate { axis, table, backward: false })?)
}

struct Interpolate {
    axis: usize,
    table: Arc<Table>,
    /// From outputs to sources, for gradients.
    backward: bool,
}

impl CustomOp1 for Interpolate {
    fn name(&self) -> &'static str {
        "resize"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x: &[f32] = slice(s, l)?;
        let mut dims = l.dims().to_vec();
        let inner: usize = dims[self.axis + 1..].iter().product();
        let (from, to) = (self.table.from, self.table.to);
        let (source, target) = if self.backward { (to, from) } else { (from, to) };
        dims[self.axis] = target;
        let mut y = vec![0_f32; dims.iter().product()];
        let work = target * inner * self.table.taps;
        fill_rows(&mut y, target * inner, work, |row, y| {
            let x = &x[row * source * inner..(row + 1) * source * inner];
            self.plane(x, y, inner);
        });
        Ok((CpuStorage::F32(y), Shape::from(dims)))
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let backward =
            Interpolate { axis: self.axis, table: self.table.clone(), backward: !self.backward };
        Ok(Some(grad.contiguous()?.apply_op1(backward)?))
    }
}

impl Interpolate {
    fn plane(&self, x: &[f32], y: &mut [f32], inner: usize) {
        let Table { taps, positions, weights, .. } = &*self.table;
        if inner == 1 && !self.backward {
            if *taps == 1 {
                y.iter_mut().zip(positions).for_each(|(y, &source)| *y = x[source]);
                return;
            }
            let entries = positions.chunks(*taps).zip(weights.chunks(*taps));
            for (y, (positions, weights)) in y.iter_mut().zip(entries) {
                *y =
                    positions.iter().zip(weights).map(|(&source, weight)| weight * x[source]).sum();
            }
            return;
        }
        let entries = positions.chunks(*taps).zip(weights.chunks(*taps)).enumerate();
        for (output, (positions, weights)) in entries {
            for (&source, &weight) in positions.iter().zip(weights) {
                let (source, target) =
                    if self.backward { (output, source) } else { (source, output) };
                let x = &x[source * inner..(source + 1) * inner];
                let y = &mut y[target * inner..(target + 1) * inner];
                y.iter_mut().zip(x).for_each(|(y, &x)| *y += weight * x);
            }
        }
    }
}
