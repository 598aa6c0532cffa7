//! How the file lists values, so that what did not change is written back the same way.

use super::{Constant, Graph, Opaque, ValueId};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

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
    /// What sparse initializers were read as. Their own form stays in the opaque rest.
    pub(crate) sparse: BTreeMap<ValueId, Constant>,
    /// The file that was read; absent for bytes.
    pub(crate) source: Option<PathBuf>,
    /// The data files that constants came from, as real paths.
    pub(crate) data_files: Vec<PathBuf>,
}

impl Layout {
    /// Is a value still what its sparse initializer was read as?
    pub(crate) fn is_sparse(&self, value: ValueId, now: Option<&Constant>) -> bool {
        self.sparse.get(&value).zip(now).is_some_and(|(read, now)| {
            Arc::ptr_eq(&read.shared_bytes(), &now.shared_bytes()) && read.dims() == now.dims()
        })
    }
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
