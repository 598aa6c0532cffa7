//! What a step of a recipe can be: the commands that make something of a model.

use tensor_core::text::near;
use tensor_core::{Error, ErrorKind, Result};

/// What a step makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    /// A model, with which the next step goes on.
    Model,
    /// Something that later steps may refer to, with the ending of its file.
    Other(&'static str),
}

/// A command that can be a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// The command.
    pub(crate) name: &'static str,
    /// What it makes.
    pub(crate) made: Made,
}

const KINDS: [Kind; 9] = [
    Kind { name: "factor", made: Made::Model },
    Kind { name: "prune", made: Made::Model },
    Kind { name: "gate", made: Made::Model },
    Kind { name: "sparsify", made: Made::Model },
    Kind { name: "train", made: Made::Model },
    Kind { name: "finetune", made: Made::Model },
    Kind { name: "distill", made: Made::Model },
    Kind { name: "quantize", made: Made::Model },
    Kind { name: "search", made: Made::Other("toml") },
];

/// The kind of that name.
///
/// # Errors
/// `E0012` with near names.
pub(crate) fn find(name: &str) -> Result<Kind> {
    KINDS.into_iter().find(|kind| kind.name == name).ok_or_else(|| -> Error {
        let known = near(name, KINDS.iter().map(|kind| kind.name));
        Error::new(ErrorKind::Invalid, "E0012", format!("unknown kind of step: `{name}`"))
            .hint(format!("the nearest kinds are {known}"))
    })
}

/// All kinds.
pub(crate) fn all() -> impl Iterator<Item = Kind> {
    KINDS.into_iter()
}
