//! What the documentation says about the command line, as the binary says it: the reference of commands, and
//! schemas of JSON documents.

mod documents;
mod reference;
mod schema;

use crate::step::{run_cargo, say};
use anyhow::{Result, bail};
use std::fs;
use std::path::Path;

/// Writes everything that is generated under `docs/`.
pub(crate) fn write() -> Result<()> {
    run_cargo("build --release --workspace --quiet")?;
    fs::create_dir_all(schema::FOLDER)?;
    fs::write(reference::PATH, reference::text()?)?;
    for (name, schema) in documents::schemas()? {
        fs::write(schema::path(&name), schema::text(&schema)?)?;
        say(&format!("{}", schema::path(&name).display()));
    }
    Ok(())
}

/// Fails when something under `docs/` is not what the binary that was built last says.
pub(crate) fn check() -> Result<()> {
    let mut stale = Vec::new();
    if fs::read_to_string(reference::PATH).unwrap_or_default() != reference::text()? {
        stale.push(reference::PATH.to_owned());
    }
    for (name, documents) in documents::all()? {
        let path = schema::path(&name);
        let known =
            fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str(&text).ok());
        match known {
            None => stale.push(format!("{} is missing", path.display())),
            Some(known) => {
                for document in documents {
                    if let Some(offence) = schema::offence(&known, &document, "") {
                        stale.push(format!("{}: {offence}", path.display()));
                    }
                }
            }
        }
    }
    for entry in fs::read_dir(Path::new(schema::FOLDER))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !documents::names().contains(&name) {
            stale.push(format!("{} is of no command", path.display()));
        }
    }
    match stale.is_empty() {
        true => Ok(()),
        false => bail!("out of date; `cargo xtask docs` writes them:\n{}", stale.join("\n")),
    }
}
