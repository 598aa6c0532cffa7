//! A place to write to that keeps nothing.

use std::io::{self, Write};

/// Counts the bytes that are written.
#[derive(Debug, Default)]
pub(crate) struct ByteCount(pub(crate) u64);

impl Write for ByteCount {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0 += buffer.len() as u64;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
