//! Normalization of each sample by its own statistics: instance, group and layer normalization.

use super::conv::float;
use super::operand::{Operand, axis, finish, size};
use super::{Entry, Inputs, NodeCx, Operator};
use crate::channels::Flow;
use crate::kernels::{self, Normalized};
use crate::portable;
use crate::run::{Array, Fact, Training};
use crate::{ElementType, Error, Result};
use candle_core::Tensor;

pub(super) const OPERATORS: &[Entry] = &[
    ("GroupNormalization", &Channelwise { grouped: true }),
    ("InstanceNormalization", &Channelwise { grouped: false }),
    ("LayerNormalization", &LayerNormalization),
];

/// Normalizes rows; see [`kernels::normalize_rows`].
type NormalizeRows = fn(&Tensor, f64) -> candle_core::Result<Normalized>;

/// Scales and shifts channels; see [`kernels::scale_channels`].
type ScaleChannels = fn(&Tensor, &Tensor, &Tensor) -> candle_core::Result<Tensor>;

/// `y = scale * (x - mean) / sqrt(variance + epsilon) + bias`, with the statistics of each sample's
/// channel, or of each group of its channels.
struct Channelwise {
    grouped: bool,
}

impl Channelwise {
    /// Groups of channels with common statistics; checks the parameters.
    fn groups<T: Operand>(&self, cx: &NodeCx, inputs: &Inputs<T>) -> Result<usize> {
        let x = inputs.required(0)?.dims();
        let &[_, channels, _, ..] = x else {
            return Err(Error::invalid(format!("input {x:?} has no spatial axis")));
        };
        let groups = if self.grouped { size(cx.int("num_groups", 0)?)? } else { channels };
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(Error::invalid(format!("{groups} groups of {channels} channels")));
        }
        // Group normalization had parameters per group before opset 21.
        let expected = if self.grouped && cx.opset() < 21 { groups } else { channels };
        for i in 1..3 {
            let dims = inputs.required(i)?.dims();
            if dims != [expected] {
                return Err(Error::invalid(format!(
                    "input {i} of shape {dims:?}; {expected} values are needed"
                )));
            }
        }
        Ok(groups)
    }

    /// The outputs, by our kernels or by candle's operations.
    fn normalize(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        normalize_rows: NormalizeRows,
        scale_channels: ScaleChannels,
    ) -> Result<Vec<Array>> {
        let x = float(inputs.required(0)?)?;
        let groups = self.groups(cx, inputs)?;
        if x.tensor.elem_count() == 0 {
            return Ok(vec![x.clone()]);
        }
        let (batch, channels) = (x.dims()[0], x.dims()[1]);
        let rows = x.tensor.reshape((batch * groups, x.tensor.elem_count() / (batch * groups)))?;
        let epsilon = f64::from(cx.float("epsilon", 1e-5)?);
        let normalized = normalize_rows(&rows, epsilon)?.y.reshape(x.dims())?;
        let parameter = |i| -> Result<Tensor> {
            let values = &float(inputs.required(i)?)?.tensor;
            let repeats = channels / values.elem_count();
            let repeated = values.unsqueeze(1)?.broadcast_as((values.elem_count(), repeats))?;
            Ok(repeated.contiguous()?.flatten_all()?)
        };
        let tensor = scale_channels(&normalized, &parameter(1)?, &parameter(2)?)?;
        Ok(vec![finish(tensor, x.element)?])
    }
}

impl Operator for Channelwise {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        self.groups(cx, inputs)?;
        let x = inputs.required(0)?;
        Ok(vec![Fact::new(x.element, x.dims.clone())])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        self.normalize(cx, inputs, kernels::normalize_rows, kernels::scale_channels)
    }

    fn portable(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        _training: Option<&mut Training>,
    ) -> Result<Option<Vec<Array>>> {
        self.normalize(cx, inputs, portable::normalize_rows, portable::scale_channels).map(Some)
    }

    fn channels(&self, _cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        let rank = flow.dims(0).len();
        let mixed = if self.grouped { 1 } else { 2 };
        for axis in mixed..rank {
            flow.freeze_axis(0, axis, "a normalization runs over it");
        }
        if self.grouped {
            (1..3).for_each(|input| flow.freeze_input(input, "its channels share statistics"));
        } else {
            let channels = flow.axis(0, 1);
            for parameter in 1..3 {
                let own = flow.axis(parameter, 0);
                flow.tie(&channels, &own);
            }
        }
        let labels = flow.input(0);
        flow.set_output(0, labels);
        Ok(())
    }
}

/// `y = scale * (x - mean) / sqrt(variance + epsilon) + bias` over the axes from `axis` on; further
/// outputs are the mean and `1 / sqrt(variance + epsilon)`, which carry no gradient.
struct LayerNormalization;

impl LayerNormalization {
    /// The first axis that is normalized; checks the parameters.
    fn first<T: Operand>(cx: &NodeCx, inputs: &Inputs<T>) -> Result<usize> {
        if cx.int("stash_type", 1)? != 1 {
            return Err(Error::unsupported("layer normalization with `stash_type` other than 1"));
        }
        let x = inputs.required(0)?.dims();
        let first = axis(cx.int("axis", -1)?, x.len())?;
        inputs.required(1)?;
        for i in 1..3 {
            let Some(parameter) = inputs.get(i) else { continue };
            let dims = parameter.dims();
            let fits = dims.len() <= x.len()
                && dims.iter().rev().zip(x.iter().rev()).all(|(&n, &full)| n == 1 || n == full);
            if !fits {
                return Err(Error::invalid(format!(
                    "input {i} of shape {dims:?} does not broadcast to {x:?}"
                )));
            }
        }
        Ok(first)
    }

    /// The outputs, by our kernels or by candle's operations.
    fn normalize(
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        normalize_rows: NormalizeRows,
    ) -> Result<Vec<Array>> {
        let first = Self::first(cx, inputs)?;
        let x = float(inputs.required(0)?)?;
        let scale = float(inputs.required(1)?)?;
        let length: usize = x.dims()[first..].iter().product();
        let count = x.tensor.elem_count();
        if count == 0 {
            return Err(Error::invalid(format!("nothing to normalize in {:?}", x.dims())));
        }
        let epsilon = f64::from(cx.float("epsilon", 1e-5)?);
        let rows = x.tensor.reshape((count / length, length))?;
        let Normalized { y, mean, variance, .. } = normalize_rows(&rows, epsilon)?;
        let mut tensor = y.reshape(x.dims())?.broadcast_mul(&scale.tensor)?;
        if let Some(bias) = inputs.get(2) {
            tensor = tensor.broadcast_add(&float(bias)?.tensor)?;
        }
        let dims = Self::statistics_dims(x.dims(), first);
        let inverse = (variance + epsilon)?.sqrt()?.recip()?;
        Ok(vec![
            finish(tensor, x.element)?,
            Array::float(mean.reshape(dims.as_slice())?),
            Array::float(inverse.reshape(dims)?),
        ])
    }

    fn statistics_dims(x: &[usize], first: usize) -> Vec<usize> {
        x.iter().enumerate().map(|(i, &n)| if i < first { n } else { 1 }).collect()
    }
}

impl Operator for LayerNormalization {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let first = Self::first(cx, inputs)?;
        let x = inputs.required(0)?;
        let statistics = Fact::new(ElementType::F32, Self::statistics_dims(&x.dims, first));
        Ok(vec![Fact::new(x.element, x.dims.clone()), statistics.clone(), statistics])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        Self::normalize(cx, inputs, kernels::normalize_rows)
    }

    fn portable(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        _training: Option<&mut Training>,
    ) -> Result<Option<Vec<Array>>> {
        Self::normalize(cx, inputs, portable::normalize_rows).map(Some)
    }

    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        let rank = flow.dims(0).len();
        for axis in axis(cx.int("axis", -1)?, rank)?..rank {
            flow.freeze_axis(0, axis, "a normalization runs over it");
        }
        (1..3).for_each(|input| flow.freeze_input(input, "its channels share statistics"));
        let labels = flow.input(0);
        flow.set_output(0, labels);
        Ok(())
    }
}
