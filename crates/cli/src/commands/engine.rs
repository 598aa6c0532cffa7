//! `--engine`, and our own executor behind the same interface as the other engines.

use super::samples;
use crate::args::Shared;
use crate::console::Console;
use clap::ValueEnum;
use serde::Serialize;
use std::path::Path;
use std::thread::{self, JoinHandle};
use tensor_core::measure::{self, Choice, Engine, Named, Runner, Selected};
use tensor_core::run::{Array, Session};
use tensor_core::{Error, Graph, Result, ValueId};

/// What runs the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EngineArg {
    /// ONNX Runtime when its library is found, else rten
    Auto,
    /// Kerf's own executor
    Kerf,
    /// ONNX Runtime
    Ort,
    /// The embedded rten
    Rten,
}

/// A foreign engine; a fallback is told to the user.
pub(super) fn foreign(choice: Choice, console: &Console) -> Result<Box<dyn Engine>> {
    Search::start(choice).end(console)
}

/// A search for a foreign engine beside other work: it may have to ask an interpreter for a library.
pub(super) struct Search(Option<JoinHandle<Result<Selected>>>);

impl Search {
    pub(super) fn start(choice: Choice) -> Self {
        Self(Some(thread::spawn(move || measure::engine(choice))))
    }

    /// The engine; a fallback is told to the user.
    pub(super) fn end(mut self, console: &Console) -> Result<Box<dyn Engine>> {
        let selected = self.join().ok_or_else(|| Error::internal("no engine was looked for"))??;
        if let Some(why) = &selected.fallback {
            console.warn(&format!("ONNX Runtime was not found, rten is used: {why}"));
        }
        Ok(selected.engine)
    }

    fn join(&mut self) -> Option<Result<Selected>> {
        let failed = |_| Err(Error::internal("the search for an engine failed"));
        self.0.take().map(|search| search.join().unwrap_or_else(failed))
    }
}

// A process that ends while another thread loads a library crashes in that library.
impl Drop for Search {
    fn drop(&mut self) {
        self.join();
    }
}

/// Threads that an engine may use.
pub(super) fn threads(shared: &Shared) -> usize {
    match shared.threads {
        Some(threads) => threads.into(),
        None => thread::available_parallelism().map_or(1, usize::from),
    }
}

/// A loaded model and the name of what runs it.
pub(super) struct Loaded<'g> {
    /// Engine name and version.
    pub(super) engine: String,
    /// The model.
    pub(super) runner: Box<dyn Runner + 'g>,
}

impl EngineArg {
    /// The foreign engine, if it is one.
    pub(super) fn choice(self) -> Option<Choice> {
        match self {
            Self::Kerf => None,
            Self::Auto => Some(Choice::Auto),
            Self::Ort => Some(Choice::OnnxRuntime),
            Self::Rten => Some(Choice::Rten),
        }
    }

    /// Loads a model that was read from `path`.
    pub(super) fn load<'g>(
        self,
        path: &Path,
        graph: &'g Graph,
        shared: &Shared,
        console: &Console,
    ) -> Result<Loaded<'g>> {
        let Some(choice) = self.choice() else {
            return Ok(Loaded { engine: own_name(), runner: Box::new(Own::new(graph)?) });
        };
        let engine = foreign(choice, console)?;
        let runner = engine.load_file(path, threads(shared))?;
        Ok(Loaded { engine: engine.name(), runner })
    }
}

/// Name and version of our own executor.
pub(super) fn own_name() -> String {
    format!("kerf {}", env!("CARGO_PKG_VERSION"))
}

/// Our own executor.
pub(super) struct Own<'g> {
    graph: &'g Graph,
    session: Session<'g>,
    outputs: Vec<String>,
    prepared: Vec<(ValueId, Array)>,
}

impl<'g> Own<'g> {
    /// Makes a graph ready to run.
    pub(super) fn new(graph: &'g Graph) -> Result<Self> {
        Ok(Self::of(graph, Session::new(graph)?))
    }

    /// Takes a session of the graph.
    pub(super) fn of(graph: &'g Graph, session: Session<'g>) -> Self {
        let outputs = graph.outputs.iter().map(|&value| graph.name(value).to_owned()).collect();
        Self { graph, session, outputs, prepared: Vec::new() }
    }
}

impl Runner for Own<'_> {
    fn outputs(&self) -> &[String] {
        &self.outputs
    }

    fn prepare(&mut self, inputs: &[Named]) -> Result<()> {
        self.prepared = samples::in_order(self.graph, inputs)?;
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        self.session.run(&self.prepared).map(|_| ())
    }

    fn run(&mut self, inputs: &[Named]) -> Result<Vec<Named>> {
        let outputs = self.session.run(&samples::in_order(self.graph, inputs)?)?;
        Ok(self.outputs.iter().cloned().zip(outputs.into_iter().map(|a| a.tensor)).collect())
    }
}
