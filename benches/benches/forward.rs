//! Our execution against ONNX Runtime (or the embedded engine where it is not found), f32, same
//! file, same threads, in turn.
//!
//! `cargo bench --bench forward [-- NAME | MODEL.onnx ...]`: models of `fixtures/` whose name
//! contains NAME, or the given files. Prints one Markdown row per model, batch and thread count. The
//! ratio is the median over pairs of neighbouring measurements; below 1 we are faster.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints its table and stops at the first failure"
)]

use candle_core::{Device, Tensor};
use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tensor_core::graph::Dim;
use tensor_core::measure::{Choice, Engine, engine};
use tensor_core::run::{Array, Session};
use tensor_core::{Graph, onnx};

// As in the command-line program: blocks of memory are reused between operators.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Time that one measurement covers, so that the clock and the switch do not matter.
const BLOCK: Duration = Duration::from_millis(10);

/// Time for all pairs of one row.
const ROW: Duration = Duration::from_secs(4);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let engine = engine(Choice::Auto).unwrap().engine;
    println!("against {}", engine.name());
    println!("| model | input | threads | ours ms | theirs ms | ratio |");
    println!("|---|---|---|---|---|---|");
    for path in models(&arguments) {
        let graph = onnx::read(&path).unwrap();
        for (batch, threads) in [(1, 1), (64, 1), (1, 2), (64, 2)] {
            row(&path, &graph, batch, threads, &*engine);
        }
    }
}

fn models(arguments: &[String]) -> Vec<PathBuf> {
    let given: Vec<PathBuf> =
        arguments.iter().filter(|a| a.ends_with(".onnx")).map(PathBuf::from).collect();
    if !given.is_empty() {
        return given;
    }
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures/models");
    let mut paths: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.ends_with(".onnx") && arguments.iter().all(|part| name.contains(part.as_str()))
    });
    paths.sort();
    paths
}

/// Input values between 0 and 1 for the only input; samples of large images come eight at a time
/// instead of 64.
fn input(graph: &Graph, batch: usize) -> Tensor {
    let declared = graph.declared(graph.inputs[0]).unwrap().dims.clone().unwrap();
    let mut dims: Vec<usize> = declared
        .iter()
        .map(|dim| match dim {
            Dim::Known(n) => *n,
            // A size that fits the strides of common detectors.
            _ => 320,
        })
        .collect();
    dims[0] = if dims[1..].iter().product::<usize>() > 1 << 16 { batch.min(8) } else { batch };
    let count = dims.iter().product::<usize>() as u64;
    let values = (0..count).map(|i| (i.wrapping_mul(2_654_435_761) % 1000) as f32 / 1000.0);
    Tensor::from_iter(values, &Device::Cpu).unwrap().reshape(dims).unwrap()
}

fn row(path: &std::path::Path, graph: &Graph, batch: usize, threads: usize, engine: &dyn Engine) {
    let x = input(graph, batch);
    let name = graph.name(graph.inputs[0]).to_owned();
    let mut theirs = engine.load_file(path, threads).unwrap();
    theirs.prepare(&[(name, x.clone())]).unwrap();
    let session = Session::new(graph).unwrap();
    let inputs = [(graph.inputs[0], Array::float(x.clone()))];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let mut run_ours = || drop(black_box(session.run(&inputs).unwrap()));
    let mut run_theirs = || theirs.step().unwrap();
    let (mut ours, mut ratios) = (Vec::new(), Vec::new());
    let mut reference = Vec::new();
    pool.install(|| {
        let repeats = [repeats(&mut run_ours), repeats(&mut run_theirs)];
        let start = Instant::now();
        while ours.len() < 9 || (start.elapsed() < ROW && ours.len() < 400) {
            let a = time(&mut run_ours, repeats[0]);
            let b = time(&mut run_theirs, repeats[1]);
            ours.push(a);
            reference.push(b);
            ratios.push(a / b);
        }
    });
    let shape: Vec<_> = x.dims().iter().map(ToString::to_string).collect();
    println!(
        "| {} | {} | {threads} | {:.3} | {:.3} | {:.2} |",
        path.file_stem().unwrap().to_string_lossy(),
        shape.join("x"),
        median(ours),
        median(reference),
        median(ratios),
    );
}

/// Runs that fill a block.
fn repeats(run: &mut dyn FnMut()) -> usize {
    run();
    let once = time(run, 1) / 1e3;
    (BLOCK.as_secs_f64() / once).ceil() as usize
}

/// Milliseconds per run.
fn time(run: &mut dyn FnMut(), repeats: usize) -> f64 {
    let start = Instant::now();
    for _ in 0..repeats {
        run();
    }
    start.elapsed().as_secs_f64() * 1e3 / repeats as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
