//! `kerf schedule` as a user runs it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::kerf;
use std::fs;

/// Figure 1 of Zhu and Gupta: 90 % in 100 steps.
#[test]
fn the_paper_s_curve_is_listed_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (svg, csv) = (path("schedule.svg"), path("schedule.csv"));
    let flags = ["schedule", "--sparsity", "90%", "--steps", "100", "--sparsity-end", "100%"];
    let files = ["-o", &svg, "--csv", &csv, "--json"];
    let document = kerf(&[&flags[..], &files].concat()).success().json();
    assert_eq!(document["schema"], "kerf.schedule/1");
    assert_eq!(document["result"]["updates"], 101);
    let rows = fs::read_to_string(&csv).unwrap();
    assert_eq!(rows.lines().next(), Some("step,sparsity"));
    for (step, expected) in [(24, 0.505), (45, 0.750), (70, 0.876), (100, 0.900)] {
        let row = rows.lines().nth(step + 1).unwrap();
        let (at, sparsity) = row.split_once(',').unwrap();
        assert_eq!(at, step.to_string());
        assert!((sparsity.parse::<f64>().unwrap() - expected).abs() < 5e-4, "{row}");
    }
    let drawing = fs::read_to_string(&svg).unwrap();
    assert!(drawing.starts_with("<svg") && drawing.trim_end().ends_with("</svg>"));
    assert!(drawing.contains("<polyline") && drawing.contains("optimizer step"));
    // What exists stays.
    assert!(kerf(&[&flags[..], &files].concat()).exits(2).stdout.contains("E0020"));
    kerf(&[&flags[..], &files, &["--force"]].concat()).success();
}

#[test]
fn the_table_shows_the_run() {
    let flags =
        ["schedule", "--sparsity", "80%", "--sparsity-begin", "1ep", "--sparsity-end", "60%"];
    let run = kerf(&[&flags[..], &["--steps", "1000", "--steps-per-epoch", "200"]].concat());
    let stdout = run.success().stdout;
    assert!(stdout.contains("polynomial:exponent=3 to 80.0%, 101 updates from step 200 to 600"));
    let row = |tenth: &str| stdout.lines().find(|line| line.contains(tenth)).unwrap().to_owned();
    assert!(row(" 20% ").ends_with(" 0.0%") && row(" 40% ").ends_with("70.0%"));
    assert!(row(" 60% ").ends_with("80.0%") && row("100%").ends_with("80.0%"));
    let late = kerf(&["schedule", "--sparsity", "80%", "--sparsity-end", "2000"]).success();
    assert!(late.stderr.contains("pruning ends at step 2000"), "{}", late.stderr);
    let wrong = kerf(&["schedule", "--sparsity", "80%", "--sparsity-begin", "90%", "--json"]);
    assert_eq!(wrong.exits(2).json()["error"]["code"], "E0430");
}

#[test]
fn a_file_is_not_written_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.svg").display().to_string();
    let other = folder.path().join(".").join("s.svg").display().to_string();
    let flags =
        ["schedule", "--sparsity", "80%", "-o", &path, "--csv", &other, "--force", "--json"];
    for _ in 0..2 {
        let error = &kerf(&flags).exits(2).json()["error"];
        assert_eq!(error["code"], "E0022");
        assert!(
            error["message"].as_str().unwrap().contains("two outputs have this path"),
            "{error}"
        );
        // Not there at first; then a file that has to stay as it is.
        assert!(!fs::exists(&path).unwrap() || fs::read(&path).unwrap() == b"kept");
        fs::write(&path, "kept").unwrap();
    }
}

#[test]
fn updates_are_at_least_a_step_apart() {
    for wrong in ["0", "0ep", "0%", "0.0epochs"] {
        let flags = ["schedule", "--sparsity", "80%", "--sparsity-every", wrong, "--json"];
        let run = kerf(&flags).exits(2);
        assert_eq!(run.json()["error"]["code"], "E0010", "{wrong}");
        assert!(run.stderr.contains("at least a step apart"), "{}", run.stderr);
    }
}
