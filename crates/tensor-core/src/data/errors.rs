//! The error codes of this module, each made in one place.

use crate::{Error, ErrorKind};
use std::fmt::Display;
use std::path::Path;

/// Nothing usable under that path.
pub(super) fn not_found(path: &Path, what: impl Display) -> Error {
    Error::new(ErrorKind::Io, "E0201", format!("{}: {what}", path.display()))
}

/// The file is truncated or contradicts itself.
pub(super) fn damaged(path: &Path, what: impl Display) -> Error {
    Error::new(ErrorKind::Invalid, "E0202", format!("{}: {what}", path.display()))
}

/// A valid file with content that is not handled.
pub(super) fn unsupported(path: &Path, what: impl Display) -> Error {
    Error::new(ErrorKind::Unsupported, "E0204", format!("{}: {what}", path.display()))
}

/// Samples do not fit the model input.
pub(super) fn misfit(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, "E0205", message)
}

/// Samples of one set differ in shape.
pub(super) fn mixed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, "E0206", message)
}

/// Labels are wrong.
pub(super) fn labels(path: &Path, what: impl Display) -> Error {
    Error::new(ErrorKind::Invalid, "E0207", format!("{}: {what}", path.display()))
}

/// A value is NaN or infinite.
pub(super) fn not_finite(place: &str, value: f32) -> Error {
    Error::new(ErrorKind::Invalid, "E0208", format!("{place}: contains the value {value}"))
        .hint("remove the sample, or store finite values")
}

/// The path could mean several sets.
pub(super) fn ambiguous(path: &Path, what: impl Display) -> Error {
    Error::new(ErrorKind::Invalid, "E0209", format!("{}: {what}", path.display()))
}

/// A preprocessing setting is wrong.
pub(super) fn preprocessing(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, "E0210", message)
}

/// `3x224x224`, as shapes appear in messages and flags.
pub(super) fn shape_text(dims: &[usize]) -> String {
    let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
    if dims.is_empty() { "scalar".to_owned() } else { dims.join("x") }
}
