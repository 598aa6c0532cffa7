//! Rules about the sources that no compiler checks.

use crate::workspace::{self, Package};
use anyhow::{Result, bail};
use std::fs;
use std::path::Path;

/// Packages that may see several techniques.
const TOP: [&str; 3] = ["kerf-cli", "kerf-benches", "xtask"];

/// Words that mark unfinished work. Written in two parts so that this file passes.
const UNFINISHED: [&str; 7] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("db", "g!("),
    concat!("#[ig", "nore"),
];

/// Folders that exist on one machine only.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/fa", "rm/")];

/// Longest Rust file that was not generated.
const MAX_LINES: usize = 600;

/// Text files that the word rules apply to.
const TEXT: [&str; 8] = ["rs", "toml", "md", "py", "sh", "json", "yml", "txt"];

/// Checks all rules and reports every offence.
pub(crate) fn run() -> Result<()> {
    let mut offences = arrows(&workspace::packages()?);
    for path in workspace::files()? {
        let name = path.to_string_lossy().into_owned();
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        if !TEXT.contains(&extension) && !name.starts_with(".ci/") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        offences.extend(words(&name, &text));
        if extension == "rs" && !is_generated(&path, &text) {
            offences.extend(length(&name, &text));
        }
    }
    if offences.is_empty() {
        return Ok(());
    }
    bail!("{} offences\n{}", offences.len(), offences.join("\n"))
}

/// Technique crates depend on `tensor-core` and on nothing else of ours; `tensor-core` on nothing.
fn arrows(packages: &[Package]) -> Vec<String> {
    let mut offences = Vec::new();
    for package in packages.iter().filter(|package| !TOP.contains(&package.name.as_str())) {
        for used in package.uses.iter().filter(|used| **used != package.name) {
            if used != "tensor-core" || package.name == "tensor-core" {
                offences.push(format!("{} must not depend on {used}", package.name));
            }
        }
    }
    offences
}

fn words(name: &str, text: &str) -> Vec<String> {
    let mut offences = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in UNFINISHED.iter().chain(&MACHINE_PATHS) {
            if line.contains(word) {
                offences.push(format!("{name}:{}: `{word}`", number + 1));
            }
        }
    }
    offences
}

fn length(name: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > MAX_LINES).then(|| format!("{name}: {lines} lines, more than {MAX_LINES}"))
}

/// Generated code says so in its first lines.
fn is_generated(path: &Path, text: &str) -> bool {
    let says_so = text.lines().take(5).any(|line| line.contains("@generated"));
    says_so || path.file_name().is_some_and(|name| name == "proto.rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, uses: &[&str]) -> Package {
        let uses = uses.iter().map(|name| (*name).to_owned()).collect();
        Package { name: name.to_owned(), uses, has_default_features: false }
    }

    #[test]
    fn techniques_depend_on_the_core_only() {
        let good = [
            package("tensor-core", &[]),
            package("lasso-prune", &["tensor-core"]),
            package("kerf-cli", &["tensor-core", "lasso-prune"]),
        ];
        assert_eq!(arrows(&good), Vec::<String>::new());
        let bad = [
            package("kd-loss", &["lasso-prune", "tensor-core"]),
            package("tensor-core", &["kd-loss"]),
        ];
        assert_eq!(
            arrows(&bad),
            ["kd-loss must not depend on lasso-prune", "tensor-core must not depend on kd-loss"]
        );
    }

    #[test]
    fn words_are_found_with_their_line() {
        let text = format!("fine\n// {}: later\n", concat!("TO", "DO"));
        assert_eq!(words("a.rs", &text), [format!("a.rs:2: `{}`", concat!("TO", "DO"))]);
        assert_eq!(words("a.rs", "all done\n"), Vec::<String>::new());
    }

    #[test]
    fn long_files_are_found() {
        assert_eq!(length("a.rs", &"x\n".repeat(600)), None);
        assert!(length("a.rs", &"x\n".repeat(601)).is_some());
    }
}
