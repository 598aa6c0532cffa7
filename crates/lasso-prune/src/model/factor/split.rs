//! From composed weights to chains of convolutions.

use super::forms::Form;
use crate::model::layers::Layer;
use tensor_core::Result;
use tensor_core::graph::{Attribute, Attributes, Constant, Graph, Index};
use tensor_core::rewrite::{Edit, Stored};

/// The edits that put a form's convolutions in the place of one: the last of them keeps the node, its
/// name and its bias.
///
/// # Errors
/// When an attribute of the node is invalid.
pub(super) fn split(
    graph: &Graph,
    index: &Index,
    layer: &Layer,
    form: Form,
    factors: &[Vec<f32>],
) -> Result<Vec<Edit>> {
    let node = graph.node(layer.node);
    let window = Window::read(&node.attributes)?;
    let stored = Stored::required(graph, index, layer.node, layer.weight.0)?;
    let &[n, c, kh, kw] = stored.constant.dims() else { return Ok(Vec::new()) };
    let vertical = || window.along([kh, 1], [true, false]);
    let horizontal = || window.along([1, kw], [false, true]);
    let chain: Vec<([usize; 4], Attributes)> = match form {
        Form::Whole => return Ok(Vec::new()),
        Form::Spatial { rank } => {
            vec![([rank, c, kh, 1], vertical()), ([n, rank, 1, kw], horizontal())]
        }
        Form::Channel { rank } => vec![
            ([rank, c, kh, kw], window.along([kh, kw], [true, true])),
            ([n, rank, 1, 1], point()),
        ],
        Form::Both { spatial, channel } => vec![
            ([spatial, c, kh, 1], vertical()),
            ([channel, spatial, 1, kw], horizontal()),
            ([n, channel, 1, 1], point()),
        ],
    };
    let mut edits = Vec::new();
    for (at, ((dims, attributes), weight)) in chain.iter().zip(factors).enumerate() {
        let constant = Constant::from_f32s(dims, weight)?;
        if at + 1 < chain.len() {
            edits.push(Edit::InsertBefore {
                node: layer.node,
                input: layer.data.0,
                op: "Conv".to_owned(),
                attributes: attributes.clone(),
                constants: vec![("weight".to_owned(), constant)],
            });
            continue;
        }
        edits.push(stored.replaced(&constant)?);
        for (name, attribute) in attributes.iter() {
            edits.push(Edit::SetAttribute {
                node: layer.node,
                name: name.to_owned(),
                attribute: attribute.clone(),
            });
        }
    }
    Ok(edits)
}

/// How a kernel slides, along height and width.
struct Window {
    auto_pad: Option<Attribute>,
    strides: [i64; 2],
    dilations: [i64; 2],
    /// Before and behind the height, before and behind the width.
    pads: [[i64; 2]; 2],
}

impl Window {
    fn read(attributes: &Attributes) -> Result<Self> {
        let pair = |name: &str| -> Result<[i64; 2]> {
            Ok(match attributes.ints(name)? {
                Some(&[a, b]) => [a, b],
                _ => [1, 1],
            })
        };
        let pads = match attributes.ints("pads")? {
            Some(&[top, left, bottom, right]) => [[top, bottom], [left, right]],
            _ => [[0, 0], [0, 0]],
        };
        Ok(Self {
            auto_pad: attributes.get("auto_pad").cloned(),
            strides: pair("strides")?,
            dilations: pair("dilations")?,
            pads,
        })
    }

    /// The same for a kernel of this size, along the axes where it slides; it stands still along others.
    fn along(&self, kernel: [usize; 2], slides: [bool; 2]) -> Attributes {
        let mut attributes = sized(kernel);
        let per_axis = |values: [i64; 2]| {
            Attribute::Ints(
                (0..2).map(|axis| if slides[axis] { values[axis] } else { 1 }).collect(),
            )
        };
        let pad = |axis: usize, end: usize| if slides[axis] { self.pads[axis][end] } else { 0 };
        attributes.set("strides", per_axis(self.strides));
        attributes.set("dilations", per_axis(self.dilations));
        match &self.auto_pad {
            // Along an axis where nothing slides, no padding keeps the size.
            Some(auto_pad) if !is_explicit(auto_pad) => {
                attributes.set("auto_pad", auto_pad.clone());
            }
            _ => {
                let pads = vec![pad(0, 0), pad(1, 0), pad(0, 1), pad(1, 1)];
                attributes.set("pads", Attribute::Ints(pads));
            }
        }
        attributes
    }
}

/// A `1 x 1` kernel without stride or padding, whatever the node had before.
fn point() -> Attributes {
    let mut attributes = sized([1, 1]);
    attributes.set("strides", Attribute::Ints(vec![1; 2]));
    attributes.set("dilations", Attribute::Ints(vec![1; 2]));
    attributes.set("auto_pad", Attribute::Bytes(b"NOTSET".to_vec()));
    attributes.set("pads", Attribute::Ints(vec![0; 4]));
    attributes
}

fn sized(kernel: [usize; 2]) -> Attributes {
    let mut attributes = Attributes::default();
    attributes.set("kernel_shape", Attribute::Ints(kernel.map(|k| k as i64).to_vec()));
    attributes.set("group", Attribute::Int(1));
    attributes
}

fn is_explicit(auto_pad: &Attribute) -> bool {
    matches!(auto_pad, Attribute::Bytes(text) if text.is_empty() || text == b"NOTSET")
}
