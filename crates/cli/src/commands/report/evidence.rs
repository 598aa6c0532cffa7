//! What a run left behind: its documents, its journals, and the models that it names.

use super::models::Sought;
use super::reader::Reader;
use super::trials;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use tensor_core::journal::Record;
use tensor_core::{Error, Result};

/// Everything that parts are made of.
#[derive(Debug)]
pub(super) struct Evidence {
    /// The document of the run itself, then those of what it is made of, in order.
    pub(super) documents: Vec<Document>,
    /// Journals, with the step that they belong to.
    pub(super) records: Vec<(Option<String>, Record)>,
    /// Sensitivities of layers that were measured for a search.
    pub(super) sensitivities: Option<Value>,
    /// Name of the best trial of a search for a model.
    pub(super) best: Option<String>,
    /// The command line.
    pub(super) command: Option<String>,
    /// The model that the run began with.
    pub(super) before: Sought,
    /// The model that it made.
    pub(super) after: Sought,
    /// Files that were read, none of which may be overwritten.
    pub(super) files: Vec<PathBuf>,
}

/// A JSON document of a command.
#[derive(Debug)]
pub(super) struct Document {
    /// The step that it is of; `None` for the run itself.
    pub(super) step: Option<String>,
    /// The document.
    pub(super) value: Value,
}

impl Document {
    /// The command that wrote it.
    pub(super) fn command(&self) -> &str {
        let schema = self.value["schema"].as_str().unwrap_or_default();
        schema.trim_start_matches("kerf.").split('/').next().unwrap_or_default()
    }

    /// What the command found, under a key.
    pub(super) fn result(&self, key: &str) -> Option<&Value> {
        Some(&self.value["result"][key]).filter(|value| !value.is_null())
    }
}

impl Evidence {
    /// Reads a run folder, or a single document.
    ///
    /// # Errors
    /// `E0610` when there is no run, `E0611` when a document is none of kerf's, `E0404` when a journal is
    /// damaged, `E0003` when something cannot be read.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let mut reader = Reader::default();
        match fs::metadata(path).map_err(|error| Error::io(path, &error))?.is_dir() {
            true => reader.folder(path, None)?,
            false => reader.document(path, None)?,
        }
        reader.finish(path)
    }

    /// The document of the run itself, where it has ended.
    pub(super) fn outer(&self) -> Option<&Document> {
        self.documents.first().filter(|document| document.step.is_none())
    }

    /// The document that says what became of the whole: that of the run, or of its best trial, or of the
    /// last step so far.
    pub(super) fn judged(&self) -> Option<&Document> {
        let has_sizes = |document: &&Document| document.result("sizes").is_some();
        let first = self.documents.first().filter(has_sizes);
        let trial = self.documents.get(1).filter(|document| {
            self.best.is_some() && document.step == self.best && has_sizes(document)
        });
        first
            .or(trial)
            .or_else(|| self.documents.iter().rfind(has_sizes))
            .or(self.documents.first())
    }

    /// What the documents have under a key of their results.
    pub(super) fn results<'a>(
        &'a self,
        key: &'a str,
    ) -> impl Iterator<Item = (&'a Document, &'a Value)> {
        self.documents.iter().filter_map(move |document| Some((document, document.result(key)?)))
    }

    /// The trials of a search for a model, as its document or its journal has them.
    pub(super) fn trials(&self) -> Vec<&Value> {
        let of_document = self.outer().and_then(|outer| outer.result("trials")?.as_array());
        let of_journal = self.records.first().filter(|(_, record)| record.kind == trials::KIND);
        match (of_document, of_journal) {
            (Some(trials), _) if self.best.is_some() => trials.iter().collect(),
            (_, Some((_, record))) => {
                record.entries.iter().filter(|entry| entry["variant"].is_object()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Journals of training runs, with the step.
    pub(super) fn trainings(&self) -> impl Iterator<Item = (Option<&str>, &Record)> {
        let own = self.records.iter().filter(|(_, record)| record.kind == "train");
        own.map(|(step, record)| (step.as_deref(), record))
    }
}
