//! A linear map between the channels of two networks.

use candle_core::{DType, Device, Result, Tensor, Var, bail};

/// A trainable 1x1 convolution (or matrix, for features without positions) from the student's
/// channels to the teacher's (Romero et al. 2015, section 2.2, who use the layer's own kernel size).
///
/// It takes part in training and is thrown away afterwards.
#[derive(Debug, Clone)]
pub struct Adapter {
    weight: Var,
    bias: Var,
}

impl Adapter {
    /// Weights uniform in `+-sqrt(3 / student_channels)`, which keeps the variance of independent
    /// features, and no bias. The same seed gives the same weights on every machine.
    ///
    /// # Errors
    /// When a number of channels is 0, or the device has no memory.
    pub fn new(
        student_channels: usize,
        teacher_channels: usize,
        seed: u64,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        if student_channels == 0 || teacher_channels == 0 {
            bail!("adapter: from {student_channels} to {teacher_channels} channels")
        }
        let bound = (3.0 / student_channels as f64).sqrt();
        let mut state = seed;
        let weights: Vec<f64> = (0..student_channels * teacher_channels)
            .map(|_| (2.0 * uniform(&mut state) - 1.0) * bound)
            .collect();
        let weight = Tensor::from_vec(weights, (teacher_channels, student_channels), device)?;
        Self::from_tensors(
            &weight.to_dtype(dtype)?,
            &Tensor::zeros(teacher_channels, dtype, device)?,
        )
    }

    /// An adapter with given weights `(teacher channels, student channels)` and bias
    /// `(teacher channels,)`.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn from_tensors(weight: &Tensor, bias: &Tensor) -> Result<Self> {
        match (weight.dims(), bias.dims()) {
            ([rows, _], [entries]) if rows == entries => {
                Ok(Self { weight: Var::from_tensor(weight)?, bias: Var::from_tensor(bias)? })
            }
            (weight, bias) => {
                bail!("adapter: weight of shape {weight:?} with a bias of shape {bias:?}")
            }
        }
    }

    /// The trainable variables by name, for the optimizer.
    pub fn variables(&self) -> [(&'static str, &Var); 2] {
        [("weight", &self.weight), ("bias", &self.bias)]
    }

    /// Maps features `(samples, channels, ...)`.
    ///
    /// # Errors
    /// When the number of channels is not the adapter's.
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let (out, channels) = self.weight.dims2()?;
        let [samples, found, positions @ ..] = features.dims() else {
            bail!("adapter: features of shape {:?} have no channels", features.dims())
        };
        if *found != channels {
            bail!("adapter: features have {found} channels, the adapter takes {channels}")
        }
        let flat = features.reshape((*samples, channels, positions.iter().product::<usize>()))?;
        let weight = self.weight.unsqueeze(0)?;
        let mapped = weight.broadcast_matmul(&flat)?;
        let mapped = mapped.broadcast_add(&self.bias.reshape((1, out, 1))?)?;
        let dims: Vec<usize> = [*samples, out].iter().chain(positions).copied().collect();
        mapped.reshape(dims)
    }
}

/// A number in `[0, 1)` by SplitMix64, whose sequence is part of the reproducibility promise.
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::uniform;

    #[test]
    fn generator_is_splitmix64() {
        // First output for the seed 1234567 of the reference implementation (Vigna 2015).
        let mut state = 1_234_567;
        let expected = (6_457_827_717_110_365_317_u64 >> 11) as f64 / (1_u64 << 53) as f64;
        assert_eq!(uniform(&mut state), expected);
    }
}
