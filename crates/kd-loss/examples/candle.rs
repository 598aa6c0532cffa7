//! A teacher for a candle user's own network and training loop.
//!
//! A wide network learns from many labelled samples; a narrow one that has few labels learns more from the
//! wide one's scores on samples without labels than from the labels alone:
//!
//!     cargo run --release -p kd-loss --example candle
#![allow(clippy::print_stdout, reason = "an example")]

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::{loss::cross_entropy, ops::softmax};
use kd_loss::{Distillation, distillation};
use rand_chacha::{ChaCha8Rng, rand_core::RngCore, rand_core::SeedableRng};

const SIDE: usize = 8;
const CLASSES: usize = 4;
const STEPS: usize = 1500;
const RATE: f64 = 0.1;
/// Samples that have labels for the student.
const FEW: usize = 24;

type Net = [Var; 2];

/// Uniform values of this standard deviation.
fn noise(dims: &[usize], deviation: f32, random: &mut ChaCha8Rng) -> Result<Tensor> {
    let mut draw =
        || (random.next_u32() as f32 / u32::MAX as f32 - 0.5) * 12_f32.sqrt() * deviation;
    let values: Vec<f32> = (0..dims.iter().product()).map(|_| draw()).collect();
    Tensor::from_vec(values, dims, &Device::Cpu)
}

fn net(hidden: usize, random: &mut ChaCha8Rng) -> Result<Net> {
    let mut spread =
        |dims: [usize; 2]| Var::from_tensor(&noise(&dims, (2.0 / dims[0] as f32).sqrt(), random)?);
    Ok([spread([SIDE * SIDE, hidden])?, spread([hidden, CLASSES])?])
}

fn scores([first, second]: &Net, x: &Tensor) -> Result<Tensor> {
    x.matmul(first)?.relu()?.matmul(second)
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

fn accuracy(net: &Net, (x, labels): (&Tensor, &Tensor)) -> Result<f32> {
    let right = scores(net, x)?.argmax(D::Minus1)?.eq(labels)?;
    right.to_dtype(DType::F32)?.mean_all()?.to_scalar()
}

fn descend(net: &Net, loss: &Tensor) -> Result<()> {
    let gradients = loss.backward()?;
    for variable in net {
        if let Some(gradient) = gradients.get(variable) {
            variable.set(&(variable.as_detached_tensor() - (gradient * RATE)?)?)?;
        }
    }
    Ok(())
}

pub(crate) fn main() -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let teacher = net(128, &mut random)?;
    for _ in 0..STEPS {
        let (x, labels) = batch(64, &mut random)?;
        descend(&teacher, &cross_entropy(&scores(&teacher, &x)?, &labels)?)?;
    }
    let few = batch(FEW, &mut random)?;
    let [alone, taught] = [net(24, &mut random)?, net(24, &mut random)?];
    for _ in 0..STEPS {
        descend(&alone, &cross_entropy(&scores(&alone, &few.0)?, &few.1)?)?;
    }
    // No label is needed where the teacher gives its scores: the weight of labels is 0.
    let config = Distillation { temperature: 2.0, hard_weight: 0.0, ..Distillation::default() };
    for _ in 0..STEPS {
        let (x, _) = batch(64, &mut random)?;
        let wanted = scores(&teacher, &x)?.detach();
        descend(&taught, &distillation(&scores(&taught, &x)?, &wanted, None, &config)?)?;
    }
    let (x, labels) = batch(2000, &mut random)?;
    let [teacher_right, alone_right, taught_right] =
        [&teacher, &alone, &taught].map(|net| accuracy(net, (&x, &labels)));
    let (teacher_right, alone_right, taught_right) = (teacher_right?, alone_right?, taught_right?);
    println!("teacher {teacher_right:.3}, {FEW} labels {alone_right:.3}, taught {taught_right:.3}");
    let sure = softmax(&scores(&taught, &x)?, D::Minus1)?.max(D::Minus1)?.mean_all()?;
    println!("mean probability of the class it names: {:.3}", sure.to_scalar::<f32>()?);
    assert!(taught_right > alone_right + 0.05 && teacher_right - taught_right < 0.1);
    Ok(())
}
