//! What plug-ins see of a run of the graph, and put in its place.

use super::{Mode, Parameters, Plugin};
use crate::graph::Graph;
use crate::run::{Array, Tap};
use crate::text::near;
use crate::{Error, NodeId, Result, ValueId};
use candle_core::Tensor;
use std::collections::BTreeMap;

/// The values of a graph that plug-ins have to do with.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// Which plug-ins replace a value, in their order.
    replaced: BTreeMap<ValueId, Vec<usize>>,
    /// Names of the values that losses want.
    wanted: BTreeMap<ValueId, String>,
}

impl Watched {
    /// What the plug-ins ask for.
    ///
    /// # Errors
    /// `E0407` when the graph has no such value.
    pub(super) fn new(graph: &Graph, plugins: &[Box<dyn Plugin>]) -> Result<Self> {
        let mut watched = Self::default();
        for (i, plugin) in plugins.iter().enumerate() {
            for name in plugin.activations() {
                watched.replaced.entry(find(graph, &**plugin, &name)?).or_default().push(i);
            }
            for name in plugin.wants() {
                watched.wanted.insert(find(graph, &**plugin, &name)?, name);
            }
        }
        Ok(watched)
    }

    /// Does a plug-in replace values?
    pub(super) fn replaces(&self) -> bool {
        !self.replaced.is_empty()
    }

    /// The values that losses want.
    pub(super) fn wanted(&self) -> impl Iterator<Item = ValueId> {
        self.wanted.keys().copied()
    }
}

fn find(graph: &Graph, plugin: &dyn Plugin, name: &str) -> Result<ValueId> {
    graph.find(name).ok_or_else(|| {
        let known = (0..graph.value_count()).map(|i| graph.name(ValueId::from_index(i)));
        Error::invalid(format!("{}: the model has no value `{name}`", plugin.name()))
            .code_is("E0407")
            .hint(format!("the nearest names are {}", near(name, known)))
    })
}

/// Every parameter as the plug-ins let the graph see it, in order.
pub(super) fn parameters(
    parameters: &Parameters,
    tensors: impl Iterator<Item = Tensor>,
    plugins: &[Box<dyn Plugin>],
) -> Result<Vec<Tensor>> {
    let mut views = Vec::new();
    for (parameter, mut tensor) in parameters.iter().zip(tensors) {
        for plugin in plugins {
            if let Some(view) = plugin.parameter(&parameter.name, &tensor)? {
                if view.dims() != tensor.dims() {
                    return Err(Error::internal(format!(
                        "{} makes `{}` of shape {:?} one of {:?}",
                        plugin.name(),
                        parameter.name,
                        tensor.dims(),
                        view.dims()
                    )));
                }
                tensor = view;
            }
        }
        views.push(tensor);
    }
    Ok(views)
}

/// The tap of one run of the graph.
pub(super) struct Views<'a> {
    graph: &'a Graph,
    watched: &'a Watched,
    plugins: &'a mut [Box<dyn Plugin>],
    mode: Mode,
    /// Views that were made in this run.
    made: BTreeMap<ValueId, Array>,
    /// What losses wanted to see.
    pub(super) values: BTreeMap<String, Tensor>,
}

impl<'a> Views<'a> {
    pub(super) fn new(
        graph: &'a Graph,
        watched: &'a Watched,
        plugins: &'a mut [Box<dyn Plugin>],
        mode: Mode,
    ) -> Self {
        Self { graph, watched, plugins, mode, made: BTreeMap::new(), values: BTreeMap::new() }
    }
}

impl Tap for Views<'_> {
    fn before(&mut self, node: NodeId, input: usize, array: &Array) -> Result<Option<Array>> {
        let Some(value) = self.graph.node(node).input(input) else { return Ok(None) };
        let Some(by) = self.watched.replaced.get(&value) else { return Ok(None) };
        if let Some(made) = self.made.get(&value) {
            return Ok(Some(made.clone()));
        }
        let mut tensor = array.tensor.clone();
        for &plugin in by {
            let name = self.graph.name(value);
            tensor = self.plugins[plugin].activation(name, &tensor, self.mode)?;
        }
        let made = Array { tensor, element: array.element };
        self.made.insert(value, made.clone());
        Ok(Some(made))
    }

    fn after(&mut self, value: ValueId, array: &Array) -> Result<()> {
        if let Some(name) = self.watched.wanted.get(&value) {
            self.values.insert(name.clone(), array.tensor.clone());
        }
        Ok(())
    }

    fn touches(&self, value: ValueId) -> bool {
        self.watched.replaced.contains_key(&value) || self.watched.wanted.contains_key(&value)
    }
}
