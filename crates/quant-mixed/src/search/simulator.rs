//! Runs a model as it would be with given bits.

use super::Bits;
use crate::bits::{Assignment, LayerBits};
use crate::model::Prepared;
use crate::plan::MAX_BITS;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tensor_core::data::Dataset;
use tensor_core::measure::Named;
use tensor_core::run::{Array, Session};
use tensor_core::train::loss::log_softmax;
use tensor_core::{Error, Graph, Result, ValueId};

/// Right answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// Samples whose class has the highest score.
    pub right: u64,
    /// Samples.
    pub of: u64,
}

impl Score {
    /// Share of right answers.
    pub fn share(&self) -> f64 {
        self.right as f64 / self.of.max(1) as f64
    }
}
