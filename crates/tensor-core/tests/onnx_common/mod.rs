//! Models built from protobuf fields by hand, so that tests do not depend on the code they test,
//! and the folders where model files are.
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod hostile;

use std::path::{Path, PathBuf};

/// A protobuf message under construction.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message(pub(crate) Vec<u8>);

impl Message {
    /// An empty message.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A varint field.
    pub(crate) fn int(mut self, field: u64, value: i64) -> Self {
        self.varint(field << 3);
        self.varint(value as u64);
        self
    }

    /// A 32-bit float field.
    pub(crate) fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A length-delimited field.
    pub(crate) fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    /// A string field.
    pub(crate) fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    /// A string field for each value.
    pub(crate) fn texts(self, field: u64, values: &[&str]) -> Self {
        values.iter().fold(self, |message, value| message.text(field, value))
    }

    /// A nested message.
    pub(crate) fn sub(self, field: u64, value: &Message) -> Self {
        self.bytes(field, &value.0)
    }

    /// A nested message for each value.
    pub(crate) fn subs(self, field: u64, values: &[Message]) -> Self {
        values.iter().fold(self, |message, value| message.sub(field, value))
    }

    /// Packed varints.
    pub(crate) fn packed(self, field: u64, values: &[i64]) -> Self {
        let mut body = Message::new();
        values.iter().for_each(|&value| body.varint(value as u64));
        self.bytes(field, &body.0)
    }

    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// Element types.
pub(crate) const FLOAT: i64 = 1;
/// As [`FLOAT`].
pub(crate) const UINT8: i64 = 2;
/// As [`FLOAT`].
pub(crate) const INT64: i64 = 7;

/// A `NodeProto`.
pub(crate) fn node(name: &str, op: &str, inputs: &[&str], outputs: &[&str]) -> Message {
    Message::new().texts(1, inputs).texts(2, outputs).text(3, name).text(4, op)
}

/// A `NodeProto` with one attribute.
pub(crate) fn node_with(
    name: &str,
    op: &str,
    inputs: &[&str],
    outputs: &[&str],
    attribute: &Message,
) -> Message {
    node(name, op, inputs, outputs).sub(5, attribute)
}

/// A `ValueInfoProto` of a tensor.
pub(crate) fn value_info(name: &str, element: i64, dims: &[i64]) -> Message {
    let dims: Vec<Message> = dims.iter().map(|&dim| Message::new().int(1, dim)).collect();
    let shape = Message::new().subs(1, &dims);
    let tensor = Message::new().int(1, element).sub(2, &shape);
    Message::new().text(1, name).sub(2, &Message::new().sub(1, &tensor))
}

/// The head of a `TensorProto`: dimensions and type.
pub(crate) fn tensor_head(element: i64, dims: &[i64]) -> Message {
    dims.iter().fold(Message::new(), |message, &dim| message.int(1, dim)).int(2, element)
}

/// A `TensorProto` of floats as raw data.
pub(crate) fn floats(name: &str, dims: &[i64], values: &[f32]) -> Message {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor_head(FLOAT, dims).text(8, name).bytes(9, &raw)
}

/// A `TensorProto` of floats in a data file.
pub(crate) fn external(
    name: &str,
    dims: &[i64],
    location: &str,
    offset: &str,
    length: &str,
) -> Message {
    let entry = |key: &str, value: &str| Message::new().text(1, key).text(2, value);
    tensor_head(FLOAT, dims)
        .text(8, name)
        .sub(13, &entry("location", location))
        .sub(13, &entry("offset", offset))
        .sub(13, &entry("length", length))
        .int(14, 1)
}

/// A tensor attribute.
pub(crate) fn tensor_attribute(name: &str, tensor: &Message) -> Message {
    Message::new().text(1, name).sub(5, tensor).int(20, 4)
}

/// An integer-list attribute.
pub(crate) fn ints_attribute(name: &str, values: &[i64]) -> Message {
    values.iter().fold(Message::new().text(1, name), |a, &value| a.int(8, value)).int(20, 7)
}

/// A graph attribute.
pub(crate) fn graph_attribute(name: &str, graph: &Message) -> Message {
    Message::new().text(1, name).sub(6, graph).int(20, 5)
}

/// A `GraphProto` of nodes, initializers, inputs and outputs.
pub(crate) fn graph(
    nodes: &[Message],
    initializers: &[Message],
    inputs: &[Message],
    outputs: &[Message],
) -> Message {
    Message::new()
        .subs(1, nodes)
        .text(2, "g")
        .subs(5, initializers)
        .subs(11, inputs)
        .subs(12, outputs)
}

/// A `ModelProto` of a given IR version and opset.
pub(crate) fn model_of(ir_version: i64, opset: i64, graph: &Message) -> Message {
    let opset = Message::new().text(1, "").int(2, opset);
    Message::new().int(1, ir_version).sub(7, graph).sub(8, &opset)
}

/// A `ModelProto` with IR version 10 and opset 17.
pub(crate) fn model(graph: &Message) -> Vec<u8> {
    model_of(10, 17, graph).0
}

/// The input `x` and the output `y`, two floats each.
pub(crate) fn ends() -> ([Message; 1], [Message; 1]) {
    ([value_info("x", FLOAT, &[2])], [value_info("y", FLOAT, &[2])])
}

/// A model with a bit of everything: typed and raw data, a `Constant` node, sub-graphs that read
/// outer values, a function, sparse and quantized tensors, metadata, documentation, an unknown
/// domain, and attributes of every kind.
pub(crate) fn tiny() -> Vec<u8> {
    let condition = tensor_head(9, &[]).packed(5, &[1]).text(8, "");
    let shape = tensor_head(INT64, &[2]).packed(7, &[1, -1]).text(8, "shape");
    let bytes = tensor_head(UINT8, &[3]).packed(5, &[0, 128, 255]).text(8, "zero");
    let halves = tensor_head(10, &[2]).packed(5, &[0x3c00, 0xc000]).text(8, "halves");
    let nibbles = tensor_head(22, &[3]).text(8, "nibbles").bytes(9, &[0x21, 0x03]);
    let words = Message::new().int(1, 2).int(2, 8).text(6, "a").text(6, "").text(8, "words");
    let sparse = Message::new()
        .sub(1, &floats("thin", &[1], &[2.0]))
        .sub(2, &tensor_head(INT64, &[1]).packed(7, &[1]))
        .int(3, 4);
    let branch = |op: &str, name: &str| {
        let body = [node("", op, &["flat", "w"], &[name])];
        graph(&body, &[], &[], &[value_info(name, FLOAT, &[1, 4])])
    };
    let branches = node("choose", "If", &["condition"], &["chosen"])
        .sub(5, &graph_attribute("then_branch", &branch("Add", "sum")))
        .sub(5, &graph_attribute("else_branch", &branch("Mul", "product")));
    let strange = node("", "Mystery", &["chosen", "", "halves", "nibbles", "words"], &["y", ""])
        .sub(5, &Message::new().text(1, "alpha").float(2, 0.5).int(20, 1))
        .sub(5, &Message::new().text(1, "mode").text(4, "linear").int(20, 3))
        .sub(5, &Message::new().text(1, "scales").float(7, 1.0).float(7, 2.0).int(20, 6))
        .sub(5, &Message::new().text(1, "names").text(9, "a").text(9, "b").int(20, 8))
        .sub(5, &Message::new().text(1, "axis").int(20, 2))
        .sub(5, &Message::new().text(1, "untyped").int(3, 3))
        .sub(5, &Message::new().text(1, "none").int(20, 7))
        .text(6, "what it does is a secret")
        .text(7, "org.example");
    let nodes = [
        node_with("", "Constant", &[], &["condition"], &tensor_attribute("value", &condition)),
        node_with("conv", "Conv", &["x", "k", "b"], &["c"], &ints_attribute("pads", &[1, 1, 1, 1])),
        node("relu", "Relu", &["c"], &["r"]),
        node("reshape", "Reshape", &["r", "shape"], &["flat"]),
        branches,
        strange,
    ];
    let kernel: Vec<f32> = (0..9).map(|i| i as f32 - 4.0).collect();
    let initializers = [
        floats("k", &[1, 1, 3, 3], &kernel),
        tensor_head(FLOAT, &[1]).bytes(4, &0.5_f32.to_le_bytes()).text(8, "b"),
        floats("w", &[4], &[1.0, -1.0, 0.0, 2.5]),
        shape,
        bytes,
        halves,
        nibbles,
        words,
    ];
    let batch = Message::new().text(2, "batch").text(3, "DATA_BATCH");
    let sized = |size| Message::new().int(1, size);
    let dims = Message::new().subs(1, &[batch, sized(1), sized(2), sized(2)]);
    let input = Message::new()
        .text(1, "x")
        .sub(2, &Message::new().sub(1, &Message::new().int(1, FLOAT).sub(2, &dims)))
        .text(3, "the image");
    let pair = |key: &str, value: &str| Message::new().text(1, key).text(2, value);
    let annotation = Message::new().text(1, "w").sub(2, &pair("SCALE_TENSOR", "b"));
    let body = graph(&nodes, &initializers, &[input], &[value_info("y", FLOAT, &[1, 4])])
        .sub(13, &value_info("c", FLOAT, &[-1, 1, 2, 2]))
        .sub(13, &value_info("gone", FLOAT, &[7]))
        .sub(14, &annotation)
        .sub(15, &sparse)
        .sub(16, &pair("made by", "hand"));
    let function = Message::new()
        .text(1, "Twice")
        .text(4, "a")
        .text(5, "b")
        .sub(7, &node("", "Add", &["a", "a"], &["b"]))
        .sub(9, &Message::new().text(1, "").int(2, 17))
        .text(10, "org.example");
    Message::new()
        .int(1, 10)
        .text(2, "tiny")
        .text(3, "")
        .int(5, 3)
        .text(6, "a model")
        .sub(7, &body)
        .sub(8, &Message::new().text(1, "").int(2, 17))
        .sub(8, &Message::new().text(1, "org.example").int(2, 1))
        .sub(14, &pair("key", "value"))
        .sub(25, &function)
        .0
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The fixtures, and the larger models of `KERF_MODELS` or the folder beside the checkout.
pub(crate) fn models() -> Vec<PathBuf> {
    let shared = std::env::var_os("KERF_MODELS")
        .map_or_else(|| root().join("../shared/models"), PathBuf::from);
    let mut found = Vec::new();
    models_in(&root().join("fixtures/models"), &mut found);
    models_in(&shared, &mut found);
    found
}

fn models_in(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            models_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "onnx") {
            found.push(path);
        }
    }
}
