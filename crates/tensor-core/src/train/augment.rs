//! Random changes of images: flip and shift, image by image from streams of their own.

use crate::data::Layout;
use crate::{Result, random};
use candle_core::Tensor;
use rand_chacha::rand_core::RngCore;
use rayon::prelude::*;
use serde::Serialize;

/// Which changes are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Augment {
    /// Mirror every other image left to right, by chance.
    pub flip: bool,
    /// Pad by this many pixels on all sides and crop at random to the old size; 0 for not at all.
    pub shift: usize,
}

/// How the images of a batch lie in memory.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Images {
    pub(crate) layout: Layout,
    /// The value of a black pixel by channel, which fills what is shifted in.
    pub(crate) black: Vec<f32>,
}

/// One image's change.
#[derive(Debug, Clone, Copy)]
struct Change {
    flip: bool,
    down: isize,
    right: isize,
}

impl Augment {
    /// Does it change anything?
    pub fn is_active(&self) -> bool {
        self.flip || self.shift > 0
    }

    /// Changes a batch of images, N x C x H x W or N x H x W x C, of which the first is the one at
    /// `first` in the order of this epoch.
    ///
    /// The result depends on seed, epoch and place only, not on the number of threads.
    pub(crate) fn apply(
        &self,
        batch: &Tensor,
        images: &Images,
        (seed, epoch, first): (u64, u64, usize),
    ) -> Result<Tensor> {
        let (samples, a, b, c) = batch.dims4()?;
        let [channels, height, width] = match images.layout {
            Layout::Nchw => [a, b, c],
            Layout::Nhwc => [c, a, b],
        };
        let mut values = batch.flatten_all()?.to_vec1::<f32>()?;
        let size = a * b * c;
        if size == 0 || samples == 0 {
            return Ok(batch.clone());
        }
        values.par_chunks_exact_mut(size).enumerate().for_each(|(i, image)| {
            let change = self.draw(seed, epoch, first + i);
            let old = image.to_vec();
            for channel in 0..channels {
                let at = |y: usize, x: usize| match images.layout {
                    Layout::Nchw => (channel * height + y) * width + x,
                    Layout::Nhwc => (y * width + x) * channels + channel,
                };
                let black = images.black.get(channel).copied().unwrap_or_default();
                for y in 0..height {
                    for x in 0..width {
                        let from = change.source((y, height), (x, width));
                        image[at(y, x)] = from.map_or(black, |(y, x)| old[at(y, x)]);
                    }
                }
            }
        });
        Ok(Tensor::from_vec(values, batch.dims(), batch.device())?)
    }

    fn draw(&self, seed: u64, epoch: u64, place: usize) -> Change {
        let mut rng = random::stream(seed, &format!("train/augment/{epoch}/{place}"));
        let flip = self.flip && rng.next_u64() & 1 == 1;
        let mut offset = || {
            let places = 2 * self.shift as u64 + 1;
            random::below(&mut rng, places) as isize - self.shift as isize
        };
        Change { flip, down: offset(), right: offset() }
    }
}

impl Change {
    /// Where a pixel comes from, unless it is from outside.
    fn source(
        self,
        (y, height): (usize, usize),
        (x, width): (usize, usize),
    ) -> Option<(usize, usize)> {
        let y = y.checked_add_signed(self.down).filter(|&y| y < height)?;
        let x = x.checked_add_signed(self.right).filter(|&x| x < width)?;
        Some((y, if self.flip { width - 1 - x } else { x }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn numbered(dims: &[usize]) -> Tensor {
        let count: usize = dims.iter().product();
        let values: Vec<f32> = (0..count).map(|i| i as f32 + 1.0).collect();
        Tensor::from_vec(values, dims, &Device::Cpu).expect("tensor")
    }

    #[test]
    fn a_change_moves_and_mirrors() {
        let change = Change { flip: true, down: 1, right: 0 };
        assert_eq!(change.source((0, 3), (0, 4)), Some((1, 3)));
        assert_eq!(change.source((2, 3), (0, 4)), None);
    }

    #[test]
    fn both_layouts_change_alike() {
        let augment = Augment { flip: true, shift: 2 };
        let first = numbered(&[16, 3, 5, 4]);
        let last = first.permute((0, 2, 3, 1)).and_then(|t| t.contiguous()).expect("permuted");
        let images = |layout| Images { layout, black: vec![-1.0, -2.0, -3.0] };
        let first = augment.apply(&first, &images(Layout::Nchw), (1, 2, 3)).expect("first");
        let last = augment.apply(&last, &images(Layout::Nhwc), (1, 2, 3)).expect("last");
        let last = last.permute((0, 3, 1, 2)).expect("permuted");
        let values = |t: &Tensor| t.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("values");
        assert_eq!(values(&first), values(&last));
        assert!(values(&first).contains(&-2.0), "nothing was shifted in");
    }

    /// Each image draws for itself: half of them are mirrored, every offset occurs.
    #[test]
    fn draws_are_spread_and_repeat() {
        let augment = Augment { flip: true, shift: 1 };
        let draws: Vec<Change> = (0..900).map(|place| augment.draw(7, 0, place)).collect();
        let flipped = draws.iter().filter(|change| change.flip).count();
        // Four standard deviations of 15 around 450, and of 10 around 100.
        assert!((390..=510).contains(&flipped), "{flipped}");
        for down in -1..=1 {
            for right in -1..=1 {
                let same = draws.iter().filter(|c| (c.down, c.right) == (down, right)).count();
                assert!((60..=140).contains(&same), "{same}");
            }
        }
        let again = augment.draw(7, 0, 11);
        assert_eq!((again.flip, again.down, again.right), {
            let c = draws[11];
            (c.flip, c.down, c.right)
        });
    }

    #[test]
    fn one_thread_or_three_give_the_same() {
        let augment = Augment { flip: true, shift: 2 };
        let batch = numbered(&[40, 1, 6, 6]);
        let images = Images { layout: Layout::Nchw, black: vec![0.0] };
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let apply = || augment.apply(&batch, &images, (0, 1, 0));
            let tensor = pool.expect("pool").install(apply).expect("augmented");
            tensor.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("values")
        };
        assert_eq!(run(1), run(3));
    }
}
