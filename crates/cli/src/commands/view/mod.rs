//! `kerf view`: the graph with channels, bits and groups, as wide as the terminal.

mod drawing;

use super::model::{Model, file_name};
use super::network::{Network, Shown, rows};
use super::{Context, Outcome, Task};
use crate::args::{ColorChoice, OnUnsupported, Shared};
use crate::console::printable;
use clap::Args;
use drawing::Drawing;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use tensor_core::Result;

/// Columns where there is no terminal to ask.
const WIDTH: usize = 100;

/// Arguments of `kerf view`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct ViewArgs {
    /// The model
    model: PathBuf,
    /// A model that was made from it: its channels and bits stand behind an arrow
    #[arg(long, value_name = "MODEL")]
    against: Option<PathBuf>,
    /// Columns of the drawing [default: those of the terminal]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(40..=500))]
    #[serde(skip)]
    width: Option<u16>,
    #[command(flatten)]
    #[serde(flatten)]
    shared: Shared,
}

impl Task for ViewArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn model(&self) -> Option<&Path> {
        Some(&self.model)
    }

    fn other_model(&self) -> Option<&Path> {
        self.against.as_deref()
    }

    fn run(&self, cx: &Context) -> Result<Outcome> {
        let shapes = self.shared.shapes();
        let load = |path: &Path| -> Result<Network> {
            let model = Model::load(path, &self.shared)?;
            model.apply_policy(&self.shared, OnUnsupported::Skip, cx.console)?;
            Network::of(&model, &shapes)
        };
        let network = load(&self.model)?;
        let other = self.against.as_deref().map(load).transpose()?;
        let drawing = Drawing { other: other.as_ref(), width: self.width(), color: self.color() };
        let mut text = printable(&file_name(&self.model));
        if let Some(against) = &self.against {
            text.push_str(&format!(" -> {}", printable(&file_name(against))));
        }
        text.push('\n');
        text.push_str(&drawing.text(&network));
        let result = document(&network, other.as_ref());
        Ok(Outcome { is_painted: true, ..Outcome::answer(text, result) })
    }
}

impl ViewArgs {
    fn width(&self) -> usize {
        let of_terminal = || terminal_size::terminal_size().map(|(width, _)| width.0);
        let width = self.width.or_else(of_terminal);
        width.map_or(WIDTH, |width| usize::from(width).max(40))
    }

    /// Colours repeat what the words say.
    fn color(&self) -> bool {
        match self.shared.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                std::io::stdout().is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                    && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        }
    }
}

fn document(network: &Network, other: Option<&Network>) -> Value {
    let (rows, _) = rows(network);
    let blocks: BTreeMap<usize, (usize, usize)> =
        rows.iter().filter_map(|row| Some((row.node, row.block?))).collect();
    let node = |(at, node): (usize, &Shown)| {
        let mut value = json!({
            "key": node.key,
            "op": node.op,
            "family": node.family,
            "output": node.output,
            "dims": node.dims,
            "reads": node.reads.iter().map(|&at| &network.nodes[at].key).collect::<Vec<_>>(),
            "channels": node.channels,
            "group": node.group.as_ref().map(|group| &group.id),
            "frozen": node.group.as_ref().and_then(|group| group.frozen.as_ref()),
            "bits": node.bits,
            "macs": node.macs,
            "parameters": node.parameters,
        });
        if let Some((length, times)) = blocks.get(&at) {
            value["repeats"] = json!({ "nodes": length, "times": times });
        }
        if let Some(other) = other {
            value["after"] = other.find(&node.key).map_or(Value::Null, |after| {
                json!({ "channels": after.channels, "bits": after.bits, "macs": after.macs })
            });
        }
        value
    };
    let nodes: Vec<Value> = network.nodes.iter().enumerate().map(node).collect();
    json!({ "macs": network.cost.macs, "parameters": network.cost.parameters, "nodes": nodes })
}
