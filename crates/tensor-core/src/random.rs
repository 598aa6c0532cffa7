//! Named random streams from one seed.
//!
//! Every purpose ("subset", "shuffle", ...) draws from a stream of its own, so adding a draw in one
//! place changes no number in another.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

/// The stream of that purpose: ChaCha8, keyed by SHA-256 of the seed and the name.
pub fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(name.as_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

/// A uniform integer in `0..bound`, without modulo bias; 0 when `bound` is 0.
///
/// The algorithm is part of the reproducibility promise, hence not left to `rand`'s versions.
pub fn below(rng: &mut impl RngCore, bound: u64) -> u64 {
    if bound == 0 {
        return 0;
    }
    // The largest multiple of `bound`: draws above it would favour small results.
    let limit = u64::MAX - u64::MAX % bound;
    loop {
        let draw = rng.next_u64();
        if draw < limit {
            return draw % bound;
        }
    }
}

/// A random permutation of `0..n` (Fisher-Yates).
pub fn permutation(rng: &mut impl RngCore, n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        order.swap(last, below(rng, last as u64 + 1) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ_by_seed_and_name() {
        let draw = |seed, name| stream(seed, name).next_u64();
        assert_eq!(draw(1, "subset"), draw(1, "subset"));
        assert_ne!(draw(1, "subset"), draw(2, "subset"));
        assert_ne!(draw(1, "subset"), draw(1, "shuffle"));
    }

    #[test]
    fn below_is_uniform_and_in_range() {
        let mut rng = stream(0, "test");
        let mut counts = [0_u32; 5];
        for _ in 0..10_000 {
            counts[below(&mut rng, 5) as usize] += 1;
        }
        // 2,000 expected, standard deviation 40.
        assert!(counts.iter().all(|count| count.abs_diff(2_000) < 200), "{counts:?}");
        assert_eq!(below(&mut rng, 0), 0);
    }

    #[test]
    fn permutation_holds_every_index_once() {
        let mut order = permutation(&mut stream(3, "test"), 100);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
