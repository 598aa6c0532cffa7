//! What quantizing did to each layer.

use crate::table::Table;
use quant_mixed::model::{Copied, Left, QuantizeReport};
use std::collections::BTreeMap;
use tensor_core::text::counted;

/// Layers that the table shows, the worst first.
const SHOWN: usize = 12;

/// The layers with the largest errors first, what stays float, and how it is stored.
pub(crate) fn quantization(report: &QuantizeReport) -> String {
    let mut table = Table::new(&[
        "worst first",
        "op",
        ">weights",
        ">bits",
        ">inputs",
        "stored",
        ">weight SQNR",
        ">own SQNR",
        ">accumulated",
    ]);
    let decibels =
        |kept: Option<f64>| kept.map_or("exact".to_owned(), |kept| format!("{kept:.1} dB"));
    let worst = report.worst_first();
    for layer in worst.iter().take(SHOWN) {
        table.row([
            layer.key.clone(),
            layer.op.clone(),
            layer.weights.to_string(),
            layer.weight_bits.to_string(),
            layer.activation_bits.map_or("float".to_owned(), |bits| bits.to_string()),
            format!("{}, {}", layer.storage, layer.granularity),
            decibels(layer.weight_sqnr_db),
            decibels(layer.local_sqnr_db),
            decibels(layer.accumulated_sqnr_db),
        ]);
    }
    let mut text = table.render();
    if let Some(more) = worst.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        text.push_str(&format!("{} with smaller errors\n", counted(more, "more layer")));
    }
    text.push_str(
        "SQNR: signal over error; own: of the layer's response to the float network's inputs; \
         accumulated: with all errors before it\n",
    );
    for left in &report.left {
        text.push_str(&format!("float  {} ({}): {}\n", left.key, left.op, left.reason));
    }
    for (what, layers) in [
        ("a scale per channel", &report.without_blocks),
        ("rounded to the nearest", &report.rounded_to_nearest),
    ] {
        for Left { key, op, reason } in layers {
            text.push_str(&format!("{what}  {key} ({op}): {reason}\n"));
        }
    }
    for Copied { weight, layers } in &report.copied {
        let layers = layers.join(", ");
        text.push_str(&format!(
            "copied  `{weight}`, as each of its layers has integers: {layers}\n"
        ));
    }
    if report.folded_batch_norms > 0 {
        let nodes = counted(report.folded_batch_norms, "BatchNormalization node");
        text.push_str(&format!("folded {nodes}\n"));
    }
    if !report.equalized.is_empty() || !report.not_equalized.is_empty() {
        let pairs = counted(report.equalized.len(), "pair");
        text.push_str(&format!("equalized {pairs} of layers"));
        let mut reasons = BTreeMap::<&str, usize>::new();
        for skipped in &report.not_equalized {
            *reasons.entry(&skipped.reason).or_default() += 1;
        }
        for (reason, count) in reasons {
            text.push_str(&format!("; not behind {}: {reason}", counted(count, "layer")));
        }
        text.push('\n');
    }
    let [before, after] = report.opset;
    if before != after {
        text.push_str(&format!("raised operator set {before} to {after}\n"));
    }
    text.push_str(&format!(
        "{} of {:.2} bits, stored in {:.2}, {} of scales and codebooks; {} quantized\n",
        counted(report.weights, "weight"),
        report.effective_bits,
        report.stored_bits,
        counted(report.side_bytes, "byte"),
        counted(report.activations.len(), "activation"),
    ));
    text.push_str(&format!(
        "ranges from {} in {:.2} s\n",
        counted(report.samples, "sample"),
        report.calibration_seconds
    ));
    text
}
