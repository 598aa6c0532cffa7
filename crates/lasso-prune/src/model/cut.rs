//! From chosen channels to the smaller graph.

use super::layers::Layer;
use super::sets::{Kind, Set};
use std::collections::{BTreeMap, BTreeSet};
use tensor_core::channels::identity::Mask;
use tensor_core::channels::{self, Channels, ClassId};
use tensor_core::graph::{Attribute, Attributes, Constant, Graph, Index};
use tensor_core::rewrite::{self, Edit};
use tensor_core::run::{self, Facts};
use tensor_core::{Error, Result};

/// The cut model, and the mask that makes the uncut one equal to it.
pub(crate) struct Cut {
    pub(crate) graph: Graph,
    /// The model before the cut, samplers inserted.
    pub(crate) whole: Graph,
    pub(crate) mask: Mask,
}

/// Removes what the sets gave up. `graph` holds the refitted weights at full size.
pub(crate) fn cut(
    graph: &Graph,
    shapes: &BTreeMap<String, Vec<usize>>,
    layers: &[Layer],
    sets: &[Set],
    kept: &[Vec<usize>],
) -> Result<Cut> {
    let whole = insert_samplers(graph, layers, sets, kept)?;
    let facts = run::infer(&whole, shapes)?;
    let channels = channels::analyze(&whole, &facts)?;
    let remove = removed_classes(&whole, &channels, layers, sets, kept)?;
    let edits = channels::cut(&whole, &facts, &channels, &remove)?;
    let mut small = rewrite::apply(&whole, &edits)?;
    let small_facts = run::infer(&small, shapes)?;
    rewrite::drop_stale_shapes(&mut small, &facts, &small_facts);
    check_outputs(&whole, &facts, &small_facts)?;
    Ok(Cut { mask: Mask::new(&whole, &channels, &remove)?, graph: small, whole })
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
        let weight = graph.node(layer.node).input(layer.weight.0);
        let weight = weight
            .and_then(|value| graph.constant(value, &index))
            .ok_or_else(|| Error::internal("a weight is no constant"))?;
        edits.push(Edit::SetInput {
            node: layer.node,
            input: layer.weight.0,
            constant: weight.select(layer.weight.1, &keep)?,
        });
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

/// Finds the given-up positions in a new analysis, since labels are numbered per graph.
fn removed_classes(
    whole: &Graph,
    channels: &Channels,
    layers: &[Layer],
    sets: &[Set],
    kept: &[Vec<usize>],
) -> Result<Vec<ClassId>> {
    let mut remove = BTreeSet::new();
    for (set, kept) in sets.iter().zip(kept) {
        if set.kind != Kind::Cut {
            continue;
        }
        let layer = &layers[set.readers[0]];
        let positions = channels
            .positions(layer.input, layer.data.1)
            .filter(|positions| positions.len() == layer.classes.len())
            .ok_or_else(|| {
                Error::internal(format!("`{}` lost its labels", whole.name(layer.input)))
            })?;
        for (class, &position) in layer.classes.iter().zip(positions) {
            let place = set.classes.iter().position(|c| c == class);
            if place.is_some_and(|i| kept.binary_search(&i).is_err()) {
                remove.insert(position);
            }
        }
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
