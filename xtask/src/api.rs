//! The public interfaces of the libraries as listings, so that a change of one is seen in review.

use crate::step::{say, succeed};
use crate::workspace::{cargo, root};
use anyhow::{Context, Result, bail};
use public_api::Builder;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDER: &str = "docs/api";

/// The Rust that the listings are made with: others write other JSON and print other paths.
const RUST: &str = "1.95";

const LIBRARIES: [&str; 6] =
    ["tensor-core", "lasso-prune", "gates-gdp", "magnitude-schedule", "quant-mixed", "kd-loss"];

/// Writes all listings.
pub(crate) fn write() -> Result<()> {
    let rust = rust()?;
    if rust != RUST {
        bail!(
            "listings are made with Rust {RUST}, this is {rust}; raise `RUST` in xtask/src/api.rs with all of them"
        );
    }
    fs::create_dir_all(FOLDER)?;
    for (library, listing) in listings()? {
        fs::write(path(library), listing)?;
        say(&format!("{}", path(library).display()));
    }
    Ok(())
}

/// Fails when a listing is not that of the library, where this is the Rust that listings are made with.
pub(crate) fn check() -> Result<()> {
    let rust = rust()?;
    if rust != RUST {
        say(&format!("not compared: the listings are made with Rust {RUST}, this is {rust}"));
        return Ok(());
    }
    let mut stale = Vec::new();
    for (library, listing) in listings()? {
        let known = fs::read_to_string(path(library)).unwrap_or_default();
        if let Some(line) = first_difference(&known, &listing) {
            stale.push(format!("{}: {line}", path(library).display()));
        }
    }
    match stale.is_empty() {
        true => Ok(()),
        false => bail!(
            "public interfaces changed: `cargo xtask api` lists them again; a line that went is a breaking \
             change and belongs in CHANGELOG.md\n{}",
            stale.join("\n")
        ),
    }
}

/// The version of the compiler without its last number.
fn rust() -> Result<String> {
    let output = Command::new("rustc").arg("--version").output().context("starting rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().nth(1).with_context(|| format!("no version: {text}"))?;
    Ok(version.rsplit_once('.').map_or(version, |(minor, _)| minor).to_owned())
}

fn path(library: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{library}.txt"))
}

/// What the libraries offer, one item a line, without what derives and blanket implementations add.
fn listings() -> Result<Vec<(&'static str, String)>> {
    let mut command = cargo();
    command.args(["doc", "--quiet", "--release", "--no-deps", "--workspace", "--lib"]);
    command.env("RUSTDOC", root().join("xtask/rustdoc.sh"));
    succeed(command.env("RUSTDOCFLAGS", "-Zunstable-options --output-format json"))?;
    let listing = |library: &'static str| {
        let file = format!("target/doc/{}.json", library.replace('-', "_"));
        let api = Builder::from_rustdoc_json(&file)
            .omit_blanket_impls(true)
            .omit_auto_trait_impls(true)
            .omit_auto_derived_impls(true)
            .build()
            .with_context(|| format!("{file}: another version of Rust than `public-api` reads?"))?;
        Ok((library, format!("{api}")))
    };
    LIBRARIES.into_iter().map(listing).collect()
}

/// The first line that one text has and the other has not.
fn first_difference(known: &str, new: &str) -> Option<String> {
    let only =
        |a: &str, b: &str| a.lines().find(|&line| b.lines().all(|l| l != line)).map(str::to_owned);
    let gone = only(known, new).map(|line| format!("- {line}"));
    gone.or_else(|| only(new, known).map(|line| format!("+ {line}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_say_what_went() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n").as_deref(), Some("- b"));
        assert_eq!(first_difference("a\n", "a\nc\n").as_deref(), Some("+ c"));
    }
}
