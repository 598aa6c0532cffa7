//! What factorization did to each layer.

use super::layers;
use crate::table::Table;
use crate::units;
use lasso_prune::{FactorReport, ThreeCReport};
use tensor_core::text::counted;

/// The layers in execution order.
pub(crate) fn factored(report: &FactorReport) -> String {
    let mut table = Table::new(&["layer", "convolutions", ">MACs", ">kept", ">error", ">held out"]);
    for layer in &report.layers {
        table.row([
            layer.key.clone(),
            layer.convolutions.clone(),
            units::si(layer.macs_after),
            units::share(layer.macs_after, layer.macs_before),
            units::percent_fine(layer.error),
            units::percent_fine(layer.held_out_error),
        ]);
    }
    let mut text = table.render();
    text.push_str(
        "error: squared error of the layer's response after least squares, relative to its variance\n\
         held out: fitted on half of the samples, judged on the other half\n",
    );
    if report.folded_batch_norms > 0 {
        let nodes = counted(report.folded_batch_norms, "BatchNormalization node");
        text.push_str(&format!("folded {nodes}\n"));
    }
    text
}

/// Factorization, pruning, and how the budget was split between them.
pub(crate) fn three_c(report: &ThreeCReport) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(report.factoring.as_ref().map(factored));
    parts.extend(report.pruning.as_ref().map(layers));
    let mut text = parts.join("\n");
    text.push_str("split of the budget, by the error of the outputs on held-out samples\n");
    for split in &report.tried {
        let chosen = if split.factored.to_bits() == report.factored.to_bits() { "  *" } else { "" };
        text.push_str(&format!(
            "  factorized to {}, then pruned: {}{chosen}\n",
            units::percent(split.factored),
            units::percent_fine(split.error)
        ));
    }
    if !report.merged.is_empty() {
        let merged = report.merged.join(", ");
        text.push_str(&format!("whole, as factors would cost more: {merged}\n"));
    }
    text
}
