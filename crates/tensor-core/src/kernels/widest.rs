//! Plain loops compiled for the widest vectors of the processor.

use super::simd::{Kernel, Simd, dispatch};

/// Runs a loop over slices with the widest instruction set of this processor.
///
/// The results are the same bits on all of them, since multiplications and additions are never
/// contracted.
pub fn widest(work: impl FnOnce()) {
    dispatch(Work(work));
}

struct Work<F>(F);

impl<F: FnOnce()> Kernel for Work<F> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        (self.0)();
    }
}
