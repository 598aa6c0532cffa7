//! What `kerf compress` found, for people.

use super::CompressArgs;
use super::trial::Trial;
use crate::table::Table;
use crate::units;
use std::path::Path;

/// The trials, the result, and how to repeat it.
pub(super) fn report(
    args: &CompressArgs,
    output: &Path,
    folder: &Path,
    trials: &[Trial],
    best: &Trial,
    replay: &str,
) -> String {
    let mut table =
        Table::new(&["trial", ">file", ">latency", ">MACs", ">lost", ">seconds", "goals", "why"]);
    for trial in trials {
        let share = |pair: Option<(f64, f64)>| {
            pair.map_or("-".to_owned(), |(before, after)| units::percent(after / before))
        };
        let float = |(before, after): (u64, u64)| (before as f64, after as f64);
        let measured = trial.measured.as_ref();
        let goals = match (&trial.error, trial.meets()) {
            (Some(_), _) => "not made",
            (None, true) => "met",
            (None, false) => "not met",
        };
        table.row([
            trial.variant.name(),
            share(measured.map(|m| float(m.weighed.file_bytes))),
            share(measured.and_then(|m| m.weighed.latency_us)),
            share(measured.map(|m| float(m.weighed.macs))),
            measured.map_or("-".to_owned(), |_| format!("{:.2}", 100.0 * trial.lost())),
            format!("{:.1}", trial.seconds),
            goals.to_owned(),
            trial.why.clone(),
        ]);
    }
    let mut text = format!(
        "{} -> {}\n\n{}\nShares are of the original's. Lost are {}.\n\nbest   {}\n",
        args.model.display(),
        output.display(),
        table.render(),
        lost(best),
        best.variant.name()
    );
    for trial in trials {
        if let Some(error) = &trial.error {
            text.push_str(&format!("not made  {}: {error}\n", trial.variant.name()));
        }
    }
    for failure in best.measured.iter().flat_map(|measured| &measured.failures) {
        text.push_str(&format!("not met  {failure}\n"));
    }
    let repeat = folder.join("recipe.toml");
    text.push_str(&format!("repeat kerf run {}\nreplay {replay}\n", repeat.display()));
    text
}

/// What is counted as lost.
fn lost(best: &Trial) -> &'static str {
    match best.measured.as_ref().and_then(|measured| measured.accuracy) {
        Some(_) => "points of top-1 accuracy",
        None => "samples in a hundred for which the result names another class",
    }
}
