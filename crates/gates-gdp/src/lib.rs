//! Gates with differentiable polarization: channels that training switches off exactly.
//!
//! # Objective
//!
//! Guo et al., "GDP: Stabilized neural network pruning via gates with differentiable polarization"
//! (ICCV 2021), put a gate per input channel before every regular convolution or linear layer and
//! train it with the network under a price for what the network costs:
//!
//! ```text
//! min over W, alpha of  L(W, g(alpha)) + lambda R(alpha) / R_full
//! g(alpha) = alpha^2 / (alpha^2 + eps)
//! R(alpha) = sum over layers of c_l ||alpha_in||_0 ||alpha_out||_0
//! ```
//!
//! Small gates get no gradient and fall to exactly 0, the others go towards 1. What is closed
//! contributes exactly nothing and is cut, what is open is multiplied into the weight behind it:
//! the small network computes what the gated one did.
//!
//! The paper came without code. What it leaves open is defined here: the closed form of the gate, the
//! proximal step with its weights and the weight of the term ([`GateOptimizer`]), the schedule of
//! `eps` ([`EpsSchedule`]), and the [gain](Gate) that makes the first step equal to the trained
//! network and lets `eps` change without a jump.
//!
//! | name | default | purpose | range |
//! | --- | --- | --- | --- |
//! | [`Goal`] | keep 50 % | where shrinking ends | |
//! | [`Prox`] | soft | L1 or L0 | |
//! | [`Penalty`] | adaptive | how the shrink is spread over the gates | |
//! | [`Rounding`] | none | widths that are multiples | at least 1 |
//!
//! and the others of [`GateParams`].
//!
//! # Parts
//!
//! * [`gate()`], [`Gate`]: the function, and gates of one list of channels;
//! * [`Resource`]: what a network costs, bilinear in the numbers of open gates;
//! * [`GateOptimizer`], [`Controller`], [`prox`]: the step and the way to the goal;
//! * [`absorb`], [`keep`]: the small network's weights;
//! * [`model`]: where gates belong in a graph, and the cut.
//!
//! With the feature `train`, the module `train` is a plug-in for Kerf's training loop.
//!
//! # Example
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use gates_gdp::{Gate, GateOptimizer, GateParams, Resource, Side, absorb};
//!
//! // y = W g x with 8 inputs, of which only the first four matter.
//! let wanted = Tensor::new(&[[1_f32, -2., 3., -1., 0., 0., 0., 0.]], &Device::Cpu)?;
//! let weight = (&wanted + 0.01)?;
//! let mut gates = [Gate::new(8, 0.1, &Device::Cpu)?];
//! let resource = Resource::new(&[8]).layer(1, &[Side::Gated(0)])?;
//! let mut optimizer = GateOptimizer::new(GateParams::default(), resource, &[false])?;
//! let x = Tensor::arange(0_f32, 512., &Device::Cpu)?.sqr()?.sin()?.reshape((64, 8))?;
//! for step in 0..200 {
//!     let gated = gates[0].apply(&weight, 1)?;
//!     let loss = (x.matmul(&gated.t()?)? - x.matmul(&wanted.t()?)?)?.sqr()?.mean_all()?;
//!     let gradient = loss.backward()?.get(gates[0].alpha()).cloned();
//!     optimizer.step((step, 200), &mut gates, &[gradient])?;
//! }
//! assert_eq!(gates[0].open()?, [0, 1, 2, 3]);
//! assert_eq!(absorb(&gates[0], &weight, 1)?.dims(), [1, 4]);
//! # Ok::<(), tensor_core::Error>(())
//! ```

mod absorb;
mod controller;
mod eps;
mod gate;
pub mod model;
mod optimizer;
mod params;
pub mod prox;
mod resource;
#[cfg(feature = "train")]
pub mod train;

pub use absorb::{absorb, keep};
pub use controller::Controller;
pub use eps::EpsSchedule;
pub use gate::{Gate, gate};
pub use optimizer::GateOptimizer;
pub use params::{GateParams, Goal, Penalty, Rounding};
pub use prox::Prox;
pub use resource::{Resource, Side};
