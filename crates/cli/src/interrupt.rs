//! Ctrl-C: the first one asks running work to stop, the second one ends the process.

use std::sync::atomic::{AtomicBool, Ordering};

static CANCELLED: AtomicBool = AtomicBool::new(false);

/// Installs the handler. Without it Ctrl-C still works, only less politely.
pub(crate) fn install() {
    let handler = || {
        if CANCELLED.swap(true, Ordering::SeqCst) {
            kill();
        }
    };
    // Fails only when a handler exists already.
    let _ = ctrlc::set_handler(handler);
}

/// Was Ctrl-C pressed?
pub(crate) fn requested() -> bool {
    CANCELLED.load(Ordering::SeqCst)
}

#[expect(clippy::exit, reason = "the handler's thread cannot return a code from main")]
fn kill() {
    std::process::exit(130);
}
