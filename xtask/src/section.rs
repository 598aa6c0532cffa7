//! Parts of Markdown files that tasks write, between markers.

use anyhow::{Context, Result};
use std::fs;

/// Replaces what is between `<!-- NAME:begin -->` and `<!-- NAME:end -->` in a file.
pub(crate) fn write(path: &str, name: &str, text: &str) -> Result<()> {
    let old = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let new = replaced(&old, name, text).with_context(|| path.to_owned())?;
    fs::write(path, new).with_context(|| format!("writing {path}"))
}

fn replaced(old: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->\n"));
    let (head, rest) = old.split_once(&begin).with_context(|| format!("no marker {begin}"))?;
    let (_, tail) = rest.split_once(&end).with_context(|| format!("no marker {end}"))?;
    Ok(format!("{head}{begin}{text}{end}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_section_changes() {
        let file = |text| format!("a\n<!-- x:begin -->\n{text}<!-- x:end -->\n\nb\n");
        assert_eq!(replaced(&file("old\n"), "x", "new\n").ok(), Some(file("new\n")));
        assert!(replaced(&file("old\n"), "y", "new\n").is_err());
        assert!(replaced("<!-- x:begin -->\n", "x", "new\n").is_err());
    }
}
