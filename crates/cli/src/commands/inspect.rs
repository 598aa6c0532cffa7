//! `kerf inspect`: what is in the model, node by node, and what it costs.

use super::model::{Model, file_name, unknown};
use super::{Context, Outcome, Task};
use crate::args::{OnUnsupported, Shared};
use crate::table::Table;
use crate::units;
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tensor_core::channels::group_id;
use tensor_core::cost::{self, Cost};
use tensor_core::{Error, NodeId, Result, run};

/// Arguments of `kerf inspect`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct InspectArgs {
    /// The model
    model: PathBuf,
    #[command(flatten)]
    #[serde(flatten)]
    shared: Shared,
}

impl Task for InspectArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn model(&self) -> Option<&Path> {
        Some(&self.model)
    }

    fn run(&self, cx: &Context) -> Result<Outcome> {
        let file_bytes =
            fs::metadata(&self.model).map_err(|error| Error::io(&self.model, &error))?.len();
        let model = Model::load(&self.model, &self.shared)?;
        model.apply_policy(&self.shared, OnUnsupported::Skip, cx.console)?;
        let counted = run::infer_declared(&model.graph, &self.shared.shapes())?;
        let cost = cost::cost(&model.graph, &counted)?;
        let roles = roles(&model);
        let text = text(&self.model, &model, &cost, &roles, file_bytes);
        let result = result(&model, &cost, &roles, file_bytes);
        Ok(Outcome::answer(text, result))
    }
}

/// What pruning can do about a node.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "role", rename_all = "snake_case")]
enum Role {
    /// Makes channels that can be removed.
    Prunable { group: String, removable: usize, channels: usize },
    /// Makes channels that must all stay.
    Frozen { group: String, reason: String },
    /// An operator that is not understood; channels end here.
    Barrier,
    /// Passes channels on, or has none.
    Passive,
}

impl Role {
    fn text(&self) -> String {
        match self {
            Self::Prunable { group, removable, channels } if removable == channels => {
                format!("{group} {channels}")
            }
            Self::Prunable { group, removable, channels } => {
                format!("{group} {removable} of {channels}")
            }
            Self::Frozen { group, .. } => format!("{group} frozen"),
            Self::Barrier => "barrier".to_owned(),
            Self::Passive => String::new(),
        }
    }
}

fn roles(model: &Model) -> Vec<Role> {
    let unknown = unknown(&model.graph);
    let role = |id: NodeId| {
        if unknown.contains(&id) {
            return Role::Barrier;
        }
        let makes = model.channels.contractions.iter().any(|c| c.node == id && c.weight.is_some());
        if makes { maker(model, id) } else { Role::Passive }
    };
    model.graph.node_ids().map(role).collect()
}

/// The role of a node that makes new channels.
fn maker(model: &Model, id: NodeId) -> Role {
    let Some(output) = model.graph.node(id).output(0) else { return Role::Passive };
    let rank = model.facts.dims(output).map_or(0, <[usize]>::len);
    let group = (0..rank)
        .filter_map(|axis| model.channels.positions(output, axis))
        .find_map(|classes| classes.iter().find_map(|&class| model.group_of(class)));
    let Some(index) = group else { return Role::Passive };
    let group = &model.channels.groups[index];
    match &group.frozen {
        Some(reason) => Role::Frozen { group: group_id(index), reason: reason.clone() },
        None => Role::Prunable {
            group: group_id(index),
            removable: model.channels.removable(group).len(),
            channels: group.classes.len(),
        },
    }
}

fn text(path: &Path, model: &Model, cost: &Cost, roles: &[Role], file_bytes: u64) -> String {
    let graph = &model.graph;
    let mut text = format!(
        "{}  IR {}  opset {}  {} params  {} MACs  {}\n",
        file_name(path),
        graph.ir_version,
        graph.opset(),
        units::si(cost.parameters),
        units::si(cost.macs),
        units::bytes(file_bytes),
    );
    for &input in &graph.inputs {
        text.push_str(&format!("input   {}\n", model.signature(input)));
    }
    for &output in &graph.outputs {
        text.push_str(&format!("output  {}\n", model.signature(output)));
    }
    text.push('\n');
    let mut table =
        Table::new(&[">#", "node", "op", "output", ">MACs", ">params", ">activations", "channels"]);
    for (row, role) in cost.nodes.iter().zip(roles) {
        let known = graph.node(NodeId::from_index(row.index)).output(0);
        let known = known.is_some_and(|value| model.facts.get(value).is_some());
        table.row([
            row.index.to_string(),
            row.key.clone(),
            row.op.clone(),
            if known { units::dims(&row.output) } else { "?".to_owned() },
            blank_zero(row.macs, units::si),
            blank_zero(row.parameters, units::si),
            blank_zero(row.activation_bytes, units::bytes),
            role.text(),
        ]);
    }
    table.row([
        String::new(),
        "total".to_owned(),
        String::new(),
        String::new(),
        units::si(cost.macs),
        units::si(cost.parameters),
        format!("peak {}", units::bytes(cost.peak_activation_bytes)),
    ]);
    text.push_str(&table.render());
    text
}

/// A zero is left out, so that the eye finds what costs something.
fn blank_zero(value: u64, show: impl Fn(u64) -> String) -> String {
    if value == 0 { String::new() } else { show(value) }
}

fn result(model: &Model, cost: &Cost, roles: &[Role], file_bytes: u64) -> Value {
    let graph = &model.graph;
    let values = |ids: &[tensor_core::ValueId]| -> Vec<Value> {
        let value = |&id: &tensor_core::ValueId| json!({ "name": graph.name(id), "dims": model.facts.dims(id) });
        ids.iter().map(value).collect()
    };
    let node = |(row, role): (&cost::NodeRow, &Role)| {
        let output = graph.node(NodeId::from_index(row.index)).output(0);
        json!({
            "index": row.index,
            "key": row.key,
            "op": row.op,
            "output_name": output.map(|value| graph.name(value)),
            "output_dims": output.and_then(|value| model.facts.dims(value)),
            "macs": row.macs,
            "parameters": row.parameters,
            "parameter_bytes": row.parameter_bytes,
            "activation_bytes": row.activation_bytes,
            "channels": role,
        })
    };
    json!({
        "ir_version": graph.ir_version,
        "opsets": graph.opsets,
        "producer": { "name": graph.producer.0, "version": graph.producer.1 },
        "inputs": values(&graph.inputs),
        "outputs": values(&graph.outputs),
        "macs": cost.macs,
        "uncounted": cost.uncounted,
        "parameters": cost.parameters,
        "parameter_bytes": cost.parameter_bytes,
        "peak_activation_bytes": cost.peak_activation_bytes,
        "file_bytes": file_bytes,
        "nodes": cost.nodes.iter().zip(roles).map(node).collect::<Vec<_>>(),
    })
}
