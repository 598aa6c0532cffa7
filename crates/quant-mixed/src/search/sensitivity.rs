//! How much the outputs change when one layer has fewer bits.

use super::Bits;
use crate::plan::MAX_BITS;
use serde::{Deserialize, Serialize};
use std::path::Path;
use tensor_core::progress::{self, Progress};
use tensor_core::{Error, Result, files};

/// Schema of a file of sensitivities.
const SCHEMA: &str = "kerf.sensitivity/1";

/// What is lost by the bits of one layer; entry b - 1 is that of b bits; outputs are compared with those of
/// 8 bits, so that these lose nothing, while [traces](super::hessian) count their rounding, too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerSensitivity {
    /// The layer.
    pub name: String,
    /// By bits of its weights.
    pub weights: Vec<f64>,
    /// By bits of the activations that it reads.
    pub activations: Vec<f64>,
}

/// Sensitivities of all layers, taken as adding up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sensitivities {
    schema: String,
    /// What was measured, and on what: a file is used again only for the same.
    pub measure: String,
    /// The layers, in graph order.
    pub layers: Vec<LayerSensitivity>,
}

impl LayerSensitivity {
    /// Reads what was written as JSON, which has no infinity: losses below the fewest bits are null.
    ///
    /// # Errors
    /// `E0404` when it is something else.
    pub fn from_json(value: &serde_json::Value) -> Result<Self> {
        let stored: StoredLayer = serde_json::from_value(value.clone()).map_err(|error| {
            Error::invalid(format!("a sensitivity of the journal: {error}")).code_is("E0404")
        })?;
        Ok(stored.into_layer())
    }
}

impl Sensitivities {
    /// By a rule that gives the losses of weights and activations for each layer and number of bits.
    pub fn of(layers: usize, rule: impl Fn(usize, u32) -> (f64, f64)) -> Self {
        let layer = |layer: usize| {
            let (weights, activations) = (1..=MAX_BITS).map(|bits| rule(layer, bits)).unzip();
            LayerSensitivity { name: layer.to_string(), weights, activations }
        };
        Self {
            schema: SCHEMA.to_owned(),
            measure: "given".to_owned(),
            layers: (0..layers).map(layer).collect(),
        }
    }

    /// Measures each layer alone, with all others at 8 bits: `divergence` is how far the outputs are
    /// from those of the float model. What 8 bits everywhere lose is subtracted. Fewer bits never lose
    /// less: where noise says so, the loss of more bits stands.
    ///
    /// Below `min_bits` the loss is infinite.
    ///
    /// # Errors
    /// What `divergence` says, and `E0130` when interrupted.
    pub fn measure(
        names: &[&str],
        min_bits: u32,
        measure: &str,
        divergence: &mut dyn FnMut(&[Bits]) -> Result<f64>,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let mut ignore = |_: &LayerSensitivity| Ok(());
        Self::resume((names, min_bits, measure), Vec::new(), divergence, &mut ignore, progress)
    }

    /// As [`measure`](Self::measure) of these names, fewest bits and description, after the layers that
    /// are known already; `after` is called with each other layer once it is measured.
    ///
    /// # Errors
    /// As [`measure`](Self::measure); what `after` says; `E0404` when the known layers are not the first.
    pub fn resume(
        (names, min_bits, measure): (&[&str], u32, &str),
        known: Vec<LayerSensitivity>,
        divergence: &mut dyn FnMut(&[Bits]) -> Result<f64>,
        after: &mut dyn FnMut(&LayerSensitivity) -> Result<()>,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let are_first = known.len() <= names.len()
            && known.iter().zip(names).all(|(layer, name)| layer.name == *name);
        if !are_first {
            return Err(Error::invalid("the sensitivities measured so far are of other layers")
                .code_is("E0404")
                .hint("name another run folder, or remove this one"));
        }
        let mut bits = vec![Bits::both(MAX_BITS); names.len()];
        progress.stage("measure sensitivities", names.len());
        let base = divergence(&bits)?;
        let mut layers = known;
        layers.iter().for_each(|layer| progress.item(&layer.name));
        for (at, name) in names.iter().enumerate().skip(layers.len()) {
            progress::check(progress)?;
            let mut lost = [vec![f64::INFINITY; 8], vec![f64::INFINITY; 8]];
            for (kind, lost) in lost.iter_mut().enumerate() {
                let mut most = 0.0_f64;
                lost[MAX_BITS as usize - 1] = most;
                for few in (min_bits..MAX_BITS).rev() {
                    bits[at] = match kind {
                        0 => Bits { weights: few, activations: MAX_BITS },
                        _ => Bits { weights: MAX_BITS, activations: few },
                    };
                    most = most.max(divergence(&bits)? - base);
                    lost[few as usize - 1] = most;
                }
            }
            bits[at] = Bits::both(MAX_BITS);
            let [weights, activations] = lost;
            let layer = LayerSensitivity { name: (*name).to_owned(), weights, activations };
            after(&layer)?;
            layers.push(layer);
            progress.item(name);
        }
        Ok(Self { schema: SCHEMA.to_owned(), measure: measure.to_owned(), layers })
    }

    /// What a layer loses with these bits.
    pub fn loss(&self, layer: usize, bits: Bits) -> f64 {
        let entry = |losses: &[f64], bits: u32| {
            let at = (bits as usize).checked_sub(1);
            at.and_then(|at| losses.get(at)).copied().unwrap_or(f64::INFINITY)
        };
        self.layers.get(layer).map_or(f64::INFINITY, |layer| {
            entry(&layer.weights, bits.weights) + entry(&layer.activations, bits.activations)
        })
    }

    /// What an allocation loses.
    pub fn total(&self, bits: &[Bits]) -> f64 {
        bits.iter().enumerate().map(|(layer, &bits)| self.loss(layer, bits)).sum()
    }

    /// Reads a file when it is of the same measure and layers; `None` when there is none or it is of
    /// something else.
    ///
    /// # Errors
    /// `E0558` when the file is damaged.
    pub fn read(path: &Path, measure: &str, names: &[&str]) -> Result<Option<Self>> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(path, &error)),
        };
        let damaged = |what: String| {
            Error::invalid(format!("{}: {what}", path.display()))
                .code_is("E0558")
                .hint("remove the file to measure again")
        };
        // JSON has no infinity: losses below the fewest bits are null.
        let stored: Stored =
            serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        let found = stored.into_sensitivities();
        let is_whole = |losses: &Vec<f64>| {
            losses.len() == MAX_BITS as usize && losses.iter().all(|loss| *loss >= 0.0)
        };
        if !found.layers.iter().all(|l| is_whole(&l.weights) && is_whole(&l.activations)) {
            return Err(damaged("losses are not 8 numbers of at least 0".to_owned()));
        }
        let same = found.layers.iter().map(|layer| layer.name.as_str()).eq(names.iter().copied());
        Ok((found.schema == SCHEMA && found.measure == measure && same).then_some(found))
    }

    /// Writes a file.
    ///
    /// # Errors
    /// `E0003` when it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self);
        let text = text.map_err(|error| Error::internal(error.to_string()))? + "\n";
        files::write_whole(path, |part| std::fs::write(part, &text))
    }
}

/// As a file holds them.
#[derive(Deserialize)]
struct Stored {
    schema: String,
    measure: String,
    layers: Vec<StoredLayer>,
}

#[derive(Deserialize)]
struct StoredLayer {
    name: String,
    weights: Vec<Option<f64>>,
    activations: Vec<Option<f64>>,
}

impl StoredLayer {
    fn into_layer(self) -> LayerSensitivity {
        let numbers = |losses: Vec<Option<f64>>| {
            losses.into_iter().map(|loss| loss.unwrap_or(f64::INFINITY)).collect()
        };
        LayerSensitivity {
            name: self.name,
            weights: numbers(self.weights),
            activations: numbers(self.activations),
        }
    }
}

impl Stored {
    fn into_sensitivities(self) -> Sensitivities {
        let layers = self.layers.into_iter().map(StoredLayer::into_layer);
        Sensitivities { schema: self.schema, measure: self.measure, layers: layers.collect() }
    }
}
