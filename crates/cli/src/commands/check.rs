//! `kerf check`: every problem of a model at once.

use super::model::{file_name, unknown};
use super::{Context, Outcome, Task, Verdict};
use crate::args::{OnUnsupported, Shared};
use crate::flags::in_flags;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tensor_core::graph::Index;
use tensor_core::text::counted;
use tensor_core::{Error, Graph, NodeId, Result, channels, onnx, run};

/// Opsets that the operators were written against.
const OPSETS: std::ops::RangeInclusive<i64> = 9..=25;

/// Most places that the text names for one problem; JSON has all of them.
const SHOWN_PLACES: usize = 8;

/// Arguments of `kerf check`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct CheckArgs {
    /// The model
    model: PathBuf,
    #[command(flatten)]
    #[serde(flatten)]
    shared: Shared,
}

impl Task for CheckArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn model(&self) -> Option<&Path> {
        Some(&self.model)
    }

    fn run(&self, _cx: &Context) -> Result<Outcome> {
        let graph = onnx::read(&self.model)?;
        let lints = lints(&graph, &self.shared)?;
        let count = |level: Level| lints.iter().filter(|lint| lint.level == level).count();
        let (errors, warnings) = (count(Level::Error), count(Level::Warning));
        let mut text: String = lints.iter().map(Lint::text).collect();
        text.push_str(&format!(
            "{}: {}, {}, {}\n",
            file_name(&self.model),
            counted(graph.nodes.len(), "node"),
            counted(errors, "error"),
            counted(warnings, "warning")
        ));
        let result = json!({
            "nodes": graph.nodes.len(),
            "errors": errors,
            "warnings": warnings,
            "lints": lints,
        });
        let verdict = if errors == 0 { Verdict::Pass } else { Verdict::Fail };
        let hint = lints
            .iter()
            .find(|lint| lint.level < Level::Note)
            .map(|lint| format!("`kerf explain {}`", lint.code));
        Ok(Outcome { hint, ..Outcome::new(text, result, verdict) })
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// Kerf cannot run or prune the model.
    Error,
    /// It can, with less than the full effect.
    Warning,
    /// Worth knowing.
    Note,
}

/// One problem.
#[derive(Debug, Serialize)]
struct Lint {
    level: Level,
    code: &'static str,
    message: String,
    /// Nodes or values, all of them.
    places: Vec<String>,
}

impl Lint {
    fn new(level: Level, code: &'static str, message: impl Into<String>) -> Self {
        Self { level, code, message: message.into(), places: Vec::new() }
    }

    fn at(mut self, places: Vec<String>) -> Self {
        self.places = places;
        self
    }

    fn text(&self) -> String {
        let level = match self.level {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Note => "note",
        };
        let mut text = format!("{level}[{}]: {}\n", self.code, self.message.replace('\n', "\n  "));
        for place in self.places.iter().take(SHOWN_PLACES) {
            text.push_str(&format!("  {place}\n"));
        }
        if self.places.len() > SHOWN_PLACES {
            text.push_str(&format!("  and {} more\n", self.places.len() - SHOWN_PLACES));
        }
        text
    }
}

/// All problems, errors first.
fn lints(graph: &Graph, shared: &Shared) -> Result<Vec<Lint>> {
    let mut lints = Vec::new();
    lints.extend(opset(graph));
    lints.extend(unknown_operators(graph, shared));
    lints.extend(non_finite(graph));
    lints.extend(batch_norms(graph)?);
    lints.extend(unread(graph));
    let (facts, errors) = run::infer_all(graph, &shared.shapes());
    lints.extend(errors.iter().map(from_error));
    // One open input leaves nearly all shapes unknown: naming them would say nothing new.
    if errors.iter().all(|error| error.code() != "E0111") {
        lints.extend(without_shape(graph, &facts));
    }
    if errors.is_empty() {
        let channels = channels::analyze(graph, &facts)?;
        lints.extend(frozen(&channels));
    }
    lints.sort_by_key(|lint| lint.level);
    Ok(lints)
}

fn from_error(error: &Error) -> Lint {
    let mut message = error.to_string();
    if let Some(hint) = error.hint_text() {
        message.push_str(&format!("\nhint: {}", in_flags(hint)));
    }
    Lint::new(Level::Error, error.code(), message)
}

fn opset(graph: &Graph) -> Option<Lint> {
    let opset = graph.opset();
    let (first, last) = (OPSETS.start(), OPSETS.end());
    (!OPSETS.contains(&opset)).then(|| {
        Lint::new(
            Level::Warning,
            "W0150",
            format!(
                "opset {opset} is outside {first} to {last}; operators may mean something else"
            ),
        )
    })
}

fn unknown_operators(graph: &Graph, shared: &Shared) -> Vec<Lint> {
    let level = match shared.on_unsupported {
        Some(OnUnsupported::Skip) => Level::Warning,
        _ => Level::Error,
    };
    let mut by_operator: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for id in unknown(graph) {
        let node = graph.node(id);
        let domain = if node.domain.is_empty() { "" } else { " of " };
        let operator = format!("{}{domain}{}", node.op, node.domain);
        by_operator.entry(operator).or_default().push(graph.describe(id));
    }
    by_operator
        .into_iter()
        .map(|(operator, places)| {
            let message = format!(
                "operator {operator} is not implemented ({})",
                counted(places.len(), "node")
            );
            Lint::new(level, "E0110", message).at(places)
        })
        .collect()
}

fn non_finite(graph: &Graph) -> Option<Lint> {
    let is_bad = |value: &tensor_core::ValueId| {
        graph.initializer(*value).is_some_and(|constant| {
            // A single infinity is a bound or a padding value, not a weight.
            constant.element().is_float()
                && constant.count() > 1
                && constant
                    .to_f64s()
                    .is_ok_and(|values| values.iter().any(|value| !value.is_finite()))
        })
    };
    let places: Vec<_> = graph
        .initializers()
        .iter()
        .filter(|value| is_bad(value))
        .map(|&value| format!("`{}`", graph.name(value)))
        .collect();
    let message = format!("NaN or infinity in {}", counted(places.len(), "weight"));
    (!places.is_empty()).then(|| Lint::new(Level::Error, "E0151", message).at(places))
}

fn batch_norms(graph: &Graph) -> Result<Option<Lint>> {
    let found = graph.invalid_batch_norms()?;
    let place = |(id, reason): &(NodeId, String)| format!("{}: {reason}", graph.describe(*id));
    let places: Vec<_> = found.iter().map(place).collect();
    let message = format!("{} cannot give numbers", counted(places.len(), "BatchNormalization"));
    Ok((!places.is_empty()).then(|| Lint::new(Level::Error, "E0156", message).at(places)))
}

fn unread(graph: &Graph) -> Option<Lint> {
    let index = Index::new(graph);
    let is_unread = |value: &&tensor_core::ValueId| {
        index.readers(**value).is_empty() && !graph.outputs.contains(value)
    };
    let places: Vec<_> = graph
        .initializers()
        .iter()
        .filter(is_unread)
        .map(|&value| format!("`{}`", graph.name(value)))
        .collect();
    let message = format!("{} that no node reads", counted(places.len(), "weight"));
    (!places.is_empty()).then(|| Lint::new(Level::Warning, "W0152", message).at(places))
}

/// Nodes whose shapes are unknown because something before them is.
fn without_shape(graph: &Graph, facts: &run::Facts) -> Option<Lint> {
    let unknown = unknown(graph);
    let lacks = |id: &tensor_core::NodeId| {
        let mut outputs = graph.node(*id).outputs.iter().flatten();
        !unknown.contains(id) && outputs.any(|&value| facts.get(value).is_none())
    };
    let places: Vec<_> = graph.node_ids().filter(lacks).map(|id| graph.describe(id)).collect();
    let message = format!(
        "unknown shapes at {}, because of the problems above or sizes that depend on the data; \
         channels there cannot be removed",
        counted(places.len(), "node")
    );
    (!places.is_empty()).then(|| Lint::new(Level::Warning, "W0153", message).at(places))
}

fn frozen(channels: &channels::Channels) -> Option<Lint> {
    let total = channels.groups.len();
    let frozen: Vec<_> = channels.groups.iter().filter(|group| group.frozen.is_some()).collect();
    if total == 0 || frozen.len() == total {
        return Some(Lint::new(
            Level::Error,
            "E0154",
            match total {
                0 => "nothing can be pruned: no layer reads the channels of another".to_owned(),
                _ => "nothing can be pruned: every channel group is frozen".to_owned(),
            },
        ));
    }
    let places: Vec<_> = frozen
        .iter()
        .map(|group| format!("{}: {}", group.root, group.frozen.as_deref().unwrap_or_default()))
        .collect();
    let message = format!("frozen: {} of {total} channel groups", places.len());
    (!places.is_empty()).then(|| Lint::new(Level::Note, "W0155", message).at(places))
}
