//! Processes whose time and memory are measured.

use anyhow::{Context, Result, bail};
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often the peak memory is read.
const INTERVAL: Duration = Duration::from_millis(10);

/// What was measured of a process.
pub(crate) struct Watched {
    pub(crate) seconds: f64,
    /// Peak of the resident memory, as Linux reports it; 0 elsewhere.
    pub(crate) mebibytes: f64,
    pub(crate) output: String,
}

impl Watched {
    /// Runs a command to its end, which must be successful.
    pub(crate) fn run(command: &mut Command) -> Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let start = Instant::now();
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        let mut pipe = child.stdout.take().context("a pipe")?;
        let reader = thread::spawn(move || {
            let mut text = String::new();
            pipe.read_to_string(&mut text).map(|_| text)
        });
        let mut mebibytes = 0.0_f64;
        let status = loop {
            mebibytes = mebibytes.max(peak(child.id()).unwrap_or(0.0));
            if let Some(status) = child.try_wait()? {
                break status;
            }
            thread::sleep(INTERVAL);
        };
        let seconds = start.elapsed().as_secs_f64();
        if !status.success() {
            bail!("{command:?} ended with {status}");
        }
        let output = reader.join().map_err(|_| anyhow::anyhow!("reading a pipe"))??;
        Ok(Self { seconds, mebibytes, output })
    }
}

/// The high-water mark of a process's resident memory, in MiB.
fn peak(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kibibytes| kibibytes / 1024.0)
}
