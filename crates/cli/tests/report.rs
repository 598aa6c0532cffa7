//! `kerf report`: pages of runs of every kind, finished or not, and of what is no run.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PREPROCESS, RESNET, TEST, TRAIN, VGG, changed, kerf, root};
use serde_json::Value;
use std::fs;
use std::path::Path;

const BN: &str = "fixtures/models/vgg7_fmnist_bn.onnx";

fn data() -> Vec<&'static str> {
    vec!["--data", TRAIN, "--preprocess", PREPROCESS, "--samples", "64"]
}

fn run(parts: &[&[&str]]) -> common::Run {
    kerf(&parts.concat())
}

/// The report of a run, as its page and its document.
fn report(run: &Path) -> (String, Value) {
    let page = run.parent().unwrap().join("page.html");
    let (run, out) = (run.to_str().unwrap(), page.to_str().unwrap());
    let document = kerf(&["report", run, "-o", out, "--json"]).success().json();
    let page = fs::read_to_string(page).unwrap();
    check(&page);
    (page, document)
}

/// What holds for every page.
fn check(page: &str) {
    assert!(page.starts_with("<!DOCTYPE html>\n<html lang=\"en\">"), "{}", &page[..80]);
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
    for outside in
        ["<script", "http://", "https://", "@import", "@font-face", "url(", "NaN", "inf%"]
    {
        assert!(!page.contains(outside), "{outside}");
    }
    // Everything that opens closes, and identifiers are unique.
    for tag in [
        "section", "figure", "table", "details", "ol", "ul", "li", "tr", "td", "p", "dl", "text",
        "a",
    ] {
        let opened =
            page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    let mut ids: Vec<&str> =
        page.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
    for link in page.split("href=\"#").skip(1) {
        let target = link.split('"').next().unwrap();
        assert!(target.contains('%') || ids.binary_search(&target).is_ok(), "{target}");
    }
    // Every drawing has words, and a table with its numbers.
    for figure in page.split("<figure").skip(1) {
        let figure = figure.split("</figure>").next().unwrap();
        assert!(figure.contains("role=\"img\" aria-label=\"") && figure.contains("<figcaption>"));
        assert!(figure.contains("<table>"), "{figure}");
    }
}

fn parts(document: &Value) -> Vec<&str> {
    let parts = document["result"]["parts"].as_array().unwrap();
    parts.iter().map(|part| part["id"].as_str().unwrap()).collect()
}

fn part<'a>(document: &'a Value, id: &str) -> &'a Value {
    let parts = document["result"]["parts"].as_array().unwrap();
    parts.iter().find(|part| part["id"] == id).unwrap_or_else(|| panic!("no {id} in {document:#}"))
}

/// The rows of the first table of a part.
fn rows(part: &Value) -> &Vec<Value> {
    part["tables"][0]["rows"].as_array().unwrap()
}

#[test]
fn a_prune_by_lasso_shows_layers_paths_and_errors() {
    let folder = tempfile::tempdir().unwrap();
    let (out, place) = (folder.path().join("o.onnx"), folder.path().join("run"));
    let (o, r) = (out.to_str().unwrap(), place.to_str().unwrap());
    let flags = ["--macs", "60%", "--method", "lasso", "--no-bench", "-o", o, "--report", r];
    run(&[&["prune", BN], &data(), &["--eval-data", TEST], &flags]).success();
    let (page, document) = report(&place);
    let expected = [
        "verdict",
        "layers",
        "channels",
        "sensitivity",
        "errors",
        "path",
        "cost",
        "skipped",
        "provenance",
    ];
    assert_eq!(parts(&document), expected);
    assert_eq!(part(&document, "verdict")["verdict"]["met"], true);
    // Channels are those of the files.
    let inspected = kerf(&["inspect", o, "--json"]).success().json();
    let nodes = inspected["result"]["nodes"].as_array().unwrap();
    for row in rows(part(&document, "channels")) {
        let node = nodes.iter().find(|node| node["key"] == row[0]).unwrap();
        let dims = node["output_dims"].as_array().unwrap();
        assert_eq!(row[3], dims[1], "{row}");
    }
    assert!(page.contains("id=\"n-/features/features.0/Conv_output_0\""));
    assert!(page.contains("href=\"#n-/features/features.0/Conv_output_0\""));
    // The path ends with the channels that were wanted.
    let path = &part(&document, "path")["tables"][0];
    let last = path["rows"].as_array().unwrap().last().unwrap();
    let made = fs::read_to_string(place.join("report.json")).unwrap();
    let made: Value = serde_json::from_str(&made).unwrap();
    let layers = made["result"]["pruning"]["layers"].as_array().unwrap();
    let first = layers.iter().find(|layer| !layer["path"].as_array().unwrap().is_empty()).unwrap();
    assert_eq!(last[2], first["channels_after"]);
    for layer in layers {
        assert!(layer["unfitted_error"].as_f64() >= layer["error"].as_f64(), "{layer}");
    }
    // The same run, the same bytes.
    assert_eq!(report(&place).0, page);

    // A changed model is named, and nothing is drawn of it; a missing one, too.
    changed(VGG, &out, |graph| graph.producer.0 = "other".into());
    let again =
        kerf(&["report", r, "-o", folder.path().join("b.html").to_str().unwrap()]).success();
    assert!(again.stderr.contains("has changed since"), "{}", again.stderr);
    fs::remove_file(&out).unwrap();
    let (page, document) = report(&place);
    assert!(page.contains("is not there any more"));
    // The original is still there to be shown.
    assert!(parts(&document).contains(&"layers"));
}

#[test]
fn a_quantization_shows_bits_and_ranges() {
    let folder = tempfile::tempdir().unwrap();
    let (out, place) = (folder.path().join("o.onnx"), folder.path().join("run"));
    let (o, r) = (out.to_str().unwrap(), place.to_str().unwrap());
    run(&[&["quantize", RESNET], &data(), &["-o", o, "--report", r]]).success();
    let (page, document) = report(&place);
    for row in rows(part(&document, "bits")) {
        assert_eq!((&row[2], &row[3]), (&Value::from(8), &Value::from(8)), "{row}");
    }
    let worst = part(&document, "errors")["tables"][1].clone();
    assert_eq!(worst["rows"].as_array().unwrap().len(), 10);
    for row in worst["rows"].as_array().unwrap() {
        assert!(row[3].as_f64() <= row[4].as_f64() && row[7].is_f64(), "{row}");
    }
    assert!(page.contains("W8 A8"));
}

#[test]
fn training_runs_show_terms_schedules_and_what_there_is_so_far() {
    let folder = tempfile::tempdir().unwrap();
    let (out, place) = (folder.path().join("o.onnx"), folder.path().join("run"));
    let (o, r) = (out.to_str().unwrap(), place.to_str().unwrap());
    let train =
        ["finetune", BN, "--steps", "6", "--batch", "16", "--eval-every", "2", "--run", r, "-o", o];
    let more = ["--teacher", BN, "--sparsity", "50%", "--eval-data", TEST];
    run(&[&train, &data(), &more]).success();
    let (_, document) = report(&place);
    let shown = parts(&document);
    assert!(shown.contains(&"schedules") && shown.contains(&"distillation"), "{shown:?}");
    // The terms add up to the loss.
    let terms = &part(&document, "distillation")["tables"][1];
    for row in terms["rows"].as_array().unwrap() {
        let number = |at: usize| row[at].as_f64().unwrap();
        assert!((number(1) - number(2) - number(3)).abs() < 1e-3, "{row}");
    }
    let sparsity = rows(part(&document, "schedules"));
    let last = sparsity.last().unwrap();
    assert!((last[1].as_f64().unwrap() - 50.0).abs() < 1e-9, "{last}");
    assert!((last[2].as_f64().unwrap() - 50.0).abs() < 0.1, "{last}");

    // Without its document and with a torn line it is a run that has not ended.
    fs::remove_file(place.join("report.json")).unwrap();
    let journal = place.join("journal.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, &text[..text.len() - 20]).unwrap();
    let (page, document) = report(&place);
    assert_eq!(part(&document, "verdict")["verdict"]["met"], Value::Null);
    assert!(page.contains("Not finished") && parts(&document).contains(&"schedules"));
    // A damaged journal is no run.
    fs::write(&journal, text.replacen("\"step\":2", "\"step\":", 1)).unwrap();
    let refused = kerf(&["report", r]).exits(2);
    assert!(refused.stderr.contains("error[E0404]"), "{}", refused.stderr);
}

#[test]
fn gates_searches_and_trials_have_their_parts() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (o, gates) = (at("gated.onnx"), at("gates"));
    let flags = ["--macs", "70%", "--steps", "20", "--batch", "16", "--run", &gates, "-o", &o];
    run(&[&["gate", VGG], &data(), &flags]);
    let (_, document) = report(Path::new(&gates));
    assert!(parts(&document).contains(&"gates"), "{:?}", parts(&document));

    let (plan, search) = (at("plan.toml"), at("search"));
    let device = ["--hardware", "bismo-edge", "--latency", "70%", "--sensitivity-samples", "16"];
    let samples = [
        "--data",
        TRAIN,
        "--preprocess",
        PREPROCESS,
        "--calibration",
        "32",
        "--eval-samples",
        "64",
    ];
    run(&[&["search", VGG, "--run", &search, "-o", &plan], &device, &samples]).success();
    let (_, document) = report(Path::new(&search));
    for id in ["bits", "sensitivity", "front"] {
        assert!(parts(&document).contains(&id), "{id} in {:?}", parts(&document));
    }
    let front = rows(part(&document, "front"));
    let names: Vec<&str> = front.iter().filter_map(|row| row[0].as_str()).collect();
    assert_eq!(names, ["8 bits everywhere", "4 bits everywhere", "exact, chosen (chosen)"]);

    let (small, trials) = (at("small.onnx"), at("trials"));
    let goal =
        ["--size", "20%", "--trials", "2", "--hold-out", "64", "--run", &trials, "-o", &small];
    run(&[&["compress", BN], &data(), &goal]);
    let (page, document) = report(Path::new(&trials));
    for id in ["layers", "channels", "bits", "front", "errors"] {
        assert!(parts(&document).contains(&id), "{id} in {:?}", parts(&document));
    }
    assert_eq!(rows(part(&document, "front")).len(), 3);
    assert!(page.contains("best trial"), "{page}");
}

#[test]
fn steps_of_a_recipe_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = folder.path().join("recipe.toml");
    let text = format!(
        "schema = \"kerf.recipe/1\"\nmodel = \"{VGG}\"\n[data]\ndata = \"{TRAIN}\"\npreprocess = \"{PREPROCESS}\"\n\
         samples = 64\n[[step]]\nkind = \"prune\"\nmacs = \"60%\"\nno_bench = true\n[[step]]\nkind = \"quantize\"\n\
         no_bench = true\n[goal]\nsize = \"30%\"\n"
    );
    fs::write(&recipe, text).unwrap();
    let (o, r) = (folder.path().join("o.onnx"), folder.path().join("o.run"));
    kerf(&["run", recipe.to_str().unwrap(), "-o", o.to_str().unwrap()]).success();
    let (_, document) = report(&r);
    for id in ["channels", "bits", "sensitivity", "errors"] {
        assert!(parts(&document).contains(&id), "{id}");
    }
    let names: Vec<String> = part(&document, "errors")["tables"]
        .as_array()
        .unwrap()
        .iter()
        .map(|table| table["name"].to_string())
        .collect();
    assert!(names.iter().any(|name| name.contains("1-prune")), "{names:?}");
    assert!(names.iter().any(|name| name.contains("2-quantize")), "{names:?}");
    // A folder that leads into itself ends.
    #[cfg(unix)]
    {
        fs::remove_dir_all(r.join("2-quantize")).unwrap();
        fs::create_dir(r.join("2-quantize")).unwrap();
        std::os::unix::fs::symlink(&r, r.join("2-quantize/run")).unwrap();
        report(&r);
    }
    // One document is a run, too.
    let single = r.join("1-prune/report.json");
    kerf(&["report", single.to_str().unwrap()]).success();
    check(&fs::read_to_string(r.join("1-prune/report.html")).unwrap());
}

#[test]
fn what_is_no_run_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("empty")).unwrap();
    fs::write(path("text.json"), "no json").unwrap();
    fs::write(path("other.json"), "{\"schema\": \"other/1\"}").unwrap();
    fs::write(
        path("failed.json"),
        "{\"schema\": \"kerf.error/1\", \"error\": {\"message\": \"m\"}}",
    )
    .unwrap();
    fs::create_dir(path("torn")).unwrap();
    fs::write(path("torn/journal.jsonl"), "{\"schema\": \"kerf.jour").unwrap();
    for (name, code) in [
        ("missing", "E0003"),
        ("empty", "E0610"),
        ("text.json", "E0611"),
        ("other.json", "E0611"),
        ("failed.json", "E0611"),
        ("torn", "E0404"),
    ] {
        let run = kerf(&["report", path(name).to_str().unwrap()]).exits(2);
        assert!(run.stderr.starts_with(&format!("error[{code}]: ")), "{name}\n{}", run.stderr);
    }
    // Nothing was written, and what is read is never overwritten.
    assert!(!path("empty/report.html").exists() && !path("text.html").exists());
    let document = kerf(&["explain", "E0610", "--json"]).success().stdout;
    fs::write(path("explained.json"), document).unwrap();
    let it = path("explained.json").display().to_string();
    let refused = kerf(&["report", &it, "-o", &it, "--force"]).exits(2);
    assert!(refused.stderr.contains("E0021"), "{}", refused.stderr);
    fs::write(path("precious.html"), "<p>mine</p>").unwrap();
    let precious = path("precious.html").display().to_string();
    let kept = kerf(&["report", &it, "-o", &precious]).exits(2);
    assert!(kept.stderr.contains("E0020"), "{}", kept.stderr);
    // An earlier report may be replaced.
    for _ in 0..2 {
        kerf(&["report", &it]).success();
    }
    check(&fs::read_to_string(path("explained.html")).unwrap());
    assert!(root().join(RESNET).exists());
}

#[test]
fn names_cannot_leave_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("m.onnx");
    changed(VGG, &model, |graph| {
        graph.nodes[0].name = "</li><script>alert(1)</script>\" onload=\"x".into()
    });
    let place = folder.path().join("run");
    let (m, o) = (model.to_str().unwrap(), folder.path().join("o.onnx"));
    let flags = [
        "--macs",
        "60%",
        "--no-bench",
        "-o",
        o.to_str().unwrap(),
        "--report",
        place.to_str().unwrap(),
    ];
    run(&[&["prune", m], &data(), &flags]).success();
    let (page, _) = report(&place);
    assert!(page.contains("&lt;/li&gt;&lt;script&gt;alert(1)"));
}
