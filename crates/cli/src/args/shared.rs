//! Flags that every command has.

use super::shape;
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// When to colour messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What to do about operators that cannot be handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnUnsupported {
    /// Stop, naming them all
    Error,
    /// Leave them and what depends on them alone, and list them
    Skip,
}

/// Flags that every command has.
#[derive(Debug, Clone, Args, Serialize)]
#[command(next_help_heading = "Shared options")]
pub(crate) struct Shared {
    /// Print one JSON document on stdout instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Say more (one plain line per finished item)
    #[arg(short, long, action = clap::ArgAction::Count)]
    #[serde(skip)]
    pub(crate) verbose: u8,
    /// Say less: errors only
    #[arg(short, long, action = clap::ArgAction::Count)]
    #[serde(skip)]
    pub(crate) quiet: u8,
    /// When to colour messages
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    #[serde(skip)]
    pub(crate) color: ColorChoice,
    /// No progress bars
    #[arg(long)]
    #[serde(skip)]
    pub(crate) no_progress: bool,
    /// Seed of everything that is drawn at random
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Threads; results do not depend on it [default: all cores; bench: 1]
    #[arg(long, value_name = "N", env = "KERF_THREADS", hide_env_values = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Shape of an input with open dimensions, such as `images=1x3x224x224` (repeatable)
    #[arg(id = "shapes", long = "shape", value_name = "NAME=DIMS", value_parser = shape::parse)]
    #[serde(serialize_with = "shape::serialize")]
    pub(crate) shapes: Vec<shape::NamedShape>,
    /// Check the inputs and show what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Unknown operators: stop, or leave them alone [default: skip to inspect, error otherwise]
    #[arg(long, value_enum, value_name = "POLICY")]
    pub(crate) on_unsupported: Option<OnUnsupported>,
    /// Also write the JSON document to DIR/report.json
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
}

impl Shared {
    /// The given input shapes by name; a later one replaces an earlier one.
    pub(crate) fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.shapes.iter().map(|shape| (shape.name.clone(), shape.dims.clone())).collect()
    }
}
