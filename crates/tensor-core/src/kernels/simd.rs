//! Vectors of `f32` for the instruction sets that the kernels are compiled for.

use super::patches::Run;

/// Lanes that a panel is divided into, whatever the instruction set.
pub(super) const SECTION: usize = 16;

/// A vector of `f32`.
///
/// # Safety
/// Methods may only run on a processor that has the instruction set: inside [`Kernel::run`], as
/// called by [`dispatch`]. Pointers must be valid for `LANES` elements; no alignment is needed.
pub(super) trait Simd {
    /// The register.
    type Vector: Copy;
    /// Elements of a register.
    const LANES: usize;
    /// Rows of the largest block whose sums fit the registers beside three vectors of columns.
    const ROWS: usize;

    unsafe fn splat(value: f32) -> Self::Vector;
    unsafe fn load(from: *const f32) -> Self::Vector;
    unsafe fn store(to: *mut f32, vector: Self::Vector);
    /// `a * b + c`.
    unsafe fn mul_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;

    /// Fills one section: lane `l` of a run reads `source[run.offset + l * stride]`, lanes of no
    /// run become zero.
    ///
    /// # Safety
    /// As the trait; every lane that a run covers must be readable, and `to` valid for
    /// [`SECTION`] elements.
    #[inline(always)]
    unsafe fn fill_section(to: *mut f32, runs: &[Run], source: *const f32, stride: usize) {
        // SAFETY: the caller vouches for `to` and for the covered lanes.
        unsafe {
            std::ptr::write_bytes(to, 0, SECTION);
            for run in runs {
                let from = source.wrapping_offset(run.offset);
                let first = run.lanes.trailing_zeros() as usize;
                for lane in first..first + run.lanes.count_ones() as usize {
                    *to.add(lane) = *from.wrapping_add(lane * stride);
                }
            }
        }
    }
}

/// Code over [`Simd`] that [`dispatch`] compiles once for each instruction set.
pub(super) trait Kernel {
    /// Runs with the vectors `S`; implementations are `#[inline(always)]`, so that they are
    /// compiled with the instructions of the caller.
    ///
    /// # Safety
    /// The processor must have the instruction set of `S`.
    unsafe fn run<S: Simd>(self);
}

/// Runs a kernel with the widest vectors of this processor.
pub(super) fn dispatch<K: Kernel>(kernel: K) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: AVX-512 was detected.
            unsafe { x86::run_avx512(kernel) };
            return;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: AVX2 and FMA were detected.
            unsafe { x86::run_avx2(kernel) };
            return;
        }
    }
    // SAFETY: plain Rust runs everywhere.
    unsafe { kernel.run::<Portable>() }
}

/// Four lanes in plain Rust.
pub(super) struct Portable;

impl Simd for Portable {
    type Vector = [f32; 4];
    const LANES: usize = 4;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f32) -> [f32; 4] {
        [value; 4]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 4] {
        // SAFETY: the caller vouches for four elements.
        unsafe { from.cast::<[f32; 4]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, vector: [f32; 4]) {
        // SAFETY: the caller vouches for four elements.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(vector) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|lane| a[lane] * b[lane] + c[lane])
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use super::{Kernel, Run, Simd};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f")]
    pub(in super::super) unsafe fn run_avx512<K: Kernel>(kernel: K) {
        // SAFETY: this function has AVX-512.
        unsafe { kernel.run::<Avx512>() }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(in super::super) unsafe fn run_avx2<K: Kernel>(kernel: K) {
        // SAFETY: this function has AVX2 and FMA.
        unsafe { kernel.run::<Avx2>() }
    }

    /// Sixteen lanes, 32 registers.
    pub(in super::super) struct Avx512;

    // SAFETY of all methods: the caller runs with AVX-512 and vouches for the pointers.
    impl Simd for Avx512 {
        type Vector = __m512;
        const LANES: usize = 16;
        const ROWS: usize = 8;

        #[inline(always)]
        unsafe fn splat(value: f32) -> __m512 {
            unsafe { _mm512_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m512 {
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(to: *mut f32, vector: __m512) {
            unsafe { _mm512_storeu_ps(to, vector) }
        }

        #[inline(always)]
        unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        unsafe fn fill_section(to: *mut f32, runs: &[Run], source: *const f32, stride: usize) {
            // SAFETY: masked loads touch covered lanes only.
            unsafe {
                let mut section = _mm512_setzero_ps();
                if stride == 1 {
                    for run in runs {
                        let from = source.wrapping_offset(run.offset);
                        section = _mm512_mask_loadu_ps(section, run.lanes, from);
                    }
                } else {
                    let lanes =
                        _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
                    let index = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(stride as i32));
                    for run in runs {
                        let from = source.wrapping_offset(run.offset);
                        section =
                            _mm512_mask_i32gather_ps::<4>(section, run.lanes, index, from.cast());
                    }
                }
                _mm512_storeu_ps(to, section);
            }
        }
    }

    /// Eight lanes, 16 registers.
    pub(in super::super) struct Avx2;

    // SAFETY of all methods: the caller runs with AVX2 and FMA and vouches for the pointers.
    impl Simd for Avx2 {
        type Vector = __m256;
        const LANES: usize = 8;
        const ROWS: usize = 4;

        #[inline(always)]
        unsafe fn splat(value: f32) -> __m256 {
            unsafe { _mm256_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m256 {
            unsafe { _mm256_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(to: *mut f32, vector: __m256) {
            unsafe { _mm256_storeu_ps(to, vector) }
        }

        #[inline(always)]
        unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
    }
}
