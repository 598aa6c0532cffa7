//! `kerf groups`: which channels are tied together, and why some must stay.

use super::model::Model;
use super::{Context, Outcome, Task};
use crate::args::{OnUnsupported, Shared};
use crate::table::Table;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tensor_core::channels::{Group, group_id};
use tensor_core::text::{counted, near};
use tensor_core::{Error, ErrorKind, Result};

/// Arguments of `kerf groups`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct GroupsArgs {
    /// The model
    model: PathBuf,
    /// Only groups with channels that cannot be removed
    #[arg(long)]
    frozen: bool,
    /// Details of one group: its id, its root, or a layer or parameter in it
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    shared: Shared,
}

impl Task for GroupsArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn model(&self) -> Option<&Path> {
        Some(&self.model)
    }

    fn run(&self, cx: &Context) -> Result<Outcome> {
        let model = Model::load(&self.model, &self.shared)?;
        model.apply_policy(&self.shared, OnUnsupported::Skip, cx.console)?;
        let mut rows = rows(&model);
        if let Some(name) = &self.group {
            rows.retain(|row| row.names.contains(name));
            if rows.is_empty() {
                return Err(unknown(&model, name));
            }
        }
        let total = rows.len();
        let with_frozen = rows.iter().filter(|row| row.removable < row.channels).count();
        if self.frozen {
            rows.retain(|row| row.removable < row.channels);
        }
        let text = if self.group.is_some() {
            rows.iter().map(Row::details).collect()
        } else {
            let mut text = overview(&rows);
            text.push_str(&format!(
                "{}, {} prunable, {with_frozen} with frozen channels\n",
                counted(total, "group"),
                total - rows_frozen(&model)
            ));
            text
        };
        Ok(Outcome::answer(text, json!({ "groups": rows })))
    }
}

fn unknown(model: &Model, name: &str) -> Error {
    let known = rows(model).into_iter().flat_map(|row| row.names).collect::<BTreeSet<_>>();
    let near = near(name, known.iter().map(String::as_str));
    let message = format!("no group has the id, root, layer or parameter `{name}`");
    Error::new(ErrorKind::Invalid, "E0122", message)
        .hint(format!("the nearest names are {near}; `kerf groups MODEL` lists the groups"))
}

fn rows_frozen(model: &Model) -> usize {
    model.channels.groups.iter().filter(|group| group.frozen.is_some()).count()
}

/// One group as shown.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    root: String,
    channels: usize,
    removable: usize,
    /// Parameters that are cut together.
    members: Vec<Member>,
    /// Nodes that sum over the channels.
    readers: Vec<String>,
    /// Reasons of frozen channels, with their number.
    frozen: Vec<Frozen>,
    /// Everything that the group may be called.
    #[serde(skip)]
    names: BTreeSet<String>,
}

#[derive(Debug, Serialize)]
struct Member {
    parameter: String,
    axis: usize,
    positions: usize,
}

#[derive(Debug, Serialize)]
struct Frozen {
    reason: String,
    channels: usize,
}

fn rows(model: &Model) -> Vec<Row> {
    model.channels.groups.iter().enumerate().map(|(i, group)| row(model, i, group)).collect()
}

fn row(model: &Model, index: usize, group: &Group) -> Row {
    let (graph, channels) = (&model.graph, &model.channels);
    let members = group.parameters.iter().map(|member| Member {
        parameter: graph.name(member.value).to_owned(),
        axis: member.axis,
        positions: member.count,
    });
    let mut readers: Vec<_> =
        group.readers.iter().map(|&i| channels.contractions[i].node).collect();
    readers.dedup();
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for &class in &group.classes {
        if let Some(reason) = &channels.classes[class as usize].frozen {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    let frozen = reasons
        .into_iter()
        .map(|(reason, channels)| Frozen { reason: reason.to_owned(), channels });
    let mut names = channels.names(graph, group).all;
    names.insert(group_id(index));
    Row {
        names,
        id: group_id(index),
        root: group.root.clone(),
        channels: group.classes.len(),
        removable: channels.removable(group).len(),
        members: members.collect(),
        readers: readers.into_iter().map(|node| graph.key(node).to_owned()).collect(),
        frozen: frozen.collect(),
    }
}

impl Row {
    fn reasons(&self) -> String {
        let reasons: Vec<_> = self.frozen.iter().map(|frozen| frozen.reason.as_str()).collect();
        reasons.join("; ")
    }

    fn details(&self) -> String {
        let mut text = format!(
            "{}  {}\n  {}, {} removable\n",
            self.id,
            self.root,
            counted(self.channels, "channel"),
            self.removable
        );
        for member in &self.members {
            text.push_str(&format!(
                "  cut     axis {} of `{}`, {}\n",
                member.axis,
                member.parameter,
                counted(member.positions, "position")
            ));
        }
        for reader in &self.readers {
            text.push_str(&format!("  read    by {reader}\n"));
        }
        for frozen in &self.frozen {
            let channels = counted(frozen.channels, "channel");
            text.push_str(&format!("  frozen  {channels}: {}\n", frozen.reason));
        }
        text
    }
}

fn overview(rows: &[Row]) -> String {
    let headings =
        ["group", "root", ">channels", ">removable", ">members", ">readers", "frozen because"];
    let mut table = Table::new(&headings);
    for row in rows {
        table.row([
            row.id.clone(),
            row.root.clone(),
            row.channels.to_string(),
            row.removable.to_string(),
            row.members.len().to_string(),
            row.readers.len().to_string(),
            row.reasons(),
        ]);
    }
    table.render()
}
