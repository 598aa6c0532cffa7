//! Parts of the training set.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use tensor_core::data::Idx;

const IMAGES: &str = "images-idx3-ubyte.gz";
const LABELS: &str = "labels-idx1-ubyte.gz";

/// The first training images and their labels as `NAME-*`; the path of the images.
pub(super) fn first(from: &Path, to: &Path, name: &str, count: usize) -> Result<PathBuf> {
    for kind in [IMAGES, LABELS] {
        let source = from.join(format!("train-{kind}"));
        Idx::read(&source)
            .and_then(|all| all.first(count)?.write_gz(&to.join(format!("{name}-{kind}"))))
            .with_context(|| format!("reading {}", source.display()))?;
    }
    Ok(to.join(format!("{name}-{IMAGES}")))
}

/// A set of images without those of a class; the path of the images.
pub(super) fn without(images: &Path, to: &Path, class: u8) -> Result<PathBuf> {
    let name = images.file_name().and_then(|name| name.to_str()).context("no file name")?;
    let labels = Idx::read(&images.with_file_name(name.replace(IMAGES, LABELS)))?;
    let images = Idx::read(images)?;
    let kept: Vec<usize> = (0..labels.bytes.len()).filter(|&i| labels.bytes[i] != class).collect();
    for (kind, set) in [(IMAGES, images), (LABELS, labels)] {
        let size: usize = set.dims[1..].iter().product();
        let bytes = kept.iter().flat_map(|&i| &set.bytes[i * size..(i + 1) * size]).copied();
        let dims = [&[kept.len()], &set.dims[1..]].concat();
        Idx { dims, bytes: bytes.collect() }.write_gz(&to.join(format!("lacking-{kind}")))?;
    }
    Ok(to.join(format!("lacking-{IMAGES}")))
}
