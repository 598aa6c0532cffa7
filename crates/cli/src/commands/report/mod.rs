//! `kerf report`: one HTML file of what a run did, and the same data as one document.

mod evidence;
mod html;
mod models;
mod part;
mod parts;
mod reader;
mod svg;
mod trials;

use super::{Context, Outcome, Task};
use crate::args::Shared;
use crate::output::{self, Target};
use clap::Args;
use evidence::Evidence;
use html::Heading;
use models::Sought;
use part::{Kind, Make, Part};
use parts::PARTS;
use serde::Serialize;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tensor_core::files::write_whole;
use tensor_core::text::counted;
use tensor_core::{Error, ErrorKind, Result};

/// Arguments of `kerf report`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct ReportArgs {
    /// The folder of a run (`--run`, `--report`), also of an unfinished one, or a JSON document of a command
    run: PathBuf,
    /// Where the page goes [default: report.html in the folder, or beside the document]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace an existing file that is no report
    #[arg(long)]
    #[serde(skip)]
    force: bool,
    #[command(flatten)]
    #[serde(flatten)]
    shared: Shared,
}

impl Task for ReportArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn run(&self, cx: &Context) -> Result<Outcome> {
        let evidence = Evidence::read(&self.run)?;
        let output = self.output();
        self.check(&output, &evidence)?;
        for lost in [&evidence.before, &evidence.after] {
            if let Sought::Lost(why) = lost {
                cx.console.warn(why);
            }
        }
        let (parts, missing) = collect(&evidence)?;
        let heading = heading(&evidence, &self.run);
        let page = html::page(&heading, &parts, &parts::anchors(&evidence));
        write_whole(&output, |part| fs::write(part, &page))?;
        let titles =
            |kinds: &[&Kind]| kinds.iter().map(|kind| kind.title).collect::<Vec<_>>().join(", ");
        let shown: Vec<&Kind> = parts.iter().map(|(kind, _)| *kind).collect();
        let mut text = format!(
            "{}  {}\n{}: {}\n",
            heading.title,
            output.display(),
            counted(parts.len(), "part"),
            titles(&shown)
        );
        if !missing.is_empty() {
            text.push_str(&format!(
                "without data: {} (the page says what would give it)\n",
                titles(&missing)
            ));
        }
        Ok(Outcome::answer(text, document(&heading, &output, &parts, &missing)))
    }
}

impl ReportArgs {
    fn output(&self) -> PathBuf {
        let beside = || match self.run.is_dir() {
            true => self.run.join("report.html"),
            false => self.run.with_extension("html"),
        };
        self.output.clone().unwrap_or_else(beside)
    }

    /// An earlier report may be replaced; what was read may not.
    fn check(&self, output: &Path, evidence: &Evidence) -> Result<()> {
        let mut read: Vec<&Path> = evidence.files.iter().map(PathBuf::as_path).collect();
        let models = [&evidence.before, &evidence.after];
        read.extend(models.into_iter().filter_map(Sought::found).map(|found| found.path.as_path()));
        let force = self.force || is_report(output);
        output::check(Target::File { path: output, force }, &read)?;
        let is_page = output.extension().is_some_and(|ending| ending == "html" || ending == "htm");
        match is_page || !output.exists() {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Invalid,
                "E0022",
                format!("cannot write {}: it exists and is no HTML", output.display()),
            )
            .hint("give a name that ends in `.html`")),
        }
    }
}

/// Is there a report at this place?
fn is_report(path: &Path) -> bool {
    let text = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&text[..text.len().min(1000)])
        .contains("name=\"generator\" content=\"kerf ")
}

/// A part with its kind.
type Made = (&'static Kind, Part);

/// All parts that the run has data for, and the kinds of the others.
fn collect(evidence: &Evidence) -> Result<(Vec<Made>, Vec<&'static Kind>)> {
    let (mut made, mut missing) = (Vec::new(), Vec::new());
    for kind in PARTS {
        let Make::Alone(make) = kind.make else { continue };
        match make(evidence)? {
            Some(part) => made.push((kind, part)),
            None => missing.push(kind),
        }
    }
    for kind in PARTS {
        let Make::Behind(make) = kind.make else { continue };
        made.extend(make(evidence, &missing)?.map(|part| (kind, part)));
    }
    let place = |kind: &Kind| PARTS.iter().position(|known| known.id == kind.id);
    made.sort_by_key(|(kind, _)| place(kind));
    Ok((made, missing))
}

fn heading(evidence: &Evidence, run: &Path) -> Heading {
    let name = |sought: &Sought| sought.found().map(|found| super::model::file_name(&found.path));
    let first = evidence.documents.first();
    let named = |key: &str, value: Option<&Value>| {
        let path = value.and_then(|value| value[key]["path"].as_str());
        path.map(|path| super::model::file_name(Path::new(path)))
    };
    let before = name(&evidence.before).or_else(|| named("input", first.map(|d| &d.value)));
    let result = evidence.outer().map(|outer| &outer.value["result"]);
    let after = named("output", result).or_else(|| name(&evidence.after));
    let title = match (before, after) {
        (Some(before), Some(after)) => format!("{before} \u{2192} {after}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => super::model::file_name(run),
    };
    let of_document = evidence.outer().map(evidence::Document::command);
    let of_journal = evidence.records.first().map(|(_, record)| record.kind.as_str());
    let kind = of_document.filter(|command| !command.is_empty()).or(of_journal).unwrap_or("run");
    let state = if evidence.outer().is_some() { "" } else { ", not finished" };
    let best = evidence.best.as_ref().map_or(String::new(), |best| format!(", best trial {best}"));
    Heading { title, subtitle: format!("kerf {kind}{state}{best}") }
}

fn document(heading: &Heading, output: &Path, parts: &[Made], missing: &[&Kind]) -> Value {
    let absent =
        |kind: &&Kind| json!({ "id": kind.id, "title": kind.title, "source": kind.source });
    json!({
        "title": heading.title,
        "output": { "path": output },
        "parts": parts.iter().map(|(kind, part)| part.document(kind)).collect::<Vec<_>>(),
        "missing": missing.iter().map(absent).collect::<Vec<_>>(),
    })
}
