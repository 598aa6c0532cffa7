//! What happened to each layer.

use crate::table::Table;
use crate::units;
use lasso_prune::{LayerReport, PruneReport};

/// The layers in execution order, the frozen groups, and how often the baselines were worse.
pub(crate) fn layers(report: &PruneReport) -> String {
    let mut table =
        Table::new(&["layer", "op", ">input channels", ">error", ">first-k", ">max-response"]);
    for layer in &report.layers {
        table.row([
            layer.key.clone(),
            layer.op.clone(),
            channels(layer),
            units::percent_fine(layer.error),
            layer.first_k_error.map_or("-".to_owned(), units::percent_fine),
            layer.max_response_error.map_or("-".to_owned(), units::percent_fine),
        ]);
    }
    let mut text = table.render();
    text.push_str(
        "error: squared error of the layer's response, relative to its variance, on the \
         calibration samples,\nafter least squares; the baselines at the same widths\n",
    );
    if report.folded_batch_norms > 0 {
        text.push_str(&format!("folded {} BatchNormalization nodes\n", report.folded_batch_norms));
    }
    for frozen in &report.frozen {
        text.push_str(&format!(
            "frozen  {} ({} channels): {}\n",
            frozen.name, frozen.channels, frozen.reason
        ));
    }
    text
}

fn channels(layer: &LayerReport) -> String {
    format!("{} -> {}", layer.channels_before, layer.channels_after)
}
