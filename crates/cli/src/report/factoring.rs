//! What factorization did to each layer.

use crate::table::Table;
use crate::units;
use lasso_prune::FactorReport;
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
