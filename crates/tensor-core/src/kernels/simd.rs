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

    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// The larger of a bound and a value; the value when either is NaN.
    unsafe fn at_least(bound: Self::Vector, value: Self::Vector) -> Self::Vector;
    /// The smaller of a bound and a value; the value when either is NaN.
    unsafe fn at_most(bound: Self::Vector, value: Self::Vector) -> Self::Vector;
    /// Loads the first `count` lanes, fewer than all; the others are zero.
    unsafe fn load_first(from: *const f32, count: usize) -> Self::Vector;
    /// Stores the first `count` lanes, fewer than all.
    unsafe fn store_first(to: *mut f32, vector: Self::Vector, count: usize);

    /// Loads lane `l` from element `l * stride`; may read up to `LANES * stride` elements.
    #[inline(always)]
    unsafe fn load_every(from: *const f32, stride: usize) -> Self::Vector {
        let mut lanes = [0.0_f32; SECTION];
        for (i, lane) in lanes.iter_mut().enumerate().take(Self::LANES) {
            // SAFETY: the caller vouches for the elements.
            *lane = unsafe { *from.add(i * stride) };
        }
        // SAFETY: a vector is at most a section long.
        unsafe { Self::load(lanes.as_ptr()) }
    }

    /// Fills one section of `fill.rows` rows.
    ///
    /// # Safety
    /// As the trait; every lane that a run covers must be readable in every row, and [`SECTION`]
    /// elements writable at the start of every row.
    #[inline(always)]
    unsafe fn fill_sections(fill: Fill) {
        for row in 0..fill.rows {
            // SAFETY: the caller vouches for the rows and the covered lanes.
            unsafe {
                let to = fill.to.add(row * fill.to_step);
                std::ptr::write_bytes(to, 0, SECTION);
                for run in fill.runs {
                    let from = fill.source.wrapping_add(row * fill.source_step);
                    let from = from.wrapping_offset(run.offset);
                    let first = run.lanes.trailing_zeros() as usize;
                    for lane in first..first + run.lanes.count_ones() as usize {
                        *to.add(lane) = *from.wrapping_add(lane * fill.stride);
                    }
                }
            }
        }
    }
}

/// Sections to fill: in each row, lane `l` of a run becomes `source[run.offset + l * stride]`, and
/// lanes of no run become zero.
#[derive(Clone, Copy)]
pub(super) struct Fill<'a> {
    pub(super) runs: &'a [Run],
    pub(super) stride: usize,
    pub(super) rows: usize,
    pub(super) source: *const f32,
    /// Elements between the sources of two rows.
    pub(super) source_step: usize,
    pub(super) to: *mut f32,
    /// Elements between two rows.
    pub(super) to_step: usize,
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

/// Instruction sets, from the narrowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Plain Rust.
    Portable,
    /// AVX2 with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// The widest level of this processor.
    pub(super) fn detected() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Self::Avx2;
            }
        }
        Self::Portable
    }

    /// The next narrower level.
    #[cfg(test)]
    pub(super) fn below(self) -> Option<Self> {
        match self {
            Self::Portable => None,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Some(Self::Portable),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Some(Self::Avx2),
        }
    }
}

#[cfg(test)]
thread_local! {
    /// The widest level that kernels on this thread may use.
    pub(super) static LIMIT: std::cell::Cell<Option<Level>> = const { std::cell::Cell::new(None) };
}

/// Runs a kernel with the widest vectors of this processor.
pub(super) fn dispatch<K: Kernel>(kernel: K) {
    let level = Level::detected();
    #[cfg(test)]
    let level = LIMIT.get().map_or(level, |limit| level.min(limit));
    // SAFETY: the level was detected, and a processor has all levels below its own.
    unsafe {
        match level {
            Level::Portable => kernel.run::<Portable>(),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => x86::run_avx2(kernel),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => x86::run_avx512(kernel),
        }
    }
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

    #[inline(always)]
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|lane| a[lane] + b[lane])
    }

    #[inline(always)]
    unsafe fn at_least(bound: [f32; 4], value: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| if bound[i] > value[i] { bound[i] } else { value[i] })
    }

    #[inline(always)]
    unsafe fn at_most(bound: [f32; 4], value: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| if bound[i] < value[i] { bound[i] } else { value[i] })
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> [f32; 4] {
        // SAFETY: the caller vouches for `count` elements.
        std::array::from_fn(|lane| if lane < count { unsafe { *from.add(lane) } } else { 0.0 })
    }

    #[inline(always)]
    unsafe fn store_first(to: *mut f32, vector: [f32; 4], count: usize) {
        for (lane, value) in vector.into_iter().enumerate().take(count) {
            // SAFETY: the caller vouches for `count` elements.
            unsafe { to.add(lane).write(value) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Fill, Kernel, Simd};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn run_avx512<K: Kernel>(kernel: K) {
        // SAFETY: this function has AVX-512.
        unsafe { kernel.run::<Avx512>() }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn run_avx2<K: Kernel>(kernel: K) {
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
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn at_least(bound: __m512, value: __m512) -> __m512 {
            // Of a NaN and another operand, the instruction returns the second.
            unsafe { _mm512_max_ps(bound, value) }
        }

        #[inline(always)]
        unsafe fn at_most(bound: __m512, value: __m512) -> __m512 {
            unsafe { _mm512_min_ps(bound, value) }
        }

        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> __m512 {
            unsafe { _mm512_maskz_loadu_ps((1 << count) - 1, from) }
        }

        #[inline(always)]
        unsafe fn store_first(to: *mut f32, vector: __m512, count: usize) {
            unsafe { _mm512_mask_storeu_ps(to, (1 << count) - 1, vector) }
        }

        #[inline(always)]
        unsafe fn load_every(from: *const f32, stride: usize) -> __m512 {
            // SAFETY: as the caller.
            unsafe {
                match stride {
                    1 => _mm512_loadu_ps(from),
                    2 => even_lanes(from, u16::MAX),
                    _ => _mm512_i32gather_ps::<4>(spaced(stride), from.cast()),
                }
            }
        }

        #[inline(always)]
        unsafe fn fill_sections(fill: Fill) {
            // SAFETY: as the caller; masked loads touch covered lanes only.
            unsafe {
                match (fill.stride, fill.runs.len()) {
                    (1, 0) => fill_few::<0>(fill),
                    (1, 1) => fill_few::<1>(fill),
                    (1, 2) => fill_few::<2>(fill),
                    (1, 3) => fill_few::<3>(fill),
                    (1, 4) => fill_few::<4>(fill),
                    (2, _) => fill_any(fill, |from, lanes| even_lanes(from, lanes)),
                    (1, _) => fill_any(fill, |from, lanes| _mm512_maskz_loadu_ps(lanes, from)),
                    (stride, _) => {
                        let index = spaced(stride);
                        fill_any(fill, |from, lanes| {
                            let zero = _mm512_setzero_ps();
                            _mm512_mask_i32gather_ps::<4>(zero, lanes, index, from.cast())
                        });
                    }
                }
            }
        }
    }

    /// Lane `l` is `l * stride`.
    #[inline(always)]
    unsafe fn spaced(stride: usize) -> __m512i {
        // SAFETY: the caller has AVX-512.
        unsafe {
            let lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
            _mm512_mullo_epi32(lanes, _mm512_set1_epi32(stride as i32))
        }
    }

    /// Sections of `N` runs of neighbouring elements.
    #[inline(always)]
    unsafe fn fill_few<const N: usize>(fill: Fill) {
        let mut from = [fill.source; N];
        let mut lanes = [0; N];
        for (i, run) in fill.runs.iter().enumerate().take(N) {
            from[i] = fill.source.wrapping_offset(run.offset);
            lanes[i] = run.lanes;
        }
        for row in 0..fill.rows {
            // SAFETY: the caller vouches for the covered lanes and the section in each row.
            unsafe {
                let mut section = _mm512_setzero_ps();
                for (from, lanes) in from.iter().zip(lanes) {
                    let from = from.wrapping_add(row * fill.source_step);
                    section = _mm512_mask_loadu_ps(section, lanes, from);
                }
                _mm512_storeu_ps(fill.to.add(row * fill.to_step), section);
            }
        }
    }

    /// Sections of any number of runs, each read by `load`.
    #[inline(always)]
    unsafe fn fill_any(fill: Fill, load: impl Fn(*const f32, u16) -> __m512) {
        for row in 0..fill.rows {
            let from = fill.source.wrapping_add(row * fill.source_step);
            // SAFETY: the caller vouches for the covered lanes and the section in each row.
            unsafe {
                let mut section = _mm512_setzero_ps();
                for run in fill.runs {
                    let elements = load(from.wrapping_offset(run.offset), run.lanes);
                    section = _mm512_mask_mov_ps(section, run.lanes, elements);
                }
                _mm512_storeu_ps(fill.to.add(row * fill.to_step), section);
            }
        }
    }

    /// Elements `2 l` of the covered lanes `l`.
    #[inline(always)]
    unsafe fn even_lanes(from: *const f32, lanes: u16) -> __m512 {
        // Bit `2 l` for each lane `l`.
        let mut spread = u32::from(lanes);
        spread = (spread | spread << 8) & 0x00ff_00ff;
        spread = (spread | spread << 4) & 0x0f0f_0f0f;
        spread = (spread | spread << 2) & 0x3333_3333;
        spread = (spread | spread << 1) & 0x5555_5555;
        // SAFETY: only elements of covered lanes are touched.
        unsafe {
            let low = _mm512_maskz_loadu_ps(spread as u16, from);
            let high = _mm512_maskz_loadu_ps((spread >> 16) as u16, from.wrapping_add(16));
            let even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
            _mm512_permutex2var_ps(low, even, high)
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

        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_add_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn at_least(bound: __m256, value: __m256) -> __m256 {
            unsafe { _mm256_max_ps(bound, value) }
        }

        #[inline(always)]
        unsafe fn at_most(bound: __m256, value: __m256) -> __m256 {
            unsafe { _mm256_min_ps(bound, value) }
        }

        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> __m256 {
            let mut lanes = [0.0_f32; 8];
            unsafe {
                std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count);
                _mm256_loadu_ps(lanes.as_ptr())
            }
        }

        #[inline(always)]
        unsafe fn store_first(to: *mut f32, vector: __m256, count: usize) {
            let mut lanes = [0.0_f32; 8];
            unsafe {
                _mm256_storeu_ps(lanes.as_mut_ptr(), vector);
                std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count);
            }
        }
    }
}
