//! Heat maps: the stronger the colour of a cell, the larger its value.

use super::{Anchor, Svg};

/// A table of values to be seen as a whole.
#[derive(Debug, Clone)]
pub(in super::super) struct Heat {
    /// Names of the rows.
    pub(in super::super) rows: Vec<String>,
    /// Names of the columns.
    pub(in super::super) columns: Vec<String>,
    /// From 0 to 1, by row; `None` where nothing is known, which is grey.
    pub(in super::super) shades: Vec<Vec<Option<f64>>>,
    /// What a pointer shows, by row.
    pub(in super::super) titles: Vec<Vec<String>>,
    /// Row and column of cells that are ringed.
    pub(in super::super) chosen: Vec<(usize, usize)>,
    /// What the columns are.
    pub(in super::super) name: String,
}

/// Draws it.
pub(in super::super) fn heat(of: &Heat, label: &str) -> String {
    /// Letters of a row's name that have room.
    const LETTERS: usize = 18;
    // Where only some rows have a name, these are short.
    let has_names = of.rows.iter().all(|name| !name.is_empty());
    let row = if has_names { 22.0 } else { 12.0 };
    let left = if has_names { 132.0 } else { 52.0 };
    let mut svg = Svg::new(row * of.rows.len() as f64, [6.0, 1.0, 42.0, left]);
    let count = of.columns.len().max(1) as f64;
    for (at, name) in of.rows.iter().enumerate() {
        let y = row * at as f64;
        svg.text((0.0, y), (-8.0, 15.0), Anchor::End, "tick", &ended(name, LETTERS));
        let cells = of.shades.get(at).into_iter().flatten();
        for (column, shade) in cells.enumerate() {
            let (from, to) = (column as f64 / count, (column + 1) as f64 / count);
            let title =
                of.titles.get(at).and_then(|row| row.get(column)).map_or("", String::as_str);
            let class = match shade {
                // Twenty shades, as classes: the eye tells no more apart.
                Some(shade) => format!("h{:.0}", (20.0 * shade.clamp(0.0, 1.0)).round()),
                None => "void".to_owned(),
            };
            svg.rect((from, to), (y, row - 1.0), &class, title);
        }
    }
    for &(at, column) in &of.chosen {
        let (from, to) = (column as f64 / count, (column + 1) as f64 / count);
        svg.rect((from, to), (row * at as f64 + 1.0, row - 3.0), "chosen", "");
    }
    let bottom = svg.height();
    // As many names as there is room for on a phone.
    let every = of.columns.len().div_ceil(8).max(1);
    for (column, name) in of.columns.iter().enumerate().filter(|(column, _)| column % every == 0) {
        let x = (column as f64 + 0.5) / count;
        svg.text((x, bottom), (0.0, 16.0), Anchor::Middle, "tick", name);
    }
    svg.text((1.0, bottom), (0.0, 34.0), Anchor::End, "name", &of.name);
    svg.finish(label)
}

/// The end of a name, which tells more where there is little room.
fn ended(name: &str, letters: usize) -> String {
    let count = name.chars().count();
    if count <= letters {
        return name.to_owned();
    }
    let tail: String = name.chars().skip(count + 1 - letters).collect();
    format!("\u{2026}{tail}")
}

/// A name of at most so many letters, whose middle is left out where it is longer.
pub(in super::super) fn shortened(name: &str, letters: usize) -> String {
    let count = name.chars().count();
    if count <= letters {
        return name.to_owned();
    }
    let (head, tail) = (letters / 3, letters - letters / 3 - 1);
    let first: String = name.chars().take(head).collect();
    let last: String = name.chars().skip(count - tail).collect();
    format!("{first}\u{2026}{last}")
}
