//! Streams, exit codes and errors that do not depend on a model.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{RESNET, TRAIN, command, finish, kerf};
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::process::Stdio;

#[test]
fn help_and_version_go_to_stdout() {
    for arguments in [&["--help"][..], &["--version"], &["prune", "--help"], &["explain", "-h"]] {
        let run = kerf(arguments).success();
        assert!(!run.stdout.is_empty() && run.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn every_command_documents_the_shared_flags() {
    for name in ["inspect", "check", "groups", "prune", "explain"] {
        let help = kerf(&[name, "--help"]).success().stdout;
        for flag in ["--json", "--quiet", "--color", "--seed", "--threads", "--dry-run"] {
            assert!(help.contains(flag), "{name} {flag}");
        }
    }
}

#[test]
fn unknown_flags_and_commands_are_usage_errors() {
    for (arguments, expected) in [
        (&["explian"][..], "a similar subcommand exists: 'explain'"),
        (&["explain", "--jsn"], "a similar argument exists: '--json'"),
        (&["inspect"], "<MODEL>"),
        (&["inspect", RESNET, "--shape", "input"], "expected NAME=DIMS"),
        (&["inspect", RESNET, "--threads", "0"], "0 is not in 1..=1024"),
        (&["prune", RESNET, "--macs", "0.5"], "in percent"),
        (&["prune", RESNET, "--macs", "50%", "--params", "50%"], "cannot be used with"),
    ] {
        let run = kerf(arguments).exits(2);
        assert!(run.stderr.contains(expected), "{arguments:?}\n{}", run.stderr);
        assert_eq!(run.stdout, "", "{arguments:?}");
    }
}

#[test]
fn usage_errors_are_json_too() {
    let error = &kerf(&["explain", "--jsn", "--json"]).exits(2).json()["error"];
    assert_eq!(error["code"], "E0010");
    assert!(error["message"].as_str().unwrap().contains("--jsn"));
}

#[test]
fn errors_are_json_too_and_say_what_to_do() {
    let run = kerf(&["inspect", "missing.onnx", "--json"]).exits(2);
    let document = run.json();
    assert_eq!(document["schema"], "kerf.error/1");
    assert_eq!(document["error"]["code"], "E0003");
    assert!(document["error"]["message"].as_str().unwrap().starts_with("missing.onnx: "));
    assert!(run.stderr.starts_with("error[E0003]: missing.onnx: "), "{}", run.stderr);
}

#[test]
fn a_prune_without_budget_says_how_to_give_one() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx");
    let run = kerf(&["prune", RESNET, "--data", TRAIN, "-o", output.to_str().unwrap()]).exits(2);
    assert!(run.stderr.starts_with("error[E0010]: no budget was given\n\nhint: say what to keep"));
    assert!(!output.exists());
}

#[test]
fn colours_only_where_asked() {
    let plain = kerf(&["inspect", "missing.onnx"]).stderr;
    assert!(!plain.contains('\x1b'));
    let colour = kerf(&["inspect", "missing.onnx", "--color", "always"]).stderr;
    assert_eq!(colour.replace("\x1b[1;31m", "").replace("\x1b[0m", ""), plain);
    assert_ne!(colour, plain);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child =
        command(&["explain"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_stdout_is_an_error() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let run = finish(command(&["explain"]).stdout(full)).exits(2);
    assert!(run.stderr.starts_with("error[E0003]: standard output: "), "{}", run.stderr);
}

#[test]
fn no_file_that_is_read_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.json");
    let settings = fs::read(common::root().join("fixtures/preprocess/fmnist.json")).unwrap();
    fs::write(&file, &settings).unwrap();
    let path = file.to_str().unwrap();
    for flag in ["--preprocess", "--labels", "--eval-data", "--widths"] {
        let mut arguments = vec!["prune", RESNET, "--data", "missing-data", flag, path];
        if flag != "--widths" {
            arguments.extend(["--macs", "50%"]);
        }
        let run = kerf(&[arguments, vec!["-o", path, "--force"]].concat()).exits(2);
        assert!(run.stderr.starts_with("error[E0021]: "), "{flag}\n{}", run.stderr);
        assert_eq!(fs::read(&file).unwrap(), settings, "{flag}");
    }
}

#[test]
fn outputs_are_checked_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.onnx");
    fs::copy(common::root().join(RESNET), &model).unwrap();
    let existing = folder.path().join("existing.onnx");
    fs::write(&existing, "precious").unwrap();
    let missing = folder.path().join("no/such/folder/o.onnx");
    let link = folder.path().join("link.onnx");
    #[cfg(unix)]
    std::os::unix::fs::symlink(&model, &link).unwrap();
    for (output, code, extra) in [
        (&existing, "E0020", None),
        (&model, "E0021", Some("--force")),
        (&link, "E0021", Some("--force")),
        (&missing, "E0022", None),
        (&folder.path().to_owned(), "E0022", Some("--force")),
        (&"/dev/full".into(), "E0022", Some("--force")),
    ] {
        let mut arguments = vec!["prune", model.to_str().unwrap(), "--data", "missing-data"];
        arguments.extend(["--macs", "50%", "-o", output.to_str().unwrap()]);
        arguments.extend(extra);
        let run = kerf(&arguments).exits(2);
        assert!(run.stderr.starts_with(&format!("error[{code}]: ")), "{output:?}\n{}", run.stderr);
    }
    assert_eq!(fs::read_to_string(&existing).unwrap(), "precious");
    let mut left: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["existing.onnx", "link.onnx", "model.onnx"]);
}

#[test]
fn dry_run_names_the_source_of_every_setting() {
    let run = finish(
        command(&["explain", "--dry-run", "--json", "--seed", "3"]).env("KERF_THREADS", "1"),
    );
    let document = run.success().json();
    assert_eq!(document["settings"]["seed"], 3);
    assert_eq!(document["settings_from"]["seed"], "flag");
    assert_eq!(document["settings_from"]["threads"], "environment");
    assert_eq!(document["settings_from"]["report"], "default");
}

#[test]
fn report_is_the_json_document() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("new/run");
    let path = report.to_str().unwrap();
    let run = kerf(&["explain", "E0110", "--json", "--report", path]).success();
    assert_eq!(fs::read_to_string(report.join("report.json")).unwrap(), run.stdout);
    assert!(run.stderr.starts_with("report: "), "{}", run.stderr);
    let quiet = kerf(&["explain", "E0110", "-q", "--report", path]).success();
    assert_eq!(quiet.stderr, "");
}
