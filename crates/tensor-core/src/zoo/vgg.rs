//! VGG (Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition",
//! 2015): stacks of 3x3 convolutions between poolings.

use super::builder::{Builder, Maps, square};
use super::{Architecture, Settings};
use crate::Result;

const SMALL: Architecture = Architecture {
    name: "vgg7",
    summary: "Seven 3x3 convolutions with BatchNorm, global pooling; for small images",
    input: [1, 28, 28],
    classes: 10,
    has_width: true,
    has_hidden: false,
    has_dropout: false,
    build: vgg7,
};

const LARGE: Architecture = Architecture {
    name: "vgg16",
    summary: "Configuration D with three dense layers, no BatchNorm (Simonyan and Zisserman 2015)",
    input: [3, 224, 224],
    classes: 1000,
    has_width: true,
    has_hidden: false,
    has_dropout: true,
    build: vgg16,
};

pub(super) const ARCHITECTURES: &[Architecture] = &[
    SMALL,
    LARGE,
    Architecture {
        name: "vgg16-bn",
        summary: "VGG-16 with BatchNorm after each convolution, which trains more easily",
        build: vgg16_bn,
        ..LARGE
    },
];

fn vgg7(b: &mut Builder, settings: &Settings) -> Result<()> {
    let stages: [&[usize]; 3] = [&[32, 32], &[64, 64], &[128, 128, 128]];
    let mut layers = Layers::new(b.image());
    for (i, stage) in stages.iter().enumerate() {
        if i > 0 {
            layers.pool(b)?;
        }
        for &channels in *stage {
            layers.conv(b, settings.scaled(channels), true)?;
        }
    }
    let x = b.global_average("pool", layers.x);
    b.logits("fc", x, settings.classes)
}

fn vgg16(b: &mut Builder, settings: &Settings) -> Result<()> {
    configuration_d(b, settings, false)
}

fn vgg16_bn(b: &mut Builder, settings: &Settings) -> Result<()> {
    configuration_d(b, settings, true)
}

fn configuration_d(b: &mut Builder, settings: &Settings, with_norm: bool) -> Result<()> {
    let mut layers = Layers::new(b.image());
    for (channels, depth) in [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)] {
        for _ in 0..depth {
            layers.conv(b, settings.scaled(channels), with_norm)?;
        }
        layers.pool(b)?;
    }
    let mut x = b.flatten("flatten", layers.x);
    // Numbered as in torchvision, where each rectifier and dropout has a number too.
    for number in [0, 3] {
        let name = format!("classifier.{number}");
        x = b.dense_relu(&name, x, settings.scaled(4096))?;
        x = b.dropout(&format!("{name}.dropout"), x, settings.dropout)?;
    }
    b.logits("classifier.6", x, settings.classes)
}

/// The convolutional part, numbered as in torchvision: `features.0`, `features.1`, ...
struct Layers {
    x: Maps,
    number: usize,
}

impl Layers {
    fn new(x: Maps) -> Self {
        Self { x, number: 0 }
    }

    fn name(&mut self) -> String {
        let name = format!("features.{}", self.number);
        self.number += 1;
        name
    }

    fn conv(&mut self, b: &mut Builder, channels: usize, with_norm: bool) -> Result<()> {
        let name = self.name();
        let window = square(3, 1, 1);
        if with_norm {
            self.x = b.conv(&name, self.x, channels, window)?;
            self.x = b.norm(&self.name(), self.x, 1e-5)?;
        } else {
            self.x = b.conv_bias(&name, self.x, channels, window)?;
        }
        self.x = b.relu(&self.name(), self.x);
        Ok(())
    }

    fn pool(&mut self, b: &mut Builder) -> Result<()> {
        self.x = b.max_pool(&self.name(), self.x, square(2, 2, 0))?;
        Ok(())
    }
}
