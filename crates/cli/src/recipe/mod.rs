//! Recipes: several commands, one after the other, each with the model that the one before made.
//!
//! A recipe is TOML. Its keys are the flags of the commands, with `_` for `-`:
//!
//! ```toml
//! schema = "kerf.recipe/1"
//! model  = "resnet18.onnx"
//! output = "small.onnx"
//! seed   = 0
//!
//! [data]                   # every step takes those of these that are flags of it
//! data      = "calibration/"
//! eval_data = "validation/"
//!
//! [[step]]
//! kind    = "gate"
//! macs    = "50%"
//! teacher = "@model"       # the original; `@NAME` is what an earlier step made
//!
//! [[step]]
//! kind = "quantize"
//!
//! [goal]                   # of the last model against the first
//! max_drop = "0.5%"
//! latency  = "50%"
//! ```

mod flags;
mod kind;
mod step;

pub(crate) use flags::{flags_of, given, parsed};
pub(crate) use kind::Made;
pub(crate) use step::{Call, Place, Step};

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tensor_core::{Error, ErrorKind, Result};

/// Schema of a recipe.
const SCHEMA: &str = "kerf.recipe/1";

/// Keys and values of flags.
pub(crate) type Table = toml::Table;

/// A recipe as it is in its file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recipe {
    /// [`SCHEMA`].
    schema: String,
    /// The model to begin with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<PathBuf>,
    /// Where the result goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<PathBuf>,
    /// Seed of every step that has none of its own.
    #[serde(default)]
    pub(crate) seed: u64,
    /// Flags of all steps that have them.
    #[serde(default)]
    pub(crate) data: Table,
    /// What is to be done, in order.
    #[serde(default, rename = "step")]
    steps: Vec<Table>,
    /// What the result must reach.
    #[serde(default)]
    pub(crate) goal: Table,
}

impl Recipe {
    /// Reads a recipe.
    ///
    /// # Errors
    /// `E0011` for a key that there is not, `E0012` when it is no recipe of this version; `E0003`
    /// when it cannot be read.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, &error))?;
        let recipe: Self = toml::from_str(&text).map_err(|error| {
            let code = if error.message().starts_with("unknown field") { "E0011" } else { "E0012" };
            let error = error.to_string();
            Error::new(
                ErrorKind::Invalid,
                code,
                format!("{}: {}", path.display(), error.trim_end()),
            )
            .hint("`kerf explain E0012` shows a recipe")
        })?;
        if recipe.schema != SCHEMA {
            let message =
                format!("{}: schema `{}` is not `{SCHEMA}`", path.display(), recipe.schema);
            return Err(invalid(message));
        }
        Ok(recipe)
    }

    /// A recipe of these steps, each a kind and its flags.
    pub(crate) fn new(seed: u64, data: Table, steps: Vec<Table>, goal: Table) -> Self {
        Self { schema: SCHEMA.to_owned(), model: None, output: None, seed, data, steps, goal }
    }

    /// The same steps from another model to another file.
    pub(crate) fn between(&self, model: &Path, output: &Path) -> Self {
        let (model, output) = (Some(model.to_owned()), Some(output.to_owned()));
        Self { model, output, ..self.clone() }
    }

    /// The recipe as a file holds it.
    pub(crate) fn text(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| Error::internal(error.to_string()))
    }

    /// Its steps, checked as far as that is possible without running them.
    ///
    /// # Errors
    /// `E0011` for a key that there is not, `E0012` for a value that does not fit, with the step.
    pub(crate) fn steps(&self) -> Result<Vec<Step>> {
        if self.steps.is_empty() {
            return Err(invalid("the recipe has no steps".to_owned()));
        }
        flags::check_data(&self.data)?;
        let mut steps: Vec<Step> = Vec::new();
        for (at, table) in self.steps.iter().enumerate() {
            let step = Step::new(at + 1, table, self, &steps)?;
            steps.push(step);
        }
        Ok(steps)
    }
}

/// The recipe cannot be used.
fn invalid(message: String) -> Error {
    Error::new(ErrorKind::Invalid, "E0012", message).hint("`kerf explain E0012` shows a recipe")
}
