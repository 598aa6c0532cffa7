//! Which channels get gates, and which weights the gates scale.

use super::blocks::{branches, without_branch};
use super::weights::weight;
use crate::Resource;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use tensor_core::channels::{Channels, ClassId, Group, group_id};
use tensor_core::cost::{Price, Scalable, WidthCost};
use tensor_core::graph::{Graph, Index};
use tensor_core::run::Facts;
use tensor_core::text::{counted, matches, near};
use tensor_core::{Error, Result, ValueId};

/// Most reasons that an error gives.
const REASONS: usize = 3;

/// Channels with gates of their own, one gate per class: the channels of a layer, of a whole
/// residual stream, of a slice of a concatenation. Or one gate for a whole
/// [branch](Selection::branches).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateList {
    /// Short name of the group, such as `g07`, or `g07.1` where channels of a group count differently;
    /// of branches such as `b02`.
    pub id: String,
    /// Name of the first value that carries the channels, or of the last layer of the branch.
    pub name: String,
    /// Number of gates.
    pub channels: usize,
    /// Keys of the layers that read them, where the gates are.
    pub readers: Vec<String>,
    /// May all gates close? The branch then goes as a whole.
    pub may_close: bool,
    /// The class behind each gate.
    #[serde(skip)]
    pub classes: Vec<ClassId>,
    /// Names of the values that are gone when the last gate closes.
    #[serde(skip)]
    pub branch: Vec<String>,
}

/// A weight that gates scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// Name of the initializer.
    pub parameter: String,
    /// Its axis that meets the channels.
    pub axis: usize,
    /// List and place of the gate at each position; `None` where there is none.
    pub gates: Vec<Option<(usize, usize)>>,
}

/// What the gate of a whole branch scales: all that its end gives. A gate before a normalization would
/// change nothing until it closes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchSite {
    /// List of the gate.
    pub list: usize,
    /// Initializers that the gate scales: scale and shift of the normalization at the end of the
    /// branch, or else weight and bias of its last layer.
    pub scaled: Vec<String>,
    /// Initializer of that layer's weight.
    pub weight: String,
}

/// Channels without gates, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ungated {
    /// Short name of the group.
    pub id: String,
    /// Name of the first value that carries the channels.
    pub name: String,
    /// Their number.
    pub channels: usize,
    /// Why, as a clause: "`conv1` is frozen".
    pub reason: String,
}

/// What a placement leaves out, and how it names groups.
#[derive(Debug, Clone, Copy, Default)]
pub struct Selection<'a> {
    /// Groups without gates, by id, root, layer or parameter; `*` matches any text.
    pub exclude: &'a [String],
    /// The same, of names that need not be those of groups: of frozen parameters.
    pub frozen: &'a [String],
    /// Gates for whole branches beside a skip path, too.
    pub branches: bool,
    /// The graph that this one was made from for training: groups have the names that they have there.
    pub original: Option<(&'a Graph, &'a Channels)>,
}

/// The gates of a graph.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The lists, in the order of the graph.
    pub lists: Vec<GateList>,
    /// The weights that they scale.
    pub sites: Vec<Site>,
    /// What the gates of branches scale.
    pub branches: Vec<BranchSite>,
    /// What has no gates.
    pub ungated: Vec<Ungated>,
}

impl Placement {
    /// Places gates before every layer that sums over channels that may be cut, apart from those
    /// that the selection leaves out.
    ///
    /// Channels get gates where every layer that reads them has a weight of its own in 32-bit floats;
    /// all its readers share the gate. Depthwise layers sum over no channels, so that they get none,
    /// and follow.
    ///
    /// # Errors
    /// `E0407` when an excluded name matches nothing; `E0441` when there is no place for a gate.
    pub fn new(
        graph: &Graph,
        facts: &Facts,
        channels: &Channels,
        selection: Selection,
    ) -> Result<Self> {
        let Selection { exclude, frozen, branches, original } = selection;
        let index = Index::new(graph);
        let mut placement = Self {
            lists: Vec::new(),
            sites: Vec::new(),
            branches: Vec::new(),
            ungated: Vec::new(),
        };
        let signatures = signatures(graph, facts, &index, channels);
        let mut known = BTreeSet::new();
        let mut is_used = vec![false; exclude.len()];
        for (number, group) in channels.groups.iter().enumerate() {
            let mut all = channels.names(graph, group).all;
            let (mut id, mut name) = (group_id(number), group.root.clone());
            if let Some((graph, labels, number)) = counterpart(graph, channels, group, original) {
                let group = &labels.groups[number];
                all.extend(labels.names(graph, group).all);
                (id, name) = (group_id(number), group.root.clone());
            }
            all.insert(id.clone());
            let mut excluded = None;
            for (pattern, is_used) in exclude.iter().zip(&mut is_used) {
                if let Some(name) = all.iter().find(|name| matches(pattern, name)) {
                    *is_used = true;
                    excluded.get_or_insert_with(|| format!("`{name}` is excluded"));
                }
            }
            let is_frozen = |name: &&String| frozen.iter().any(|pattern| matches(pattern, name));
            if let Some(name) = all.iter().find(is_frozen) {
                excluded.get_or_insert_with(|| format!("`{name}` is frozen"));
            }
            known.extend(all);
            let classes = channels.removable(group);
            let reason = match (excluded, &group.frozen) {
                (Some(reason), _) => Some(reason),
                (None, _) if classes.is_empty() => {
                    Some(group.frozen.clone().unwrap_or_else(|| "it is empty".to_owned()))
                }
                _ => unscalable(graph, &index, channels, group),
            };
            match reason {
                Some(reason) => placement.ungated.push(Ungated {
                    id,
                    name,
                    channels: group.classes.len(),
                    reason,
                }),
                None => {
                    placement.add(graph, channels, (&id, &name, group), &classes, &signatures);
                }
            }
        }
        if let Some((pattern, _)) = exclude.iter().zip(is_used).find(|(_, is_used)| !is_used) {
            let names = near(pattern, known.iter().map(String::as_str));
            return Err(Error::invalid(format!(
                "no group, layer or parameter is named `{pattern}`"
            ))
            .code_is("E0407")
            .hint(format!("the nearest names are {names}; `kerf groups MODEL` lists the groups")));
        }
        if placement.lists.is_empty() {
            return Err(placement.no_place());
        }
        placement.find_sites(graph, &index, channels);
        placement.find_branches(graph, facts, channels)?;
        if branches {
            placement.add_branches(graph, facts, channels, [exclude, frozen]);
        }
        Ok(placement)
    }

    /// No gates at all, with the most frequent reasons.
    fn no_place(&self) -> Error {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for ungated in &self.ungated {
            *counts.entry(&ungated.reason).or_default() += 1;
        }
        let mut reasons: Vec<_> = counts.into_iter().collect();
        reasons.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        let mut message = "no channels can have gates".to_owned();
        for (at, (reason, count)) in reasons.iter().take(REASONS).enumerate() {
            let mark = if at == 0 { ":" } else { ";" };
            message.push_str(&format!("{mark} {reason} ({})", counted(*count, "group")));
        }
        Error::unsupported(message).code_is("E0441").hint(
            "gates scale the weights of convolutions and matrix products behind other such layers; \
             `kerf groups MODEL --frozen` lists the groups",
        )
    }

    /// Adds the lists of a group: classes that count alike in every constant have one list.
    fn add(
        &mut self,
        graph: &Graph,
        channels: &Channels,
        (id, name_of_group, group): (&str, &str, &Group),
        classes: &[ClassId],
        signatures: &BTreeMap<ClassId, Signature>,
    ) {
        let mut parts: Vec<(Option<&Signature>, Vec<ClassId>)> = Vec::new();
        for &class in classes {
            let signature = signatures.get(&class);
            match parts.iter_mut().find(|(known, _)| *known == signature) {
                Some((_, part)) => part.push(class),
                None => parts.push((signature, vec![class])),
            }
        }
        let readers: BTreeSet<_> =
            group.readers.iter().map(|&reader| channels.contractions[reader].node).collect();
        let readers: Vec<String> = readers.into_iter().map(|n| graph.key(n).to_owned()).collect();
        let is_split = parts.len() > 1;
        for (part, (_, classes)) in parts.into_iter().enumerate() {
            let (id, name) = match is_split {
                true => (format!("{id}.{part}"), carrier(graph, channels, &classes)),
                false => (id.to_owned(), None),
            };
            self.lists.push(GateList {
                id,
                name: name.unwrap_or(name_of_group).to_owned(),
                channels: classes.len(),
                readers: readers.clone(),
                may_close: false,
                classes,
                branch: Vec::new(),
            });
        }
    }

    fn find_sites(&mut self, graph: &Graph, index: &Index, channels: &Channels) {
        let gates = self.gates();
        for contraction in &channels.contractions {
            let Ok(weight) = weight(graph, index, channels, contraction) else { continue };
            let gates: Vec<_> = weight.classes.iter().map(|c| gates.get(c).copied()).collect();
            if gates.iter().any(Option::is_some) {
                self.sites.push(Site {
                    parameter: graph.name(weight.value).to_owned(),
                    axis: weight.axis,
                    gates,
                });
            }
        }
    }

    /// Adds a gate for each branch whose last layer no pattern names.
    fn add_branches(
        &mut self,
        graph: &Graph,
        facts: &Facts,
        channels: &Channels,
        without: [&[String]; 2],
    ) {
        for (number, whole) in branches(graph, facts, channels).into_iter().enumerate() {
            let (key, parameter) = (graph.key(whole.layer), graph.name(whole.weight.value));
            let is_named = |pattern| matches(pattern, key) || matches(pattern, parameter);
            if without.into_iter().flatten().any(|pattern| is_named(pattern)) {
                continue;
            }
            let list = self.lists.len();
            self.lists.push(GateList {
                id: format!("b{number:02}"),
                name: key.to_owned(),
                channels: 1,
                readers: vec![key.to_owned()],
                may_close: true,
                classes: Vec::new(),
                branch: whole.values.iter().map(|&v| graph.name(v).to_owned()).collect(),
            });
            self.branches.push(BranchSite {
                list,
                scaled: whole.end.iter().map(|&v| graph.name(v).to_owned()).collect(),
                weight: parameter.to_owned(),
            });
        }
    }

    /// Marks the lists whose branch can go: without it no value has any of their channels.
    fn find_branches(&mut self, graph: &Graph, facts: &Facts, channels: &Channels) -> Result<()> {
        for list in &mut self.lists {
            let own: BTreeSet<ClassId> = list.classes.iter().copied().collect();
            let is_dead = |class: ClassId| own.contains(&class);
            let Some(without) = without_branch(graph, facts, channels, &is_dead)? else {
                continue;
            };
            let rest = &without.graph;
            let made = rest.nodes.iter().flat_map(|node| node.outputs.iter().flatten());
            let left = rest.initializers().iter().chain(made);
            let has_own = |&&value: &&ValueId| {
                let mut axes = (0..).map_while(|axis| channels.axis(value, axis));
                axes.any(|classes| classes.is_some_and(|c| c.iter().any(|&c| is_dead(c))))
            };
            list.may_close = !left.clone().any(|value| has_own(&value));
            if list.may_close {
                let left: BTreeSet<&str> = left.map(|&value| rest.name(value)).collect();
                let made = graph.nodes.iter().flat_map(|node| node.outputs.iter().flatten());
                let all = graph.initializers().iter().chain(made);
                let gone = all.filter(|&value| !without.shifts.contains(value));
                let gone = gone.map(|&value| graph.name(value));
                list.branch = gone.filter(|name| !left.contains(name)).map(str::to_owned).collect();
            }
        }
        Ok(())
    }

    /// List and place of the gate of each class.
    fn gates(&self) -> BTreeMap<ClassId, (usize, usize)> {
        let of = |(list, gates): (usize, &GateList)| {
            let places = gates.classes.iter().enumerate();
            places.map(|(place, &class)| (class, (list, place))).collect::<Vec<_>>()
        };
        self.lists.iter().enumerate().flat_map(of).collect()
    }

    /// May each list close?
    pub fn may_close(&self) -> Vec<bool> {
        self.lists.iter().map(|list| list.may_close).collect()
    }

    /// The resource over the numbers of open gates, as a graph with the same weights counts: this one,
    /// or the one that it was made from for training. Of multiply-accumulates it is exactly what
    /// [`cost`](tensor_core::cost::cost) gives for the cut graph. Of parameters too, but for branches
    /// that go because all gates of their channels close and leave no constant, or have both a bias and
    /// a normalization: then one vector more is counted.
    ///
    /// # Errors
    /// When a node's attributes are invalid.
    pub fn resource(
        &self,
        graph: &Graph,
        facts: &Facts,
        channels: &Channels,
        what: &Price,
    ) -> Result<Resource> {
        let mut classes: Vec<BTreeMap<usize, ClassId>> = vec![BTreeMap::new(); self.lists.len()];
        for site in &self.sites {
            let value = graph.find(&site.parameter);
            let own = value.and_then(|value| channels.positions(value, site.axis));
            for (gate, &class) in site.gates.iter().zip(own.unwrap_or_default()) {
                if let Some((list, place)) = *gate {
                    classes[list].insert(place, class);
                }
            }
        }
        let set = |(list, classes): (&GateList, BTreeMap<usize, ClassId>)| {
            let part: Vec<_> = list.branch.iter().filter_map(|name| graph.find(name)).collect();
            if !list.classes.is_empty() && classes.len() != list.channels {
                return Err(Error::internal(format!("the graph lacks channels of {}", list.id)));
            }
            let classes = classes.into_values().collect();
            Ok(Scalable { classes, part, ..Scalable::default() })
        };
        let sets = self.lists.iter().zip(classes).map(set).collect::<Result<Vec<_>>>()?;
        let cost = WidthCost::priced(graph, facts, channels, &sets, what)?;
        Ok(Resource::of(cost, self.lists.iter().map(|list| list.channels).collect()))
    }
}

/// The group of another graph that a parameter of both has in the same place.
fn counterpart<'a>(
    graph: &Graph,
    channels: &Channels,
    group: &Group,
    original: Option<(&'a Graph, &'a Channels)>,
) -> Option<(&'a Graph, &'a Channels, usize)> {
    let (other, labels) = original?;
    group.parameters.iter().find_map(|member| {
        let own = channels.positions(member.value, member.axis)?;
        let place = own.iter().position(|class| group.classes.contains(class))?;
        let value = other.find(graph.name(member.value))?;
        let class = *labels.positions(value, member.axis)?.get(place)?;
        let number = labels.groups.iter().position(|group| group.classes.contains(&class))?;
        Some((other, labels, number))
    })
}

/// Why the readers of a group cannot be scaled, if they cannot.
fn unscalable(graph: &Graph, index: &Index, channels: &Channels, group: &Group) -> Option<String> {
    let readers = group.readers.iter().map(|&reader| &channels.contractions[reader]);
    readers.into_iter().find_map(|reader| weight(graph, index, channels, reader).err())
}

/// The first value that carries channels of these classes.
fn carrier<'a>(graph: &'a Graph, channels: &Channels, classes: &[ClassId]) -> Option<&'a str> {
    let made = graph.nodes.iter().flat_map(|node| node.outputs.iter().flatten());
    let carries = |value: &&ValueId| {
        let mut axes = (0..).map_while(|axis| channels.axis(**value, axis));
        axes.any(|own| own.is_some_and(|own| own.iter().any(|class| classes.contains(class))))
    };
    made.into_iter().find(carries).map(|&value| graph.name(value))
}

/// Where a class counts in what a model costs: value, axis, and number of positions.
type Signature = Vec<(ValueId, usize, usize)>;

/// The signature of each class, over constants and the results of matrix products.
fn signatures(
    graph: &Graph,
    facts: &Facts,
    index: &Index,
    channels: &Channels,
) -> BTreeMap<ClassId, Signature> {
    let mut signatures: BTreeMap<ClassId, Signature> = BTreeMap::new();
    for value in (0..graph.value_count()).map(ValueId::from_index) {
        let is_constant = graph.constant(value, index).is_some();
        let makes_products = |id| ["MatMul", "Gemm"].contains(&graph.node(id).op.as_str());
        if !is_constant && !index.producer(value).is_some_and(makes_products) {
            continue;
        }
        for axis in 0..facts.dims(value).map_or(0, <[usize]>::len) {
            let mut counts: BTreeMap<ClassId, usize> = BTreeMap::new();
            for &class in channels.positions(value, axis).unwrap_or_default() {
                *counts.entry(class).or_default() += 1;
            }
            for (class, count) in counts {
                signatures.entry(class).or_default().push((value, axis, count));
            }
        }
    }
    signatures
}
