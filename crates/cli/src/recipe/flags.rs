//! From keys and values to the flags of a command.

use super::{Table, invalid, kind};
use crate::args::Cli;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use std::ffi::{OsStr, OsString};
use tensor_core::text::near;
use tensor_core::{Error, ErrorKind, Result};
use toml::Value;

/// Flags that say how a command is run and not what it makes: the run of the recipe decides.
const OF_THE_RUN: [&str; 12] = [
    "help",
    "output",
    "force",
    "run",
    "report",
    "json",
    "verbose",
    "quiet",
    "color",
    "no-progress",
    "dry-run",
    "threads",
];

/// The command of a step.
pub(super) fn command(kind: &str) -> Result<Command> {
    let parser = Cli::parser();
    let found = parser.find_subcommand(kind).cloned();
    found.ok_or_else(|| Error::internal(format!("no command `{kind}`")))
}

/// Does the command have this flag, and may a recipe set it?
pub(super) fn find<'c>(command: &'c Command, key: &str) -> Option<&'c Arg> {
    let flag = key.replace('_', "-");
    // A model that is a flag, as the student of a distillation, is what the step before made.
    let may = |arg: &&Arg| {
        arg.get_id() != "model" && !OF_THE_RUN.contains(&arg.get_long().unwrap_or("help"))
    };
    command.get_arguments().filter(may).find(|arg| arg.get_long() == Some(flag.as_str()))
}

/// Refuses keys of `[data]` that no step could have.
pub(super) fn check_data(data: &Table) -> Result<()> {
    let commands = kind::all().map(|kind| command(kind.name)).collect::<Result<Vec<_>>>()?;
    for key in data.keys() {
        if !commands.iter().any(|command| find(command, key).is_some()) {
            let known = commands.iter().flat_map(keys).collect::<Vec<_>>();
            return Err(unknown(&format!("data.{key}"), key, &known));
        }
    }
    Ok(())
}

/// The keys that a command takes.
fn keys(command: &Command) -> Vec<String> {
    let longs = command.get_arguments().filter_map(Arg::get_long);
    longs.filter(|flag| find(command, flag).is_some()).map(|flag| flag.replace('-', "_")).collect()
}

/// A key that no flag has.
fn unknown(place: &str, key: &str, known: &[String]) -> Error {
    // Not as code, which hints turn into flags.
    let near = near(key, known.iter().map(String::as_str)).replace('`', "\"");
    Error::new(ErrorKind::Invalid, "E0011", format!("unknown key: `{place}`"))
        .hint(format!("the nearest keys are {near}"))
}

/// The arguments that a table stands for. `place` names the table in errors.
///
/// # Errors
/// `E0011` for a key that is no flag, `E0012` for a value that none takes.
pub(super) fn arguments(command: &Command, table: &Table, place: &str) -> Result<Vec<OsString>> {
    let mut arguments = Vec::new();
    for (key, value) in table {
        let Some(arg) = find(command, key) else {
            return Err(unknown(&format!("{place}.{key}"), key, &keys(command)));
        };
        let flag = arg.get_long().unwrap_or_default();
        let takes_value = arg.get_action().takes_values();
        match value {
            Value::Boolean(given) if !takes_value => {
                if *given {
                    arguments.push(format!("--{flag}").into());
                }
            }
            Value::Array(values) if takes_value => {
                for value in values {
                    arguments.push(argument(flag, value, place, key)?);
                }
            }
            value if takes_value => arguments.push(argument(flag, value, place, key)?),
            _ => return Err(invalid(format!("`{place}.{key}` is true or false"))),
        }
    }
    Ok(arguments)
}

fn argument(flag: &str, value: &Value, place: &str, key: &str) -> Result<OsString> {
    let value = match value {
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        _ => return Err(invalid(format!("`{place}.{key}` is no text and no number: {value}"))),
    };
    // In one piece, as values may begin with a hyphen.
    Ok(format!("--{flag}={value}").into())
}

/// The flags of a sub-command that were given on the command line, as a table.
pub(crate) fn given(matches: &ArgMatches) -> Table {
    let Some((name, matches)) = matches.subcommand() else { return Table::new() };
    let Ok(command) = command(name) else { return Table::new() };
    let mut table = Table::new();
    for arg in command.get_arguments() {
        let Some(flag) = arg.get_long().filter(|flag| find(&command, flag).is_some()) else {
            continue;
        };
        let id = arg.get_id().as_str();
        if matches.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        let value = match arg.get_action().takes_values() {
            false => Value::Boolean(true),
            true => {
                let values = matches.get_raw(id).into_iter().flatten();
                let text = |value: &OsStr| Value::String(value.to_string_lossy().into_owned());
                let mut values: Vec<Value> = values.map(text).collect();
                match values.len() {
                    1 => values.remove(0),
                    _ => Value::Array(values),
                }
            }
        };
        table.insert(flag.replace('-', "_"), value);
    }
    table
}

/// Those keys of a table that are flags of a struct.
pub(crate) fn flags_of<T: Args>(table: &Table) -> Table {
    let command = T::augment_args(Command::new("kerf"));
    let known = table.iter().filter(|(key, _)| find(&command, key).is_some());
    known.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// What a table says as a struct of flags.
///
/// # Errors
/// As the flags would on the command line, with the table's name.
pub(crate) fn parsed<T: Args + FromArgMatches>(table: &Table, place: &str) -> Result<T> {
    let command = T::augment_args(Command::new("kerf").no_binary_name(true));
    let arguments = arguments(&command, table, place)?;
    let refused = |error: &clap::Error| refusal(error, place);
    let matches = command.try_get_matches_from(arguments).map_err(|error| refused(&error))?;
    T::from_arg_matches(&matches).map_err(|error| refused(&error))
}

/// What clap says of a table.
pub(super) fn refusal(error: &clap::Error, place: &str) -> Error {
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().take_while(|line| !line.starts_with("Usage")).collect();
    let message = lines.join("\n");
    let message = message.trim().trim_start_matches("error: ").to_owned();
    invalid(format!("{place}: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: &str, text: &str) -> Result<Vec<OsString>> {
        let table: Table = toml::from_str(text).expect("TOML");
        arguments(&command(kind).expect("command"), &table, "step 1")
    }

    #[test]
    fn keys_are_flags() {
        let found = of("finetune", "lr = 0.1\nepochs = 3\nflip = true\nfreeze = ['a', 'b']");
        let expected = ["--lr=0.1", "--epochs=3", "--flip", "--freeze=a", "--freeze=b"];
        let mut found = found.expect("arguments");
        found.sort();
        let mut expected = expected.map(OsString::from);
        expected.sort();
        assert_eq!(found, expected);
        assert_eq!(of("finetune", "flip = false").expect("arguments"), Vec::<OsString>::new());
    }

    #[test]
    fn wrong_keys_and_values_are_named() {
        for (kind, text, code, part) in [
            ("prune", "mac = '50%'", "E0011", "`step 1.mac`"),
            ("prune", "output = 'x'", "E0011", "`step 1.output`"),
            ("distill", "student = 'x'", "E0011", "`step 1.student`"),
            ("finetune", "flip = 'yes'", "E0012", "`step 1.flip`"),
            ("finetune", "lr = { a = 1 }", "E0012", "`step 1.lr`"),
        ] {
            let error = of(kind, text).expect_err(text);
            assert_eq!(error.code(), code, "{text}");
            assert!(error.message().contains(part), "{error}");
        }
        let error = of("prune", "mac = '50%'").expect_err("unknown");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("\"macs\"")), "{error}");
    }
}
