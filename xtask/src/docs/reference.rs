//! `docs/cli.md`: the help of every command.

use crate::kerf;
use anyhow::{Context, Result};

/// The file.
pub(super) const PATH: &str = "docs/cli.md";

const HEAD: &str = "# Commands\n\n\
    What `kerf COMMAND --help` says, for every command. `cargo xtask docs` writes this file; CI fails when it is \
    out of date.\n";

/// The whole reference.
pub(super) fn text() -> Result<String> {
    let mut text = HEAD.to_owned();
    section(&[], &mut text)?;
    Ok(text)
}

fn section(command: &[String], text: &mut String) -> Result<()> {
    let help = help(command)?;
    let name = ["kerf".to_owned()]
        .into_iter()
        .chain(command.iter().cloned())
        .collect::<Vec<_>>()
        .join(" ");
    text.push_str(&format!("\n## {name}\n\n```text\n{}\n```\n", help.trim_end()));
    for inner in inner(&help) {
        section(&[command, &[inner]].concat(), text)?;
    }
    Ok(())
}

fn help(command: &[String]) -> Result<String> {
    let arguments: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
    let output = kerf::command(&arguments).output().context("starting kerf")?;
    Ok(String::from_utf8(output.stdout)?)
}

/// Names below the heading `Commands:`.
fn inner(help: &str) -> Vec<String> {
    let list = help.split_once("\nCommands:\n").map_or("", |(_, list)| list);
    let lines = list.lines().take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_list() {
        let help = "About\n\nUsage: x\n\nCommands:\n  show     Shows\n           more of it\n  measure  Times\n\nOptions:\n  -h\n";
        assert_eq!(inner(help), ["show", "measure"]);
        assert_eq!(inner("Usage: x\n\nOptions:\n  -h\n"), Vec::<String>::new());
    }
}
