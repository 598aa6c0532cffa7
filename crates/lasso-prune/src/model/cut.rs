//! From chosen channels to the smaller graph.

use super::layers::Layer;
use super::sets::{Kind, Set};
use std::collections::{BTreeMap, BTreeSet};
use tensor_core::channels::identity::Mask;
use tensor_core::channels::{self, Channels, ClassId};
use tensor_core::graph::{Attribute, Attributes, Constant, Graph, Index};
use tensor_core::rewrite::{self, Edit, Stored};
use tensor_core::run::{self, Facts};
use tensor_core::{Error, Result, ValueId};

/// The cut model, and the mask that makes the uncut one equal to it.
pub(crate) struct Cut {
    pub(crate) graph: Graph,
    /// The model before the cut, samplers inserted.
    pub(crate) whole: Graph,
    pub(crate) mask: Mask,
    /// Of values that lost positions, the axis and what stays on it, by name.
    pub(crate) kept: BTreeMap<String, (usize, Vec<usize>)>,
}

/// Removes what the sets gave up. `graph` holds the refitted weights at full size, `labels` its
/// channels before samplers are inserted.
pub(crate) fn cut(
    graph: &Graph,
    labels: &Channels,
    shapes: &BTreeMap<String, Vec<usize>>,
    layers: &[Layer],
    sets: &[Set],
    kept: &[Vec<usize>],
) -> Result<Cut> {
    let whole = insert_samplers(graph, layers, sets, kept)?;
    let facts = run::infer(&whole, shapes)?;
    let channels = channels::analyze_split(&whole, &facts, labels.split)?;
    let gone = given_up(sets, kept);
    let remove = in_new_labels(&gone, labels, &channels, &whole, &facts)?;
    let edits = channels::cut(&whole, &facts, &channels, &remove)?;
    let mut small = rewrite::apply(&whole, &edits)?;
    let small_facts = run::infer(&small, shapes)?;
    rewrite::drop_stale_shapes(&mut small, &facts, &small_facts);
    check_outputs(&whole, &facts, &small_facts)?;
    let kept = kept_positions(&whole, &channels, &remove);
    Ok(Cut { mask: Mask::new(&whole, &channels, &remove)?, kept, graph: small, whole })
}

/// Of values that lose positions on one axis, the axis and what stays.
fn kept_positions(
    graph: &Graph,
    channels: &Channels,
    remove: &[ClassId],
) -> BTreeMap<String, (usize, Vec<usize>)> {
    let removed: BTreeSet<ClassId> = remove.iter().copied().collect();
    let mut kept = BTreeMap::new();
    for value in (0..graph.value_count()).map(ValueId::from_index) {
        let mut shortened = (0..channels.rank(value)).filter_map(|axis| {
            let classes = channels.positions(value, axis)?;
            let stays = |position: &usize| !removed.contains(&classes[*position]);
            let stay: Vec<usize> = (0..classes.len()).filter(stays).collect();
            (stay.len() < classes.len()).then_some((axis, stay))
        });
        if let (Some(only), None) = (shortened.next(), shortened.next()) {
            kept.insert(graph.name(value).to_owned(), only);
        }
    }
    kept
}

/// Puts a Gather before each reader of a sampled stream and drops the weight columns it loses.
fn insert_samplers(
    graph: &Graph,
    layers: &[Layer],
    sets: &[Set],
    kept: &[Vec<usize>],
) -> Result<Graph> {
    let index = Index::new(graph);
    let mut edits = Vec::new();
    for (set, kept) in sets.iter().zip(kept) {
        if set.kind != Kind::Sample || kept.len() == set.classes.len() {
            continue;
        }
        let layer = &layers[set.readers[0]];
        let stays = |class: &ClassId| match set.classes.iter().position(|c| c == class) {
            Some(i) => kept.binary_search(&i).is_ok(),
            None => true,
        };
        let keep: Vec<usize> =
            (0..layer.classes.len()).filter(|&i| stays(&layer.classes[i])).collect();
        let weight = Stored::required(graph, &index, layer.node, layer.weight.0)?;
        edits.push(weight.replaced(&weight.constant.select(layer.weight.1, &keep)?)?);
        let indices: Vec<i64> = keep.iter().map(|&i| i as i64).collect();
        let mut attributes = Attributes::default();
        attributes.set("axis", Attribute::Int(layer.data.1 as i64));
        edits.push(Edit::InsertBefore {
            node: layer.node,
            input: layer.data.0,
            op: "Gather".to_owned(),
            attributes,
            constants: vec![("indices".to_owned(), Constant::from_i64s(&[keep.len()], &indices)?)],
        });
    }
    rewrite::apply(graph, &edits)
}

/// The classes that the sets removed everywhere.
fn given_up(sets: &[Set], kept: &[Vec<usize>]) -> BTreeSet<ClassId> {
    let mut gone = BTreeSet::new();
    for (set, kept) in sets.iter().zip(kept).filter(|(set, _)| set.kind == Kind::Cut) {
        let classes = set.classes.iter().enumerate();
        gone.extend(classes.filter(|(i, _)| kept.binary_search(i).is_err()).map(|(_, &c)| c));
    }
    gone
}

/// The same classes in another analysis, since labels are numbered per graph. They are found by the
/// places that carry them, of which any value of the graph may have some that no other has.
fn in_new_labels(
    gone: &BTreeSet<ClassId>,
    old: &Channels,
    new: &Channels,
    graph: &Graph,
    facts: &Facts,
) -> Result<Vec<ClassId>> {
    let (mut remove, mut found) = (BTreeSet::new(), BTreeSet::new());
    for value in (0..graph.value_count()).map(ValueId::from_index) {
        for axis in 0..facts.dims(value).map_or(0, <[usize]>::len) {
            let (Some(before), Some(after)) =
                (old.positions(value, axis), new.positions(value, axis))
            else {
                continue;
            };
            if before.len() != after.len() {
                continue;
            }
            for (class, &same) in before.iter().zip(after).filter(|(c, _)| gone.contains(c)) {
                found.insert(*class);
                remove.insert(same);
            }
        }
    }
    if found.len() < gone.len() {
        return Err(Error::internal(format!(
            "{} of {} channels lost their labels",
            gone.len() - found.len(),
            gone.len()
        )));
    }
    Ok(remove.into_iter().collect())
}

fn check_outputs(graph: &Graph, old: &Facts, new: &Facts) -> Result<()> {
    for &output in &graph.outputs {
        if old.dims(output) != new.dims(output) {
            return Err(Error::internal(format!(
                "the cut changed the shape of output `{}`",
                graph.name(output)
            )));
        }
    }
    Ok(())
}
