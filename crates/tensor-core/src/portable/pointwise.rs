//! Functions of single elements.

use candle_core::{Result, Tensor};

/// A function of the table of unary operators with its parameters; `None` for those that candle
/// lacks.
///
/// # Errors
/// When the device refuses.
pub(crate) fn unary(name: &str, x: &Tensor, [p, q]: [f64; 2]) -> Result<Option<Tensor>> {
    let y = match name {
        // Written so that NaN stays and zero passes no gradient.
        "Relu" => x.le(0_f32)?.where_cond(&x.zeros_like()?, x)?,
        "LeakyRelu" => x.lt(0_f32)?.where_cond(&(x * p)?, x)?,
        "ThresholdedRelu" => x.gt(p as f32)?.where_cond(x, &x.zeros_like()?)?,
        "Elu" => x.elu(p)?,
        "Celu" => ((x / p)?.elu(1.0)? * p)?,
        "Selu" => (x.elu(p)? * q)?,
        "Sigmoid" => logistic(x)?,
        "HardSigmoid" => clip(&x.affine(p, q)?, 0.0, 1.0)?,
        "HardSwish" => (x * clip(&x.affine(1.0 / 6.0, 0.5)?, 0.0, 1.0)?)?,
        "Tanh" => x.tanh()?,
        "Erf" => x.erf()?,
        "Exp" => x.exp()?,
        "Log" => x.log()?,
        "Sqrt" => x.sqrt()?,
        "Neg" => x.neg()?,
        "Reciprocal" => x.recip()?,
        "Sin" => x.sin()?,
        "Cos" => x.cos()?,
        "Softplus" => soft_plus(x)?,
        "Mish" => (x * soft_plus(x)?.tanh()?)?,
        "Softsign" => (x / (x.abs()? + 1.0)?)?,
        "Swish" => (x * logistic(&(x * p)?)?)?,
        _ => return Ok(None),
    };
    Ok(Some(y))
}

/// Limits to `[low, high]`; outside no gradient passes.
///
/// # Errors
/// When the device refuses.
pub(crate) fn clip(x: &Tensor, low: f64, high: f64) -> Result<Tensor> {
    let mut y = x.clone();
    if low > f64::NEG_INFINITY {
        y = y.lt(low as f32)?.where_cond(&y.ones_like()?.affine(0.0, low)?, &y)?;
    }
    if high < f64::INFINITY {
        y = y.gt(high as f32)?.where_cond(&y.ones_like()?.affine(0.0, high)?, &y)?;
    }
    Ok(y)
}

/// `1 / (1 + exp(-x))`, without an exponential that could overflow.
fn logistic(x: &Tensor) -> Result<Tensor> {
    (x * 0.5)?.tanh()?.affine(0.5, 0.5)
}

/// `log(1 + exp(x))`, likewise.
fn soft_plus(x: &Tensor) -> Result<Tensor> {
    let positive = x.le(0_f32)?.where_cond(&x.zeros_like()?, x)?;
    positive + (x.abs()?.neg()?.exp()? + 1.0)?.log()?
}
