//! Channel counts that the runtime's convolution kernels like.

use tensor_core::Graph;

/// Channels in a block of ONNX Runtime's CPU convolution: 16 with AVX-512, else 8. Counts that are
/// no multiple of it are padded or take a slower path.
pub(crate) fn multiple() -> usize {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx512f") {
        return 16;
    }
    8
}

/// Convolutions whose output channels are no multiple of a number above them.
pub(crate) fn misaligned(graph: &Graph, multiple: usize) -> usize {
    let is_misaligned = |node: &&tensor_core::Node| {
        let channels = node
            .input(1)
            .and_then(|weight| graph.initializer(weight))
            .and_then(|weight| weight.dims().first().copied());
        node.op == "Conv" && channels.is_some_and(|n| n > multiple && n % multiple != 0)
    };
    graph.nodes.iter().filter(is_misaligned).count()
}
