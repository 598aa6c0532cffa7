//! The embedded engine, `rten`: pure Rust, always there.

use super::engine::{Engine, Named, Runner, check_known, failed, input, refused};
use crate::graph::{Attribute, Graph, Index};
use crate::{Result, onnx};
use candle_core::{DType, Device, Tensor};
use rten::{DataType, Model, NodeId, RunOptions, ThreadPool, Value, ValueOrView, ValueType};
use rten_tensor::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

const NAME: &str = "rten";
/// The version in the workspace's manifest; a test holds it against the lock file.
const VERSION: &str = "0.27.0";

/// The engine, with a thread pool for every number of threads asked for.
///
/// Models share a pool: threads of their own would be placed on different cores, and a measurement
/// would compare cores instead of models.
#[derive(Default)]
pub(super) struct Rten {
    pools: Mutex<BTreeMap<usize, Arc<ThreadPool>>>,
}

impl Rten {
    fn pool(&self, threads: usize) -> Arc<ThreadPool> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let threads = threads.max(1);
        let pool =
            pools.entry(threads).or_insert_with(|| Arc::new(ThreadPool::with_num_threads(threads)));
        Arc::clone(pool)
    }
}

impl Engine for Rten {
    fn name(&self) -> String {
        format!("{NAME} {VERSION}")
    }

    fn load(&self, model: &[u8], threads: usize) -> Result<Box<dyn Runner>> {
        let model = match onnx::decode(model, None).ok().and_then(stated) {
            Some(graph) => onnx::encode(&graph)?,
            None => model.to_vec(),
        };
        let model = Model::load(model).map_err(|error| refused(NAME, error))?;
        Loaded::boxed(model, self.pool(threads))
    }

    fn load_file(&self, model: &Path, threads: usize) -> Result<Box<dyn Runner>> {
        if let Some(graph) = onnx::read(model).ok().and_then(stated) {
            return self.load(&onnx::encode(&graph)?, threads);
        }
        let loaded = Model::load_file(model)
            .map_err(|error| refused(NAME, format!("{}: {error}", model.display())))?;
        Loaded::boxed(loaded, self.pool(threads))
    }
}

/// The graph with the attributes that `rten` needs and ONNX leaves optional, when some are missing.
///
/// `rten` takes the number of spatial dimensions of a convolution from `kernel_shape` alone, and
/// without it fails on the strides, paddings and dilations that are left out as well.
fn stated(mut graph: Graph) -> Option<Graph> {
    let index = Index::new(&graph);
    let mut missing = Vec::new();
    for id in graph.node_ids() {
        let node = graph.node(id);
        let is_convolution = matches!(node.op.as_str(), "Conv" | "ConvTranspose");
        if !is_convolution || !node.domain.is_empty() || node.attributes.get(SHAPE).is_some() {
            continue;
        }
        let weight = node.input(1).and_then(|weight| graph.constant(weight, &index));
        if let Some(kernel) = weight.and_then(|weight| weight.dims().get(2..)) {
            missing.push((id, kernel.iter().map(|&n| n as i64).collect()));
        }
    }
    let is_incomplete = !missing.is_empty();
    for (id, kernel) in missing {
        graph.nodes[id.index()].attributes.set(SHAPE, Attribute::Ints(kernel));
    }
    is_incomplete.then_some(graph)
}

/// Size of a convolution's window, by axis.
const SHAPE: &str = "kernel_shape";

/// A model with the inputs of the next step.
struct Loaded {
    model: Model,
    inputs: Vec<String>,
    outputs: Vec<String>,
    prepared: Vec<(NodeId, Value)>,
    options: RunOptions,
}

impl Loaded {
    fn boxed(model: Model, pool: Arc<ThreadPool>) -> Result<Box<dyn Runner>> {
        let names = |ids: &[NodeId]| -> Result<Vec<String>> {
            ids.iter()
                .map(|&id| {
                    let name = model.node_info(id).and_then(|info| info.name());
                    let name = name.ok_or_else(|| refused(NAME, "an input or output has no name"));
                    name.map(str::to_owned)
                })
                .collect()
        };
        let (inputs, outputs) = (names(model.input_ids())?, names(model.output_ids())?);
        let options = RunOptions::default().with_thread_pool(Some(pool));
        Ok(Box::new(Self { model, inputs, outputs, prepared: Vec::new(), options }))
    }

    fn values(&self) -> Result<Vec<Value>> {
        let inputs =
            self.prepared.iter().map(|(id, value)| (*id, ValueOrView::from(value))).collect();
        self.model
            .run(inputs, self.model.output_ids(), Some(self.options.clone()))
            .map_err(|error| failed(NAME, error))
    }
}

impl Runner for Loaded {
    fn outputs(&self) -> &[String] {
        &self.outputs
    }

    fn prepare(&mut self, inputs: &[Named]) -> Result<()> {
        check_known(NAME, inputs, &self.inputs)?;
        self.prepared.clear();
        for (&id, name) in self.model.input_ids().iter().zip(&self.inputs) {
            let dtype = self.model.node_info(id).and_then(|info| info.dtype());
            let value = to_value(input(NAME, inputs, name)?, dtype, name)?;
            self.prepared.push((id, value));
        }
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        self.values().map(drop)
    }

    fn run(&mut self, inputs: &[Named]) -> Result<Vec<Named>> {
        self.prepare(inputs)?;
        let values = self.values()?;
        self.outputs
            .iter()
            .zip(values)
            .map(|(name, value)| Ok((name.clone(), from_value(value, name)?)))
            .collect()
    }
}

fn to_value(tensor: &Tensor, dtype: Option<ValueType>, name: &str) -> Result<Value> {
    let dims = tensor.dims();
    let flat = tensor.flatten_all()?;
    let integers = || -> Result<Vec<i64>> { Ok(flat.to_dtype(DType::I64)?.to_vec1()?) };
    let wrong = |error: String| failed(NAME, format!("input `{name}`: {error}"));
    // Without a declared type floats are the only sensible guess for a network's input.
    match dtype.unwrap_or(ValueType::Tensor(DataType::Float)) {
        ValueType::Tensor(DataType::Float) => {
            let values = flat.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            Value::from_shape(dims, values).map_err(|error| wrong(error.to_string()))
        }
        // `rten` computes 64-bit integers in 32 bits.
        ValueType::Tensor(DataType::Int32) => {
            Value::from_shape(dims, narrow::<i32>(integers()?, name)?)
                .map_err(|error| wrong(error.to_string()))
        }
        ValueType::Tensor(DataType::Int8) => {
            Value::from_shape(dims, narrow::<i8>(integers()?, name)?)
                .map_err(|error| wrong(error.to_string()))
        }
        ValueType::Tensor(DataType::UInt8) => {
            Value::from_shape(dims, narrow::<u8>(integers()?, name)?)
                .map_err(|error| wrong(error.to_string()))
        }
        other => Err(wrong(format!("elements of type {other:?}"))),
    }
}

fn narrow<T: TryFrom<i64>>(values: Vec<i64>, name: &str) -> Result<Vec<T>> {
    values
        .into_iter()
        .map(|value| {
            T::try_from(value).map_err(|_| {
                failed(NAME, format!("input `{name}`: {value} does not fit its element type"))
            })
        })
        .collect()
}

fn from_value(value: Value, name: &str) -> Result<Tensor> {
    let dims = value.shape().to_vec();
    match value {
        Value::FloatTensor(tensor) => Ok(Tensor::from_vec(tensor.into_data(), dims, &Device::Cpu)?),
        Value::Int32Tensor(tensor) => integers(tensor.into_data(), dims),
        Value::Int8Tensor(tensor) => integers(tensor.into_data(), dims),
        Value::UInt8Tensor(tensor) => integers(tensor.into_data(), dims),
        _ => Err(failed(NAME, format!("output `{name}` is no tensor"))),
    }
}

fn integers<T: Into<i64>>(values: Vec<T>, dims: Vec<usize>) -> Result<Tensor> {
    let values: Vec<i64> = values.into_iter().map(Into::into).collect();
    Ok(Tensor::from_vec(values, dims, &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_is_that_of_the_lock_file() {
        let lock = include_str!("../../../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"rten\"\nversion = \"{}\"", super::VERSION)));
    }
}
