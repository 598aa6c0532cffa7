//! What a run of a recipe has done, as its folder holds it.

use super::super::Verdict;
use super::pipeline::{Pipeline, file_bytes};
use crate::recipe::Step;
use crate::{input, units};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use tensor_core::journal::Journal;
use tensor_core::{Error, Result};

/// A finished step, as its line in the journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Done {
    step: String,
    verdict: String,
    output: PathBuf,
    sha256: String,
    file_bytes: u64,
    seconds: f64,
}

impl Done {
    /// A step that ended like this.
    pub(super) fn new(step: &Step, output: &Path, verdict: Verdict, seconds: f64) -> Result<Self> {
        Ok(Self {
            step: step.name.clone(),
            verdict: verdict.word().to_owned(),
            output: output.to_owned(),
            sha256: input::sha256(output)?,
            file_bytes: file_bytes(output),
            seconds,
        })
    }

    /// Did it miss a goal of its own?
    pub(super) fn failed(&self) -> bool {
        self.verdict != Verdict::Pass.word()
    }

    /// Its row in the table of steps.
    pub(super) fn row(&self) -> [String; 4] {
        let bytes = units::bytes(self.file_bytes);
        [self.step.clone(), self.verdict.clone(), format!("{:.1}", self.seconds), bytes]
    }
}

/// The journal of a run.
pub(super) struct Log {
    journal: Journal,
    done: Vec<Done>,
}

impl Log {
    /// Opens the folder, or begins it.
    ///
    /// # Errors
    /// `E0403` names what differs from the run that is there.
    pub(super) fn open(pipeline: &Pipeline, steps: &[Step]) -> Result<Self> {
        let (journal, entries) =
            Journal::open(&pipeline.folder, "recipe", &identity(pipeline, steps)?)?;
        let read = |entry: Value| {
            serde_json::from_value(entry).map_err(|error| {
                Error::invalid(format!("{}: {error}", pipeline.folder.display())).code_is("E0404")
            })
        };
        let done = entries.into_iter().map(read).collect::<Result<_>>()?;
        Ok(Self { journal, done })
    }

    /// What the journal says of a step, if what it made is still there.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn done(&self, step: &Step, output: &Path) -> Result<Option<Done>> {
        // The last line counts: a step whose file was removed has been run again.
        let Some(done) = self.done.iter().rfind(|done| done.step == step.name) else {
            return Ok(None);
        };
        let is_there = output.is_file() && input::sha256(output)? == done.sha256;
        Ok(is_there.then(|| done.clone()))
    }

    /// A step has ended.
    pub(super) fn add(&mut self, done: &Done) -> Result<()> {
        self.journal.append(&json!(done))
    }
}

/// What determines the result: flags of the steps, and what is in the files that they name.
fn identity(pipeline: &Pipeline, steps: &[Step]) -> Result<Map<String, Value>> {
    let mut identity = Map::new();
    identity.insert("version".into(), env!("CARGO_PKG_VERSION").into());
    identity.insert("model".into(), input::sha256(&pipeline.model)?.into());
    for step in steps {
        let mut files = Map::new();
        for (flag, path) in step.inputs() {
            files.insert(flag, input::fingerprint(&path)?.into());
        }
        let entry = json!({ "kind": step.kind, "flags": step.table(), "files": files });
        identity.insert(step.name.clone(), entry);
    }
    Ok(identity)
}
