//! Appends layers to a graph and keeps track of shapes.

use super::weights::{he, uniform, xavier};
use crate::graph::{Attribute, Declared, Dim, Graph};
use crate::{Constant, ElementType, Error, Node, Result, ValueId};

/// Operator set and IR version that every current runtime reads.
const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;

/// Largest initializer in elements: 4 GiB of f32.
const MAX_ELEMENTS: usize = 1 << 30;

/// A graph under construction. A node and its output have the name of the layer, parameters that
/// name with `.weight`, `.bias`, `.running_mean`, `.running_var`.
pub(super) struct Builder {
    graph: Graph,
    seed: u64,
    image: Maps,
}

/// A value of shape `(batch, channels, height, width)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Maps {
    value: ValueId,
    /// Number of channels.
    pub(super) channels: usize,
    size: [usize; 2],
}

/// A value of shape `(batch, features)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vector {
    value: ValueId,
    features: usize,
}

/// Size, stride and padding of a window, by height and width.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    kernel: [usize; 2],
    stride: usize,
    padding: [usize; 2],
}

/// A square window.
pub(super) const fn square(kernel: usize, stride: usize, padding: usize) -> Window {
    Window { kernel: [kernel; 2], stride, padding: [padding; 2] }
}

/// A window of any shape, with stride 1 and padding that keeps the size; sides must be odd.
pub(super) const fn oblong(height: usize, width: usize) -> Window {
    Window { kernel: [height, width], stride: 1, padding: [height / 2, width / 2] }
}

impl Window {
    fn output(&self, name: &str, size: [usize; 2]) -> Result<[usize; 2]> {
        let mut output = [0; 2];
        for axis in 0..2 {
            let padded = size[axis] + 2 * self.padding[axis];
            let Some(room) = padded.checked_sub(self.kernel[axis]) else {
                let [height, width] = size;
                return Err(Error::invalid(format!(
                    "the input is too small: {height}x{width} is left at `{name}`, whose window \
                     is {}x{}",
                    self.kernel[0], self.kernel[1]
                ))
                .code_is("E0161")
                .hint("give a larger `input`"));
            };
            output[axis] = room / self.stride + 1;
        }
        Ok(output)
    }

    fn attributes(&self) -> [(&'static str, Attribute); 3] {
        let ints = |values: &[usize]| Attribute::Ints(values.iter().map(|&n| n as i64).collect());
        let [top, left] = self.padding;
        [
            ("kernel_shape", ints(&self.kernel)),
            ("pads", ints(&[top, left, top, left])),
            ("strides", ints(&[self.stride; 2])),
        ]
    }
}

impl Builder {
    /// A graph with the input `input`.
    pub(super) fn new(input: [usize; 3], seed: u64) -> Result<Self> {
        if !input.iter().all(|side| (1..=65_536).contains(side)) {
            let [c, h, w] = input;
            return Err(Error::invalid(format!("input {c}x{h}x{w}, not 1 to 65,536 on each side"))
                .code_is("E0161"));
        }
        let mut graph = Graph {
            ir_version: IR_VERSION,
            opsets: [(String::new(), OPSET)].into(),
            producer: ("kerf".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ..Graph::default()
        };
        let value = graph.value("input");
        declare(&mut graph, value, &input);
        graph.inputs.push(value);
        let [channels, height, width] = input;
        Ok(Self { graph, seed, image: Maps { value, channels, size: [height, width] } })
    }

    /// The input.
    pub(super) fn image(&self) -> Maps {
        self.image
    }

    /// The graph, whose output is `logits`.
    pub(super) fn finish(self) -> Result<Graph> {
        if self.graph.outputs.is_empty() {
            return Err(Error::internal("an architecture without an output"));
        }
        Ok(self.graph)
    }

    /// A convolution from `x` to `channels`, without a bias.
    pub(super) fn conv(
        &mut self,
        name: &str,
        x: Maps,
        channels: usize,
        window: Window,
    ) -> Result<Maps> {
        self.grouped_conv(name, x, channels, window, 1, false)
    }

    /// A convolution with a bias.
    pub(super) fn conv_bias(
        &mut self,
        name: &str,
        x: Maps,
        channels: usize,
        window: Window,
    ) -> Result<Maps> {
        self.grouped_conv(name, x, channels, window, 1, true)
    }

    /// A convolution of each channel by itself, without a bias.
    pub(super) fn depthwise(&mut self, name: &str, x: Maps, window: Window) -> Result<Maps> {
        self.grouped_conv(name, x, x.channels, window, x.channels, false)
    }

    fn grouped_conv(
        &mut self,
        name: &str,
        x: Maps,
        channels: usize,
        window: Window,
        groups: usize,
        with_bias: bool,
    ) -> Result<Maps> {
        let size = window.output(name, x.size)?;
        let [height, width] = window.kernel;
        let dims = [channels, x.channels / groups, height, width];
        let fan_in = dims[1..].iter().product();
        let mut inputs = vec![x.value, self.weight(name, &dims, he(fan_in))?];
        if with_bias {
            inputs.push(self.filled(&format!("{name}.bias"), channels, 0.0)?);
        }
        let [kernel, pads, strides] = window.attributes();
        let group = ("group", Attribute::Int(groups as i64));
        let dilations = ("dilations", Attribute::Ints(vec![1, 1]));
        let attributes = [dilations, group, kernel, pads, strides];
        Ok(Maps { value: self.node(name, "Conv", &inputs, attributes), channels, size })
    }

    /// Batch normalization that changes nothing yet.
    pub(super) fn norm(&mut self, name: &str, x: Maps, epsilon: f32) -> Result<Maps> {
        let mut inputs = vec![x.value];
        let parts = [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)];
        for (part, value) in parts {
            inputs.push(self.filled(&format!("{name}.{part}"), x.channels, value)?);
        }
        let attributes =
            [("epsilon", Attribute::Float(epsilon)), ("momentum", Attribute::Float(0.9))];
        Ok(Maps { value: self.node(name, "BatchNormalization", &inputs, attributes), ..x })
    }

    /// `max(x, 0)`.
    pub(super) fn relu(&mut self, name: &str, x: Maps) -> Maps {
        Maps { value: self.node(name, "Relu", &[x.value], []), ..x }
    }

    /// `min(max(x, 0), 6)`.
    pub(super) fn relu6(&mut self, name: &str, x: Maps) -> Result<Maps> {
        let low = self.scalar("relu6.low", 0.0)?;
        let high = self.scalar("relu6.high", 6.0)?;
        Ok(Maps { value: self.node(name, "Clip", &[x.value, low, high], []), ..x })
    }

    /// The greatest value in each window.
    pub(super) fn max_pool(&mut self, name: &str, x: Maps, window: Window) -> Result<Maps> {
        let size = window.output(name, x.size)?;
        let value = self.node(name, "MaxPool", &[x.value], window.attributes());
        Ok(Maps { value, size, ..x })
    }

    /// The mean of each window, in which padding counts as zeros.
    pub(super) fn average_pool(&mut self, name: &str, x: Maps, window: Window) -> Result<Maps> {
        let size = window.output(name, x.size)?;
        let [kernel, pads, strides] = window.attributes();
        let attributes = [("count_include_pad", Attribute::Int(1)), kernel, pads, strides];
        Ok(Maps { value: self.node(name, "AveragePool", &[x.value], attributes), size, ..x })
    }

    /// `a + b`, of one shape.
    pub(super) fn add(&mut self, name: &str, a: Maps, b: Maps) -> Maps {
        Maps { value: self.node(name, "Add", &[a.value, b.value], []), ..a }
    }

    /// All channels, one list after the other.
    pub(super) fn concat(&mut self, name: &str, parts: &[Maps]) -> Result<Maps> {
        let Some(first) = parts.first() else {
            return Err(Error::internal("nothing to concatenate"));
        };
        let values: Vec<_> = parts.iter().map(|part| part.value).collect();
        let value = self.node(name, "Concat", &values, [("axis", Attribute::Int(1))]);
        let channels = parts.iter().map(|part| part.channels).sum();
        Ok(Maps { value, channels, size: first.size })
    }

    /// The mean over all positions.
    pub(super) fn global_average(&mut self, name: &str, x: Maps) -> Vector {
        let value = self.node(name, "GlobalAveragePool", &[x.value], []);
        self.flatten(&format!("{name}.flatten"), Maps { value, size: [1, 1], ..x })
    }

    /// All positions of all channels in one list.
    pub(super) fn flatten(&mut self, name: &str, x: Maps) -> Vector {
        let value = self.node(name, "Flatten", &[x.value], [("axis", Attribute::Int(1))]);
        Vector { value, features: x.channels * x.size[0] * x.size[1] }
    }

    /// A matrix product with a bias and a rectifier.
    pub(super) fn dense_relu(&mut self, name: &str, x: Vector, features: usize) -> Result<Vector> {
        let product = self.gemm(name, name, x, features, he(x.features))?;
        let value = self.node(&format!("{name}.relu"), "Relu", &[product.value], []);
        Ok(Vector { value, ..product })
    }

    /// The output: a matrix product with a bias.
    pub(super) fn logits(&mut self, name: &str, x: Vector, classes: usize) -> Result<()> {
        let logits = self.gemm(name, "logits", x, classes, xavier(x.features, classes))?;
        declare(&mut self.graph, logits.value, &[classes]);
        self.graph.outputs.push(logits.value);
        Ok(())
    }

    /// Zeroes this share of the features during training; nothing at all for a share of 0.
    pub(super) fn dropout(&mut self, name: &str, x: Vector, ratio: f64) -> Result<Vector> {
        if ratio == 0.0 {
            return Ok(x);
        }
        let ratio = self.scalar("dropout.ratio", ratio as f32)?;
        Ok(Vector { value: self.node(name, "Dropout", &[x.value, ratio], []), ..x })
    }

    fn gemm(
        &mut self,
        name: &str,
        output: &str,
        x: Vector,
        features: usize,
        bound: f64,
    ) -> Result<Vector> {
        let weight = self.weight(name, &[features, x.features], bound)?;
        let bias = self.filled(&format!("{name}.bias"), features, 0.0)?;
        let value = self.graph.value(output);
        let mut node = Node::new(name, "Gemm", &[x.value, weight, bias], &[value]);
        node.attributes.set("transB", Attribute::Int(1));
        self.graph.nodes.push(node);
        Ok(Vector { value, features })
    }

    fn weight(&mut self, name: &str, dims: &[usize], bound: f64) -> Result<ValueId> {
        let name = format!("{name}.weight");
        let count = dims.iter().try_fold(1_usize, |count, &dim| count.checked_mul(dim));
        let Some(count) = count.filter(|&count| count <= MAX_ELEMENTS) else {
            return Err(Error::invalid(format!("`{name}` of shape {dims:?} is too large"))
                .code_is("E0161")
                .hint("give a smaller `input`, `classes` or `width`"));
        };
        let bytes = uniform(self.seed, &name, count, bound);
        self.constant(&name, Constant::from_bytes(ElementType::F32, dims.to_vec(), bytes)?)
    }

    fn filled(&mut self, name: &str, count: usize, value: f32) -> Result<ValueId> {
        self.constant(name, Constant::from_f32s(&[count], &vec![value; count])?)
    }

    /// A scalar that all layers share.
    fn scalar(&mut self, name: &str, value: f32) -> Result<ValueId> {
        match self.graph.find(name) {
            Some(value) => Ok(value),
            None => self.constant(name, Constant::from_f32s(&[], &[value])?),
        }
    }

    fn constant(&mut self, name: &str, constant: Constant) -> Result<ValueId> {
        if self.graph.find(name).is_some() {
            return Err(Error::internal(format!("two layers are named `{name}`")));
        }
        let value = self.graph.value(name);
        self.graph.set_initializer(value, constant);
        Ok(value)
    }

    fn node(
        &mut self,
        name: &str,
        op: &str,
        inputs: &[ValueId],
        attributes: impl IntoIterator<Item = (&'static str, Attribute)>,
    ) -> ValueId {
        let output = self.graph.value(name);
        let mut node = Node::new(name, op, inputs, &[output]);
        for (name, value) in attributes {
            node.attributes.set(name, value);
        }
        self.graph.nodes.push(node);
        output
    }
}

/// States that a value holds floats of shape `(batch, dims...)`.
fn declare(graph: &mut Graph, value: ValueId, dims: &[usize]) {
    let known = dims.iter().map(|&dim| Dim::Known(dim));
    let dims = Some([Dim::Symbol("batch".to_owned())].into_iter().chain(known).collect());
    let declared = Declared { element: Some(ElementType::F32), dims, ..Declared::default() };
    graph.declare(value, Some(declared));
}
