//! How long work reports to its caller, and how the caller stops it.

use crate::{Error, ErrorKind, Result};

/// Receives progress of long work and is asked whether to go on.
///
/// Every method has a default, so that [`Silent`] is an empty implementation. Methods may be called
/// from several threads.
pub trait Progress: Send + Sync {
    /// A stage of `items` items begins; it replaces the stage before.
    fn stage(&self, _name: &str, _items: usize) {}

    /// One item of the stage is done.
    fn item(&self, _name: &str) {}

    /// Something the user should know although the work goes on.
    fn warn(&self, _message: &str) {}

    /// Did the user ask to stop?
    fn is_cancelled(&self) -> bool {
        false
    }

    /// Called between items.
    ///
    /// # Errors
    /// `E0005` of kind [`ErrorKind::Interrupted`] once the user asked to stop.
    fn checkpoint(&self) -> Result<()> {
        if self.is_cancelled() {
            return Err(Error::new(ErrorKind::Interrupted, "E0005", "interrupted"));
        }
        Ok(())
    }
}

/// Reports nothing and never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}
