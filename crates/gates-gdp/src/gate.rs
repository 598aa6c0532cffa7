//! The gate as a function and as a layer.

use crate::params::{check_eps, out_of_range};
use candle_core::{DType, Device, Tensor, Var};
use tensor_core::{Error, Result};

/// `g(alpha) = alpha^2 / (alpha^2 + eps)`, element by element, in `[0, 1)`: a smooth stand-in for
/// "is not zero".
///
/// The gradient is `2 alpha eps / (alpha^2 + eps)^2`. At 0 both are exactly 0, so that a gate that
/// reached 0 stays there; the gradient is steepest at `sqrt(eps / 3)`, where the gate is 1/4.
///
/// # Errors
/// `E0440` when `eps` is not above 0; when candle fails.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let alpha = Tensor::new(&[0_f32, 0.1, 1.0], &Device::Cpu)?;
/// let gate = gates_gdp::gate(&alpha, 0.01)?.to_vec1::<f32>()?;
/// assert_eq!(gate[0], 0.0);
/// assert!((gate[1] - 0.5).abs() < 1e-6);
/// # Ok::<(), tensor_core::Error>(())
/// ```
pub fn gate(alpha: &Tensor, eps: f64) -> Result<Tensor> {
    check_eps(eps)?;
    let square = alpha.sqr()?;
    Ok(square.div(&square.affine(1.0, eps)?)?)
}

/// Gates of one list of channels: `gain * g(alpha)`, one per channel.
///
/// `alpha` starts at 1 and `gain` at `1 + eps`, so that every gate starts at exactly 1 and a trained
/// network at exactly what it computes. The gain is no parameter: when `eps`
/// [changes](Self::set_eps) it makes up for that, so that the network never jumps.
#[derive(Debug, Clone)]
pub struct Gate {
    alpha: Var,
    gain: Tensor,
    eps: f64,
}

impl Gate {
    /// Open gates for `channels` channels.
    ///
    /// # Errors
    /// `E0440` when there is no channel or `eps` is not above 0.
    pub fn new(channels: usize, eps: f64, device: &Device) -> Result<Self> {
        check_eps(eps)?;
        if channels == 0 {
            return Err(out_of_range("channels", 0, "at least 1"));
        }
        let alpha = Var::ones(channels, DType::F32, device)?;
        let gain = alpha.as_detached_tensor().sqr()?.affine(1.0, eps)?;
        Ok(Self { alpha, gain, eps })
    }

    /// The trainable vector.
    pub fn alpha(&self) -> &Var {
        &self.alpha
    }

    /// The present `eps`.
    pub fn eps(&self) -> f64 {
        self.eps
    }

    /// What `g` is multiplied with, by channel.
    pub fn gain(&self) -> &Tensor {
        &self.gain
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.alpha.elem_count()
    }

    /// `gain * g(alpha)`, one per channel, with the gradient to `alpha`.
    ///
    /// # Errors
    /// When candle fails.
    pub fn values(&self) -> Result<Tensor> {
        // In this order the quotient is exactly 1 while alpha is 1.
        let square = self.alpha.sqr()?;
        Ok(square.mul(&self.gain.div(&square.affine(1.0, self.eps)?)?)?)
    }

    /// `g(alpha)` by channel, in `[0, 1)`.
    ///
    /// # Errors
    /// When candle fails.
    pub fn openness(&self) -> Result<Vec<f32>> {
        Ok(gate(&self.alpha.as_detached_tensor(), self.eps)?.to_vec1()?)
    }

    /// `alpha` by channel.
    ///
    /// # Errors
    /// When candle fails.
    pub fn alphas(&self) -> Result<Vec<f32>> {
        Ok(self.alpha.as_detached_tensor().to_vec1()?)
    }

    /// Scales a tensor along an axis: an activation along its channels (axis 1 of N x C x H x W) or,
    /// which costs no activation memory, the weight of the layer that reads them along its inputs
    /// (axis 1 of O x C x kh x kw or of O x C).
    ///
    /// # Errors
    /// When the axis has another length than there are gates.
    pub fn apply(&self, tensor: &Tensor, axis: usize) -> Result<Tensor> {
        Ok(tensor.broadcast_mul(&along(&self.values()?, tensor, axis)?)?)
    }

    /// Channels whose gate is not exactly 0.
    ///
    /// # Errors
    /// When candle fails.
    pub fn open(&self) -> Result<Vec<u32>> {
        let alphas = self.alphas()?;
        let open = alphas.iter().zip(0..).filter(|(alpha, _)| **alpha != 0.0);
        Ok(open.map(|(_, channel)| channel).collect())
    }

    /// Changes `eps`; the gain takes over what changes, so that open gates stay what they are up to
    /// rounding, and closed ones stay 0.
    ///
    /// # Errors
    /// `E0440` when `eps` is not above 0.
    pub fn set_eps(&mut self, eps: f64) -> Result<()> {
        check_eps(eps)?;
        if eps == self.eps {
            return Ok(());
        }
        let square = self.alpha.as_detached_tensor().sqr()?;
        let ratio = square.affine(1.0, eps)?.div(&square.affine(1.0, self.eps)?)?;
        self.gain = self.gain.mul(&ratio)?;
        self.eps = eps;
        Ok(())
    }

    /// Puts gain and `eps` back that were saved; [`alpha`](Self::alpha) is a variable.
    ///
    /// # Errors
    /// `E0440` when the number of channels differs or `eps` is not above 0.
    pub fn restore(&mut self, gain: &Tensor, eps: f64) -> Result<()> {
        check_eps(eps)?;
        if gain.dims() != self.alpha.dims() {
            let message = format!("gains of shape {:?}, not {:?}", gain.dims(), self.alpha.dims());
            return Err(Error::invalid(message).code_is("E0440"));
        }
        (self.gain, self.eps) = (gain.detach(), eps);
        Ok(())
    }
}

/// A vector as a tensor that broadcasts along one axis of another.
pub(crate) fn along(vector: &Tensor, tensor: &Tensor, axis: usize) -> Result<Tensor> {
    let count = vector.elem_count();
    if tensor.dims().get(axis) != Some(&count) {
        return Err(Error::invalid(format!(
            "{count} gates do not fit axis {axis} of a tensor of shape {:?}",
            tensor.dims()
        ))
        .code_is("E0440")
        .hint("the axis is that of the channels: 1 of an activation, 1 of a layer's weight"));
    }
    let mut dims = vec![1; tensor.rank()];
    dims[axis] = count;
    Ok(vector.reshape(dims)?)
}
