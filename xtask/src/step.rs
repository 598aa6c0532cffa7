//! Named steps with their time.

use crate::workspace::cargo;
use anyhow::{Context, Result, bail};
use std::process::Command;
use std::time::{Duration, Instant};

/// Runs steps in order and remembers how long each took.
pub(crate) struct Steps<'a> {
    only: Option<&'a str>,
    times: Vec<(String, Duration)>,
}

impl<'a> Steps<'a> {
    /// `only` leaves out the steps whose name does not contain it.
    pub(crate) fn new(only: Option<&'a str>) -> Self {
        Self { only, times: Vec::new() }
    }

    /// One step.
    pub(crate) fn step(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.only.is_some_and(|only| !name.contains(only)) {
            return Ok(());
        }
        say(&format!("== {name}"));
        let start = Instant::now();
        work().with_context(|| format!("step `{name}`"))?;
        let time = start.elapsed();
        say(&format!("== {name}: {:.1} s", time.as_secs_f64()));
        self.times.push((name.to_owned(), time));
        Ok(())
    }

    /// The times of all steps.
    pub(crate) fn finish(self) -> Result<()> {
        if self.times.is_empty() {
            bail!("no step has `{}` in its name", self.only.unwrap_or_default());
        }
        let mut total = Duration::ZERO;
        for (name, time) in &self.times {
            say(&format!("{:>8.1} s  {name}", time.as_secs_f64()));
            total += *time;
        }
        say(&format!("{:>8.1} s  total", total.as_secs_f64()));
        Ok(())
    }
}

/// One line for whoever watches.
#[expect(clippy::print_stdout, reason = "a development task talks to its terminal")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Runs cargo with arguments separated by blanks.
pub(crate) fn run_cargo(arguments: &str) -> Result<()> {
    let mut command = cargo();
    command.args(arguments.split_whitespace());
    succeed(&mut command)
}

/// Runs a command that must succeed.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}
