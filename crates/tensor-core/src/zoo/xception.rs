//! Xception (Chollet, "Xception: deep learning with depthwise separable convolutions", 2017).

use super::builder::{Builder, Maps, square};
use super::{Architecture, Settings};
use crate::Result;

pub(super) const ARCHITECTURES: &[Architecture] = &[Architecture {
    name: "xception",
    summary: "Separable convolutions with residuals (Chollet 2017)",
    input: [3, 299, 299],
    classes: 1000,
    has_width: true,
    has_hidden: false,
    has_dropout: true,
    build,
}];

const EPSILON: f32 = 1e-3;

fn build(b: &mut Builder, settings: &Settings) -> Result<()> {
    let image = b.image();
    let mut x = b.conv("conv1", image, settings.scaled(32), square(3, 2, 0))?;
    x = norm_relu(b, "conv1", x)?;
    x = b.conv("conv2", x, settings.scaled(64), square(3, 1, 0))?;
    x = norm_relu(b, "conv2", x)?;
    // Entry flow; the input of the first block is rectified already.
    for (number, channels) in [(1, 128), (2, 256), (3, 728)] {
        let widths = [settings.scaled(channels); 2];
        x = shrinking(b, &format!("block{number}"), x, widths, number > 1)?;
    }
    for number in 4..12 {
        x = middle(b, &format!("block{number}"), x)?;
    }
    // Exit flow.
    let widths = [settings.scaled(728), settings.scaled(1024)];
    x = shrinking(b, "block12", x, widths, true)?;
    for (name, channels) in [("conv3", 1536), ("conv4", 2048)] {
        x = separable(b, name, x, settings.scaled(channels))?;
        x = b.relu(&format!("{name}.relu"), x);
    }
    let x = b.global_average("avgpool", x);
    let x = b.dropout("dropout", x, settings.dropout)?;
    b.logits("fc", x, settings.classes)
}

/// Two separable convolutions and a pooling, beside a strided 1x1 convolution.
fn shrinking(
    b: &mut Builder,
    name: &str,
    x: Maps,
    widths: [usize; 2],
    starts_rectified: bool,
) -> Result<Maps> {
    let mut y = x;
    for (i, channels) in widths.into_iter().enumerate() {
        if i > 0 || starts_rectified {
            y = b.relu(&format!("{name}.relu{}", i + 1), y);
        }
        y = separable(b, &format!("{name}.sep{}", i + 1), y, channels)?;
    }
    y = b.max_pool(&format!("{name}.pool"), y, square(3, 2, 1))?;
    let skip = b.conv(&format!("{name}.skip"), x, y.channels, square(1, 2, 0))?;
    let skip = b.norm(&format!("{name}.skip.bn"), skip, EPSILON)?;
    Ok(b.add(name, y, skip))
}

/// Three separable convolutions with a plain shortcut.
fn middle(b: &mut Builder, name: &str, x: Maps) -> Result<Maps> {
    let mut y = x;
    for i in 1..=3 {
        y = b.relu(&format!("{name}.relu{i}"), y);
        y = separable(b, &format!("{name}.sep{i}"), y, x.channels)?;
    }
    Ok(b.add(name, y, x))
}

/// Depthwise and 1x1 convolution with one BatchNorm after both.
fn separable(b: &mut Builder, name: &str, x: Maps, channels: usize) -> Result<Maps> {
    let y = b.depthwise(&format!("{name}.dw"), x, square(3, 1, 1))?;
    let y = b.conv(&format!("{name}.pw"), y, channels, square(1, 1, 0))?;
    b.norm(&format!("{name}.bn"), y, EPSILON)
}

fn norm_relu(b: &mut Builder, name: &str, x: Maps) -> Result<Maps> {
    let x = b.norm(&format!("{name}.bn"), x, EPSILON)?;
    Ok(b.relu(&format!("{name}.relu"), x))
}
