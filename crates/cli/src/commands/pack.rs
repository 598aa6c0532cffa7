//! `kerf pack`: a sparse model as a small file, without loss.

use super::{Context, Outcome, Task};
use crate::args::Shared;
use crate::byte_count::ByteCount;
use crate::output;
use crate::table::Table;
use crate::units;
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use tensor_core::graph::Index;
use tensor_core::pack::{self, Coding, Packed, PackedTensor};
use tensor_core::text::counted;
use tensor_core::{Error, Result, ValueId, files, onnx};

/// What `kerf pack` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// The smallest file; `kerf unpack` gives back the model
    Kerfpack,
    /// An ONNX model with sparse initializers, as ONNX Runtime reads it
    OnnxSparse,
}

/// Arguments of `kerf pack`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct PackArgs {
    /// The model
    model: PathBuf,
    /// Where to write the packed file
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// What to write
    #[arg(long, value_enum, default_value_t = Format::Kerfpack)]
    format: Format,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    #[serde(flatten)]
    shared: Shared,
}

impl Task for PackArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn model(&self) -> Option<&Path> {
        Some(&self.model)
    }

    fn outputs(&self) -> Vec<output::Target<'_>> {
        vec![output::Target::File { path: &self.output, force: self.force }]
    }

    fn run(&self, cx: &Context) -> Result<Outcome> {
        let model = fs::read(&self.model).map_err(|error| Error::io(&self.model, &error))?;
        if self.format == Format::OnnxSparse {
            return self.write_sparse(&model);
        }
        let packed = pack::pack(&model)?;
        if pack::unpack(&packed.bytes)? != model {
            return Err(Error::internal("the packed model does not unpack to the same bytes"));
        }
        files::write_whole(&self.output, |part| fs::write(part, &packed.bytes))?;
        let sizes = Sizes::new(&model, &packed)?;
        let mut text = table(&packed).render();
        text.push_str(&sizes.text());
        text.push_str(&format!("wrote {}\n", self.output.display()));
        if cx.console.is_verbose() {
            text.insert_str(0, &each(&packed).render());
        }
        let result = json!({
            "output": self.output,
            "sizes": sizes,
            "tensors": packed.tensors,
        });
        let mut outcome = Outcome::answer(text, result);
        outcome.hint = hint(&packed);
        Ok(outcome)
    }
}

impl PackArgs {
    /// Writes the model with sparse initializers.
    fn write_sparse(&self, model: &[u8]) -> Result<Outcome> {
        let sparse = onnx::to_sparse(model)?;
        if !is_same(model, &sparse.bytes)? {
            return Err(Error::internal("the sparse model does not have the same weights"));
        }
        files::write_whole(&self.output, |part| fs::write(part, &sparse.bytes))?;
        let sizes = json!({
            "model": model.len(),
            "packed": sparse.bytes.len(),
            "model_zstd": compressed(model)?,
            "packed_zstd": compressed(&sparse.bytes)?,
            "zstd_level": ZSTD_LEVEL,
        });
        let kept =
            sparse.kept.iter().map(|kept| format!("dense    `{}` {}\n", kept.name, kept.reason));
        let text = format!(
            "{} became sparse: {} bytes are {} ({})\n{}wrote {}\n",
            counted(sparse.converted, "tensor"),
            model.len(),
            sparse.bytes.len(),
            units::share(sparse.bytes.len() as u64, model.len() as u64),
            kept.collect::<String>(),
            self.output.display()
        );
        let result = json!({
            "output": self.output,
            "sizes": sizes,
            "converted": sparse.converted,
            "kept": sparse.kept,
        });
        let mut outcome = Outcome::answer(text, result);
        outcome.hint = (sparse.converted == 0 && sparse.kept.is_empty()).then(|| {
            "no tensor has enough zeros: sparse ones are smaller from two thirds of zeros on, with \
             16-bit floats from 80%"
                .to_owned()
        });
        Ok(outcome)
    }
}

/// Do two model files hold the same weights, where those of Constant nodes may have become
/// initializers?
fn is_same(dense: &[u8], sparse: &[u8]) -> Result<bool> {
    let (dense, sparse) = (onnx::decode(dense, None)?, onnx::decode(sparse, None)?);
    let index = Index::new(&dense);
    let is_known = |&value: &ValueId| {
        let other = dense.find(sparse.name(value)).and_then(|value| dense.constant(value, &index));
        sparse.initializer(value).zip(other).is_some_and(|(a, b)| {
            (a.element(), a.dims(), a.bytes()) == (b.element(), b.dims(), b.bytes())
        })
    };
    let moved = sparse.initializers().len().checked_sub(dense.initializers().len());
    Ok(sparse.initializers().iter().all(is_known)
        && moved.is_some_and(|moved| sparse.nodes.len() + moved == dense.nodes.len()))
}

/// Bytes before and after.
#[derive(Debug, Serialize)]
struct Sizes {
    model: u64,
    packed: u64,
    /// What the formula gives for the counts of non-zero weights.
    formula: u64,
    model_zstd: u64,
    packed_zstd: u64,
    zstd_level: i32,
}

impl Sizes {
    fn new(model: &[u8], packed: &Packed) -> Result<Self> {
        Ok(Self {
            model: model.len() as u64,
            packed: packed.bytes.len() as u64,
            formula: packed.expected().round() as u64,
            model_zstd: compressed(model)?,
            packed_zstd: compressed(&packed.bytes)?,
            zstd_level: ZSTD_LEVEL,
        })
    }

    fn text(&self) -> String {
        let row = |name: &str, plain: u64, zstd: u64| {
            [name.to_owned(), plain.to_string(), units::share(plain, self.model), zstd.to_string()]
        };
        let mut table = Table::new(&["file", ">bytes", ">of model", ">after zstd"]);
        table.row(row("model", self.model, self.model_zstd));
        table.row(row("packed", self.packed, self.packed_zstd));
        let difference = self.packed as f64 / self.formula.max(1) as f64 - 1.0;
        format!(
            "\n{}\nformula  {} bytes; the file is {:+.2}% from it\n",
            table.render(),
            self.formula,
            difference * 100.0
        )
    }
}

/// Where a higher level gains little and takes long.
const ZSTD_LEVEL: i32 = 9;

/// Size after compression by zstd.
fn compressed(bytes: &[u8]) -> Result<u64> {
    let mut counter = ByteCount::default();
    zstd::stream::copy_encode(bytes, &mut counter, ZSTD_LEVEL)
        .map_err(|error| Error::internal(format!("zstd: {error}")))?;
    Ok(counter.0)
}

fn name(coding: Coding) -> &'static str {
    match coding {
        Coding::Dense => "dense",
        Coding::Mask => "bit mask",
        Coding::Gaps => "4-bit gaps",
    }
}

/// Why the file is not smaller, where that is known.
fn hint(packed: &Packed) -> Option<String> {
    let negative: u64 = packed.tensors.iter().map(|tensor| tensor.negative_zeros).sum();
    if negative > 0 {
        return Some(format!(
            "{} are -0.0, which packing keeps as values; adding 0.0 to weights after they were \
             masked makes them zeros",
            counted(negative, "weight")
        ));
    }
    let is_dense = packed.tensors.iter().all(|tensor| tensor.coding == Coding::Dense);
    is_dense.then(|| "no weights are sparse enough to take less space".to_owned())
}

/// One line for each coding.
fn table(packed: &Packed) -> Table {
    let mut table = Table::new(&["coding", ">tensors", ">weights", ">zeros", ">bytes", ">formula"]);
    for coding in [Coding::Gaps, Coding::Mask, Coding::Dense] {
        let tensors = || packed.tensors.iter().filter(|tensor| tensor.coding == coding);
        let sum = |of: fn(&PackedTensor) -> u64| tensors().map(of).sum::<u64>();
        let elements = sum(|tensor| tensor.elements);
        if elements == 0 {
            continue;
        }
        let zeros = elements - sum(|tensor| tensor.nonzeros);
        let formula: f64 = tensors().map(|tensor| tensor.expected).sum();
        table.row([
            name(coding).to_owned(),
            tensors().count().to_string(),
            elements.to_string(),
            units::share(zeros, elements),
            sum(|tensor| tensor.bytes).to_string(),
            format!("{formula:.0}"),
        ]);
    }
    table
}

/// One line for each tensor.
fn each(packed: &Packed) -> Table {
    let mut table = Table::new(&["tensor", ">weights", ">zeros", "coding", ">bytes"]);
    for tensor in &packed.tensors {
        table.row([
            tensor.name.clone(),
            tensor.elements.to_string(),
            units::share(tensor.elements - tensor.nonzeros, tensor.elements),
            name(tensor.coding).to_owned(),
            tensor.bytes.to_string(),
        ]);
    }
    table
}
