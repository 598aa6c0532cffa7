//! What integration tests cannot see: byte identity with `prost` itself, and writing under limits
//! and failures.

#[path = "../../tests/onnx_common/mod.rs"]
mod onnx_common;

use super::proto::ModelProto;
use super::{decode, encode, read, write};
use crate::graph::{Constant, Encoding, Graph, Node};
use onnx_common::models;
use prost::Message;
use std::path::Path;

#[test]
fn untouched_models_keep_their_bytes() {
    let models = models();
    assert!(models.len() >= 4, "the fixtures are always there");
    let (mut same, mut too_old) = (0, 0);
    let mut failures = Vec::new();
    for path in &models {
        let bytes = std::fs::read(path).expect("readable");
        let proto = ModelProto::decode(bytes.as_slice()).expect("a model");
        let opset = proto.opset_import.iter().find(|one| one.domain().is_empty());
        match decode(&bytes, path.parent()).and_then(|graph| encode(&graph)) {
            Ok(again) if again == proto.encode_to_vec() => same += 1,
            Ok(_) => failures.push(format!("{}: other bytes", path.display())),
            Err(error) if error.code() == "E0103" && opset.is_some_and(|o| o.version() < 9) => {
                too_old += 1;
            }
            Err(error) => failures.push(format!("{}: {error}", path.display())),
        }
    }
    assert!(
        failures.is_empty(),
        "{same} the same, {too_old} too old, {} not:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Names of the files in a folder.
fn listing(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("readable");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// `y = x + w + v`, where `v` shares the bytes of `w`, and a small `s`.
fn sums() -> Graph {
    let mut graph =
        Graph { ir_version: 10, opsets: [(String::new(), 17)].into(), ..Graph::default() };
    let [x, w, v, s, a, b, y] = ["x", "w", "v", "s", "a", "b", "y"].map(|name| graph.value(name));
    let values: Vec<f32> = (0..1000).map(|i| i as f32).collect();
    let large = Constant::from_f32s(&[1000], &values).expect("matches");
    graph.set_initializer(w, large.clone());
    graph.set_initializer(v, large);
    graph.set_initializer(s, Constant::from_f32s(&[1], &[0.5]).expect("matches"));
    graph.nodes.push(Node::new("first", "Add", &[x, w], &[a]));
    graph.nodes.push(Node::new("second", "Add", &[a, v], &[b]));
    graph.nodes.push(Node::new("third", "Add", &[b, s], &[y]));
    graph.inputs.push(x);
    graph.outputs.push(y);
    graph
}

#[test]
fn a_model_above_the_limit_gets_a_data_file() {
    let folder = tempfile::tempdir().expect("writable");
    let path = folder.path().join("model.onnx");
    let graph = sums();
    write::write(&graph, &path, 2000).expect("fits without its weights");
    assert_eq!(listing(folder.path()), ["model.onnx", "model.onnx.data"]);
    let data = folder.path().join("model.onnx.data");
    assert_eq!(data.metadata().expect("there").len(), 4000, "shared bytes are stored once");

    let again = read(&path).expect("readable");
    for name in ["w", "v", "s"] {
        let constant = |graph: &Graph| -> Constant {
            let value = graph.find(name).expect("there");
            graph.initializer(value).expect("constant").clone()
        };
        assert_eq!(constant(&again).bytes(), constant(&graph).bytes());
        let is_external = constant(&again).encoding == Encoding::External;
        assert_eq!(is_external, name != "s", "{name}: small ones stay in the model");
    }

    // What came from a data file goes back to one, under the new name, and is aligned.
    let copy = folder.path().join("copy.onnx");
    let mut again = again;
    let v = again.find("v").expect("there");
    let mut other = Constant::from_f32s(&[256], &[2.0; 256]).expect("matches");
    other.encoding = Encoding::External;
    again.set_initializer(v, other);
    let s = again.find("s").expect("there");
    let mut small = again.initializer(s).expect("constant").clone();
    small.encoding = Encoding::External;
    again.set_initializer(s, small);
    write(&again, &copy).expect("writable");
    let data = std::fs::read(folder.path().join("copy.onnx.data")).expect("there");
    assert_eq!(data.len(), 4096 + 1024);
    assert_eq!(data[4096..], 2.0_f32.to_le_bytes().repeat(256));
    assert_eq!(listing(folder.path()).len(), 4);
    read(&copy).expect("readable");
}

#[test]
fn the_weights_that_were_read_are_never_replaced() {
    let folder = tempfile::tempdir().expect("writable");
    let path = folder.path().join("model.onnx");
    write::write(&sums(), &path, 2000).expect("fits without its weights");
    let graph = read(&path).expect("readable");
    let data = folder.path().join("model.onnx.data");
    let before = std::fs::read(&data).expect("there");
    assert_eq!(write(&graph, &data).expect_err("these are weights").code(), "E0021");
    assert_eq!(std::fs::read(&data).expect("there"), before);
    // The model itself may be written anew, and any other file.
    write(&graph, &path).expect("writable");
    write(&graph, &folder.path().join("other.onnx")).expect("writable");

    // A model under another name, whose data file a new model would take.
    std::fs::rename(&path, folder.path().join("old.onnx")).expect("writable");
    let graph = read(&folder.path().join("old.onnx")).expect("readable");
    assert_eq!(write(&graph, &path).expect_err("its data are in use").code(), "E0021");
}

#[test]
fn a_model_that_cannot_fit_is_refused() {
    let folder = tempfile::tempdir().expect("writable");
    let error = write::write(&sums(), &folder.path().join("m.onnx"), 10).expect_err("too large");
    assert_eq!(error.code(), "E0104");
    assert!(listing(folder.path()).is_empty());
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().expect("writable");
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, "old").expect("writable");
    let failed = write::Temporary::create(&path, |file| {
        file.write_all(b"half of the")?;
        Err(std::io::ErrorKind::StorageFull.into())
    });
    let error = failed.err().expect("the disk is full");
    assert_eq!(error.code(), "E0003");
    assert!(error.to_string().contains("model.onnx"), "{error}");
    assert_eq!(std::fs::read(&path).expect("there"), b"old");
    assert_eq!(listing(folder.path()), ["model.onnx"]);
}

#[test]
fn an_unwritable_target_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("writable");
    let taken = folder.path().join("taken.onnx");
    std::fs::create_dir(&taken).expect("writable");
    let absent = folder.path().join("absent/model.onnx");
    for path in [taken, absent] {
        assert_eq!(write(&sums(), &path).expect_err("not a file").code(), "E0003");
    }
    assert_eq!(listing(folder.path()), ["taken.onnx"]);
}
