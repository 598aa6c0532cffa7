//! One step: a command with all its arguments but those that depend on where it runs.

use super::flags;
use super::kind::{self, Made};
use super::{Recipe, Table, invalid};
use crate::app::{self, Finished};
use crate::args::Cli;
use crate::console::Console;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tensor_core::text::near;
use tensor_core::{Error, ErrorKind, Result};
use toml::Value;

/// What a step refers to by `@model`: the model that the recipe begins with.
const ORIGINAL: &str = "model";

/// A step whose keys are known to be flags of its command.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Its own name, or number and kind: `1-prune`. Its folder has this name.
    pub(crate) name: String,
    /// The command.
    pub(crate) kind: &'static str,
    /// What it makes.
    pub(crate) made: Made,
    /// Its flags, with those of `[data]` and the seed.
    table: Table,
}

/// Where a step runs.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// Its folder.
    pub(crate) folder: &'a Path,
    /// The model that it is given.
    pub(crate) model: &'a Path,
    /// The model that the recipe begins with.
    pub(crate) original: &'a Path,
    /// Names of earlier steps, and what they made.
    pub(crate) made: &'a [(String, PathBuf)],
    /// `--threads`.
    pub(crate) threads: Option<u16>,
}

/// A command line of a step.
#[derive(Debug)]
pub(crate) struct Call {
    /// From `kerf` on.
    pub(crate) arguments: Vec<OsString>,
    /// What it will write.
    pub(crate) output: PathBuf,
}

impl Call {
    /// Runs it.
    ///
    /// # Errors
    /// Those of the command.
    pub(crate) fn run(&self, console: &Console) -> Result<Finished> {
        // Steps were read before the first one ran.
        let (matches, cli) =
            Cli::read(&self.arguments).map_err(|error| Error::internal(error.to_string()))?;
        app::execute(cli.task(), &matches, &self.arguments, console)
    }
}

impl Step {
    /// Reads the `number`-th step of a recipe, behind those of `before`.
    pub(super) fn new(
        number: usize,
        table: &Table,
        recipe: &Recipe,
        before: &[Self],
    ) -> Result<Self> {
        let mut table = table.clone();
        let mut text = |key: &str| match table.remove(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(invalid(format!("step {number}: `{key}` is no text: {other}"))),
        };
        let named = text("name")?;
        let kind = text("kind")?.ok_or_else(|| invalid(format!("step {number} has no `kind`")))?;
        let kind = kind::find(&kind)?;
        let name = named.unwrap_or_else(|| format!("{number}-{}", kind.name));
        let name = check_name(name, before)?;
        let command = flags::command(kind.name)?;
        for (key, value) in &recipe.data {
            if flags::find(&command, key).is_some() {
                table.entry(key).or_insert_with(|| value.clone());
            }
        }
        let seed = i64::try_from(recipe.seed).map_err(|_| invalid("`seed` is too large".into()))?;
        table.entry("seed").or_insert(Value::Integer(seed));
        let step = Self { name, kind: kind.name, made: kind.made, table };
        step.check(before)?;
        Ok(step)
    }

    /// Refuses what the command would refuse, as if everything lay in this folder.
    fn check(&self, before: &[Self]) -> Result<()> {
        let made: Vec<_> =
            before.iter().map(|step| (step.name.clone(), PathBuf::from(&step.name))).collect();
        let here = Path::new("model.onnx");
        let place = Place {
            folder: Path::new(""),
            model: here,
            original: here,
            made: &made,
            threads: None,
        };
        let call = self.call(&place)?;
        let read = Cli::read(&call.arguments);
        let (_, cli) = read.map_err(|error| flags::refusal(&error, &self.title()))?;
        cli.task().check().map_err(|error| {
            let message = format!("{}: {}", self.title(), error.message());
            Error::new(ErrorKind::Invalid, "E0012", message)
                .hint(error.hint_text().unwrap_or("`kerf explain E0012` shows a recipe"))
        })
    }

    /// How errors name it.
    pub(crate) fn title(&self) -> String {
        format!("step `{}`", self.name)
    }

    /// The command line of this step at a place.
    ///
    /// # Errors
    /// `E0012` for a reference to a step that is not before this one.
    pub(crate) fn call(&self, place: &Place) -> Result<Call> {
        let command = flags::command(self.kind)?;
        let table = self.resolved(place)?;
        let given = flags::arguments(&command, &table, &self.title())?;
        let ending = match self.made {
            Made::Model => "onnx",
            Made::Other(ending) => ending,
        };
        let output = place.folder.join(format!("{}.{ending}", self.kind));
        let mut arguments: Vec<OsString> = vec!["kerf".into(), self.kind.into()];
        let model = command.get_arguments().find(|arg| arg.get_id() == "model");
        if let Some(long) = model.and_then(clap::Arg::get_long) {
            arguments.push(format!("--{long}").into());
        }
        arguments.extend([place.model.into(), "-o".into(), output.clone().into()]);
        let has = |flag: &str| command.get_arguments().any(|arg| arg.get_long() == Some(flag));
        if has("force") {
            arguments.push("--force".into());
        }
        if has("run") {
            arguments.extend(["--run".into(), place.folder.join("run").into()]);
        }
        if let Some(threads) = place.threads {
            arguments.extend(["--threads".into(), threads.to_string().into()]);
        }
        arguments.extend(given);
        Ok(Call { arguments, output })
    }

    /// Its flags with paths in the place of references.
    fn resolved(&self, place: &Place) -> Result<Table> {
        let mut table = self.table.clone();
        for (key, value) in &mut table {
            let values = match value {
                Value::Array(values) => values.iter_mut().collect(),
                value => vec![value],
            };
            for value in values {
                if let Value::String(text) = value
                    && let Some(name) = text.strip_prefix('@')
                {
                    *text = self.referred(name, key, place)?;
                }
            }
        }
        Ok(table)
    }

    fn referred(&self, name: &str, key: &str, place: &Place) -> Result<String> {
        let known = std::iter::once((ORIGINAL, place.original))
            .chain(place.made.iter().map(|(name, path)| (name.as_str(), path.as_path())));
        let found = known.clone().find(|(known, _)| *known == name);
        found.map(|(_, path)| path.display().to_string()).ok_or_else(|| {
            let near = near(name, known.map(|(name, _)| name));
            let message = format!("{}: `{key}` refers to no earlier step: `@{name}`", self.title());
            Error::new(ErrorKind::Invalid, "E0012", message)
                .hint(format!("what can be referred to, the nearest first: {near} (with `@`)"))
        })
    }

    /// Everything that its flags name and that exists, with the flag: what its result depends on.
    pub(crate) fn inputs(&self) -> Vec<(String, PathBuf)> {
        let mut inputs = Vec::new();
        for (key, value) in &self.table {
            let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            let paths = values.iter().filter_map(Value::as_str).map(PathBuf::from);
            inputs.extend(paths.filter(|path| path.exists()).map(|path| (key.clone(), path)));
        }
        inputs
    }

    /// Its flags.
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }
}

/// A name becomes that of a folder, and what follows an `@`.
fn check_name(name: String, before: &[Step]) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let refused = |why: &str| {
        let error = Error::new(ErrorKind::Invalid, "E0012", format!("step `{name}`: {why}"));
        Err(error.hint("letters, digits, `-` and `_`; `@NAME` then refers to what it made"))
    };
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        return refused("no name for a step");
    }
    if name == ORIGINAL || before.iter().any(|step| step.name == name) {
        return refused("the name is taken");
    }
    Ok(name)
}
