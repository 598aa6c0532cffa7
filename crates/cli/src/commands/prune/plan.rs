//! The plan that `--dry-run` shows: what could be cut, before any work.

use super::super::Outcome;
use super::super::model::{Model, file_name, group_id};
use crate::table::Table;
use crate::units;
use serde_json::json;
use std::path::Path;
use tensor_core::{Result, cost};

/// Shows costs and groups; widths need the data, so they are not part of it.
pub(super) fn plan(path: &Path, model: &Model, heading: &str) -> Result<Outcome> {
    let cost = cost::cost(&model.graph, &model.facts)?;
    let mut text = format!(
        "{}  opset {}  {} params  {} MACs\n{heading}\n",
        file_name(path),
        model.graph.opset(),
        units::si(cost.parameters),
        units::si(cost.macs),
    );
    let mut table = Table::new(&["group", "root", ">channels", ">members", "kept because"]);
    let mut groups = Vec::new();
    for (index, group) in model.channels.groups.iter().enumerate() {
        let removable = model.channels.removable(group).len();
        table.row([
            group_id(index),
            group.root.clone(),
            group.classes.len().to_string(),
            group.parameters.len().to_string(),
            group.frozen.clone().unwrap_or_default(),
        ]);
        groups.push(json!({
            "id": group_id(index),
            "root": group.root,
            "channels": group.classes.len(),
            "removable": removable,
            "frozen": group.frozen,
        }));
    }
    text.push_str(&table.render());
    let frozen = model.channels.groups.iter().filter(|group| group.frozen.is_some()).count();
    text.push_str(&format!(
        "\nPlan  choose widths for {} groups, leave {frozen} alone; nothing was written\n",
        groups.len() - frozen
    ));
    let result = json!({
        "dry_run": true,
        "macs": cost.macs,
        "parameters": cost.parameters,
        "groups": groups,
    });
    Ok(Outcome::answer(text, result))
}
