//! Knowledge distillation for candle: losses by which a small network (the student) learns from a
//! large one or from several (the teachers).
//!
//! # Objective
//!
//! ```text
//! L = (1 - a) T^2 KL(softmax(v / T), softmax(z / T)) + a H(y, softmax(z))
//! ```
//!
//! with the student's logits `z`, the teacher's `v`, the label `y`, the temperature `T` and the weight
//! `a` of the labels (Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015):
//! [`distillation`]. The other losses replace or join its first term.
//!
//! | name | default | purpose | range |
//! | --- | --- | --- | --- |
//! | `temperature` | 4 | softens both probabilities; for much smaller students 2.5 to 4, else up to 20 | `> 0` |
//! | `hard_weight` | 0.1 | `a` | `[0, 1]` |
//! | `label_smoothing` | 0 | moves this share of a label to all classes | `[0, 1]` |
//!
//! Every loss is a function of tensors that returns a scalar, averaged over the batch; its documentation
//! says what it sums or averages of one sample. Teachers take no gradient. Logits have shape `(samples, classes)`, labels `(samples,)`.
//! Finite logits give finite values and gradients at every magnitude.
//!
//! | function | compares | paper |
//! | --- | --- | --- |
//! | [`soft_targets`] | softened probabilities | Hinton et al. 2015 |
//! | [`logit_matching`] | logits; the limit of the former for a high temperature | Ba and Caruana 2014 |
//! | [`standardize`] | (a step before any logit loss) | Sun et al. 2024 |
//! | [`dkd`] | the target class, and the others, apart | Zhao et al. 2022 |
//! | [`dist`] | correlations of probabilities | Huang et al. 2022 |
//! | [`hint`] | features, through an [`Adapter`] | Romero et al. 2015 |
//! | [`attention_transfer`] | where feature maps are large | Zagoruyko and Komodakis 2017 |
//! | [`relational_distance`], [`relational_angle`] | geometry of the batch | Park et al. 2019 |
//!
//! [`Ensemble`] makes one teacher of several. [`METHODS`] lists the losses by name for programs that
//! let a user choose; a new loss is a file and a line there. With the feature `train`, the module
//! `train` is a plug-in for Kerf's training loop; without it the crate depends on candle alone.
//!
//! # Example: training steps
//!
//! ```
//! use candle_core::{D, Device, Result, Tensor, Var};
//! use kd_loss::{Distillation, distillation};
//!
//! /// Two layers; the teacher's are constants, the student's are trained.
//! fn network(x: &Tensor, first: &Tensor, second: &Tensor) -> Result<Tensor> {
//!     x.matmul(first)?.relu()?.matmul(second)
//! }
//!
//! let device = Device::Cpu;
//! let images = Tensor::randn(0_f32, 1., (32, 16), &device)?;
//! let big = [
//!     Tensor::randn(0_f32, 0.5, (16, 64), &device)?,
//!     Tensor::randn(0_f32, 0.5, (64, 10), &device)?,
//! ];
//! let small = [
//!     Var::randn(0_f32, 0.2, (16, 8), &device)?,
//!     Var::randn(0_f32, 0.2, (8, 10), &device)?,
//! ];
//! let config = Distillation { temperature: 4.0, hard_weight: 0.1, ..Distillation::default() };
//!
//! // The teacher sees the same images as the student, in inference mode.
//! let teacher = network(&images, &big[0], &big[1])?;
//! let labels = teacher.argmax(D::Minus1)?;
//! let mut losses = Vec::new();
//! for _ in 0..20 {
//!     let student = network(&images, &small[0], &small[1])?;
//!     let loss = distillation(&student, &teacher, Some(&labels), &config)?;
//!     let gradients = loss.backward()?;
//!     for variable in &small {
//!         if let Some(gradient) = gradients.get(variable) {
//!             variable.set(&(variable.as_tensor() - (gradient * 0.02)?)?)?;
//!         }
//!     }
//!     losses.push(loss.to_scalar::<f32>()?);
//! }
//! assert!(losses[19] < losses[0]);
//! # Ok::<(), candle_core::Error>(())
//! ```

mod adapter;
mod attention;
mod check;
mod dist;
mod distillation;
mod dkd;
mod ensemble;
mod hard_labels;
mod hint;
mod log_softmax;
mod logit_matching;
mod pool;
mod registry;
mod relational;
mod soft_targets;
mod standardize;
#[cfg(feature = "train")]
pub mod train;

pub use adapter::Adapter;
pub use attention::{AttentionTransfer, attention_transfer};
pub use dist::{Dist, dist};
pub use distillation::{Distillation, distillation, with_labels};
pub use dkd::{Dkd, dkd};
pub use ensemble::{Ensemble, Mean};
pub use hard_labels::hard_labels;
pub use hint::{Hint, hint};
pub use log_softmax::log_softmax;
pub use logit_matching::{LogitMatching, logit_matching};
pub use registry::{FeatureLoss, FeaturePair, LogitLoss, METHODS, Method, Parameter, Range};
pub use relational::{Relational, relational_angle, relational_distance};
pub use soft_targets::{SoftTargets, soft_targets};
pub use standardize::{Standardized, standardize};
