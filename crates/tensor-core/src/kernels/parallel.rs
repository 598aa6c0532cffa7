//! Splitting work over the current rayon pool, scratch memory, and outputs that tasks fill in parts.

use crate::{Error, Result};
use rayon::prelude::*;
use std::cell::RefCell;
use std::marker::PhantomData;

/// Operations below which handing a task to another thread does not pay.
const MIN_WORK: usize = 100_000;

/// Threads of the current pool.
pub(super) fn threads() -> usize {
    rayon::current_num_threads()
}

/// Runs `task` for `0..count`, each of about `work` operations.
pub(super) fn for_each(count: usize, work: usize, task: impl Fn(usize) + Send + Sync) {
    if count < 2 || count.saturating_mul(work) < 2 * MIN_WORK || threads() == 1 {
        (0..count).for_each(task);
        return;
    }
    let least = (MIN_WORK / work.max(1)).max(1);
    (0..count).into_par_iter().with_min_len(least).for_each(task);
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Elements of a cache line.
pub(super) const LINE: usize = 16;

/// Lends `count` elements of this thread's scratch memory, aligned to a cache line, contents
/// arbitrary. `task` must not call this function again.
pub(super) fn with_scratch<T>(count: usize, task: impl FnOnce(&mut [f32]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < count + LINE {
            scratch.resize(count + LINE, 0.0);
        }
        let shift = scratch.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        task(&mut scratch[shift..shift + count])
    })
}

/// An output that tasks fill in disjoint parts.
pub(super) struct Output<'a> {
    start: *mut f32,
    len: usize,
    memory: PhantomData<&'a mut [f32]>,
}

// SAFETY: access goes through `part`, whose caller vouches that parts are disjoint.
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    /// Lets tasks fill memory that is initialized already.
    pub(super) fn over(values: &'a mut [f32]) -> Self {
        Self { start: values.as_mut_ptr(), len: values.len(), memory: PhantomData }
    }

    /// Start of a part of `len` elements.
    ///
    /// # Safety
    /// No two tasks may ask for parts that overlap at the same time, and what the pointer is
    /// used for must stay within the part.
    #[inline(always)]
    pub(super) unsafe fn part(&self, start: usize, len: usize) -> *mut f32 {
        debug_assert!(start + len <= self.len, "part {start}+{len} of {}", self.len);
        // SAFETY: the part lies within the output.
        unsafe { self.start.add(start) }
    }
}

/// Allocates `count` elements and lets `fill` write them all.
///
/// # Safety
/// `fill` must write every element.
///
/// # Errors
/// When the memory cannot be had.
pub(super) unsafe fn filled(count: usize, fill: impl FnOnce(&Output)) -> Result<Vec<f32>> {
    let mut values: Vec<f32> = Vec::new();
    values.try_reserve_exact(count).map_err(|_| {
        Error::invalid(format!("no memory for an output of {count} elements"))
            .hint("use a smaller batch or smaller inputs")
    })?;
    fill(&Output { start: values.as_mut_ptr(), len: count, memory: PhantomData });
    // SAFETY: the capacity is at least `count`, and `fill` wrote every element.
    unsafe { values.set_len(count) };
    Ok(values)
}
