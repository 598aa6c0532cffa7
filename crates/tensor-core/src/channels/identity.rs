//! The identity behind every cut: *masked equals cut*.
//!
//! Zeroing the contribution of removed channels wherever they are summed over must give the same
//! outputs as the model without them, within float rounding.

use super::{Channels, ClassId};
use crate::graph::Graph;
use crate::ops;
use crate::run::{Array, Session, Tap};
use crate::{Error, NodeId, Result, ValueId};
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;

/// A tap that zeroes removed channels at every contraction.
#[derive(Debug, Default)]
pub struct Mask {
    masks: BTreeMap<(NodeId, usize), Tensor>,
}

impl Mask {
    /// The mask for a set of removed classes.
    ///
    /// # Errors
    /// When candle cannot allocate.
    pub fn new(graph: &Graph, channels: &Channels, remove: &[ClassId]) -> Result<Self> {
        let mut removed = vec![false; channels.classes.len()];
        for &class in remove {
            removed[class as usize] = true;
        }
        let mut masks = BTreeMap::new();
        for contraction in &channels.contractions {
            let node = graph.node(contraction.node);
            let Some(value) = node.input(contraction.input) else { continue };
            let Some(positions) = channels.positions(value, contraction.axis) else { continue };
            if !positions.iter().any(|&class| removed[class as usize]) {
                continue;
            }
            let keep = positions.iter().map(|&class| f32::from(!removed[class as usize]));
            let mask = Tensor::from_iter(keep, &Device::Cpu)?;
            // One axis of the length at `axis`, then ones: the shape follows at run time, where
            // the rank is known.
            masks.insert((contraction.node, contraction.input), (contraction.axis, mask));
        }
        let masks = masks
            .into_iter()
            .map(|(place, (axis, mask))| {
                let node = graph.node(place.0);
                let rank = node.input(place.1).map_or(0, |value| channels.rank(value));
                let mut dims = vec![1; rank];
                dims[axis] = mask.elem_count();
                Ok((place, mask.reshape(dims)?))
            })
            .collect::<Result<_>>()?;
        Ok(Self { masks })
    }
}

impl Tap for Mask {
    fn before(&mut self, node: NodeId, input: usize, value: &Array) -> Result<Option<Array>> {
        match self.masks.get(&(node, input)) {
            Some(mask) => {
                Ok(Some(Array { tensor: value.tensor.broadcast_mul(mask)?, ..value.clone() }))
            }
            None => Ok(None),
        }
    }
}

/// Largest difference between the masked and the cut model over all outputs, relative to the
/// largest magnitude of the masked model's output.
///
/// Where operators are unknown, what they read is compared in place of what depends on them.
///
/// # Errors
/// When either model does not run, or their outputs differ in shape.
pub fn masked_against_cut(
    graph: &Graph,
    mask: &mut Mask,
    cut: &Graph,
    inputs: &[(ValueId, Array)],
) -> Result<f64> {
    let targets = computable_ends(graph);
    let masked = Session::until(graph, &targets)?.run_for(inputs, &targets, mask)?;
    let renamed: Vec<_> = inputs
        .iter()
        .map(|(value, array)| match cut.find(graph.name(*value)) {
            Some(value) => Ok((value, array.clone())),
            None => Err(Error::internal("the cut model lost an input")),
        })
        .collect::<Result<_>>()?;
    let same: Vec<_> = targets.iter().filter_map(|&value| cut.find(graph.name(value))).collect();
    if same.len() != targets.len() {
        return Err(Error::internal("the cut model lost an output"));
    }
    let short = Session::until(cut, &same)?.fetch(&renamed, &same)?;
    let mut worst = 0.0_f64;
    for (a, b) in masked.iter().zip(&short) {
        if a.dims() != b.dims() {
            return Err(Error::internal(format!(
                "an output changed its shape from {:?} to {:?}",
                a.dims(),
                b.dims()
            )));
        }
        worst = worst.max(relative_difference(&a.to_f32s()?, &b.to_f32s()?));
    }
    Ok(worst)
}

/// The values where what can be computed ends: graph outputs, and inputs of unknown operators.
fn computable_ends(graph: &Graph) -> Vec<ValueId> {
    let mut unknown = vec![false; graph.value_count()];
    let mut ends = Vec::new();
    for node in &graph.nodes {
        let is_known = ops::lookup(&node.domain, &node.op).is_some();
        let reads = || node.inputs.iter().flatten().chain(&node.captures).copied();
        if is_known && !reads().any(|value| unknown[value.index()]) {
            continue;
        }
        if !is_known {
            ends.extend(reads().filter(|value| graph.initializer(*value).is_none()));
        }
        for value in node.outputs.iter().flatten() {
            unknown[value.index()] = true;
        }
    }
    ends.extend(&graph.outputs);
    ends.retain(|value| !unknown[value.index()]);
    ends.sort_unstable();
    ends.dedup();
    ends
}

/// `max |a - b| / max |a|`; infinite when either holds a value that is not finite and the other
/// does not hold the same.
pub fn relative_difference(a: &[f32], b: &[f32]) -> f64 {
    let range = a.iter().filter(|x| x.is_finite()).fold(0.0_f32, |m, x| m.max(x.abs()));
    let mut worst = 0.0_f64;
    for (&a, &b) in a.iter().zip(b) {
        let same = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        if !same {
            let difference = f64::from((a - b).abs());
            worst = if difference.is_finite() { worst.max(difference) } else { f64::INFINITY };
        }
    }
    if worst == 0.0 { 0.0 } else { worst / f64::from(range).max(f64::MIN_POSITIVE) }
}
