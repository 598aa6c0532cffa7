//! The points of the front.

use crate::table::Table;
use crate::units;
use lasso_prune::{PredictedTime, Pruned};
use serde::Serialize;
use std::path::PathBuf;
use tensor_core::measure::compare::Comparison;

/// One model of the front.
#[derive(Debug, Serialize)]
pub(super) struct Point {
    /// What was asked for.
    pub(super) share: f64,
    model: PathBuf,
    macs: u64,
    parameters: u64,
    /// Predicted time; absent unless shares are of time.
    time: Option<PredictedTime>,
    comparison: Comparison,
}

impl Point {
    pub(super) fn new(share: f64, model: PathBuf, pruned: &Pruned, comparison: Comparison) -> Self {
        let predicted = pruned.report.predicted;
        Self {
            share,
            model,
            macs: predicted.macs,
            parameters: predicted.parameters,
            time: pruned.report.time.clone(),
            comparison,
        }
    }

    /// Accuracy where there are labels, agreement where there are classes, or the cosine of the first
    /// output, with the name of what it is.
    fn quality(&self) -> (&'static str, Option<f64>, f64) {
        let Some(output) = self.comparison.outputs.first() else { return ("cosine", None, 0.0) };
        match output.top1 {
            Some(top1) => match (top1.reference_accuracy, top1.candidate_accuracy) {
                (Some(before), Some(after)) => ("top-1 accuracy", Some(before), after),
                _ => ("agreement with the original", Some(1.0), top1.agreement),
            },
            None => ("cosine with the original", Some(1.0), output.cosine.unwrap_or(0.0)),
        }
    }
}

/// What the front shows.
pub(super) struct Quality {
    /// Its name.
    pub(super) name: &'static str,
    /// Of the original.
    pub(super) original: Option<f64>,
    /// Of each point, in their order.
    pub(super) values: Vec<f64>,
}

/// The quality of all points.
pub(super) fn quality(points: &[Point]) -> Quality {
    let all: Vec<_> = points.iter().map(Point::quality).collect();
    Quality {
        name: all.first().map_or("", |(name, ..)| name),
        original: all.first().and_then(|(_, original, _)| *original),
        values: all.into_iter().map(|(.., value)| value).collect(),
    }
}

/// For people.
pub(super) fn table(points: &[Point]) -> String {
    let Quality { name, original, values } = quality(points);
    let heading = format!(">{name}");
    let mut table = Table::new(&["asked for", ">MACs", ">parameters", &heading, "model"]);
    for (point, value) in points.iter().zip(values) {
        table.row([
            units::percent(point.share),
            units::si(point.macs),
            units::si(point.parameters),
            units::percent(value),
            point.model.display().to_string(),
        ]);
    }
    let original = original
        .map_or_else(String::new, |value| format!("of the original: {}\n", units::percent(value)));
    table.render() + &original
}
