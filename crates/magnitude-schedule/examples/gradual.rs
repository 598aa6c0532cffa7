//! Gradual pruning in a candle user's own network and training loop.
//!
//! Training masks the smallest weights of the second convolution and of the linear layer until 90 %
//! are zero. The first convolution stays dense, as in the paper:
//!
//!     cargo run --release -p magnitude-schedule --example gradual
#![allow(clippy::print_stdout, reason = "an example")]

use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::{
    Conv2d, Conv2dConfig, Linear, Module, Optimizer, SGD, VarBuilder, VarMap, conv2d, linear, loss,
};
use magnitude_schedule::{Mask, Pattern, PolynomialSchedule};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tensor_core::{Error, Result};

const CLASSES: usize = 4;
const STEPS: u64 = 400;
const PRUNED: [&str; 2] = ["conv2.weight", "head.weight"];

struct Net {
    conv1: Conv2d,
    conv2: Conv2d,
    head: Linear,
}

impl Net {
    fn new(vb: VarBuilder) -> Result<Self> {
        let same = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
        Ok(Self {
            conv1: conv2d(1, 16, 3, same, vb.pp("conv1"))?,
            conv2: conv2d(16, 32, 3, same, vb.pp("conv2"))?,
            head: linear(32, CLASSES, vb.pp("head"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.conv1.forward(x)?.relu()?.avg_pool2d(2)?;
        let x = self.conv2.forward(&x)?.relu()?;
        Ok(self.head.forward(&x.mean(D::Minus1)?.mean(D::Minus1)?)?)
    }
}

/// `count` numbers between `-bound` and `bound`.
fn uniform(count: usize, bound: f32, random: &mut ChaCha8Rng) -> Vec<f32> {
    (0..count).map(|_| bound * (random.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0)).collect()
}

/// Draws the weights again, of He's spread: candle's generator for CPUs cannot be seeded.
fn initialize(variables: &VarMap, random: &mut ChaCha8Rng) -> Result<()> {
    let data = variables.data().lock().map_err(|_| Error::internal("a poisoned lock"))?;
    let mut named: Vec<_> = data.iter().collect();
    named.sort_by_key(|(name, _)| *name);
    for (_, variable) in named {
        let inputs: usize = variable.dims().iter().skip(1).product();
        let bound = if variable.rank() > 1 { (6.0 / inputs as f32).sqrt() } else { 0.0 };
        let values = uniform(variable.elem_count(), bound, random);
        variable.set(&Tensor::from_vec(values, variable.shape(), &Device::Cpu)?)?;
    }
    Ok(())
}

/// Noise with a horizontal, vertical or diagonal line.
fn batch(count: usize, random: &mut ChaCha8Rng) -> Result<(Tensor, Tensor)> {
    let mut pixels = uniform(count * 64, 0.5, random);
    let labels: Vec<u32> = (0..count).map(|i| (i % CLASSES) as u32).collect();
    for (i, &label) in labels.iter().enumerate() {
        for at in 0..8 {
            let (row, column) = match label {
                0 => (i / CLASSES % 8, at),
                1 => (at, i / CLASSES % 8),
                2 => (at, at),
                _ => (at, 7 - at),
            };
            pixels[i * 64 + row * 8 + column] += 1.0;
        }
    }
    let x = Tensor::from_vec(pixels, (count, 1, 8, 8), &Device::Cpu)?;
    Ok((x, Tensor::from_vec(labels, count, &Device::Cpu)?))
}

fn weights(variables: &VarMap) -> Result<Vec<Var>> {
    let data = variables.data().lock().map_err(|_| Error::internal("a poisoned lock"))?;
    Ok(PRUNED.iter().filter_map(|name| data.get(*name).cloned()).collect())
}

pub(crate) fn main() -> Result<()> {
    let variables = VarMap::new();
    let net = Net::new(VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu))?;
    let mut random = ChaCha8Rng::seed_from_u64(0);
    initialize(&variables, &mut random)?;
    let mut optimizer = SGD::new(variables.all_vars(), 0.2)?;
    let pruned = weights(&variables)?;

    // Zeros grow from a quarter of the training to three quarters; what is left trains on.
    let schedule = PolynomialSchedule::new(0.0, 0.9, STEPS / 4, STEPS * 3 / 4, 10)?;
    let mut share = 0.0;
    let mut masks = Vec::new();
    for weight in &pruned {
        masks.push(Mask::full(weight.dims()));
    }
    for step in 0..STEPS {
        let (x, labels) = batch(64, &mut random)?;
        optimizer.backward_step(&loss::cross_entropy(&net.forward(&x)?, &labels)?)?;
        let is_update = schedule.sparsity(step) > share;
        share = schedule.sparsity(step);
        for (weight, mask) in pruned.iter().zip(&mut masks) {
            if is_update {
                *mask = Mask::magnitude(weight, share, Pattern::Unstructured)?;
            }
            weight.set(&mask.apply(weight)?)?;
        }
    }

    let (x, labels) = batch(400, &mut random)?;
    let found = net.forward(&x)?.argmax(D::Minus1)?;
    let right = found.eq(&labels)?.to_dtype(DType::F32)?.mean_all()?.to_scalar::<f32>()?;
    println!("accuracy {:.1}%", 100.0 * right);
    for (name, weight) in PRUNED.iter().zip(&pruned) {
        let zeros = Mask::of_nonzeros(weight)?.zeros();
        println!("{name}: {zeros} of {} are zero", weight.elem_count());
        assert_eq!(zeros, (0.9 * weight.elem_count() as f64).round() as usize);
    }
    assert!(right > 0.9);
    Ok(())
}
