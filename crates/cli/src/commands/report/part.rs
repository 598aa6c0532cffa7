//! What a part of a report is made of. Everything that is drawn stands in a table as well, and the tables
//! are what the JSON document has.

use super::evidence::Evidence;
use crate::units;
use serde_json::{Value, json};
use tensor_core::Result;

/// A kind of part, in the registry.
pub(super) struct Kind {
    /// Short name, for links and documents.
    pub(super) id: &'static str,
    /// Its heading.
    pub(super) title: &'static str,
    /// Makes it.
    pub(super) make: Make,
    /// Which command would give the data.
    pub(super) source: &'static str,
}

/// How a part is made; `None` where the run has no data for it.
pub(super) enum Make {
    /// From the run.
    Alone(fn(&Evidence) -> Result<Option<Part>>),
    /// From the run and the parts that were left out.
    Behind(fn(&Evidence, &[&Kind]) -> Result<Option<Part>>),
}

/// One part of a report.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// What is to be seen, in words.
    pub(super) lead: Vec<String>,
    /// Numbers, drawings, tables, in order.
    pub(super) blocks: Vec<Block>,
}

/// A piece of a part.
#[derive(Debug)]
pub(super) enum Block {
    /// Was every goal met?
    Verdict { word: String, is_met: Option<bool>, lines: Vec<(bool, String)> },
    /// Numbers before and after.
    Tiles(Vec<Tile>),
    /// A drawing with its table, which is folded away.
    Figure(Figure),
    /// A table to be read.
    Table(Sheet),
    /// Something to copy.
    Command(String),
    /// HTML of its own, with its table.
    Drawn { html: String, sheet: Sheet },
}

/// A drawing.
#[derive(Debug)]
pub(super) struct Figure {
    /// What it shows, and how to read it.
    pub(super) caption: String,
    /// Forms and colours: class of a swatch, and what it stands for.
    pub(super) legend: Vec<(&'static str, String)>,
    /// Does it fit beside another one where there is room?
    pub(super) is_small: bool,
    /// The SVG.
    pub(super) svg: String,
    /// The same in numbers.
    pub(super) sheet: Sheet,
}

/// A number before and after.
#[derive(Debug)]
pub(super) struct Tile {
    /// What it is.
    pub(super) name: &'static str,
    /// Before, as shown.
    pub(super) before: Option<String>,
    /// After, as shown.
    pub(super) after: String,
    /// The difference or the ratio, and what was measured.
    pub(super) note: String,
}

/// A table.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    /// Its caption.
    pub(super) name: String,
    /// Headings, with the unit where there is one.
    pub(super) columns: Vec<(String, &'static str)>,
    /// Cells.
    pub(super) rows: Vec<Vec<Cell>>,
}

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    /// Words.
    Text(String),
    /// A node, which links to its place in the layer view.
    Node(String),
    /// A count, digit by digit.
    Count(u64),
    /// A large count, with three digits.
    Scaled(u64),
    /// Bytes.
    Bytes(u64),
    /// A number with so many decimals.
    Number(f64, usize),
    /// A share of 1, in percent with so many decimals.
    Share(f64, usize),
    /// Not known.
    Unknown,
}

impl Sheet {
    /// An empty table; a heading may have its unit behind a comma: `latency, ms`.
    pub(super) fn new(name: &str, columns: &[&'static str]) -> Self {
        let column = |heading: &&'static str| match heading.split_once(", ") {
            Some((name, unit)) => (name.to_owned(), unit),
            None => ((*heading).to_owned(), ""),
        };
        Self {
            name: name.to_owned(),
            columns: columns.iter().map(column).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// For programs.
    pub(super) fn document(&self) -> Value {
        let column = |(name, unit): &(String, &str)| json!({ "name": name, "unit": unit });
        let rows: Vec<Vec<Value>> =
            self.rows.iter().map(|row| row.iter().map(Cell::document).collect()).collect();
        json!({
            "name": self.name,
            "columns": self.columns.iter().map(column).collect::<Vec<_>>(),
            "rows": rows,
        })
    }
}

impl Cell {
    /// A number that may be missing.
    pub(super) fn number(value: Option<f64>, decimals: usize) -> Self {
        value.filter(|value| value.is_finite()).map_or(Self::Unknown, |v| Self::Number(v, decimals))
    }

    /// A count that may be missing.
    pub(super) fn count(value: Option<u64>) -> Self {
        value.map_or(Self::Unknown, Self::Count)
    }

    /// Words.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Is it a number?
    pub(super) fn is_number(&self) -> bool {
        !matches!(self, Self::Text(_) | Self::Node(_))
    }

    /// For people.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) | Self::Node(text) => text.clone(),
            Self::Count(count) => grouped(*count),
            Self::Scaled(count) => units::si(*count),
            Self::Bytes(bytes) => units::bytes(*bytes),
            Self::Number(value, decimals) => format!("{value:.decimals$}"),
            Self::Share(share, decimals) => format!("{:.decimals$}%", 100.0 * share),
            Self::Unknown => "\u{2013}".to_owned(),
        }
    }

    fn document(&self) -> Value {
        match self {
            Self::Text(text) | Self::Node(text) => json!(text),
            Self::Count(count) | Self::Scaled(count) | Self::Bytes(count) => json!(count),
            Self::Number(value, _) | Self::Share(value, _) => json!(value),
            Self::Unknown => Value::Null,
        }
    }
}

/// Digits in threes.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

impl Part {
    /// For programs.
    pub(super) fn document(&self, kind: &Kind) -> Value {
        let mut document = json!({ "id": kind.id, "title": kind.title, "lead": self.lead });
        let mut tables = Vec::new();
        for block in &self.blocks {
            match block {
                Block::Verdict { word, is_met, lines } => {
                    let line =
                        |(is_met, text): &(bool, String)| json!({ "met": is_met, "text": text });
                    let lines: Vec<Value> = lines.iter().map(line).collect();
                    document["verdict"] = json!({ "word": word, "met": is_met, "lines": lines });
                }
                Block::Tiles(tiles) => {
                    let tile = |tile: &Tile| {
                        let Tile { name, before, after, note } = tile;
                        json!({ "name": name, "before": before, "after": after, "note": note })
                    };
                    document["numbers"] = tiles.iter().map(tile).collect();
                }
                Block::Command(command) => document["command"] = json!(command),
                Block::Figure(Figure { sheet, .. })
                | Block::Table(sheet)
                | Block::Drawn { sheet, .. } => tables.push(sheet.document()),
            }
        }
        document["tables"] = json!(tables);
        document
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_numbers_and_pages_have_words() {
        let mut sheet = Sheet::new("costs", &["layer", "time, ms"]);
        sheet.row([Cell::Node("/a".into()), Cell::Number(1.234, 1)]);
        sheet.row([Cell::text("all"), Cell::number(Some(f64::NAN), 1)]);
        let document = sheet.document();
        assert_eq!(document["columns"][1], json!({ "name": "time", "unit": "ms" }));
        assert_eq!(document["rows"], json!([["/a", 1.234], ["all", null]]));
        let shown: Vec<String> = sheet.rows.iter().flatten().map(Cell::shown).collect();
        assert_eq!(shown, ["/a", "1.2", "all", "\u{2013}"]);
        assert_eq!(Cell::Count(1_234_567).shown(), "1\u{202f}234\u{202f}567");
        assert_eq!(Cell::Share(0.5, 1).shown(), "50.0%");
    }
}
