//! The forward and the backward pass, each one way through memory.

use super::Levels;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Storage, Tensor, bail};
use rayon::prelude::*;

/// Elements with one step that a task takes; sums are added up in this order for any number of
/// threads.
const PIECE: usize = 1 << 14;

/// The part of `dy/ds` that comes from elements inside of the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inside {
    /// `q - x / s`: how far rounding moved the element.
    Rounding,
    /// Nothing.
    Nothing,
}

/// How `y = s q` is computed and where its gradient goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct FakeQuantize {
    pub(super) levels: Levels,
    pub(super) inside: Inside,
    /// Factor of the gradient of the step.
    pub(super) scale: f64,
    /// The axis whose slices have steps of their own.
    pub(super) axis: Option<usize>,
}

impl FakeQuantize {
    /// `x` on its grid, with gradients to `x` and `step`.
    pub(super) fn apply(self, x: &Tensor, step: &Tensor) -> Result<Tensor> {
        self.check(x, step)?;
        if x.device().is_cpu() {
            return x.contiguous()?.apply_op2(&step.contiguous()?, self);
        }
        self.compose(x, step)
    }

    fn check(self, x: &Tensor, step: &Tensor) -> Result<()> {
        let fits = match self.axis {
            None => step.elem_count() == 1,
            Some(axis) => step.rank() == 1 && x.dims().get(axis) == Some(&step.elem_count()),
        };
        if !fits {
            bail!(
                "steps of shape {:?} along axis {:?} of a tensor of shape {:?}",
                step.dims(),
                self.axis,
                x.dims()
            );
        }
        Ok(())
    }

    /// The same by candle's own operations, for other devices.
    pub(super) fn compose(self, x: &Tensor, step: &Tensor) -> Result<Tensor> {
        let Levels { low, high, is_sign } = self.levels;
        let mut dims = vec![1; x.rank()];
        if let Some(axis) = self.axis {
            dims[axis] = step.elem_count();
        }
        let step = step.reshape(dims)?;
        let fixed = step.detach();
        let v = x.detach().broadcast_div(&fixed)?;
        let inside = (v.gt(f64::from(low))?.to_dtype(x.dtype())?
            * v.lt(f64::from(high))?.to_dtype(x.dtype())?)?;
        let q = match is_sign {
            true => v.ge(0.0)?.to_dtype(x.dtype())?.affine(2.0, -1.0)?,
            // candle rounds halves away from zero.
            false => ((v.clamp(f64::from(low), f64::from(high))? + 12_582_912.0)? - 12_582_912.0)?,
        };
        let slope = match self.inside {
            Inside::Rounding => (&q - (&v * &inside)?)?,
            Inside::Nothing => (&q * inside.affine(-1.0, 1.0)?)?,
        };
        // Terms that are zero and carry the gradients.
        let through = ((x - x.detach())? * &inside)?;
        let learned = slope.broadcast_mul(&((&step - &fixed)? * self.scale)?)?;
        q.broadcast_mul(&fixed)? + (through + learned)?
    }

    /// Consecutive elements with one step, and which step each of these pieces has.
    fn pieces(self, dims: &[usize], steps: usize) -> usize {
        match self.axis {
            Some(axis) if steps > 1 => dims[axis + 1..].iter().product::<usize>().max(1),
            _ => PIECE,
        }
    }
}

impl CustomOp2 for FakeQuantize {
    fn name(&self) -> &'static str {
        "fake_quantize"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        step: &CpuStorage,
        step_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (values, steps) = (elements(x, x_layout)?, elements(step, step_layout)?);
        let piece = self.pieces(x_layout.dims(), steps.len());
        let mut y = vec![0.0; values.len()];
        y.par_chunks_mut(piece).zip(values.par_chunks(piece)).enumerate().for_each(
            |(at, (y, x))| {
                let step = steps[at % steps.len()];
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = self.levels.nearest(x / step) * step;
                }
            },
        );
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        step: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let (x_storage, x_layout) = x.storage_and_layout();
        let (step_storage, step_layout) = step.storage_and_layout();
        let (dy_storage, dy_layout) = dy.storage_and_layout();
        let (Storage::Cpu(values), Storage::Cpu(steps), Storage::Cpu(dys)) =
            (&*x_storage, &*step_storage, &*dy_storage)
        else {
            bail!("fake quantization is a custom operation on the CPU only");
        };
        let (values, steps, dys) =
            (elements(values, x_layout)?, elements(steps, step_layout)?, elements(dys, dy_layout)?);
        let piece = self.pieces(x.dims(), steps.len());
        let mut dx = vec![0.0; values.len()];
        let parts: Vec<f64> = dx
            .par_chunks_mut(piece)
            .zip(values.par_chunks(piece).zip(dys.par_chunks(piece)))
            .enumerate()
            .map(|(at, (dx, (x, dy)))| self.back(steps[at % steps.len()], x, dy, dx))
            .collect();
        let mut sums = vec![0.0; steps.len()];
        for (at, part) in parts.into_iter().enumerate() {
            sums[at % steps.len()] += part;
        }
        let sums: Vec<f32> = sums.into_iter().map(|sum| (sum * self.scale) as f32).collect();
        let dx = Tensor::from_vec(dx, x.dims(), x.device())?;
        Ok((Some(dx), Some(Tensor::from_vec(sums, step.dims(), step.device())?)))
    }
}

impl FakeQuantize {
    /// The gradient of elements with one step; gives that of the step.
    fn back(&self, step: f32, x: &[f32], dy: &[f32], dx: &mut [f32]) -> f64 {
        let mut sum = 0.0;
        for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
            let v = x / step;
            let q = self.levels.nearest(v);
            let is_inside = self.levels.holds(v);
            *dx = if is_inside { dy } else { 0.0 };
            let slope = match (is_inside, self.inside) {
                (false, _) => q,
                (true, Inside::Rounding) => q - v,
                (true, Inside::Nothing) => 0.0,
            };
            sum += f64::from(slope * dy);
        }
        sum
    }
}

fn elements<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => bail!("fake quantization takes contiguous 32-bit floats"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use candle_core::{Device, Var};
    use proptest::prelude::*;

    /// Output, and gradients of `x` and of the step, of a weighted sum.
    fn run(
        x: &Tensor,
        steps: &[f32],
        apply: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
    ) -> [Vec<f32>; 3] {
        let x = Var::from_tensor(x).unwrap();
        let step = Var::from_tensor(&Tensor::new(steps, &Device::Cpu).unwrap()).unwrap();
        let y = apply(&x, &step).unwrap();
        let weights: Vec<f32> = (0..y.elem_count()).map(|i| (i % 7) as f32 - 2.5).collect();
        let weights = Tensor::from_vec(weights, y.dims(), &Device::Cpu).unwrap();
        let gradients = (&y * weights).unwrap().sum_all().unwrap().backward().unwrap();
        let all = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        [all(&y), all(gradients.get(&x).unwrap()), all(gradients.get(&step).unwrap())]
    }

    proptest! {
        #[test]
        fn one_pass_gives_what_candle_composes(
            (bits, signed) in (1_u8..=8, any::<bool>()),
            inside in prop_oneof![Just(Inside::Rounding), Just(Inside::Nothing)],
            axis in prop_oneof![Just(None), (0_usize..3).prop_map(Some)],
            step in 0.01_f32..2.0,
            seed in 0_usize..1000,
        ) {
            let levels = if signed { Levels::signed(bits) } else { Levels::unsigned(bits) };
            let op = FakeQuantize { levels: levels.unwrap(), inside, scale: 0.3, axis };
            let values: Vec<f32> =
                (0..60).map(|i| ((i * i * 31 + i * 7 + seed) % 101) as f32 / 20.0 - 2.0).collect();
            let x = Tensor::from_vec(values, (3, 4, 5), &Device::Cpu).unwrap();
            let count = axis.map_or(1, |axis| [3, 4, 5][axis]);
            let steps: Vec<f32> = (0..count).map(|i| step * (1.0 + 0.3 * i as f32)).collect();
            let [a, b] = [run(&x, &steps, |x, s| op.apply(x, s)), run(&x, &steps, |x, s| op.compose(x, s))];
            for (own, composed) in a.iter().zip(&b) {
                for (own, composed) in own.iter().zip(composed) {
                    // Sums of 60 numbers in another order.
                    prop_assert!((own - composed).abs() <= 1e-4 * composed.abs().max(1.0), "{own} {composed}");
                }
            }
        }
    }

    #[test]
    fn many_pieces_add_up_for_any_number_of_threads() {
        let levels = Levels::unsigned(3).unwrap();
        let op = FakeQuantize { levels, inside: Inside::Rounding, scale: 1.0, axis: None };
        let values: Vec<f32> = (0..3 * PIECE + 5).map(|i| (i % 977) as f32 / 500.0).collect();
        let x = Tensor::new(values, &Device::Cpu).unwrap();
        let found = [1, 2].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(&x, &[0.1], |x, s| op.apply(x, s)))
        });
        assert_eq!(found[0], found[1]);
        let composed = run(&x, &[0.1], |x, s| op.compose(x, s));
        assert_eq!(found[0][0], composed[0]);
        assert!((found[0][2][0] - composed[2][0]).abs() < 1e-3 * composed[2][0].abs());
    }

    #[test]
    fn steps_must_fit() {
        let levels = Levels::unsigned(3).unwrap();
        let x = Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let two = Tensor::new(&[1_f32, 1.0], &Device::Cpu).unwrap();
        for (axis, fits) in [(None, false), (Some(0), true), (Some(1), false), (Some(2), false)] {
            let op = FakeQuantize { levels, inside: Inside::Nothing, scale: 1.0, axis };
            assert_eq!(op.apply(&x, &two).is_ok(), fits, "{axis:?}");
        }
    }
}
