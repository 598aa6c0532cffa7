//! Inception-V3 (Szegedy et al., "Rethinking the Inception architecture for computer vision", 2016),
//! layer by layer as in torchvision, without the auxiliary classifier.

use super::builder::{Builder, Maps, Window, oblong, square};
use super::{Architecture, Settings};
use crate::Result;

pub(super) const ARCHITECTURES: &[Architecture] = &[Architecture {
    name: "inception-v3",
    summary: "Parallel branches of factorized convolutions (Szegedy et al. 2016)",
    input: [3, 299, 299],
    classes: 1000,
    has_width: true,
    has_hidden: false,
    has_dropout: true,
    build,
}];

const POINT: Window = square(1, 1, 0);
const SHRINK: Window = square(3, 2, 0);

fn build(b: &mut Builder, settings: &Settings) -> Result<()> {
    let image = b.image();
    let mut net = Net { b, settings };
    let mut x = net.chain(
        image,
        &[
            ("Conv2d_1a", 32, SHRINK),
            ("Conv2d_2a", 32, square(3, 1, 0)),
            ("Conv2d_2b", 64, square(3, 1, 1)),
        ],
    )?;
    x = net.b.max_pool("maxpool1", x, SHRINK)?;
    x = net.chain(x, &[("Conv2d_3b", 80, POINT), ("Conv2d_4a", 192, square(3, 1, 0))])?;
    x = net.b.max_pool("maxpool2", x, SHRINK)?;
    for (name, pooled) in [("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)] {
        x = net.a(name, x, pooled)?;
    }
    x = net.reduce_b("Mixed_6a", x)?;
    for (name, inner) in
        [("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)]
    {
        x = net.c(name, x, inner)?;
    }
    x = net.reduce_d("Mixed_7a", x)?;
    for name in ["Mixed_7b", "Mixed_7c"] {
        x = net.e(name, x)?;
    }
    let x = b.global_average("avgpool", x);
    let x = b.dropout("dropout", x, settings.dropout)?;
    b.logits("fc", x, settings.classes)
}

struct Net<'a> {
    b: &'a mut Builder,
    settings: &'a Settings,
}

impl Net<'_> {
    /// Convolutions with BatchNorm and rectifier, one after the other.
    fn chain(&mut self, mut x: Maps, layers: &[(&str, usize, Window)]) -> Result<Maps> {
        for (name, channels, window) in layers {
            x = self.b.conv(name, x, self.settings.scaled(*channels), *window)?;
            x = self.b.norm(&format!("{name}.bn"), x, 1e-3)?;
            x = self.b.relu(&format!("{name}.relu"), x);
        }
        Ok(x)
    }

    /// A [`chain`](Self::chain) within a block, whose layers are numbered.
    fn branch(
        &mut self,
        block: &str,
        branch: &str,
        x: Maps,
        layers: &[(usize, Window)],
    ) -> Result<Maps> {
        let names: Vec<_> =
            (1..=layers.len()).map(|number| format!("{block}.{branch}_{number}")).collect();
        let layers: Vec<_> = names
            .iter()
            .zip(layers)
            .map(|(name, (channels, window))| (name.as_str(), *channels, *window))
            .collect();
        self.chain(x, &layers)
    }

    /// Average over 3x3, then a 1x1 convolution.
    fn pooled(&mut self, block: &str, x: Maps, channels: usize) -> Result<Maps> {
        let pooled = self.b.average_pool(&format!("{block}.avgpool"), x, square(3, 1, 1))?;
        self.branch(block, "branch_pool", pooled, &[(channels, POINT)])
    }

    fn a(&mut self, name: &str, x: Maps, pooled: usize) -> Result<Maps> {
        let (three, five) = (square(3, 1, 1), square(5, 1, 2));
        let parts = [
            self.branch(name, "branch1x1", x, &[(64, POINT)])?,
            self.branch(name, "branch5x5", x, &[(48, POINT), (64, five)])?,
            self.branch(name, "branch3x3dbl", x, &[(64, POINT), (96, three), (96, three)])?,
            self.pooled(name, x, pooled)?,
        ];
        self.b.concat(name, &parts)
    }

    fn reduce_b(&mut self, name: &str, x: Maps) -> Result<Maps> {
        let double = [(64, POINT), (96, square(3, 1, 1)), (96, SHRINK)];
        let parts = [
            self.branch(name, "branch3x3", x, &[(384, SHRINK)])?,
            self.branch(name, "branch3x3dbl", x, &double)?,
            self.b.max_pool(&format!("{name}.maxpool"), x, SHRINK)?,
        ];
        self.b.concat(name, &parts)
    }

    fn c(&mut self, name: &str, x: Maps, inner: usize) -> Result<Maps> {
        let (wide, tall) = (oblong(1, 7), oblong(7, 1));
        let single = [(inner, POINT), (inner, wide), (192, tall)];
        let double = [(inner, POINT), (inner, tall), (inner, wide), (inner, tall), (192, wide)];
        let parts = [
            self.branch(name, "branch1x1", x, &[(192, POINT)])?,
            self.branch(name, "branch7x7", x, &single)?,
            self.branch(name, "branch7x7dbl", x, &double)?,
            self.pooled(name, x, 192)?,
        ];
        self.b.concat(name, &parts)
    }

    fn reduce_d(&mut self, name: &str, x: Maps) -> Result<Maps> {
        let seven = [(192, POINT), (192, oblong(1, 7)), (192, oblong(7, 1)), (192, SHRINK)];
        let parts = [
            self.branch(name, "branch3x3", x, &[(192, POINT), (320, SHRINK)])?,
            self.branch(name, "branch7x7x3", x, &seven)?,
            self.b.max_pool(&format!("{name}.maxpool"), x, SHRINK)?,
        ];
        self.b.concat(name, &parts)
    }

    fn e(&mut self, name: &str, x: Maps) -> Result<Maps> {
        let three = self.branch(name, "branch3x3", x, &[(384, POINT)])?;
        let layers = [(448, POINT), (384, square(3, 1, 1))];
        let double = self.branch(name, "branch3x3dbl", x, &layers)?;
        let parts = [
            self.branch(name, "branch1x1", x, &[(320, POINT)])?,
            self.split(name, "branch3x3", three)?,
            self.split(name, "branch3x3dbl", double)?,
            self.pooled(name, x, 192)?,
        ];
        self.b.concat(name, &parts)
    }

    /// A 1x3 and a 3x1 convolution side by side.
    fn split(&mut self, block: &str, branch: &str, x: Maps) -> Result<Maps> {
        let parts = [
            self.branch(block, &format!("{branch}_wide"), x, &[(384, oblong(1, 3))])?,
            self.branch(block, &format!("{branch}_tall"), x, &[(384, oblong(3, 1))])?,
        ];
        self.b.concat(&format!("{block}.{branch}"), &parts)
    }
}
