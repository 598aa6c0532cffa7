//! From `f32` to bfloat16, in the layouts that tiles load. Rounds to nearest, ties to even; numbers
//! below the smallest normal one become zero.

use super::super::lattice::Lattice;
use std::arch::x86_64::*;

/// Writes a channel as planes of a lattice, whose other values stay as they are.
///
/// # Safety
/// The processor must have AVX-512 with BW and BF16, `x` point to a channel of the lattice's input,
/// and `to` to its phases, each [`Lattice::length`] values after the other `phase_step`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn planes(lattice: &Lattice, x: *const f32, to: *mut u16, phase_step: usize) {
    for phase in 0..lattice.phases() {
        let to = to.wrapping_add(phase * phase_step);
        for span in lattice.spans(phase) {
            for start in (0..span.count).step_by(32) {
                let rest = span.count - start;
                // SAFETY: the span lies within the channel and the plane, and lanes past its end
                // are masked.
                unsafe {
                    let stride = lattice.stride();
                    let from = x.wrapping_add(span.from + start * stride);
                    let low = lanes(from, stride, rest);
                    let high =
                        lanes(from.wrapping_add(16 * stride), stride, rest.saturating_sub(16));
                    let both =
                        std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
                    let to = to.wrapping_add(span.to + start);
                    _mm512_mask_storeu_epi16(to.cast(), first_lanes(rest), both);
                }
            }
        }
    }
}

/// Writes two channels as planes of pairs; the second one may be missing.
///
/// # Safety
/// As [`planes`], for both channels; pairs are 32 bits wide.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn pairs(
    lattice: &Lattice,
    [a, b]: [Option<*const f32>; 2],
    to: *mut u32,
    phase_step: usize,
) {
    for phase in 0..lattice.phases() {
        let to = to.wrapping_add(phase * phase_step);
        for span in lattice.spans(phase) {
            for start in (0..span.count).step_by(16) {
                let rest = span.count - start;
                // SAFETY: the span lies within the channels and the plane, and lanes past its end
                // are masked.
                unsafe {
                    let stride = lattice.stride();
                    let load = |x: Option<*const f32>| match x {
                        Some(x) => lanes(x.wrapping_add(span.from + start * stride), stride, rest),
                        None => _mm512_setzero_ps(),
                    };
                    let pairs = pairs_of([load(a), load(b)]);
                    let to = to.wrapping_add(span.to + start);
                    _mm512_mask_storeu_epi32(to.cast(), first_lanes(rest) as u16, pairs);
                }
            }
        }
    }
}

/// Writes outputs as rows of the lattice's width, zero where there is no output.
///
/// # Safety
/// The processor must have AVX-512 with BW and BF16, `y` point to one channel of the output, and
/// `to` to `count` values, a multiple of 32.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn outputs(lattice: &Lattice, y: *const f32, to: *mut u16, count: usize) {
    // SAFETY: segments lie within the output and the values.
    unsafe {
        std::ptr::write_bytes(to, 0, count);
        for segment in lattice.outputs(0, lattice.positions) {
            for start in (0..segment.count).step_by(32) {
                let rest = segment.count - start;
                let from = y.wrapping_add(segment.position + start);
                let low = lanes(from, 1, rest);
                let high = lanes(from.wrapping_add(16), 1, rest.saturating_sub(16));
                let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
                let to = to.wrapping_add(segment.lane + start);
                _mm512_mask_storeu_epi16(to.cast(), first_lanes(rest), both);
            }
        }
    }
}

/// Transposes 16 rows of 16 pairs: `to[16 c + r] = from[r * step + c]`.
///
/// # Safety
/// The processor must have AVX-512, and all elements be there.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn turn(from: *const u32, step: usize, to: *mut u32) {
    // SAFETY: the caller vouches for 16 rows of 16 elements on either side.
    unsafe {
        let row = |r: usize| _mm512_loadu_si512(from.wrapping_add(r * step).cast());
        let mut a: [__m512i; 16] = std::array::from_fn(row);
        for r in (0..16).step_by(2) {
            let (x, y) = (a[r], a[r + 1]);
            a[r] = _mm512_unpacklo_epi32(x, y);
            a[r + 1] = _mm512_unpackhi_epi32(x, y);
        }
        for r in (0..16).step_by(4) {
            let [w, x, y, z] = [a[r], a[r + 1], a[r + 2], a[r + 3]];
            a[r] = _mm512_unpacklo_epi64(w, y);
            a[r + 1] = _mm512_unpackhi_epi64(w, y);
            a[r + 2] = _mm512_unpacklo_epi64(x, z);
            a[r + 3] = _mm512_unpackhi_epi64(x, z);
        }
        // Now a[4 g + c] holds, in its four quarters q, column 4 q + c of rows 4 g .. 4 g + 4.
        for c in 0..4 {
            let [w, x, y, z] = [a[c], a[4 + c], a[8 + c], a[12 + c]];
            let (low_a, low_b) =
                (_mm512_shuffle_i32x4::<0x88>(w, x), _mm512_shuffle_i32x4::<0x88>(y, z));
            let (high_a, high_b) =
                (_mm512_shuffle_i32x4::<0xdd>(w, x), _mm512_shuffle_i32x4::<0xdd>(y, z));
            let columns = [
                _mm512_shuffle_i32x4::<0x88>(low_a, low_b),
                _mm512_shuffle_i32x4::<0x88>(high_a, high_b),
                _mm512_shuffle_i32x4::<0xdd>(low_a, low_b),
                _mm512_shuffle_i32x4::<0xdd>(high_a, high_b),
            ];
            for (q, column) in columns.into_iter().enumerate() {
                _mm512_storeu_si512(to.wrapping_add(16 * (4 * q + c)).cast(), column);
            }
        }
    }
}

/// Rounds two vectors to pairs: lane `l` holds both lanes `l`, the first one in the low half.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn pairs_of([a, b]: [__m512; 2]) -> __m512i {
    let halves = _mm512_add_epi16(
        _mm512_set1_epi32(16 << 16),
        _mm512_mullo_epi32(_mm512_set1_epi32(1 | 1 << 16), index()),
    );
    // SAFETY: both types are 512 bits of the same register.
    let both = unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(b, a)) };
    _mm512_permutexvar_epi16(halves, both)
}

/// The two vectors that pairs hold.
#[target_feature(enable = "avx512f")]
pub(super) fn unpaired(pairs: __m512i) -> [__m512; 2] {
    let high = _mm512_and_si512(pairs, _mm512_set1_epi32(-1 << 16));
    [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)), _mm512_castsi512_ps(high)]
}

/// One value, rounded.
pub(super) fn round(value: f32) -> u16 {
    half::bf16::from_f32(value).to_bits()
}

/// The first `count` lanes, at most 32.
fn first_lanes(count: usize) -> u32 {
    match count {
        0..32 => (1 << count) - 1,
        _ => u32::MAX,
    }
}

/// Lane `l` is `l`.
#[target_feature(enable = "avx512f")]
fn index() -> __m512i {
    _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
}

/// Loads up to 16 of `count` values; the other lanes are zero.
#[target_feature(enable = "avx512f")]
unsafe fn lanes(from: *const f32, stride: usize, count: usize) -> __m512 {
    let mask = first_lanes(count.min(16)) as u16;
    // SAFETY: the caller vouches for `count` values, and others are not touched.
    unsafe {
        if stride == 1 {
            return _mm512_maskz_loadu_ps(mask, from);
        }
        let index = _mm512_mullo_epi32(index(), _mm512_set1_epi32(stride as i32));
        _mm512_mask_i32gather_ps::<4>(_mm512_setzero_ps(), mask, index, from.cast())
    }
}
