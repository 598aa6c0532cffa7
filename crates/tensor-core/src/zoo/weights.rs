//! Initial weights.

use crate::random;
use rand_chacha::rand_core::RngCore;

/// Little-endian bytes of `count` uniform `f32` in `+-bound`, from the stream of that name.
///
/// Uniform weights are the same bytes on every machine, which a logarithm or cosine is not.
pub(super) fn uniform(seed: u64, name: &str, count: usize, bound: f64) -> Vec<u8> {
    let mut stream = random::stream(seed, &format!("zoo/{name}"));
    let mut bytes = Vec::with_capacity(count * 4);
    for _ in 0..count {
        // 24 bits are exact in f32 and centred on 0.
        let unit = (f64::from(stream.next_u32() >> 8) + 0.5) / f64::from(1_u32 << 24);
        let weight = ((2.0 * unit - 1.0) * bound) as f32;
        bytes.extend(weight.to_le_bytes());
    }
    bytes
}

/// The bound that gives He's variance `2 / fan_in` (He et al. 2015), for layers before a rectifier.
pub(super) fn he(fan_in: usize) -> f64 {
    (6.0 / fan_in as f64).sqrt()
}

/// The bound of Xavier's initialization (Glorot and Bengio 2010), for linear outputs.
pub(super) fn xavier(fan_in: usize, fan_out: usize) -> f64 {
    (6.0 / (fan_in + fan_out) as f64).sqrt()
}
