//! Processes connected by MPI.

use mpi::Threading;
use mpi::datatype::{Equivalence, PartitionMut};
use mpi::environment::{self, Universe};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};
use std::ops::AddAssign;
use std::sync::{Arc, Mutex};
use tensor_core::group::{Group, Transport};
use tensor_core::{Error, Result};

/// MPI from its beginning to its end.
static UNIVERSE: Mutex<Option<Universe>> = Mutex::new(None);

/// All processes that were started together; the second time the same ones.
///
/// # Errors
/// When MPI cannot be started.
pub(super) fn group() -> Result<Group> {
    let failed = || Error::internal("MPI cannot be started");
    let mut universe = UNIVERSE.lock().map_err(|_| failed())?;
    if universe.is_none() {
        // One thread at a time calls it, which need not be the first.
        let (made, _) =
            environment::initialize_with_threading(Threading::Serialized).ok_or_else(failed)?;
        *universe = Some(made);
    }
    Ok(Group::new(Arc::new(World)))
}

/// Ends MPI, once every process is here.
pub(super) fn leave() {
    if let Ok(mut universe) = UNIVERSE.lock() {
        drop(universe.take());
    }
}

/// All processes.
///
/// MPI ends the program when an operation fails, so none gives an error.
#[derive(Debug)]
struct World;

/// Values, or bytes of all processes, in one operation: their number has 31 bits.
const MOST: usize = 1 << 26;

impl World {
    fn communicator() -> SimpleCommunicator {
        SimpleCommunicator::world()
    }
}

impl Transport for World {
    fn rank(&self) -> usize {
        usize::try_from(Self::communicator().rank()).unwrap_or_default()
    }

    fn size(&self) -> usize {
        usize::try_from(Self::communicator().size()).unwrap_or(1)
    }

    fn sum_f32(&self, values: &mut [f32]) -> Result<()> {
        sum(values);
        Ok(())
    }

    fn sum_f64(&self, values: &mut [f64]) -> Result<()> {
        sum(values);
        Ok(())
    }

    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let world = Self::communicator();
        let size = self.size();
        let mut lengths = vec![0_u64; size];
        world.all_gather_into(&(bytes.len() as u64), &mut lengths[..]);
        let longest = lengths.iter().copied().max().unwrap_or_default() as usize;
        let piece = MOST / size;
        let mut all = vec![Vec::new(); size];
        for start in (0..longest).step_by(piece) {
            let part = |length: usize| start.min(length)..(start + piece).min(length);
            let counts = lengths.iter().map(|&length| part(length as usize).len());
            let counts: Vec<i32> = counts.map(|count| count as i32).collect();
            let starts = counts.iter().scan(0, |next, count| {
                *next += count;
                Some(*next - count)
            });
            let starts: Vec<i32> = starts.collect();
            let mut got = vec![0_u8; counts.iter().sum::<i32>() as usize];
            let mut parts = PartitionMut::new(&mut got[..], &counts[..], &starts[..]);
            world.all_gather_varcount_into(&bytes[part(bytes.len())], &mut parts);
            let mut rest = got.as_slice();
            for (all, &count) in all.iter_mut().zip(&counts) {
                let (own, others) = rest.split_at(count as usize);
                all.extend_from_slice(own);
                rest = others;
            }
        }
        Ok(all)
    }
}

/// Sums in the order of ranks, which MPI's own reductions do not promise: each process gets a block of
/// the values of all, sums it, and gives it to all.
fn sum<T: Equivalence + AddAssign + Copy + Default>(values: &mut [T]) {
    let world = World::communicator();
    let size = World.size();
    for part in values.chunks_mut(MOST / size) {
        let block = part.len().div_ceil(size);
        let mut whole = part.to_vec();
        whole.resize(block * size, T::default());
        let mut blocks = vec![T::default(); block * size];
        world.all_to_all_into(&whole[..], &mut blocks[..]);
        let (sum, others) = blocks.split_at_mut(block);
        for other in others.chunks_exact(block) {
            for (sum, value) in sum.iter_mut().zip(other) {
                *sum += *value;
            }
        }
        world.all_gather_into(&sum[..], &mut whole[..]);
        part.copy_from_slice(&whole[..part.len()]);
    }
}
