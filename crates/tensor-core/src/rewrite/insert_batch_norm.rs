//! Puts BatchNormalization behind convolutions as an identity, the opposite of folding it.

use super::Edit;
use super::fold_batch_norm::{output_axis, scaled};
use crate::graph::{Attribute, Attributes, Constant, Graph, Index};
use crate::{ElementType, Error, NodeId, Result};

/// Epsilon of the inserted nodes, ONNX's default.
const EPSILON: f32 = 1e-5;

/// Squared length that each output channel's weights get: that of He's initialization, whose
/// variance is 2 / fan-in.
const SQUARED_LENGTH: f64 = 2.0;

/// Weights shorter than this (squared) stay as they are.
const SHORTEST: f64 = 1e-12;

/// Mean and variance of each channel of a layer's output.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OutputStatistics {
    /// Means.
    pub mean: Vec<f64>,
    /// Variances, at least 0.
    pub variance: Vec<f64>,
}

/// The convolutions behind which a BatchNormalization could be put and folded away again without a
/// trace: Conv, and ConvTranspose without groups, with a weight and a bias that are initializers
/// of their own, whose output is neither a graph output nor read by a normalization.
///
/// A convolution without a bias is left out: its network has no normalization there by design, and
/// folding would give it a bias.
///
/// # Errors
/// When an attribute has the wrong type.
pub fn lacks_batch_norm(graph: &Graph) -> Result<Vec<NodeId>> {
    let index = Index::new(graph);
    let mut found = Vec::new();
    for id in graph.node_ids() {
        let node = graph.node(id);
        let is_convolution =
            node.domain.is_empty() && ["Conv", "ConvTranspose"].contains(&node.op.as_str());
        let own = |input: usize| {
            let value = node.input(input)?;
            let alone = index.readers(value).len() == 1 && !graph.outputs.contains(&value);
            graph.initializer(value).filter(|c| alone && c.element() == ElementType::F32)
        };
        let (Some(weight), Some(bias), Some(output)) = (own(1), own(2), node.output(0)) else {
            continue;
        };
        let Some(axis) = output_axis(node)?.filter(|_| is_convolution) else { continue };
        let is_normalized = index
            .readers(output)
            .iter()
            .any(|&(reader, _)| graph.node(reader).op.ends_with("Normalization"));
        let fits = bias.dims().len() == 1 && weight.dims().get(axis) == bias.dims().first();
        if fits && !is_normalized && !graph.outputs.contains(&output) {
            found.push(id);
        }
    }
    Ok(found)
}

/// The edits that put a BatchNormalization behind convolutions that [lack](lacks_batch_norm) one,
/// so that the network stays the same function up to rounding: with the output's mean `m` and
/// variance `v` as running statistics, scale `sqrt(v + epsilon)` and bias `m`.
///
/// The weights of each output channel are brought to the length that He's initialization gives
/// them, and `m` and `v` with them. The length has no effect behind a normalization but on how far
/// a gradient step turns the weights: a learning rate then means the same for every channel,
/// whatever was folded into it.
///
/// `momentum`, in 0 to below 1, is the share of the running statistics that each training step
/// keeps.
///
/// # Errors
/// `E0156` when a statistic is not finite; when the statistics do not fit the layer.
pub fn insert_batch_norm(
    graph: &Graph,
    layers: &[(NodeId, OutputStatistics)],
    momentum: f32,
) -> Result<Vec<Edit>> {
    let mut edits = Vec::new();
    for (id, statistics) in layers {
        edits.extend(insert(graph, *id, statistics, momentum)?);
    }
    Ok(edits)
}

fn insert(
    graph: &Graph,
    id: NodeId,
    statistics: &OutputStatistics,
    momentum: f32,
) -> Result<[Edit; 3]> {
    let node = graph.node(id);
    let constant = |input: usize| node.input(input).and_then(|value| graph.initializer(value));
    let (Some(weight), Some(bias), Some(axis)) = (constant(1), constant(2), output_axis(node)?)
    else {
        return Err(Error::internal("a layer that a normalization cannot be put behind")
            .in_node(graph.describe(id)));
    };
    let OutputStatistics { mean, variance } = statistics;
    let channels = bias.count();
    if [mean, variance].iter().any(|s| s.len() != channels)
        || weight.dims().get(axis) != Some(&channels)
    {
        return Err(Error::internal(format!("statistics that are not of {channels} channels"))
            .in_node(graph.describe(id)));
    }
    if let Some(channel) = mean.iter().zip(variance).position(|(m, v)| !(m + v).is_finite()) {
        return Err(Error::invalid(format!("the output is not finite in channel {channel}"))
            .code_is("E0156")
            .in_node(graph.describe(id))
            .hint("check the model and the preprocessing of the samples"));
    }
    let gain: Vec<f64> = squared_lengths(weight, axis)?
        .into_iter()
        .map(|length| if length < SHORTEST { 1.0 } else { (SQUARED_LENGTH / length).sqrt() })
        .collect();
    let f32s = |values: Vec<f64>| {
        let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
        Constant::from_f32s(&[channels], &values)
    };
    let with_gain = |values: &[f64]| values.iter().zip(&gain).map(|(x, g)| x * g).collect();
    let squared: Vec<f64> = variance.iter().zip(&gain).map(|(v, g)| v * g * g).collect();
    let scale = squared.iter().zip(&gain).map(|(v, g)| (v + f64::from(EPSILON)).sqrt() / g);
    let mut attributes = Attributes::default();
    attributes.set("epsilon", Attribute::Float(EPSILON));
    attributes.set("momentum", Attribute::Float(momentum));
    let named = |name: &str, values| Ok((name.to_owned(), f32s(values)?));
    let constants: Vec<(String, Constant)> = [
        named("scale", scale.collect()),
        named("bias", mean.clone()),
        named("mean", with_gain(mean)),
        named("variance", squared.clone()),
    ]
    .into_iter()
    .collect::<Result<_>>()?;
    Ok([
        Edit::SetInput { node: id, input: 1, constant: scaled(weight, axis, &gain)? },
        Edit::SetInput { node: id, input: 2, constant: f32s(with_gain(&bias.to_f64s()?))? },
        Edit::InsertAfter { node: id, op: "BatchNormalization".to_owned(), attributes, constants },
    ])
}

/// Sum of squares of each slice along `axis`.
fn squared_lengths(weight: &Constant, axis: usize) -> Result<Vec<f64>> {
    let channels = weight.dims()[axis];
    let inner: usize = weight.dims()[axis + 1..].iter().product();
    let mut sums = vec![0.0; channels];
    for (i, w) in weight.to_f64s()?.into_iter().enumerate() {
        sums[i / inner.max(1) % channels] += w * w;
    }
    Ok(sums)
}
