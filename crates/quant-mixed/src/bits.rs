//! Bits by layer.

use crate::plan::Plan;
use crate::quantizer::check_bits;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tensor_core::text::{matches, near};
use tensor_core::{Error, Result};

/// Bits of one layer: of its weights, and of the activations that it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerBits {
    /// Of the weights, from 1 to 8.
    pub weights: u8,
    /// Of the activations that the layer reads, from 1 to 8.
    pub activations: u8,
}

impl LayerBits {
    /// Checks both numbers.
    ///
    /// # Errors
    /// `E0500` unless they are from 1 to 8.
    pub fn check(self) -> Result<Self> {
        check_bits(self.weights).and(check_bits(self.activations)).map(|_| self)
    }
}

/// Bits of all layers: those of some layers by key, and those of the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Of layers that are not named, and of activations that no layer reads.
    pub others: LayerBits,
    /// Of layers by key.
    pub layers: BTreeMap<String, LayerBits>,
}

impl Assignment {
    /// The same bits everywhere.
    pub fn uniform(weights: u8, activations: u8) -> Self {
        Self { others: LayerBits { weights, activations }, layers: BTreeMap::new() }
    }

    /// Those of a plan; what no layer reads has the bits of `others`.
    pub fn of_plan(plan: &Plan, others: LayerBits) -> Self {
        let narrow = |bits: u32| u8::try_from(bits).unwrap_or(u8::MAX);
        let bits = plan.layers.iter().map(|layer| {
            let (weights, activations) = (narrow(layer.weights), narrow(layer.activations));
            (layer.name.clone(), LayerBits { weights, activations })
        });
        Self { others, layers: bits.collect() }
    }

    /// Gives layers bits of their own: the first and the last of `keys` 8 with `ends`, and what a
    /// pattern names those of the pattern, weights and activations alike; a later pattern replaces an
    /// earlier one. `*` stands for any text.
    ///
    /// # Errors
    /// `E0502` when a pattern matches no layer.
    pub fn pin(&mut self, keys: &[String], ends: bool, pins: &[(String, u8)]) -> Result<()> {
        let both = |bits| LayerBits { weights: bits, activations: bits };
        if ends {
            let ends = keys.first().into_iter().chain(keys.last());
            self.layers.extend(ends.map(|key| (key.clone(), both(8))));
        }
        for (pattern, bits) in pins {
            let named: Vec<_> = keys.iter().filter(|key| matches(pattern, key)).collect();
            if named.is_empty() {
                let near = near(pattern, keys.iter().map(String::as_str));
                return Err(Error::invalid(format!("no layer matches the pin `{pattern}`"))
                    .code_is("E0502")
                    .hint(format!("the nearest names are {near}")));
            }
            self.layers.extend(named.into_iter().map(|key| (key.clone(), both(*bits))));
        }
        Ok(())
    }

    /// Those of `keys` that have no bits of their own.
    pub fn unnamed<'a>(&self, keys: &'a [String]) -> Vec<&'a str> {
        let others = keys.iter().filter(|key| !self.layers.contains_key(*key));
        others.map(String::as_str).collect()
    }

    /// Bits of a layer.
    pub fn of(&self, key: &str) -> LayerBits {
        self.layers.get(key).copied().unwrap_or(self.others)
    }

    /// Checks bits, and names against those that there are.
    ///
    /// # Errors
    /// `E0500` for bits outside of 1 to 8, `E0502` for unknown layers.
    pub fn check<'a>(&self, keys: impl Iterator<Item = &'a str> + Clone) -> Result<()> {
        self.others.check()?;
        for (key, bits) in &self.layers {
            bits.check().map_err(|error| {
                Error::invalid(format!("layer `{key}`: {}", error.message())).code_is("E0500")
            })?;
            if !keys.clone().any(|known| known == key) {
                let near = near(key, keys);
                return Err(Error::invalid(format!("there is no quantized layer `{key}`"))
                    .code_is("E0502")
                    .hint(format!(
                        "the nearest names are {near}; a layer that is excluded or stays float has no bits"
                    )));
            }
        }
        Ok(())
    }
}
