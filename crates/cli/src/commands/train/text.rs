//! Plans and results of training, for people.

use super::super::model::file_name;
use super::distill::{DistillReport, TeacherReport};
use crate::table::Table;
use crate::units;
use std::path::Path;
use tensor_core::text::counted;
use tensor_core::train::{Keep, Params, Planned, Report};

/// What `--dry-run` shows.
pub(super) fn plan(model: &str, params: &Params, planned: &Planned) -> String {
    let mut text = heading(model, params, planned);
    if !planned.frozen.is_empty() {
        text.push_str(&format!("frozen  {}\n", planned.frozen.join(", ")));
    }
    text.push_str(
        "\nPlan  the model, the data and the labels fit; nothing was trained or written\n",
    );
    text
}

/// What a run shows.
pub(super) fn report(model: &str, output: &Path, report: &Report, params: &Params) -> String {
    let mut text = heading(&format!("{model} -> {}", output.display()), params, &report.planned);
    if let Some(step) = report.resumed_from {
        text.push_str(&format!("went on from step {step}\n"));
    }
    text.push('\n');
    let headings = [">step", ">train loss", ">train top-1", ">held-out loss", ">held-out top-1"];
    let mut table = Table::new(&headings);
    let percent = |share: Option<f64>| share.map_or("-".to_owned(), units::percent_fine);
    for point in &report.points {
        table.row([
            point.step.to_string(),
            format!("{:.4}", point.train_loss),
            percent(point.train_accuracy),
            point.evaluation.map_or("-".to_owned(), |score| format!("{:.4}", score.loss)),
            percent(point.evaluation.map(|score| score.accuracy)),
        ]);
    }
    text.push_str(&table.render());
    text.push('\n');
    if let Some(score) = report.kept.as_ref().and_then(|point| point.evaluation) {
        let which = match params.keep {
            Keep::Last => "last weights",
            Keep::Best => "best weights, chosen on these samples",
        };
        text.push_str(&format!(
            "top-1  {}  ({}, {which})\n",
            units::percent_fine(score.accuracy),
            counted(score.samples, "sample")
        ));
    }
    if let Some(speed) = report.samples_per_second {
        text.push_str(&format!("speed  {speed:.0} samples/s, evaluations included\n"));
    }
    if let Some(shared) = report.processes {
        let share = shared.seconds_in_sums / shared.seconds.max(f64::MIN_POSITIVE);
        text.push_str(&format!(
            "shared by {} processes, {} of the time in sums over them\n",
            shared.count,
            units::percent(share)
        ));
    }
    text
}

/// A line for each teacher.
pub(super) fn teachers(report: Option<&DistillReport>) -> String {
    let line = |report: &DistillReport, teacher: &TeacherReport| {
        let top1 = teacher
            .top1
            .map_or(String::new(), |top1| format!("top-1 {}, ", units::percent_fine(top1)));
        format!(
            "taught by {}  ({top1}{}, labels weigh {})\n",
            file_name(&teacher.path),
            report.loss(),
            report.hard_weight
        )
    };
    let lines = |report: &DistillReport| {
        report.teachers.iter().map(|teacher| line(report, teacher)).collect()
    };
    report.map_or(String::new(), lines)
}

fn heading(model: &str, params: &Params, planned: &Planned) -> String {
    let mut text = format!(
        "{model}\n{}, {} of {} ({} per epoch), {} trained\n",
        counted(planned.samples, "sample"),
        counted(planned.steps, "step"),
        params.batch.min(planned.samples),
        planned.steps_per_epoch,
        counted(planned.trained_values as u64, "value"),
    );
    if !planned.restored_norms.is_empty() {
        text.push_str(&format!(
            "BatchNormalization behind {} for the run, then folded away\n",
            counted(planned.restored_norms.len() as u64, "layer")
        ));
    }
    text
}
