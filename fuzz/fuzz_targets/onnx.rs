//! Whatever the bytes, reading a model gives an error or a graph that can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tensor_core::onnx;

fuzz_target!(|bytes: &[u8]| {
    let Ok(graph) = onnx::decode(bytes, None) else { return };
    graph.non_finite();
    let written = onnx::encode(&graph).expect("what was read can be written");
    let again = onnx::decode(&written, None).expect("what was written can be read");
    assert_eq!(onnx::encode(&again).ok().as_ref(), Some(&written), "and is written alike");
});
