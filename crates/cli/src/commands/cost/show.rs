//! `kerf cost show`.

use super::{CostArgs, plot, usage};
use crate::commands::model::file_name;
use crate::commands::{Context, Outcome};
use crate::table::Table as Text;
use crate::units;
use quant_mixed::search::Resource;
use serde_json::{Value, json};
use std::fs;
use tensor_core::cost::hardware::{Hardware, Layer, LayerCost, LayerShape, MODELS, Table};
use tensor_core::text::counted;
use tensor_core::{Result, files};

/// All hardware models.
pub(super) fn list() -> Outcome {
    let mut table = Text::new(&["model", "what it is"]);
    let mut text = String::new();
    for model in MODELS {
        table.row([model.name.to_owned(), model.summary.to_owned()]);
        for (figure, meaning) in model.figures {
            table.row([format!("  {figure}="), (*meaning).to_owned()]);
        }
    }
    text.push_str(&table.render());
    let models: Vec<Value> = MODELS
        .iter()
        .map(|model| json!({ "name": model.name, "summary": model.summary, "figures": model.figures }))
        .collect();
    Outcome::answer(text, json!({ "models": models }))
}

/// Layers of a model on a device, or the rows of a table.
pub(super) fn run(args: &CostArgs, cx: &Context) -> Result<Outcome> {
    if args.device.hardware.is_none() && args.device.cost.is_none() {
        if args.output.is_some() || cx.given.contains_key("bits") {
            return Err(usage(
                "a table is shown as it is: `--output` and `--bits` are for a model on a device",
            ));
        }
        return rows(args);
    }
    let device = args.device.open()?;
    let (_, layers) = args.layers()?;
    let costs = layers
        .iter()
        .map(|layer| args.bits.iter().map(|&bits| device.cost(&layer.shape, bits, bits)).collect())
        .collect::<Result<Vec<Vec<LayerCost>>>>()?;
    if costs.iter().flatten().any(|cost| cost.interpolated) {
        cx.console.warn("costs marked with ~ lie between those of other channel counts");
    }
    let resource = resource(&*device, &layers, args.bits[0])?;
    let mut headings = vec!["layer".to_owned(), "kind".to_owned(), ">MACs".to_owned()];
    headings.extend(args.bits.iter().map(|bits| format!(">{resource} W{bits}A{bits}")));
    let mut table = Text::new(&headings.iter().map(String::as_str).collect::<Vec<_>>());
    for (layer, costs) in layers.iter().zip(&costs) {
        let mut row = vec![layer.name.clone(), kind(&layer.shape), units::si(layer.shape.macs())];
        row.extend(costs.iter().map(|cost| {
            let mark = if cost.interpolated { "~" } else { "" };
            format!("{mark}{}", resource.show(resource.of(cost).unwrap_or(0.0)))
        }));
        table.row(row);
    }
    let total =
        |at: usize| -> f64 { costs.iter().filter_map(|costs| resource.of(costs.get(at)?)).sum() };
    let totals: Vec<f64> = (0..args.bits.len()).map(total).collect();
    let mut last = vec!["all".to_owned(), String::new(), String::new()];
    last.extend(totals.iter().map(|&total| resource.show(total)));
    table.row(last);
    let path = args.path()?;
    let mut text = format!(
        "{} on {}, {} in a run\n\n",
        file_name(path),
        device.name(),
        counted(device.batch(), "sample")
    );
    text.push_str(&table.render());
    if let Some(output) = &args.output {
        let values: Vec<Vec<f64>> = costs
            .iter()
            .map(|costs| costs.iter().map(|cost| resource.of(cost).unwrap_or(0.0)).collect())
            .collect();
        let drawing = plot::svg(&layers, &args.bits, &values, resource, &device.name())?;
        files::write_whole(output, |part| fs::write(part, &drawing))?;
    }
    let rows: Vec<Value> = layers
        .iter()
        .zip(&costs)
        .map(|(layer, costs)| json!({ "layer": layer, "costs": costs }))
        .collect();
    let result = json!({
        "device": device.name(), "batch": device.batch(), "bits": args.bits, "resource": resource,
        "totals": totals, "layers": rows,
    });
    Ok(Outcome::answer(text, result))
}

/// What the table shows: latency, or size where the device has no other figure.
fn resource(device: &dyn Hardware, layers: &[Layer], bits: u32) -> Result<Resource> {
    let Some(layer) = layers.first() else { return Ok(Resource::Latency) };
    let cost = device.cost(&layer.shape, bits, bits)?;
    Ok(if cost.latency_us.is_some() { Resource::Latency } else { Resource::Size })
}

/// Such as `3x3/2 32 to 64 on 28x28`.
fn kind(shape: &LayerShape) -> String {
    let op = format!("{:?}", shape.op).to_lowercase();
    let [height, width] = shape.kernel;
    format!(
        "{op} {height}x{width}/{} {} to {} on {}x{}",
        shape.stride[0], shape.cin, shape.cout, shape.h, shape.w
    )
}

/// The rows of a table.
fn rows(args: &CostArgs) -> Result<Outcome> {
    let table = Table::read(args.path()?)?;
    let header = table.header();
    let mut text = format!(
        "{}  {} {}  {}  {}  {}\n\n",
        header.device,
        header.engine,
        header.version,
        counted(header.threads, "thread"),
        counted(header.batch, "sample"),
        header.date
    );
    let mut lines = Text::new(&["layer", ">W", ">A", ">latency", ">spread", ">n", "source"]);
    for row in table.rows() {
        lines.row([
            kind(&row.shape),
            row.w_bits.to_string(),
            row.a_bits.to_string(),
            Resource::Latency.show(row.latency_us),
            Resource::Latency.show(row.std_us),
            row.n.to_string(),
            row.source.clone(),
        ]);
    }
    text.push_str(&lines.render());
    Ok(Outcome::answer(text, json!({ "header": header, "rows": table.rows() })))
}
