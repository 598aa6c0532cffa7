//! Multi-layer perceptrons.

use super::builder::Builder;
use super::{Architecture, Settings};
use crate::Result;

pub(super) const ARCHITECTURES: &[Architecture] = &[Architecture {
    name: "mlp",
    summary: "Two hidden layers of rectified units, as distilled by Hinton et al. 2015",
    input: [1, 28, 28],
    classes: 10,
    has_width: false,
    has_hidden: true,
    has_dropout: true,
    build,
}];

/// Dropout follows each hidden layer.
fn build(b: &mut Builder, settings: &Settings) -> Result<()> {
    let image = b.image();
    let mut x = b.flatten("flatten", image);
    for name in ["fc1", "fc2"] {
        x = b.dense_relu(name, x, settings.hidden)?;
        x = b.dropout(&format!("{name}.dropout"), x, settings.dropout)?;
    }
    b.logits("fc3", x, settings.classes)
}
