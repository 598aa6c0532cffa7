//! Layers and patterns of zeros.

use tensor_core::kernels::SparseForm;
use tensor_core::random;

/// A convolution of one image without stride.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) side: usize,
    /// Width and height of the kernel.
    pub(super) kernel: usize,
}

impl Shape {
    /// Terms of one output.
    pub(super) fn depth(&self) -> usize {
        self.inputs * self.kernel * self.kernel
    }
}

const fn point(name: &'static str, inputs: usize, outputs: usize, side: usize) -> Shape {
    Shape { name, inputs, outputs, side, kernel: 1 }
}

const fn square(name: &'static str, channels: usize, side: usize) -> Shape {
    Shape { name, inputs: channels, outputs: channels, side, kernel: 3 }
}

/// The pointwise layers of MobileNet-V1, 1x1 convolutions with the channels and sizes of VGG-16's
/// stages, and convolutions of 3x3, where the dense kernel needs fewer products than weights.
pub(super) const SHAPES: [Shape; 14] = [
    point("mobilenet pw2", 64, 128, 56),
    point("mobilenet pw4", 128, 256, 28),
    point("mobilenet pw5", 256, 256, 28),
    point("mobilenet pw7", 512, 512, 14),
    point("mobilenet pw12", 512, 1024, 7),
    point("mobilenet pw13", 1024, 1024, 7),
    point("vgg stage 1", 64, 64, 224),
    point("vgg stage 2", 128, 128, 112),
    point("vgg stage 3", 256, 256, 56),
    point("vgg stage 4", 512, 512, 28),
    point("vgg stage 5", 512, 512, 14),
    square("vgg 3x3 stage 3", 256, 56),
    square("vgg 3x3 stage 5", 512, 14),
    square("resnet20 3x3", 32, 14),
];

/// Zeros in blocks of `outputs x inputs` weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) name: &'static str,
    outputs: usize,
    inputs: usize,
    pub(super) form: SparseForm,
}

const fn pattern(name: &'static str, outputs: usize, inputs: usize, form: SparseForm) -> Pattern {
    Pattern { name, outputs, inputs, form }
}

pub(super) const PATTERNS: [Pattern; 4] = [
    pattern("unstructured", 1, 1, SparseForm::Single),
    pattern("block 1x4", 1, 4, SparseForm::Single),
    pattern("block 4x1", 4, 1, SparseForm::Quads),
    pattern("block 4x4", 4, 4, SparseForm::Quads),
];

impl Pattern {
    /// A weight of which exactly the share of blocks is zero, at random places.
    pub(super) fn weight(&self, shape: &Shape, sparsity: f64) -> Vec<f32> {
        let blocks = [shape.outputs / self.outputs, shape.depth() / self.inputs];
        let count = blocks[0] * blocks[1];
        let mut rng = random::stream(0, "crossover");
        let mut order: Vec<usize> = (0..count).collect();
        for i in (1..count).rev() {
            order.swap(i, random::below(&mut rng, i as u64 + 1) as usize);
        }
        let mut is_zero = vec![false; count];
        let zeros = (sparsity * count as f64).round() as usize;
        order.iter().take(zeros).for_each(|&block| is_zero[block] = true);
        let value = |i: usize| {
            let (row, column) = (i / shape.depth(), i % shape.depth());
            let block = row / self.outputs * blocks[1] + column / self.inputs;
            if is_zero[block] { 0.0 } else { 0.01 + (i * 7919 % 1000) as f32 / 1000.0 }
        };
        (0..shape.outputs * shape.depth()).map(value).collect()
    }
}
