//! How the file lists values, so that what did not change is written back the same way.

use super::{Graph, Opaque, ValueId};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// The lists of a file that a graph does not need, but its writer does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layout {
    /// Every graph input of the file, including those that name an initializer.
    pub(crate) inputs: Vec<ValueId>,
    /// `value_info` in file order.
    pub(crate) value_infos: Vec<Listed>,
    /// What the file says about a graph output that an earlier list describes too, where the two
    /// differ.
    pub(crate) outputs: Vec<(ValueId, Opaque)>,
    /// Values whose declaration changed since reading.
    pub(crate) redeclared: BTreeSet<ValueId>,
    /// The file that was read; absent for bytes.
    pub(crate) source: Option<PathBuf>,
    /// The data files that constants came from, as real paths.
    pub(crate) data_files: Vec<PathBuf>,
}

/// An entry of `value_info`.
#[derive(Debug, Clone)]
pub(crate) enum Listed {
    /// The declaration of a value.
    Value(ValueId),
    /// A `ValueInfoProto` about a value that an earlier list describes too, or that is not there.
    Other(Opaque),
}

impl Graph {
    /// Whether an initializer defines each value.
    pub(crate) fn constants(&self) -> Vec<bool> {
        let mut is_constant = vec![false; self.value_count()];
        for value in self.initializers.iter().chain(&self.sparse) {
            is_constant[value.index()] = true;
        }
        is_constant
    }
}
