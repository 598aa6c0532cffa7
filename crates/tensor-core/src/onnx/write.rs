//! Writing model files so that a reader finds the old file or the new one, never a part.

use super::encode::{self, Region};
use crate::graph::{Constant, Encoding, Graph};
use crate::{Error, Result};
use prost::Message;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Protobuf messages are limited to 2 GiB.
pub(super) const MAX_MESSAGE: usize = i32::MAX as usize;
/// ONNX asks for offsets that are multiples of a memory page, so that runtimes can map the file.
const ALIGNMENT: u64 = 4096;
/// Smaller initializers stay in the model: ONNX Runtime refuses shapes and sizes in a data file.
const MIN_EXTERNAL: usize = 1024;

/// Writes a model, with a data file when the model needs one; see [`crate::onnx::write`].
pub(super) fn write(graph: &Graph, path: &Path, limit: usize) -> Result<()> {
    check_target(graph, path)?;
    let inline = encode::model(graph, &mut |_| None)?;
    let is_too_large = inline.encoded_len() > limit;
    let is_external = |constant: &Constant| {
        (is_too_large || constant.encoding == Encoding::External)
            && constant.bytes().len() >= MIN_EXTERNAL
    };
    let data =
        graph.initializers().iter().filter_map(|&value| graph.initializer(value)).any(is_external);
    if !data {
        return write_model(&inline.encode_to_vec(), path, limit);
    }
    drop(inline);

    let data_path = data_path(path)?;
    let location = file_name(&data_path)?.to_owned();
    let mut layout = Layout::default();
    let model = encode::model(graph, &mut |constant| {
        is_external(constant).then(|| Region {
            location: location.clone(),
            offset: layout.place(constant),
            length: constant.bytes().len(),
        })
    })?;
    // The data goes first: a model without its data is worse than data without a model.
    let data = Temporary::create(&data_path, |file| layout.write(file))?;
    let bytes = model.encode_to_vec();
    check_size(bytes.len(), limit)?;
    let model = Temporary::create(path, |file| file.write_all(&bytes))?;
    data.publish()?;
    model.publish()
}

/// See [`crate::onnx::check_target`].
pub(super) fn check_target(graph: &Graph, path: &Path) -> Result<()> {
    let layout = &graph.layout;
    let real = path.canonicalize().ok();
    if layout.data_files.is_empty() || (real.is_some() && real == layout.source) {
        return Ok(());
    }
    for target in [real, data_path(path)?.canonicalize().ok()].into_iter().flatten() {
        if layout.data_files.contains(&target) {
            let message = format!("{} holds weights of the model that was read", target.display());
            return Err(Error::invalid(message)
                .code_is("E0021")
                .hint("write to another file; the input is never overwritten"));
        }
    }
    Ok(())
}

fn write_model(bytes: &[u8], path: &Path, limit: usize) -> Result<()> {
    check_size(bytes.len(), limit)?;
    Temporary::create(path, |file| file.write_all(bytes))?.publish()
}

/// # Errors
/// `E0104` above the limit.
pub(super) fn check_size(size: usize, limit: usize) -> Result<()> {
    if size <= limit {
        return Ok(());
    }
    let message = format!("the model takes {size} bytes, a protobuf message at most {limit}");
    Err(Error::unsupported(message)
        .code_is("E0104")
        .hint("weights can go into a data file, but only when the model is written to a path"))
}

/// Which bytes go where in a data file. Constants that share their bytes are stored once.
#[derive(Default)]
struct Layout {
    by_address: BTreeMap<(usize, usize), u64>,
    parts: Vec<(u64, Arc<Vec<u8>>)>,
    end: u64,
}

impl Layout {
    fn place(&mut self, constant: &Constant) -> u64 {
        let bytes = constant.shared_bytes();
        // The address is the identity of shared bytes, which `parts` keeps alive.
        let key = (bytes.as_ptr() as usize, bytes.len());
        if let Some(&offset) = self.by_address.get(&key) {
            return offset;
        }
        let offset = self.end.next_multiple_of(ALIGNMENT);
        self.end = offset + bytes.len() as u64;
        self.by_address.insert(key, offset);
        self.parts.push((offset, bytes));
        offset
    }

    fn write(&self, file: &mut dyn Write) -> io::Result<()> {
        let mut position = 0;
        for (offset, bytes) in &self.parts {
            io::copy(&mut io::Read::take(io::repeat(0), offset - position), file)?;
            file.write_all(bytes)?;
            position = offset + bytes.len() as u64;
        }
        Ok(())
    }
}

/// The data file of a model: `model.onnx.data` for `model.onnx`.
fn data_path(path: &Path) -> Result<PathBuf> {
    Ok(path.with_file_name(format!("{}.data", file_name(path)?)))
}

fn file_name(path: &Path) -> Result<&str> {
    path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
        Error::io(path, &io::Error::new(io::ErrorKind::InvalidInput, "not a usable file name"))
    })
}

/// A complete, synced file under a temporary name in the target's folder; removed unless published.
pub(super) struct Temporary<'a> {
    path: PathBuf,
    target: &'a Path,
    is_published: bool,
}

impl<'a> Temporary<'a> {
    pub(super) fn create(
        target: &'a Path,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Self> {
        let fail = |error: &io::Error| {
            Error::io(target, error)
                .hint("nothing was changed; check the folder's permissions and free space")
        };
        let (path, file) = open_beside(target).map_err(|error| fail(&error))?;
        let temporary = Self { path, target, is_published: false };
        let mut file = BufWriter::new(file);
        fill(&mut file)
            .and_then(|()| file.flush())
            .and_then(|()| file.get_ref().sync_all())
            .map_err(|error| fail(&error))?;
        Ok(temporary)
    }

    fn publish(mut self) -> Result<()> {
        fs::rename(&self.path, self.target).map_err(|error| Error::io(self.target, &error))?;
        self.is_published = true;
        sync_folder(folder(self.target));
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.is_published {
            // The failure that led here is the one to report.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A new file in the folder of `target`, under a name that nothing has.
fn open_beside(target: &Path) -> io::Result<(PathBuf, File)> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let mut attempt = 0_u32;
    loop {
        let path = folder(target).join(format!(".{name}.{}-{attempt}.tmp", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 100 => {
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Makes a rename last through a power cut where the system offers that; the file is complete
/// either way, so a failure is no error.
fn sync_folder(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}
