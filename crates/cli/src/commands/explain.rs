//! `kerf explain`: the long text of an error or lint code.

use super::{Context, Outcome, Task};
use crate::args::Shared;
use crate::explain::{self, Topic};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use tensor_core::{Error, ErrorKind, Result};

/// Arguments of `kerf explain`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct ExplainArgs {
    /// A code such as `E0110`; without it, all codes are listed
    code: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    shared: Shared,
}

impl Task for ExplainArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn run(&self, _cx: &Context) -> Result<Outcome> {
        let topics = explain::topics();
        let Some(code) = &self.code else {
            let lines = topics.iter().map(|topic| format!("{}  {}\n", topic.code, topic.title));
            return Ok(Outcome::answer(lines.collect(), json!({ "codes": topics })));
        };
        let topic = find(&topics, code)?;
        let text = format!("{}: {}\n\n{}\n", topic.code, topic.title, topic.text);
        Ok(Outcome::answer(text, json!({ "codes": [topic] })))
    }
}

fn find<'a>(topics: &'a [Topic], code: &str) -> Result<&'a Topic> {
    topics.iter().find(|topic| topic.code.eq_ignore_ascii_case(code)).ok_or_else(|| {
        Error::new(ErrorKind::Invalid, "E0010", format!("unknown code: `{code}`"))
            .hint("`kerf explain` lists all codes")
    })
}
