//! What a user may call a group: every name that the commands print, for the model as it was given.
//!
//! Folding BatchNormalization removes values, parameters and nodes, and pruning works on what
//! remains. Names come from the model before that, so that they are those of `kerf groups` and of
//! the file.

use super::sets::Set;
use std::collections::{BTreeMap, BTreeSet};
use tensor_core::channels::{Channels, ClassId, Group, group_id};
use tensor_core::graph::Graph;
use tensor_core::text::near;
use tensor_core::{Error, Result, ValueId};

/// The names of one group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Named {
    /// Short name, such as `g07`.
    pub(crate) id: String,
    /// The first value that carries the group.
    pub(crate) root: String,
    /// Layers and weights that make the channels.
    makes: BTreeSet<String>,
    /// Id, root, layers that make or read the channels, parameters that are cut with them.
    pub(crate) all: BTreeSet<String>,
}

impl Named {
    /// Adds the names of a group as one of the two models knows them.
    fn add(&mut self, (graph, channels): (&Graph, &Channels), group: &Group) {
        let names = channels.names(graph, group);
        self.makes.extend(names.makes);
        self.all.extend(names.all);
    }
}

/// The names of the groups of a folded model, in their order.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) groups: Vec<Named>,
}

impl Names {
    /// Joins the names of the original model with those of the folded one. Values that both have
    /// have the same id in both.
    pub(crate) fn new(original: (&Graph, &Channels), folded: (&Graph, &Channels)) -> Self {
        let origins = origins(original.1, folded.1, original.0.value_count());
        let mut groups = Vec::new();
        for (index, group) in folded.1.groups.iter().enumerate() {
            let mut named = Named { root: group.root.clone(), ..Named::default() };
            named.add(folded, group);
            for (i, &origin) in origins.get(&index).into_iter().flatten().enumerate() {
                let group = &original.1.groups[origin];
                named.add(original, group);
                named.all.insert(group_id(origin));
                if i == 0 {
                    named.id = group_id(origin);
                    named.root.clone_from(&group.root);
                }
            }
            groups.push(named);
        }
        Self { groups }
    }

    /// Every name, sorted.
    pub(crate) fn known(&self) -> BTreeSet<&str> {
        self.groups.iter().flat_map(|named| &named.all).map(String::as_str).collect()
    }

    /// The set that a name stands for: that of the group with this id, root, layer or parameter. A
    /// layer or weight stands for the channels that it makes or, where those are not pruned, for
    /// those that it reads.
    ///
    /// # Errors
    /// `E0142` when no set has the name, or several have.
    pub(crate) fn set(&self, sets: &[Set], name: &str) -> Result<usize> {
        if let Some(found) = sets.iter().position(|set| set.name == name) {
            return Ok(found);
        }
        let sets_with = |has: &dyn Fn(&Named) -> bool| -> Vec<usize> {
            let is_meant = |&i: &usize| self.groups.get(sets[i].group).is_some_and(has);
            (0..sets.len()).filter(is_meant).collect()
        };
        let tests: [&dyn Fn(&Named) -> bool; 3] = [
            &|named| named.id == name || named.root == name,
            &|named| named.makes.contains(name),
            &|named| named.all.contains(name),
        ];
        for has in tests {
            match sets_with(has).as_slice() {
                [] => {}
                [one] => return Ok(*one),
                several => {
                    let names: Vec<_> = several.iter().map(|&i| sets[i].label()).collect();
                    return Err(unfit(format!(
                        "`{name}` could mean several groups: {}",
                        names.join(", ")
                    )));
                }
            }
        }
        match self.groups.iter().find(|named| named.all.contains(name)) {
            Some(named) => Err(unfit(format!(
                "`{name}` names group {} (`{}`), which is left alone",
                named.id, named.root
            ))
            .hint("`kerf groups MODEL` and the table of `kerf prune --dry-run` say why")),
            None => Err(unfit(format!("no group, layer or parameter is named `{name}`"))
                .hint(unknown_name(name, self.known().into_iter()))),
        }
    }
}

/// What to do about a name that is not known.
pub(crate) fn unknown_name<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    format!("the nearest names are {}; `kerf groups MODEL` lists the groups", near(name, known))
}

fn unfit(message: String) -> Error {
    Error::invalid(message).code_is("E0142")
}

/// The groups of the original that share channels with each group of the folded model.
fn origins(
    original: &Channels,
    folded: &Channels,
    values: usize,
) -> BTreeMap<usize, BTreeSet<usize>> {
    let (before, after) = (original.group_of_classes(), folded.group_of_classes());
    let group = |groups: &[Option<usize>], class: &ClassId| groups[*class as usize];
    let mut origins: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for value in (0..values).map(ValueId::from_index) {
        let mut axis = 0;
        while let (Some(old), Some(new)) = (original.axis(value, axis), folded.axis(value, axis)) {
            axis += 1;
            let (Some(old), Some(new)) = (old, new) else { continue };
            if old.len() != new.len() {
                continue;
            }
            for (old, new) in old.iter().zip(new) {
                if let (Some(old), Some(new)) = (group(&before, old), group(&after, new)) {
                    origins.entry(new).or_default().insert(old);
                }
            }
        }
    }
    origins
}
