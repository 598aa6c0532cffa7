//! Processes that `mpirun` started together: whether this command is one of several, and what they
//! share.

#[cfg(feature = "mpi")]
mod mpi;

use crate::commands::Task;
use crate::interrupt;
use std::time::{Duration, Instant};
use tensor_core::group::Group;
use tensor_core::{Error, ErrorKind, Result};

/// Where launchers tell the number of processes and the rank of each: Open MPI, and those that
/// follow MPICH.
const LAUNCHERS: [[&str; 2]; 2] =
    [["OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"], ["PMI_SIZE", "PMI_RANK"]];

/// Rank and number of the processes that were started together.
fn launched() -> (usize, usize) {
    let number = |name: &str| std::env::var(name).ok()?.parse::<usize>().ok();
    let told = LAUNCHERS.into_iter().find_map(|[size, rank]| Some((number(rank)?, number(size)?)));
    told.filter(|(_, size)| *size > 1).unwrap_or((0, 1))
}

/// The rank of this process, from 0.
pub(crate) fn rank() -> usize {
    launched().0
}

/// Is this the process that writes and speaks?
pub(crate) fn is_first() -> bool {
    rank() == 0
}

/// Joins the processes that share the work of a command.
///
/// # Errors
/// `E0620` when it was started several times, but has no share in the others' work: all of them would
/// do the same, and write the same files.
pub(crate) fn join(task: &dyn Task, command: &str) -> Result<Group> {
    match launched() {
        (_, 1) => Ok(Group::alone()),
        (_, size) if task.is_shared() => connect(size),
        (_, size) => Err(refused(format!("`kerf {command}` was started as {size} processes"))
            .hint(
                "start it once, without `mpirun`; `kerf explain E0620` lists what processes share",
            )),
    }
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::Invalid, "E0620", message)
}

#[cfg(feature = "mpi")]
fn connect(size: usize) -> Result<Group> {
    let group = mpi::group()?;
    match group.size() {
        found if found == size => Ok(group),
        found => Err(refused(format!(
            "{size} processes were started, but the MPI library connects {found}"
        ))
        .hint("start them with the `mpirun` of the library that kerf was built with")),
    }
}

#[cfg(not(feature = "mpi"))]
fn connect(size: usize) -> Result<Group> {
    Err(refused(format!("{size} processes were started, but this kerf cannot connect them"))
        .hint("build it with `cargo build --release --workspace --features kerf-cli/mpi`"))
}

/// Is it this process that has to tell an error? What every process meets, the first one tells, and its
/// end ends the others.
pub(crate) fn is_to_tell() -> bool {
    const GRACE: Duration = Duration::from_secs(2);
    let start = Instant::now();
    while !is_first() && start.elapsed() < GRACE {
        if interrupt::requested() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Takes leave of the other processes, when all of them are done.
pub(crate) fn leave() {
    #[cfg(feature = "mpi")]
    mpi::leave();
}
