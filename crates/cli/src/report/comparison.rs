//! How close the outputs of two models are.

use crate::table::Table;
use crate::units;
use tensor_core::measure::compare::{Comparison, OutputComparison};
use tensor_core::text::counted;

/// One row per output, then agreement and accuracy where the output is a list of class scores.
pub(crate) fn comparison(comparison: &Comparison) -> String {
    let headings = ["output", ">max abs", ">of range", ">RMSE", ">cosine", ">SQNR", ">agreement"];
    let mut table = Table::new(&headings);
    for output in &comparison.outputs {
        table.row([
            output.name.clone(),
            format!("{:.2e}", output.max_abs),
            output.max_relative.map_or("-".to_owned(), |relative| format!("{relative:.2e}")),
            format!("{:.2e}", output.rmse),
            output.cosine.map_or("-".to_owned(), |cosine| format!("{cosine:.6}")),
            match output.sqnr_db {
                Some(ratio) => format!("{ratio:.1} dB"),
                None if output.is_void() => "-".to_owned(),
                None => "equal".to_owned(),
            },
            output.top1.map_or(String::new(), |top1| units::percent_fine(top1.agreement)),
        ]);
    }
    let mut text = table.render();
    for output in &comparison.outputs {
        if let Some(top1) = output.top1
            && let (Some(a), Some(b)) = (top1.reference_accuracy, top1.candidate_accuracy)
        {
            text.push_str(&format!(
                "top-1   {} -> {}  ({:+.2} points, {})\n",
                units::percent_fine(a),
                units::percent_fine(b),
                (b - a) * 100.0,
                output.name
            ));
        }
    }
    text
}

/// What keeps an output from being compared in full, if anything.
pub(crate) fn incomparable(output: &OutputComparison) -> Option<String> {
    if output.is_void() {
        return Some(format!(
            "`{}`: nothing was compared, none of its values is finite in both models",
            output.name
        ));
    }
    (output.non_finite > 0).then(|| {
        format!(
            "`{}`: {} NaN or infinite in one of the models only",
            output.name,
            counted(output.non_finite, "value")
        )
    })
}

/// Absolute difference that is nothing but rounding: the range of an output that saturates, such
/// as a sigmoid far below zero, is smaller still.
pub(crate) const ROUNDING: f64 = 1e-5;

/// The largest difference of all outputs: as a share of the range or, where it is nothing but
/// rounding, as a number, since its share of a range that is just as small would say nothing.
pub(crate) fn distance(comparison: &Comparison) -> String {
    let outputs = || comparison.outputs.iter();
    let worst = outputs().filter(|o| o.max_abs > ROUNDING).map(relative).fold(0.0, f64::max);
    if worst > 0.0 {
        return format!("{worst:.1e} of the output range");
    }
    let relative = outputs().map(relative).fold(0.0, f64::max);
    if relative <= ROUNDING {
        return format!("{relative:.1e} of the output range");
    }
    let most = outputs().map(|output| output.max_abs).fold(0.0, f64::max);
    format!("{most:.1e}, which is float rounding")
}

/// The largest difference relative to the range; a constant reference allows none.
pub(crate) fn relative(output: &OutputComparison) -> f64 {
    match output.max_relative {
        Some(relative) => relative,
        None if output.max_abs == 0.0 => 0.0,
        None => f64::INFINITY,
    }
}
