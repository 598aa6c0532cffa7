//! Threads in place of processes, for what a group computes.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tensor_core::Result;
use tensor_core::group::{Group, Transport};

/// What the members of a group have in common.
#[derive(Debug, Default)]
struct Table {
    state: Mutex<State>,
    turned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    given: Vec<Option<Vec<u8>>>,
    /// What all gave in the last round.
    last: Vec<Vec<u8>>,
    round: u64,
}

#[derive(Debug)]
struct Member {
    rank: usize,
    size: usize,
    table: Arc<Table>,
}

impl Member {
    fn sum<T: Copy + std::ops::AddAssign, const N: usize>(
        &self,
        values: &mut [T],
        to: fn(T) -> [u8; N],
        from: fn([u8; N]) -> T,
    ) -> Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|&value| to(value)).collect();
        for (rank, other) in self.gather(&bytes)?.into_iter().enumerate() {
            assert_eq!(other.len(), bytes.len(), "another number of values");
            for (sum, value) in values.iter_mut().zip(other.chunks_exact(N)) {
                let value = from(value.try_into().unwrap());
                if rank == 0 {
                    *sum = value;
                } else {
                    *sum += value;
                }
            }
        }
        Ok(())
    }
}

impl Transport for Member {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn sum_f32(&self, values: &mut [f32]) -> Result<()> {
        self.sum(values, f32::to_le_bytes, f32::from_le_bytes)
    }

    fn sum_f64(&self, values: &mut [f64]) -> Result<()> {
        self.sum(values, f64::to_le_bytes, f64::from_le_bytes)
    }

    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut state = self.table.state.lock().unwrap();
        let round = state.round;
        state.given.resize(self.size, None);
        state.given[self.rank] = Some(bytes.to_vec());
        if state.given.iter().all(Option::is_some) {
            state.last = std::mem::take(&mut state.given).into_iter().flatten().collect();
            state.round += 1;
            self.table.turned.notify_all();
        }
        while state.round == round {
            let (next, waited) =
                self.table.turned.wait_timeout(state, Duration::from_secs(60)).unwrap();
            assert!(!waited.timed_out(), "the others are not at the same place");
            state = next;
        }
        Ok(state.last.clone())
    }
}

/// Runs the same in `size` threads that are a group, and gives what each found.
pub(crate) fn together<T: Send>(size: usize, run: impl Fn(Group) -> T + Sync) -> Vec<T> {
    let table = Arc::new(Table::default());
    let member = |rank| Group::new(Arc::new(Member { rank, size, table: table.clone() }));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..size)
            .map(|rank| {
                let (run, group) = (&run, member(rank));
                scope.spawn(move || run(group))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}
