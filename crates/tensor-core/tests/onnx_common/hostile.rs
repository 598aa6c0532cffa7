//! The hostile files: what each one is, how it is made, and what reading it must say.

use super::*;

/// What reading a file must give.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Expected {
    /// An error of this code whose text mentions this.
    Error(&'static str, &'static str),
    /// A graph in which this value is not finite.
    NonFinite(&'static str),
}
use Expected::{Error, NonFinite};

/// Name, expectation and content of every file.
pub(crate) fn files() -> Vec<(&'static str, Expected, Vec<u8>)> {
    [not_models(), structures(), tensors(), versions(), data_files()].concat()
}

type File = (&'static str, Expected, Vec<u8>);

fn relu() -> Vec<u8> {
    with_nodes(&[node("relu", "Relu", &["x"], &["y"])])
}

fn with_nodes(nodes: &[Message]) -> Vec<u8> {
    let (x, y) = ends();
    model(&graph(nodes, &[], &x, &y))
}

fn with_initializers(initializers: &[Message]) -> Vec<u8> {
    let (x, y) = ends();
    model(&graph(&[node("add", "Add", &["x", "w"], &["y"])], initializers, &x, &y))
}

fn not_models() -> Vec<File> {
    let whole = relu();
    let mut flipped = relu();
    // The key of the graph field becomes one of an unused wire type.
    flipped[2] ^= 4;
    let mut long = whole.clone();
    long[3] = 0xff;
    let mut nested = graph(&[node("", "Relu", &["x"], &["y"])], &[], &[], &[]);
    for _ in 0..40 {
        let outer = node("", "If", &["x"], &["y"]).sub(5, &graph_attribute("then_branch", &nested));
        nested = graph(&[outer], &[], &[], &[]);
    }
    vec![
        ("empty", Error("E0100", "the file is empty"), Vec::new()),
        ("text", Error("E0100", "not a readable ONNX file"), b"name: \"model\"\n".to_vec()),
        (
            "zip",
            Error("E0100", "not a readable ONNX file"),
            b"PK\x03\x04\x14\0\0\0\0\0archive".to_vec(),
        ),
        ("truncated", Error("E0100", "bytes are announced"), whole[..whole.len() / 2].to_vec()),
        ("bit_flipped", Error("E0100", "wire type"), flipped),
        ("length_lie", Error("E0100", "bytes are announced"), long),
        ("deep_nesting", Error("E0100", "nest deeper than"), model(&nested)),
        ("no_graph", Error("E0100", "holds no graph"), Message::new().int(1, 10).0),
        ("not_utf8", Error("E0100", "UTF-8"), Message::new().int(1, 10).bytes(2, &[0xff]).0),
    ]
}

fn structures() -> Vec<File> {
    let (x, y) = ends();
    let relu = |name: &str, from: &str, to: &str| node(name, "Relu", &[from], &[to]);
    let twice = Message::new().text(1, "alpha").float(2, 0.5).int(20, 1);
    let branch = graph(&[relu("", "absent", "z")], &[], &[], &[value_info("z", FLOAT, &[2])]);
    let two_inputs = [x[0].clone(), x[0].clone()];
    vec![
        (
            "cyclic",
            Error("E0102", "2 nodes form a cycle: `a` (Add) -> `b` (Relu) -> `a` (Add)"),
            with_nodes(&[
                node("a", "Add", &["x", "q"], &["p"]),
                relu("b", "p", "q"),
                relu("c", "q", "y"),
            ]),
        ),
        (
            "self_loop",
            Error("E0102", "in node `a` (Add): reads its own result"),
            with_nodes(&[node("a", "Add", &["x", "y"], &["y"])]),
        ),
        (
            "missing_producer",
            Error("E0102", "in node `a` (Relu): reads `absent`"),
            with_nodes(&[relu("a", "absent", "y")]),
        ),
        ("missing_output", Error("E0102", "graph output `y`"), with_nodes(&[relu("a", "x", "z")])),
        (
            "missing_capture",
            Error("E0102", "reads `absent`"),
            with_nodes(&[
                node("a", "If", &["x"], &["y"]).sub(5, &graph_attribute("then_branch", &branch))
            ]),
        ),
        (
            "two_producers",
            Error("E0102", "in node `b` (Relu): writes `y`"),
            with_nodes(&[relu("a", "x", "y"), relu("b", "x", "y")]),
        ),
        (
            "writes_input",
            Error("E0102", "in node `a` (Relu): writes `x`"),
            with_nodes(&[relu("a", "x", "x"), relu("b", "x", "y")]),
        ),
        (
            "duplicate_attribute",
            Error("E0102", "in node `a` (LeakyRelu): attribute `alpha` is given twice"),
            with_nodes(&[node("a", "LeakyRelu", &["x"], &["y"]).sub(5, &twice).sub(5, &twice)]),
        ),
        (
            "unnamed_attribute",
            Error("E0102", "in node `a` (LeakyRelu): an attribute has no name"),
            with_nodes(&[node_with(
                "a",
                "LeakyRelu",
                &["x"],
                &["y"],
                &Message::new().float(2, 0.5),
            )]),
        ),
        (
            "no_operator",
            Error("E0102", "has no operator"),
            with_nodes(&[node("a", "", &["x"], &["y"])]),
        ),
        (
            "duplicate_input",
            Error("E0102", "graph input `x` is given twice"),
            model(&graph(&[relu("a", "x", "y")], &[], &two_inputs, &y)),
        ),
        (
            "duplicate_initializer",
            Error("E0102", "initializer `w` is given twice"),
            with_initializers(&[floats("w", &[2], &[1.0, 2.0]), floats("w", &[2], &[3.0, 4.0])]),
        ),
        (
            "unnamed_initializer",
            Error("E0102", "an initializer has no name"),
            with_initializers(&[floats("", &[1], &[1.0])]),
        ),
    ]
}

fn tensors() -> Vec<File> {
    let w = |element: i64, dims: &[i64]| tensor_head(element, dims).text(8, "w");
    let one = |tensor: Message| with_initializers(&[tensor]);
    let large = 1 << 40;
    let constant = tensor_attribute("value", &tensor_head(FLOAT, &[2]).bytes(9, &[0; 4]));
    vec![
        (
            "shape_negative",
            Error("E0101", "initializer `w` has dimension -2"),
            one(w(FLOAT, &[-2]).bytes(9, &[0; 8])),
        ),
        (
            "shape_overflow",
            Error("E0101", "no memory can hold"),
            one(w(FLOAT, &[large, large]).bytes(9, &[0; 4])),
        ),
        (
            "shape_overflow_beside_zero",
            Error("E0101", "no memory can hold"),
            one(w(FLOAT, &[0, large, large])),
        ),
        (
            "shape_huge",
            Error("E0101", "but 4 bytes of data"),
            one(w(FLOAT, &[large]).bytes(9, &[0; 4])),
        ),
        (
            "shape_huge_typed",
            Error("E0101", "but 1 values of data"),
            one(w(FLOAT, &[large]).bytes(4, &[0; 4])),
        ),
        (
            "shape_mismatch",
            Error("E0101", "initializer `w` has shape [3] and type F32, but 8 bytes"),
            one(floats("w", &[3], &[1.0, 2.0])),
        ),
        (
            "shape_mismatch_in_constant",
            Error("E0101", "in node `c` (Constant): attribute `value` has shape [2]"),
            with_nodes(&[node_with("c", "Constant", &[], &["y"], &constant)]),
        ),
        ("no_data", Error("E0101", "but 0 values of data"), one(w(FLOAT, &[2]))),
        (
            "raw_and_typed",
            Error("E0101", "both raw and typed data"),
            one(w(FLOAT, &[1]).bytes(4, &[0; 4]).bytes(9, &[0; 4])),
        ),
        (
            "wrong_field",
            Error("E0101", "a field that is not for type F32"),
            one(w(FLOAT, &[1]).packed(7, &[1])),
        ),
        (
            "out_of_range",
            Error("E0101", "out of the range of type U8"),
            one(w(UINT8, &[1]).packed(5, &[256])),
        ),
        ("raw_strings", Error("E0101", "strings as raw data"), one(w(8, &[1]).bytes(9, b"a"))),
        ("short_nibbles", Error("E0101", "but 1 bytes of data"), one(w(22, &[3]).bytes(9, &[0]))),
        ("unknown_type", Error("E0101", "element type 99"), one(w(99, &[1]).bytes(9, &[0]))),
        (
            "segment",
            Error("E0101", "stored in segments"),
            one(w(FLOAT, &[1]).sub(3, &Message::new().int(1, 0)).bytes(9, &[0; 4])),
        ),
        ("nan_weights", NonFinite("w"), one(floats("w", &[2], &[1.0, f32::NAN]))),
        ("infinite_weights", NonFinite("w"), one(floats("w", &[2], &[f32::NEG_INFINITY, 0.0]))),
    ]
}

fn versions() -> Vec<File> {
    let (x, y) = ends();
    let body = graph(&[node("relu", "Relu", &["x"], &["y"])], &[], &x, &y);
    let opset = |version| Message::new().text(1, "").int(2, version);
    let two = model_of(10, 17, &body).sub(8, &opset(18)).0;
    vec![
        ("opset_8", Error("E0103", "opset 8 is too old"), model_of(10, 8, &body).0),
        (
            "no_opset",
            Error("E0103", "does not say which operator set"),
            Message::new().int(1, 10).sub(7, &body).0,
        ),
        ("two_opsets", Error("E0102", "the version of operator set"), two),
        ("ir_99", Error("E0103", "IR version 99 is not known"), model_of(99, 17, &body).0),
        (
            "no_ir",
            Error("E0103", "IR version 0 is not known"),
            Message::new().sub(7, &body).sub(8, &opset(17)).0,
        ),
    ]
}

/// The files name `weights.bin` beside them, which has eight bytes.
fn data_files() -> Vec<File> {
    let one = |location: &str, offset: &str, length: &str| {
        with_initializers(&[external("w", &[2], location, offset, length)])
    };
    let hidden = external("h", &[2], "../hostile/weights.bin", "0", "8");
    let branch = graph(
        &[node("", "Add", &["x", "h"], &["z"])],
        &[hidden],
        &[],
        &[value_info("z", FLOAT, &[2])],
    );
    let inside = node("a", "If", &["x"], &["y"]).sub(5, &graph_attribute("then_branch", &branch));
    let overlapping = [
        external("w", &[2], "weights.bin", "0", "8"),
        external("v", &[1], "weights.bin", "4", "4"),
    ];
    let nowhere = tensor_head(FLOAT, &[2]).text(8, "w").int(14, 1);
    vec![
        (
            "external_traversal",
            Error("E0104", "outside the model's folder"),
            one("../hostile/weights.bin", "0", "8"),
        ),
        (
            "external_absolute",
            Error("E0104", "outside the model's folder"),
            one("/dev/zero", "0", "8"),
        ),
        ("external_folder", Error("E0104", "not a regular file"), one(".", "0", "8")),
        (
            "external_in_sub_graph",
            Error("E0104", "nested tensor `h` has its data in"),
            with_nodes(&[inside]),
        ),
        ("external_missing", Error("E0104", "`absent.bin`"), one("absent.bin", "0", "8")),
        ("external_past_end", Error("E0104", "is at bytes 4 to 12"), one("weights.bin", "4", "8")),
        (
            "external_offset_overflow",
            Error("E0104", "which has 8"),
            one("weights.bin", "18446744073709551615", "8"),
        ),
        ("external_bad_offset", Error("E0104", "offset `-1`"), one("weights.bin", "-1", "8")),
        (
            "external_length_lie",
            Error("E0104", "needs 8 bytes, its external data has 4"),
            one("weights.bin", "0", "4"),
        ),
        (
            "external_overlap",
            Error("E0104", "overlaps other tensors"),
            with_initializers(&overlapping),
        ),
        ("external_nowhere", Error("E0104", "without a location"), with_initializers(&[nowhere])),
    ]
}
