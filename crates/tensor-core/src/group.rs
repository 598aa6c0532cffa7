//! Processes that work on one task together, each on its share of the samples.
//!
//! Statistics and gradients are sums over samples, so processes add up theirs and each has what one
//! process alone would have, but for the order of the summation. How they reach each other is a
//! [`Transport`]; the code here and everything that takes a [`Group`] knows nothing of it. All
//! processes of a group call the same operations in the same order.

use crate::Result;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How the processes of a group reach each other. Every operation involves all of them.
pub trait Transport: Debug + Send + Sync {
    /// Which process this is, from 0.
    fn rank(&self) -> usize;

    /// Number of processes, at least 1.
    fn size(&self) -> usize;

    /// Replaces each value by its sum over the processes, added in the order of their ranks. All give
    /// equally many, and all get the same bits.
    ///
    /// # Errors
    /// When a process cannot be reached.
    fn sum_f32(&self, values: &mut [f32]) -> Result<()>;

    /// As [`sum_f32`](Self::sum_f32).
    ///
    /// # Errors
    /// When a process cannot be reached.
    fn sum_f64(&self, values: &mut [f64]) -> Result<()>;

    /// What each process gives, of any length, in the order of their ranks.
    ///
    /// # Errors
    /// When a process cannot be reached.
    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>>;
}

/// This process among those that work together; the default is alone, which costs nothing.
#[derive(Debug, Clone, Default)]
pub struct Group(Option<Arc<Connected>>);

#[derive(Debug)]
struct Connected {
    transport: Arc<dyn Transport>,
    /// Spent in operations of the transport, in nanoseconds.
    spent: AtomicU64,
}

impl Connected {
    fn timed<T>(&self, operation: impl FnOnce(&dyn Transport) -> T) -> T {
        let start = Instant::now();
        let found = operation(&*self.transport);
        let spent = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.spent.fetch_add(spent, Ordering::Relaxed);
        found
    }
}

impl Group {
    /// The processes that a transport connects.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        let spent = AtomicU64::new(0);
        Self((transport.size() > 1).then(|| Arc::new(Connected { transport, spent })))
    }

    /// A process that works alone.
    pub fn alone() -> Self {
        Self(None)
    }

    /// Is there no other process?
    pub fn is_alone(&self) -> bool {
        self.0.is_none()
    }

    /// Is this the process that writes files and speaks?
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Which process this is, from 0.
    pub fn rank(&self) -> usize {
        self.0.as_ref().map_or(0, |connected| connected.transport.rank())
    }

    /// Number of processes.
    pub fn size(&self) -> usize {
        self.0.as_ref().map_or(1, |connected| connected.transport.size())
    }

    /// This process's part of `count` items: in the order of ranks the parts are all items, and their
    /// sizes differ by one at most. The first process has one if there is any.
    pub fn share(&self, count: usize) -> Range<usize> {
        let begin = |rank: usize| (count * rank).div_ceil(self.size());
        begin(self.rank())..begin(self.rank() + 1)
    }

    /// Replaces each value by its sum over the processes.
    ///
    /// # Errors
    /// When a process cannot be reached.
    pub fn sum_f32(&self, values: &mut [f32]) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), |all| all.timed(|transport| transport.sum_f32(values)))
    }

    /// Replaces each value by its sum over the processes.
    ///
    /// # Errors
    /// When a process cannot be reached.
    pub fn sum_f64(&self, values: &mut [f64]) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), |all| all.timed(|transport| transport.sum_f64(values)))
    }

    /// What each process gives, in the order of their ranks.
    ///
    /// # Errors
    /// When a process cannot be reached.
    pub fn gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        match &self.0 {
            Some(all) => all.timed(|transport| transport.gather(&bytes)),
            None => Ok(vec![bytes]),
        }
    }

    /// What the first process makes, on all of them.
    ///
    /// # Errors
    /// What keeps the first process from making it; the others wait for it then, until they end with it.
    pub fn broadcast(&self, make: impl FnOnce() -> Result<Vec<u8>>) -> Result<Vec<u8>> {
        let own = if self.is_first() { make()? } else { Vec::new() };
        Ok(self.gather(own)?.swap_remove(0))
    }

    /// How long this process was in sums and gathers so far, waiting for the others included.
    pub fn spent(&self) -> Duration {
        let spent = |all: &Arc<Connected>| Duration::from_nanos(all.spent.load(Ordering::Relaxed));
        self.0.as_ref().map_or(Duration::ZERO, spent)
    }

    /// Does it hold on any process?
    ///
    /// # Errors
    /// When a process cannot be reached.
    pub fn any(&self, holds: bool) -> Result<bool> {
        let mut count = [f64::from(u8::from(holds))];
        self.sum_f64(&mut count)?;
        Ok(count[0] > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Place(usize, usize);

    impl Transport for Place {
        fn rank(&self) -> usize {
            self.0
        }
        fn size(&self) -> usize {
            self.1
        }
        fn sum_f32(&self, _: &mut [f32]) -> Result<()> {
            Ok(())
        }
        fn sum_f64(&self, _: &mut [f64]) -> Result<()> {
            Ok(())
        }
        fn gather(&self, _: &[u8]) -> Result<Vec<Vec<u8>>> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn shares_are_all_items_in_order() {
        for size in 1..7 {
            for count in 0..20 {
                let mut next = 0;
                for rank in 0..size {
                    let share = Group::new(Arc::new(Place(rank, size))).share(count);
                    assert_eq!(share.start, next);
                    assert!((count / size..=count.div_ceil(size)).contains(&share.len()));
                    assert!(rank > 0 || count == 0 || !share.is_empty());
                    next = share.end;
                }
                assert_eq!(next, count);
            }
        }
        assert!(Group::new(Arc::new(Place(0, 1))).is_alone());
    }
}
