//! `kerf schedule`: sparsity over a run, as a table, a drawing and numbers.

mod plot;

use super::{Context, Outcome, Task};
use crate::args::{RiseArgs, Shared};
use crate::output::Target;
use crate::table::Table;
use crate::units;
use clap::Args;
use magnitude_schedule::Schedule;
use magnitude_schedule::train::SparseParams;
use serde::Serialize;
use serde_json::json;
use std::path::PathBuf;
use tensor_core::text::counted;
use tensor_core::train::Outline;
use tensor_core::{Error, Result, files};

/// Arguments of `kerf schedule`; those of the schedule are those of `kerf train`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct ScheduleArgs {
    /// The final share of zeros, such as `80%`
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_sparsity)]
    sparsity: f64,
    #[command(flatten)]
    #[serde(flatten)]
    rise: RiseArgs,
    /// Optimizer steps of the run
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    steps: u64,
    /// Steps per pass over the data, for epochs [default: one pass]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    steps_per_epoch: Option<u64>,
    /// Where the drawing (SVG) goes
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where the numbers go: step and sparsity at each update
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Replace existing files
    #[arg(long)]
    #[serde(skip)]
    force: bool,
    #[command(flatten)]
    #[serde(flatten)]
    shared: Shared,
}

/// Most updates that are listed: a drawing shows no more.
const MOST_UPDATES: u64 = 100_000;

impl Task for ScheduleArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn outputs(&self) -> Vec<Target<'_>> {
        let force = self.force;
        let files = self.output.iter().chain(&self.csv);
        files.map(|path| Target::File { path, force }).collect()
    }

    fn run(&self, cx: &Context) -> Result<Outcome> {
        let params = SparseParams { sparsity: Some(self.sparsity), ..self.rise.params() };
        let per_epoch = self.steps_per_epoch.unwrap_or(self.steps);
        // The learning rate of the run is not known here, so nothing is said about it.
        let outline = Outline::new(self.steps, per_epoch, &|_| 1.0);
        let schedule = params
            .schedule(&outline)?
            .ok_or_else(|| Error::internal("a sparsity without a schedule"))?;
        for warning in SparseParams::warnings(&schedule, &outline) {
            cx.console.warn(&warning);
        }
        let interval = schedule.interval();
        if (interval.end() - interval.begin()) / interval.frequency() > MOST_UPDATES {
            return Err(Error::invalid(format!("more than {MOST_UPDATES} updates"))
                .code_is("E0430")
                .hint("update less often"));
        }
        let points = points(&schedule, self.steps);
        if let Some(path) = &self.csv {
            let rows = points.iter().map(|(step, sparsity)| format!("{step},{sparsity:.9}\n"));
            let text = std::iter::once("step,sparsity\n".to_owned()).chain(rows);
            let text: String = text.collect();
            files::write_whole(path, |part| std::fs::write(part, &text))?;
        }
        if let Some(path) = &self.output {
            let drawing = plot::svg(&schedule, &points, self.steps)?;
            files::write_whole(path, |part| std::fs::write(part, &drawing))?;
        }
        let updates = interval.updates().count();
        let points: Vec<_> = points
            .iter()
            .map(|(step, sparsity)| json!({ "step": step, "sparsity": sparsity }))
            .collect();
        let result = json!({ "schedule": schedule, "updates": updates, "points": points });
        Ok(Outcome::answer(self.text(&schedule, updates), result))
    }
}

impl ScheduleArgs {
    /// Sparsity at every tenth of the run.
    fn text(&self, schedule: &Schedule, updates: usize) -> String {
        let interval = schedule.interval();
        let mut text = format!(
            "{} to {}, {} from step {} to {}\n\n",
            schedule.shape(),
            units::percent(self.sparsity),
            counted(updates, "update"),
            interval.begin(),
            interval.end()
        );
        let mut table = Table::new(&[">step", ">of the run", ">sparsity"]);
        for tenth in 0..=10_u64 {
            let step = u128::from(self.steps) * u128::from(tenth) / 10;
            let step = u64::try_from(step).unwrap_or(self.steps);
            table.row([
                step.to_string(),
                format!("{}%", tenth * 10),
                units::percent(schedule.sparsity(step)),
            ]);
        }
        text.push_str(&table.render());
        text
    }
}

/// Step and sparsity at the begin of the run, at each update within it, and at its end.
fn points(schedule: &Schedule, steps: u64) -> Vec<(u64, f64)> {
    let updates = schedule.interval().updates().filter(|&step| step > 0 && step < steps);
    let steps = std::iter::once(0).chain(updates).chain([steps]);
    steps.map(|step| (step, schedule.sparsity(step))).collect()
}
