//! What happened to each layer.

use crate::table::Table;
use crate::units;
use lasso_prune::{LayerReport, PruneReport};

/// The layers in execution order, the frozen groups, and how often the baselines were worse.
pub(crate) fn layers(report: &PruneReport) -> String {
    let mut table = Table::new(&[
        "layer",
        "op",
        ">input channels",
        ">error",
        ">first-k",
        ">max-response",
        ">held out",
    ]);
    for layer in &report.layers {
        table.row([
            layer.key.clone(),
            layer.op.clone(),
            channels(layer),
            units::percent_fine(layer.error),
            layer.first_k_error.map_or("-".to_owned(), units::percent_fine),
            layer.max_response_error.map_or("-".to_owned(), units::percent_fine),
            units::percent_fine(layer.held_out_error),
        ]);
    }
    let mut text = table.render();
    text.push_str(
        "error: squared error of the layer's response relative to its variance, after least \
         squares; the baselines at\nthe same widths; held out: fitted on half of the samples, \
         judged on the other half\n",
    );
    text.push_str(&beaten(report));
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

/// In how many of the narrowed layers the baselines are worse.
fn beaten(report: &PruneReport) -> String {
    let narrowed = report
        .layers
        .iter()
        .filter_map(|layer| Some((layer.error, layer.first_k_error?, layer.max_response_error?)));
    let errors: Vec<_> = narrowed.collect();
    let first = errors.iter().filter(|(own, first, _)| own < first).count();
    let most = errors.iter().filter(|(own, _, most)| own < most).count();
    let total = errors.len();
    format!(
        "lower error than first-k in {first} of {total} narrowed layers, than max-response in \
         {most}\n"
    )
}

fn channels(layer: &LayerReport) -> String {
    format!("{} -> {}", layer.channels_before, layer.channels_after)
}
