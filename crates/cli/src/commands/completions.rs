//! `kerf completions`: what a shell needs to complete commands and flags.

use super::{Context, Outcome, Task};
use crate::args::{Cli, Shared};
use clap::Args;
use clap_complete::{Shell, generate};
use serde::{Serialize, Serializer};
use serde_json::json;
use tensor_core::{Error, Result};

/// Arguments of `kerf completions`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct CompletionsArgs {
    /// The shell; put what is printed where it looks for completions
    #[arg(value_enum)]
    #[serde(serialize_with = "name")]
    shell: Shell,
    #[command(flatten)]
    #[serde(flatten)]
    shared: Shared,
}

fn name<S: Serializer>(shell: &Shell, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.collect_str(shell)
}

impl Task for CompletionsArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn run(&self, _cx: &Context) -> Result<Outcome> {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::parser(), "kerf", &mut script);
        let script =
            String::from_utf8(script).map_err(|error| Error::internal(error.to_string()))?;
        let result = json!({ "shell": self.shell.to_string(), "script": script });
        Ok(Outcome::answer(script, result))
    }
}
