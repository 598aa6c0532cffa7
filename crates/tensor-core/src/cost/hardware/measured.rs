//! Costs of layers on this machine, timed in an engine that is not ours.
//!
//! Each layer becomes a model of its own, in the forms that files have after quantization: 32-bit floats;
//! 8-bit weights and activations (`DequantizeLinear` around the operator, integers at its ends, as inside a
//! quantized network); and 4-bit weights with 8-bit activations. All forms of a layer are timed in turn.

use super::table::Row;
use super::{FLOAT_BITS, LayerKind, LayerShape};
use crate::graph::{Attribute, Declared, Dim, Graph, Node};
use crate::measure::latency::{self, Candidate, Settings};
use crate::measure::{Engine, Named};
use crate::{Constant, ElementType, Result, ValueId, onnx, random};
use candle_core::{Device, Tensor};
use rand_chacha::rand_core::RngCore;

/// The form of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// 32-bit floats.
    Float,
    /// 8-bit weights and activations.
    Int8,
    /// 4-bit weights, 8-bit activations.
    Int4Weights,
}

impl Form {
    /// All forms.
    pub const ALL: [Self; 3] = [Self::Float, Self::Int8, Self::Int4Weights];

    /// Bits of weights and activations.
    pub fn bits(self) -> (u32, u32) {
        match self {
            Self::Float => (FLOAT_BITS, FLOAT_BITS),
            Self::Int8 => (8, 8),
            Self::Int4Weights => (4, 8),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Float => "f32",
            Self::Int8 => "int8",
            Self::Int4Weights => "int4 weights",
        }
    }
}

/// Times the forms of a layer on random inputs of `batch` samples.
///
/// # Errors
/// As the engine's; `E0554` when the shape cannot be built.
pub fn time(
    engine: &dyn Engine,
    shape: &LayerShape,
    forms: &[Form],
    batch: usize,
    settings: &Settings,
) -> Result<Vec<Row>> {
    let models = forms
        .iter()
        .map(|&form| onnx::encode(&model(shape, form, batch)?))
        .collect::<Result<Vec<_>>>()?;
    let candidates: Vec<_> = forms
        .iter()
        .zip(&models)
        .map(|(form, model)| Candidate { name: form.name(), model })
        .collect();
    let report = latency::measure(engine, &candidates, &inputs(shape, batch)?, settings)?;
    let rows = forms.iter().zip(&report.models).map(|(form, timing)| {
        /// From the median absolute deviation to the standard deviation of a normal distribution.
        const NORMAL: f64 = 1.4826;
        let (w_bits, a_bits) = form.bits();
        Row {
            shape: shape.clone(),
            w_bits,
            a_bits,
            latency_us: timing.latency_us_p50,
            energy_uj: None,
            source: "measured".to_owned(),
            n: timing.runs,
            std_us: NORMAL * timing.latency_us_mad,
        }
    });
    Ok(rows.collect())
}

fn input_dims(shape: &LayerShape, batch: usize) -> Vec<usize> {
    match (shape.op, shape.h) {
        (LayerKind::Linear, 1) => vec![batch, shape.cin],
        (LayerKind::Linear, rows) => vec![batch, rows, shape.cin],
        _ => vec![batch, shape.cin, shape.h, shape.w],
    }
}

/// Whole numbers from 0 to 255, which fit every form.
fn inputs(shape: &LayerShape, batch: usize) -> Result<Vec<Named>> {
    let dims = input_dims(shape, batch);
    let mut bytes = vec![0; dims.iter().product()];
    random::stream(0, "layer inputs").fill_bytes(&mut bytes);
    let values: Vec<f32> = bytes.into_iter().map(f32::from).collect();
    Ok(vec![("x".to_owned(), Tensor::from_vec(values, dims, &Device::Cpu)?)])
}

/// One layer as a model with input `x` and output `y`.
///
/// # Errors
/// When the sizes overflow.
pub fn model(shape: &LayerShape, form: Form, batch: usize) -> Result<Graph> {
    // 4-bit integers are newer than everything else here.
    let (opset, ir_version) = if form == Form::Int4Weights { (21, 10) } else { (17, 8) };
    let mut graph =
        Graph { ir_version, opsets: [(String::new(), opset)].into(), ..Graph::default() };
    let element = if form == Form::Float { ElementType::F32 } else { ElementType::U8 };
    let x = graph.value("x");
    declare(&mut graph, x, element, Some(&input_dims(shape, batch)));
    graph.inputs.push(x);
    let y = graph.value("y");
    declare(&mut graph, y, element, None);
    graph.outputs.push(y);
    let bias = Constant::from_bytes(ElementType::I32, vec![shape.cout], vec![0; 4 * shape.cout])?;
    if form == Form::Float {
        let weight = initializer(&mut graph, "weight", weights(shape, form)?);
        let zeros = Constant::from_f32s(&[shape.cout], &vec![0.0; shape.cout])?;
        let bias = initializer(&mut graph, "bias", zeros);
        layer(&mut graph, shape, [x, weight, bias], y);
        return Ok(graph);
    }
    /// Any scales do: nothing about the time depends on them.
    const SCALE: f32 = 0.01;
    let real = Grid { scale: Constant::from_f32s(&[], &[SCALE])?, zero: Some(128), axis: 0 };
    let axis = i64::from(is_stacked(shape));
    let per_channel = |scale: f32| Constant::from_f32s(&[shape.cout], &vec![scale; shape.cout]);
    let weight_grid = Grid { scale: per_channel(SCALE)?, zero: None, axis };
    let bias_grid = Grid { scale: per_channel(SCALE * SCALE)?, zero: None, axis: 0 };
    let input = dequantize(&mut graph, x, &real)?;
    let weight = initializer(&mut graph, "weight", weights(shape, form)?);
    let weight = dequantize(&mut graph, weight, &weight_grid)?;
    let bias = initializer(&mut graph, "bias", bias);
    let bias = dequantize(&mut graph, bias, &bias_grid)?;
    let exact = graph.value("exact");
    layer(&mut graph, shape, [input, weight, bias], exact);
    let output = Grid { scale: Constant::from_f32s(&[], &[1.0])?, ..real };
    let parameters = output.values(&mut graph, "y")?;
    let node = Node::new("quantize", "QuantizeLinear", &[&[exact][..], &parameters].concat(), &[y]);
    graph.nodes.push(node);
    Ok(graph)
}

/// Scale, zero point of unsigned values, axis.
struct Grid {
    scale: Constant,
    zero: Option<u8>,
    axis: i64,
}

impl Grid {
    fn values(&self, graph: &mut Graph, of: &str) -> Result<Vec<ValueId>> {
        let mut values = vec![initializer(graph, &format!("{of}.scale"), self.scale.clone())];
        if let Some(zero) = self.zero {
            let zero = Constant::from_bytes(ElementType::U8, Vec::new(), vec![zero])?;
            values.push(initializer(graph, &format!("{of}.zero"), zero));
        }
        Ok(values)
    }
}

fn dequantize(graph: &mut Graph, of: ValueId, grid: &Grid) -> Result<ValueId> {
    let name = graph.name(of).to_owned();
    let parameters = grid.values(graph, &name)?;
    let real = graph.value(&format!("{name}.real"));
    let inputs = [&[of][..], &parameters].concat();
    let mut node = Node::new(&format!("{name}.dequantize"), "DequantizeLinear", &inputs, &[real]);
    node.attributes.set("axis", Attribute::Int(grid.axis));
    graph.nodes.push(node);
    Ok(real)
}

/// Is the weight of the product stacked as inputs x outputs?
fn is_stacked(shape: &LayerShape) -> bool {
    shape.op == LayerKind::Linear && shape.h > 1
}

fn layer(graph: &mut Graph, shape: &LayerShape, inputs: [ValueId; 3], output: ValueId) {
    let [x, weight, bias] = inputs;
    if is_stacked(shape) {
        let product = graph.value("product");
        graph.nodes.push(Node::new("layer", "MatMul", &[x, weight], &[product]));
        graph.nodes.push(Node::new("add", "Add", &[product, bias], &[output]));
        return;
    }
    let op = if shape.op == LayerKind::Linear { "Gemm" } else { "Conv" };
    let mut node = Node::new("layer", op, &inputs, &[output]);
    if shape.op == LayerKind::Linear {
        node.attributes.set("transB", Attribute::Int(1));
    } else {
        let ints = |values: &[usize]| Attribute::Ints(values.iter().map(|&n| n as i64).collect());
        // As much padding as gives the output its size, the odd one behind.
        let pad = |size: usize, out: usize, axis: usize| {
            let covered = out.saturating_sub(1) * shape.stride[axis] + shape.kernel[axis];
            covered.saturating_sub(size)
        };
        let (top, left) = (pad(shape.h, shape.out_h, 0), pad(shape.w, shape.out_w, 1));
        node.attributes.set("kernel_shape", ints(&shape.kernel));
        node.attributes.set("strides", ints(&shape.stride));
        node.attributes.set("group", Attribute::Int(shape.groups as i64));
        let pads = [top / 2, left / 2, top - top / 2, left - left / 2];
        node.attributes.set("pads", ints(&pads));
    }
    graph.nodes.push(node);
}

/// Random weights.
fn weights(shape: &LayerShape, form: Form) -> Result<Constant> {
    let dims = match shape.op {
        LayerKind::Linear if is_stacked(shape) => vec![shape.cin, shape.cout],
        LayerKind::Linear => vec![shape.cout, shape.cin],
        _ => {
            let [height, width] = shape.kernel;
            vec![shape.cout, shape.cin / shape.groups.max(1), height, width]
        }
    };
    let count: usize = dims.iter().product();
    let mut rng = random::stream(0, "layer weights");
    // 4-bit integers are two to a byte.
    let mut bytes = vec![0; if form == Form::Int4Weights { count.div_ceil(2) } else { count }];
    rng.fill_bytes(&mut bytes);
    match form {
        Form::Float => {
            let values: Vec<f32> =
                bytes.iter().map(|&byte| (f32::from(byte) - 127.5) / 1000.0).collect();
            Constant::from_f32s(&dims, &values)
        }
        Form::Int8 => Constant::from_bytes(ElementType::I8, dims, bytes),
        Form::Int4Weights => Constant::from_bytes(ElementType::I4, dims, bytes),
    }
}

fn initializer(graph: &mut Graph, name: &str, constant: Constant) -> ValueId {
    let value = graph.value(name);
    graph.set_initializer(value, constant);
    value
}

fn declare(graph: &mut Graph, value: ValueId, element: ElementType, dims: Option<&[usize]>) {
    let dims = dims.map(|dims| dims.iter().map(|&dim| Dim::Known(dim)).collect());
    graph.declare(value, Some(Declared { element: Some(element), dims, ..Declared::default() }));
}
