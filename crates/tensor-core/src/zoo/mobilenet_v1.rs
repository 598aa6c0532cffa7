//! MobileNet (Howard et al., "MobileNets: efficient convolutional neural networks for mobile vision
//! applications", 2017): depthwise and 1x1 convolutions in turn.

use super::builder::{Builder, Maps, Window, square};
use super::{Architecture, Settings};
use crate::Result;

pub(super) const ARCHITECTURES: &[Architecture] = &[Architecture {
    name: "mobilenet-v1",
    summary: "Depthwise and 1x1 convolutions in turn, with width multiplier (Howard et al. 2017)",
    input: [3, 224, 224],
    classes: 1000,
    has_width: true,
    has_hidden: false,
    has_dropout: true,
    build,
}];

/// Channels and stride of each pair.
const PAIRS: [(usize, usize); 13] = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
];

fn build(b: &mut Builder, settings: &Settings) -> Result<()> {
    let image = b.image();
    let mut x = b.conv("conv1", image, settings.scaled_by_eights(32), square(3, 2, 1))?;
    x = norm_relu(b, "conv1", x)?;
    for (i, (channels, stride)) in PAIRS.into_iter().enumerate() {
        let (depthwise, pointwise) = (format!("block{}.dw", i + 1), format!("block{}.pw", i + 1));
        x = b.depthwise(&depthwise, x, square(3, stride, 1))?;
        x = norm_relu(b, &depthwise, x)?;
        x = b.conv(&pointwise, x, settings.scaled_by_eights(channels), POINT)?;
        x = norm_relu(b, &pointwise, x)?;
    }
    let x = b.global_average("avgpool", x);
    let x = b.dropout("dropout", x, settings.dropout)?;
    b.logits("fc", x, settings.classes)
}

const POINT: Window = square(1, 1, 0);

fn norm_relu(b: &mut Builder, name: &str, x: Maps) -> Result<Maps> {
    let x = b.norm(&format!("{name}.bn"), x, 1e-5)?;
    Ok(b.relu(&format!("{name}.relu"), x))
}
