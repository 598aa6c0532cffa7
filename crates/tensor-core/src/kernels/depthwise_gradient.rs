//! The gradient of a depthwise convolution's weight: one sum of products for every tap, over the
//! same planes as the forward pass.

use super::depthwise::{MAX_SCRATCH, Plan, fill_plane, reach};
use super::geometry::ConvGeometry;
use super::parallel::{filled, for_each, with_scratch};
use super::simd::{Kernel, SECTION, Simd, dispatch};
use super::weight_gradient;
use crate::Result;

/// The gradient of the weight of the depthwise convolution `g` of `x`, from the gradient `dy` of
/// its output.
///
/// # Errors
/// When there is no memory for the result.
pub(super) fn depthwise_weight_gradient(
    x: &[f32],
    dy: &[f32],
    g: &ConvGeometry,
) -> Result<Vec<f32>> {
    assert!(
        g.group_inputs() == 1 && x.len() == g.input_count() && dy.len() == g.output_count(),
        "operands of the depthwise weight's gradient"
    );
    let plan = Plan::new(g);
    let sums = g.taps() * SECTION;
    if plan.scratch().saturating_add(sums) > MAX_SCRATCH {
        // Far dilations: gathering patches needs no planes.
        return weight_gradient::weight_gradient(x, dy, g);
    }
    // SAFETY: each channel's task writes its taps.
    unsafe {
        filled(g.weight_count(), |output| {
            for_each(g.out_channels, g.batch * g.output_area() * g.taps(), |channel| {
                with_scratch(sums + plan.scratch(), |scratch| {
                    let (sums, scratch) = scratch.split_at_mut(sums);
                    sums.fill(0.0);
                    for image in 0..g.batch {
                        let source = image * g.in_channels + channel / g.group_outputs();
                        let gradient = image * g.out_channels + channel;
                        dispatch(Image {
                            plan: &plan,
                            g,
                            x: &x[source * g.input_area()..][..g.input_area()],
                            dy: &dy[gradient * g.output_area()..][..g.output_area()],
                            scratch,
                            sums,
                        });
                    }
                    let to = output.part(channel * g.taps(), g.taps());
                    for (tap, lanes) in sums.chunks_exact(SECTION).enumerate() {
                        let sum: f64 = lanes.iter().map(|&lane| f64::from(lane)).sum();
                        to.add(tap).write(sum as f32);
                    }
                });
            });
        })
    }
}

/// One channel of one image.
struct Image<'a> {
    plan: &'a Plan,
    g: &'a ConvGeometry,
    x: &'a [f32],
    dy: &'a [f32],
    scratch: &'a mut [f32],
    /// Lanes of the sum of each tap.
    sums: &'a mut [f32],
}

impl Kernel for Image<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (g, plan) = (self.g, self.plan);
        let (planes, gradients) = self.scratch.split_at_mut(plan.planes());
        let width = g.columns.output;
        for first in (0..g.rows.output).step_by(plan.band) {
            let rows = plan.band.min(g.rows.output - first);
            for (phase, plane) in planes.chunks_exact_mut(plan.plane).enumerate() {
                let height = rows + reach(&g.rows);
                // SAFETY: the instruction set is there.
                unsafe { fill_plane::<S>(plane, self.x, g, plan, phase, first, height) };
            }
            // Rows as far apart as those of the planes, with zeros between them.
            for (row, to) in gradients.chunks_mut(plan.pitch).enumerate().take(rows) {
                to[..width].copy_from_slice(&self.dy[(first + row) * width..][..width]);
                to[width..].fill(0.0);
            }
            let len = (rows - 1) * plan.pitch + width;
            let mut taps = plan.taps.as_slice();
            let mut sums = self.sums.as_mut_ptr();
            while !taps.is_empty() {
                let count = taps.len().min(9);
                // SAFETY: the gradients hold `len` elements, each tap's last element lies within
                // its plane, and there is a section of sums for each tap.
                unsafe {
                    add_taps::<S>(planes.as_ptr(), gradients.as_ptr(), len, &taps[..count], sums);
                    sums = sums.add(count * SECTION);
                }
                taps = &taps[count..];
            }
        }
    }
}

/// Chooses the code for a number of taps.
#[inline(always)]
unsafe fn add_taps<S: Simd>(
    planes: *const f32,
    gradients: *const f32,
    len: usize,
    taps: &[usize],
    sums: *mut f32,
) {
    macro_rules! choose {
        ($($count:literal),*) => {
            match taps.len() {
                $($count => in_registers::<S, $count>(planes, gradients, len, taps, sums),)*
                _ => {}
            }
        };
    }
    // SAFETY: as the caller.
    unsafe { choose!(1, 2, 3, 4, 5, 6, 7, 8, 9) }
}

#[inline(always)]
unsafe fn in_registers<S: Simd, const T: usize>(
    planes: *const f32,
    gradients: *const f32,
    len: usize,
    taps: &[usize],
    to: *mut f32,
) {
    // SAFETY: the caller vouches for `len` gradients, as many elements behind each of `T` taps, and
    // a section of sums for each.
    unsafe {
        let mut sums = [S::splat(0.0); T];
        for (tap, sum) in sums.iter_mut().enumerate() {
            *sum = S::load(to.add(tap * SECTION));
        }
        let mut at = 0;
        while at + S::LANES <= len {
            let gradient = S::load(gradients.add(at));
            for (sum, &tap) in sums.iter_mut().zip(taps) {
                *sum = S::mul_add(S::load(planes.add(tap + at)), gradient, *sum);
            }
            at += S::LANES;
        }
        if at < len {
            // Beyond the last element there may be anything.
            let gradient = S::load_first(gradients.add(at), len - at);
            for (sum, &tap) in sums.iter_mut().zip(taps) {
                let values = S::load_first(planes.add(tap + at), len - at);
                *sum = S::mul_add(values, gradient, *sum);
            }
        }
        for (tap, sum) in sums.iter().enumerate() {
            S::store(to.add(tap * SECTION), *sum);
        }
    }
}
