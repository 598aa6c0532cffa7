//! ONNX Runtime, loaded at run time.

use super::discover;
use super::engine::{
    Engine, Named, Runner, check_known, failed, input, not_found, refused, unusable,
};
use crate::Result;
use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{DynValue, TensorElementType, ValueType};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const NAME: &str = "ONNX Runtime";

/// The library, which a process loads once.
struct Library {
    environment: Environment,
    version: String,
}

static LIBRARY: OnceLock<Result<Library>> = OnceLock::new();

/// The engine; exists only when the library was loaded.
pub(super) struct OnnxRuntime(&'static Library);

impl OnnxRuntime {
    /// Loads the library from the first place that has a usable one.
    ///
    /// # Errors
    /// `E0301` lists the places that had an unusable one; `E0305` when the one that the user names
    /// is unusable.
    pub(super) fn find() -> Result<Self> {
        LIBRARY.get_or_init(load).as_ref().map(Self).map_err(Clone::clone)
    }

    fn builder(&self, threads: usize) -> Result<SessionBuilder> {
        let build = || -> ort::Result<SessionBuilder> {
            let builder = Session::builder(&self.0.environment)?
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_intra_threads(threads.max(1))?
                .with_inter_threads(1)?
                // Spinning threads would steal the cores that the next measurement needs.
                .with_intra_op_spinning(false)?
                .with_inter_op_spinning(false)?
                // What is logged as an error also comes back as one.
                .with_log_level(LogLevel::Fatal)?;
            Ok(builder)
        };
        build().map_err(|error| refused(NAME, error))
    }
}

fn load() -> Result<Library> {
    if let Some(path) = discover::named() {
        return open(&path).map_err(|error| unusable(&path, error));
    }
    let mut reasons = Vec::new();
    for path in discover::candidates() {
        match open(&path) {
            Ok(library) => return Ok(library),
            Err(error) => reasons.push(error),
        }
    }
    Err(not_found(reasons.join("; ")))
}

fn open(path: &Path) -> Result<Library, String> {
    let builder = ort::init_from(path).map_err(|error| error.to_string())?;
    let environment = builder.with_name("kerf").with_telemetry(false).build();
    let environment = environment.map_err(|error| error.to_string())?;
    environment.set_log_level(LogLevel::Fatal);
    Ok(Library { environment, version: version(path) })
}

/// From the build information, which names the release branch, else from the file name
/// (`libonnxruntime.so.1.31.1`).
fn version(path: &Path) -> String {
    let info = ort::info();
    if let Some((_, branch)) = info.split_once("git-branch=rel-") {
        return branch.split([',', ' ']).next().unwrap_or_default().to_owned();
    }
    let resolved: PathBuf = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = resolved.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match name.split_once(".so.") {
        Some((_, version)) => version.to_owned(),
        None => format!("({info})"),
    }
}

impl Engine for OnnxRuntime {
    fn name(&self) -> String {
        format!("{NAME} {}", self.0.version)
    }

    fn load(&self, model: &[u8], threads: usize) -> Result<Box<dyn Runner>> {
        let session = self.builder(threads)?.commit_from_memory(model);
        session.map_err(|error| refused(NAME, error)).map(Loaded::boxed)
    }

    fn load_file(&self, model: &Path, threads: usize) -> Result<Box<dyn Runner>> {
        let session = self.builder(threads)?.commit_from_file(model);
        session
            .map_err(|error| refused(NAME, format!("{}: {error}", model.display())))
            .map(Loaded::boxed)
    }
}

/// A session with the inputs of the next step.
struct Loaded {
    session: Session,
    inputs: Vec<String>,
    outputs: Vec<String>,
    prepared: Vec<DynValue>,
}

impl Loaded {
    fn boxed(session: Session) -> Box<dyn Runner> {
        let inputs = session.inputs().iter().map(|input| input.name().to_owned()).collect();
        let outputs = session.outputs().iter().map(|output| output.name().to_owned()).collect();
        Box::new(Self { session, inputs, outputs, prepared: Vec::new() })
    }
}

/// Names and values as a session takes them.
fn feeds<'a>(names: &'a [String], values: &'a [DynValue]) -> Vec<(&'a str, &'a DynValue)> {
    names.iter().map(String::as_str).zip(values).collect()
}

impl Runner for Loaded {
    fn outputs(&self) -> &[String] {
        &self.outputs
    }

    fn prepare(&mut self, inputs: &[Named]) -> Result<()> {
        check_known(NAME, inputs, &self.inputs)?;
        self.prepared.clear();
        for declared in self.session.inputs() {
            let ValueType::Tensor { ty, .. } = declared.dtype() else {
                return Err(failed(NAME, format!("input `{}` is no tensor", declared.name())));
            };
            let tensor = input(NAME, inputs, declared.name())?;
            self.prepared.push(to_value(tensor, *ty, declared.name())?);
        }
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        let feeds = feeds(&self.inputs, &self.prepared);
        self.session.run(feeds).map(drop).map_err(|error| failed(NAME, error))
    }

    fn run(&mut self, inputs: &[Named]) -> Result<Vec<Named>> {
        self.prepare(inputs)?;
        let feeds = feeds(&self.inputs, &self.prepared);
        let outputs = self.session.run(feeds).map_err(|error| failed(NAME, error))?;
        self.outputs
            .iter()
            .map(|name| {
                let value = outputs
                    .get(name)
                    .ok_or_else(|| failed(NAME, format!("output `{name}` is missing")))?;
                Ok((name.clone(), from_value(value, name)?))
            })
            .collect()
    }
}

fn to_value(tensor: &Tensor, ty: TensorElementType, name: &str) -> Result<DynValue> {
    let dims = tensor.dims().to_vec();
    let flat = tensor.flatten_all()?;
    let integers = || -> Result<Vec<i64>> { Ok(flat.to_dtype(DType::I64)?.to_vec1()?) };
    let value = match ty {
        TensorElementType::Float32 => value(dims, flat.to_dtype(DType::F32)?.to_vec1::<f32>()?),
        TensorElementType::Float64 => value(dims, flat.to_dtype(DType::F64)?.to_vec1::<f64>()?),
        TensorElementType::Float16 => value(dims, flat.to_dtype(DType::F16)?.to_vec1::<f16>()?),
        TensorElementType::Bfloat16 => value(dims, flat.to_dtype(DType::BF16)?.to_vec1::<bf16>()?),
        TensorElementType::Int64 => value(dims, integers()?),
        TensorElementType::Int32 => value(dims, narrow::<i32>(integers()?, name)?),
        TensorElementType::Int16 => value(dims, narrow::<i16>(integers()?, name)?),
        TensorElementType::Int8 => value(dims, narrow::<i8>(integers()?, name)?),
        TensorElementType::Uint64 => value(dims, narrow::<u64>(integers()?, name)?),
        TensorElementType::Uint32 => value(dims, narrow::<u32>(integers()?, name)?),
        TensorElementType::Uint16 => value(dims, narrow::<u16>(integers()?, name)?),
        TensorElementType::Uint8 => value(dims, narrow::<u8>(integers()?, name)?),
        TensorElementType::Bool => {
            value(dims, integers()?.into_iter().map(|number| number != 0).collect())
        }
        other => {
            return Err(failed(
                NAME,
                format!("kerf feeds no input of type {other}, which `{name}` has"),
            ));
        }
    };
    value.map_err(|error| failed(NAME, format!("input `{name}`: {error}")))
}

fn value<T>(dims: Vec<usize>, values: Vec<T>) -> ort::Result<DynValue>
where
    T: ort::value::PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
{
    Ok(ort::value::Tensor::from_array((dims, values))?.into_dyn())
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

fn from_value(value: &DynValue, name: &str) -> Result<Tensor> {
    let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
        return Err(failed(NAME, format!("output `{name}` is no tensor")));
    };
    let dims: Vec<usize> = shape.iter().map(|&dim| dim.max(0) as usize).collect();
    match ty {
        TensorElementType::Float32 => {
            let (_, values) = value.try_extract_tensor::<f32>().map_err(|e| failed(NAME, e))?;
            Ok(Tensor::from_slice(values, dims, &Device::Cpu)?)
        }
        TensorElementType::Float64 => {
            let (_, values) = value.try_extract_tensor::<f64>().map_err(|e| failed(NAME, e))?;
            Ok(Tensor::from_slice(values, dims, &Device::Cpu)?)
        }
        TensorElementType::Float16 => {
            let (_, values) = value.try_extract_tensor::<f16>().map_err(|e| failed(NAME, e))?;
            Ok(Tensor::from_slice(values, dims, &Device::Cpu)?.to_dtype(DType::F32)?)
        }
        TensorElementType::Bfloat16 => {
            let (_, values) = value.try_extract_tensor::<bf16>().map_err(|e| failed(NAME, e))?;
            Ok(Tensor::from_slice(values, dims, &Device::Cpu)?.to_dtype(DType::F32)?)
        }
        TensorElementType::Int64 => integers::<i64>(value, dims),
        TensorElementType::Int32 => integers::<i32>(value, dims),
        TensorElementType::Int16 => integers::<i16>(value, dims),
        TensorElementType::Int8 => integers::<i8>(value, dims),
        TensorElementType::Uint32 => integers::<u32>(value, dims),
        TensorElementType::Uint16 => integers::<u16>(value, dims),
        TensorElementType::Uint8 => integers::<u8>(value, dims),
        TensorElementType::Bool => integers::<bool>(value, dims),
        other => {
            Err(failed(NAME, format!("kerf reads no output of type {other}, which `{name}` has")))
        }
    }
}

fn integers<T>(value: &DynValue, dims: Vec<usize>) -> Result<Tensor>
where
    T: ort::value::PrimitiveTensorElementType + Copy + Into<i64>,
{
    let (_, values) = value.try_extract_tensor::<T>().map_err(|error| failed(NAME, error))?;
    let values: Vec<i64> = values.iter().map(|&value| value.into()).collect();
    Ok(Tensor::from_vec(values, dims, &Device::Cpu)?)
}
