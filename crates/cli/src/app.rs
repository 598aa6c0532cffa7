//! From arguments to exit code.

use crate::args::Cli;
use crate::commands::{Context, Outcome, Task, Verdict};
use crate::console::{Console, Exit, error_document, printable, write_stdout};
use crate::progress::Reporter;
use crate::{input, interrupt, output, processes, recipe, resume, shell, threads};
use clap::ArgMatches;
use clap::parser::ValueSource;
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tensor_core::{Error, ErrorKind, Result, files};

/// Name and version, as JSON documents carry them.
pub(crate) fn tool() -> Value {
    json!({ "name": "kerf", "version": env!("CARGO_PKG_VERSION") })
}

/// Runs the command line.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    let wants_json = arguments.iter().any(|argument| argument == "--json");
    let (matches, cli) = match Cli::read(&arguments) {
        Ok(parsed) => parsed,
        Err(error) => return usage(&error, wants_json).into(),
    };
    let task = cli.task();
    let console = Console::new(task.shared());
    interrupt::install();
    let done = execute(task, &matches, &arguments, &console);
    let exit = match &done {
        Ok(done) if !processes::is_first() => done.verdict.into(),
        Ok(done) => {
            let text = if task.shared().json { &done.document } else { &done.text };
            match write_stdout(text) {
                Ok(()) => {
                    if let Some(hint) = &done.hint {
                        console.hint(hint);
                    }
                    done.verdict.into()
                }
                Err(error) => fail(&error, &console, false),
            }
        }
        Err(error) if !processes::is_to_tell() => Exit::of(error),
        Err(error) => fail(error, &console, task.shared().json),
    };
    // After an error the others may be waiting for this process: they end with it, not before it.
    if done.is_ok() {
        processes::leave();
    }
    exit.into()
}

/// Reports an error on stderr and, in JSON mode, on stdout.
fn fail(error: &Error, console: &Console, as_json: bool) -> Exit {
    console.error(error);
    if as_json
        && processes::is_first()
        && let Err(second) = write_stdout(&document_text(&error_document(error)))
    {
        console.error(&second);
    }
    Exit::of(error)
}

/// Help and version go to stdout; everything else is a usage error.
fn usage(error: &clap::Error, wants_json: bool) -> Exit {
    if !processes::is_first() {
        return if error.use_stderr() { Exit::CannotRun } else { Exit::Success };
    }
    let text = error.render();
    if !error.use_stderr() {
        return match write_stdout(&text.to_string()) {
            Ok(()) => Exit::Success,
            Err(_) => Exit::CannotRun,
        };
    }
    // Clap's own text, which names the argument and suggests the nearest one.
    let _ = error.print();
    if wants_json {
        let text = text.to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let error = Error::new(ErrorKind::Invalid, "E0010", message)
            .hint("`kerf --help` and `kerf COMMAND --help` list what is known");
        // The exit code says the same, whether or not this can be written.
        let _ = write_stdout(&document_text(&error_document(&error)));
    }
    Exit::CannotRun
}

/// Arguments that name where results go.
const RESULTS: [&str; 3] = ["output", "report", "csv"];

/// Every file that the command line names apart from results: none of them may be overwritten.
fn named_files(matches: &ArgMatches) -> Vec<PathBuf> {
    let Some((_, matches)) = matches.subcommand() else { return Vec::new() };
    let mut files = Vec::new();
    for id in matches.ids().filter(|id| !RESULTS.contains(&id.as_str())) {
        // Groups of arguments have no values of their own.
        let values = matches.try_get_raw(id.as_str()).ok().flatten();
        files.extend(values.into_iter().flatten().map(PathBuf::from).filter(|p| p.is_file()));
    }
    files
}

/// A task that has been run.
pub(crate) struct Finished {
    /// The JSON document.
    pub(crate) document: String,
    /// For people.
    pub(crate) text: String,
    /// Was the goal met?
    pub(crate) verdict: Verdict,
    /// What to do next.
    hint: Option<String>,
}

/// Runs a task: checks outputs, works, makes the document, writes the report.
///
/// # Errors
/// Whatever keeps it from being done.
pub(crate) fn execute(
    task: &dyn Task,
    matches: &ArgMatches,
    arguments: &[OsString],
    console: &Console,
) -> Result<Finished> {
    let replay = shell::replay(arguments);
    let shared = task.shared();
    let name = matches.subcommand_name().unwrap_or_default();
    threads::set(shared.threads)?;
    let group = processes::join(task, name)?;
    let inputs: Vec<&Path> = task.model().into_iter().chain(task.other_model()).collect();
    let named = named_files(matches);
    let read: Vec<&Path> = named.iter().map(PathBuf::as_path).collect();
    let report = shared.report.as_deref().filter(|_| !shared.dry_run);
    if group.is_first() {
        output::check_apart(&task.outputs())?;
        for target in task.outputs().into_iter().chain(report.map(output::Target::Folder)) {
            output::check(target, &read)?;
        }
    }
    let identities = inputs.iter().map(|path| identity(path)).collect::<Result<Vec<_>>>()?;
    let progress = Reporter::new(console, shared.no_progress);
    if let Some(folder) = task.run_folder().filter(|_| !shared.dry_run && group.is_first()) {
        resume::remember(folder, arguments)?;
    }
    let given = recipe::given(matches);
    let is_first = group.is_first();
    let cx = Context { console, progress, replay: replay.clone(), arguments, given, group };
    let sources = sources(matches, &task.settings());
    let outcome = match shared.dry_run && !task.plans() {
        true => dry_run(name, task, &sources),
        false => task.run(&cx)?,
    };
    drop(cx);
    if !is_first {
        let (document, text) = (String::new(), String::new());
        return Ok(Finished { document, text, verdict: outcome.verdict, hint: None });
    }
    let mut document = head(name);
    for (name, identity) in ["input", "against"].into_iter().zip(identities) {
        document.insert(name.into(), identity);
    }
    document.insert("command".into(), json!(replay));
    document.insert("settings".into(), task.settings());
    if shared.dry_run {
        document.insert("settings_from".into(), sources);
    }
    document.insert("verdict".into(), json!(outcome.verdict.word()));
    document.insert("warnings".into(), json!(console.warnings()));
    document.insert("result".into(), outcome.result);
    let document = document_text(&Value::Object(document));
    let own = task.run_folder().map(Path::to_owned).or(outcome.folder);
    if let Some(folder) = own.filter(|folder| !shared.dry_run && report != Some(folder)) {
        write_report(&folder, &document)?;
    }
    if let Some(folder) = report {
        let path = write_report(folder, &document)?;
        console.note(&format!("report: {}", path.display()));
    }
    let text = if outcome.is_painted { outcome.text } else { printable(&outcome.text) };
    Ok(Finished { document, text, verdict: outcome.verdict, hint: outcome.hint })
}

/// How every document begins.
fn head(command: &str) -> Map<String, Value> {
    let mut document = Map::new();
    document.insert("schema".into(), json!(format!("kerf.{command}/1")));
    document.insert("tool".into(), tool());
    document
}

/// The document of a recipe that was run as a part of something else.
pub(crate) fn recipe_document(model: &Path, command: &str, outcome: &Outcome) -> Result<String> {
    let mut document = head("run");
    document.insert("input".into(), identity(model)?);
    document.insert("command".into(), json!(command));
    document.insert("verdict".into(), json!(outcome.verdict.word()));
    document.insert("result".into(), outcome.result.clone());
    Ok(document_text(&Value::Object(document)))
}

/// Keeps a document where `kerf report` finds it.
///
/// # Errors
/// `E0003` when it cannot be written.
pub(crate) fn write_report(folder: &Path, document: &str) -> Result<PathBuf> {
    let path = folder.join("report.json");
    files::write_whole(&path, |part| std::fs::write(part, document))?;
    Ok(path)
}

/// Path and hash of an input.
fn identity(path: &Path) -> Result<Value> {
    Ok(json!({ "path": path, "sha256": input::sha256(path)? }))
}

fn document_text(document: &Value) -> String {
    format!("{document:#}\n")
}

/// The settings and where each came from, without running anything.
fn dry_run(name: &str, task: &dyn Task, sources: &Value) -> Outcome {
    let mut text = format!("kerf {name} would run with\n");
    for (name, value) in task.settings().as_object().into_iter().flatten() {
        let source = sources.get(name).and_then(Value::as_str).unwrap_or("default");
        text.push_str(&format!("  {name} = {value}  ({source})\n"));
    }
    Outcome::answer(text, json!({ "dry_run": true }))
}

/// Where each setting came from.
fn sources(matches: &ArgMatches, settings: &Value) -> Value {
    let matches = matches.subcommand().map(|(_, matches)| matches);
    let source = |id: &str| match matches.and_then(|matches| matches.value_source(id)) {
        Some(ValueSource::CommandLine) => "flag",
        Some(ValueSource::EnvVariable) => "environment",
        _ => "default",
    };
    let names = settings.as_object().into_iter().flatten().map(|(name, _)| name);
    Value::Object(names.map(|name| (name.clone(), json!(source(name)))).collect())
}
