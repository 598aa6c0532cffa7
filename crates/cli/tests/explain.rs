//! Every code in the sources has an explanation, and every explanation a code.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::kerf;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Codes such as `E0110` in quotes, in all Rust sources of the workspace.
fn codes_in_sources(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            codes_in_sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            for quoted in text.split('"') {
                let (kind, digits) = quoted.split_at_checked(1).unwrap_or(("", ""));
                let is_number = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit());
                if ["E", "W"].contains(&kind) && is_number {
                    found.insert(quoted.to_owned());
                }
            }
        }
    }
}

/// Codes anywhere in a text: in hints, in documents, in patterns.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter(|word| {
        let (kind, digits) = word.split_at_checked(1).unwrap_or(("", ""));
        ["E", "W"].contains(&kind)
            && digits.len() == 4
            && digits.bytes().all(|b| b.is_ascii_digit())
    })
}

#[test]
fn whatever_names_a_code_names_one_that_is_explained() {
    let listed = kerf(&["explain"]).success().stdout;
    let explained: BTreeSet<&str> =
        listed.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    let root = common::root();
    let mut folders = vec![root.join("crates"), root.join("docs"), root.join("xtask/src")];
    let mut files =
        vec![root.join("README.md"), root.join("CHANGELOG.md"), root.join("CONTRIBUTING.md")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.extension().and_then(|ending| ending.to_str()) {
                _ if path.is_dir() && path.ends_with("tests") => {}
                _ if path.is_dir() => folders.push(path),
                Some("rs" | "md") => files.push(path),
                _ => {}
            }
        }
    }
    let mut wrong = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        wrong.extend(
            named(&text)
                .filter(|code| !explained.contains(code))
                .map(|code| format!("{code} in {file:?}")),
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(files.len() > 300 && explained.len() > 80, "{} {}", files.len(), explained.len());
}

#[test]
fn codes_and_explanations_match() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut used = BTreeSet::new();
    for package in fs::read_dir(crates).unwrap() {
        codes_in_sources(&package.unwrap().path().join("src"), &mut used);
    }
    let listed = kerf(&["explain"]).success().stdout;
    let explained: BTreeSet<String> =
        listed.lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
    let missing: Vec<_> = used.difference(&explained).collect();
    let unused: Vec<_> = explained.difference(&used).collect();
    assert!(missing.is_empty() && unused.is_empty(), "missing {missing:?}, unused {unused:?}");
}

#[test]
fn one_code_gives_its_text() {
    let run = kerf(&["explain", "e0110"]).success();
    assert!(run.stdout.starts_with("E0110: An operator is not implemented\n\n"), "{}", run.stdout);
    assert_eq!(run.stderr, "");
}

#[test]
fn unknown_code_is_a_usage_error() {
    let run = kerf(&["explain", "E9999"]);
    assert_eq!(
        (run.code, run.stdout.as_str(), run.stderr.as_str()),
        (2, "", "error[E0010]: unknown code: `E9999`\n\nhint: `kerf explain` lists all codes\n")
    );
}
