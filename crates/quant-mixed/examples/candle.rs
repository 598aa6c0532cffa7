//! Weights of two bits in a candle user's own network and training loop.
//!
//! A network learns in floats. Rounding its weights to two bits loses accuracy; a short training of the
//! rounded network, whose steps learn too (LSQ), gives most of it back:
//!
//!     cargo run --release -p quant-mixed --example candle
#![allow(clippy::print_stdout, reason = "an example")]

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::{Module, ops::log_softmax};
use quant_mixed::straight_through::{Levels, Lsq, StraightThrough};
use rand_chacha::{ChaCha8Rng, rand_core::RngCore, rand_core::SeedableRng};

const SIDE: usize = 8;
const HIDDEN: usize = 24;
const CLASSES: usize = 4;
const BITS: u8 = 2;

/// Two layers without biases.
struct Net {
    weights: [Var; 2],
}

/// Uniform values of this standard deviation.
fn noise(dims: &[usize], deviation: f32, random: &mut ChaCha8Rng) -> Result<Tensor> {
    let mut draw =
        || (random.next_u32() as f32 / u32::MAX as f32 - 0.5) * 12_f32.sqrt() * deviation;
    let values: Vec<f32> = (0..dims.iter().product()).map(|_| draw()).collect();
    Tensor::from_vec(values, dims, &Device::Cpu)
}

fn network(x: &Tensor, [first, second]: [&Tensor; 2]) -> Result<Tensor> {
    x.matmul(&first.t()?)?.relu()?.matmul(&second.t()?)
}

/// Noise with a horizontal, vertical or diagonal line.
fn batch(count: usize, random: &mut ChaCha8Rng) -> Result<(Tensor, Tensor)> {
    let mut pixels: Vec<f32> = noise(&[count * SIDE * SIDE], 0.6, random)?.to_vec1()?;
    let labels: Vec<u32> = (0..count).map(|i| (i % CLASSES) as u32).collect();
    for (i, &label) in labels.iter().enumerate() {
        for at in 0..SIDE {
            let (row, column) = match label {
                0 => (i / CLASSES % SIDE, at),
                1 => (at, i / CLASSES % SIDE),
                2 => (at, at),
                _ => (at, SIDE - 1 - at),
            };
            pixels[(i * SIDE + row) * SIDE + column] += 1.0;
        }
    }
    let x = Tensor::from_vec(pixels, (count, SIDE * SIDE), &Device::Cpu)?;
    Ok((x, Tensor::from_vec(labels, count, &Device::Cpu)?))
}

fn loss(scores: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let logs = log_softmax(scores, D::Minus1)?;
    logs.gather(&labels.unsqueeze(1)?, 1)?.mean_all()?.neg()
}

fn accuracy(scores: &Tensor, labels: &Tensor) -> Result<f32> {
    let right = scores.argmax(D::Minus1)?.eq(labels)?;
    right.to_dtype(DType::F32)?.mean_all()?.to_scalar()
}

/// One step of gradient descent for everything that learns.
fn descend(loss: &Tensor, variables: &[(&Var, f64)]) -> Result<()> {
    let gradients = loss.backward()?;
    for (variable, rate) in variables {
        if let Some(gradient) = gradients.get(variable) {
            variable.set(&(variable.as_detached_tensor() - (gradient * *rate)?)?)?;
        }
    }
    Ok(())
}

pub(crate) fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let spread = |dims: [usize; 2], random: &mut ChaCha8Rng| {
        Var::from_tensor(&noise(&dims, (2.0 / dims[1] as f32).sqrt(), random)?)
    };
    let net = Net {
        weights: [
            spread([HIDDEN, SIDE * SIDE], &mut random)?,
            spread([CLASSES, HIDDEN], &mut random)?,
        ],
    };
    let [first, second] = &net.weights;
    for _ in 0..600 {
        let (x, labels) = batch(64, &mut random)?;
        let loss = loss(&network(&x, [first, second])?, &labels)?;
        descend(&loss, &[(first, 0.1), (second, 0.1)])?;
    }
    let (x, labels) = batch(2000, &mut random)?;
    let float = accuracy(&network(&x, [first, second])?, &labels)?;

    // A step for each output of a weight, which learns with it.
    let levels = Levels::signed(BITS)?;
    let quantizers = [Lsq::new(first, Some(0), levels)?, Lsq::new(second, Some(0), levels)?];
    let quantized = |x: &Tensor| {
        let views = [quantizers[0].forward(first)?, quantizers[1].forward(second)?];
        network(x, [&views[0], &views[1]])
    };
    let rounded = accuracy(&quantized(&x)?, &labels)?;
    let steps = quantizers.each_ref().map(Lsq::step);
    for _ in 0..600 {
        let (x, labels) = batch(64, &mut random)?;
        let loss = loss(&quantized(&x)?, &labels)?;
        descend(&loss, &[(first, 0.05), (second, 0.05), (steps[0], 0.01), (steps[1], 0.01)])?;
    }
    let trained = accuracy(&quantized(&x)?, &labels)?;
    println!(
        "floats {float:.3}, rounded to {BITS} bits {rounded:.3}, trained with them {trained:.3}"
    );

    // What is left are integers of few values, and a step for each output.
    let integers = (quantizers[0].view(first)?.broadcast_div(&steps[0].unsqueeze(1)?))?.round()?;
    let mut values: Vec<i32> =
        integers.flatten_all()?.to_vec1::<f32>()?.iter().map(|&q| q as i32).collect();
    values.sort_unstable();
    values.dedup();
    println!("the integers of the first weight: {values:?}");
    assert!(values.len() <= 1 << BITS && trained > rounded && float - trained < 0.05);
    Ok(())
}
