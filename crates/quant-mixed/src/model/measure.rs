//! How much of its response each layer keeps.

use super::build::Built;
use super::calibrate::{parts, samples_at_once};
use super::prepared::Prepared;
use tensor_core::run::{Array, Session};
use tensor_core::{Result, ValueId};

/// Samples on which layers are compared.
const SAMPLES: usize = 16;

/// Signal over error of a layer's response in dB; `None` where there is no error.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kept {
    /// Of the layer alone, on inputs of the float network.
    pub(super) local: Option<f64>,
    /// In the quantized network, with all errors before it.
    pub(super) accumulated: Option<f64>,
}

/// Compares the responses of all layers in both networks.
pub(super) fn measure(
    prepared: &Prepared,
    built: &Built,
    batches: &[Vec<Array>],
) -> Result<Vec<Kept>> {
    let layers = &prepared.layers;
    let raw = |value: ValueId| built.raw.get(&value).copied().unwrap_or(value);
    let inputs: Vec<ValueId> = layers.iter().map(|layer| layer.input).collect();
    let outputs: Vec<ValueId> = layers.iter().map(|layer| layer.output).collect();
    let raws: Vec<ValueId> = outputs.iter().map(|&value| raw(value)).collect();
    let both: Vec<ValueId> = inputs.iter().chain(&outputs).copied().collect();
    let float = Session::until(&prepared.graph, &both)?;
    let quantized = Session::until(&built.graph, &raws)?;
    let mut sums = vec![[Error::default(); 2]; layers.len()];
    let take = samples_at_once(&prepared.graph, &prepared.facts, &both);
    let mut left = SAMPLES;
    for batch in batches {
        for part in parts(batch, take)? {
            if left == 0 {
                break;
            }
            left = left
                .saturating_sub(part.first().and_then(|a| a.dims().first().copied()).unwrap_or(1));
            let named: Vec<_> = prepared.graph.inputs.iter().copied().zip(part).collect();
            let then = float.fetch(&named, &both)?;
            let now = quantized.fetch(&named, &raws)?;
            for (i, [local, accumulated]) in sums.iter_mut().enumerate() {
                let response = &then[layers.len() + i];
                // Held for one layer at a time: each session keeps weights as its kernels want them.
                let alone = Session::between(&built.graph, &[raw(inputs[i])], &[raws[i]])?;
                let given = [(raw(inputs[i]), then[i].clone())];
                local.add(response, &alone.fetch(&given, &[raws[i]])?[0])?;
                accumulated.add(response, &now[i])?;
            }
        }
    }
    let kept = |[local, accumulated]: &[Error; 2]| Kept {
        local: local.decibels(),
        accumulated: accumulated.decibels(),
    };
    Ok(sums.iter().map(kept).collect())
}

/// Energies of a signal and its error.
#[derive(Debug, Clone, Copy, Default)]
struct Error {
    signal: f64,
    noise: f64,
}

impl Error {
    fn add(&mut self, reference: &Array, other: &Array) -> Result<()> {
        let (a, b) = (reference.f32s()?, other.f32s()?);
        for (&a, &b) in a.iter().zip(b.iter()) {
            self.signal += f64::from(a) * f64::from(a);
            self.noise += (f64::from(a) - f64::from(b)).powi(2);
        }
        Ok(())
    }

    fn decibels(&self) -> Option<f64> {
        (self.noise > 0.0).then(|| 10.0 * (self.signal / self.noise).log10())
    }
}
