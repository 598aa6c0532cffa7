//! Was the goal met, and what do the four numbers say?

use super::super::evidence::{Document, Evidence};
use super::super::part::{Block, Kind, Make, Part, Tile};
use super::super::trials;
use super::{list, text};
use crate::units;
use serde_json::Value;
use tensor_core::Result;
use tensor_core::text::counted;

pub(super) const KIND: Kind =
    Kind { id: "verdict", title: "Verdict", make: Make::Alone(make), source: "any run" };

fn make(evidence: &Evidence) -> Result<Option<Part>> {
    let mut part = Part::default();
    let outer = evidence.outer();
    let judged = evidence.judged();
    // A step of something unfinished has goals of its own.
    let is_whole = |document: &&Document| document.step.is_none() || document.step == evidence.best;
    let goals = outer.or(judged.filter(is_whole)).map(goals).unwrap_or_default();
    let failures = failures(evidence);
    let verdict = outer.map(|outer| text(&outer.value, "verdict"));
    let (word, is_met) = match verdict {
        None => ("Not finished: this is what there is so far", None),
        Some("fail") => ("Not every goal was met", Some(false)),
        Some(_) if goals.is_empty() => ("Done; no goal was stated", Some(true)),
        Some(_) => ("Every stated goal was met", Some(true)),
    };
    let mut lines: Vec<(bool, String)> = Vec::new();
    match is_met {
        Some(true) => lines.extend(goals.iter().map(|goal| (true, goal.clone()))),
        _ if !goals.is_empty() => part.lead.push(format!("Asked for: {}.", goals.join("; "))),
        _ => {}
    }
    lines.extend(failures.into_iter().map(|failure| (false, failure)));
    part.blocks.push(Block::Verdict { word: word.to_owned(), is_met, lines });
    if verdict.is_none() {
        part.lead.extend(progress(evidence));
    }
    let tiles = [
        quality(judged, evidence),
        latency(judged),
        size(judged, evidence),
        macs(judged, evidence),
    ];
    let tiles: Vec<Tile> = tiles.into_iter().flatten().collect();
    if !tiles.is_empty() {
        part.blocks.push(Block::Tiles(tiles));
    }
    Ok(Some(part))
}

/// What was asked for, in words.
fn goals(document: &Document) -> Vec<String> {
    /// Keys of settings and goals that are shares, with what they limit.
    const SHARES: [(&str, &str); 9] = [
        ("latency", "at most % of the latency"),
        ("energy", "at most % of the energy"),
        ("size", "at most % of the size"),
        ("macs", "at most % of the multiply-accumulates"),
        ("params", "at most % of the parameters"),
        ("max_drop", "top-1 accuracy falls by at most %"),
        ("assert_max_drop", "top-1 accuracy falls by at most %"),
        ("min_agreement", "the same class for at least % of the samples"),
        ("assert_top1", "top-1 accuracy of at least %"),
    ];
    type Show = fn(f64) -> String;
    const BOUNDS: [(&str, &str, Show); 5] = [
        ("max_latency", "latency of at most", |us| units::milliseconds(us / 1000.0)),
        ("max_energy", "energy of at most", |uj| format!("{uj} \u{b5}J")),
        ("max_size", "a size of at most", |bytes| units::bytes(bytes as u64)),
        ("max_macs", "multiply-accumulates of at most", |macs| units::si(macs as u64)),
        ("max_params", "parameters of at most", |count| units::si(count as u64)),
    ];
    let settings = [&document.value["result"]["goal"], &document.value["settings"]];
    let find = |key: &str| settings.iter().find_map(|table| table[key].as_f64());
    let shares = SHARES
        .iter()
        .filter_map(|(key, words)| Some(words.replacen('%', &units::percent(find(key)?), 1)));
    let bounds = BOUNDS
        .iter()
        .filter_map(|(key, words, show)| Some(format!("{words} {}", show(find(key)?))));
    let sparsity =
        find("sparsity").map(|share| format!("{} of the weights zero", units::percent(share)));
    shares.chain(bounds).chain(sparsity).collect()
}

/// Goals that were not met, as the run says it.
fn failures(evidence: &Evidence) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let outer = evidence.outer().into_iter().chain(evidence.judged());
    for document in outer {
        let result = &document.value["result"];
        for place in [result, &result["proof"], &result["measured"]] {
            for failure in list(place, "failures").iter().filter_map(Value::as_str) {
                if !found.iter().any(|known| known == failure) {
                    found.push(failure.to_owned());
                }
            }
        }
    }
    found
}

/// How far an unfinished run has come.
fn progress(evidence: &Evidence) -> Vec<String> {
    let mut lines = Vec::new();
    for (step, record) in &evidence.records {
        let done = record.entries.len();
        let what = match record.kind.as_str() {
            trials::KIND => counted(evidence.trials().len(), "trial"),
            "recipe" => counted(done, "finished step"),
            "train" => {
                let at =
                    record.entries.last().and_then(|entry| entry["step"].as_u64()).unwrap_or(0);
                format!("{at} training steps, {}", counted(done, "evaluation"))
            }
            "sensitivity" => counted(done, "measured layer"),
            _ => counted(done, "line"),
        };
        lines.push(match step {
            Some(step) => format!("Journal of {step}: {what}."),
            None => format!("Journal: {what}. `kerf resume` goes on with it."),
        });
    }
    lines
}

/// Accuracy, or what stands in its place.
fn quality(document: Option<&Document>, evidence: &Evidence) -> Option<Tile> {
    let name = "Accuracy";
    let fine = |share: f64| format!("{:.2}%", 100.0 * share);
    let document = document?;
    let result = &document.value["result"];
    // `kerf verify` has nothing but a comparison.
    let evaluation = match result["comparison"].is_object() {
        true => result,
        false => &result["proof"]["evaluation"],
    };
    if let Some(output) = list(&evaluation["comparison"], "outputs").first() {
        let samples = evaluation["comparison"]["samples"].as_u64().unwrap_or(0);
        let on = format!("{}, {}", counted(samples, "sample"), text(evaluation, "engine"));
        let top1 = &output["top1"];
        let pair = top1["reference_accuracy"].as_f64().zip(top1["candidate_accuracy"].as_f64());
        if let Some((before, after)) = pair {
            let note = format!("top-1, {:+.2} points on {on}", 100.0 * (after - before));
            return Some(Tile { name, before: Some(fine(before)), after: fine(after), note });
        }
        if let Some(same) = top1["agreement"].as_f64() {
            let note = format!(
                "top-1 agreement with the original on {on}; accuracy was not measured: no labels"
            );
            return Some(Tile { name: "Agreement", before: None, after: fine(same), note });
        }
        if let Some(cosine) = output["cosine"].as_f64() {
            let note = format!(
                "cosine of the outputs on {on}; accuracy was not measured, only output error"
            );
            return Some(Tile {
                name: "Output",
                before: None,
                after: format!("{cosine:.5}"),
                note,
            });
        }
    }
    let kept = &result["training"]["kept"]["evaluation"];
    if let Some(accuracy) = kept["accuracy"].as_f64() {
        let samples = counted(kept["samples"].as_u64().unwrap_or(0), "held-out sample");
        let note = format!("top-1 on {samples}; the original was not measured");
        return Some(Tile { name, before: None, after: fine(accuracy), note });
    }
    let share = |score: &Value| Some(score["right"].as_f64()? / score["of"].as_f64()?.max(1.0));
    if let Some(after) = share(&result["score"]) {
        let before = share(&result["float"]).map(fine);
        let note = format!("top-1 on {} samples, simulated", result["score"]["of"]);
        return Some(Tile { name, before, after: fine(after), note });
    }
    let entries = evidence.trainings().next().map(|(_, record)| &record.entries);
    let last = entries.and_then(|entries| entries.last());
    if let Some(accuracy) = last.and_then(|entry| entry["evaluation"]["accuracy"].as_f64()) {
        let note = "top-1 on the held-out samples, so far".to_owned();
        return Some(Tile { name, before: None, after: fine(accuracy), note });
    }
    let note = "`kerf verify A B --data D` compares outputs".to_owned();
    Some(Tile { name, before: None, after: "not measured".to_owned(), note })
}

fn latency(document: Option<&Document>) -> Option<Tile> {
    let name = "Latency, p50";
    let result = &document?.value["result"];
    let show = |us: f64| units::milliseconds(us / 1000.0);
    let reports = [&result["proof"], result].map(|place| list(place, "latency"));
    let report = reports.into_iter().find_map(|reports| reports.first());
    if let Some(report) = report {
        let [before, after, ..] = list(report, "models") else { return None };
        let (old, new) = (before["latency_us_p50"].as_f64()?, after["latency_us_p50"].as_f64()?);
        let speedup = &after["speedup"];
        let speed =
            match (speedup["median"].as_f64(), speedup["low"].as_f64(), speedup["high"].as_f64()) {
                (Some(median), Some(low), Some(high)) => {
                    format!("{median:.2}\u{d7} as fast (95% {low:.2}\u{2013}{high:.2})")
                }
                _ => format!("{:.2}\u{d7} as fast", old / new),
            };
        let threads = counted(report["threads"].as_u64().unwrap_or(1), "thread");
        let unsteady =
            if list(report, "warnings").is_empty() { "" } else { "; unsteady, see below" };
        let note = format!(
            "{speed}; batch {}, {threads}, {}, {}{unsteady}",
            report["batch"],
            text(report, "engine"),
            text(&report["cpu"], "name")
        );
        return Some(Tile { name, before: Some(show(old)), after: show(new), note });
    }
    let pair = &result["measured"]["latency_us"];
    if let Some((old, new)) = pair[0].as_f64().zip(pair[1].as_f64()) {
        let note = format!("{:.2}\u{d7} as fast", old / new);
        return Some(Tile { name, before: Some(show(old)), after: show(new), note });
    }
    let note = "`kerf bench A --against B` measures it".to_owned();
    Some(Tile { name, before: None, after: "not measured".to_owned(), note })
}

/// A number of the document, or of the models themselves.
fn pair(
    document: Option<&Document>,
    key: &str,
    evidence: &Evidence,
    of: fn(&super::super::models::Found) -> u64,
) -> Option<(u64, u64)> {
    let result = document.map(|document| &document.value["result"]);
    let sizes = result.map(|result| &result["sizes"]);
    let of_sizes = sizes.and_then(|s| s["before"][key].as_u64().zip(s["after"][key].as_u64()));
    let measured = result.map(|result| &result["measured"][key]);
    let of_measured = measured.and_then(|m| m[0].as_u64().zip(m[1].as_u64()));
    let of_models = || Some((of(evidence.before.found()?), of(evidence.after.found()?)));
    of_sizes.or(of_measured).or_else(of_models)
}

fn size(document: Option<&Document>, evidence: &Evidence) -> Option<Tile> {
    let (before, after) = pair(document, "file_bytes", evidence, |found| found.file_bytes)?;
    let deflated = document.and_then(|document| {
        let sizes = &document.value["result"]["sizes"];
        let (old, new) = (&sizes["before"]["deflated_bytes"], &sizes["after"]["deflated_bytes"]);
        Some(format!(
            ", deflated {} \u{2192} {}",
            units::bytes(old.as_u64()?),
            units::bytes(new.as_u64()?)
        ))
    });
    Some(Tile {
        name: "File",
        before: Some(units::bytes(before)),
        after: units::bytes(after),
        note: format!("{} kept{}", units::share(after, before), deflated.unwrap_or_default()),
    })
}

fn macs(document: Option<&Document>, evidence: &Evidence) -> Option<Tile> {
    let (before, after) = pair(document, "macs", evidence, |found| found.network.cost.macs)?;
    let note = match after < before {
        true => format!("{} kept; a count, no measure of speed", units::share(after, before)),
        false => "unchanged".to_owned(),
    };
    Some(Tile { name: "MACs", before: Some(units::si(before)), after: units::si(after), note })
}
