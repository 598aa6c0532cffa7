//! LeNet-5 as Caffe has it.

use super::builder::{Builder, square};
use super::{Architecture, Settings};
use crate::Result;

pub(super) const ARCHITECTURES: &[Architecture] = &[Architecture {
    name: "lenet",
    summary: "Two convolutions and two dense layers, Caffe's form of LeNet-5 (LeCun et al. 1998)",
    input: [1, 28, 28],
    classes: 10,
    has_width: true,
    has_hidden: false,
    has_dropout: true,
    build,
}];

fn build(b: &mut Builder, settings: &Settings) -> Result<()> {
    let mut x = b.image();
    for (number, channels) in [(1, 20), (2, 50)] {
        x = b.conv_bias(&format!("conv{number}"), x, settings.scaled(channels), square(5, 1, 0))?;
        x = b.relu(&format!("relu{number}"), x);
        x = b.max_pool(&format!("pool{number}"), x, square(2, 2, 0))?;
    }
    let x = b.flatten("flatten", x);
    let x = b.dense_relu("fc1", x, settings.scaled(500))?;
    let x = b.dropout("fc1.dropout", x, settings.dropout)?;
    b.logits("fc2", x, settings.classes)
}
