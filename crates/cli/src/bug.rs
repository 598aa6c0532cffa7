//! A panic is a bug: it gets a message that can be reported, and exit code 3.

use crate::console::Exit;
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

/// Runs the program; a panic on any thread that reaches it ends with [`Exit::Bug`].
pub(crate) fn guard(run: impl FnOnce() -> ExitCode) -> ExitCode {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let message = info.payload_as_str().unwrap_or("no message");
        // Nobody is left to tell when stderr is gone.
        let _ = std::io::stderr().write_all(report(message, &place).as_bytes());
    }));
    panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Exit::Bug.into())
}

fn report(message: &str, place: &str) -> String {
    let command: Vec<_> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    format!(
        "error[E0900]: this is a bug in kerf: {message}\n  at {place}\n  kerf {}\n  command: {}\n\n\
         hint: please report these lines, with the model if you can share it; \
         `kerf explain E0900` says what else helps\n",
        env!("CARGO_PKG_VERSION"),
        command.join(" "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_names_version_command_and_place() {
        let text = report("index out of bounds", "a.rs:1:2");
        assert!(text.starts_with("error[E0900]: this is a bug in kerf: index out of bounds\n"));
        assert!(text.contains("at a.rs:1:2"));
        assert!(text.contains(concat!("kerf ", env!("CARGO_PKG_VERSION"))));
        assert!(text.contains("command: "));
    }
}
