//! MobileNet-V2 (Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", 2018).

use super::builder::{Builder, Maps, Window, square};
use super::{Architecture, Settings};
use crate::Result;

pub(super) const ARCHITECTURES: &[Architecture] = &[Architecture {
    name: "mobilenet-v2",
    summary: "Inverted residuals with linear bottlenecks, with width multiplier (Sandler et al. 2018)",
    input: [3, 224, 224],
    classes: 1000,
    has_width: true,
    has_hidden: false,
    has_dropout: true,
    build,
}];

/// Expansion, channels, blocks, first stride (table 2 of the paper).
const STAGES: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

const POINT: Window = square(1, 1, 0);

fn build(b: &mut Builder, settings: &Settings) -> Result<()> {
    let image = b.image();
    let mut x = b.conv("features.0", image, settings.scaled_by_eights(32), square(3, 2, 1))?;
    x = norm_relu6(b, "features.0", x)?;
    let mut number = 1;
    for (expansion, channels, blocks, first_stride) in STAGES {
        for block in 0..blocks {
            let stride = if block == 0 { first_stride } else { 1 };
            let channels = settings.scaled_by_eights(channels);
            let name = format!("features.{number}");
            x = inverted_residual(b, &name, x, expansion, channels, stride)?;
            number += 1;
        }
    }
    // The last layer does not get narrower than published.
    let last = settings.scaled_by_eights(1280).max(1280);
    let name = format!("features.{number}");
    x = b.conv(&name, x, last, POINT)?;
    x = norm_relu6(b, &name, x)?;
    let x = b.global_average("avgpool", x);
    let x = b.dropout("dropout", x, settings.dropout)?;
    b.logits("classifier", x, settings.classes)
}

fn inverted_residual(
    b: &mut Builder,
    name: &str,
    x: Maps,
    expansion: usize,
    channels: usize,
    stride: usize,
) -> Result<Maps> {
    let mut y = x;
    if expansion != 1 {
        let expand = format!("{name}.expand");
        y = b.conv(&expand, y, x.channels * expansion, POINT)?;
        y = norm_relu6(b, &expand, y)?;
    }
    let depthwise = format!("{name}.dw");
    y = b.depthwise(&depthwise, y, square(3, stride, 1))?;
    y = norm_relu6(b, &depthwise, y)?;
    let project = format!("{name}.project");
    y = b.conv(&project, y, channels, POINT)?;
    y = b.norm(&format!("{project}.bn"), y, 1e-5)?;
    let is_residual = stride == 1 && x.channels == channels;
    Ok(if is_residual { b.add(&format!("{name}.add"), x, y) } else { y })
}

fn norm_relu6(b: &mut Builder, name: &str, x: Maps) -> Result<Maps> {
    let x = b.norm(&format!("{name}.bn"), x, 1e-5)?;
    b.relu6(&format!("{name}.relu6"), x)
}
