//! Zeros in training: `--sparsity` and `--keep-zeros`.

use crate::args::RiseArgs;
use crate::console::Console;
use crate::{flags, units};
use clap::Args;
use magnitude_schedule::train::{
    LayerZeros, SparseParams, Sparsifier, lost_zeros, trained_weights, zeros_of,
};
use magnitude_schedule::{Distribution, Pattern};
use serde::Serialize;
use std::any::Any;
use tensor_core::text::counted;
use tensor_core::train::{Planned, Plugin};
use tensor_core::{Error, ErrorKind, Graph, Result};

/// Flags of gradual pruning.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Sparsity")]
pub(super) struct SparseArgs {
    /// Prune while training until this share of the weights is zero, such as `80%`; with `finetune`
    /// a rate of 0.05 suits it
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_sparsity)]
    sparsity: Option<f64>,
    /// Which weights are zero together: unstructured, N:M such as 2:4 (N of M inputs stay),
    /// block:HxW (outputs x inputs) or rows
    #[arg(long, value_name = "PATTERN", default_value = "unstructured", value_parser = flags::read::<Pattern>)]
    pattern: Pattern,
    #[command(flatten)]
    #[serde(flatten)]
    rise: RiseArgs,
    /// How zeros are spread over the layers: uniform, global (smallest magnitudes), layerwise (one
    /// layer after the other) or erk (narrow layers stay denser, which costs less accuracy and
    /// leaves more operations)
    #[arg(long, value_name = "NAME", default_value = "uniform", value_parser = flags::read::<Distribution>)]
    distribution: Distribution,
    /// Layers or weights that stay dense; `*` matches any text (repeatable)
    #[arg(long, value_name = "PATTERN")]
    dense: Vec<String>,
    /// Prune what stays dense otherwise too: the first convolution, depthwise ones, and with
    /// `--pattern rows` what makes the outputs
    #[arg(long)]
    all_layers: bool,
    /// Let each update also move this share of the weights to where the gradient is largest, such as
    /// 0.3; the share falls to 0 until pruning ends
    #[arg(long, value_name = "SHARE")]
    regrow: Option<f64>,
    /// Keep every zero that the weights of the model have, also those that are not pruned
    #[arg(long)]
    keep_zeros: bool,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(super) struct SparsityReport {
    /// How it was done.
    settings: SparseParams,
    /// Weights of the pruned layers.
    weights: usize,
    /// Zeros among them.
    zeros: usize,
    /// `zeros / weights`.
    sparsity: f64,
    /// Every layer.
    layers: Vec<LayerZeros>,
    /// Steps, and the share of zeros that the schedule wants there.
    curve: Vec<(u64, f64)>,
}

impl SparseArgs {
    /// Is anything asked for?
    pub(super) fn is_used(&self) -> bool {
        self.sparsity().is_some() || self.keep_zeros
    }

    /// The sparsity that was asked for, or that of the pattern.
    fn sparsity(&self) -> Option<f64> {
        self.sparsity.or(self.pattern.own_sparsity())
    }

    fn params(&self) -> SparseParams {
        SparseParams {
            sparsity: self.sparsity(),
            pattern: self.pattern,
            distribution: self.distribution,
            dense: self.dense.clone(),
            all: self.all_layers,
            regrow: self.regrow,
            keep_zeros: self.keep_zeros,
            ..self.rise.params()
        }
    }

    /// The plug-in, where zeros are asked for; says so where a sparse model would become dense.
    pub(super) fn plugin(
        &self,
        graph: &Graph,
        keeps_best: bool,
        console: &Console,
    ) -> Result<Option<Box<dyn Plugin>>> {
        if !self.is_used() {
            if self.params() != SparseParams::default() {
                let message = "how to prune is given, but not how much";
                return Err(Error::new(ErrorKind::Invalid, "E0010", message)
                    .hint("say how many weights become zero, such as `--sparsity 80%`"));
            }
            warn_of_zeros(graph, console)?;
            return Ok(None);
        }
        if let Some(own) = self.pattern.own_sparsity() {
            self.pattern.check_sparsity(self.sparsity.unwrap_or(own))?;
            if self.sparsity.is_some_and(|given| (given - own).abs() > 1e-9) {
                let message =
                    format!("`{}` has a sparsity of {}", self.pattern, units::percent(own));
                return Err(Error::new(ErrorKind::Invalid, "E0431", message)
                    .hint("leave `--sparsity` out, or choose another pattern"));
            }
        }
        if keeps_best && self.sparsity().is_some() {
            let message = "the most accurate weights may be those before pruning ended";
            return Err(Error::new(ErrorKind::Invalid, "E0010", message)
                .hint("leave out `--keep best`: the last weights are the sparse ones"));
        }
        Ok(Some(Box::new(Sparsifier::new(self.params())?)))
    }

    /// The zeros of the result, and what was not reached.
    pub(super) fn report(
        &self,
        (original, trained): (&Graph, &Graph),
        (planned, plugins): (&Planned, &[Box<dyn Plugin>]),
        failures: &mut Vec<String>,
        console: &Console,
    ) -> Result<Option<SparsityReport>> {
        if !self.is_used() {
            return Ok(None);
        }
        let params = self.params();
        let mut layers = zeros_of(trained, &params)?;
        let frozen = &planned.frozen;
        for layer in layers.iter_mut().filter(|layer| frozen.contains(&layer.weight)) {
            layer.dense.get_or_insert_with(|| "frozen".to_owned());
        }
        if self.keep_zeros {
            for (weight, count) in lost_zeros(original, trained)? {
                let zeros = counted(count, "zero");
                failures.push(format!("`{weight}` lost {zeros} of the model in training"));
            }
            warn_of_more(&layers, &zeros_of(original, &params)?, self.sparsity(), console);
        }
        let pruned = layers.iter().filter(|layer| layer.dense.is_none());
        let (weights, zeros) =
            pruned.fold((0, 0), |(w, z), layer| (w + layer.weights, z + layer.zeros));
        let sparsity = zeros as f64 / weights.max(1) as f64;
        let sparsifier =
            plugins.iter().find_map(|plugin| (&**plugin as &dyn Any).downcast_ref::<Sparsifier>());
        let curve = sparsifier.map(|own| own.curve(planned.steps)).unwrap_or_default();
        let is_less = |wanted: &f64| match self.pattern {
            Pattern::Unstructured => zeros < (wanted * weights as f64).round() as usize,
            // Blocks and remainders of N:M groups come as near as they can.
            _ => sparsity < wanted - 5e-3,
        };
        if let Some(wanted) = self.sparsity().filter(is_less) {
            failures.push(format!(
                "sparsity is {}, not {}",
                units::percent_fine(sparsity),
                units::percent_fine(wanted)
            ));
        }
        Ok(Some(SparsityReport { settings: params, weights, zeros, sparsity, layers, curve }))
    }
}

/// Says which layers are sparser than asked, because the zeros of the model stay.
fn warn_of_more(
    layers: &[LayerZeros],
    before: &[LayerZeros],
    asked: Option<f64>,
    console: &Console,
) {
    /// Whole blocks come this near to what was asked.
    const NEAR: f64 = 5e-3;
    let Some(asked) = asked else { return };
    for (layer, before) in layers.iter().zip(before) {
        let share = |zeros: usize| zeros as f64 / layer.weights.max(1) as f64;
        if layer.dense.is_some() || before.zeros == 0 || share(layer.zeros) <= asked + NEAR {
            continue;
        }
        let why = match share(before.zeros) > asked {
            true => "the model already has more zeros there than asked",
            false => "zeros that the model has come on top of what the pattern takes",
        };
        console.warn(&format!(
            "{} of `{}` are zero, not {}: {why}",
            units::percent(share(layer.zeros)),
            layer.key,
            units::percent(asked)
        ));
    }
}

/// Says when a model has many zeros that training would fill.
fn warn_of_zeros(graph: &Graph, console: &Console) -> Result<()> {
    /// Fewer may be there by chance, such as dead channels.
    const MANY: f64 = 0.1;
    let all = trained_weights(graph)?;
    let weights: usize = all.iter().map(|weight| weight.nonzero.keep().len()).sum();
    let zeros: usize = all.iter().map(|weight| weight.nonzero.zeros()).sum();
    let share = zeros as f64 / weights.max(1) as f64;
    if share > MANY {
        console.warn(&format!(
            "{} of the weights are zero and will not stay so; `--keep-zeros` keeps them",
            units::percent(share)
        ));
    }
    Ok(())
}

impl SparsityReport {
    /// For people.
    pub(super) fn text(&self) -> String {
        let sparse = self.layers.iter().filter(|layer| layer.dense.is_none()).count();
        format!(
            "sparsity  {} of {} zero in {} ({}); dense runtimes are not faster\n",
            units::percent_fine(self.sparsity),
            counted(self.weights, "weight"),
            counted(sparse, "layer"),
            self.settings.pattern
        )
    }
}
