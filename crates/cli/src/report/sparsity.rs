//! The zeros of each layer.

use crate::table::Table;
use crate::units;
use magnitude_schedule::model::SparsifyReport;
use tensor_core::text::counted;

/// What nobody should be surprised by.
const DENSE_RUNTIMES: &str = "zeros are stored and multiplied like other numbers: dense \
     runtimes are not faster, and the file is smaller only once it is compressed or packed\n";

/// The layers in execution order, and what they lose.
pub(crate) fn sparsity(report: &SparsifyReport) -> String {
    let mut table = Table::new(&[
        "layer",
        "op",
        ">weights",
        ">zeros",
        ">sparsity",
        ">error",
        ">uncompensated",
        ">magnitude",
    ]);
    for layer in &report.layers {
        let is_changed = layer.rows > 0;
        let error = |error: Option<f64>| {
            error.filter(|_| is_changed).map_or("-".to_owned(), units::percent_fine)
        };
        table.row([
            layer.key.clone(),
            layer.op.clone(),
            layer.weights.to_string(),
            layer.zeros.to_string(),
            layer.dense.clone().unwrap_or_else(|| units::percent(layer.sparsity)),
            error(Some(layer.error)),
            error(Some(layer.uncompensated_error)),
            error(layer.magnitude_error),
        ]);
    }
    let mut text = table.render();
    text.push_str(
        "error: squared error of the layer's response relative to its variance; uncompensated: the \
         same zeros, the other\nweights as they were; magnitude: as many of the smallest weights, \
         the others as they were\n",
    );
    text.push_str(&format!(
        "{} of {} are zero in the pruned layers ({}, {})\n",
        report.zeros,
        counted(report.weights, "weight"),
        units::percent_fine(report.sparsity),
        report.pattern
    ));
    if report.folded_batch_norms > 0 {
        let nodes = counted(report.folded_batch_norms, "BatchNormalization node");
        text.push_str(&format!("folded {nodes}\n"));
    }
    text.push_str(DENSE_RUNTIMES);
    text
}
