//! Latency of models, measured in turn.
//!
//! Every round runs each model once, in alternating order (A B, B A, ...), so that frequency
//! changes and other loads meet all models alike. The speed-up is the median of the ratios within
//! rounds, with a 95 % interval from order statistics; rounds are taken as independent.

use super::cpu::{self, Cpu};
use super::engine::{Engine, Named, Runner};
use super::statistics::{mad, median_interval, quantile};
use crate::{Error, Result};
use serde::Serialize;
use std::time::{Duration, Instant};

/// How long to measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Runs per model before timing begins.
    pub warmup: usize,
    /// Timed runs per model; at least 1.
    pub runs: usize,
    /// Timing stops early after this time, once there are [`MIN_RUNS`].
    pub limit: Duration,
    /// Threads of the engine.
    pub threads: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { warmup: 10, runs: 200, limit: Duration::from_secs(60), threads: 1 }
    }
}

/// Below this many rounds the interval of the speed-up says little.
pub const MIN_RUNS: usize = 20;

/// Relative spread (MAD / median) above which timings are called unsteady.
const UNSTEADY: f64 = 0.05;

/// A model to time: how it is called in the report, and its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Name for the report.
    pub name: &'a str,
    /// The bytes of the model file.
    pub model: &'a [u8],
}

/// What was measured, and on what.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Engine name and version.
    pub engine: String,
    /// Engine threads.
    pub threads: usize,
    /// The processor.
    pub cpu: Cpu,
    /// Samples per run.
    pub batch: usize,
    /// Per model, in the order given.
    pub models: Vec<Timing>,
    /// What makes the figures doubtful.
    pub warnings: Vec<String>,
}

/// Latency of one model in microseconds per run (not per sample).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timing {
    /// Name.
    pub name: String,
    /// Timed runs.
    pub runs: usize,
    /// Median.
    pub latency_us_p50: f64,
    /// 90th percentile.
    pub latency_us_p90: f64,
    /// 99th percentile.
    pub latency_us_p99: f64,
    /// Fastest run.
    pub latency_us_min: f64,
    /// Median absolute deviation.
    pub latency_us_mad: f64,
    /// How much faster than the first model; `None` for the first.
    pub speedup: Option<Speedup>,
}

/// A ratio of latencies: above 1 is faster.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Speedup {
    /// Median ratio.
    pub median: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Times models on the same inputs.
///
/// # Errors
/// `E0302`, `E0303` as the engine's; an error when no model is given.
pub fn measure(
    engine: &dyn Engine,
    candidates: &[Candidate<'_>],
    inputs: &[Named],
    settings: &Settings,
) -> Result<Report> {
    if candidates.is_empty() {
        return Err(Error::invalid("no model to measure"));
    }
    let load = |candidate: &Candidate| engine.load(candidate.model, settings.threads);
    let mut runners = candidates.iter().map(load).collect::<Result<Vec<_>>>()?;
    let names: Vec<&str> = candidates.iter().map(|candidate| candidate.name).collect();
    time_loaded(engine.name(), &names, &mut runners, inputs, settings)
}

/// Times loaded models on the same inputs; `names` are those for the report, in order.
///
/// # Errors
/// `E0303` as the engine's.
pub fn time_loaded(
    engine: String,
    names: &[&str],
    runners: &mut [Box<dyn Runner + '_>],
    inputs: &[Named],
    settings: &Settings,
) -> Result<Report> {
    for runner in runners.iter_mut() {
        runner.prepare(inputs)?;
        // The first run also plans memory: it is never timed.
        for _ in 0..settings.warmup.max(1) {
            runner.step()?;
        }
    }
    let rounds = time(runners, settings)?;
    let batch = inputs.first().and_then(|(_, t)| t.dims().first().copied()).unwrap_or(1);
    let models = summarise(names, &rounds);
    Ok(Report {
        engine,
        threads: settings.threads.max(1),
        cpu: cpu::this(),
        batch,
        warnings: warnings(&models),
        models,
    })
}

/// Microseconds per model for every round.
fn time(runners: &mut [Box<dyn Runner + '_>], settings: &Settings) -> Result<Vec<Vec<f64>>> {
    let begin = Instant::now();
    let mut rounds = Vec::new();
    while rounds.len() < settings.runs.max(1) {
        if rounds.len() >= MIN_RUNS && begin.elapsed() > settings.limit {
            break;
        }
        let mut round = vec![0.0; runners.len()];
        for step in 0..runners.len() {
            let index = if rounds.len() % 2 == 0 { step } else { runners.len() - 1 - step };
            let start = Instant::now();
            runners[index].step()?;
            round[index] = start.elapsed().as_secs_f64() * 1e6;
        }
        rounds.push(round);
    }
    Ok(rounds)
}

fn summarise(names: &[&str], rounds: &[Vec<f64>]) -> Vec<Timing> {
    let column = |index: usize| -> Vec<f64> { rounds.iter().map(|round| round[index]).collect() };
    let sorted = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values
    };
    names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let times = sorted(column(index));
            let speedup = (index > 0).then(|| {
                let ratios = rounds.iter().map(|round| round[0] / round[index].max(f64::EPSILON));
                let ratios = sorted(ratios.collect());
                let (low, high) = median_interval(&ratios);
                Speedup { median: quantile(&ratios, 0.5), low, high }
            });
            Timing {
                name: (*name).to_owned(),
                runs: times.len(),
                latency_us_p50: quantile(&times, 0.5),
                latency_us_p90: quantile(&times, 0.9),
                latency_us_p99: quantile(&times, 0.99),
                latency_us_min: quantile(&times, 0.0),
                latency_us_mad: mad(&times),
                speedup,
            }
        })
        .collect()
}

fn warnings(models: &[Timing]) -> Vec<String> {
    let mut warnings = Vec::new();
    for model in models {
        let spread = model.latency_us_mad / model.latency_us_p50;
        if spread > UNSTEADY {
            warnings.push(format!(
                "latency of `{}` is unsteady: half of the runs deviate by more than {:.0} %",
                model.name,
                100.0 * spread
            ));
        }
        if model.runs < MIN_RUNS {
            warnings.push(format!("`{}` was run only {} times", model.name, model.runs));
        }
        if let Some(speedup) = model.speedup
            && (speedup.low..=speedup.high).contains(&1.0)
        {
            warnings.push(format!("no difference in speed was measured for `{}`", model.name));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_cancels_in_the_ratio() {
        // Both models slow down threefold during the measurement; B takes half of A throughout.
        let rounds: Vec<Vec<f64>> = (0..100)
            .map(|round| f64::from(100 + 2 * round))
            .map(|time| vec![time, time / 2.0])
            .collect();
        let timings = summarise(&["a", "b"], &rounds);
        let speedup = timings[1].speedup.expect("the second model has one");
        assert_eq!((speedup.low, speedup.median, speedup.high), (2.0, 2.0, 2.0));
        assert!(timings[0].speedup.is_none());
        let warnings = warnings(&timings);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("`a` is unsteady"));
    }

    #[test]
    fn equal_models_have_no_measured_difference() {
        let rounds: Vec<Vec<f64>> =
            (0..50).map(|round| vec![100.0, 100.0 + f64::from(round % 3 - 1)]).collect();
        assert_eq!(
            warnings(&summarise(&["a", "b"], &rounds)),
            ["no difference in speed was measured for `b`"]
        );
    }
}
