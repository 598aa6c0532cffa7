//! The help of every command, as it was reviewed; `KERF_BLESS=1` writes it anew. Every flag that a
//! document names exists.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{kerf, root};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// All commands, with those inside of others: `cost show`.
fn commands() -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut open = vec![Vec::new()];
    while let Some(command) = open.pop() {
        for name in inner(&help(&command)) {
            let mut inner = command.clone();
            inner.push(name);
            open.push(inner);
        }
        found.push(command);
    }
    found.sort();
    found
}

/// Names below the heading `Commands:`.
fn inner(help: &str) -> Vec<String> {
    let Some((_, list)) = help.split_once("\nCommands:\n") else { return Vec::new() };
    let lines = list.lines().take_while(|line| !line.is_empty());
    let is_name = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    lines.filter(is_name).map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

fn help(command: &[String]) -> String {
    let arguments: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
    kerf(&arguments).success().stdout
}

fn snapshot(command: &[String]) -> PathBuf {
    let name = ["kerf"]
        .into_iter()
        .chain(command.iter().map(String::as_str))
        .collect::<Vec<_>>()
        .join("-");
    root().join("crates/cli/tests/snapshots").join(format!("{name}.txt"))
}

#[test]
fn every_help_is_as_it_was_reviewed() {
    let update = std::env::var_os("KERF_BLESS").is_some();
    let commands = commands();
    assert!(commands.len() >= 30, "{commands:?}");
    let mut different = Vec::new();
    let mut known = BTreeSet::new();
    for command in &commands {
        let (path, help) = (snapshot(command), help(command));
        if update {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &help).unwrap();
        }
        if fs::read_to_string(&path).is_ok_and(|text| text == help) {
            known.insert(path);
        } else {
            different.push(command.join(" "));
        }
    }
    let stale: Vec<PathBuf> = fs::read_dir(root().join("crates/cli/tests/snapshots"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("kerf"))
        .filter(|path| !known.contains(path) && different.is_empty())
        .collect();
    assert!(
        different.is_empty() && stale.is_empty(),
        "other help: {different:?}, of no command: {stale:?}; `KERF_BLESS=1 cargo test --test help` \
         writes snapshots, to be reviewed"
    );
}

/// Flags of each command, the global ones included.
fn flags() -> BTreeMap<String, BTreeSet<String>> {
    let of = |command: &Vec<String>| {
        let help = help(command);
        let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        let flags =
            words.filter(|word| word.starts_with("--") && word.len() > 2).map(str::to_owned);
        (command.join(" "), flags.collect())
    };
    commands().iter().map(of).collect()
}

/// Documents whose commands and flags are checked.
fn documents() -> Vec<PathBuf> {
    let mut found = vec![root().join("README.md")];
    let mut folders = vec![root().join("docs"), root().join("crates/cli/src/explain")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Command lines of kerf in code, with what follows them.
fn lines(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let mut found = Vec::new();
    let mut in_block = false;
    for line in joined.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        }
        let pieces: Vec<&str> = match in_block {
            true => vec![line],
            false => line.split('`').skip(1).step_by(2).collect(),
        };
        for piece in pieces {
            let piece = piece.trim_start_matches("cargo ").trim_start_matches("$ ");
            if piece.starts_with("kerf ") {
                found.push(piece.split(['|', '>', ';', '&', '#']).next().unwrap().to_owned());
            }
        }
    }
    found
}

/// What is wrong with a command line, if anything.
fn wrong(line: &str, known: &BTreeMap<String, BTreeSet<String>>) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let name = words.get(1).copied().unwrap_or_default();
    let inner = format!("{name} {}", words.get(2).copied().unwrap_or_default());
    // `kerf prune|quantize` and the like stand for several commands.
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase());
    if !is_name {
        return None;
    }
    let Some(flags) = known.get(&inner).or_else(|| known.get(name)) else {
        return Some(format!("no command `{name}` in `{line}`"));
    };
    let given = words.iter().filter(|word| word.starts_with("--") && word.len() > 2);
    let flag = |word: &&str| word.split(['=', ',', '.', ')', ']']).next().unwrap().to_owned();
    given
        .map(flag)
        .find(|flag| !flags.contains(flag))
        .map(|flag| format!("no `{flag}` in `{line}`"))
}

#[test]
fn every_flag_in_the_documents_exists() {
    let known = flags();
    let everywhere: BTreeSet<&String> = known.values().flatten().collect();
    let (mut wrongs, mut count) = (Vec::new(), 0);
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        count += lines(&text).len();
        let name = path.strip_prefix(root()).unwrap_or(Path::new("")).display().to_string();
        wrongs.extend(
            lines(&text)
                .iter()
                .filter_map(|line| wrong(line, &known))
                .map(|w| format!("{name}: {w}")),
        );
        // Flags alone, in code: of any command, of cargo, or of the build.
        for piece in text.split('`').skip(1).step_by(2) {
            let flag = piece.split([' ', '=']).next().unwrap();
            let is_flag = flag.starts_with("--")
                && flag.len() > 2
                && flag[2..].chars().all(|c| c.is_ascii_lowercase() || c == '-');
            if is_flag && !everywhere.contains(&flag.to_owned()) && !OTHERS.contains(&flag) {
                wrongs.push(format!("{name}: no command has `{flag}`"));
            }
        }
    }
    assert!(wrongs.is_empty(), "{wrongs:#?}");
    assert!(count > 60, "{count}");
}

/// Flags of cargo and of `mpirun` that documents name.
const OTHERS: [&str; 4] = ["--features", "--bind-to", "--oversubscribe", "--allow-run-as-root"];

#[test]
fn completions_and_manual_pages_cover_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = kerf(&["completions", shell]).success();
        assert!(script.stdout.contains("assert-max-drop") && script.stderr.is_empty(), "{shell}");
    }
    let refused = kerf(&["completions", "tcsh"]).exits(2);
    assert!(refused.stderr.contains("possible values"), "{}", refused.stderr);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("man1");
    kerf(&["man", "-o", path.to_str().unwrap()]).success();
    for command in commands() {
        let name = ["kerf".to_owned()].into_iter().chain(command).collect::<Vec<_>>().join("-");
        let page = fs::read_to_string(path.join(format!("{name}.1"))).unwrap();
        assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{name}");
    }
}
