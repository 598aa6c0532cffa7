//! `--threads`, for every pool.

use std::sync::atomic::{AtomicBool, Ordering};
use tensor_core::{Error, Result};

/// Have the pools their size?
static IS_SET: AtomicBool = AtomicBool::new(false);

#[cfg(unix)]
/// candle sizes a pool of its own for elementwise operators by this variable, once.
const CANDLE: &str = "CANDLE_NUM_THREADS";

/// Sizes the thread pools.
///
/// Setting a variable of a running process is not safe, so the process starts over with it; on
/// systems without `exec` candle's pool keeps its default size.
///
/// # Errors
/// When the threads cannot be started.
pub(crate) fn set(threads: Option<u16>) -> Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    // Steps of a recipe and resumed commands say it once more; the outermost command decides.
    if IS_SET.load(Ordering::Relaxed) {
        return Ok(());
    }
    #[cfg(unix)]
    if std::env::var_os(CANDLE).is_none() {
        use std::os::unix::process::CommandExt;
        if let Ok(program) = std::env::current_exe() {
            // It returns only when it failed, and then the default size has to do.
            let _ = std::process::Command::new(program)
                .args(std::env::args_os().skip(1))
                .env(CANDLE, threads.to_string())
                .exec();
        }
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.into())
        .build_global()
        .map_err(|error| Error::internal(format!("cannot start {threads} threads: {error}")))?;
    IS_SET.store(true, Ordering::Relaxed);
    Ok(())
}
