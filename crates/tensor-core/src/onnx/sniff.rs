//! What a file that is not ONNX seems to be.

/// A hint for well-known kinds of files, from their first bytes.
pub(super) fn hint(bytes: &[u8]) -> &'static str {
    match bytes {
        [b'P', b'K', 3, 4, ..] => {
            "this is a zip archive, such as a PyTorch checkpoint or a Keras model; export to ONNX first"
        }
        [0x1f, 0x8b, ..] => "this is gzip data; unpack it first",
        [0x80, 2..=5, ..] => "this is a Python pickle; export the model to ONNX first",
        [0x89, b'H', b'D', b'F', ..] => {
            "this is an HDF5 file, such as a Keras model; export to ONNX first"
        }
        [b'G', b'G', b'U', b'F', ..] => "this is a GGUF file, not ONNX",
        [_, _, _, _, b'T', b'F', b'L', b'3', ..] => {
            "this is a TensorFlow Lite model; convert it to ONNX first"
        }
        [_, _, _, _, b'O', b'R', b'T', b'M', ..] => {
            "this is ONNX Runtime's own .ort format; use the .onnx file it was made from"
        }
        [_, _, _, _, _, _, _, _, b'{', b'"', ..] => {
            "this is a safetensors file, which holds weights without a graph"
        }
        _ if bytes.starts_with(b"version https://git-lfs") => {
            "this is a Git LFS pointer, not the model; fetch the model with `git lfs pull`"
        }
        _ if is_text(bytes) => "this is a text file; ONNX models are binary",
        _ => "the file is damaged, was cut off, or is not an ONNX model",
    }
}

fn is_text(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(512)];
    head.iter().all(|&byte| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..))
}
