//! Prunes an ONNX model as a library user would: read, calibrate, prune, write.
//!
//! `cargo run --release --workspace --example prune_onnx -- MODEL DATA PREPROCESS KEEP METHOD OUT`

use lasso_prune::{Budget, Limit, PruneParams, SelectionParams, Widths, prune};
use std::collections::BTreeMap;
use std::path::Path;
use tensor_core::cost::{Resource, cost};
use tensor_core::data::{self, InputSpec, Options, Preprocess};
use tensor_core::progress::Silent;
use tensor_core::run::{Array, infer};
use tensor_core::{Error, Result, onnx};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, images, preprocess, keep, method, out] = arguments.as_slice() else {
        return Err(Error::invalid("expected MODEL DATA PREPROCESS KEEP METHOD OUT"));
    };
    let keep: f64 = keep.parse().map_err(|_| Error::invalid("KEEP is not a number"))?;
    let graph = onnx::read(Path::new(model))?;
    let options = Options {
        preprocess: Preprocess::read(Path::new(preprocess))?,
        inputs: InputSpec::of(&graph),
        ..Options::default()
    };
    let dataset = data::open(Path::new(images), &options)?;
    let mut batches = Vec::new();
    for start in (0..dataset.len()).step_by(50) {
        let end = (start + 50).min(dataset.len());
        let batch = dataset.batch(start..end)?;
        batches.push(batch.inputs.into_iter().map(|(_, tensor)| Array::float(tensor)).collect());
    }
    let uniform = std::env::var("WIDTHS").is_ok_and(|w| w == "uniform");
    let params = PruneParams {
        selection: SelectionParams::new().method(method),
        budget: Budget { price: Resource::Macs.into(), limit: Limit::Keep(keep) },
        widths: if uniform { Widths::Uniform } else { Widths::Auto },
        ..PruneParams::default()
    };
    let shapes = BTreeMap::new();
    let pruned = prune(&graph, &shapes, batches, &params.check()?, &Silent)?;
    onnx::write(&pruned.graph, Path::new(out))?;
    let before = cost(&graph, &infer(&graph, &shapes)?)?;
    let after = cost(&pruned.graph, &infer(&pruned.graph, &shapes)?)?;
    let report = serde_json::to_string_pretty(&pruned.report).unwrap_or_default();
    let mut stdout = std::io::stdout().lock();
    let text = format!("{report}\nMACs {} -> {}\n", before.macs, after.macs);
    std::io::Write::write_all(&mut stdout, text.as_bytes())
        .map_err(|e| Error::io(Path::new("-"), &e))
}
