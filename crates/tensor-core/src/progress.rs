//! How long work tells its caller where it is, and asks whether to go on.

use crate::{Error, ErrorKind, Result};

/// Watches long work. All methods default to doing nothing.
pub trait Progress: Sync {
    /// A stage begins, with the number of items in it.
    fn stage(&self, _name: &str, _items: usize) {}

    /// An item of the stage is done.
    fn item(&self, _name: &str) {}

    /// `items` more of the stage are done, of which none is worth a line; `state` is how it goes.
    fn advance(&self, _items: usize, _state: &str) {}

    /// A result on the way, such as the accuracy after an epoch.
    fn note(&self, _message: &str) {}

    /// Something the user should know.
    fn warn(&self, _message: &str) {}

    /// Should the work stop?
    fn cancelled(&self) -> bool {
        false
    }
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}

/// Fails when the caller asked to stop.
///
/// # Errors
/// `E0130`, of kind [`ErrorKind::Interrupted`].
pub fn check(progress: &dyn Progress) -> Result<()> {
    if progress.cancelled() { Err(interrupted()) } else { Ok(()) }
}

/// `E0130`: the caller asked to stop.
pub fn interrupted() -> Error {
    Error::new(ErrorKind::Interrupted, "E0130", "interrupted")
}
