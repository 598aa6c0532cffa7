//! Transposing small matrices.

/// Rows and columns of a block that is transposed in registers.
const BLOCK: usize = 4;

/// `to[c * to_step + r] = from[r * from_step + c]` for `rows x columns` elements.
///
/// # Safety
/// `from` must be readable in all rows, and `to` writable in all of its own.
#[inline(always)]
pub(super) unsafe fn transpose(
    from: *const f32,
    from_step: usize,
    [rows, columns]: [usize; 2],
    to: *mut f32,
    to_step: usize,
) {
    let whole = [rows, columns].map(|count| count / BLOCK * BLOCK);
    // SAFETY: all offsets lie within the caller's rows and columns.
    unsafe {
        for row in (0..whole[0]).step_by(BLOCK) {
            for column in (0..whole[1]).step_by(BLOCK) {
                let from = from.add(row * from_step + column);
                block(from, from_step, to.add(column * to_step + row), to_step);
            }
        }
        for row in 0..rows {
            let first = if row < whole[0] { whole[1] } else { 0 };
            for column in first..columns {
                *to.add(column * to_step + row) = *from.add(row * from_step + column);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn block(from: *const f32, from_step: usize, to: *mut f32, to_step: usize) {
    use std::arch::x86_64::*;
    // SAFETY: every x86-64 processor has SSE; the caller vouches for four rows of four elements.
    unsafe {
        let mut rows = [0, 1, 2, 3].map(|row| _mm_loadu_ps(from.add(row * from_step)));
        let [a, b, c, d] = &mut rows;
        _MM_TRANSPOSE4_PS(a, b, c, d);
        for (row, values) in rows.into_iter().enumerate() {
            _mm_storeu_ps(to.add(row * to_step), values);
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
unsafe fn block(from: *const f32, from_step: usize, to: *mut f32, to_step: usize) {
    for row in 0..BLOCK {
        for column in 0..BLOCK {
            // SAFETY: the caller vouches for four rows of four elements.
            unsafe { *to.add(column * to_step + row) = *from.add(row * from_step + column) };
        }
    }
}
