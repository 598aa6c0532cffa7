//! `kerf new`: a well-known network with initial weights.

use super::{Context, Outcome, Task};
use crate::args::Shared;
use crate::output;
use crate::table::Table;
use crate::units;
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tensor_core::run::infer;
use tensor_core::zoo::{self, Architecture, Options};
use tensor_core::{Error, ErrorKind, Result, cost, onnx};

/// Arguments of `kerf new`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct NewArgs {
    /// The architecture, such as `resnet20`
    #[arg(required_unless_present = "list")]
    architecture: Option<String>,
    /// List all architectures
    #[arg(long)]
    list: bool,
    /// Number of classes [default: as published]
    #[arg(long, value_name = "N")]
    classes: Option<usize>,
    /// Channels, height and width of the input, such as 1x28x28 [default: as published]
    #[arg(long, value_name = "CxHxW", value_parser = parse_input)]
    input: Option<[usize; 3]>,
    /// Multiplies the channels of every layer but the last
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    width: f64,
    /// Units of each hidden layer of an `mlp` [default: 800]
    #[arg(long, value_name = "N")]
    hidden: Option<usize>,
    /// Share that dropout zeroes during training, where the architecture has a place for it
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    dropout: f64,
    /// Where to write the model
    #[arg(short, long, value_name = "FILE", required_unless_present = "list")]
    output: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    #[serde(flatten)]
    shared: Shared,
}

/// Reads `1x28x28`.
fn parse_input(text: &str) -> std::result::Result<[usize; 3], String> {
    let sides: std::result::Result<Vec<usize>, _> =
        text.split('x').map(|side| side.trim().parse()).collect();
    let sides = sides.ok().and_then(|sides| <[usize; 3]>::try_from(sides).ok());
    sides.ok_or_else(|| "expected channels x height x width, such as `3x224x224`".to_owned())
}

impl Task for NewArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn outputs(&self) -> Vec<output::Target<'_>> {
        let path = self.output.as_deref().filter(|_| !self.list);
        path.map(|path| output::Target::File { path, force: self.force }).into_iter().collect()
    }

    fn run(&self, _cx: &Context) -> Result<Outcome> {
        if self.list {
            return Ok(list());
        }
        let (Some(name), Some(path)) = (&self.architecture, &self.output) else {
            let message = "an architecture and an output are needed";
            return Err(Error::new(ErrorKind::Invalid, "E0010", message));
        };
        let architecture = zoo::architecture(name)?;
        let options = Options {
            classes: self.classes.unwrap_or(architecture.classes),
            input: self.input,
            width: self.width,
            hidden: self.hidden,
            dropout: self.dropout,
            seed: self.shared.seed,
        };
        write(architecture, &options, path)
    }
}

fn write(architecture: &Architecture, options: &Options, path: &Path) -> Result<Outcome> {
    let graph = architecture.build(options)?;
    let cost = cost::cost(&graph, &infer(&graph, &[].into())?)?;
    onnx::write(&graph, path)?;
    let input = options.input.unwrap_or(architecture.input);
    let text = format!(
        "{}: {}\ninput {}, {} classes, {} parameters, {} MACs\nwrote {}\n",
        architecture.name,
        architecture.summary,
        units::dims(&input),
        options.classes,
        units::si(cost.parameters),
        units::si(cost.macs),
        path.display(),
    );
    let result = json!({
        "architecture": architecture.name,
        "input": input,
        "classes": options.classes,
        "parameters": cost.parameters,
        "macs": cost.macs,
        "output": path,
    });
    let mut outcome = Outcome::answer(text, result);
    outcome.hint = Some("the weights are initial: train the model before use".to_owned());
    Ok(outcome)
}

fn list() -> Outcome {
    let mut table = Table::new(&["name", "input", ">classes", "options", "what it is"]);
    let mut entries = Vec::new();
    for architecture in zoo::architectures() {
        let options = options(architecture);
        table.row([
            architecture.name.to_owned(),
            units::dims(&architecture.input),
            architecture.classes.to_string(),
            options.join(" "),
            architecture.summary.to_owned(),
        ]);
        entries.push(json!({
            "name": architecture.name,
            "summary": architecture.summary,
            "input": architecture.input,
            "classes": architecture.classes,
            "options": options,
        }));
    }
    Outcome::answer(table.render(), json!({ "architectures": Value::Array(entries) }))
}

/// The flags that only some architectures take.
fn options(architecture: &Architecture) -> Vec<&'static str> {
    let taken = [
        ("--width", architecture.has_width),
        ("--hidden", architecture.has_hidden),
        ("--dropout", architecture.has_dropout),
    ];
    taken.into_iter().filter(|(_, takes)| *takes).map(|(flag, _)| flag).collect()
}
