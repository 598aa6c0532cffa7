//! The drawing: one line for each row of the network.

use super::super::network::{Family, Lanes, Network, Row, Shown, lanes, rows};
use crate::console::printable;
use crate::units;
use tensor_core::text::counted;

/// How a network is drawn.
pub(super) struct Drawing<'a> {
    /// What it is compared with.
    pub(super) other: Option<&'a Network>,
    /// Columns.
    pub(super) width: usize,
    /// Is it coloured?
    pub(super) color: bool,
}

/// What a line says of a node, column by column.
struct Line {
    op: String,
    channels: String,
    bits: String,
    group: String,
    dims: String,
    macs: String,
    name: String,
}

impl Drawing<'_> {
    /// All lines.
    pub(super) fn text(&self, network: &Network) -> String {
        type Get = fn(&Line) -> &String;
        let (rows, place) = rows(network);
        let (lanes, count) = lanes(network, &rows, &place);
        let lines: Vec<Line> = rows.iter().map(|row| self.line(network, row)).collect();
        let width =
            |get: Get| lines.iter().map(|line| get(line).chars().count()).max().unwrap_or(0);
        let columns: [(Get, bool); 6] = [
            (|line| &line.op, false),
            (|line| &line.channels, true),
            (|line| &line.bits, false),
            (|line| &line.group, false),
            (|line| &line.dims, false),
            (|line| &line.macs, true),
        ];
        let widths = columns.map(|(get, _)| width(get));
        let mut text = String::new();
        for ((row, line), lanes) in rows.iter().zip(&lines).zip(&lanes) {
            let node = &network.nodes[row.node];
            let mut out = drawn(lanes, count);
            let mut used = out.chars().count();
            for (at, ((get, is_right), width)) in columns.iter().zip(widths).enumerate() {
                // The shape and the costs go first where there is little room.
                let is_spare = at >= 4 && self.width < 80;
                if width == 0 || is_spare {
                    continue;
                }
                let cell = get(line);
                let padded = match is_right {
                    true => format!("{cell:>width$}"),
                    false => format!("{cell:<width$}"),
                };
                used += 2 + width;
                out.push_str("  ");
                out.push_str(&self.painted(node, at, &padded));
            }
            let room = self.width.saturating_sub(used + 2);
            out.push_str("  ");
            out.push_str(&ended(&line.name, room));
            text.push_str(out.trim_end());
            text.push('\n');
        }
        text.push_str(&format!(
            "{}, {} params, {} MACs{}\n",
            counted(network.nodes.len(), "node"),
            units::si(network.cost.parameters),
            units::si(network.cost.macs),
            self.other.map_or(String::new(), |other| format!(
                " -> {} params, {} MACs",
                units::si(other.cost.parameters),
                units::si(other.cost.macs)
            ))
        ));
        if rows.len() < network.nodes.len() {
            text.push_str(
                "blocks that repeat are shown once, with their number; `--json` has every node\n",
            );
        }
        text
    }

    /// Only the operator is coloured, by its family.
    fn painted(&self, node: &Shown, column: usize, text: &str) -> String {
        let color = match node.family {
            Family::Convolution => "34",
            Family::Product => "35",
            Family::Activation => "33",
            Family::Normalization => "32",
            Family::Unknown => "31",
            _ => return text.to_owned(),
        };
        match self.color && column == 0 {
            true => format!("\x1b[{color}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    fn line(&self, network: &Network, row: &Row) -> Line {
        let node = &network.nodes[row.node];
        let after = self.other.map(|other| other.find(&node.key));
        let channels = match (node.channels, after) {
            (None, _) => String::new(),
            (Some(before), None) => before.to_string(),
            (Some(before), Some(None)) => format!("{before} -> gone"),
            (Some(before), Some(Some(after))) => match after.channels {
                Some(now) if now != before => format!("{before} -> {now}"),
                _ => before.to_string(),
            },
        };
        let (old, new) = (node.bits.badge(), after.flatten().map(|after| after.bits.badge()));
        let bits = match new {
            Some(new) if new != old => format!("{old} -> {new}").trim_start().to_owned(),
            _ => old,
        };
        let group = node.group.as_ref().map_or(String::new(), |group| match group.frozen {
            Some(_) => format!("{} frozen", group.id),
            None => group.id.clone(),
        });
        let mut name = node.key.clone();
        if node.family == Family::Unknown {
            name.push_str(" (not understood: channels end here)");
        }
        if matches!(after, Some(None)) && node.channels.is_none() {
            name.push_str(" (not in the other)");
        }
        if let Some((length, times)) = row.block {
            name = match length {
                1 => format!("x{times}  {name}"),
                length => format!("x{times}, {length} nodes each  {name}"),
            };
        }
        Line {
            op: printable(&node.op),
            channels,
            bits,
            group,
            dims: node.dims.as_deref().map_or("?".to_owned(), units::dims),
            macs: if node.macs == 0 { String::new() } else { units::si(node.macs) },
            // A line break in a name would tear its row apart.
            name: printable(&name).replace('\n', "\u{fffd}"),
        }
    }
}

/// A name that has room for so many letters; of longer ones the end, which tells more.
fn ended(name: &str, room: usize) -> String {
    let count = name.chars().count();
    if count <= room {
        return name.to_owned();
    }
    let tail: String = name.chars().skip(count - room.saturating_sub(2)).collect();
    format!("..{tail}")
}

/// The lines beside a row: the trunk next to it, other connections to its left.
fn drawn(lanes: &Lanes, count: usize) -> String {
    let mut cells = vec![' '; count];
    for &lane in &lanes.passing {
        cells[lane] = '\u{2502}';
    }
    let (begin, end) = (lanes.out.last().copied(), lanes.into.last().copied());
    let far = begin.max(end);
    if let Some(far) = far {
        for cell in cells.iter_mut().take(far) {
            *cell = if *cell == '\u{2502}' { '\u{253c}' } else { '\u{2500}' };
        }
    }
    for &lane in &lanes.into {
        cells[lane] = if lanes.passing.contains(&lane) { '\u{251c}' } else { '\u{2570}' };
    }
    for &lane in &lanes.out {
        cells[lane] = if lanes.into.contains(&lane) { '\u{251c}' } else { '\u{256d}' };
    }
    // Lanes are numbered from the trunk outwards.
    let mut text: String = cells.iter().rev().collect();
    text.push(if lanes.from_above || lanes.to_below || far.is_some() {
        '\u{25cf}'
    } else {
        '\u{25cb}'
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_keep_their_end() {
        assert_eq!(ended("/layer/conv", 20), "/layer/conv");
        assert_eq!(ended("/layer/conv", 8), "..r/conv");
    }

    #[test]
    fn connections_stand_beside_their_rows() {
        let begin = Lanes { out: vec![0], to_below: true, ..Lanes::default() };
        let pass = Lanes { passing: vec![0], from_above: true, ..Lanes::default() };
        let end = Lanes { into: vec![0], from_above: true, ..Lanes::default() };
        let text: Vec<String> = [&begin, &pass, &end].map(|lanes| drawn(lanes, 1)).to_vec();
        assert_eq!(text, ["\u{256d}\u{25cf}", "\u{2502}\u{25cf}", "\u{2570}\u{25cf}"]);
    }
}
