//! The two streams, colours, verbosity, and exit codes.
//!
//! Results go to stdout, everything else to stderr.

use crate::args::{ColorChoice, Shared};
use crate::commands::Verdict;
use crate::flags::in_flags;
use crate::processes;
use serde_json::{Value, json};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use tensor_core::{Error, ErrorKind};

/// Exit codes, the same for every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, and every stated goal met.
    Success = 0,
    /// Ran correctly; a goal or a check was not met.
    Failed = 1,
    /// Could not run: usage, unreadable or unsupported model, missing data.
    CannotRun = 2,
    /// A bug.
    Bug = 3,
    /// Stopped by Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<Verdict> for Exit {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::Success,
            Verdict::Fail => Self::Failed,
        }
    }
}

impl Exit {
    /// The exit code of an error.
    pub(crate) fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Infeasible => Self::Failed,
            ErrorKind::Interrupted => Self::Interrupted,
            ErrorKind::Internal => Self::Bug,
            _ => Self::CannotRun,
        }
    }
}

/// Writes a result to stdout. A reader that went away is not an error.
pub(crate) fn write_stdout(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io("standard output".as_ref(), &error))
        }
        _ => Ok(()),
    }
}

/// Where messages go, and which of them.
#[derive(Debug)]
pub(crate) struct Console {
    /// `-v` count minus `-q` count.
    level: i16,
    color: bool,
    warnings: Mutex<Vec<String>>,
}

impl Console {
    /// As the flags and the environment say.
    pub(crate) fn new(shared: &Shared) -> Self {
        let color = match shared.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                io::stderr().is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                    && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        };
        // Of several processes one speaks.
        let level = match processes::is_first() {
            true => i16::from(shared.verbose) - i16::from(shared.quiet),
            false => i16::MIN,
        };
        Self { level, color, warnings: Mutex::default() }
    }

    /// Are details wanted (`-v`)?
    pub(crate) fn is_verbose(&self) -> bool {
        self.level > 0
    }

    /// Are only errors wanted (`-q`)?
    pub(crate) fn is_quiet(&self) -> bool {
        self.level < 0
    }

    /// A detail, shown with `-v`.
    pub(crate) fn detail(&self, message: &str) {
        if self.is_verbose() {
            self.line("", "", message);
        }
    }

    /// A note that belongs to a result but is not part of it, such as where a file went.
    pub(crate) fn note(&self, message: &str) {
        if !self.is_quiet() {
            self.line("", "", message);
        }
    }

    /// Something wrong that does not stop the work. It also becomes part of the JSON document.
    /// What was said already is not said again.
    pub(crate) fn warn(&self, message: &str) {
        let Ok(mut warnings) = self.warnings.lock() else { return };
        if warnings.iter().any(|known| known == message) {
            return;
        }
        warnings.push(message.to_owned());
        if !self.is_quiet() {
            self.line("33", "warning: ", message);
        }
    }

    /// What to do next.
    pub(crate) fn hint(&self, message: &str) {
        if !self.is_quiet() {
            self.line("36", "\nhint: ", message);
        }
    }

    /// All warnings so far.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.lock().map(|warnings| warnings.clone()).unwrap_or_default()
    }

    /// An error, with its hint after a blank line.
    pub(crate) fn error(&self, error: &Error) {
        let text = error.to_string().replace('\n', "\n  ");
        self.line("31", &format!("error[{}]: ", error.code()), &text);
        if let Some(hint) = error.hint_text() {
            self.line("36", "\nhint: ", &in_flags(hint));
        }
    }

    /// Paints only the label: colours repeat what the words say.
    fn line(&self, color: &str, label: &str, message: &str) {
        let message = printable(message);
        let line = if self.color && !label.is_empty() {
            format!("\x1b[1;{color}m{label}\x1b[0m{message}\n")
        } else {
            format!("{label}{message}\n")
        };
        // Nobody is left to tell when stderr is gone.
        let _ = io::stderr().lock().write_all(line.as_bytes());
    }
}

/// Without control characters but line breaks: names in a model could steer the terminal.
pub(crate) fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(shown).collect()
}

/// The JSON form of an error.
pub(crate) fn error_document(error: &Error) -> Value {
    json!({
        "schema": "kerf.error/1",
        "tool": crate::app::tool(),
        "error": {
            "code": error.code(),
            "message": error.message(),
            "node": error.node(),
            "hint": error.hint_text().map(in_flags),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\r\nc\té"), "a\u{fffd}[2Jb\u{fffd}\nc\u{fffd}é");
    }
}
