//! Reading a model, with what can be said about it without data.

use crate::args::{OnUnsupported, Shared};
use crate::console::Console;
use std::collections::BTreeMap;
use std::path::Path;
use tensor_core::channels::{self, Channels, ClassId};
use tensor_core::graph::Dim;
use tensor_core::run::{self, Facts};
use tensor_core::text::counted;
use tensor_core::{Error, Graph, NodeId, Result, ValueId, onnx, ops};

/// A model with the facts that hold at the given input shapes.
pub(super) struct Model {
    /// The graph.
    pub(super) graph: Graph,
    /// Shapes and types.
    pub(super) facts: Facts,
    /// Channel groups.
    pub(super) channels: Channels,
    /// Index into `channels.groups` by class, for groups that can be reported.
    groups: Vec<Option<usize>>,
}

impl Model {
    /// Reads and analyses a model.
    pub(super) fn load(path: &Path, shared: &Shared) -> Result<Self> {
        Self::analyze(onnx::read(path)?, shared)
    }

    /// Analyses a graph.
    pub(super) fn analyze(graph: Graph, shared: &Shared) -> Result<Self> {
        Self::of(graph, &shared.shapes())
    }

    /// Analyses a graph for these input shapes.
    pub(super) fn of(graph: Graph, shapes: &BTreeMap<String, Vec<usize>>) -> Result<Self> {
        let facts = run::infer(&graph, shapes)?;
        let channels = channels::analyze(&graph, &facts)?;
        let groups = channels.group_of_classes();
        Ok(Self { graph, facts, channels, groups })
    }

    /// The group of a class.
    pub(super) fn group_of(&self, class: ClassId) -> Option<usize> {
        self.groups.get(class as usize).copied().flatten()
    }

    /// Nodes whose operators are unknown.
    pub(super) fn unknown(&self) -> Vec<NodeId> {
        unknown(&self.graph)
    }

    /// Reports unknown operators as the policy says; `preset` holds when no policy was given.
    pub(super) fn apply_policy(
        &self,
        shared: &Shared,
        preset: OnUnsupported,
        console: &Console,
    ) -> Result<()> {
        let unknown = self.unknown();
        if unknown.is_empty() {
            return Ok(());
        }
        let places: Vec<_> = unknown.iter().map(|&id| self.graph.describe(id)).collect();
        let list = places.join("\n");
        match shared.on_unsupported.unwrap_or(preset) {
            OnUnsupported::Error => Err(Error::unsupported(format!(
                "operators of {} are not implemented\n{list}",
                counted(places.len(), "node")
            ))
            .code_is("E0110")
            .hint("`--on-unsupported skip` leaves them and what depends on them alone")),
            OnUnsupported::Skip => {
                let mut names: Vec<_> =
                    unknown.iter().map(|&id| self.graph.node(id).op.as_str()).collect();
                names.sort_unstable();
                names.dedup();
                console.warn(&format!(
                    "{} left alone, operators are not implemented: {}; what they compute is not \
                     counted in multiply-accumulates and budgets, nor is what is behind them where the \
                     file declares no shapes; `kerf check` lists the places",
                    counted(places.len(), "node"),
                    names.join(", ")
                ));
                Ok(())
            }
        }
    }

    /// `name  shape type` of a graph input or output.
    pub(super) fn signature(&self, value: ValueId) -> String {
        format!("{}  {}", self.graph.name(value), declared(&self.graph, value))
    }
}

/// Nodes whose operators are unknown.
pub(super) fn unknown(graph: &Graph) -> Vec<NodeId> {
    let is_unknown = |id: &NodeId| {
        let node = graph.node(*id);
        ops::lookup(&node.domain, &node.op).is_none()
    };
    graph.node_ids().filter(is_unknown).collect()
}

/// The declared shape and type of a value, such as `batchx1x28x28 F32`.
fn declared(graph: &Graph, value: ValueId) -> String {
    let Some(declared) = graph.declared(value) else { return "undeclared".to_owned() };
    let dims = match &declared.dims {
        None => "any rank".to_owned(),
        Some(dims) if dims.is_empty() => "()".to_owned(),
        Some(dims) => dims.iter().map(dim).collect::<Vec<_>>().join("x"),
    };
    let element = declared.element.map_or("any type".to_owned(), |e| format!("{e:?}"));
    format!("{dims} {element}")
}

fn dim(dim: &Dim) -> String {
    match dim {
        Dim::Known(n) => n.to_string(),
        Dim::Symbol(symbol) => symbol.clone(),
        Dim::Unknown => "?".to_owned(),
    }
}

/// The file name without its folders.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
