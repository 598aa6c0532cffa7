//! Whole networks in a measured table: what layers that are timed one by one do not add up to.

use super::CostArgs;
use crate::commands::latency::inputs;
use crate::commands::{Context, model};
use std::path::Path;
use tensor_core::cost::hardware::{NetworkRow, Table, sum_of_layers};
use tensor_core::measure::Engine;
use tensor_core::measure::latency::{self, Candidate};
use tensor_core::progress::{self, Progress};
use tensor_core::{Graph, Result, onnx, run};

/// Channel counts of narrowed networks are multiples of this, as those of pruned ones: kernels for
/// blocks of channels refuse others.
const MULTIPLE: usize = 4;

/// Times the model, and the model with each of the asked shares of its channels, and adds them to the
/// table with the sum of their layers.
///
/// # Errors
/// When the engine refuses the model, or the table cannot be written.
pub(super) fn run(
    args: &CostArgs,
    graph: &Graph,
    engine: &dyn Engine,
    (table, target): (&mut Table, &Path),
    cx: &Context,
) -> Result<()> {
    let shapes = args.shared.shapes();
    let inputs = match inputs(graph, args.batch as usize, &args.shared) {
        Ok(inputs) => inputs,
        Err(error) => {
            cx.console.warn(&format!("the whole network was not timed: {error}"));
            return Ok(());
        }
    };
    let file = model::file_name(args.path()?);
    cx.progress.stage("time networks", args.widths.len() + 1);
    for share in std::iter::once(1.0).chain(args.widths.iter().copied()) {
        progress::check(&cx.progress)?;
        let name = format!("{file} at {:.0}%", 100.0 * share);
        if table.networks().iter().any(|row| row.network == name) {
            continue;
        }
        let narrow = match share < 1.0 {
            true => lasso_prune::narrowed(graph, &shapes, share, MULTIPLE),
            false => Ok(graph.clone()),
        };
        let narrow = match narrow {
            Ok(narrow) => narrow,
            // Then it cannot be pruned either.
            Err(error) => {
                cx.console.warn(&format!("{name} was not timed: {error}"));
                continue;
            }
        };
        let Ok(layers_us) = sum_of_layers(&*table, &narrow, &run::infer(&narrow, &shapes)?) else {
            cx.console.warn(&format!("{name} has layers outside of the table: left out"));
            continue;
        };
        let model = onnx::encode(&narrow)?;
        let candidates = [Candidate { name: &name, model: &model }];
        let report = latency::measure(engine, &candidates, &inputs, &args.settings())?;
        for timing in &report.models {
            /// From the median absolute deviation to the standard deviation of a normal distribution.
            const NORMAL: f64 = 1.4826;
            table.push_network(NetworkRow {
                network: name.clone(),
                layers_us,
                latency_us: timing.latency_us_p50,
                n: timing.runs,
                std_us: NORMAL * timing.latency_us_mad,
            })?;
        }
        table.write(target)?;
        cx.progress.item(&name);
    }
    Ok(())
}
