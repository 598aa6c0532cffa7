//! Residual networks (He et al., "Deep residual learning for image recognition", 2016).

use super::builder::{Builder, Maps, square};
use super::{Architecture, Settings};
use crate::Result;

const EPSILON: f32 = 1e-5;

const RESNET_20: Architecture = Architecture {
    name: "resnet20",
    summary: "Basic blocks of 16, 32 and 64 channels for small images (He et al. 2016)",
    input: [3, 32, 32],
    classes: 10,
    has_width: true,
    has_hidden: false,
    has_dropout: false,
    build: resnet20,
};

pub(super) const ARCHITECTURES: &[Architecture] = &[
    RESNET_20,
    Architecture {
        name: "resnet56",
        summary: "As resnet20, with nine blocks per stage in place of three",
        build: resnet56,
        ..RESNET_20
    },
    Architecture {
        name: "resnet50",
        summary: "Bottleneck blocks, the stride in the 3x3 convolution as in torchvision",
        input: [3, 224, 224],
        classes: 1000,
        build: resnet50,
        ..RESNET_20
    },
];

fn resnet20(b: &mut Builder, settings: &Settings) -> Result<()> {
    small(b, settings, 3)
}

fn resnet56(b: &mut Builder, settings: &Settings) -> Result<()> {
    small(b, settings, 9)
}

/// Three stages of basic blocks; a 1x1 convolution where shapes change (the paper's option B).
fn small(b: &mut Builder, settings: &Settings, blocks: usize) -> Result<()> {
    let image = b.image();
    let mut x = b.conv("conv1", image, settings.scaled(16), square(3, 1, 1))?;
    x = b.norm("bn1", x, EPSILON)?;
    x = b.relu("relu", x);
    for (stage, channels) in [16, 32, 64].into_iter().enumerate() {
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let name = format!("layer{}.{block}", stage + 1);
            x = basic(b, &name, x, settings.scaled(channels), stride)?;
        }
    }
    let x = b.global_average("avgpool", x);
    b.logits("fc", x, settings.classes)
}

fn basic(b: &mut Builder, name: &str, x: Maps, channels: usize, stride: usize) -> Result<Maps> {
    let mut y = b.conv(&format!("{name}.conv1"), x, channels, square(3, stride, 1))?;
    y = b.norm(&format!("{name}.bn1"), y, EPSILON)?;
    y = b.relu(&format!("{name}.relu1"), y);
    y = b.conv(&format!("{name}.conv2"), y, channels, square(3, 1, 1))?;
    y = b.norm(&format!("{name}.bn2"), y, EPSILON)?;
    join(b, name, x, y, stride)
}

fn resnet50(b: &mut Builder, settings: &Settings) -> Result<()> {
    let image = b.image();
    let mut x = b.conv("conv1", image, settings.scaled(64), square(7, 2, 3))?;
    x = b.norm("bn1", x, EPSILON)?;
    x = b.relu("relu", x);
    x = b.max_pool("maxpool", x, square(3, 2, 1))?;
    for (stage, (channels, blocks)) in
        [(64, 3), (128, 4), (256, 6), (512, 3)].into_iter().enumerate()
    {
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let name = format!("layer{}.{block}", stage + 1);
            x = bottleneck(b, &name, x, settings, channels, stride)?;
        }
    }
    let x = b.global_average("avgpool", x);
    b.logits("fc", x, settings.classes)
}

fn bottleneck(
    b: &mut Builder,
    name: &str,
    x: Maps,
    settings: &Settings,
    channels: usize,
    stride: usize,
) -> Result<Maps> {
    let (inner, outer) = (settings.scaled(channels), settings.scaled(4 * channels));
    let mut y = b.conv(&format!("{name}.conv1"), x, inner, square(1, 1, 0))?;
    y = b.norm(&format!("{name}.bn1"), y, EPSILON)?;
    y = b.relu(&format!("{name}.relu1"), y);
    y = b.conv(&format!("{name}.conv2"), y, inner, square(3, stride, 1))?;
    y = b.norm(&format!("{name}.bn2"), y, EPSILON)?;
    y = b.relu(&format!("{name}.relu2"), y);
    y = b.conv(&format!("{name}.conv3"), y, outer, square(1, 1, 0))?;
    y = b.norm(&format!("{name}.bn3"), y, EPSILON)?;
    join(b, name, x, y, stride)
}

/// Adds the block's input, through a 1x1 convolution where shapes differ, and rectifies.
fn join(b: &mut Builder, name: &str, x: Maps, y: Maps, stride: usize) -> Result<Maps> {
    let shortcut = if stride != 1 || x.channels != y.channels {
        let window = square(1, stride, 0);
        let projected = b.conv(&format!("{name}.downsample.0"), x, y.channels, window)?;
        b.norm(&format!("{name}.downsample.1"), projected, EPSILON)?
    } else {
        x
    };
    let sum = b.add(&format!("{name}.add"), y, shortcut);
    Ok(b.relu(name, sum))
}
