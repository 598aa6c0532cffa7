//! `kerf run`: several commands, one after the other.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{command, kerf};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::Duration;

const DATA: &str = r#"
[data]
data = "fixtures/data/train-1k-images-idx3-ubyte.gz"
eval_data = "fixtures/data/t10k-1k-images-idx3-ubyte.gz"
preprocess = "fixtures/preprocess/fmnist.json"
samples = 64
"#;

const STEPS: &str = r#"
[[step]]
kind = "prune"
macs = "60%"
no_bench = true

[[step]]
kind = "finetune"
steps = 4
batch = 32
teacher = "@model"
checkpoint_every = 1

[[step]]
name = "int8"
kind = "quantize"
no_bench = true
"#;

/// Writes a recipe with these parts.
fn recipe(folder: &Path, parts: &[&str]) -> PathBuf {
    let path = folder.join("recipe.toml");
    let head = "schema = \"kerf.recipe/1\"\nmodel = \"fixtures/models/vgg7_fmnist_bn.onnx\"\n";
    fs::write(&path, format!("{head}{}", parts.concat())).unwrap();
    path
}

fn arguments(recipe: &Path, output: &Path, run: &Path) -> Vec<String> {
    let text = |path: &Path| path.display().to_string();
    let args = ["run", &text(recipe), "-o", &text(output), "--run", &text(run)];
    args.map(str::to_owned).to_vec()
}

fn run(arguments: &[String], more: &[&str]) -> common::Run {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(more.to_vec()).collect();
    kerf(&arguments)
}

#[test]
fn steps_follow_each_other_and_the_result_is_judged() {
    let folder = tempfile::tempdir().unwrap();
    let goal =
        "[goal]\nsize = \"25%\"\nmacs = \"60%\"\nmax_drop = \"40%\"\nmin_agreement = \"40%\"\n";
    let path = recipe(folder.path(), &[DATA, STEPS, goal]);
    let (output, place) = (folder.path().join("small.onnx"), folder.path().join("run"));
    let args = arguments(&path, &output, &place);
    let document = run(&args, &["--json"]).success().json();
    assert_eq!(document["verdict"], "pass");
    let steps = document["result"]["steps"].as_array().unwrap();
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(names, ["1-prune", "2-finetune", "int8"]);
    let sizes = &document["result"]["sizes"];
    let bytes = |which: &str| sizes[which]["file_bytes"].as_u64().unwrap();
    assert!(bytes("after") * 4 < bytes("before"), "{sizes}");
    assert_eq!(bytes("after"), fs::metadata(&output).unwrap().len());
    // The student was taught by the original, not by what pruning left of it.
    let tuned = fs::read_to_string(place.join("2-finetune/report.json")).unwrap();
    let tuned: serde_json::Value = serde_json::from_str(&tuned).unwrap();
    let teacher = tuned["settings"]["teacher"].to_string();
    assert!(teacher.contains("vgg7_fmnist_bn.onnx"), "{teacher}");
    assert!(tuned["input"]["path"].as_str().unwrap().ends_with("1-prune/prune.onnx"));

    // What is done is not done again, and the recipe in the folder says the same.
    let first = fs::read(&output).unwrap();
    let journal = fs::read_to_string(place.join("journal.jsonl")).unwrap();
    run(&args, &[]).success();
    assert_eq!(fs::read_to_string(place.join("journal.jsonl")).unwrap(), journal);
    assert_eq!(fs::read(&output).unwrap(), first);
    let again = arguments(&place.join("recipe.toml"), &folder.path().join("again.onnx"), &place);
    run(&again, &[]).success();
    assert_eq!(fs::read(folder.path().join("again.onnx")).unwrap(), first);

    // Another input is refused by name.
    let changed = STEPS.replace("60%", "61%");
    let other = recipe(folder.path(), &[DATA, &changed, goal]);
    let refused = run(&arguments(&other, &output, &place), &["--force"]).exits(2);
    assert!(refused.stderr.contains("E0403"), "{}", refused.stderr);
    assert!(refused.stderr.contains("1-prune.flags.macs"), "{}", refused.stderr);
}

fn start(arguments: &[String]) -> Child {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut command = command(&arguments);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    command.spawn().unwrap()
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = recipe(folder.path(), &[DATA, STEPS]);
    let whole = folder.path().join("whole.onnx");
    run(&arguments(&path, &whole, &folder.path().join("whole")), &[]).success();
    let killed = folder.path().join("killed.onnx");
    let args = arguments(&path, &killed, &folder.path().join("killed"));
    for wait in [300, 900, 1700] {
        let mut child = start(&args);
        thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    run(&args, &[]).success();
    assert_eq!(fs::read(&killed).unwrap(), fs::read(&whole).unwrap());
}

#[test]
fn goals_that_are_not_met_end_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let step = "[[step]]\nkind = \"quantize\"\nno_bench = true\n";
    let goal = "[goal]\nsize = \"10%\"\nmax_latency = \"1us\"\nmin_agreement = \"100%\"\n";
    let path = recipe(folder.path(), &[DATA, step, goal]);
    let (output, place) = (folder.path().join("small.onnx"), folder.path().join("run"));
    let ended = run(&arguments(&path, &output, &place), &[]).exits(1);
    for part in ["not met  the size of the file: ", "not met  the latency: ", "more than 171 KiB"] {
        assert!(ended.stdout.contains(part), "{part} in {}", ended.stdout);
    }
    assert!(output.is_file());

    // A step that misses a goal of its own is the last one.
    let step = "[[step]]\nkind = \"finetune\"\nsteps = 1\nassert_top1 = \"99%\"\n";
    let path = recipe(folder.path(), &[DATA, step, STEPS]);
    let (output, place) = (folder.path().join("none.onnx"), folder.path().join("stopped"));
    let ended = run(&arguments(&path, &output, &place), &[]).exits(1);
    assert!(ended.stdout.contains("not met  step `1-finetune`"), "{}", ended.stdout);
    assert!(!output.exists() && !place.join("2-prune").exists());
}

#[test]
fn a_plan_that_was_searched_is_handed_on() {
    let folder = tempfile::tempdir().unwrap();
    let steps = "[[step]]\nkind = \"search\"\nhardware = \"size\"\nsize = \"80%\"\n\
                 [[step]]\nkind = \"quantize\"\nplan = \"@1-search\"\nno_bench = true\n";
    let path = recipe(folder.path(), &[DATA, steps]);
    let (output, place) = (folder.path().join("small.onnx"), folder.path().join("run"));
    let args = arguments(&path, &output, &place);
    let plan = run(&args, &["--dry-run"]).success().stdout;
    assert!(plan.contains("quantize") && plan.contains("1-search/search.toml"), "{plan}");
    assert!(!place.exists());
    run(&args, &[]).success();
    let plan = fs::read_to_string(place.join("1-search/search.toml")).unwrap();
    assert!(plan.contains("kerf.plan/1"), "{plan}");
}

#[test]
fn what_is_wrong_is_named_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let (output, place) = (folder.path().join("small.onnx"), folder.path().join("run"));
    let prune = "[[step]]\nkind = \"prune\"\n";
    for (parts, code, part) in [
        (&["[[step]]\nkind = \"prune\"\nmac = \"50%\""][..], "E0011", "`step `1-prune`.mac`"),
        (&["[[step]]\nkind = \"prun\""], "E0012", "`prun`"),
        (&["[[step]]\nmacs = \"50%\""], "E0012", "no `kind`"),
        (&[prune, "macs = \"0.5\""], "E0012", "0.5"),
        (&[prune, "macs = \"50%\"\nparams = \"50%\""], "E0012", "cannot be used with"),
        (&["[[step]]\nkind = \"finetune\"\nteacher = \"@modle\""], "E0012", "`@modle`"),
        (&[DATA, "[[step]]\nkind = \"gate\"\n"], "E0012", "step `1-gate`: no budget was given"),
        (&[DATA, "widht = 3\n", prune], "E0011", "`data.widht`"),
        (&[DATA, prune, "macs = \"50%\"\n[goal]\nspeed = \"2x\""], "E0011", "`goal.speed`"),
        (&[DATA, "[goal]\n"], "E0012", "no steps"),
        (&["[[stap]]\nkind = \"prune\""], "E0011", "unknown field `stap`"),
        (&["= 3"], "E0012", "line 3"),
        (&[DATA, prune, "name = \"../x\"\nmacs = \"50%\""], "E0012", "../x"),
    ] {
        let path = recipe(folder.path(), parts);
        let refused = run(&arguments(&path, &output, &place), &[]).exits(2);
        assert!(refused.stderr.contains(code), "{code} in {}", refused.stderr);
        assert!(refused.stderr.contains(part), "{part} in {}", refused.stderr);
        assert!(!output.exists(), "{parts:?}");
    }
}

#[test]
fn a_run_folder_knows_its_command() {
    let folder = tempfile::tempdir().unwrap();
    let path = recipe(folder.path(), &[DATA, STEPS]);
    let output = folder.path().join("small.onnx");
    let args = arguments(&path, &output, &folder.path().join("run"));
    let mut child = start(&args);
    thread::sleep(Duration::from_millis(1200));
    child.kill().unwrap();
    child.wait().unwrap();
    let place = folder.path().join("run").display().to_string();
    let shown = kerf(&["resume", &place, "--dry-run"]).success().stdout;
    assert!(shown.contains("kerf run ") && shown.contains("small.onnx"), "{shown}");
    let mut resumed = command(&["resume", &place, "--threads", "1", "--json"]);
    // From elsewhere, as the command's own directory is remembered.
    let document = common::finish(resumed.current_dir(folder.path())).success().json();
    assert_eq!(document["result"]["schema"], "kerf.run/1");
    assert!(output.is_file());
    let none = kerf(&["resume", &folder.path().display().to_string()]).exits(2);
    assert!(none.stderr.contains("E0413"), "{}", none.stderr);
}

#[test]
fn what_is_held_out_judges() {
    let folder = tempfile::tempdir().unwrap();
    let data = "[data]\ndata = \"fixtures/data/train-1k-images-idx3-ubyte.gz\"\nhold_out = 200\n\
                preprocess = \"fixtures/preprocess/fmnist.json\"\n";
    let steps = "[[step]]\nkind = \"finetune\"\nsteps = 2\nassert_top1 = \"50%\"\n\
                 [[step]]\nkind = \"quantize\"\nsamples = 64\nno_bench = true\n";
    let path = recipe(folder.path(), &[data, steps]);
    let (output, place) = (folder.path().join("small.onnx"), folder.path().join("run"));
    let document = run(&arguments(&path, &output, &place), &["--json"]).success().json();
    let compared = &document["result"]["proof"]["evaluation"]["comparison"];
    assert_eq!(compared["samples"], 200);
    let tuned = fs::read_to_string(place.join("1-finetune/report.json")).unwrap();
    let tuned: serde_json::Value = serde_json::from_str(&tuned).unwrap();
    assert_eq!(tuned["result"]["training"]["samples"], 800, "{tuned}");
    let all = ["eval", "fixtures/models/vgg7_fmnist_bn.onnx", "--hold-out", "1000", "--data"];
    let refused =
        kerf(&[&all[..], &["fixtures/data/train-1k-images-idx3-ubyte.gz"]].concat()).exits(2);
    assert!(refused.stderr.contains("E0205"), "{}", refused.stderr);
}

/// The recipe of the README, shorter: gates with a teacher, then integers.
#[test]
fn a_gated_model_is_quantized() {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(common::root().join("fixtures/recipes/gate_int8.toml")).unwrap();
    let path = folder.path().join("recipe.toml");
    let short = text.replace("epochs  = 2", "steps = 20").replace("samples = 200", "samples = 64");
    assert_ne!(short, text);
    fs::write(&path, short.replace("max_drop = \"2%\"", "max_drop = \"20%\"")).unwrap();
    let (output, place) = (folder.path().join("small.onnx"), folder.path().join("run"));
    let args = arguments(&path, &output, &place);
    let document = run(&args, &["--json"]).success().json();
    let gate = fs::read_to_string(place.join("1-gate/report.json")).unwrap();
    let gate: serde_json::Value = serde_json::from_str(&gate).unwrap();
    assert!(gate["settings"]["teacher"].to_string().contains("vgg7_fmnist_bn.onnx"));
    let sizes = &document["result"]["sizes"];
    let macs = |which: &str| sizes[which]["macs"].as_f64().unwrap();
    assert!(macs("after") <= 0.5 * macs("before"), "{sizes}");
}
