//! `kerf cost` and `kerf search` as a user runs them.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PREPROCESS, TRAIN, VGG, kerf};
use std::fs;
use std::path::Path;

/// A search on few samples.
fn search(folder: &Path, plan: &str, flags: &[&str]) -> common::Run {
    let plan = folder.join(plan).display().to_string();
    let fixed =
        ["search", VGG, "-o", &plan, "--force", "--data", TRAIN, "--preprocess", PREPROCESS];
    let few = ["--calibration", "32", "--eval-samples", "60", "--batch", "30"];
    let of_layers: &[&str] = match flags.contains(&"ddpg") {
        true => &[],
        false => &["--sensitivity-samples", "8"],
    };
    kerf(&[&fixed[..], &few, of_layers, flags, &["--json"]].concat())
}

#[test]
fn costs_are_listed_and_drawn() {
    let list = kerf(&["cost", "show", "--list"]).success().stdout;
    assert!(list.contains("bismo-cloud") && list.contains("bandwidth="), "{list}");
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("cost.svg").display().to_string();
    let flags = ["cost", "show", VGG, "--hardware", "bismo-edge", "--bits", "8,4", "-o", &svg];
    let document = kerf(&[&flags[..], &["--json"]].concat()).success().json();
    let totals = document["result"]["totals"].as_array().unwrap();
    let share = totals[1].as_f64().unwrap() / totals[0].as_f64().unwrap();
    assert!((0.25..0.6).contains(&share), "{share}");
    assert_eq!(document["result"]["layers"].as_array().unwrap().len(), 8);
    assert!(fs::read_to_string(&svg).unwrap().contains("latency by layer on bismo-edge"));
    let none = kerf(&["cost", "show", VGG, "--hardware", "bismo", "--json"]).exits(2);
    assert!(none.stdout.contains("E0553"));
}

#[test]
fn a_plan_is_within_its_budget_and_sensitivities_are_measured_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run").display().to_string();
    let flags = ["--hardware", "bismo-edge", "--latency", "60%", "--run", &run];
    let exact = search(folder.path(), "exact.toml", &flags).success().json();
    let share = exact["result"]["cost_share"].as_f64().unwrap();
    assert!(share <= 0.6 && share > 0.5, "{share}");
    let plan = fs::read_to_string(folder.path().join("exact.toml")).unwrap();
    assert!(plan.starts_with("schema = \"kerf.plan/1\"\nmethod = \"exact\"\n"), "{plan}");
    assert_eq!(plan.matches("[[layer]]").count(), 8);
    let bits = exact["result"]["bits"].as_array().unwrap();
    for end in [&bits[0], &bits[7]] {
        assert_eq!((end["weights"].as_u64(), end["activations"].as_u64()), (Some(8), Some(8)));
    }
    let measured = fs::read_to_string(folder.path().join("run/sensitivity.json")).unwrap();
    let again = search(folder.path(), "again.toml", &flags).success().json();
    assert_eq!(again["result"]["bits"], exact["result"]["bits"]);
    let same = fs::read_to_string(folder.path().join("run/sensitivity.json")).unwrap();
    assert_eq!(same, measured);
    // Of samples that are prepared in another way it is another measure.
    let darker = [&flags[..], &["--mean", "0.9"]].concat();
    search(folder.path(), "darker.toml", &darker).success();
    let other = fs::read_to_string(folder.path().join("run/sensitivity.json")).unwrap();
    assert_ne!(other, measured);
    let greedy = [&flags[..], &["--method", "greedy"]].concat();
    let greedy = search(folder.path(), "greedy.json", &greedy).success().json();
    assert!(greedy["result"]["cost_share"].as_f64().unwrap() <= 0.6);
    let least = ["--hardware", "bismo-edge", "--latency", "5%"];
    let none = search(folder.path(), "none.toml", &least).exits(1);
    assert!(
        none.stdout.contains("E0552") && none.stdout.contains("attainable is"),
        "{}",
        none.stdout
    );
    assert!(!folder.path().join("none.toml").exists());
}

/// What a search counts without a device is what the files differ by.
/// What a plan is said to take is what its file takes, or some bytes more.
#[test]
fn bytes_are_those_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    // Where neighbours read an activation with other bits, there may be nodes between.
    for (size, more, spare) in [
        ("60%", &["--no-pin-ends"][..], 1024.0),
        ("75%", &[], 1024.0),
        ("75%", &["--activations", "6"], 8192.0),
    ] {
        let flags = [&["--size", size][..], more].concat();
        let found = search(folder.path(), "plan.toml", &flags).success().json();
        assert_eq!(found["result"]["device"], "size-onnx");
        let [cost, budget] =
            ["cost", "budget_amount"].map(|name| found["result"][name].as_f64().unwrap());
        let (plan, model) = (path("plan.toml"), path("model.onnx"));
        let quantize = ["quantize", VGG, "-o", &model, "--data", TRAIN, "--preprocess", PREPROCESS];
        let few = ["--samples", "16", "--no-bench", "--plan", &plan, "--rounding", "nearest"];
        let activations = more.iter().find(|flag| **flag == "6");
        let activations = activations.map_or(&[][..], |_| &["--activations", "6"]);
        kerf(&[&quantize[..], &few, activations, &["--force"]].concat()).success();
        let file = fs::metadata(&model).unwrap().len() as f64;
        assert!(file <= cost && cost <= budget, "{file} of {cost} of {budget}");
        assert!(cost - file < spare, "{file} of {cost}");
    }
    // Three bits are stored in four: fewer than half of the bytes is out of reach.
    let none = search(folder.path(), "none.toml", &["--size", "45%", "--no-pin-ends"]).exits(1);
    assert!(none.stdout.contains("E0552"), "{}", none.stdout);
}

#[test]
fn an_interrupted_agent_ends_as_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let agent = |plan: &str, run: &str, episodes: &str| {
        let flags = ["--hardware", "size", "--size", "50%", "--method", "ddpg", "--run", run];
        search(folder.path(), plan, &[&flags[..], &["--episodes", episodes]].concat()).success()
    };
    agent("whole.toml", &path("whole"), "4");
    agent("part.toml", &path("part"), "2");
    agent("part.toml", &path("part"), "4");
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("part/journal.jsonl"), read("whole/journal.jsonl"));
    assert_eq!(read("part.toml"), read("whole.toml"));
    assert_eq!(read("whole/journal.jsonl").lines().count(), 5);
}

/// Without labels the agent goes by the outputs of the float model.
#[test]
fn the_agent_needs_no_labels() {
    let folder = tempfile::tempdir().unwrap();
    // Labels beside the images would be found.
    let images = folder.path().join("images-idx3-ubyte.gz");
    fs::copy(common::root().join(TRAIN), &images).unwrap();
    let images = images.display().to_string();
    let plan = folder.path().join("plan.toml").display().to_string();
    let flags = ["--hardware", "size", "--size", "50%", "--method", "ddpg", "--episodes", "3"];
    let files = ["search", VGG, "-o", &plan, "--force", "--data", &images];
    let few = ["--preprocess", PREPROCESS, "--calibration", "32", "--eval-samples", "60"];
    let arguments = [&files[..], &few, &flags].concat();
    let found = kerf(&[&arguments[..], &["--json"]].concat()).success().json();
    assert!(found["result"]["score"].is_null());
    let judged = found["result"]["judged"].as_array().unwrap();
    let divergence = |one: &serde_json::Value| one["divergence"].as_f64();
    assert!(judged.iter().all(|one| divergence(one).is_some()), "{judged:?}");
    let refused = kerf(&[&arguments[..], &["--reward", "accuracy"]].concat()).exits(2);
    assert!(refused.stderr.contains("E0207"), "{}", refused.stderr);
}

/// Two bits lose most of what a short training gives back.
#[test]
fn episodes_can_train() {
    let folder = tempfile::tempdir().unwrap();
    let few = ["--hardware", "size", "--size", "30%", "--method", "ddpg", "--episodes", "1"];
    let episode = |name: &str, more: &[&str]| {
        let run = folder.path().join(name).display().to_string();
        let flags = [&few[..], &["--run", &run], more].concat();
        let found = search(folder.path(), "plan.toml", &flags).success().json();
        let journal = fs::read_to_string(folder.path().join(name).join("journal.jsonl")).unwrap();
        let last: serde_json::Value =
            serde_json::from_str(journal.lines().last().unwrap()).unwrap();
        // The agent selects by one half of the held-out samples, and is judged on the other.
        assert_eq!([&last["score"]["of"], &found["result"]["score"]["of"]], [30, 30]);
        (found["result"]["bits"].clone(), last["score"]["right"].as_u64().unwrap())
    };
    let (bits, plain) = episode("plain", &[]);
    let (same, trained) = episode("trained", &["--episode-steps", "12"]);
    assert_eq!(bits, same);
    assert!(trained > plain, "{trained} {plain}");
    let unused =
        ["--hardware", "size", "--size", "30%", "--method", "ddpg", "--sensitivity", "hessian"];
    let refused = search(folder.path(), "none.toml", &unused).exits(2);
    assert!(refused.stdout.contains("does not use"), "{}", refused.stdout);
    let drawn = ["cost", "measure", VGG, "-o", "none.jsonl", "--npy", "none.npy"];
    assert!(kerf(&drawn).exits(2).stderr.contains("`--npy` is for `kerf cost import`"));
    let exact = ["--hardware", "size", "--size", "30%", "--episode-steps", "2"];
    let refused = search(folder.path(), "none.toml", &exact).exits(2);
    assert!(refused.stdout.contains("E0010"), "{}", refused.stdout);
}

/// From a table that is measured here to a quantized model.
#[test]
fn layers_are_timed_and_a_plan_by_their_times_makes_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (table, plan, model) = (path("table.jsonl"), path("plan.toml"), path("model.onnx"));
    let measure = ["cost", "measure", VGG, "-o", &table, "--runs", "3", "--limit", "1", "--json"];
    let rows = kerf(&measure).success().json()["result"]["rows"].as_u64().unwrap();
    let text = fs::read_to_string(&table).unwrap();
    // Before the layers a header, behind them the whole network.
    assert_eq!(text.lines().count() as u64, rows + 2);
    assert!(rows >= 16 && text.starts_with("{\"schema\":\"kerf.cost/1\""), "{text}");
    // Everything is there: going on measures nothing again.
    kerf(&[&measure[..], &["--resume"]].concat()).success();
    assert!(fs::read_to_string(&table).unwrap() == text, "numbers change by reading them");
    let shown = kerf(&["cost", "show", VGG, "--cost", &table, "--bits", "32,8"]).success().stdout;
    assert!(shown.contains("conv") || shown.contains("Conv"), "{shown}");
    let flags = ["--cost", &table, "--max-latency", "1s", "--method", "greedy"];
    search(folder.path(), "plan.toml", &flags).success();
    let quantize = ["quantize", VGG, "-o", &model, "--data", TRAIN, "--preprocess", PREPROCESS];
    let few = ["--samples", "64", "--no-bench", "--plan", &plan, "--json"];
    let document = kerf(&[&quantize[..], &few].concat()).success().json();
    let layers = document["result"]["quantization"]["layers"].as_array().unwrap().clone();
    assert!(layers.len() == 8 && layers.iter().all(|layer| layer["weight_bits"] == 8));
}

/// The released table is for MobileNet-V2 at 224 x 224, and for no other model.
#[test]
fn the_released_table_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (model, table) = (path("mobilenet.onnx"), path("table.jsonl"));
    kerf(&["new", "mobilenet-v2", "-o", &model]).success();
    let npy = common::root().join("fixtures/quant/haq_mobilenetv2_cloud_batch16_latency.npy");
    let npy = npy.to_str().unwrap();
    kerf(&["cost", "import", &model, "--npy", npy, "-o", &table]).success();
    let flags = ["cost", "show", &model, "--cost", &table, "--bits", "8,4", "--json"];
    let totals = kerf(&flags).success().json()["result"]["totals"].clone();
    let share = totals[1].as_f64().unwrap() / totals[0].as_f64().unwrap();
    assert!((share - 0.397).abs() < 0.001, "{share}");
    let other = kerf(&["cost", "import", VGG, "--npy", npy, "-o", &path("x"), "--json"]).exits(2);
    assert!(other.stdout.contains("\"code\": \"E05"), "{}", other.stdout);
}

#[test]
fn sensitivities_that_were_killed_go_on_where_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str| folder.path().join(name).display().to_string();
    let (whole, killed) = (run("whole"), run("killed"));
    let flags = |run| ["--hardware", "bismo-edge", "--latency", "60%", "--run", run];
    let exact = search(folder.path(), "whole.toml", &flags(&whole)).success().json();
    let plan = folder.path().join("killed.toml").display().to_string();
    let fixed = ["search", VGG, "-o", &plan, "--data", TRAIN, "--preprocess", PREPROCESS];
    let few = ["--calibration", "32", "--sensitivity-samples", "8", "--eval-samples", "60"];
    let all = [&fixed[..], &few, &["--batch", "30"], &flags(&killed)].concat();
    let mut child = common::command(&all).stderr(std::process::Stdio::null()).spawn().unwrap();
    // Killed once some layers are in the journal.
    let journal = folder.path().join("killed/sensitivity/journal.jsonl");
    let lines = || fs::read_to_string(&journal).unwrap_or_default().lines().count();
    while lines() < 3 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let measured = lines();
    assert!((3..9).contains(&measured), "{measured} lines: nothing was interrupted");
    let resumed = search(folder.path(), "killed.toml", &flags(&killed)).success();
    assert!(resumed.stderr.contains("goes on behind"), "{}", resumed.stderr);
    assert_eq!(resumed.json()["result"]["bits"], exact["result"]["bits"]);
    let file = |run: &str| fs::read(folder.path().join(run).join("sensitivity.json")).unwrap();
    assert_eq!(file("whole"), file("killed"));
    assert!(!journal.exists());
}
