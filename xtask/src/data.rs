//! The Fashion-MNIST excerpt under `fixtures/data`.

use anyhow::{Context, Result};
use std::path::Path;
use tensor_core::data::Idx;

/// Samples of each split.
const COUNT: usize = 1_000;

/// Writes the first 1,000 training and test images and labels of the full set in `from` to `to`,
/// as `train-1k-*` and `t10k-1k-*`. The official files are already in random order.
pub(crate) fn excerpt(from: &Path, to: &Path) -> Result<()> {
    for split in ["train", "t10k"] {
        for kind in ["images-idx3-ubyte", "labels-idx1-ubyte"] {
            let source = from.join(format!("{split}-{kind}.gz"));
            let target = to.join(format!("{split}-1k-{kind}.gz"));
            Idx::read(&source)
                .and_then(|all| all.first(COUNT)?.write_gz(&target))
                .with_context(|| format!("making {}", target.display()))?;
        }
    }
    Ok(())
}
