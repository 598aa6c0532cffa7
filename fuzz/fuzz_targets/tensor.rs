//! Whatever the bytes, reading a tensor file gives an error or a constant that can be written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tensor_core::onnx;

fuzz_target!(|bytes: &[u8]| {
    let Ok(constant) = onnx::tensor_from_bytes(bytes) else { return };
    onnx::tensor_to_bytes(&constant, None).expect("what was read can be written");
});
