//! Which channel positions must live or die together.
//!
//! Every position along every channel axis carries a label. Operators pass labels on, tie them or
//! freeze them (see [`Flow`]); a contraction (convolution, matrix product) ends them. Tied labels
//! form a [`Class`]: what can be removed, everywhere at once. Classes whose label lists were tied
//! form a [`Group`].

mod analyze;
mod cut;
mod flow;
pub mod identity;
mod names;
mod union_find;

pub use analyze::{analyze, analyze_split};
pub use cut::{CutCx, cut};
pub use flow::{Contraction, Flow, Label, Labels, SplitAxis};
pub use names::GroupNames;

use crate::ValueId;
use std::sync::Arc;

/// Index of a class in [`Channels::classes`].
pub type ClassId = u32;

/// Positions that can only be removed together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Class {
    /// Its group.
    pub group: usize,
    /// Why it cannot be removed.
    pub frozen: Option<String>,
}

/// A place of a group: one axis of a value, and how many of its positions belong to the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The value.
    pub value: ValueId,
    /// Its axis.
    pub axis: usize,
    /// Positions of the group on it.
    pub count: usize,
}

/// Classes that belong together: the channels of one layer or of one coupled set of layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Name for people: that of the first value that carries the group.
    pub root: String,
    /// Classes in order of their first position.
    pub classes: Vec<ClassId>,
    /// Parameters with positions of this group.
    pub parameters: Vec<Member>,
    /// Indices into [`Channels::contractions`] that read this group.
    pub readers: Vec<usize>,
    /// The first reason, when no class can be removed.
    pub frozen: Option<String>,
}

/// The short name of a group: `g07` for the group at index 7 of [`Channels::groups`].
pub fn group_id(index: usize) -> String {
    format!("g{index:02}")
}

/// Result of the channel analysis of a graph.
#[derive(Debug, Clone)]
pub struct Channels {
    /// All classes.
    pub classes: Vec<Class>,
    /// All groups that a contraction reads.
    pub groups: Vec<Group>,
    /// Where channels are summed over.
    pub contractions: Vec<Contraction>,
    /// How axes that are split were read.
    pub split: SplitAxis,
    /// Class of each position, by value and axis.
    positions: Vec<Vec<Option<Arc<[ClassId]>>>>,
}

impl Channels {
    /// The class of each position along an axis of a value; `None` for an axis without channels.
    pub fn positions(&self, value: ValueId, axis: usize) -> Option<&[ClassId]> {
        self.positions.get(value.index())?.get(axis)?.as_deref()
    }

    /// As [`positions`](Self::positions), apart from an axis that the value does not have.
    pub fn axis(&self, value: ValueId, axis: usize) -> Option<Option<&[ClassId]>> {
        Some(self.positions.get(value.index())?.get(axis)?.as_deref())
    }

    /// Number of axes of a value as the analysis saw it.
    pub fn rank(&self, value: ValueId) -> usize {
        self.positions.get(value.index()).map_or(0, Vec::len)
    }

    /// The group of each class; `None` for classes that no contraction reads.
    pub fn group_of_classes(&self) -> Vec<Option<usize>> {
        let mut groups = vec![None; self.classes.len()];
        for (i, group) in self.groups.iter().enumerate() {
            for &class in &group.classes {
                groups[class as usize] = Some(i);
            }
        }
        groups
    }

    /// Classes of a group that can be removed.
    pub fn removable(&self, group: &Group) -> Vec<ClassId> {
        let free = |class: &&ClassId| self.classes[**class as usize].frozen.is_none();
        group.classes.iter().filter(free).copied().collect()
    }
}
