//! What a group may be called.

use super::{Channels, Group};
use crate::graph::Graph;
use crate::{NodeId, ValueId};
use std::collections::BTreeSet;

/// Names of a group, apart from its id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupNames {
    /// Layers and weights that make the channels.
    pub makes: BTreeSet<String>,
    /// The root, the parameters that are cut, the layers that have them, and `makes`.
    pub all: BTreeSet<String>,
}

impl Channels {
    /// Every name by which a user may mean a group of the analysed graph.
    pub fn names(&self, graph: &Graph, group: &Group) -> GroupNames {
        let mut names = GroupNames::default();
        names.all.insert(group.root.clone());
        let members: BTreeSet<ValueId> = group.parameters.iter().map(|m| m.value).collect();
        names.all.extend(members.iter().map(|&value| graph.name(value).to_owned()));
        let key = |node: NodeId| graph.key(node).to_owned();
        names.all.extend(group.readers.iter().map(|&reader| key(self.contractions[reader].node)));
        // Normalisations and slopes are layers too, though they make no channels.
        for id in graph.node_ids() {
            if graph.node(id).inputs.iter().flatten().any(|value| members.contains(value)) {
                names.all.insert(key(id));
            }
        }
        for contraction in &self.contractions {
            let (Some((input, _)), Some(axis)) = (contraction.weight, contraction.weight_out)
            else {
                continue;
            };
            let Some(weight) = graph.node(contraction.node).input(input) else { continue };
            let made = self.positions(weight, axis).unwrap_or_default();
            if made.iter().any(|class| group.classes.contains(class)) {
                names.makes.insert(key(contraction.node));
                names.makes.insert(graph.name(weight).to_owned());
            }
        }
        names.all.extend(names.makes.iter().cloned());
        names
    }
}
