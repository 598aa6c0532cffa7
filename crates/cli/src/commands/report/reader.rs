//! Reads a run folder, and the runs that lie in it.

use super::evidence::{Document, Evidence};
use super::models::{self, Source};
use super::trials;
use crate::args::Cli;
use crate::resume;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use tensor_core::journal::{self, Record};
use tensor_core::{Error, ErrorKind, Result};

/// What has been read so far.
#[derive(Debug, Default)]
pub(super) struct Reader {
    documents: Vec<Document>,
    records: Vec<(Option<String>, Record)>,
    sensitivities: Option<Value>,
    best: Option<String>,
    files: Vec<PathBuf>,
    /// How deep runs lie in runs here.
    depth: usize,
    /// The model that the run began with, and what it made, as far as is known.
    before: Source,
    after: Source,
}

impl Reader {
    /// A run folder, which may hold others.
    pub(super) fn folder(&mut self, folder: &Path, step: Option<&str>) -> Result<()> {
        /// A search has trials, a trial has steps, a step has a run. Links could go on for ever.
        const DEEPEST: usize = 3;
        if self.depth > DEEPEST {
            return Ok(());
        }
        self.depth += 1;
        let read = self.read(folder, step);
        self.depth -= 1;
        read
    }

    fn read(&mut self, folder: &Path, step: Option<&str>) -> Result<()> {
        let known = self.documents.len() + self.records.len();
        for name in ["report.json", "front.json"] {
            let path = folder.join(name);
            if path.is_file() {
                self.document(&path, step)?;
                break;
            }
        }
        let sensitivities = folder.join("sensitivity.json");
        if sensitivities.is_file() {
            self.sensitivities = Some(self.json(&sensitivities)?);
        }
        if let Some(record) = self.journal(folder)? {
            self.records.push((step.map(str::to_owned), record.clone()));
            match record.kind.as_str() {
                "recipe" => self.steps(folder, &record, step)?,
                trials::KIND => self.best_trial(folder, &record)?,
                _ => {}
            }
            if step.is_none() {
                let model = record.identity.get("model").and_then(Value::as_str);
                self.before.sha256 = self.before.sha256.take().or(model.map(str::to_owned));
            }
        }
        let partly = folder.join("sensitivity");
        if let Some(record) = self.journal(&partly)? {
            let layers = json!({ "layers": record.entries });
            self.sensitivities.get_or_insert(layers);
            self.records.push((step.map(str::to_owned), record));
        }
        if self.documents.len() + self.records.len() == known && self.sensitivities.is_none() {
            return match step {
                // A step that has not come to its first line.
                Some(_) => Ok(()),
                None => Err(no_run(folder)),
            };
        }
        Ok(())
    }

    fn journal(&mut self, folder: &Path) -> Result<Option<Record>> {
        let record = journal::read(folder)?;
        if record.is_some() {
            self.files.push(folder.join("journal.jsonl"));
        }
        Ok(record)
    }

    /// The documents of the steps of a recipe, the unfinished one last.
    fn steps(&mut self, folder: &Path, record: &Record, outer: Option<&str>) -> Result<()> {
        // Names of steps are those of folders here; a journal that says otherwise leads nowhere.
        let is_name = |name: &&String| !name.starts_with('.') && !name.contains(['/', '\\']);
        for name in record.identity.keys().filter(is_name).filter(|name| folder.join(name).is_dir())
        {
            let place = folder.join(name);
            let report = place.join("report.json");
            if report.is_file() {
                self.document(&report, Some(name))?;
            }
            self.folder(&place.join("run"), Some(name))?;
        }
        let done = record.entries.iter().rfind(|entry| entry["sha256"].is_string());
        if let Some(done) = done
            && self.after.path.is_none()
            && outer.is_none()
        {
            self.after = Source::of(&done["output"], &done["sha256"]);
        }
        Ok(())
    }

    /// The best trial so far: the one whose file was last copied to the result's place.
    fn best_trial(&mut self, folder: &Path, record: &Record) -> Result<()> {
        let noted = fs::read_to_string(folder.join("output.sha256")).ok();
        let made = |entry: &&Value| {
            let hash = entry["sha256"].as_str();
            hash.is_some() && hash == noted.as_deref().map(str::trim)
        };
        let Some(trial) = record.entries.iter().rfind(made) else { return Ok(()) };
        let Some(name) = trials::name(trial) else { return Ok(()) };
        let place = folder.join("trials").join(&name);
        self.after = Source {
            path: Some(place.join("model.onnx")),
            sha256: trial["sha256"].as_str().map(str::to_owned),
        };
        self.best = Some(name.clone());
        if place.is_dir() {
            self.folder(&place, Some(&name))?;
        }
        Ok(())
    }

    pub(super) fn document(&mut self, path: &Path, step: Option<&str>) -> Result<()> {
        let mut value = self.json(path)?;
        if value["points"].is_array() && value["schema"].is_null() {
            value = json!({ "schema": "kerf.pareto/1", "result": value });
        }
        if !value["schema"].as_str().is_some_and(|schema| schema.starts_with("kerf.")) {
            return Err(foreign(path, "it has no schema of kerf"));
        }
        if value["schema"] == "kerf.error/1" {
            let message = value["error"]["message"].as_str().unwrap_or("an error");
            return Err(foreign(path, &format!("it says that the command failed: {message}")));
        }
        self.documents.push(Document { step: step.map(str::to_owned), value });
        Ok(())
    }

    fn json(&mut self, path: &Path) -> Result<Value> {
        let bytes = fs::read(path).map_err(|error| Error::io(path, &error))?;
        self.files.push(path.to_owned());
        serde_json::from_slice(&bytes)
            .map_err(|error| foreign(path, &format!("it is no JSON: {error}")))
    }

    pub(super) fn finish(mut self, path: &Path) -> Result<Evidence> {
        let remembered = resume::recall(path).ok();
        let mut command = None;
        let mut bases = vec![PathBuf::new()];
        if let Some(remembered) = &remembered {
            self.files.push(path.join("command.json"));
            bases.push(remembered.directory.clone());
            let arguments: Vec<OsString> =
                remembered.arguments.iter().map(OsString::from).collect();
            command = Some(crate::shell::replay(&arguments));
            if let Ok((_, cli)) = Cli::read(&arguments) {
                self.before.path = cli.task().model().map(Path::to_owned);
            }
        }
        // What was moved as a whole is found beside the run.
        bases.extend([path, path.parent().unwrap_or(path)].map(Path::to_owned));
        let outer = self.documents.first().filter(|document| document.step.is_none());
        if let Some(outer) = outer {
            let value = &outer.value;
            command = value["command"].as_str().map(str::to_owned).or(command);
            if value["input"].is_object() {
                self.before = Source::of(&value["input"]["path"], &value["input"]["sha256"]);
            }
            if value["result"]["output"].is_object() && self.best.is_none() {
                let output = &value["result"]["output"];
                self.after = Source::of(&output["path"], &output["sha256"]);
            }
            // Nothing was made, but something was compared.
            if value["against"].is_object() {
                self.after = Source::of(&value["against"]["path"], &value["against"]["sha256"]);
            }
        }
        if self.before.path.is_none() {
            self.before.path = recipe_model(path);
        }
        let shapes = self.shapes();
        Ok(Evidence {
            before: models::find(&self.before, &bases, &shapes, "began with"),
            after: models::find(&self.after, &bases, &shapes, "made"),
            documents: self.documents,
            records: self.records,
            sensitivities: self.sensitivities,
            best: self.best,
            command,
            files: self.files,
        })
    }

    /// Input shapes that the run was given.
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let given = self.documents.iter().find_map(|document| {
            document.value["settings"]["shapes"].as_object().filter(|shapes| !shapes.is_empty())
        });
        let dims = |dims: &Value| -> Option<Vec<usize>> {
            dims.as_array()?.iter().map(|dim| usize::try_from(dim.as_u64()?).ok()).collect()
        };
        let pair = |(name, value): (&String, &Value)| Some((name.clone(), dims(value)?));
        given.into_iter().flatten().filter_map(pair).collect()
    }
}

/// The model that the recipe of a run folder begins with.
fn recipe_model(folder: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(folder.join("recipe.toml")).ok()?;
    let table: toml::Table = toml::from_str(&text).ok()?;
    table.get("model")?.as_str().map(PathBuf::from)
}

fn no_run(folder: &Path) -> Error {
    let message = format!("{}: no run: it holds no journal and no report", folder.display());
    Error::new(ErrorKind::Invalid, "E0610", message).hint(
        "name the folder that was given as `--run` or `--report`, or the `.run` folder beside the result \
         of `kerf compress` and `kerf run`",
    )
}

fn foreign(path: &Path, why: &str) -> Error {
    let message = format!("{}: no report of kerf: {why}", path.display());
    Error::new(ErrorKind::Invalid, "E0611", message)
        .hint("give a run folder, or the JSON document of a command (`--report DIR` or `--json`)")
}
