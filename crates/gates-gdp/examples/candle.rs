//! Gates in a candle user's own network and training loop.
//!
//! The network has far more channels than the task needs. Training closes gates until 30 % of the
//! multiply-accumulates are left, and the small network gives what the gated one did:
//!
//!     cargo run --release -p gates-gdp --example candle
#![allow(clippy::print_stdout, reason = "an example")]

use candle_core::{D, DType, Device, Tensor, Var};
use gates_gdp::{Gate, GateOptimizer, GateParams, Goal, Resource, Side, absorb, keep};
use rand_chacha::{ChaCha8Rng, rand_core::RngCore, rand_core::SeedableRng};
use tensor_core::Result;
use tensor_core::train::cross_entropy;

const CLASSES: usize = 4;
const CHANNELS: [usize; 2] = [16, 24];
const STEPS: u64 = 300;

/// Two convolutions and a linear layer; gates before the second and the third layer.
struct Net {
    conv1: Var,
    bias1: Var,
    conv2: Var,
    bias2: Var,
    head: Var,
}

/// Uniform values of this standard deviation.
fn noise(dims: &[usize], deviation: f32, random: &mut ChaCha8Rng) -> Result<Tensor> {
    let mut draw =
        || (random.next_u32() as f32 / u32::MAX as f32 - 0.5) * 12_f32.sqrt() * deviation;
    let values = (0..dims.iter().product()).map(|_| draw()).collect();
    Ok(Tensor::from_vec(values, dims, &Device::Cpu)?)
}

impl Net {
    fn new(random: &mut ChaCha8Rng) -> Result<Self> {
        let mut spread = |dims: &[usize]| -> Result<Var> {
            let fan: usize = dims[1..].iter().product();
            Ok(Var::from_tensor(&noise(dims, (2.0 / fan as f32).sqrt(), random)?)?)
        };
        let zeros = |n: usize| Var::zeros(n, DType::F32, &Device::Cpu);
        Ok(Self {
            conv1: spread(&[CHANNELS[0], 1, 3, 3])?,
            bias1: zeros(CHANNELS[0])?,
            conv2: spread(&[CHANNELS[1], CHANNELS[0], 3, 3])?,
            bias2: zeros(CHANNELS[1])?,
            head: spread(&[CLASSES, CHANNELS[1]])?,
        })
    }

    fn parameters(&self) -> [&Var; 5] {
        [&self.conv1, &self.bias1, &self.conv2, &self.bias2, &self.head]
    }

    /// With gates on the weights of the layers that read the channels.
    fn forward(&self, x: &Tensor, gates: &[Gate]) -> Result<Tensor> {
        let weights = [gates[0].apply(&self.conv2, 1)?, gates[1].apply(&self.head, 1)?];
        network(x, [&self.conv1, &self.bias1, &weights[0], &self.bias2, &weights[1]])
    }

    /// The small network: gates absorbed, closed channels gone wherever they were made.
    fn small(&self, gates: &[Gate]) -> Result<[Tensor; 5]> {
        let conv2 = absorb(&gates[0], &self.conv2, 1)?;
        Ok([
            keep(&gates[0], &self.conv1, 0)?,
            keep(&gates[0], &self.bias1, 0)?,
            keep(&gates[1], &conv2, 0)?,
            keep(&gates[1], &self.bias2, 0)?,
            absorb(&gates[1], &self.head, 1)?,
        ])
    }
}

fn network(x: &Tensor, [conv1, bias1, conv2, bias2, head]: [&Tensor; 5]) -> Result<Tensor> {
    let layer = |x: &Tensor, weight: &Tensor, bias: &Tensor| -> Result<Tensor> {
        let bias = bias.reshape((1, bias.elem_count(), 1, 1))?;
        Ok(x.conv2d(weight, 1, 1, 1, 1)?.broadcast_add(&bias)?.relu()?)
    };
    let x = layer(&x.clone(), conv1, bias1)?.avg_pool2d(2)?;
    let x = layer(&x, conv2, bias2)?.mean(D::Minus1)?.mean(D::Minus1)?;
    Ok(x.matmul(&head.t()?)?)
}

/// Noise with a horizontal, vertical or diagonal line.
fn batch(count: usize, random: &mut ChaCha8Rng) -> Result<(Tensor, Vec<u32>)> {
    let mut pixels: Vec<f32> = noise(&[count * 64], 0.3, random)?.to_vec1()?;
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
    Ok((Tensor::from_vec(pixels, (count, 1, 8, 8), &Device::Cpu)?, labels))
}

fn accuracy(scores: &Tensor, labels: &[u32]) -> Result<f64> {
    let found = scores.argmax(D::Minus1)?.to_vec1::<u32>()?;
    let right = found.iter().zip(labels).filter(|(found, label)| found == label).count();
    Ok(right as f64 / labels.len() as f64)
}

pub(crate) fn main() -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let net = Net::new(&mut random)?;
    let params = GateParams { goal: Goal::Keep(0.3), ..GateParams::default() };
    let mut gates = Vec::new();
    for channels in CHANNELS {
        gates.push(Gate::new(channels, params.eps.first, &Device::Cpu)?);
    }
    // Output positions times kernel size per pair of channels.
    let resource = Resource::new(&CHANNELS)
        .layer(64 * 9, &[Side::Fixed(1), Side::Gated(0)])?
        .layer(16 * 9, &[Side::Gated(0), Side::Gated(1)])?
        .layer(1, &[Side::Gated(1), Side::Fixed(CLASSES)])?;
    let mut optimizer = GateOptimizer::new(params, resource, &[false, false])?;
    for step in 0..STEPS {
        let (x, labels) = batch(64, &mut random)?;
        let loss = cross_entropy(&net.forward(&x, &gates)?, &labels, 0.0)?;
        let gradients = loss.backward()?;
        for parameter in net.parameters() {
            if let Some(gradient) = gradients.get(parameter) {
                parameter.set(&(parameter.as_detached_tensor() - (gradient * 0.1)?)?)?;
            }
        }
        let of_gates: Vec<_> = gates.iter().map(|g| gradients.get(g.alpha()).cloned()).collect();
        optimizer.step((step, STEPS), &mut gates, &of_gates)?;
    }
    let (x, labels) = batch(400, &mut random)?;
    let gated = net.forward(&x, &gates)?;
    let small = net.small(&gates)?;
    let cut = network(&x, small.each_ref())?;
    let difference = (&gated - &cut)?.abs()?.max_all()?.to_scalar::<f32>()?;
    let open: Vec<usize> = small.iter().step_by(2).map(|w| w.dims()[0]).take(2).collect();
    println!(
        "open gates {open:?} of {CHANNELS:?}: {:.1}% of the MACs",
        100.0 * optimizer.resource().share(&open)
    );
    let (before, after) = (accuracy(&gated, &labels)?, accuracy(&cut, &labels)?);
    println!("accuracy {before:.3}, cut {after:.3}; scores differ by {difference:.1e}");
    assert!(optimizer.resource().share(&open) <= 0.3 && difference < 1e-4 && after > 0.9);
    Ok(())
}
