//! Well-known networks as untrained graphs, in the form that ONNX exporters write: BatchNormalization
//! kept, the batch size open, logits without softmax.
//!
//! A new family is one file with its [`Architecture`]s and one line in [`architectures`].
//!
//! ```
//! use tensor_core::zoo::{self, Options};
//!
//! let resnet = zoo::architecture("resnet20")?;
//! let graph = resnet.build(&Options { classes: 10, input: Some([1, 28, 28]), ..Options::default() })?;
//! assert_eq!(graph.outputs.len(), 1);
//! # Ok::<(), tensor_core::Error>(())
//! ```

mod builder;
mod inception_v3;
mod lenet;
mod mlp;
mod mobilenet_v1;
mod mobilenet_v2;
mod resnet;
mod vgg;
mod weights;
mod xception;

use crate::text::near;
use crate::{Error, Graph, Result};
use builder::Builder;

/// All architectures, in the order of their listing.
pub fn architectures() -> impl Iterator<Item = &'static Architecture> {
    mlp::ARCHITECTURES
        .iter()
        .chain(lenet::ARCHITECTURES)
        .chain(vgg::ARCHITECTURES)
        .chain(resnet::ARCHITECTURES)
        .chain(mobilenet_v1::ARCHITECTURES)
        .chain(mobilenet_v2::ARCHITECTURES)
        .chain(xception::ARCHITECTURES)
        .chain(inception_v3::ARCHITECTURES)
}

/// The architecture of that name.
///
/// # Errors
/// `E0160` when there is none; the hint names those that are spelled alike.
pub fn architecture(name: &str) -> Result<&'static Architecture> {
    architectures().find(|architecture| architecture.name == name).ok_or_else(|| {
        let alike = near(name, architectures().map(|architecture| architecture.name));
        Error::invalid(format!("no architecture `{name}`"))
            .code_is("E0160")
            .hint(format!("the nearest are {alike}; `kerf new --list` shows all"))
    })
}

/// A network by name.
#[derive(Debug)]
pub struct Architecture {
    /// Such as `resnet20`.
    pub name: &'static str,
    /// One line: what it is and where it was published.
    pub summary: &'static str,
    /// Channels, height and width that it was published for.
    pub input: [usize; 3],
    /// Classes that it was published for.
    pub classes: usize,
    /// Does it take [`Options::width`]?
    pub has_width: bool,
    /// Does it take [`Options::hidden`]?
    pub has_hidden: bool,
    /// Does it have a place for [`Options::dropout`]?
    pub has_dropout: bool,
    build: fn(&mut Builder, &Settings) -> Result<()>,
}

/// What can be chosen about a network.
///
/// | name | default | purpose | range |
/// | --- | --- | --- | --- |
/// | `classes` | 10 | number of logits | `1..=1_000_000` |
/// | `input` | as published | channels, height, width | `1..=65_536` each |
/// | `width` | 1 | multiplies the channels of every layer but the last | `(0, 16]` |
/// | `hidden` | 800 | units of each hidden layer of a multi-layer perceptron | `1..=65_536` |
/// | `dropout` | 0, for none | share that Dropout nodes zero during training | `[0, 1)` |
/// | `seed` | 0 | of the initial weights | any |
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Number of logits.
    pub classes: usize,
    /// Channels, height and width; `None` for those it was published for.
    pub input: Option<[usize; 3]>,
    /// Multiplies the channels of every layer but the last.
    pub width: f64,
    /// Units of each hidden layer of a multi-layer perceptron.
    pub hidden: Option<usize>,
    /// Share that Dropout nodes zero during training; 0 for no such nodes.
    pub dropout: f64,
    /// Seed of the initial weights.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { classes: 10, input: None, width: 1.0, hidden: None, dropout: 0.0, seed: 0 }
    }
}

/// Checked options, as families read them.
#[derive(Debug)]
struct Settings {
    classes: usize,
    width: f64,
    hidden: usize,
    dropout: f64,
}

impl Settings {
    /// `channels` times the width, at least 1.
    fn scaled(&self, channels: usize) -> usize {
        ((channels as f64 * self.width).round() as usize).max(1)
    }

    /// `channels` times the width as the MobileNets round it: to a multiple of 8, at least 8, and not
    /// below nine tenths.
    fn scaled_by_eights(&self, channels: usize) -> usize {
        let exact = channels as f64 * self.width;
        let rounded = ((exact + 4.0) as usize / 8 * 8).max(8);
        if (rounded as f64) < 0.9 * exact { rounded + 8 } else { rounded }
    }
}

impl Architecture {
    /// Builds the graph with initial weights: uniform with He's variance `2 / fan-in` before a
    /// rectifier, Xavier's before the logits, identity BatchNormalization, biases 0. Each weight
    /// draws from a stream of its own name, so one seed gives the same layers wherever they are.
    ///
    /// # Errors
    /// `E0161` when an option is outside its range, the architecture does not take it, or the input
    /// is too small for the strides.
    pub fn build(&self, options: &Options) -> Result<Graph> {
        let settings = self.check(options)?;
        let mut builder = Builder::new(options.input.unwrap_or(self.input), options.seed)?;
        (self.build)(&mut builder, &settings)?;
        let graph = builder.finish()?;
        graph.validate()?;
        Ok(graph)
    }

    fn check(&self, options: &Options) -> Result<Settings> {
        let refused = |message: String| Error::invalid(message).code_is("E0161");
        let not_taken = |option: &str| {
            Err(refused(format!("{} takes no {option}", self.name))
                .hint("`kerf new --list` shows which options each architecture takes"))
        };
        if !(1..=1_000_000).contains(&options.classes) {
            return Err(refused(format!("{} classes, not 1 to 1,000,000", options.classes)));
        }
        if !(options.width > 0.0 && options.width <= 16.0) {
            return Err(refused(format!("width {}, not above 0 and up to 16", options.width)));
        }
        if !(0.0..1.0).contains(&options.dropout) {
            return Err(refused(format!("dropout {}, not from 0 to below 1", options.dropout)));
        }
        if options.width != 1.0 && !self.has_width {
            return not_taken("width");
        }
        if options.dropout != 0.0 && !self.has_dropout {
            return not_taken("dropout");
        }
        match options.hidden {
            Some(_) if !self.has_hidden => return not_taken("number of hidden units"),
            Some(hidden) if !(1..=65_536).contains(&hidden) => {
                return Err(refused(format!("{hidden} hidden units, not 1 to 65,536")));
            }
            _ => {}
        }
        Ok(Settings {
            classes: options.classes,
            width: options.width,
            hidden: options.hidden.unwrap_or(800),
            dropout: options.dropout,
        })
    }
}
