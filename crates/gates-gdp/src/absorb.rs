//! Gates into weights.

use crate::Gate;
use candle_core::Tensor;
use tensor_core::{Error, Result};

/// The weight of the layer behind gates without them: its slices along `axis`, multiplied with the
/// gates that are open; those of closed gates are gone.
///
/// With the weight O x C x kh x kw and `axis` 1 the layer then reads only the channels that
/// [`Gate::open`] lists, and computes what it computed behind the gates, up to rounding. Whatever
/// makes the other channels can be [dropped](keep).
///
/// # Errors
/// When the axis has another length than there are gates; `E0440` when no gate is open.
pub fn absorb(gate: &Gate, weight: &Tensor, axis: usize) -> Result<Tensor> {
    keep(gate, &gate.apply(&weight.detach(), axis)?.detach(), axis)
}

/// The slices along `axis` whose gate is open, as they are: of the weight, bias or statistics of
/// whatever makes the channels.
///
/// # Errors
/// As [`absorb`].
pub fn keep(gate: &Gate, tensor: &Tensor, axis: usize) -> Result<Tensor> {
    if tensor.dims().get(axis) != Some(&gate.channels()) {
        let message = format!(
            "{} gates do not fit axis {axis} of a tensor of shape {:?}",
            gate.channels(),
            tensor.dims()
        );
        return Err(Error::invalid(message).code_is("E0440"));
    }
    let open = gate.open()?;
    if open.is_empty() {
        return Err(Error::invalid("no gate is open")
            .code_is("E0440")
            .hint("without channels the layer gives its bias alone: put that in its place"));
    }
    let open = Tensor::new(open, tensor.device())?;
    Ok(tensor.detach().index_select(&open, axis)?.contiguous()?)
}
