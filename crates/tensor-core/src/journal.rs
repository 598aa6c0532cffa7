//! Run folders: an append-only journal of JSON lines, whose first line says what the run is.
//!
//! The first line holds the identity of the run: everything that determines its result. A run goes
//! on only with the same identity. Every further line is one finished unit of work; a torn last
//! line, as a killed process leaves it, is dropped.

use crate::files::write_whole;
use crate::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// What determines the result of a run: names and values, such as hashes of inputs.
pub type Identity = Map<String, Value>;

/// Schema of the first line.
pub const SCHEMA: &str = "kerf.journal/1";

/// An open journal. The run folder is locked for other processes as long as it lives.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    _lock: File,
}

impl Journal {
    /// Opens the journal of a run folder, or begins it, and returns the lines after the first.
    ///
    /// # Errors
    /// `E0403` when the folder holds a run with another identity, and says which entry differs;
    /// `E0404` when the journal is damaged; `E0410` when another process is at work in the folder;
    /// `E0003` when it cannot be written.
    pub fn open(folder: &Path, kind: &str, identity: &Identity) -> Result<(Self, Vec<Value>)> {
        fs::create_dir_all(folder).map_err(|error| Error::io(folder, &error))?;
        let lock = lock(folder)?;
        let path = folder.join("journal.jsonl");
        let entries = match fs::read_to_string(&path) {
            Ok(text) => {
                let (first, entries) = parse(&path, &text)?;
                compare(folder, kind, identity, &first)?;
                entries
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io(&path, &error)),
        };
        let first = json!({ "schema": SCHEMA, "kind": kind, "identity": identity });
        let file = rewrite(&path, &first, &entries)?;
        Ok((Self { path, file, _lock: lock }, entries))
    }

    /// Appends one line and hands it to the system.
    ///
    /// # Errors
    /// `E0003` when it cannot be written.
    pub fn append(&mut self, entry: &Value) -> Result<()> {
        let line = format!("{entry}\n");
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.flush());
        written.map_err(|error| Error::io(&self.path, &error))
    }

    /// Drops the lines for which `keep` is false, such as those after the last checkpoint.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn retain(&mut self, keep: impl Fn(&Value) -> bool) -> Result<()> {
        let text = fs::read_to_string(&self.path).map_err(|error| Error::io(&self.path, &error))?;
        let (first, mut entries) = parse(&self.path, &text)?;
        entries.retain(keep);
        self.file = rewrite(&self.path, &first, &entries)?;
        Ok(())
    }
}

/// A journal as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// What kind of run it is.
    pub kind: String,
    /// What determines its result.
    pub identity: Identity,
    /// The finished units of work.
    pub entries: Vec<Value>,
}

/// Reads the journal of a run folder without taking part in the run: nothing is locked or changed.
/// `None` when the folder has none.
///
/// # Errors
/// `E0404` when the journal is damaged, `E0003` when it cannot be read.
pub fn read(folder: &Path) -> Result<Option<Record>> {
    let path = folder.join("journal.jsonl");
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(&path, &error)),
    };
    let (first, entries) = parse(&path, &text)?;
    let kind = first["kind"].as_str().unwrap_or_default().to_owned();
    let identity = first["identity"].as_object().cloned().unwrap_or_default();
    Ok(Some(Record { kind, identity, entries }))
}

/// Locks a folder against other processes, until the file is closed or the process ends.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let file = File::create(&path).map_err(|error| Error::io(&path, &error))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let message = format!("another process is at work in {}", folder.display());
            Err(Error::new(ErrorKind::Invalid, "E0410", message)
                .hint("wait for it, or name another run folder"))
        }
        // Some network file systems have no locks.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Writes the whole journal through a file beside it and opens it for appending.
fn rewrite(path: &Path, first: &Value, entries: &[Value]) -> Result<File> {
    let mut text = format!("{first}\n");
    for entry in entries {
        text.push_str(&format!("{entry}\n"));
    }
    write_whole(path, |part| fs::write(part, &text))?;
    OpenOptions::new().append(true).open(path).map_err(|error| Error::io(path, &error))
}

fn parse(path: &Path, text: &str) -> Result<(Value, Vec<Value>)> {
    let damaged = |what: &str| {
        Error::new(ErrorKind::Invalid, "E0404", format!("{}: {what}", path.display()))
            .hint("name another run folder, or remove this one")
    };
    // A line without its end was being written when the process died.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut lines = whole.lines();
    let first: Value = lines
        .next()
        .and_then(|line| serde_json::from_str(line).ok())
        .ok_or_else(|| damaged("its first line is no JSON"))?;
    if first["schema"] != SCHEMA {
        return Err(damaged("is no journal of this version"));
    }
    let entry = |(i, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|_| damaged(&format!("line {} is no JSON", i + 2)))
    };
    let entries = lines.enumerate().map(entry).collect::<Result<_>>()?;
    Ok((first, entries))
}

/// Refuses to go on with another identity.
fn compare(folder: &Path, kind: &str, identity: &Identity, first: &Value) -> Result<()> {
    let other = |message: String| {
        Error::new(ErrorKind::Invalid, "E0403", format!("{}: {message}", folder.display())).hint(
            "a run goes on only with the same inputs and settings; name another run folder for a \
             new one",
        )
    };
    if first["kind"] != kind {
        return Err(other(format!("holds a run of another kind: {}", first["kind"])));
    }
    let empty = Map::new();
    let known = first["identity"].as_object().unwrap_or(&empty);
    match difference(known, identity) {
        None => Ok(()),
        Some((name, old, new)) => {
            Err(other(format!("the run was begun with `{name}` {old}, now it is {new}")))
        }
    }
}

/// The first entry that differs, within objects too: its name, and its old and new value.
fn difference(
    old: &Map<String, Value>,
    new: &Map<String, Value>,
) -> Option<(String, String, String)> {
    let show = |value: Option<&Value>| value.map_or("none".to_owned(), Value::to_string);
    old.keys().chain(new.keys()).find_map(|name| match (old.get(name), new.get(name)) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            difference(old, new).map(|(inner, old, new)| (format!("{name}.{inner}"), old, new))
        }
        (old, new) => (old != new).then(|| (name.clone(), show(old), show(new))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(batch: u64) -> Identity {
        json!({ "model": "ab", "training": { "rate": 0.1, "batch": batch } })
            .as_object()
            .cloned()
            .unwrap_or_default()
    }

    #[test]
    fn a_journal_goes_on_without_its_torn_line() {
        let folder = tempfile::tempdir().expect("folder");
        let (mut journal, entries) =
            Journal::open(folder.path(), "train", &identity(1)).expect("opened");
        assert!(entries.is_empty());
        for step in 0..3 {
            journal.append(&json!({ "step": step })).expect("appended");
        }
        let path = folder.path().join("journal.jsonl");
        let text = fs::read_to_string(&path).expect("read");
        fs::write(&path, format!("{text}{{\"step\": 3")).expect("written");
        let busy = Journal::open(folder.path(), "train", &identity(1)).expect_err("locked");
        assert_eq!(busy.code(), "E0410");
        let seen = read(folder.path()).expect("read").expect("a journal");
        assert_eq!((seen.kind.as_str(), seen.entries.len()), ("train", 3));
        assert_eq!(seen.identity, identity(1));
        drop(journal);
        let (mut journal, entries) =
            Journal::open(folder.path(), "train", &identity(1)).expect("opened again");
        assert_eq!(entries.len(), 3);
        assert_eq!(fs::read_to_string(&path).expect("read"), text);
        journal.retain(|entry| entry["step"].as_u64() < Some(2)).expect("cut");
        journal.append(&json!({ "step": 9 })).expect("appended");
        drop(journal);
        let (_, entries) = Journal::open(folder.path(), "train", &identity(1)).expect("opened");
        assert_eq!(entries, [json!({ "step": 0 }), json!({ "step": 1 }), json!({ "step": 9 })]);
    }

    #[test]
    fn another_run_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("folder");
        drop(Journal::open(folder.path(), "train", &identity(1)).expect("opened"));
        let error = Journal::open(folder.path(), "train", &identity(2)).expect_err("refused");
        assert_eq!(error.code(), "E0403");
        assert!(error.message().contains("`training.batch` 1, now it is 2"), "{error}");
        let error = Journal::open(folder.path(), "search", &identity(1)).expect_err("refused");
        assert_eq!(error.code(), "E0403");
        fs::write(folder.path().join("journal.jsonl"), "nonsense\n").expect("written");
        let error = Journal::open(folder.path(), "train", &identity(1)).expect_err("refused");
        assert_eq!(error.code(), "E0404");
    }
}
