//! What learns beside the weights.

use crate::straight_through::{Fixed, Levels, Lsq, Pact, StraightThrough};
use candle_core::{Device, Tensor};
use tensor_core::text::near;
use tensor_core::{Error, Result};

/// All methods, in the order of their listing.
pub const METHODS: [&Method; 3] = [
    &Method {
        name: "lsq",
        summary: "steps of weights and activations learn",
        weight: learned_steps,
        activation: learned_steps,
    },
    &Method {
        name: "pact",
        summary: "steps of weights learn, and clips of activations",
        weight: learned_steps,
        activation: learned_clip,
    },
    &Method { name: "fixed", summary: "calibrated ranges stay", weight: stays, activation: stays },
];

/// A grid before training.
#[derive(Debug, Clone)]
pub(super) struct Start {
    /// One step, or one for each slice.
    pub(super) steps: Vec<f32>,
    /// The axis of these slices.
    pub(super) axis: Option<usize>,
    /// The integers.
    pub(super) levels: Levels,
    /// Elements that share a step: of a weight, or of an activation for one sample.
    pub(super) count: usize,
}

/// How quantizers are made from where they begin.
#[derive(Debug)]
pub struct Method {
    /// Such as `lsq`.
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// The quantizer of a weight.
    pub(super) weight: fn(&Start) -> Result<Box<dyn StraightThrough>>,
    /// The quantizer of an activation.
    pub(super) activation: fn(&Start) -> Result<Box<dyn StraightThrough>>,
}

/// The method of that name.
///
/// # Errors
/// `E0500` when there is none.
pub fn method(name: &str) -> Result<&'static Method> {
    METHODS.into_iter().find(|method| method.name == name).ok_or_else(|| {
        let names = METHODS.map(|method| method.name);
        Error::invalid(format!("there is no method `{name}` of training with quantization"))
            .code_is("E0500")
            .hint(format!("the nearest names are {}", near(name, names.into_iter())))
    })
}

impl Start {
    fn tensor(&self) -> Result<Tensor> {
        Ok(Tensor::new(self.steps.as_slice(), &Device::Cpu)?)
    }
}

fn learned_steps(start: &Start) -> Result<Box<dyn StraightThrough>> {
    let Start { axis, levels, count, .. } = *start;
    Ok(Box::new(Lsq::with_steps(&start.tensor()?, axis, levels, count)?))
}

fn learned_clip(start: &Start) -> Result<Box<dyn StraightThrough>> {
    let step = start.steps.first().copied().unwrap_or(1.0);
    let alpha = (f64::from(step) * start.levels.reach()) as f32;
    Ok(Box::new(Pact::new(alpha, start.levels, &Device::Cpu)?))
}

fn stays(start: &Start) -> Result<Box<dyn StraightThrough>> {
    Ok(Box::new(Fixed::new(&start.tensor()?, start.axis, start.levels)))
}
