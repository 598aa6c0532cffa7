//! Predicted time beside the measured one.

use crate::units;
use lasso_prune::PredictedTime;
use serde::Serialize;
use tensor_core::measure::latency::Report;

/// Relative error of a prediction above which it is called off.
const CLOSE: f64 = 0.1;

/// What was predicted, and what was measured at the same batch size.
#[derive(Debug, Serialize)]
pub(super) struct Time {
    predicted: PredictedTime,
    /// Absent where nothing was timed at that batch size.
    measured: Option<Measured>,
}

#[derive(Debug, Serialize)]
struct Measured {
    engine: String,
    threads: usize,
    before_us: f64,
    after_us: f64,
    /// Predicted time of the result over the measured one, minus 1.
    error: f64,
}

impl Time {
    /// Both, for the latency reports of original and result.
    pub(super) fn new(predicted: PredictedTime, reports: &[Report]) -> Self {
        let report = reports.iter().find(|report| report.batch == predicted.batch);
        let measured = report.and_then(|report| {
            let [before, after, ..] = report.models.as_slice() else { return None };
            Some(Measured {
                engine: report.engine.clone(),
                threads: report.threads,
                before_us: before.latency_us_p50,
                after_us: after.latency_us_p50,
                error: predicted.after_us / after.latency_us_p50 - 1.0,
            })
        });
        Self { predicted, measured }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let show = |us: f64| units::milliseconds(us / 1000.0);
        let Self { predicted, measured } = self;
        let mut text = format!(
            "time  predicted {} -> {} by {}, batch {}",
            show(predicted.before_us),
            show(predicted.after_us),
            predicted.device,
            predicted.batch
        );
        if let Some(measured) = measured {
            text.push_str(&format!(
                "; measured {} -> {} by {} ({:+.1}%)",
                show(measured.before_us),
                show(measured.after_us),
                measured.engine,
                100.0 * measured.error
            ));
        }
        text.push('\n');
        text
    }

    /// What is to be said of a prediction that is off.
    pub(super) fn doubt(&self) -> Option<String> {
        let measured = self.measured.as_ref().filter(|m| m.error.abs() > CLOSE)?;
        Some(format!(
            "the predicted time is {:+.0} % of the measured one off: the device may be another, or the \
             table may lack whole networks (`kerf cost measure MODEL --widths 25%,50%,75%` here)",
            100.0 * measured.error
        ))
    }
}
