//! The page: one file, without scripts, fonts or anything from elsewhere.

use super::part::{Block, Cell, Figure, Kind, Part, Sheet, Tile};
use super::svg::escape;
use std::collections::BTreeMap;

const STYLE: &str = include_str!("style.css");

/// What stands above the parts.
pub(super) struct Heading {
    /// What was done to what.
    pub(super) title: String,
    /// The command and the state of the run.
    pub(super) subtitle: String,
}

/// Names of nodes, and where they are in the layer view.
pub(super) type Anchors = BTreeMap<String, String>;

/// The whole page.
pub(super) fn page(heading: &Heading, parts: &[(&Kind, Part)], anchors: &Anchors) -> String {
    let mut contents = String::new();
    let mut main = String::new();
    for (kind, part) in parts {
        contents.push_str(&format!("<li><a href=\"#{}\">{}</a></li>", kind.id, escape(kind.title)));
        main.push_str(&section(kind, part, anchors));
    }
    let title = escape(&heading.title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"generator\" content=\"kerf {}\">\n<title>{title}</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#verdict\">Skip to the verdict</a>\n\
         <header><p class=\"brand\">kerf report</p><h1>{title}</h1><p class=\"sub\">{}</p></header>\n\
         <div class=\"frame\"><nav aria-label=\"Parts\"><ol>{contents}</ol></nav>\n<main>\n{main}</main></div>\n\
         <footer><p>Made by kerf {} from the run's own files. Every figure has its numbers in the table \
         below it.</p></footer>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION"),
        escape(&heading.subtitle),
        env!("CARGO_PKG_VERSION"),
    )
}

/// Words for people: what stands in backticks is code.
fn prose(text: &str) -> String {
    let pieces: Vec<&str> = text.split('`').collect();
    let mut html = String::new();
    for (at, piece) in pieces.iter().enumerate() {
        match at % 2 == 1 && at + 1 < pieces.len() {
            true => html.push_str(&format!("<code>{}</code>", escape(piece))),
            false if at % 2 == 1 => html.push_str(&format!("`{}", escape(piece))),
            false => html.push_str(&escape(piece)),
        }
    }
    html
}

fn section(kind: &Kind, part: &Part, anchors: &Anchors) -> String {
    let id = kind.id;
    let mut text = format!(
        "<section id=\"{id}\" aria-labelledby=\"h-{id}\"><h2 id=\"h-{id}\">{}</h2>\n",
        escape(kind.title)
    );
    for line in &part.lead {
        text.push_str(&format!("<p>{}</p>\n", prose(line)));
    }
    for block in &part.blocks {
        match block {
            Block::Verdict { word, is_met, lines } => text.push_str(&verdict(word, *is_met, lines)),
            Block::Tiles(tiles) => text.push_str(&numbers(tiles)),
            Block::Figure(drawn) => text.push_str(&figure(drawn, anchors)),
            Block::Table(sheet) => text.push_str(&table(sheet, anchors)),
            Block::Command(line) => {
                text.push_str(&format!(
                    "<pre tabindex=\"0\"><code>{}</code></pre>\n",
                    escape(line)
                ));
            }
            Block::Drawn { html, sheet } => {
                text.push_str(html);
                text.push_str(&folded(sheet, anchors));
            }
        }
    }
    text.push_str("</section>\n");
    text
}

fn verdict(word: &str, is_met: Option<bool>, lines: &[(bool, String)]) -> String {
    let class = match is_met {
        Some(true) => "met",
        Some(false) => "missed",
        None => "open",
    };
    let mut text = format!("<div class=\"verdict {class}\"><p class=\"word\">{}</p>", escape(word));
    if !lines.is_empty() {
        text.push_str("<ul>");
        for (is_met, line) in lines {
            let (class, sign) = if *is_met { ("yes", "met") } else { ("no", "not met") };
            text.push_str(&format!("<li class=\"{class}\"><b>{sign}</b> {}</li>", prose(line)));
        }
        text.push_str("</ul>");
    }
    text.push_str("</div>\n");
    text
}

fn numbers(tiles: &[Tile]) -> String {
    let mut text = "<dl class=\"tiles\">".to_owned();
    for Tile { name, before, after, note } in tiles {
        text.push_str(&format!("<div><dt>{}</dt><dd>", escape(name)));
        if let Some(before) = before {
            text.push_str(&format!(
                "<span class=\"from\">{}</span> <span class=\"to\" aria-label=\"to\">\u{2192}</span> ",
                escape(before)
            ));
        }
        text.push_str(&format!(
            "<strong>{}</strong></dd><dd class=\"note\">{}</dd></div>",
            escape(after),
            prose(note)
        ));
    }
    text.push_str("</dl>\n");
    text
}

fn figure(of: &Figure, anchors: &Anchors) -> String {
    let class = if of.is_small { " class=\"small\"" } else { "" };
    let mut text = format!("<figure{class}>");
    if !of.legend.is_empty() {
        text.push_str("<ul class=\"legend\">");
        for (class, name) in &of.legend {
            text.push_str(&format!("<li>{}{}</li>", swatch(class), escape(name)));
        }
        text.push_str("</ul>");
    }
    text.push_str(&of.svg);
    text.push_str(&format!("<figcaption>{}</figcaption>", prose(&of.caption)));
    text.push_str(&folded(&of.sheet, anchors));
    text.push_str("</figure>\n");
    text
}

/// A small sample of how something is drawn: a mark by its name and class, or a line.
fn swatch(class: &str) -> String {
    let inner = match class.split_once(' ') {
        Some(("dot", class)) => format!("<circle class=\"{class}\" cx=\"9\" cy=\"6\" r=\"4\"/>"),
        Some(("square", class)) => format!("<path class=\"{class}\" d=\"M5 2H13V10H5Z\"/>"),
        Some(("triangle", class)) => format!("<path class=\"{class}\" d=\"M9 1L14 10H4Z\"/>"),
        Some(("cross", class)) => {
            format!("<path class=\"{class} open\" d=\"M5 2L13 10M5 10L13 2\"/>")
        }
        Some(("ring", _)) => "<circle class=\"ring\" cx=\"9\" cy=\"6\" r=\"5\"/>".to_owned(),
        Some(("box", class)) => {
            format!("<rect class=\"{class}\" x=\"1\" y=\"1\" width=\"16\" height=\"10\"/>")
        }
        _ => format!("<path class=\"{class}\" d=\"M0 6H18\"/>"),
    };
    format!("<svg class=\"swatch\" aria-hidden=\"true\" width=\"18\" height=\"12\">{inner}</svg>")
}

fn folded(sheet: &Sheet, anchors: &Anchors) -> String {
    format!(
        "<details><summary>{} <span>in numbers</span></summary>{}</details>\n",
        escape(&sheet.name),
        table(sheet, anchors)
    )
}

fn table(sheet: &Sheet, anchors: &Anchors) -> String {
    let name = escape(&sheet.name);
    let mut text = format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{name}\" tabindex=\"0\"><table><caption>{name}</caption><thead><tr>"
    );
    let is_number = |column: usize| {
        let mut cells = sheet.rows.iter().filter_map(|row| row.get(column));
        cells.clone().next().is_some() && cells.all(Cell::is_number)
    };
    let classes: Vec<&str> = (0..sheet.columns.len())
        .map(|at| if is_number(at) { " class=\"n\"" } else { "" })
        .collect();
    for ((heading, unit), class) in sheet.columns.iter().zip(&classes) {
        let unit =
            if unit.is_empty() { String::new() } else { format!(" <i>{}</i>", escape(unit)) };
        text.push_str(&format!("<th scope=\"col\"{class}>{}{unit}</th>", escape(heading)));
    }
    text.push_str("</tr></thead><tbody>");
    for row in &sheet.rows {
        text.push_str("<tr>");
        for (at, cell) in row.iter().enumerate() {
            let class = classes.get(at).copied().unwrap_or_default();
            text.push_str(&format!("<td{class}>{}</td>", shown(cell, anchors)));
        }
        text.push_str("</tr>");
    }
    text.push_str("</tbody></table></div>\n");
    text
}

fn shown(cell: &Cell, anchors: &Anchors) -> String {
    let text = escape(&cell.shown());
    match cell {
        Cell::Node(key) => match anchors.get(key) {
            Some(anchor) => format!("<a href=\"#{}\">{text}</a>", link(anchor)),
            None => text,
        },
        Cell::Text(words) => prose(words),
        _ => text,
    }
}

/// An identifier of a node, by the name of its output.
pub(super) fn anchor(output: &str) -> String {
    let plain = |c: char| if c.is_whitespace() || c.is_control() { '_' } else { c };
    format!("n-{}", output.chars().map(plain).collect::<String>())
}

/// An identifier as links have it.
fn link(anchor: &str) -> String {
    let mut text = String::new();
    for byte in anchor.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' | b':' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_link_to_their_place_whatever_their_names() {
        let mut anchors = Anchors::new();
        anchors.insert("a \"b\" <c>".into(), anchor("out put\"1<2>"));
        let cell = Cell::Node("a \"b\" <c>".into());
        assert_eq!(
            shown(&cell, &anchors),
            "<a href=\"#n-out_put%221%3C2%3E\">a &quot;b&quot; &lt;c&gt;</a>"
        );
        assert_eq!(shown(&Cell::Node("x".into()), &anchors), "x");
    }

    #[test]
    fn backticks_make_code_where_they_are_pairs() {
        assert_eq!(prose("say `a < b` twice"), "say <code>a &lt; b</code> twice");
        assert_eq!(prose("one ` alone"), "one ` alone");
        assert_eq!(prose("`a` and ` alone"), "<code>a</code> and ` alone");
    }
}
