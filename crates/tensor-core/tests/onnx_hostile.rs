//! Hostile files: an error with its place or a graph that can be written, but never a panic, a hang
//! or a blow-up of memory.
#![allow(clippy::unwrap_used, reason = "tests")]
#![cfg(feature = "onnx")]

mod onnx_common;

use onnx_common::hostile::{self, Expected};
use onnx_common::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use tensor_core::onnx;

/// Counts what the current thread has allocated and the most it had.
struct Counting;

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system allocator unchanged; counting touches thread-local cells
// that need neither memory nor a destructor.
#[allow(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CURRENT.set(CURRENT.get() + layout.size());
        PEAK.set(PEAK.get().max(CURRENT.get()));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        CURRENT.set(CURRENT.get().saturating_sub(layout.size()));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most memory that `work` had at once, beyond what there was before.
fn peak_of<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = CURRENT.get();
    PEAK.set(before);
    let result = work();
    (PEAK.get() - before, result)
}

/// Reads, and writes what could be read; a written model must read back to the same bytes.
fn exercise(bytes: &[u8], folder: &Path) -> Result<(), String> {
    let Ok(graph) = onnx::decode(bytes, Some(folder)) else { return Ok(()) };
    graph.non_finite();
    let written = onnx::encode(&graph).map_err(|error| format!("encode: {error}"))?;
    let again = onnx::decode(&written, None).map_err(|error| format!("decode again: {error}"))?;
    match onnx::encode(&again) {
        Ok(bytes) if bytes == written => Ok(()),
        Ok(_) => Err("other bytes the second time".to_owned()),
        Err(error) => Err(format!("encode again: {error}")),
    }
}

/// A change at one to four places.
fn mutate(bytes: &[u8], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.random_range(1..=4) {
        if bytes.is_empty() {
            break;
        }
        // Weights fill large files; their head is where the structure is.
        let head = if random.random_bool(0.5) { bytes.len() } else { bytes.len().min(4096) };
        let at = random.random_range(0..head);
        let end = (at + random.random_range(1..=16)).min(bytes.len());
        match random.random_range(0..7) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << random.random_range(0..8),
            2 => bytes[at] = random.random(),
            // A part of the file, once more or instead of another part.
            3 => {
                let from = random.random_range(0..bytes.len());
                let length = random.random_range(1..=64_usize).min(bytes.len() - from);
                let part = bytes[from..from + length].to_vec();
                bytes.splice(at..end, part);
            }
            // A large or negative number where a length or dimension may be.
            4 => {
                let numbers: [&[u8]; 4] = [
                    &[0xff; 9],
                    &[0x80, 0x80, 0x80, 0x80, 0x10],
                    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
                    &[0xff, 0xff, 0xff, 0xff, 0x07],
                ];
                let number = numbers[random.random_range(0..numbers.len())];
                let replaced = at..at + usize::from(random.random_bool(0.5));
                bytes.splice(replaced, number.iter().copied());
            }
            5 => drop(bytes.drain(at..end)),
            _ => {
                let length = random.random_range(0..=64);
                let field = [random.random_range(0..32) << 3 | 2, length];
                bytes.splice(at..at, field);
            }
        }
    }
    bytes
}

/// Mutates a file `count` times and reports every failure with its seed.
fn survive(bytes: &[u8], folder: &Path, seeds: std::ops::Range<u64>) {
    let mut failures = Vec::new();
    let mut refused = 0;
    for seed in seeds.clone() {
        let mutant = mutate(bytes, &mut ChaCha8Rng::seed_from_u64(seed));
        let bound = (64 << 20) + 10 * mutant.len();
        let (peak, outcome) = peak_of(|| std::panic::catch_unwind(|| exercise(&mutant, folder)));
        match outcome {
            Ok(Ok(())) if peak < bound => {}
            Ok(Ok(())) => failures.push(format!("seed {seed}: {peak} bytes of memory")),
            Ok(Err(problem)) => failures.push(format!("seed {seed}: {problem}")),
            Err(_) => failures.push(format!("seed {seed}: panic")),
        }
        refused += usize::from(onnx::decode(&mutant, Some(folder)).is_err());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(refused > 0, "the mutations do not reach the structure");
}

#[test]
fn mutations_of_a_tiny_model() {
    survive(&tiny(), Path::new("."), 0..7000);
}

#[test]
fn mutations_of_a_model_with_a_data_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("weights.bin"), [0; 24]).unwrap();
    let (x, y) = ends();
    let weights = [
        external("w", &[2], "weights.bin", "0", "8"),
        external("v", &[2, 2], "weights.bin", "8", "16"),
    ];
    let nodes = [node("", "Add", &["x", "w"], &["z"]), node("", "Mul", &["z", "v"], &["y"])];
    survive(&model(&graph(&nodes, &weights, &x, &y)), folder.path(), 7000..9000);
}

#[test]
fn mutations_of_trained_models() {
    for (i, name) in
        ["resnet20_fmnist_bn", "resnet20_fmnist_folded", "vgg7_fmnist_bn", "vgg7_fmnist_folded"]
            .iter()
            .enumerate()
    {
        let path = root().join(format!("fixtures/models/{name}.onnx"));
        let first = 9000 + 250 * i as u64;
        survive(&std::fs::read(path).unwrap(), Path::new("."), first..first + 250);
    }
}

#[test]
fn mutations_of_tensor_files() {
    let bytes = tensor_head(7, &[2, 3]).packed(7, &[1, 2, 3, 4, 5, -6]).text(8, "t").0;
    for seed in 0..2000 {
        let mutant = mutate(&bytes, &mut ChaCha8Rng::seed_from_u64(seed));
        let (peak, result) = peak_of(|| onnx::tensor_from_bytes(&mutant));
        assert!(peak < 1 << 20, "seed {seed}: {peak} bytes");
        if let Ok(constant) = result {
            onnx::tensor_to_bytes(&constant, None).unwrap();
        }
    }
}

#[test]
fn small_files_cannot_ask_for_much_memory() {
    // Two bytes each: empty nodes, empty names in one node, dimensions.
    let count = 4 << 20;
    let nodes = Message([0x0a, 0x00].repeat(count));
    let names = Message::new().sub(1, &Message([0x0a, 0x00].repeat(count)));
    let tensor = Message::new().sub(5, &Message([0x08, 0x01].repeat(count)));
    let packed = Message::new().sub(5, &Message::new().int(2, 7).bytes(7, &vec![1; 2 * count]));
    for body in [nodes, names, tensor, packed] {
        let bytes = model(&body);
        let (peak, result) = peak_of(|| onnx::decode(&bytes, None).err());
        assert!(result.is_some());
        assert!(peak < (64 << 20) + 32 * bytes.len(), "{peak} bytes");
    }
}

#[test]
fn long_lists_are_not_searched_again_and_again() {
    let count = 50_000;
    let names: Vec<String> = (0..=count).map(|i| format!("v{i}")).collect();
    let (x, y) = ends();
    let each = |make: &dyn Fn(usize) -> Message| -> Vec<Message> { (0..count).map(make).collect() };

    let attributes = each(&|i| Message::new().text(1, &names[i]).int(3, 1).int(20, 2));
    let many_attributes = node("", "Relu", &["x"], &["y"]).subs(5, &attributes);
    let many_outputs = vec![y[0].clone(); count];
    let relu = [node("", "Relu", &["x"], &["y"])];
    let opsets = each(&|i| Message::new().text(1, &names[i]).int(2, 1));
    let chain = each(&|i| node("", "Relu", &[&names[i + 1]], &[&names[i]]));
    let ends_chain = node("", "Relu", &["x"], &[&names[count]]);
    let reversed = [&chain[..], &[ends_chain]].concat();
    let first = [value_info(&names[0], FLOAT, &[2])];

    let good = [
        model(&graph(&[many_attributes], &[], &x, &y)),
        model(&graph(&relu, &[], &x, &many_outputs)),
        model_of(10, 17, &graph(&relu, &[], &x, &y)).subs(8, &opsets).0,
        model(&graph(&reversed, &[], &x, &first)),
    ];
    for bytes in good {
        assert_eq!(exercise(&bytes, Path::new(".")), Ok(()));
        assert_eq!(exercise(&bytes, Path::new(".")), Ok(()));
        onnx::decode(&bytes, None).unwrap();
    }
    let closing = node("", "Relu", &[&names[0]], &[&names[count]]);
    let cycle = [&chain[..], &[closing]].concat();
    let error = onnx::decode(&model(&graph(&cycle, &[], &x, &first)), None).unwrap_err();
    assert!(error.to_string().contains("50001 nodes form a cycle"), "{error}");
}

#[test]
fn the_corpus_is_refused_with_its_codes() {
    let folder = root().join("fixtures/hostile");
    let mut failures = Vec::new();
    for (name, expected, _) in hostile::files() {
        let path = folder.join(format!("{name}.onnx"));
        let (peak, result) = peak_of(|| onnx::read(&path));
        let text = match &result {
            Ok(graph) => {
                let found = graph.non_finite();
                format!(
                    "a graph where {:?} are not finite",
                    found.iter().map(|&v| graph.name(v)).collect::<Vec<_>>()
                )
            }
            Err(error) => format!("{}: {error}", error.code()),
        };
        let is_right = match (&result, expected) {
            (Err(error), Expected::Error(code, part)) => {
                error.code() == code && error.to_string().contains(part)
            }
            (Ok(graph), Expected::NonFinite(value)) => {
                graph.non_finite() == [graph.find(value).unwrap()]
            }
            _ => false,
        };
        if !is_right || peak > 1 << 20 {
            failures.push(format!("{name}: {text} ({peak} bytes), not {expected:?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_corpus_is_what_its_generator_makes() {
    let folder = root().join("fixtures/hostile");
    let bless = std::env::var_os("KERF_BLESS").is_some();
    let mut names = Vec::new();
    for (name, _, bytes) in hostile::files() {
        let path = folder.join(format!("{name}.onnx"));
        assert!(bytes.len() < 2048, "{name} has {} bytes", bytes.len());
        if bless {
            std::fs::write(&path, &bytes).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "{name}; see the README there");
        names.push(format!("{name}.onnx"));
    }
    for entry in std::fs::read_dir(&folder).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let is_known = names.contains(&file) || ["README.md", "weights.bin"].contains(&&*file);
        assert!(is_known, "{file} is not in the table");
    }
}

#[test]
fn files_that_are_not_onnx_are_named() {
    let cases: [(&[u8], &str); 7] = [
        (b"PK\x03\x04rest", "zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
        (b"\x30\0\0\0\0\0\0\0{\"a\":1}", "safetensors"),
        (b"\x80\x02}q\0", "pickle"),
        (b"ir_version: 8\n", "text file"),
    ];
    for (bytes, hint) in cases {
        let error = onnx::decode(bytes, None).unwrap_err();
        assert_eq!(error.code(), "E0100");
        assert!(error.hint_text().unwrap().contains(hint), "{hint}: {:?}", error.hint_text());
    }
}

#[test]
fn a_missing_file_and_a_folder_are_io_errors() {
    for path in ["fixtures/hostile/absent.onnx", "fixtures/hostile"] {
        let error = onnx::read(&root().join(path)).unwrap_err();
        assert_eq!(error.kind(), tensor_core::ErrorKind::Io);
        assert!(error.to_string().contains(path), "{error}");
    }
}

#[test]
fn external_data_needs_a_folder() {
    let weights = [external("w", &[2], "weights.bin", "0", "8")];
    let (x, y) = ends();
    let bytes = model(&graph(&[node("", "Add", &["x", "w"], &["y"])], &weights, &x, &y));
    let error = onnx::decode(&bytes, None).unwrap_err();
    assert_eq!(error.code(), "E0104");
    let folder = root().join("fixtures/hostile");
    onnx::decode(&bytes, Some(&folder)).unwrap();
}

#[cfg(unix)]
#[test]
fn a_link_does_not_lead_out_of_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data = root().join("fixtures/hostile/weights.bin").canonicalize().unwrap();
    std::os::unix::fs::symlink(data, folder.path().join("weights.bin")).unwrap();
    let weights = [external("w", &[2], "weights.bin", "0", "8")];
    let (x, y) = ends();
    let bytes = model(&graph(&[node("", "Add", &["x", "w"], &["y"])], &weights, &x, &y));
    let error = onnx::decode(&bytes, Some(folder.path())).unwrap_err();
    assert!(error.to_string().contains("outside the model's folder"), "{error}");
}
