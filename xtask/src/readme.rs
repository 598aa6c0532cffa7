//! Runs the `kerf` commands that the README and the guides show, exactly as they show them.

use crate::step::{say, succeed};
use crate::workspace::cargo;
use anyhow::{Result, bail};
use std::fs;
use std::path::PathBuf;

/// What every shown command starts with.
const KERF: &str = "cargo kerf ";

pub(crate) fn run() -> Result<()> {
    // The guides work on with what the README's first command makes.
    let mut pages = vec![PathBuf::from("README.md")];
    let mut guides =
        fs::read_dir("docs")?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    guides.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    guides.sort();
    pages.extend(guides);
    for (number, page) in pages.iter().enumerate() {
        let commands = commands(&fs::read_to_string(page)?);
        if commands.is_empty() && number == 0 {
            bail!("{} shows no `{KERF}` command", page.display());
        }
        for command in commands {
            say(&format!("$ {command}"));
            let mut cargo = cargo();
            cargo.args(command.split_whitespace().skip(1));
            succeed(&mut cargo)?;
        }
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
