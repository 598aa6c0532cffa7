//! Plain text tables: columns padded to their widest cell, numbers to the right.

/// How a column is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}
use Align::{Left, Right};

/// A table under construction.
#[derive(Debug)]
pub(crate) struct Table {
    align: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// From headings; a heading that starts with `>` makes a right-aligned column.
    pub(crate) fn new(headings: &[&str]) -> Self {
        let align = headings.iter().map(|h| if h.starts_with('>') { Right } else { Left });
        let first = headings.iter().map(|h| h.trim_start_matches('>').to_owned());
        Self { align: align.collect(), rows: vec![first.collect()] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        // A line break in a name would tear its row apart.
        self.rows.push(cells.into_iter().map(|cell| cell.replace('\n', "\u{fffd}")).collect());
    }

    /// The text, one line per row, without trailing blanks; empty when there are no rows.
    pub(crate) fn render(&self) -> String {
        if self.rows.len() == 1 {
            return String::new();
        }
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.align.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = widths.get(column).copied().unwrap_or(0);
                let padded = match self.align.get(column) {
                    Some(Right) => format!("{cell:>width$}"),
                    _ => format!("{cell:<width$}"),
                };
                line.push_str(&padded);
                line.push_str("  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["node", ">MACs", "why"]);
        table.row(["conv1".into(), "9".into(), String::new()]);
        table.row(["é".into(), "1.20 G".into(), "x".into()]);
        assert_eq!(
            table.render(),
            "node     MACs  why\n\
             conv1       9\n\
             é      1.20 G  x\n"
        );
    }

    #[test]
    fn no_rows_no_text() {
        assert_eq!(Table::new(&["a"]).render(), "");
    }
}
