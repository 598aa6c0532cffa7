//! Layers, what their bits cost, and what may be spent.

use super::{Budget, Limit};
use crate::plan::{MAX_BITS, MIN_BITS, Plan, PlanLayer};
use serde::{Deserialize, Serialize};
use tensor_core::cost::hardware::{FLOAT_BITS, Hardware, Layer, LayerShape};
use tensor_core::text::{matches, near};
use tensor_core::{Error, ErrorKind, Result};

/// Bits of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Bits {
    /// Of its weights.
    pub weights: u32,
    /// Of the activations that it reads.
    pub activations: u32,
}

impl Bits {
    /// The same for both.
    pub fn both(bits: u32) -> Self {
        Self { weights: bits, activations: bits }
    }
}

/// Which bits may be chosen.
///
/// | name | default | purpose | range |
/// | --- | --- | --- | --- |
/// | `min_bits`, `max_bits` | 2, 8 | what the search chooses from | `1 <= min <= max <= 8` |
/// | `activations` | searched | one number for the activations of all layers | 1 to 8 |
/// | `pin_ends` | yes | the first and the last layer have 8 bits | |
/// | `pins` | none | layers with bits of their own; `*` matches any text | 1 to 8 |
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpaceParams {
    /// Fewest bits.
    pub min_bits: u32,
    /// Most bits.
    pub max_bits: u32,
    /// Bits of all activations, when they are not searched.
    pub activations: Option<u32>,
    /// The first and the last layer have 8 bits.
    pub pin_ends: bool,
    /// Patterns of layers with their bits; a later one replaces an earlier one.
    pub pins: Vec<(String, u32)>,
}

impl Default for SpaceParams {
    fn default() -> Self {
        Self { min_bits: 2, max_bits: 8, activations: None, pin_ends: true, pins: Vec::new() }
    }
}

impl SpaceParams {
    /// Checks all ranges.
    ///
    /// # Errors
    /// `E0557` names the parameter.
    pub fn check(&self) -> Result<()> {
        let known = |bits: u32| (MIN_BITS..=MAX_BITS).contains(&bits);
        let wrong = |what: &str| {
            Err(Error::invalid(format!("{what} outside {MIN_BITS} to {MAX_BITS}")).code_is("E0557"))
        };
        if !known(self.min_bits) || !known(self.max_bits) || self.min_bits > self.max_bits {
            return wrong("`min_bits` and `max_bits` are in the wrong order or");
        }
        if self.activations.is_some_and(|bits| !known(bits)) {
            return wrong("`activations` is");
        }
        match self.pins.iter().find(|(_, bits)| !known(*bits)) {
            Some((name, _)) => wrong(&format!("the pin of `{name}` is")),
            None => Ok(()),
        }
    }
}

/// One way to quantize a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The bits.
    pub bits: Bits,
    /// What they cost.
    pub cost: f64,
}

/// A layer of a problem.
#[derive(Debug, Clone)]
struct Place {
    name: String,
    shape: LayerShape,
    pinned: bool,
    /// What may be chosen, a pinned layer has one; by weights, then by activations.
    choices: Vec<Choice>,
}

/// What a model has beside the layers whose bits are chosen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rest<'a> {
    /// Layers that stay float.
    pub floats: &'a [Layer],
    /// What all else takes, in the unit of the resource, whatever the bits are: such as the
    /// [bytes of nodes and names](super::bytes_beside) in a file.
    pub cost: f64,
}

/// Layers with their choices, and a budget.
#[derive(Debug, Clone)]
pub struct Problem {
    places: Vec<Place>,
    /// What the rest of the model costs.
    fixed: f64,
    unpriced: Vec<String>,
    limits: Budget,
    budget: f64,
    full: f64,
    device: String,
    interpolated: bool,
    params: SpaceParams,
}

impl Problem {
    /// Asks a device for all costs. Layers that stay float cost what 32-bit floats cost, whatever is
    /// chosen for the others; those for which the device has no such figure are
    /// [`unpriced`](Self::unpriced).
    ///
    /// # Errors
    /// `E0557` for wrong parameters, `E0551` for a pin that no layer has; `E0559` when the device has no
    /// figure for the resource; `E0552`, of kind [`ErrorKind::Infeasible`], when even the fewest bits cost
    /// more than the budget: the message names what is attainable; what the device says.
    pub fn new(
        layers: &[Layer],
        rest: Rest<'_>,
        device: &dyn Hardware,
        limits: Budget,
        params: &SpaceParams,
    ) -> Result<Self> {
        params.check()?;
        let pins = pins(layers, params)?;
        let mut interpolated = false;
        let mut figure = |layer: &Layer, bits: Bits| -> Result<f64> {
            let cost = device.cost(&layer.shape, bits.weights, bits.activations);
            let cost = cost.map_err(|error| error.in_node(format!("`{}`", layer.name)))?;
            interpolated |= cost.interpolated;
            limits.resource.of(&cost).ok_or_else(|| {
                let device = device.name();
                Error::invalid(format!("`{device}` has no figures of {}", limits.resource))
                    .code_is("E0559")
                    .hint("limit another resource, or take another device")
            })
        };
        let mut places = Vec::new();
        let (mut fixed, mut unpriced) = (rest.cost, Vec::new());
        for layer in rest.floats {
            match figure(layer, Bits::both(FLOAT_BITS)) {
                Ok(cost) => fixed += cost,
                Err(_) => unpriced.push(layer.name.clone()),
            }
        }
        let mut full = fixed;
        for (layer, pin) in layers.iter().zip(pins) {
            full += figure(layer, Bits::both(MAX_BITS))?;
            let mut choices = Vec::new();
            for bits in options(params, pin) {
                choices.push(Choice { bits, cost: figure(layer, bits)? });
            }
            places.push(Place {
                name: layer.name.clone(),
                shape: layer.shape.clone(),
                pinned: pin.is_some(),
                choices,
            });
        }
        let budget = match limits.limit {
            Limit::Keep(share) => share * full,
            Limit::AtMost(amount) => amount,
        };
        let problem = Self {
            places,
            fixed,
            unpriced,
            limits,
            budget,
            full,
            device: device.name(),
            interpolated,
            params: params.clone(),
        };
        problem.check_attainable()?;
        Ok(problem)
    }

    fn check_attainable(&self) -> Result<()> {
        let ends = |pick: fn(f64, f64) -> f64, from: f64| -> f64 {
            let end = |place: &Place| place.choices.iter().map(|c| c.cost).fold(from, pick);
            self.fixed + self.places.iter().map(end).sum::<f64>()
        };
        let (low, high) = (ends(f64::min, f64::INFINITY), ends(f64::max, 0.0));
        if self.is_within(low) {
            return Ok(());
        }
        let show = |amount: f64| {
            let share = 100.0 * amount / self.full.max(f64::MIN_POSITIVE);
            format!("{} ({share:.1}%)", self.limits.resource.show(amount))
        };
        let message = format!(
            "{} on `{}` cannot be met: that is {}, attainable is {} to {}",
            self.limits,
            self.device,
            show(self.budget),
            show(low),
            show(high)
        );
        Err(Error::new(ErrorKind::Infeasible, "E0552", message)
            .hint("raise the budget, allow fewer bits (`min_bits`), or pin fewer layers"))
    }

    /// The same problem with another amount to spend.
    ///
    /// # Errors
    /// `E0552` as [`new`](Self::new).
    pub fn with_limit(&self, limit: Limit) -> Result<Self> {
        let mut other = self.clone();
        other.limits.limit = limit;
        other.budget = match limit {
            Limit::Keep(share) => share * self.full,
            Limit::AtMost(amount) => amount,
        };
        other.check_attainable()?;
        Ok(other)
    }

    /// Number of layers.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Is there no layer?
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Name of a layer.
    pub fn name(&self, layer: usize) -> &str {
        &self.places[layer].name
    }

    /// Shape of a layer.
    pub fn shape(&self, layer: usize) -> &LayerShape {
        &self.places[layer].shape
    }

    /// Does a layer have no choice?
    pub fn is_pinned(&self, layer: usize) -> bool {
        self.places[layer].pinned
    }

    /// What may be chosen for a layer.
    pub fn choices(&self, layer: usize) -> &[Choice] {
        &self.places[layer].choices
    }

    /// Which bits may be chosen.
    pub fn params(&self) -> &SpaceParams {
        &self.params
    }

    /// What is limited, and to how much.
    pub fn limits(&self) -> Budget {
        self.limits
    }

    /// The device.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Are costs interpolated between other channel counts?
    pub fn is_interpolated(&self) -> bool {
        self.interpolated
    }

    /// What may be spent, in the unit of the resource.
    pub fn budget(&self) -> f64 {
        self.budget
    }

    /// What of it the rest of the model takes.
    pub fn fixed(&self) -> f64 {
        self.fixed
    }

    /// Layers that stay float and cost nothing here, as the device has no figures for floats.
    pub fn unpriced(&self) -> &[String] {
        &self.unpriced
    }

    /// What 8 bits in every layer that can have them cost.
    pub fn full(&self) -> f64 {
        self.full
    }

    /// Is this cost within the budget? Rounding of a sum is no excess.
    pub fn is_within(&self, cost: f64) -> bool {
        cost <= self.budget * (1.0 + 1e-12)
    }

    /// What a layer costs with these bits; infinite where they may not be chosen.
    pub fn layer_cost(&self, layer: usize, bits: Bits) -> f64 {
        let choices = self.places[layer].choices.iter();
        choices.filter(|choice| choice.bits == bits).map(|c| c.cost).fold(f64::INFINITY, f64::min)
    }

    /// What an allocation costs; infinite when a layer has bits that it may not have.
    pub fn cost(&self, bits: &[Bits]) -> f64 {
        let layers = bits.iter().enumerate().map(|(layer, &bits)| self.layer_cost(layer, bits));
        self.fixed + layers.sum::<f64>()
    }

    /// The choice with the most bits, for each layer.
    pub fn most(&self) -> Vec<Bits> {
        let most = |place: &Place| place.choices.last().map(|choice| choice.bits);
        self.places.iter().map(|place| most(place).unwrap_or(Bits::both(MAX_BITS))).collect()
    }

    /// The bits of the others where layers are pinned, these elsewhere.
    pub fn with_pins(&self, bits: Bits) -> Vec<Bits> {
        let own = |place: &Place| match (place.pinned, place.choices.first()) {
            (true, Some(choice)) => choice.bits,
            _ => bits,
        };
        self.places.iter().map(own).collect()
    }

    /// An allocation as a plan.
    pub fn plan(&self, method: &str, bits: &[Bits]) -> Plan {
        let layers = self.places.iter().zip(bits).map(|(place, bits)| PlanLayer {
            name: place.name.clone(),
            weights: bits.weights,
            activations: bits.activations,
        });
        Plan::new(method, &format!("{}, {}", self.device, self.limits), layers.collect())
    }
}

/// The pinned bits of each layer.
fn pins(layers: &[Layer], params: &SpaceParams) -> Result<Vec<Option<Bits>>> {
    let mut pins = vec![None; layers.len()];
    if params.pin_ends {
        if let Some(first) = pins.first_mut() {
            *first = Some(Bits::both(MAX_BITS));
        }
        if let Some(last) = pins.last_mut() {
            *last = Some(Bits::both(MAX_BITS));
        }
    }
    for (pattern, bits) in &params.pins {
        let mut any = false;
        for (pin, layer) in pins.iter_mut().zip(layers) {
            if matches(pattern, &layer.name) {
                *pin = Some(Bits::both(*bits));
                any = true;
            }
        }
        if !any {
            let alike = near(pattern, layers.iter().map(|layer| layer.name.as_str()));
            return Err(Error::invalid(format!("no layer matches the pin `{pattern}`"))
                .code_is("E0551")
                .hint(format!("the nearest are {alike}")));
        }
    }
    Ok(pins)
}

/// What a layer may have, the most bits last.
fn options(params: &SpaceParams, pin: Option<Bits>) -> Vec<Bits> {
    if let Some(bits) = pin {
        return vec![bits];
    }
    let range = params.min_bits..=params.max_bits;
    let activations = match params.activations {
        Some(bits) => bits..=bits,
        None => range.clone(),
    };
    let pairs = range.flat_map(|weights| {
        activations.clone().map(move |activations| Bits { weights, activations })
    });
    pairs.collect()
}
