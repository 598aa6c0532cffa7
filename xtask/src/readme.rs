//! Runs the `kerf` commands that the README shows, exactly as it shows them.

use crate::step::{say, succeed};
use crate::workspace::cargo;
use anyhow::{Result, bail};
use std::fs;

/// What every shown command starts with.
const KERF: &str = "cargo kerf ";

pub(crate) fn run() -> Result<()> {
    let commands = commands(&fs::read_to_string("README.md")?);
    if commands.is_empty() {
        bail!("README.md shows no `{KERF}` command");
    }
    for command in commands {
        say(&format!("$ {command}"));
        let mut cargo = cargo();
        cargo.args(command.split_whitespace().skip(1));
        succeed(&mut cargo)?;
    }
    Ok(())
}

/// Commands in fenced `sh` blocks, continued lines joined.
fn commands(readme: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut in_block = false;
    for line in readme.replace("\\\n", " ").lines() {
        match line.trim() {
            "```sh" => in_block = true,
            "```" => in_block = false,
            command if in_block && command.starts_with(KERF) => {
                commands.push(command.split_whitespace().collect::<Vec<_>>().join(" "));
            }
            _ => {}
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_come_from_shell_blocks() {
        let readme = "cargo kerf no\n```sh\ncargo kerf prune a.onnx \\\n  -o b.onnx\nother\n```\n\
                      ```text\ncargo kerf output\n```\n";
        assert_eq!(commands(readme), ["cargo kerf prune a.onnx -o b.onnx"]);
    }
}
