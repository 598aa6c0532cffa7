//! Channels of every layer, before and after.

use super::super::evidence::Evidence;
use super::super::part::{Block, Cell, Figure, Kind, Make, Part, Sheet};
use super::super::svg::{Bar, rows, shortened};
use super::{list, root, text};
use tensor_core::Result;

pub(super) const KIND: Kind = Kind {
    id: "channels",
    title: "Channels",
    make: Make::Alone(make),
    source: "kerf prune MODEL --data D --macs 50% -o OUT --report DIR, or kerf gate",
};

/// Rows of a drawing.
const SHOWN: usize = 80;

/// Letters of a name that have room on a phone.
const LETTERS: usize = 30;

/// One layer or group.
struct Line {
    name: String,
    is_node: bool,
    group: String,
    before: u64,
    after: u64,
}

fn make(evidence: &Evidence) -> Result<Option<Part>> {
    let lines = of_models(evidence);
    let lines = if lines.is_empty() { of_documents(evidence) } else { lines };
    if lines.iter().all(|line| line.before == line.after) {
        return Ok(None);
    }
    let mut sheet =
        Sheet::new("Channels", &["layer", "group", "before", "after", "kept", "multiple of"]);
    for line in &lines {
        let name = match line.is_node {
            true => Cell::Node(line.name.clone()),
            false => Cell::text(&line.name),
        };
        sheet.row([
            name,
            Cell::text(&line.group),
            Cell::Count(line.before),
            Cell::Count(line.after),
            Cell::Share(line.after as f64 / line.before.max(1) as f64, 1),
            Cell::Count(multiple(line.after)),
        ]);
    }
    let bar = |line: &Line| Bar {
        label: shortened(&line.name, LETTERS),
        note: format!(
            "{}{} \u{2192} {}, \u{d7}{}",
            if line.group.is_empty() { String::new() } else { format!("{}  ", line.group) },
            line.before,
            line.after,
            multiple(line.after)
        ),
        before: line.before as f64,
        after: line.after as f64,
        title: format!("{}: {} of {} channels", line.name, line.after, line.before),
    };
    let bars: Vec<Bar> = lines.iter().take(SHOWN).map(bar).collect();
    let most = lines.iter().map(|line| line.before).max().unwrap_or(1);
    let tick = if most > 320 { 64.0 } else { 16.0 };
    let mut caption = format!(
        "Channels that each layer makes, in execution order: filled what is kept, outlined what is gone. \
         Notches are {tick:.0} channels apart; \u{d7}16 means that the number is a multiple of 16, which \
         runtimes like."
    );
    if lines.len() > SHOWN {
        caption.push_str(&format!(" The first {SHOWN} of {}; the table has all.", lines.len()));
    }
    let changed = lines.iter().filter(|line| line.after < line.before).count();
    let figure = Figure {
        is_small: false,
        svg: rows(
            &bars,
            Some(tick),
            &format!("Channels of {} layers before and after", bars.len()),
        ),
        legend: vec![("box f1", "kept".into()), ("box was", "before".into())],
        caption,
        sheet,
    };
    let lead = format!("{changed} of {} layers have fewer channels.", lines.len());
    Ok(Some(Part { lead: vec![lead], blocks: vec![Block::Figure(figure)] }))
}

/// The largest of 64, 32, 16, 8, 4 and 2 that divides a number.
fn multiple(count: u64) -> u64 {
    [64, 32, 16, 8, 4, 2].into_iter().find(|of| count > 0 && count.is_multiple_of(*of)).unwrap_or(1)
}

fn of_models(evidence: &Evidence) -> Vec<Line> {
    let (Some(before), Some(after)) = (evidence.before.found(), evidence.after.found()) else {
        return Vec::new();
    };
    let line = |node: &super::super::super::network::Shown| {
        let old = node.channels? as u64;
        let new = after.network.find(&node.key).map_or(Some(0), |after| after.channels)?;
        let group = node.group.as_ref().map_or(String::new(), |group| group.id.clone());
        Some(Line { name: node.key.clone(), is_node: true, group, before: old, after: new as u64 })
    };
    before.network.nodes.iter().filter_map(line).collect()
}

/// Groups, as reports of pruning and gates have them.
fn of_documents(evidence: &Evidence) -> Vec<Line> {
    let count = |value: &serde_json::Value, key: &str| value[key].as_u64().unwrap_or(0);
    let sets = evidence.results("pruning").flat_map(|(_, pruning)| list(pruning, "sets"));
    let sets = sets.map(|set| (set, count(set, "before"), count(set, "after")));
    let lists = evidence.results("gates").flat_map(|(_, gates)| list(gates, "lists"));
    let lists = lists.map(|gates| (gates, count(gates, "channels"), count(gates, "open")));
    let line = |(value, before, after): (&serde_json::Value, u64, u64)| Line {
        name: root(text(value, "name")).to_owned(),
        is_node: false,
        group: text(value, "id").to_owned(),
        before,
        after,
    };
    sets.chain(lists).map(line).collect()
}
