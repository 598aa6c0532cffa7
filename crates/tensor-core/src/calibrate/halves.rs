//! The two halves of calibration data: what is fitted on one is judged on the other.

/// Blocks of neighbouring samples that belong to the one and the other half in turn.
///
/// Neighbours are often alike: crops of one photograph, frames of one video. Taken in turn one by one,
/// they would be in both halves, and a fit would be judged on what it has seen. Two halves in one piece, on
/// the other hand, would have different classes where samples are sorted by class.
const BLOCKS: usize = 8;

/// Splits the samples of all processes into [`BLOCKS`] blocks, which are even and odd in turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Halves {
    /// All samples, and the batches that hold them.
    pub(super) samples: usize,
    pub(super) batches: usize,
}

impl Halves {
    /// Does the sample at this place belong to the odd blocks?
    pub(super) fn is_odd(self, at: usize) -> bool {
        let blocks = BLOCKS.min(self.samples);
        (at * blocks / self.samples.max(1)) % 2 == 1
    }

    /// Of how many batches one is to be taken, so that about so many samples are left and every block has
    /// a batch.
    pub(super) fn stride(self, samples: usize) -> usize {
        (self.samples / samples.max(1)).min(self.batches / BLOCKS).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn odd(samples: usize) -> Vec<bool> {
        let halves = Halves { samples, batches: 1 };
        (0..samples).map(|at| halves.is_odd(at)).collect()
    }

    #[test]
    fn neighbours_are_in_one_half() {
        let odd = odd(202);
        let borders = odd.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert_eq!(borders, BLOCKS - 1);
    }

    proptest! {
        /// Both halves have samples, and nearly equally many.
        #[test]
        fn halves_are_of_one_size(samples in 2usize..3000) {
            let odd = odd(samples);
            let count = odd.iter().filter(|odd| **odd).count();
            prop_assert!(count.abs_diff(samples - count) <= BLOCKS);
            prop_assert!(count > 0 && count < samples);
        }

        /// A thinned replay has samples of both halves to fit and to judge with.
        #[test]
        fn both_halves_survive_thinning(samples in 2usize..30_000, size in 1usize..600, wanted in 1usize..500) {
            let halves = Halves { samples, batches: samples.div_ceil(size) };
            let stride = halves.stride(wanted);
            let left = (0..samples).filter(|at| (at / size).is_multiple_of(stride));
            let odd = left.clone().filter(|at| halves.is_odd(*at)).count();
            prop_assert!(odd > 0 && odd < left.count());
        }
    }
}
