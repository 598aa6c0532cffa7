//! What an inference engine must offer, and the choice among those there are.

use super::{onnxruntime::OnnxRuntime, rten::Rten};
use crate::{Error, ErrorKind, Result};
use candle_core::Tensor;
use std::fmt::Display;
use std::path::Path;

/// A tensor with the name of the graph input or output that it belongs to. Floats are `F32` or
/// `F64`, all integers and booleans `I64`.
pub type Named = (String, Tensor);

/// An inference engine.
pub trait Engine: Send + Sync {
    /// Name and version, such as `ONNX Runtime 1.23.0`.
    fn name(&self) -> String;

    /// Loads a model from the bytes of its file. External data cannot be found this way.
    ///
    /// # Errors
    /// `E0302` when the engine refuses the model.
    fn load(&self, model: &[u8], threads: usize) -> Result<Box<dyn Runner>>;

    /// Loads a model from its file, with external data beside it.
    ///
    /// # Errors
    /// `E0302` when the engine refuses the model, or the file cannot be read.
    fn load_file(&self, model: &Path, threads: usize) -> Result<Box<dyn Runner>>;
}

/// A loaded model.
pub trait Runner: Send {
    /// Names of the graph outputs, in order.
    fn outputs(&self) -> &[String];

    /// Converts inputs for [`Runner::step`].
    ///
    /// # Errors
    /// `E0303` when an input is missing, unknown or of the wrong type.
    fn prepare(&mut self, inputs: &[Named]) -> Result<()>;

    /// Runs on the prepared inputs and drops the outputs: nothing but the engine's own work, which
    /// is what a latency measurement times.
    ///
    /// # Errors
    /// `E0303` when the engine fails.
    fn step(&mut self) -> Result<()>;

    /// Runs and gives all outputs, in graph order.
    ///
    /// # Errors
    /// `E0303` when an input is missing, unknown or of the wrong type, or the engine fails.
    fn run(&mut self, inputs: &[Named]) -> Result<Vec<Named>>;
}

/// Which engine to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Choice {
    /// ONNX Runtime when its library is found, else `rten`.
    #[default]
    Auto,
    /// ONNX Runtime or an error.
    OnnxRuntime,
    /// The embedded engine.
    Rten,
}

/// An engine, and why it is not the preferred one.
pub struct Selected {
    /// The engine.
    pub engine: Box<dyn Engine>,
    /// Why [`Choice::Auto`] fell back to `rten`: to be shown to the user.
    pub fallback: Option<String>,
}

/// The chosen engine.
///
/// The ONNX Runtime library is the file that the environment variable `ORT_DYLIB_PATH` names. When
/// it names none, the library is looked for in this order: beside the executable; where the system's loader looks; in the Python
/// environment `VIRTUAL_ENV`; beside the `python3` on `PATH`; and where that `python3` says that its
/// package `onnxruntime` is. It is loaded once per process.
///
/// # Errors
/// `E0301` when ONNX Runtime is asked for and not found; `E0305` when the library that the user
/// names cannot be used.
pub fn engine(choice: Choice) -> Result<Selected> {
    let fallback = match choice {
        Choice::Rten => None,
        Choice::Auto | Choice::OnnxRuntime => match OnnxRuntime::find() {
            Ok(found) => return Ok(Selected { engine: Box::new(found), fallback: None }),
            // What the user named must not be replaced by something else in silence.
            Err(error) if choice == Choice::OnnxRuntime || error.code() == "E0305" => {
                return Err(error);
            }
            Err(error) => Some(error.message().to_owned()),
        },
    };
    Ok(Selected { engine: Box::new(Rten::default()), fallback })
}

/// Checks the ONNX Runtime library that the environment variable `ORT_DYLIB_PATH` names, if any.
///
/// # Errors
/// `E0305` when it cannot be used.
pub fn check_named() -> Result<()> {
    match super::discover::named() {
        Some(_) => OnnxRuntime::find().map(|_| ()),
        None => Ok(()),
    }
}

/// No such engine here.
pub(super) fn not_found(what: impl Display) -> Error {
    Error::new(ErrorKind::Unsupported, "E0301", format!("ONNX Runtime was not found: {what}"))
        .hint("install it with `pip install onnxruntime`, or set ORT_DYLIB_PATH to its library")
}

/// The library that the user named cannot be used.
pub(super) fn unusable(path: &Path, why: impl Display) -> Error {
    let message = format!("ORT_DYLIB_PATH names {}, which cannot be used: {why}", path.display());
    Error::new(ErrorKind::Invalid, "E0305", message)
        .hint("correct the path, or unset ORT_DYLIB_PATH to have the library looked for")
}

/// The engine refuses a model.
pub(super) fn refused(engine: &str, what: impl Display) -> Error {
    Error::new(ErrorKind::Unsupported, "E0302", format!("{engine} cannot load the model: {what}"))
}

/// A run failed.
pub(super) fn failed(engine: &str, what: impl Display) -> Error {
    Error::new(ErrorKind::Unsupported, "E0303", format!("{engine} cannot run the model: {what}"))
}

/// The input of that name.
pub(super) fn input<'a>(engine: &str, inputs: &'a [Named], name: &str) -> Result<&'a Tensor> {
    inputs
        .iter()
        .find(|(other, _)| other == name)
        .map(|(_, tensor)| tensor)
        .ok_or_else(|| failed(engine, format!("input `{name}` is not given")))
}

/// Checks that no input is given that the model does not have.
pub(super) fn check_known(engine: &str, inputs: &[Named], known: &[String]) -> Result<()> {
    match inputs.iter().find(|(name, _)| !known.contains(name)) {
        Some((name, _)) => Err(failed(engine, format!("it has no input `{name}`"))),
        None => Ok(()),
    }
}
