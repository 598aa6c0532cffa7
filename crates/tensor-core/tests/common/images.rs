//! Images that a small network tells apart within some steps.

use crate::common::Draws;
use tensor_core::Constant;
use tensor_core::data::{self, Dataset, InputSpec, Options};
use tensor_core::graph::Graph;

/// Images of 8 x 8 pixels, bright above, bright below, or grey in turn, with noise of this magnitude, and
/// the label of each by its number.
pub(crate) fn images(
    graph: &Graph,
    count: usize,
    (seed, noise): (u16, f32),
    label: impl Fn(usize) -> u32,
) -> Dataset {
    let mut values = Draws::new(vec![seed, 3, 1]).floats(count * 64, -noise, noise);
    for (i, image) in values.chunks_exact_mut(64).enumerate() {
        for (at, pixel) in image.iter_mut().enumerate() {
            *pixel += match (i % 3, at < 32) {
                (0, true) | (1, false) => 1.0,
                (2, _) => 0.5,
                _ => 0.0,
            };
        }
    }
    let tensor = Constant::from_f32s(&[count, 1, 8, 8], &values).unwrap();
    let options = Options { inputs: InputSpec::of(graph), ..Options::default() };
    let labels = (0..count).map(label).collect();
    data::from_memory(vec![("x0".to_owned(), tensor)], Some(labels), &options).unwrap()
}

/// The number of the image's kind.
pub(crate) fn kind(i: usize) -> u32 {
    (i % 3) as u32
}
