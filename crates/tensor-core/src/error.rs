//! One error type: what went wrong, where, and what to do about it.

use std::fmt;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure an [`Error`] is. The command line maps it to an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input (model, data, parameter) is wrong.
    Invalid,
    /// The input is valid, but asks for something this version does not do.
    Unsupported,
    /// The request is valid but cannot be met, such as a budget below the attainable one.
    Infeasible,
    /// A file could not be read or written.
    Io,
    /// The caller asked for the work to stop.
    Interrupted,
    /// A broken invariant of this library: a bug.
    Internal,
}

/// A failure with its place and a hint.
///
/// `Display` gives one line without the hint, such as
/// ``in node `/conv1` (Conv): weight has 3 input channels, input has 4``.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    kind: ErrorKind,
    code: &'static str,
    node: Option<String>,
    message: String,
    hint: Option<String>,
}

impl Error {
    /// An error with an explicit kind and a stable code such as `E0101`.
    pub fn new(kind: ErrorKind, code: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, code, node: None, message: message.into(), hint: None }))
    }

    /// Wrong input, without a more specific code.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, "E0001", message)
    }

    /// Valid input that this version does not handle.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, "E0002", message)
    }

    /// A broken invariant.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, "E0900", message)
    }

    /// A file that could not be read or written.
    pub fn io(path: &std::path::Path, source: &std::io::Error) -> Self {
        Self::new(ErrorKind::Io, "E0003", format!("{}: {source}", path.display()))
    }

    /// Replaces the code by a more specific one.
    #[must_use]
    pub fn code_is(mut self, code: &'static str) -> Self {
        self.0.code = code;
        self
    }

    /// Names the node, unless an inner frame already did.
    #[must_use]
    pub fn in_node(mut self, node: impl Into<String>) -> Self {
        self.0.node.get_or_insert_with(|| node.into());
        self
    }

    /// Says what to do, unless an inner frame already did.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The stable code, such as `E0101`.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// The node it happened in.
    pub fn node(&self) -> Option<&str> {
        self.0.node.as_deref()
    }

    /// The message without place and hint.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What to do.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = &self.0.node {
            write!(f, "in node {node}: ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::invalid(error.to_string())
    }
}
