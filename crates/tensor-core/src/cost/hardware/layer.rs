//! The layers of a graph as hardware sees them.

use crate::graph::{Graph, Index};
use crate::run::{Fact, Facts};
use crate::{ElementType, Error, NodeId, Result};
use serde::{Deserialize, Serialize};

/// What kind of product a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerKind {
    /// A convolution, grouped or not.
    Conv,
    /// A convolution with one input channel per group.
    Depthwise,
    /// A matrix product with constant weights.
    Linear,
}

/// Shape of a layer, for one sample.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LayerShape {
    /// What kind of product.
    pub op: LayerKind,
    /// Height and width of the kernel; 1 and 1 for a matrix product.
    pub kernel: [usize; 2],
    /// Strides.
    pub stride: [usize; 2],
    /// Groups.
    pub groups: usize,
    /// Input channels.
    pub cin: usize,
    /// Output channels.
    pub cout: usize,
    /// Height of the input; the rows of a sample for a matrix product.
    pub h: usize,
    /// Width of the input; 1 for a matrix product.
    pub w: usize,
    /// Height of the output.
    pub out_h: usize,
    /// Width of the output.
    pub out_w: usize,
}

impl LayerShape {
    /// Positions of the output.
    pub fn positions(&self) -> u64 {
        self.out_h as u64 * self.out_w as u64
    }

    /// What is summed over for one output.
    pub fn depth(&self) -> u64 {
        (self.kernel[0] * self.kernel[1]) as u64 * (self.cin / self.groups.max(1)) as u64
    }

    /// Number of weights, without bias.
    pub fn weights(&self) -> u64 {
        self.depth() * self.cout as u64
    }

    /// Multiply-accumulates of one sample.
    pub fn macs(&self) -> u64 {
        self.weights() * self.positions()
    }

    /// Elements of the input of one sample.
    pub fn inputs(&self) -> u64 {
        self.cin as u64 * self.h as u64 * self.w as u64
    }

    /// Elements of the output of one sample.
    pub fn outputs(&self) -> u64 {
        self.cout as u64 * self.positions()
    }

    /// The same layer with other channel counts; a depthwise one keeps as many groups as inputs.
    #[must_use]
    pub fn with_channels(&self, cin: usize, cout: usize) -> Self {
        let groups = if self.op == LayerKind::Depthwise { cin } else { self.groups };
        Self { cin, cout, groups, ..self.clone() }
    }
}

/// A layer with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// The node.
    #[serde(skip)]
    pub node: NodeId,
    /// Its key, which plans name.
    pub name: String,
    /// Its shape.
    pub shape: LayerShape,
}

/// The convolutions, transposed ones too, and the matrix products with constant weights, in graph order.
/// The first axis of an input counts samples and is not part of a shape.
///
/// # Errors
/// `E0554` for a convolution of more than two spatial axes; `E0111` when a shape is not known.
pub fn layers(graph: &Graph, facts: &Facts) -> Result<Vec<Layer>> {
    let (layers, others) = known_layers(graph, facts);
    others.into_iter().next().map_or(Ok(layers), Err)
}

/// The layers whose shapes are known, and why others have none: the errors of [`layers`].
pub fn known_layers(graph: &Graph, facts: &Facts) -> (Vec<Layer>, Vec<Error>) {
    let (mut layers, mut others) = (Vec::new(), Vec::new());
    for id in graph.node_ids() {
        match shape(graph, facts, id) {
            Ok(Some(shape)) => {
                layers.push(Layer { node: id, name: graph.key(id).to_owned(), shape });
            }
            Ok(None) => {}
            Err(error) => others.push(error.in_node(graph.describe(id))),
        }
    }
    (layers, others)
}

/// Nodes with constants along two axes and more, such as weights, that are no layers here: recurrent
/// ones, tables of embeddings, operators of other domains. A number for each channel is no weight.
pub fn weighted_others(graph: &Graph, layers: &[Layer]) -> Vec<NodeId> {
    let index = Index::new(graph);
    let is_layer = |id: &NodeId| layers.iter().any(|layer| layer.node == *id);
    let is_weight = |value: &crate::ValueId| {
        graph.constant(*value, &index).is_some_and(|constant| {
            let long = constant.dims().iter().filter(|dim| **dim > 1).count();
            constant.element() == ElementType::F32 && long > 1
        })
    };
    let is_weighted = |id: &NodeId| graph.node(*id).inputs.iter().flatten().any(is_weight);
    graph.node_ids().filter(|id| !is_layer(id) && is_weighted(id)).collect()
}

/// The shape of a node that is a layer.
fn shape(graph: &Graph, facts: &Facts, id: NodeId) -> Result<Option<LayerShape>> {
    let node = graph.node(id);
    let is_layer = matches!(&*node.op, "Conv" | "ConvTranspose" | "Gemm" | "MatMul");
    if !node.domain.is_empty() || !is_layer {
        return Ok(None);
    }
    let fact = |value: Option<crate::ValueId>| value.and_then(|value| facts.get(value));
    let (x, weight, y) = (fact(node.input(0)), fact(node.input(1)), fact(node.output(0)));
    let (Some(x), Some(weight), Some(y)) = (x, weight, y) else {
        return Err(Error::invalid("its shapes are not known")
            .code_is("E0111")
            .hint("give the shapes of the inputs; what is behind an unknown operator has none"));
    };
    if !weight.fixed {
        return Ok(None);
    }
    let shape = match &*node.op {
        "Conv" => convolution(graph, id, x, weight, y),
        "ConvTranspose" => transposed(graph, id, x, weight),
        _ => Some(product(x, weight, y)),
    };
    shape.map(Some).ok_or_else(|| {
        Error::unsupported("hardware costs are for convolutions over one or two axes")
            .code_is("E0554")
    })
}

/// Length of an axis, 1 where there is none.
fn length(dims: &[usize], axis: usize) -> usize {
    dims.get(axis).copied().unwrap_or(1)
}

fn convolution(graph: &Graph, id: NodeId, x: &Fact, weight: &Fact, y: &Fact) -> Option<LayerShape> {
    if !(3..=4).contains(&x.dims.len()) {
        return None;
    }
    let attributes = &graph.node(id).attributes;
    let groups = usize::try_from(attributes.int("group", 1).ok()?).ok()?.max(1);
    let strides = attributes.ints("strides").ok()?.unwrap_or_default();
    let stride = |axis: usize| strides.get(axis).map_or(Some(1), |&s| usize::try_from(s).ok());
    let (cin, cout) = (length(&x.dims, 1), length(&weight.dims, 0));
    let op = match groups > 1 && groups == cin {
        true => LayerKind::Depthwise,
        false => LayerKind::Conv,
    };
    Some(LayerShape {
        op,
        kernel: [length(&weight.dims, 2), length(&weight.dims, 3)],
        stride: [stride(0)?, stride(1)?],
        groups,
        cin,
        cout,
        h: length(&x.dims, 2),
        w: length(&x.dims, 3),
        out_h: length(&y.dims, 2),
        out_w: length(&y.dims, 3),
    })
}

/// A transposed convolution, as the convolution of its input with as many multiply-accumulates: each
/// input position is multiplied with all weights.
fn transposed(graph: &Graph, id: NodeId, x: &Fact, weight: &Fact) -> Option<LayerShape> {
    if !(3..=4).contains(&x.dims.len()) {
        return None;
    }
    let groups = usize::try_from(graph.node(id).attributes.int("group", 1).ok()?).ok()?.max(1);
    let (h, w) = (length(&x.dims, 2), length(&x.dims, 3));
    Some(LayerShape {
        op: LayerKind::Conv,
        kernel: [length(&weight.dims, 2), length(&weight.dims, 3)],
        stride: [1, 1],
        groups,
        cin: length(&x.dims, 1),
        cout: length(&weight.dims, 1) * groups,
        h,
        w,
        out_h: h,
        out_w: w,
    })
}

/// A matrix product: rows are what lies between the batch and the last axis.
fn product(x: &Fact, weight: &Fact, y: &Fact) -> LayerShape {
    let cout = y.dims.last().copied().unwrap_or(1);
    let count: usize = weight.dims.iter().product();
    let rows = match x.dims.len() {
        0..=2 => 1,
        rank => x.dims[1..rank - 1].iter().product(),
    };
    LayerShape {
        op: LayerKind::Linear,
        kernel: [1, 1],
        stride: [1, 1],
        groups: 1,
        cin: count / cout.max(1),
        cout,
        h: rows,
        w: 1,
        out_h: rows,
        out_w: 1,
    }
}
