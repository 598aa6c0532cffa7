//! Measured latency, in the form in which it can be judged: spread, engine, processor.

use crate::table::Table;
use crate::units;
use tensor_core::measure::latency::{Report, Timing};
use tensor_core::text::counted;

/// What is shown beside a model's latency.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weight {
    /// Multiply-accumulates at the shapes of the measurement.
    pub(crate) macs: u64,
    /// Bytes of the file.
    pub(crate) file_bytes: u64,
}

/// One table per batch size, with what was measured and by what.
pub(crate) fn latency(reports: &[Report], weights: &[Weight]) -> String {
    let mut text = String::new();
    for report in reports {
        let batch = format!("batch {}", report.batch);
        let headings = [batch.as_str(), ">p50", ">p90", ">p99", ">MAD", ">MACs", ">size"];
        let mut table = Table::new(&headings);
        for (timing, weight) in report.models.iter().zip(weights) {
            table.row(row(timing, weight, report.batch));
        }
        text.push_str(&table.render());
        for timing in &report.models {
            text.push_str(&speedup(timing, weights));
        }
    }
    if let Some(report) = reports.first() {
        text.push_str(&format!(
            "measured by {}, {}, on {} ({})\n",
            report.engine,
            counted(report.threads, "thread"),
            report.cpu.name,
            report.cpu.features.join(" "),
        ));
    }
    text
}

fn row(timing: &Timing, weight: &Weight, batch: usize) -> [String; 7] {
    let time = |microseconds: f64| units::milliseconds(microseconds / 1000.0);
    [
        timing.name.clone(),
        time(timing.latency_us_p50),
        time(timing.latency_us_p90),
        time(timing.latency_us_p99),
        time(timing.latency_us_mad),
        units::si(weight.macs.saturating_mul(batch as u64)),
        units::bytes(weight.file_bytes),
    ]
}

fn speedup(timing: &Timing, weights: &[Weight]) -> String {
    let Some(speedup) = timing.speedup else { return String::new() };
    let ratio = match weights {
        [before, after, ..] if after.macs > 0 => {
            format!("   MACs ratio {:.2}x", before.macs as f64 / after.macs as f64)
        }
        _ => String::new(),
    };
    format!(
        "speed-up  {:.2}x  (95% interval {:.2}-{:.2}, {} each, interleaved){ratio}\n",
        speedup.median,
        speedup.low,
        speedup.high,
        counted(timing.runs, "run")
    )
}

/// What the user must know about the speed of the second model, if anything.
pub(crate) fn doubts(report: &Report) -> Vec<String> {
    let mut doubts = report.warnings.clone();
    for timing in &report.models {
        if let Some(speedup) = timing.speedup
            && speedup.high < 1.0
        {
            doubts.push(format!(
                "`{}` is slower than the original at batch {}: {:.2}x the speed",
                timing.name, report.batch, speedup.median
            ));
        }
    }
    doubts
}

/// Is any speed-up clearly below the ratio of multiply-accumulates?
pub(crate) fn falls_short(reports: &[Report], weights: &[Weight]) -> bool {
    let [before, after, ..] = weights else { return false };
    let ratio = before.macs as f64 / after.macs.max(1) as f64;
    let speedups = reports.iter().flat_map(|report| &report.models).filter_map(|t| t.speedup);
    speedups.into_iter().any(|speedup| speedup.high < ratio)
}
