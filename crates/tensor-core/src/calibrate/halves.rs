//! The two halves of calibration data: what is fitted on one is judged on the other.

/// Blocks of neighbouring samples that belong to the one and the other half in turn.
///
/// Neighbours are often alike: crops of one photograph, frames of one video. Taken in turn one by one,
/// they would be in both halves, and a fit would be judged on what it has seen. Two halves in one piece, on
/// the other hand, would have different classes where samples are sorted by class.
const BLOCKS: usize = 8;

/// Splits samples, counted over the batches of all processes, into [`BLOCKS`] blocks, which are even and odd in
/// turn.
#[derive(Debug, Clone, Copy)]
pub struct Halves {
    /// All samples.
    pub(super) samples: usize,
    /// Samples of every batch but the last.
    pub(super) size: usize,
}

impl Halves {
    /// Does a sample of a batch belong to the odd blocks?
    pub(super) fn is_odd(self, batch: usize, sample: usize) -> bool {
        let at = batch * self.size + sample;
        let blocks = BLOCKS.min(self.samples);
        (at * blocks / self.samples.max(1)) % 2 == 1
    }

    /// Of how many batches one is to be taken, so that about so many samples are left and every block has
    /// a batch.
    pub(super) fn stride(self, samples: usize) -> usize {
        let block = self.samples / BLOCKS / self.size.max(1);
        (self.samples / samples.max(1)).min(block).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn odd(halves: Halves) -> Vec<bool> {
        (0..halves.samples).map(|at| halves.is_odd(at / halves.size, at % halves.size)).collect()
    }

    #[test]
    fn neighbours_are_in_one_half() {
        let odd = odd(Halves { samples: 202, size: 3 });
        let borders = odd.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert_eq!(borders, BLOCKS - 1);
    }

    proptest! {
        /// Whatever the batches, both halves have samples, and nearly equally many.
        #[test]
        fn halves_are_of_one_size(samples in 2usize..3000, size in 1usize..600) {
            let odd = odd(Halves { samples, size });
            let count = odd.iter().filter(|odd| **odd).count();
            prop_assert!(count.abs_diff(samples - count) <= BLOCKS);
            prop_assert!(count > 0 && count < samples);
        }

        /// A thinned replay has samples of both halves to fit and to judge with.
        #[test]
        fn both_halves_survive_thinning(samples in 2usize..30_000, size in 1usize..600, wanted in 1usize..500) {
            let halves = Halves { samples, size };
            let stride = halves.stride(wanted);
            let left = (0..samples).filter(|at| (at / size).is_multiple_of(stride));
            let odd = left.clone().filter(|at| halves.is_odd(at / size, at % size)).count();
            prop_assert!(odd > 0 && odd < left.count());
        }
    }
}
