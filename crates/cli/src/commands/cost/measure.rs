//! `kerf cost measure` and `kerf cost import`.

use super::{CostArgs, networks, usage};
use crate::commands::{Context, Outcome, engine};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use tensor_core::cost::hardware::haq::Released;
use tensor_core::cost::hardware::measured::{self, Form};
use tensor_core::cost::hardware::table::{BitsRule, Header, SCHEMA, Table};
use tensor_core::cost::hardware::{Layer, LayerShape};
use tensor_core::measure::{Choice, cpu};
use tensor_core::progress::{self, Progress};
use tensor_core::text::counted;
use tensor_core::{Error, Result};

/// Times every layer in all its forms, equal ones once. The table is written after each layer.
pub(super) fn run(args: &CostArgs, cx: &Context) -> Result<Outcome> {
    let target = args.target()?;
    let (graph, layers) = args.layers()?;
    let engine = engine::foreign(Choice::OnnxRuntime, cx.console)?;
    let name = engine.name();
    let (engine_name, version) = name.rsplit_once(' ').unwrap_or((&name, ""));
    let header = Header {
        schema: SCHEMA.to_owned(),
        device: cpu::this().name,
        engine: engine_name.to_owned(),
        version: version.to_owned(),
        threads: args.settings().threads,
        batch: args.batch as usize,
        date: today(),
        bits: BitsRule::NextWider,
    };
    let mut table = match args.resume && target.exists() {
        true => resumed(target, &header)?,
        false => Table::new(header),
    };
    let shapes = shapes(&layers, &args.widths);
    let settings = args.settings();
    cx.progress.stage("time layers", shapes.len());
    let mut refused = 0;
    for shape in &shapes {
        progress::check(&cx.progress)?;
        let all = [&[Form::Float, Form::Int8][..], &[Form::Int4Weights]];
        let forms: &[&[Form]] = if args.floats { &[&[Form::Float]] } else { &all };
        for &forms in forms {
            let is_known = |form: &Form| {
                let (w_bits, a_bits) = form.bits();
                table.has(shape, w_bits, a_bits)
            };
            if forms.iter().all(is_known) {
                continue;
            }
            match measured::time(&*engine, shape, forms, args.batch as usize, &settings) {
                Ok(rows) => rows.into_iter().try_for_each(|row| table.push(row))?,
                // Engines without 4-bit integers still time everything else.
                Err(error) if forms == [Form::Int4Weights] && error.code() == "E0302" => {
                    refused += 1;
                }
                Err(error) => return Err(error),
            }
        }
        table.write(target)?;
        cx.progress.item(&format!("{} to {} on {}x{}", shape.cin, shape.cout, shape.h, shape.w));
    }
    networks::run(args, &graph, &*engine, (&mut table, target), cx)?;
    if refused > 0 {
        let layers = counted(refused, "layer");
        cx.console.warn(&format!("the engine takes no 4-bit weights in {layers}: left out"));
    }
    Ok(outcome(target, &table, shapes.len()))
}

/// A table that was interrupted; the day may be another.
fn resumed(path: &Path, header: &Header) -> Result<Table> {
    let table = Table::read(path)?;
    let same = Header { date: header.date.clone(), ..table.header().clone() };
    if same != *header {
        return Err(Error::invalid(format!(
            "{} was measured elsewhere: {} with {} {}",
            path.display(),
            table.header().device,
            table.header().engine,
            table.header().version
        ))
        .code_is("E0556")
        .hint("write another table"));
    }
    Ok(table)
}

/// All layers, equal ones once, with the other channel counts that are asked for. Ends of the network keep
/// the channels that are not made by a layer.
fn shapes(layers: &[Layer], widths: &[f64]) -> Vec<LayerShape> {
    let mut known = BTreeSet::new();
    let mut shapes = Vec::new();
    let mut add = |shape: LayerShape| {
        if known.insert(shape.clone()) {
            shapes.push(shape);
        }
    };
    let scaled = |channels: usize, share: f64| ((channels as f64 * share).round() as usize).max(1);
    for (at, layer) in layers.iter().enumerate() {
        add(layer.shape.clone());
        let LayerShape { cin, cout, groups, .. } = layer.shape;
        let all = || widths.iter().copied().chain([1.0]);
        for narrow in all() {
            let inputs = if at == 0 { cin } else { scaled(cin, narrow) };
            if groups > 1 {
                if groups == cin {
                    add(layer.shape.with_channels(inputs, inputs * cout / cin.max(1)));
                }
                continue;
            }
            for wide in all() {
                let outputs = if at + 1 == layers.len() { cout } else { scaled(cout, wide) };
                add(layer.shape.with_channels(inputs, outputs));
            }
        }
    }
    shapes
}

/// The released table with the shapes of the model's layers.
pub(super) fn import(args: &CostArgs) -> Result<Outcome> {
    /// Clock with which the published latencies have the table's cycles, and the batch.
    const CLOUD: (f64, usize) = (208.6, 16);
    let npy = args.npy.as_deref().ok_or_else(|| usage("`--npy FILE` is the released table"))?;
    let (_, layers) = args.layers()?;
    let table = Released::read(npy)?.table(&layers, CLOUD.0, CLOUD.1)?;
    let target = args.target()?;
    table.write(target)?;
    Ok(outcome(target, &table, layers.len()))
}

fn outcome(path: &Path, table: &Table, layers: usize) -> Outcome {
    let text = format!(
        "wrote {}: {} of {}\n",
        path.display(),
        counted(table.rows().len(), "row"),
        counted(layers, "layer")
    );
    Outcome::answer(text, json!({ "header": table.header(), "rows": table.rows().len() }))
}

/// The day by the system's clock, such as `2026-11-23`.
fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    day(seconds / 86_400)
}

/// The date of a day since 1970-01-01 (Gregorian calendar; years begin in March, so that the leap
/// day is the last).
fn day(days: u64) -> String {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{of_month:02}", era * 400 + year + later)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        // date -u -d @0; @951782400 (a leap day of a century); @1795392000.
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(951_782_400 / 86_400), "2000-02-29");
        assert_eq!(day(1_795_392_000 / 86_400), "2026-11-23");
    }
}
