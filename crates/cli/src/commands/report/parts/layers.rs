//! The network, row by row: what became of each node.

use super::super::super::network::{Bits, Family, Lanes, Network, Row, Shown, lanes, rows};
use super::super::evidence::Evidence;
use super::super::html::{Anchors, anchor};
use super::super::part::{Block, Cell, Kind, Make, Part, Sheet};
use super::super::svg::escape;
use super::bits;
use crate::units;
use std::fmt::Write;
use tensor_core::Result;
use tensor_core::text::counted;

pub(super) const KIND: Kind = Kind {
    id: "layers",
    title: "Layers",
    make: Make::Alone(make),
    source: "needs the model files of the run, unchanged",
};

/// Pixels of a row; lanes meet from row to row.
const ROW: usize = 46;

/// Pixels between lanes.
const LANE: usize = 11;

/// A node before and after.
struct Pair<'a> {
    node: &'a Shown,
    after: Option<&'a Shown>,
    /// Is there a model to compare with?
    is_compared: bool,
    bits: Bits,
}

impl Pair<'_> {
    /// What became of it.
    fn state(&self) -> &'static str {
        let channels = |node: &Shown| node.channels;
        match (self.node.family, self.after) {
            (Family::Unknown, _) => "barrier",
            (Family::Normalization, None) if self.is_compared => "folded",
            (_, None) if self.is_compared => "gone",
            (_, Some(after)) if channels(after) < channels(self.node) => "narrowed",
            _ => match &self.node.group {
                Some(group) if group.frozen.is_some() => "frozen",
                _ => "kept",
            },
        }
    }

    /// Channels before and after.
    fn channels(&self) -> Option<(usize, usize)> {
        let before = self.node.channels?;
        let after = match self.is_compared {
            true => self.after.map_or(Some(0), |after| after.channels)?,
            false => before,
        };
        Some((before, after))
    }
}

/// The network that is drawn, and the one that it is compared with.
fn networks(evidence: &Evidence) -> Option<(&Network, Option<&Network>)> {
    let (before, after) = (evidence.before.found(), evidence.after.found());
    let base = before.or(after)?;
    Some((&base.network, after.filter(|_| before.is_some()).map(|found| &found.network)))
}

fn pair<'a>(node: &'a Shown, after: Option<&'a Network>, evidence: &Evidence) -> Pair<'a> {
    let found = after.and_then(|network| network.find(&node.key));
    let stored = found.map_or(node.bits, |after| after.bits);
    let bits = bits::of_layer(evidence, &node.key).unwrap_or(stored);
    Pair { node, after: found, is_compared: after.is_some(), bits }
}

/// Where the nodes are on the page.
pub(in super::super) fn anchors(evidence: &Evidence) -> Anchors {
    let Some((network, _)) = networks(evidence) else { return Anchors::new() };
    let (rows, place) = rows(network);
    let of = |(at, node): (usize, &Shown)| {
        let row = &network.nodes[rows[place[at]].node];
        (node.key.clone(), anchor(&row.output))
    };
    network.nodes.iter().enumerate().map(of).collect()
}

fn make(evidence: &Evidence) -> Result<Option<Part>> {
    let Some((network, after)) = networks(evidence) else { return Ok(None) };
    let (rows, place) = rows(network);
    let (lanes, count) = lanes(network, &rows, &place);
    let mut html = "<ol class=\"net\">".to_owned();
    for (row, lanes) in rows.iter().zip(&lanes) {
        let pair = pair(&network.nodes[row.node], after, evidence);
        item(&mut html, &pair, row, lanes, count);
    }
    html.push_str("</ol>\n");
    let mut sheet = Sheet::new(
        "Layers",
        &[
            "node",
            "op",
            "output",
            "group",
            "channels",
            "kept",
            "bits",
            "MACs",
            "MACs after",
            "state",
        ],
    );
    for node in &network.nodes {
        let pair = pair(node, after, evidence);
        let channels = pair.channels();
        sheet.row([
            Cell::Node(node.key.clone()),
            Cell::text(&node.op),
            Cell::text(dims(node)),
            Cell::text(node.group.as_ref().map_or("", |group| &group.id)),
            Cell::count(channels.map(|(before, _)| before as u64)),
            Cell::count(channels.map(|(_, after)| after as u64)),
            Cell::text(pair.bits.badge()),
            Cell::Scaled(node.macs),
            Cell::Scaled(
                pair.after.map_or(if pair.is_compared { 0 } else { node.macs }, |a| a.macs),
            ),
            Cell::text(pair.state()),
        ]);
    }
    let mut part = Part::default();
    let what = match after {
        Some(_) => "The network as it was, with what became of each node",
        None => "The network; there is no second model to compare it with",
    };
    let mut lead = format!("{what}. The bar is the share of a layer's channels that are kept");
    lead.push_str(
        "; layers with the same group (g\u{2026}) lose channels together; W and A are bits of weights and \
         of what a layer reads.",
    );
    if rows.len() < network.nodes.len() {
        lead.push_str(&format!(
            " Blocks that repeat are shown once, with their number: {} for {}.",
            counted(rows.len(), "row"),
            counted(network.nodes.len(), "node")
        ));
    }
    part.lead.push(lead);
    if let Some(new) = after.map(|after| new_nodes(network, after)).filter(|new| !new.is_empty()) {
        part.lead.push(format!(
            "New in the result: {}, such as {}.",
            counted(new.len(), "node"),
            new.iter().take(3).cloned().collect::<Vec<_>>().join(", ")
        ));
    }
    part.blocks.push(Block::Drawn { html, sheet });
    Ok(Some(part))
}

/// Keys of the result that the original does not have.
fn new_nodes(before: &Network, after: &Network) -> Vec<String> {
    let is_new = |node: &&Shown| before.find(&node.key).is_none();
    after.nodes.iter().filter(is_new).map(|node| format!("`{}` ({})", node.key, node.op)).collect()
}

fn dims(node: &Shown) -> String {
    node.dims.as_deref().map_or("?".to_owned(), units::dims)
}

fn item(html: &mut String, pair: &Pair, row: &Row, lanes: &Lanes, count: usize) {
    let Pair { node, .. } = pair;
    let state = pair.state();
    let family = family_class(node.family);
    // Writing to a string does not fail.
    let _ = write!(
        html,
        "<li id=\"{}\" class=\"{state} {family}\">{}<span class=\"op\" title=\"{}\">{}</span>\
         <span class=\"nm\" title=\"{}\">{}</span><span class=\"dm\">{}</span>",
        escape(&anchor(&node.output)),
        drawn(lanes, count),
        node.family.name(),
        escape(&node.op),
        escape(&node.key),
        escape(&node.key),
        dims(node),
    );
    html.push_str("<span class=\"tags\">");
    if let Some((length, times)) = row.block {
        let what = match length {
            1 => "this node".to_owned(),
            length => format!("these {length} nodes"),
        };
        let _ = write!(html, "<span class=\"tag rep\">{what} \u{d7}{times}</span>");
    }
    if let Some((before, after)) = pair.channels() {
        let share = 100.0 * after as f64 / before.max(1) as f64;
        let label = if before == after {
            format!("{before}")
        } else {
            format!("{before} \u{2192} {after}")
        };
        let _ = write!(
            html,
            "<span class=\"ch\"><svg aria-hidden=\"true\" width=\"56\" height=\"9\"><rect class=\"was\" width=\"56\" \
             height=\"9\"/><rect class=\"f1\" width=\"{share:.1}%\" height=\"9\"/></svg>{label}</span>"
        );
    }
    let badge = pair.bits.badge();
    if !badge.is_empty() {
        let _ = write!(html, "<span class=\"tag bits\">{badge}</span>");
    }
    if let Some(group) = &node.group {
        let number = group.id.trim_start_matches('g').parse::<usize>().unwrap_or(0) % 6;
        let _ = write!(
            html,
            "<span class=\"tag grp g{number}\" title=\"{}\">{}</span>",
            escape(group.frozen.as_deref().unwrap_or("channels of one group are cut together")),
            group.id
        );
    }
    let word = match state {
        "kept" | "narrowed" => "",
        "barrier" => "operator not understood: channels end here",
        word => word,
    };
    if !word.is_empty() {
        let _ = write!(html, "<span class=\"tag st\">{word}</span>");
    }
    html.push_str("</span></li>");
}

fn family_class(family: Family) -> &'static str {
    match family {
        Family::Convolution => "fa",
        Family::Product => "fb",
        Family::Normalization => "fc",
        Family::Activation => "fd",
        Family::Pooling => "fe",
        Family::Arithmetic => "ff",
        Family::Movement | Family::Other => "fg",
        Family::Unknown => "fh",
    }
}

/// The lines beside a row.
fn drawn(lanes: &Lanes, count: usize) -> String {
    let (width, half) = ((count + 1) * LANE + 8, ROW / 2);
    // The trunk is next to the row; lanes are to its left.
    let trunk = width - 8;
    let x = |lane: usize| trunk - (lane + 1) * LANE;
    let mut data = String::new();
    if lanes.from_above {
        let _ = write!(data, "M{trunk} 0V{half}");
    }
    if lanes.to_below {
        let _ = write!(data, "M{trunk} {half}V{ROW}");
    }
    for &lane in &lanes.passing {
        let _ = write!(data, "M{} 0V{ROW}", x(lane));
    }
    for &lane in &lanes.out {
        let x = x(lane);
        let _ = write!(data, "M{trunk} {half}C{x} {half} {x} {half} {x} {ROW}");
    }
    for &lane in &lanes.into {
        let x = x(lane);
        let _ = write!(data, "M{x} 0C{x} {half} {x} {half} {trunk} {half}");
    }
    format!(
        "<svg class=\"lanes\" aria-hidden=\"true\" width=\"{width}\" viewBox=\"0 0 {width} {ROW}\" \
         preserveAspectRatio=\"none\"><path d=\"{data}\"/><path class=\"at\" d=\"M{trunk} {half}h0\"/></svg>"
    )
}
