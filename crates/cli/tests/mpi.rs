//! Commands whose work several processes share, under `mpirun`. Needs the feature `mpi`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PREPROCESS, RESNET, Run, TEST, TRAIN, VGG, changed, command, finish};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tensor_core::archive::Archive;
use tensor_core::{Constant, ElementType, Graph, onnx};

const IMAGES: [&str; 4] = ["--data", TRAIN, "--preprocess", PREPROCESS];

/// `mpirun -n PROCESSES kerf ARGUMENTS`, each with one thread.
fn started(processes: usize, arguments: &[&str]) -> Command {
    let kerf = command(arguments);
    let mut command = Command::new("mpirun");
    // Continuous integration has few processors, and is root.
    command
        .args(["--allow-run-as-root", "--oversubscribe", "-n", &processes.to_string()])
        .arg(kerf.get_program())
        .args(kerf.get_args())
        .args(["--threads", "1"])
        .current_dir(common::root())
        .stdin(Stdio::null());
    command
}

fn together(processes: usize, arguments: &[&str]) -> Run {
    finish(&mut started(processes, arguments))
}

/// What a command writes in one process.
fn alone(arguments: &[&str], output: &Path) {
    let output = output.to_str().unwrap();
    common::kerf(&[arguments, &["-o", output, "--threads", "1"]].concat()).success();
}

/// What a command on a model writes.
struct Written {
    folder: tempfile::TempDir,
}

impl Written {
    /// In one process, in two, and in one on models whose weights are off by 1e-7 of themselves, about as
    /// much as sums in another order.
    fn new(verb: &str, model: &str, arguments: &[&str]) -> Self {
        let written = Self { folder: tempfile::tempdir().unwrap() };
        alone(&[&[verb, model], arguments].concat(), &written.path("one"));
        for (number, off) in OFF.into_iter().enumerate() {
            let nearby = written.path(&format!("nearby{number}"));
            changed(model, &nearby, |graph| move_last_bits(graph, number));
            let nearby = nearby.to_str().unwrap();
            alone(&[&[verb, nearby], arguments].concat(), &written.path(off));
        }
        let two = written.path("two");
        let two = ["-o", two.to_str().unwrap()];
        together(2, &[&[verb, model], arguments, &two].concat()).success();
        written
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn weights(&self, name: &str) -> BTreeMap<String, Vec<f32>> {
        weights(&self.path(name))
    }

    /// How far two processes are from one.
    fn difference(&self) -> f32 {
        difference(&self.weights("one"), &self.weights("two"))
    }

    /// How far one is from itself with other last bits.
    fn chaos(&self) -> f32 {
        let off = OFF.map(|name| difference(&self.weights("one"), &self.weights(name)));
        off.into_iter().fold(0.0, f32::max)
    }
}

/// What is written for models nearby.
const OFF: [&str; 3] = ["off0", "off1", "off2"];

/// Moves each weight by 1e-7 of itself, up or down by its place.
fn move_last_bits(graph: &mut Graph, pattern: usize) {
    for value in graph.initializers().to_vec() {
        let constant = graph.initializer(value).unwrap();
        if constant.element() != ElementType::F32 {
            continue;
        }
        let sign = |i: usize| if (i * (pattern + 2) % 7) < 4 { 1.0 } else { -1.0 };
        let values = constant.to_f32s().unwrap().into_iter().enumerate();
        let moved: Vec<f32> = values.map(|(i, v)| v * (1.0 + 1e-7 * sign(i))).collect();
        let moved = Constant::from_f32s(constant.dims(), &moved).unwrap();
        graph.set_initializer(value, moved);
    }
}

/// Float initializers by name.
fn weights(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let graph = onnx::read(path).unwrap();
    let named = graph.initializers().iter().filter_map(|&value| {
        let constant = graph.initializer(value).unwrap();
        let is_float = constant.element() == ElementType::F32;
        is_float.then(|| (graph.name(value).to_owned(), constant.to_f32s().unwrap()))
    });
    named.collect()
}

/// Largest difference over all tensors, each relative to its largest value.
#[track_caller]
fn difference(a: &BTreeMap<String, Vec<f32>>, b: &BTreeMap<String, Vec<f32>>) -> f32 {
    assert!(a.keys().eq(b.keys()), "other tensors");
    let mut most = 0.0_f32;
    for (name, a) in a {
        assert_eq!(a.len(), b[name].len(), "{name}");
        let scale = a.iter().fold(f32::MIN_POSITIVE, |scale, v| scale.max(v.abs()));
        let off = a.iter().zip(&b[name]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        most = most.max(off / scale);
    }
    most
}

/// Second moments relative to the root of the variances, which is what rounding of sums in another order
/// is relative to.
fn moments(archive: &BTreeMap<String, Constant>, prefix: &str) -> (f64, Vec<f64>) {
    let array = |name: &str| archive[&format!("{prefix}.{name}")].clone();
    let rows = array("counts").to_i64s().unwrap()[0] as f64;
    let (sums, gram) = (array("sums").to_f64s().unwrap(), array("gram").to_f64s().unwrap());
    let shifts = array("shifts").to_f32s().unwrap();
    // Columns of the lower triangle: p + (p - 1) + ... = length.
    let p = ((2.0 * gram.len() as f64 + 0.25).sqrt() - 0.5).round() as usize;
    let mut at = gram.iter();
    let mut centred = vec![vec![0.0; p]; p];
    for j in 0..p {
        for i in j..p {
            centred[i][j] = at.next().unwrap() - sums[i] * sums[j] / rows;
        }
    }
    let deviation: Vec<f64> = (0..p).map(|i| centred[i][i].max(1e-30).sqrt()).collect();
    let mut values: Vec<f64> =
        (0..p).map(|i| (f64::from(shifts[i]) + sums[i] / rows) / deviation[i]).collect();
    for j in 0..p {
        values.extend((j..p).map(|i| centred[i][j] / deviation[i] / deviation[j]));
    }
    (rows, values)
}

/// The moments of every layer, on both halves of the samples; error curves and the few samples that are
/// kept. Blocks of 32-bit sums end elsewhere, which moves correlations by some 1e-7.
#[test]
fn statistics_are_those_of_one_process() {
    for processes in [2, 3] {
        let folder = tempfile::tempdir().unwrap();
        let [one, several] = ["one", "several"].map(|name| folder.path().join(name));
        let few = ["--samples", "100", "--batch", "16"];
        let arguments = [&["calibrate", RESNET][..], &few, &IMAGES].concat();
        alone(&arguments, &one);
        let output = ["-o", several.to_str().unwrap()];
        together(processes, &[&arguments[..], &output].concat()).success();
        let [alone, shared] =
            [one, several].map(|path| Archive::read(&path, "kerf.statistics/1", "E0146").unwrap());
        assert_eq!(alone.description, shared.description);
        assert!(alone.arrays.keys().eq(shared.arrays.keys()));
        let mut layers = 0;
        for (name, array) in &alone.arrays {
            let other = &shared.arrays[name];
            if let Some(prefix) = name.strip_suffix(".gram") {
                layers += 1;
                let (a, b) = (moments(&alone.arrays, prefix), moments(&shared.arrays, prefix));
                assert_eq!(a.0, b.0, "{prefix}: another number of rows");
                let off = a.1.iter().zip(&b.1).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(off < 1e-5, "{prefix}: off by {off}");
            } else if name.ends_with(".order") || name.starts_with("samples.") {
                assert_eq!(array, other, "{name}");
            } else if name.ends_with(".error") {
                let (a, b) = (array.to_f64s().unwrap(), other.to_f64s().unwrap());
                let close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-4 * a.abs().max(1e-2);
                assert!(a.iter().zip(&b).all(close), "{name}: {a:?} {b:?}");
            }
        }
        assert!(layers > 30, "{layers}");
    }
}

const LABELLED: [&str; 4] = ["--data", TEST, "--preprocess", PREPROCESS];
const SHORT: [&str; 6] = ["--steps", "6", "--batch", "30", "--no-verify", "--force"];

/// Six gentle steps on trained networks: sums in another order move gradients by some 1e-7, and weights by
/// no more. A wrong statistic, draw or weight of a part shows above 1e-3.
#[test]
fn training_commands_give_the_weights_of_one_process() {
    let commands: [(&str, &[&str]); 3] = [
        // Folded normalizations come back for the run, and their statistics are those of the batch.
        (RESNET, &["--lr", "0.01", "--flip", "--shift", "2"]),
        (VGG, &["--lr", "0.01", "--sparsity", "50%", "--regrow", "0.3"]),
        (VGG, &["--lr", "0.01", "--teacher", RESNET, "--hard-weight", "0.5"]),
    ];
    for (model, own) in commands {
        let written = Written::new("finetune", model, &[own, &LABELLED, &SHORT].concat());
        let off = written.difference();
        assert!(off < 2e-5, "{own:?}: off by {off}");
    }
}

/// Some runs are chaotic: rounding decides which step of its grid a weight takes, or which gate closes first.
/// Then two processes are about as far from one as that one is from itself with other last bits.
#[test]
fn chaotic_runs_differ_as_by_rounding() {
    let commands: [(&str, &str, &[&str]); 2] = [
        ("gate", RESNET, &["--lr", "0.005", "--macs", "60%"]),
        ("finetune", VGG, &["--lr", "0.005", "--quantize-weights", "8"]),
    ];
    for (verb, model, own) in commands {
        // Of other channels the tensors would have other sizes.
        let written = Written::new(verb, model, &[own, &LABELLED, &SHORT].concat());
        let (off, chaos) = (written.difference(), written.chaos());
        assert!(off < 10.0 * chaos + 1e-5, "{verb}: off by {off}, nearby by {chaos}");
    }
}

/// `kerf distill` from initial weights, one step of it.
#[test]
fn a_student_learns_as_in_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let student = folder.path().join("student.onnx").display().to_string();
    let new = ["new", "resnet20", "--width", "0.5", "--input", "1x28x28", "--classes", "10"];
    common::kerf(&[&new[..], &["-o", &student]].concat()).success();
    let own = ["--teacher", RESNET, "--lr", "0.01", "--steps", "1", "--batch", "30", "--no-verify"];
    let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
    let arguments = [&["distill", "--student", &student], &own[..], &LABELLED].concat();
    alone(&arguments, &one);
    together(2, &[&arguments[..], &["-o", two.to_str().unwrap()]].concat()).success();
    let (one, two, start) = (weights(&one), weights(&two), weights(Path::new(&student)));
    let largest =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0_f32, f32::max);
    for (name, one) in &one {
        // Shifts begin at zero, so what counts is how far the step went.
        let (off, step) = (largest(one, &two[name]), largest(one, &start[name]));
        assert!(off <= 2e-2 * step, "{name}: off by {off} in a step of {step}");
    }
}

/// What is left is solved from the same statistics. Later zeros depend on earlier ones and on near ties: no
/// more of them are elsewhere than rounding moves.
#[test]
fn sparsify_gives_the_weights_of_one_process() {
    let own = ["--sparsity", "50%", "--samples", "64"];
    let written = Written::new("sparsify", RESNET, &[&own, &IMAGES[..]].concat());
    let one = written.weights("one");
    let moved = |name: &str| {
        let other = written.weights(name);
        let pairs = one.iter().flat_map(|(name, one)| one.iter().zip(&other[name]));
        pairs.filter(|(a, b)| (**a == 0.0) != (**b == 0.0)).count()
    };
    let (moved, chaos) = (moved("two"), OFF.map(moved).into_iter().max().unwrap_or(0));
    assert!(moved <= 2 * chaos + 20, "{moved} zeros are elsewhere, {chaos} by rounding");
    let values: usize = one.values().map(Vec::len).sum();
    assert!(moved < values / 10, "{moved} of {values}");
    // Nothing is before the first layers that lose weights.
    let two = written.weights("two");
    for name in ["layers.0.conv1.weight", "layers.0.conv2.weight"] {
        let first =
            |of: &BTreeMap<_, Vec<f32>>| BTreeMap::from([(name.to_owned(), of[name].clone())]);
        let off = difference(&first(&one), &first(&two));
        assert!(off < 1e-3, "{name}: off by {off}");
    }
}

/// The processes below another one.
fn children(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(process) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let status = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // Behind the name, in brackets: the state, then the parent.
        let parents = status.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
        if parents.and_then(|text| text.parse().ok()) == Some(parent) {
            found.push(process);
        }
    }
    found.sort_unstable();
    found
}

/// One of the processes is killed after a checkpoint: the others end, and the same command goes on to the
/// weights of a run that nobody disturbed.
#[test]
fn a_run_that_lost_a_process_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (whole, broken, run) = (path("whole.onnx"), path("broken.onnx"), path("run"));
    let fixed = ["finetune", RESNET, "--data", TEST, "--preprocess", PREPROCESS, "--lr", "0.01"];
    let length = ["--steps", "24", "--batch", "30", "--checkpoint-every", "2", "--no-verify"];
    let arguments = [&fixed[..], &length].concat();
    together(2, &[&arguments[..], &["-o", &whole, "--run", &path("whole")]].concat()).success();

    let interrupted = [&arguments[..], &["-o", &broken, "--run", &run]].concat();
    let mut process =
        started(2, &interrupted).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let checkpoint = Path::new(&run).join("last.safetensors");
    let begun = Instant::now();
    while !checkpoint.exists() {
        assert!(begun.elapsed() < Duration::from_secs(120), "no checkpoint");
        assert!(process.try_wait().unwrap().is_none(), "it ended before");
        std::thread::sleep(Duration::from_millis(2));
    }
    let ranks = children(process.id());
    assert_eq!(ranks.len(), 2, "{ranks:?}");
    let killed = Command::new("kill").args(["-9", &ranks[1].to_string()]).status().unwrap();
    assert!(killed.success());
    let ended = process.wait_with_output().unwrap();
    assert!(!ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(!Path::new(&broken).exists(), "it was done before the process was killed");
    let begun = Instant::now();
    while ranks.iter().any(|rank| Path::new(&format!("/proc/{rank}")).exists()) {
        assert!(begun.elapsed() < Duration::from_secs(30), "a process goes on alone");
        std::thread::sleep(Duration::from_millis(20));
    }

    let document = together(2, &["resume", &run, "--json"]).success().json();
    let resumed = document["result"]["result"]["training"]["resumed_from"].as_u64().unwrap();
    assert!((2..24).contains(&resumed) && resumed.is_multiple_of(2), "{resumed}");
    // The order of sums is fixed, so that nothing at all is different.
    assert_eq!(weights(Path::new(&whole)), weights(Path::new(&broken)));
}

/// One process writes and speaks, and errors are told once.
#[test]
fn one_process_speaks() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.onnx").display().to_string();
    let fixed = ["finetune", VGG, "--data", TEST, "--preprocess", PREPROCESS, "-o", &output];
    let run = together(2, &[&fixed[..], &SHORT, &["--json"]].concat()).success();
    assert_eq!(run.json()["schema"], "kerf.finetune/1");
    assert_eq!(run.stderr.matches("samples/s").count(), 1, "{}", run.stderr);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    let told = |arguments: &[&str], code: &str| {
        let run = together(2, arguments).exits(2);
        assert_eq!(run.stderr.matches(&format!("error[{code}]")).count(), 1, "{}", run.stderr);
    };
    told(&[&fixed[..], &["--steps", "4", "--batch", "1", "--force"]].concat(), "E0621");
    told(&["finetune", VGG, "--data", "missing", "-o", &output, "--force"], "E0201");
    told(&["inspect", VGG], "E0620");
}
