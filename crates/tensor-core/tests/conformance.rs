//! The ONNX project's own test cases, as the PyPI package `onnx` ships them, for every operator
//! that Kerf knows.
//!
//! The cases come from the folder in `KERF_ONNX_TESTS`, or from the `onnx` package of `python3`.
//! The full list of results is written to `target/conformance.txt`.

#![cfg(feature = "onnx")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests report")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tensor_core::run::{Array, Session, infer};
use tensor_core::{ElementType, ErrorKind, Graph, ValueId, ops};

/// Cases that pass with `onnx` 1.23.2; raise it when more do.
const PASSED: usize = 990;

enum Outcome {
    Passed,
    /// An operator or attribute that Kerf states not to support.
    Refused(String),
    Failed(String),
    /// Operators that are not in the registry.
    NotCovered(String),
}

#[test]
fn node_tests_of_the_onnx_project_pass_or_are_refused() {
    let mut results: BTreeMap<String, Outcome> = BTreeMap::new();
    for folder in case_folders() {
        let kind = folder.file_name().unwrap().to_string_lossy().into_owned();
        for case in folders_in(&folder) {
            let name = format!("{kind}/{}", case.file_name().unwrap().to_string_lossy());
            results.insert(name, run_case(&case));
        }
    }
    let (summary, passed, failed) = report(&results);
    println!("{summary}");
    assert!(failed.is_empty(), "{} cases fail:\n{}", failed.len(), failed.join("\n"));
    assert!(passed >= PASSED, "only {passed} cases pass, {PASSED} did before");
}

/// The folders that hold one folder per case.
fn case_folders() -> Vec<PathBuf> {
    if let Some(folder) = std::env::var_os("KERF_ONNX_TESTS") {
        return vec![folder.into()];
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/onnx_node_tests.py");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("onnx-node-tests");
    let output = Command::new("python3").arg(script).arg(out).output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8(output.stdout).unwrap().lines().map(PathBuf::from).collect()
        }
        other => panic!("no ONNX test cases ({other:?}); install them: pip install onnx"),
    }
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut folders: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("model.onnx").exists())
        .collect();
    folders.sort();
    folders
}

fn run_case(case: &Path) -> Outcome {
    let graph = match tensor_core::onnx::read(&case.join("model.onnx")) {
        Ok(graph) => graph,
        Err(error) => return Outcome::Refused(error.to_string()),
    };
    let unknown: Vec<&str> = graph
        .nodes
        .iter()
        .filter(|node| ops::lookup(&node.domain, &node.op).is_none())
        .map(|node| node.op.as_str())
        .collect();
    if !unknown.is_empty() {
        return Outcome::NotCovered(unknown.join(", "));
    }
    let mut sets: Vec<_> = std::fs::read_dir(case)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    sets.sort();
    for set in sets {
        match run_set(&graph, &set) {
            Ok(()) => {}
            Err(outcome) => return outcome,
        }
    }
    Outcome::Passed
}

fn run_set(graph: &Graph, set: &Path) -> Result<(), Outcome> {
    let refuse = |error: tensor_core::Error| match error.kind() {
        ErrorKind::Unsupported => Outcome::Refused(error.to_string()),
        _ => Outcome::Failed(error.to_string()),
    };
    let rounded = ROUNDED.iter().any(|name| set.parent().unwrap().ends_with(name));
    let mut inputs: Vec<(ValueId, Array)> = Vec::new();
    let mut folded = graph.clone();
    for (i, &value) in graph.inputs.iter().enumerate() {
        let constant = read_tensor(&set.join(format!("input_{i}.pb"))).map_err(refuse)?;
        inputs.push((value, Array::from_constant(&constant).map_err(refuse)?));
        folded.set_initializer(value, constant);
    }
    let outputs = Session::new(graph).and_then(|session| session.run(&inputs)).map_err(refuse)?;
    // With all inputs constant, inference must find the same types and shapes.
    folded.inputs.clear();
    let facts = infer(&folded, &BTreeMap::new()).map_err(refuse)?;
    for (i, (&value, found)) in graph.outputs.iter().zip(&outputs).enumerate() {
        let expected = read_tensor(&set.join(format!("output_{i}.pb"))).map_err(refuse)?;
        let expected = Array::from_constant(&expected).map_err(refuse)?;
        compare(found, &expected, rounded)
            .map_err(|what| Outcome::Failed(format!("output {i}: {what}")))?;
        let fact = facts.get(value).unwrap();
        if fact.dims != found.dims() || fact.element != found.element {
            let what = format!("output {i} inferred as {:?} {:?}", fact.element, fact.dims);
            return Err(Outcome::Failed(what));
        }
    }
    Ok(())
}

fn read_tensor(path: &Path) -> tensor_core::Result<tensor_core::Constant> {
    tensor_core::onnx::tensor_from_bytes(&std::fs::read(path).unwrap())
}

/// Cases whose expected values are written with four digits.
const ROUNDED: &[&str] = &["test_averagepool_2d_ceil_last_window_starts_on_pad"];

/// Relative and absolute tolerance. The ONNX project's own runner allows 1e-3 and 1e-7.
fn tolerance(element: ElementType, rounded: bool) -> (f64, f64) {
    match element {
        _ if rounded => (1e-3, 1e-7),
        // Two units in the last place of the type.
        ElementType::F16 => (2e-3, 1e-7),
        ElementType::BF16 => (1.6e-2, 1e-7),
        _ => (1e-5, 1e-6),
    }
}

fn compare(found: &Array, expected: &Array, rounded: bool) -> Result<(), String> {
    if found.dims() != expected.dims() || found.element != expected.element {
        return Err(format!(
            "{:?} {:?}, expected {:?} {:?}",
            found.element,
            found.dims(),
            expected.element,
            expected.dims()
        ));
    }
    let values = |array: &Array| -> Vec<f64> {
        let flat = array.tensor.flatten_all().unwrap();
        flat.to_dtype(candle_core::DType::F64).unwrap().to_vec1().unwrap()
    };
    let (relative, absolute) = match found.element.is_float() {
        true => tolerance(found.element, rounded),
        false => (0.0, 0.0),
    };
    for (i, (a, b)) in values(found).into_iter().zip(values(expected)).enumerate() {
        let same = a == b || (a.is_nan() && b.is_nan());
        // False for NaN too.
        let close = (a - b).abs() <= absolute + relative * b.abs();
        if !same && !close {
            return Err(format!("element {i} is {a}, expected {b}"));
        }
    }
    Ok(())
}

/// Writes the list; returns a table, the number of passes and the failures.
fn report(results: &BTreeMap<String, Outcome>) -> (String, usize, Vec<String>) {
    let mut list = String::new();
    let (mut passed, mut failed) = (0, Vec::new());
    let mut refused: BTreeMap<&str, usize> = BTreeMap::new();
    let mut missing: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, outcome) in results {
        match outcome {
            Outcome::Passed => {
                passed += 1;
                writeln!(list, "passed       {name}").unwrap();
            }
            Outcome::Refused(why) => {
                let reason = why.split_once("): ").map_or(why.as_str(), |(_, reason)| reason);
                *refused.entry(reason).or_default() += 1;
                writeln!(list, "refused      {name}: {why}").unwrap();
            }
            Outcome::Failed(why) => {
                failed.push(format!("{name}: {why}"));
                writeln!(list, "failed       {name}: {why}").unwrap();
            }
            Outcome::NotCovered(ops) => {
                *missing.entry(ops).or_default() += 1;
                writeln!(list, "not covered  {name}: {ops}").unwrap();
            }
        }
    }
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("conformance.txt");
    std::fs::write(&file, &list).unwrap();
    let total = |counts: &BTreeMap<&str, usize>| counts.values().sum::<usize>();
    let mut table = String::new();
    writeln!(table, "{passed} passed, {} failed", failed.len()).unwrap();
    writeln!(table, "{} refused:", total(&refused)).unwrap();
    for (reason, count) in &refused {
        writeln!(table, "  {count:4}  {reason}").unwrap();
    }
    writeln!(table, "{} not covered (other operators)", total(&missing)).unwrap();
    (table, passed, failed)
}
