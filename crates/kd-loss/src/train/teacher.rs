//! A teacher that runs beside the student.

use candle_core::Tensor;
use std::collections::BTreeMap;
use tensor_core::run::{Array, Backend, Session, infer};
use tensor_core::train::scores;
use tensor_core::{Error, Graph, Result, ValueId};

/// A graph that is evaluated in inference mode. Its weights are constants, so nothing that it
/// computes has a gradient.
pub(super) struct Teacher {
    session: Session<'static>,
    /// Names and ids of the inputs.
    inputs: Vec<(String, ValueId)>,
    /// The scores, then the features.
    targets: Vec<ValueId>,
}

impl Teacher {
    /// Prepares a graph for its scores and the named features.
    pub(super) fn new(graph: Graph, features: &[ValueId], backend: &Backend) -> Result<Self> {
        let targets: Vec<_> = [scores(&graph)?].iter().chain(features).copied().collect();
        let inputs = graph.inputs.iter().map(|&v| (graph.name(v).to_owned(), v)).collect();
        let session = Session::owned(graph, &targets)?.on(backend)?;
        Ok(Self { session, inputs, targets })
    }

    /// Scores and features of a batch, whose inputs go by name, or by position where names differ.
    pub(super) fn run(&self, batch: &[(String, Array)]) -> Result<Vec<Tensor>> {
        let mut given = Vec::new();
        for (i, (name, value)) in self.inputs.iter().enumerate() {
            let by_name = batch.iter().find(|(other, _)| other == name);
            let by_position = batch.get(i).filter(|_| batch.len() == self.inputs.len());
            let (_, array) = by_name.or(by_position).ok_or_else(|| {
                Error::invalid(format!(
                    "the student has no input `{name}`, which the teacher reads"
                ))
                .code_is("E0420")
                .hint("teacher and student must read the same inputs")
            })?;
            given.push((*value, array.clone()));
        }
        let arrays = self.session.fetch(&given, &self.targets)?;
        Ok(arrays.into_iter().map(|array| array.tensor.detach()).collect())
    }
}

/// Shape of a value for a batch of one, and of the scores.
pub(super) struct Shapes {
    graph_shapes: tensor_core::run::Facts,
}

impl Shapes {
    pub(super) fn of(graph: &Graph, shapes: &BTreeMap<String, Vec<usize>>) -> Result<Self> {
        let known = shapes.iter().filter(|(name, _)| {
            graph.find(name).is_some_and(|value| graph.inputs.contains(&value))
        });
        let known = known.map(|(name, dims)| (name.clone(), dims.clone())).collect();
        Ok(Self { graph_shapes: infer(graph, &known)? })
    }

    pub(super) fn get(&self, graph: &Graph, value: ValueId) -> Result<Vec<usize>> {
        self.graph_shapes.dims(value).map(<[usize]>::to_vec).ok_or_else(|| {
            Error::unsupported(format!("the shape of `{}` is not known", graph.name(value)))
                .code_is("E0420")
                .hint("give the shapes of the inputs with `shape`, and see whether `kerf check` finds operators that are not implemented")
        })
    }
}
