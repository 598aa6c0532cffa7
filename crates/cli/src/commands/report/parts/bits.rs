//! Bits of every layer: weights upwards, activations downwards (the figure of Wang et al., "HAQ", 2019).

use super::super::super::network::{Bits, Shown};
use super::super::evidence::Evidence;
use super::super::part::{Block, Cell, Figure, Kind, Make, Part, Sheet};
use super::super::svg::{Mirrored, columns};
use super::{list, text};
use serde_json::Value;
use tensor_core::Result;

pub(super) const KIND: Kind = Kind {
    id: "bits",
    title: "Bits per layer",
    make: Make::Alone(make),
    source: "kerf quantize MODEL --data D -o OUT --report DIR, or kerf search",
};

/// One layer.
struct Layer {
    name: String,
    weights: Option<u64>,
    activations: Option<u64>,
    node: Option<Shown>,
}

/// Bits of a layer, as the last document that has them says.
pub(super) fn of_layer(evidence: &Evidence, key: &str) -> Option<Bits> {
    let narrow = |bits: Option<u64>| bits.and_then(|bits| u8::try_from(bits).ok());
    let layer = of_documents(evidence).into_iter().find(|layer| layer.name == key)?;
    Some(Bits { weights: narrow(layer.weights), activations: narrow(layer.activations) })
}

fn make(evidence: &Evidence) -> Result<Option<Part>> {
    let mut layers = of_documents(evidence);
    if layers.is_empty() {
        layers = of_model(evidence);
    }
    if layers.iter().all(|layer| layer.weights.is_none() && layer.activations.is_none()) {
        return Ok(None);
    }
    let base = evidence.before.found().or(evidence.after.found());
    for layer in &mut layers {
        layer.node = base.and_then(|found| found.network.find(&layer.name)).cloned();
    }
    let mut sheet = Sheet::new(
        "Bits per layer",
        &["layer", "kind", "weights, bits", "activations, bits", "MACs per byte"],
    );
    for layer in &layers {
        sheet.row([
            Cell::Node(layer.name.clone()),
            Cell::text(kind(layer).0),
            Cell::count(layer.weights),
            Cell::count(layer.activations),
            Cell::number(intensity(layer), 1),
        ]);
    }
    let title = |layer: &Layer| {
        let show =
            |bits: Option<u64>| bits.map_or("float".to_owned(), |bits| format!("{bits} bits"));
        format!(
            "{}: weights {}, activations {}",
            layer.name,
            show(layer.weights),
            show(layer.activations)
        )
    };
    let number = |bits: Option<u64>| bits.unwrap_or(0) as f64;
    let bars: Vec<_> = layers
        .iter()
        .map(|layer| {
            (number(layer.weights), number(layer.activations), kind(layer).1, title(layer))
        })
        .collect();
    let most = bars.iter().map(|bar| bar.0.max(bar.1)).fold(8.0, f64::max);
    let line = shares(&layers);
    let mirrored = Mirrored {
        bars: &bars,
        names: ["bits of weights", "bits of activations, downwards"],
        most,
        line: &line,
    };
    let mut legend: Vec<(&'static str, String)> = Vec::new();
    for (name, class) in layers.iter().map(kind) {
        let swatch = match class {
            "f2" => "box f2",
            "f3" => "box f3",
            "f5" => "box f5",
            _ => "box f1",
        };
        if legend.iter().all(|(known, _)| *known != swatch) {
            legend.push((swatch, name.to_owned()));
        }
    }
    if !line.is_empty() {
        legend.push(("s4 thin", "MACs per byte, logarithmic".to_owned()));
    }
    let figure = Figure {
        is_small: false,
        svg: columns(&mirrored, &format!("Bits of {} layers, weights up, activations down", layers.len())),
        legend,
        caption: "Layers in execution order. A layer without a bar computes in floats. Where the thin line \
                  is low, moving data costs more than computing, and fewer bits save most."
            .to_owned(),
        sheet,
    };
    Ok(Some(Part { lead: summary(evidence), blocks: vec![Block::Figure(figure)] }))
}

/// Mean bits, as reports have them.
fn summary(evidence: &Evidence) -> Vec<String> {
    let line = |report: &Value| {
        let (effective, stored) =
            (report["effective_bits"].as_f64()?, report["stored_bits"].as_f64()?);
        Some(format!(
            "A weight has {effective:.2} bits on average and takes {stored:.2} in the file."
        ))
    };
    evidence.results("quantization").filter_map(|(_, report)| line(report)).collect()
}

/// The kind of a layer, and the class of its bars.
fn kind(layer: &Layer) -> (&'static str, &'static str) {
    match &layer.node {
        Some(node) if node.is_depthwise => ("depthwise convolution", "f2"),
        Some(node) if node.is_spatial => ("convolution", "f1"),
        Some(node) if node.op.contains("Conv") => ("pointwise convolution", "f3"),
        Some(_) => ("matrix product", "f5"),
        None => ("layer", "f1"),
    }
}

/// Multiply-accumulates for each byte that is moved.
fn intensity(layer: &Layer) -> Option<f64> {
    let node = layer.node.as_ref().filter(|node| node.bytes > 0)?;
    Some(node.macs as f64 / node.bytes as f64)
}

/// Intensities from 0 to 1 on a logarithmic scale; empty where one is missing.
fn shares(layers: &[Layer]) -> Vec<f64> {
    let logs: Option<Vec<f64>> =
        layers.iter().map(|layer| Some(intensity(layer)?.max(1e-3).log10())).collect();
    let Some(logs) = logs else { return Vec::new() };
    let (low, high) = logs.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &log| {
        (low.min(log), high.max(log))
    });
    logs.iter().map(|log| 0.05 + 0.9 * (log - low) / (high - low).max(1e-9)).collect()
}

fn of_documents(evidence: &Evidence) -> Vec<Layer> {
    let layer = |value: &Value, name: &str| Layer {
        name: text(value, name).to_owned(),
        weights: value["weight_bits"].as_u64().or(value["weights"].as_u64()),
        activations: value["activation_bits"].as_u64().or(value["activations"].as_u64()),
        node: None,
    };
    let quantized = evidence.results("quantization").last();
    if let Some((_, report)) = quantized {
        return list(report, "layers").iter().map(|value| layer(value, "key")).collect();
    }
    let searched = evidence.documents.iter().rfind(|document| document.command() == "search");
    let Some(document) = searched else { return Vec::new() };
    let result = &document.value["result"];
    let names = list(result, "layers").iter().filter_map(Value::as_str);
    let bits = list(result, "bits");
    names
        .zip(bits)
        .map(|(name, bits)| Layer { name: name.to_owned(), ..layer(bits, "name") })
        .collect()
}

fn of_model(evidence: &Evidence) -> Vec<Layer> {
    let found = evidence.after.found().or(evidence.before.found());
    let nodes = found.map(|found| found.network.nodes.as_slice()).unwrap_or_default();
    let layer = |node: &Shown| Layer {
        name: node.key.clone(),
        weights: node.bits.weights.map(u64::from),
        activations: node.bits.activations.map(u64::from),
        node: None,
    };
    nodes.iter().filter(|node| node.channels.is_some()).map(layer).collect()
}
