//! `kerf gate`: gates that training polarizes, then a cut that changes nothing.

mod args;
mod plot;
mod result;
mod text;

pub(crate) use args::GatesArgs;
pub(super) use result::{Gated, plan};

use super::train::TrainArgs;
use super::{Context, Outcome, Settings, Task};
use crate::args::Shared;
use crate::output::Target;
use clap::Args;
use serde::Serialize;
use std::path::Path;
use tensor_core::Result;

/// Arguments of `kerf gate`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct GateArgs {
    #[command(flatten)]
    #[serde(flatten)]
    gates: GatesArgs,
    #[command(flatten)]
    #[serde(flatten)]
    train: TrainArgs,
}

impl Task for GateArgs {
    fn shared(&self) -> &Shared {
        self.train.shared()
    }

    fn model(&self) -> Option<&Path> {
        self.train.model()
    }

    fn outputs(&self) -> Vec<Target<'_>> {
        self.train.outputs()
    }

    fn plans(&self) -> bool {
        true
    }

    fn run_folder(&self) -> Option<&Path> {
        self.train.run_folder()
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn check(&self) -> Result<()> {
        self.gates.gate_goal().map(|_| ())
    }

    fn run(&self, cx: &Context) -> Result<Outcome> {
        self.train.perform(Some(&self.gates), &self.settings(), cx)
    }
}
