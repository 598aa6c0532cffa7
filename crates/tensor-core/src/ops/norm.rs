//! Batch normalization.

use super::conv::float;
use super::{Differentiated, Entry, Follower, Following, Inputs, NodeCx, Operator};
use crate::channels::Flow;
use crate::kernels::{
    Epilogue, Normalized, batch_norm_backward, batch_norm_forward, batch_norm_train, scale_channels,
};
use crate::portable;
use crate::run::{Array, BatchStatistics, Fact, Training};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};

pub(super) const OPERATORS: &[Entry] = &[("BatchNormalization", &BatchNormalization)];

/// `y = scale * (x - mean) / sqrt(variance + epsilon) + shift`, channel by channel.
pub(crate) struct BatchNormalization;

impl BatchNormalization {
    /// The node as `y = a x + b` per channel.
    ///
    /// # Errors
    /// When the parameters are not one value per channel, or the node is not in inference form.
    pub(crate) fn scale_and_shift(
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        channels: usize,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        check_inference(cx)?;
        let parameter = |i| -> Result<Vec<f32>> {
            let parameter = float(inputs.required(i)?)?;
            check_parameter(parameter.dims(), channels, i)?;
            parameter.to_f32s()
        };
        let (scales, biases) = (parameter(1)?, parameter(2)?);
        let (means, variances) = (parameter(3)?, parameter(4)?);
        let epsilon = f64::from(cx.float("epsilon", 1e-5)?);
        let (mut factors, mut shifts) = (Vec::new(), Vec::new());
        let statistics = means.into_iter().zip(variances);
        for ((scale, bias), (mean, variance)) in scales.into_iter().zip(biases).zip(statistics) {
            let factor = f64::from(scale) / (f64::from(variance) + epsilon).sqrt();
            factors.push(factor as f32);
            shifts.push((f64::from(bias) - f64::from(mean) * factor) as f32);
        }
        Ok((factors, shifts))
    }
}

impl Operator for BatchNormalization {
    fn follower(&self, cx: &NodeCx, constants: &Inputs<Array>) -> Option<Follower> {
        let &[channels] = constants.get(1)?.dims() else { return None };
        let (factors, shifts) = Self::scale_and_shift(cx, constants, channels).ok()?;
        Some(Follower::Scale { factors, shifts })
    }

    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        check_inference(cx)?;
        let x = inputs.required(0)?;
        let channels = channel_count(&x.dims)?;
        for i in 1..5 {
            check_parameter(&inputs.required(i)?.dims, channels, i)?;
        }
        Ok(vec![Fact::new(x.element, x.dims.clone())])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let x = float(inputs.required(0)?)?;
        check_inference(cx)?;
        let channels = channel_count(x.dims())?;
        let parameter = |i| -> Result<Tensor> {
            let parameter = float(inputs.required(i)?)?;
            check_parameter(parameter.dims(), channels, i)?;
            Ok(parameter.tensor.to_dtype(DType::F64)?)
        };
        let epsilon = f64::from(cx.float("epsilon", 1e-5)?);
        // As tensors, for gradients.
        let factors = (parameter(1)? / (parameter(4)? + epsilon)?.sqrt()?)?;
        let shifts = (parameter(2)? - (parameter(3)? * &factors)?)?;
        let (factors, shifts) = (factors.to_dtype(DType::F32)?, shifts.to_dtype(DType::F32)?);
        let tensor = scale_channels(&x.tensor, &factors, &shifts)?;
        Ok(vec![Array { tensor, element: x.element }])
    }

    fn train(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        training: &mut Training,
    ) -> Result<Vec<Array>> {
        if training.is_frozen(cx.id) {
            return self.eval(cx, inputs);
        }
        check_inference(cx)?;
        let x = float(inputs.required(0)?)?;
        let (scale, bias) = (float(inputs.required(1)?)?, float(inputs.required(2)?)?);
        let epsilon = f64::from(cx.float("epsilon", 1e-5)?);
        let (scale, bias) = (&scale.tensor, &bias.tensor);
        let Normalized { y, mean, variance, count } =
            batch_norm_train(&x.tensor, scale, bias, epsilon, training.group())?;
        check_spread(count)?;
        training.record(cx.id, BatchStatistics { mean, variance, count });
        Ok(vec![Array { tensor: y, element: x.element }])
    }

    fn portable(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        training: Option<&mut Training>,
    ) -> Result<Option<Vec<Array>>> {
        check_inference(cx)?;
        let x = float(inputs.required(0)?)?;
        let channels = channel_count(x.dims())?;
        let parameter = |i| -> Result<&Tensor> {
            let parameter = float(inputs.required(i)?)?;
            check_parameter(parameter.dims(), channels, i)?;
            Ok(&parameter.tensor)
        };
        let (scale, bias) = (parameter(1)?, parameter(2)?);
        let epsilon = f64::from(cx.float("epsilon", 1e-5)?);
        let tensor = match training.filter(|training| !training.is_frozen(cx.id)) {
            Some(_) if x.dims().len() < 2 => return Ok(None),
            Some(training) => {
                let Normalized { y, mean, variance, count } =
                    portable::batch_norm(&x.tensor, scale, bias, epsilon)?;
                let [mean, variance] = [mean, variance].map(|t| t.to_device(&Device::Cpu));
                let (mean, variance) = (mean?, variance?);
                check_spread(count)?;
                training.record(cx.id, BatchStatistics { mean, variance, count });
                y
            }
            None => {
                let factors = (scale / (parameter(4)? + epsilon)?.sqrt()?)?;
                let shifts = (bias - (parameter(3)? * &factors)?)?;
                portable::scale_channels(&x.tensor, &factors, &shifts)?
            }
        };
        Ok(Some(vec![Array { tensor, element: x.element }]))
    }

    fn leads_in_training(&self) -> bool {
        true
    }

    fn differentiate(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        wanted: &[bool],
        following: &Following,
        training: &mut Training,
    ) -> Result<Option<Differentiated>> {
        let x = float(inputs.required(0)?)?;
        let residual = following.residual;
        let fits = |residual: &Array| {
            residual.dims() == x.dims() && residual.tensor.dtype() == x.tensor.dtype()
        };
        if training.is_frozen(cx.id) || x.dims().len() < 2 || !residual.is_none_or(fits) {
            return Ok(None);
        }
        check_inference(cx)?;
        let (scale, bias) = (float(inputs.required(1)?)?, float(inputs.required(2)?)?);
        let epsilon = f64::from(cx.float("epsilon", 1e-5)?);
        let residual = residual.map(|residual| residual.tensor.clone());
        let epilogue = Epilogue { residual, clamp: following.clamp, ..Epilogue::default() };
        let operands = [x, scale, bias].map(|array| array.tensor.clone());
        let [x_tensor, scale, bias] = &operands;
        let group = training.group().clone();
        let normalized = batch_norm_forward(x_tensor, scale, bias, epsilon, &epilogue, &group)?;
        let (mean, variance) = (normalized.mean.clone(), normalized.variance.clone());
        let count = normalized.count;
        check_spread(count)?;
        training.record(cx.id, BatchStatistics { mean, variance, count });
        let output = Array { tensor: normalized.y.clone(), element: x.element };
        let wants_residual = wanted.last() == Some(&true);
        let pullback = Box::new(move |dy: &Tensor| {
            let operands = operands.each_ref();
            let [dx, dscale, dbias, dresidual] =
                batch_norm_backward(operands, &normalized, epsilon, (&epilogue, &group), dy)?;
            let dresidual = dresidual.filter(|_| wants_residual);
            Ok(vec![dx, dscale, dbias, None, None, dresidual])
        });
        Ok(Some(Differentiated { output, pullback }))
    }

    fn channels(&self, _cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        if flow.dims(0).len() < 2 {
            flow.barrier("an input without a channel axis".to_owned());
            return Ok(());
        }
        let channels = flow.axis(0, 1);
        for parameter in 1..5 {
            let own = flow.axis(parameter, 0);
            flow.tie(&channels, &own);
        }
        let labels = flow.input(0);
        flow.set_output(0, labels);
        Ok(())
    }
}

/// A single axis holds one channel; otherwise channels are on axis 1.
fn channel_count(x: &[usize]) -> Result<usize> {
    match x {
        [] => Err(Error::invalid("the input is a scalar")),
        [_] => Ok(1),
        [_, channels, ..] => Ok(*channels),
    }
}

fn check_parameter(dims: &[usize], channels: usize, input: usize) -> Result<()> {
    if dims == [channels] {
        return Ok(());
    }
    Err(Error::invalid(format!("input {input} of shape {dims:?} for {channels} channels")))
}

/// Refuses what updates or reports running statistics.
/// Refuses batches with one value per channel, which normalization would make constant.
fn check_spread(count: usize) -> Result<()> {
    match count {
        1 => Err(Error::invalid("batch statistics need more than one value per channel")
            .hint("take larger batches, or leave its parameters as they are with `freeze`")),
        _ => Ok(()),
    }
}

fn check_inference(cx: &NodeCx) -> Result<()> {
    let more_outputs = cx.node.outputs.iter().skip(1).any(Option::is_some);
    if more_outputs || cx.int("training_mode", 0)? != 0 {
        return Err(Error::unsupported("batch normalization in training form")
            .hint("export the model for inference; training needs no other form"));
    }
    if cx.int("spatial", 1)? == 0 {
        return Err(Error::unsupported("batch normalization with `spatial` = 0"));
    }
    Ok(())
}
