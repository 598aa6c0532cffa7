//! How values are distributed, in bounded memory, whatever their range turns out to be.

use serde::{Deserialize, Serialize};
use tensor_core::{Error, Result};

/// Most bins of a histogram.
const BINS: i32 = 4096;

/// Exponent of the widest bin: with it every `f32` has a bin.
const MAX_EXPONENT: i32 = 118;

/// Exponent of the narrowest bin: that of a range of smallest normal numbers.
const MIN_EXPONENT: i32 = -126;

/// Counts of values in bins of width `2^exponent`, each beginning at a multiple of its width.
///
/// The width is the smallest with which the range seen so far, zero included, has at most 4,096 bins,
/// and grows by doubling, which joins pairs of bins. So everything held is a function of the values
/// alone: in whatever order they come, in one histogram or in several that are
/// [merged](Self::merge), the result has the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Histogram {
    /// Smallest and largest value, zero included; no values leave both at zero.
    min: f32,
    max: f32,
    /// Values that are exactly zero, which no quantization changes; they are in no bin.
    zeros: u64,
    exponent: i32,
    /// Number of the first bin, which starts at `first * 2^exponent`.
    first: i32,
    counts: Vec<u64>,
}

impl Histogram {
    /// Without values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds values.
    ///
    /// # Errors
    /// `E0503` when a value is NaN or infinite; the histogram is then unchanged.
    pub fn push(&mut self, values: &[f32]) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        let (min, max) = extent(values)
            .ok_or_else(|| Error::invalid("a value is NaN or infinite").code_is("E0503"))?;
        self.widen(min, max);
        let inverse = (-f64::from(self.exponent)).exp2();
        let mut zeros = 0;
        // Powers of two multiply without rounding, but for what gets too small.
        if !(1.0..=f64::from(f32::MAX)).contains(&inverse) {
            for &value in values {
                zeros += u64::from(value == 0.0);
                self.count(bin(f64::from(value) * inverse));
            }
        } else {
            let inverse = inverse as f32;
            // Equal neighbours would wait for each other's counts.
            let mut lanes = vec![[0_u32; LANES]; self.counts.len()];
            let mut bins = [0_u32; BLOCK];
            for (block, values) in values.chunks(BLOCK).enumerate() {
                // Counts of 32 bits are moved before they can overflow.
                if block % (1 << 24) == 0 && block > 0 {
                    self.take(&mut lanes);
                }
                zeros += u64::from(place(values, inverse, self.first, &mut bins));
                let (groups, rest) = bins[..values.len()].as_chunks::<LANES>();
                for group in groups {
                    for (lane, &bin) in group.iter().enumerate() {
                        if let Some(counts) = lanes.get_mut(bin as usize) {
                            counts[lane] += 1;
                        }
                    }
                }
                for &bin in rest {
                    if let Some([count, ..]) = lanes.get_mut(bin as usize) {
                        *count += 1;
                    }
                }
            }
            self.take(&mut lanes);
        }
        self.zeros += zeros;
        let zero_bin = (-self.first) as usize;
        if let Some(count) = self.counts.get_mut(zero_bin) {
            *count -= zeros;
        }
        Ok(())
    }

    fn take(&mut self, lanes: &mut [[u32; LANES]]) {
        for (count, lanes) in self.counts.iter_mut().zip(lanes) {
            *count += lanes.iter().map(|&lane| u64::from(lane)).sum::<u64>();
            *lanes = [0; LANES];
        }
    }

    fn count(&mut self, bin: i32) {
        if let Some(count) = self.counts.get_mut((bin - self.first) as usize) {
            *count += 1;
        }
    }

    /// Adds the values of another histogram.
    pub fn merge(&mut self, other: &Self) {
        if other.counts.is_empty() {
            return;
        }
        self.widen(other.min, other.max);
        let shift = (self.exponent - other.exponent).max(0);
        for (i, &count) in other.counts.iter().enumerate() {
            let bin = shifted(other.first + i as i32, shift);
            if let Some(mine) = self.counts.get_mut((bin - self.first) as usize) {
                *mine += count;
            }
        }
        self.zeros += other.zeros;
    }

    /// Takes a wider range.
    fn widen(&mut self, min: f32, max: f32) {
        let (min, max) = (self.min.min(min), self.max.max(max));
        if !self.counts.is_empty() && min == self.min && max == self.max {
            return;
        }
        let exponent = exponent_of(min, max);
        let inverse = (-f64::from(exponent)).exp2();
        let [first, last] = [min, max].map(|end| bin(f64::from(end) * inverse));
        let mut counts = vec![0; (last - first + 1) as usize];
        let shift = exponent - self.exponent;
        for (i, &count) in self.counts.iter().enumerate() {
            counts[(shifted(self.first + i as i32, shift) - first) as usize] += count;
        }
        *self = Self { min, max, zeros: self.zeros, exponent, first, counts };
    }

    /// Smallest and largest value, zero included.
    pub fn range(&self) -> (f32, f32) {
        (self.min, self.max)
    }

    /// Number of values.
    pub fn total(&self) -> u64 {
        self.zeros + self.counts.iter().sum::<u64>()
    }

    /// Number of values that are exactly zero.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// Centre and count of each bin that holds something, ascending; zeros are left out.
    pub fn points(&self) -> Vec<(f32, u64)> {
        let width = f64::from(self.exponent).exp2();
        let filled = self.counts.iter().enumerate().filter(|&(_, &count)| count > 0);
        filled
            .map(|(i, &count)| {
                let centre = (f64::from(self.first + i as i32) + 0.5) * width;
                // The outermost centres may lie outside of what was seen.
                ((centre as f32).clamp(self.min, self.max), count)
            })
            .collect()
    }
}

/// Values that are counted side by side.
const LANES: usize = 4;

/// Values that are placed before they are counted: vector instructions place, and cannot count.
const BLOCK: usize = 256;

/// Finds the bins of values, counted from the first, and how many values are zero.
fn place(values: &[f32], inverse: f32, first: i32, bins: &mut [u32; BLOCK]) -> u32 {
    /// 1.5 * 2^23: the lowest bits of a sum with a smaller number are that number, rounded.
    const WHOLE: f32 = 12_582_912.0;
    let origin = WHOLE.to_bits().wrapping_add_signed(first);
    let mut zeros = 0;
    for (bin, &value) in bins.iter_mut().zip(values) {
        let scaled = value * inverse;
        let nearest = (scaled + WHOLE) - WHOLE;
        let floor = if nearest > scaled { nearest - 1.0 } else { nearest };
        *bin = (floor + WHOLE).to_bits().wrapping_sub(origin);
        zeros += u32::from(value == 0.0);
    }
    zeros
}

/// Smallest and largest of some values and zero; `None` when one is not finite.
fn extent(values: &[f32]) -> Option<(f32, f32)> {
    const INFINITE: u32 = f32::INFINITY.to_bits();
    let (mut min, mut max, mut bits) = ([0.0_f32; 16], [0.0_f32; 16], [0_u32; 16]);
    let mut take = |lane: usize, value: f32| {
        min[lane] = if value < min[lane] { value } else { min[lane] };
        max[lane] = if value > max[lane] { value } else { max[lane] };
        bits[lane] = bits[lane].max(value.to_bits() & !(1 << 31));
    };
    let (groups, rest) = values.as_chunks::<16>();
    for group in groups {
        group.iter().enumerate().for_each(|(lane, &value)| take(lane, value));
    }
    rest.iter().for_each(|&value| take(0, value));
    let is_finite = bits.iter().all(|&bits| bits < INFINITE);
    is_finite.then(|| (min.into_iter().fold(0.0, f32::min), max.into_iter().fold(0.0, f32::max)))
}

fn bin(scaled: f64) -> i32 {
    scaled.floor() as i32
}

/// The number that a bin has after its width doubled `shift` times.
fn shifted(bin: i32, shift: i32) -> i32 {
    bin >> shift.clamp(0, 31)
}

/// The smallest exponent with which a range has few enough bins.
fn exponent_of(min: f32, max: f32) -> i32 {
    let widest = (-f64::from(min)).max(f64::from(max));
    if widest == 0.0 {
        return MIN_EXPONENT;
    }
    // Near the result; it only has to begin below it.
    let mut exponent = (widest / f64::from(BINS)).log2().floor() as i32 - 1;
    exponent = exponent.clamp(MIN_EXPONENT, MAX_EXPONENT);
    loop {
        let inverse = (-f64::from(exponent)).exp2();
        let bins = (f64::from(max) * inverse).floor() - (f64::from(min) * inverse).floor() + 1.0;
        if bins <= f64::from(BINS) || exponent >= MAX_EXPONENT {
            return exponent;
        }
        exponent += 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    fn of(values: &[f32]) -> Histogram {
        let mut histogram = Histogram::new();
        histogram.push(values).unwrap();
        histogram
    }

    /// Values of very different sizes, and zeros.
    fn value() -> impl Strategy<Value = f32> {
        let any =
            (-1.0_f32..1.0, -130..120_i32).prop_map(|(x, e)| x * (f64::from(e)).exp2() as f32);
        prop_oneof![Just(0.0), -1.0_f32..1.0, 0.0_f32..1e4, any]
    }

    proptest! {
        #[test]
        fn order_and_grouping_leave_no_trace(
            values in prop::collection::vec(value(), 1..200),
            cuts in prop::collection::vec(0_usize..200, 3),
            seed in 0_usize..1000,
        ) {
            let whole = of(&values);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (values.len() + 1)).collect();
            cuts.extend([0, values.len()]);
            cuts.sort_unstable();
            let mut parts: Vec<Histogram> =
                cuts.windows(2).map(|ends| of(&values[ends[0]..ends[1]])).collect();
            let turns = seed % parts.len();
            parts.rotate_left(turns);
            let mut merged = Histogram::new();
            parts.iter().for_each(|part| merged.merge(part));
            prop_assert_eq!(&merged, &whole);
            let mut pushed = Histogram::new();
            values.iter().rev().for_each(|&value| pushed.push(&[value]).unwrap());
            prop_assert_eq!(&pushed, &whole);
            prop_assert_eq!(whole.total(), values.len() as u64);
            prop_assert!(whole.counts.len() <= BINS as usize);
        }

        #[test]
        fn every_value_is_within_a_bin_of_its_point(values in prop::collection::vec(-3.0_f32..9.0, 1..50)) {
            let histogram = of(&values);
            let width = (f64::from(histogram.exponent)).exp2() as f32;
            let points = histogram.points();
            for value in values.iter().filter(|&&value| value != 0.0) {
                prop_assert!(points.iter().any(|(at, _)| (at - value).abs() <= width / 2.0));
            }
            let (min, max) = histogram.range();
            prop_assert!(width <= 2.0 * (max - min) / (BINS - 1) as f32);
        }
    }

    #[test]
    fn what_is_not_finite_is_refused_and_changes_nothing() {
        let mut histogram = of(&[1.0, 0.0, -0.0]);
        assert_eq!((histogram.zeros(), histogram.total()), (2, 3));
        let before = histogram.clone();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(histogram.push(&[0.5, bad]).unwrap_err().code(), "E0503");
        }
        assert_eq!(histogram, before);
        assert_eq!(of(&[]), Histogram::new());
        let extreme = of(&[f32::MAX, f32::MIN, f32::MIN_POSITIVE]);
        assert_eq!(extreme.total(), 3);
    }
}
