//! Weight sharing: every weight becomes one of a few numbers that are chosen for them.

use super::affine::check_bits;
use serde::Serialize;
use tensor_core::{Error, Result};

/// Rounds after which the centres are taken as they are.
const MAX_ROUNDS: usize = 300;

/// Weights as indices into a list of numbers (Han et al., "Deep compression", 2016).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Codebook {
    /// The numbers, ascending: `2^bits` or fewer, when there are fewer different weights.
    pub centres: Vec<f32>,
    /// One index for each weight.
    pub codes: Vec<u8>,
    bits: u8,
}

impl Codebook {
    /// One-dimensional k-means with `2^bits` centres that begin equally spaced, which keeps large
    /// weights (Deep Compression, section 3.2), and move to the means of what is nearest to them
    /// until nothing changes. A centre that nothing is nearest to goes to the weight that is
    /// farthest from its own centre. There is no chance in it.
    ///
    /// # Errors
    /// `E0500` for bits outside of 1 to 8, `E0503` when a weight is not finite.
    pub fn fit(weights: &[f32], bits: u8) -> Result<Self> {
        let bits = check_bits(bits)?;
        if let Some(bad) = weights.iter().find(|weight| !weight.is_finite()) {
            return Err(Error::invalid(format!("a weight is {bad}")).code_is("E0503"));
        }
        let mut sorted: Vec<f64> = weights.iter().map(|&w| f64::from(w)).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let mut different = sorted.clone();
        different.dedup();
        let count = 1_usize << bits;
        let centres = match different.len() <= count {
            true => different,
            false => moved(&sorted, count),
        };
        let centres: Vec<f32> = centres.into_iter().map(|c| c as f32).collect();
        let codes = weights.iter().map(|&w| Self::nearest(&centres, w) as u8).collect();
        Ok(Self { centres, codes, bits })
    }

    /// The weights that the codes stand for.
    pub fn weights(&self) -> Vec<f32> {
        self.codes.iter().filter_map(|&code| self.centres.get(usize::from(code))).copied().collect()
    }

    /// Place of the centre next to a weight; of two, the lower.
    pub(crate) fn nearest(centres: &[f32], weight: f32) -> usize {
        let above = centres.partition_point(|&centre| centre < weight);
        let distance = |at: usize| (centres[at] - weight).abs();
        match above {
            0 => 0,
            _ if above == centres.len() => above - 1,
            _ if distance(above - 1) <= distance(above) => above - 1,
            _ => above,
        }
    }

    /// Bytes of the codes, packed, and of the `2^bits` centres in 32 bits.
    pub fn bytes(&self) -> usize {
        let codes = self.codes.len().saturating_mul(usize::from(self.bits)).div_ceil(8);
        codes + (4 << self.bits)
    }
}

/// The centres of more than `count` different numbers, which are sorted.
fn moved(sorted: &[f64], count: usize) -> Vec<f64> {
    let (least, most) = (sorted[0], sorted[sorted.len() - 1]);
    let step = (most - least) / (count - 1) as f64;
    let mut centres: Vec<f64> = (0..count).map(|i| least + step * i as f64).collect();
    // Sums up to each place give the mean of any range.
    let mut sums = vec![0.0];
    let mut sum = 0.0;
    for value in sorted {
        sum += value;
        sums.push(sum);
    }
    for _ in 0..MAX_ROUNDS {
        let ends = boundaries(sorted, &centres);
        let mut new = Vec::with_capacity(count);
        let mut empty = 0;
        for (&start, &end) in ends.iter().zip(&ends[1..]) {
            match end - start {
                0 => empty += 1,
                length => new.push((sums[end] - sums[start]) / length as f64),
            }
        }
        if empty > 0 {
            new.extend(farthest(sorted, &ends, &centres, empty));
            new.sort_unstable_by(f64::total_cmp);
        }
        if new == centres {
            break;
        }
        centres = new;
    }
    centres
}

/// Where the numbers of each centre begin, and the end of the last.
fn boundaries(sorted: &[f64], centres: &[f64]) -> Vec<usize> {
    let mut ends = vec![0];
    for pair in centres.windows(2) {
        let middle = f64::midpoint(pair[0], pair[1]);
        ends.push(sorted.partition_point(|&value| value <= middle));
    }
    ends.push(sorted.len());
    ends
}

/// The `count` different numbers that are farthest from their centres.
fn farthest(sorted: &[f64], ends: &[usize], centres: &[f64], count: usize) -> Vec<f64> {
    let parts = ends.iter().zip(&ends[1..]).zip(centres);
    let mut far: Vec<(f64, f64)> = parts
        .flat_map(|((&start, &end), &centre)| {
            sorted[start..end].iter().map(move |&value| ((value - centre).abs(), value))
        })
        .collect();
    far.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.total_cmp(&b.1)));
    far.dedup_by(|a, b| a.1 == b.1);
    far.into_iter().take(count).map(|(_, value)| value).collect()
}
