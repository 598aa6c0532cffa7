//! Parameters of pruning a whole model.

use super::names::unknown_name;
use crate::params::{SelectionParams, ValidSelection};
use std::collections::{BTreeMap, BTreeSet};
use tensor_core::channels::SplitAxis;
use tensor_core::cost::{Price, Resource};
use tensor_core::text::matches;
use tensor_core::{Error, Result};

/// A limit on what the pruned model costs.
#[derive(Debug, Clone)]
pub struct Budget {
    /// What is limited: something that is counted, or the time of a device.
    pub price: Price,
    /// How much may stay.
    pub limit: Limit,
}

impl Budget {
    /// # Errors
    /// `E0141` when the limit is out of range.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::invalid(what).code_is("E0141"));
        match self.limit {
            Limit::Keep(share) if !(share > 0.0 && share <= 1.0) => {
                wrong(format!("the share to keep should be in (0, 1], but is {share}"))
            }
            Limit::AtMost(limit) if !(limit > 0.0 && limit.is_finite()) => {
                wrong(format!("the budget should be positive, but is {limit}"))
            }
            _ => Ok(()),
        }
    }
}

/// How much of it may stay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// A share of the original model's, in (0, 1].
    Keep(f64),
    /// An absolute number; microseconds for a time.
    AtMost(f64),
}

/// How widths are chosen.
#[derive(Debug, Clone, PartialEq)]
pub enum Widths {
    /// From the error curves of all layers, each weighed by what its errors do to the outputs, under the
    /// budget.
    Auto,
    /// From the error curves alone: what [`Self::Auto`] is measured against.
    Layerwise,
    /// The same share of channels everywhere, as large as the budget allows.
    Uniform,
    /// Channels to keep by id, root, layer or parameter of a group; groups that are not named stay
    /// whole. No budget applies.
    Given(BTreeMap<String, usize>),
}

impl Widths {
    /// Do they come from error curves?
    pub(crate) fn need_curves(&self) -> bool {
        matches!(self, Self::Auto | Self::Layerwise)
    }
}

/// What happens to streams that several layers write (residual networks).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// They keep all channels, unless the budget cannot be met that way.
    Auto,
    /// They keep all channels.
    Keep,
    /// They keep all channels, and each reader samples its input with a Gather.
    Sample,
    /// They are pruned as a whole.
    Prune,
}

/// What attention can lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Attention {
    /// Dimensions of the values, the same ones of every head.
    #[default]
    Dimensions,
    /// Whole heads.
    Heads,
}

impl Attention {
    pub(crate) fn split(self) -> SplitAxis {
        match self {
            Self::Dimensions => SplitAxis::Finest,
            Self::Heads => SplitAxis::Heads,
        }
    }
}

/// What layers are refitted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inputs {
    /// Their inputs in the network as it is by then, so that they make up for what the layers before
    /// lost (He et al. 2017, section 3.2). Takes a pass over the samples for every budget.
    Current,
    /// Their inputs in the original network: statistics that do not depend on the budget. Layers that
    /// lose no channels stay as they are.
    Original,
}

/// How a model is pruned, not yet checked.
///
/// | name | default | purpose | range |
/// | --- | --- | --- | --- |
/// | `selection` | `obs` | how channels are chosen and refitted | see [`SelectionParams`] |
/// | `budget` | keep 50 % of MACs | what the pruned model may cost | share in (0, 1], or > 0 |
/// | `widths` | `Auto` | how the budget is split over layers | |
/// | `round_to` | 1 | channel counts become multiples of this: the runtime's block of channels | 1 to 256 |
/// | `may_round_less` | no | halve `round_to` where the budget cannot be met otherwise, or where that lowers the predicted error by more than it raises the operations on whole blocks | |
/// | `streams` | `Auto` | what happens to residual streams | |
/// | `attention` | `Dimensions` | what attention can lose | |
/// | `inputs` | `Current` | what layers are refitted on | |
/// | `positions` | `None` | sampled output positions per image and layer; `None` takes 20 to 80, or more where few images meet wide layers | >= 1 |
/// | `exclude` | none | ids, roots, parameters or layers of groups to leave alone | `*` matches any text |
/// | `seed` | 0 | drives the sampling | |
/// | `memory` | 384 MiB | bytes of activations held between layers, in both networks | >= 1 MiB |
#[derive(Debug, Clone)]
pub struct PruneParams {
    /// How channels are chosen and refitted.
    pub selection: SelectionParams,
    /// What the pruned model may cost.
    pub budget: Budget,
    /// How the budget is split.
    pub widths: Widths,
    /// Channel counts become multiples of this.
    pub round_to: usize,
    /// Halve `round_to` where the budget cannot be met otherwise, or where the predicted error falls
    /// by a larger factor than the operations on whole blocks of `round_to` channels rise.
    pub may_round_less: bool,
    /// What happens to residual streams.
    pub streams: Streams,
    /// What attention can lose.
    pub attention: Attention,
    /// What layers are refitted on.
    pub inputs: Inputs,
    /// Sampled output positions per image and layer; `None` takes 20 (wide layers) to 80, or as many as give 16 rows
    /// per input column.
    pub positions: Option<usize>,
    /// Names to leave alone; `*` matches any text.
    pub exclude: Vec<String>,
    /// Drives the sampling.
    pub seed: u64,
    /// Bytes of activations held between layers, in the original and the current network together.
    pub memory: usize,
}

/// Parameters within their ranges.
#[derive(Debug, Clone)]
pub struct ValidPruneParams {
    pub(crate) selection: ValidSelection,
    pub(crate) params: PruneParams,
}

impl Default for PruneParams {
    fn default() -> Self {
        Self {
            selection: SelectionParams::default(),
            budget: Budget { price: Resource::Macs.into(), limit: Limit::Keep(0.5) },
            widths: Widths::Auto,
            round_to: 1,
            may_round_less: false,
            streams: Streams::Auto,
            attention: Attention::Dimensions,
            inputs: Inputs::Current,
            positions: None,
            exclude: Vec::new(),
            seed: 0,
            memory: 384 << 20,
        }
    }
}

impl PruneParams {
    /// Checks every parameter.
    ///
    /// # Errors
    /// `E0141` names the parameter and its range.
    pub fn check(self) -> Result<ValidPruneParams> {
        let wrong = |what: String| Err(Error::invalid(what).code_is("E0141"));
        self.budget.check()?;
        if !(1..=256).contains(&self.round_to) {
            return wrong(format!("channels should round to 1 to 256, but to {}", self.round_to));
        }
        if self.positions == Some(0) {
            return wrong("at least one position per image has to be sampled".to_owned());
        }
        if self.memory < 1 << 20 {
            return wrong(format!("memory should be at least 1 MiB, but is {} bytes", self.memory));
        }
        Ok(ValidPruneParams { selection: self.selection.clone().check()?, params: self })
    }
}

impl ValidPruneParams {
    /// Checks that each excluded pattern matches a name.
    pub(crate) fn check_excluded(&self, names: &BTreeSet<&str>) -> Result<()> {
        let unmatched = |pattern: &&String| !names.iter().any(|name| matches(pattern, name));
        match self.params.exclude.iter().find(unmatched) {
            Some(pattern) => {
                Err(Error::invalid(format!("no group, layer or parameter matches `{pattern}`"))
                    .code_is("E0142")
                    .hint(unknown_name(pattern, names.iter().copied())))
            }
            None => Ok(()),
        }
    }

    /// Does a name match one of the excluded patterns?
    pub(crate) fn is_excluded(&self, name: &str) -> bool {
        self.params.exclude.iter().any(|pattern| matches(pattern, name))
    }
}
