//! Folds BatchNormalization into the convolution or matrix product before it.

use super::Edit;
use crate::graph::{Constant, Graph, Index};
use crate::{Error, NodeId, Result};

/// The edits that fold every foldable BatchNormalization: `w' = w * g`, `b' = (b - mean) * g + beta`
/// with `g = scale / sqrt(var + epsilon)` per output channel.
///
/// A BatchNormalization is foldable when its parameters are constant and its input is produced by
/// a Conv, ConvTranspose without groups or Gemm with constant weights that nothing else reads.
///
/// # Errors
/// When an attribute has the wrong type; `E0156` when a foldable one cannot give numbers.
pub fn fold_batch_norm(graph: &Graph) -> Result<Vec<Edit>> {
    fold_batch_norms(graph, &graph.node_ids().collect::<Vec<_>>())
}

/// As [`fold_batch_norm`], of some nodes; those that are no BatchNormalization are passed over.
///
/// # Errors
/// As [`fold_batch_norm`].
pub fn fold_batch_norms(graph: &Graph, norms: &[NodeId]) -> Result<Vec<Edit>> {
    let index = Index::new(graph);
    let mut edits = Vec::new();
    for &id in norms {
        if graph.node(id).op == "BatchNormalization"
            && let Some(fold) = fold(graph, &index, id)?
        {
            edits.extend(fold);
        }
    }
    Ok(edits)
}

fn fold(graph: &Graph, index: &Index, norm_id: NodeId) -> Result<Option<Vec<Edit>>> {
    let norm = graph.node(norm_id);
    let trains = norm.attributes.int("training_mode", 0)? != 0;
    let extra_outputs = norm.outputs.iter().skip(1).any(Option::is_some);
    let Some((input, output)) = norm.input(0).zip(norm.output(0)) else { return Ok(None) };
    let Some(producer) = index.producer(input) else { return Ok(None) };
    let alone = index.readers(input).len() == 1 && !graph.outputs.contains(&input);
    if trains || extra_outputs || !alone {
        return Ok(None);
    }
    let node = graph.node(producer);
    let constant = |i: usize| node.input(i).and_then(|value| graph.constant(value, index));
    let Some(weight) = constant(1) else { return Ok(None) };
    let Some(axis) = output_axis(node)? else { return Ok(None) };
    let epsilon = f64::from(norm.attributes.float("epsilon", 1e-5)?);
    let mut parameters = Vec::new();
    for i in 1..5 {
        match norm.input(i).and_then(|value| graph.constant(value, index)) {
            Some(constant) => parameters.push(constant.to_f64s()?),
            None => return Ok(None),
        }
    }
    let [scale, shift, mean, variance] = parameters.as_slice() else { return Ok(None) };
    let channels = scale.len();
    let bias = match node.input(2) {
        None => vec![0.0; channels],
        Some(_) => match constant(2) {
            Some(bias) if bias.count() == channels => bias.to_f64s()?,
            _ => return Ok(None),
        },
    };
    let same_length = [shift, mean, variance].iter().all(|p| p.len() == channels);
    if !same_length || weight.dims().get(axis) != Some(&channels) {
        return Ok(None);
    }
    if let Some(reason) = graph.batch_norm_problem(norm_id, index)? {
        return Err(Error::invalid(reason)
            .code_is("E0156")
            .in_node(graph.describe(norm_id))
            .hint("the outputs are NaN or infinite there; export a healthy checkpoint"));
    }
    let gain: Vec<f64> =
        scale.iter().zip(variance).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
    let bias: Vec<f32> =
        (0..channels).map(|c| ((bias[c] - mean[c]) * gain[c] + shift[c]) as f32).collect();
    let mut with = node.clone();
    with.outputs = vec![Some(output)];
    Ok(Some(vec![
        Edit::Replace { node: producer, with },
        Edit::SetInput { node: producer, input: 1, constant: scaled(weight, axis, &gain)? },
        Edit::SetInput {
            node: producer,
            input: 2,
            constant: Constant::from_f32s(&[channels], &bias)?,
        },
        Edit::Remove { node: norm_id },
    ]))
}

/// The axis of the weight along which each output channel has its slice, where normalizations can
/// be folded into it.
pub(super) fn output_axis(node: &crate::Node) -> Result<Option<usize>> {
    Ok(match node.op.as_str() {
        "Conv" => Some(0),
        "ConvTranspose" if node.attributes.int("group", 1)? == 1 => Some(1),
        "Gemm" if is_plain_gemm(node)? => Some(usize::from(node.attributes.int("transB", 0)? == 0)),
        _ => None,
    })
}

fn is_plain_gemm(node: &crate::Node) -> Result<bool> {
    let (alpha, beta) = (node.attributes.float("alpha", 1.0)?, node.attributes.float("beta", 1.0)?);
    Ok(alpha == 1.0 && beta == 1.0)
}

/// The weight with each slice along `axis` multiplied by its gain.
pub(super) fn scaled(weight: &Constant, axis: usize, gain: &[f64]) -> Result<Constant> {
    let inner: usize = weight.dims()[axis + 1..].iter().product();
    let values: Vec<f32> = weight
        .to_f64s()?
        .iter()
        .enumerate()
        // A negative gain would turn zeros of a sparse weight into -0.
        .map(|(i, w)| (w * gain[i / inner.max(1) % gain.len()]) as f32 + 0.0)
        .collect();
    Constant::from_f32s(weight.dims(), &values)
}
