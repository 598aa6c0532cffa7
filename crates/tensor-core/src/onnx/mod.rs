//! Reading and writing ONNX files, losslessly.
//!
//! [`read`] makes a [`Graph`] of a `ModelProto` and [`write()`] turns it back. What did not change in
//! between is written as it was: unknown operators, functions, sub-graphs, documentation, the way
//! each tensor is stored. A file that passes through unchanged keeps its bytes, if its writer put
//! fields in the order of their numbers, as the usual ones do. Three things are made regular: nodes
//! in no valid order are sorted, external data goes to one file named after the model, and
//! external data of small tensors and inside sub-graphs and functions moves into the model.
//!
//! Sparse initializers of floats are read as dense weights, unless these would take far more memory
//! than the file. Those that change are written dense, the others as they were.
//!
//! Everything in a file is untrusted: lengths are checked before memory is taken, data files must
//! lie in the model's folder, and a file that is not understood is refused with a code:
//!
//! | code | what is wrong |
//! |---|---|
//! | `E0003` | the file cannot be read or written |
//! | `E0100` | not ONNX, cut off, damaged, or nested too deeply |
//! | `E0101` | a tensor whose type, shape and data do not fit together |
//! | `E0102` | the graph: names given twice, values nobody produces, cycles |
//! | `E0103` | opset below 9, or an IR version that is not known |
//! | `E0104` | data files: outside the model's folder, missing, too short |

mod attribute;
mod decode;
mod encode;
mod external;
mod info;
mod nested;
mod node;
mod payload;
#[allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::all,
    reason = "generated; see README.md in this folder"
)]
mod proto;
mod sniff;
mod sort;
mod sparse;
mod tensor;
pub mod test_data;
#[cfg(test)]
mod tests;
mod typed;
mod wire;
mod write;

pub(crate) use payload::payloads_without;
pub use payload::{Payload, payloads};
pub use sparse::{Kept, SparseModel, to_sparse};
pub use test_data::{tensor_from_bytes, tensor_to_bytes};

use crate::graph::Graph;
use crate::{Error, Result};
use external::External;
use prost::Message;
use std::path::Path;

/// Reads a model and its external data.
///
/// # Errors
/// `E0003` when the file cannot be read, otherwise as [`decode()`].
pub fn read(path: &Path) -> Result<Graph> {
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, &error))?;
    let mut graph = decode(&bytes, Some(path.parent().unwrap_or(Path::new(""))))?;
    graph.layout.source = path.canonicalize().ok();
    Ok(graph)
}

/// Makes a graph of the bytes of a model file. Data files are looked for in `base_dir`; without it
/// a model with external data is refused.
///
/// # Errors
/// `E0100` to `E0104` as listed in the [module](self), naming the tensor or node.
pub fn decode(bytes: &[u8], base_dir: Option<&Path>) -> Result<Graph> {
    let explain = |error: Error| error.hint(sniff::hint(bytes));
    if bytes.is_empty() {
        return Err(Error::invalid("the file is empty").code_is("E0100"));
    }
    wire::check_model(bytes).map_err(explain)?;
    let mut model = proto::ModelProto::decode(bytes).map_err(|error| {
        explain(Error::invalid(format!("not a readable ONNX file: {error}")).code_is("E0100"))
    })?;
    let Some(body) = model.graph.take() else {
        return Err(explain(Error::invalid("the file holds no graph").code_is("E0100")));
    };
    let mut external = External::new(base_dir);
    let mut graph = decode::graph(model, body, &mut external)?;
    graph.layout.data_files = external.paths();
    Ok(graph)
}

/// Checks that writing a graph to a path would not replace a data file of the model that it was
/// read from. Writing that model itself anew is allowed: it gets its own data file.
///
/// # Errors
/// `E0021` when it would.
pub fn check_target(graph: &Graph, path: &Path) -> Result<()> {
    write::check_target(graph, path)
}

/// The bytes of a model file with all weights inside.
///
/// # Errors
/// When the graph is not valid, or `E0104` when it takes more than 2 GiB.
pub fn encode(graph: &Graph) -> Result<Vec<u8>> {
    let model = encode::model(graph, &mut |_| None)?;
    write::check_size(model.encoded_len(), write::MAX_MESSAGE)?;
    Ok(model.encode_to_vec())
}

/// Writes a model file.
///
/// Initializers that came from a data file, and those of a model above 2 GiB, go to `<path>.data`,
/// except for small ones. Files are written under a temporary name, synced and renamed: when this fails, the
/// target is as it was and nothing is left behind.
///
/// # Errors
/// `E0003` when a file cannot be written, otherwise as [`check_target()`] and [`encode()`].
pub fn write(graph: &Graph, path: &Path) -> Result<()> {
    write::write(graph, path, write::MAX_MESSAGE)
}
