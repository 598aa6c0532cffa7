//! Float images as planes, with the resize and crop of the common training pipelines.

use super::errors::{misfit, shape_text};
use crate::Result;

/// A multi-channel image: `channels` planes of `height` x `width`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planes {
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) values: Vec<f32>,
}

impl Planes {
    /// From values in height, width, channels order.
    pub(super) fn from_interleaved(
        height: usize,
        width: usize,
        channels: usize,
        values: &[f32],
    ) -> Self {
        let values = (0..channels)
            .flat_map(|channel| values.iter().skip(channel).step_by(channels.max(1)).copied())
            .collect();
        Self { channels, height, width, values }
    }

    /// Values in height, width, channels order.
    pub(super) fn to_interleaved(&self) -> Vec<f32> {
        let plane = self.height * self.width;
        (0..plane)
            .flat_map(|at| (0..self.channels).map(move |channel| self.values[channel * plane + at]))
            .collect()
    }

    /// Bilinear resize with antialiasing: a triangle filter as wide as the scale (as Pillow and
    /// torchvision with `antialias=True`), edges renormalised.
    pub(super) fn resize(&self, height: usize, width: usize) -> Self {
        if (height, width) == (self.height, self.width) {
            return self.clone();
        }
        let columns = taps(self.width, width);
        let rows = taps(self.height, height);
        let mut values = Vec::with_capacity(self.channels * height * width);
        for plane in self.values.chunks_exact((self.height * self.width).max(1)) {
            let mut narrow = Vec::with_capacity(self.height * width);
            for row in plane.chunks_exact(self.width) {
                for (start, weights) in &columns {
                    let pixels = &row[*start..start + weights.len()];
                    narrow.push(weights.iter().zip(pixels).map(|(w, p)| w * p).sum::<f32>());
                }
            }
            for (start, weights) in &rows {
                let mut line = vec![0.0; width];
                for (offset, weight) in weights.iter().enumerate() {
                    let from = &narrow[(start + offset) * width..][..width];
                    line.iter_mut().zip(from).for_each(|(sum, value)| *sum += weight * value);
                }
                values.extend(line);
            }
        }
        Self { channels: self.channels, height, width, values }
    }

    /// The centre `height` x `width`.
    ///
    /// # Errors
    /// `E0205` when the image is smaller.
    pub(super) fn crop(&self, height: usize, width: usize) -> Result<Self> {
        if height > self.height || width > self.width {
            return Err(misfit(format!(
                "cannot crop {} from an image of {}",
                shape_text(&[height, width]),
                shape_text(&[self.height, self.width])
            ))
            .hint(format!("enlarge first with `resize = {}`", height.max(width))));
        }
        let (top, left) = (half_even(self.height - height), half_even(self.width - width));
        let mut values = Vec::with_capacity(self.channels * height * width);
        for plane in self.values.chunks_exact((self.height * self.width).max(1)) {
            for row in plane.chunks_exact(self.width).skip(top).take(height) {
                values.extend_from_slice(&row[left..left + width]);
            }
        }
        Ok(Self { channels: self.channels, height, width, values })
    }
}

/// Half of a difference, rounded half to even: where torchvision's `CenterCrop` begins.
fn half_even(difference: usize) -> usize {
    let half = difference / 2;
    half + usize::from(difference % 2 == 1 && half % 2 == 1)
}

/// For every output position: the first input position and the weights from there on.
fn taps(from: usize, to: usize) -> Vec<(usize, Vec<f32>)> {
    let scale = from as f64 / to as f64;
    let radius = scale.max(1.0);
    (0..to)
        .map(|at| {
            let centre = (at as f64 + 0.5) * scale;
            let start = (centre - radius + 0.5).max(0.0) as usize;
            let end = ((centre + radius + 0.5) as usize).min(from).max(start + 1);
            let weights: Vec<f64> = (start..end)
                .map(|pixel| 1.0 - ((pixel as f64 + 0.5 - centre) / radius).abs())
                .map(|weight| weight.max(0.0))
                .collect();
            let sum: f64 = weights.iter().sum();
            (start, weights.iter().map(|weight| (weight / sum) as f32).collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(height: usize, width: usize) -> Planes {
        let values = (0..height * width).map(|i| ((i * 37) % 101) as f32).collect();
        Planes { channels: 1, height, width, values }
    }

    #[test]
    fn constant_images_stay_constant() {
        let image = Planes { channels: 2, height: 7, width: 5, values: vec![0.25; 70] };
        for (height, width) in [(3, 2), (14, 9), (1, 1), (7, 6)] {
            let resized = image.resize(height, width);
            assert_eq!(resized.values.len(), 2 * height * width);
            assert!(resized.values.iter().all(|value| (value - 0.25).abs() < 1e-6));
        }
    }

    // Pillow 13.0.0: from PIL import Image; a = ((np.arange(30)*37)%101).astype(np.float32).reshape(5,6)
    //         np.asarray(Image.fromarray(a).resize((w, h), Image.BILINEAR))
    #[test]
    fn resize_equals_pillow() {
        let down = ramp(5, 6).resize(2, 3).values;
        let up = ramp(2, 3).resize(3, 4).values;
        let expected_down =
            [42.493_507, 51.096_592, 46.090_908, 58.883_118, 52.647_728, 42.805_195];
        let expected_up =
            [0.0, 23.125, 50.875, 74.0, 5.0, 28.125, 55.875, 79.0, 10.0, 33.125, 60.875, 84.0];
        let pairs = down.iter().zip(&expected_down).chain(up.iter().zip(&expected_up));
        for (value, expected) in pairs {
            // Both round weights and sums to f32: a few units in the last place of 100.
            assert!((value - expected).abs() < 5e-5, "{value} {expected}");
        }
        assert_eq!((down.len(), up.len()), (6, 12));
    }

    #[test]
    fn crop_takes_the_centre_and_refuses_more_than_there_is() {
        let cropped = ramp(6, 7).crop(2, 4).expect("smaller than the image");
        let expected: Vec<f32> = [2, 3]
            .iter()
            .flat_map(|row| (2..6).map(move |c| ((row * 7 + c) * 37 % 101) as f32))
            .collect();
        assert_eq!(cropped.values, expected);
        assert_eq!(ramp(2, 2).crop(3, 1).expect_err("larger").code(), "E0205");
    }

    #[test]
    fn interleaving_is_inverted() {
        let image = Planes {
            channels: 3,
            height: 2,
            width: 2,
            values: (0..12).map(|v| v as f32).collect(),
        };
        let interleaved = image.to_interleaved();
        assert_eq!(interleaved[..3], [0.0, 4.0, 8.0]);
        assert_eq!(Planes::from_interleaved(2, 2, 3, &interleaved), image);
    }
}
