//! Every kind of data set, read from real files.
#![cfg(feature = "data")]
#![allow(clippy::unwrap_used, reason = "tests")]

use candle_core::{DType, Tensor};
use std::path::{Path, PathBuf};
use tensor_core::data::{self, InputSpec, Options};
use tensor_core::{Constant, ElementType};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/data").join(name)
}

fn options(dims: &[Option<usize>]) -> Options {
    let input =
        InputSpec { name: "input".into(), element: ElementType::F32, dims: Some(dims.to_vec()) };
    Options { inputs: vec![input], ..Options::default() }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// What every `x` in `fixtures/data/formats` holds.
fn tenths(count: usize) -> Vec<f32> {
    (0..count).map(|value| value as f32 / 10.0).collect()
}

/// A gradient image: red grows along x, green along y, blue is constant.
fn picture(width: u32, height: u32) -> image::RgbImage {
    image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8 * 10, y as u8 * 10, 200]))
}

#[test]
fn idx_gives_the_pixels_and_the_labels_beside_it() {
    let path = fixture("t10k-1k-images-idx3-ubyte.gz");
    let set = data::open(&path, &options(&[None, Some(1), Some(28), Some(28)])).unwrap();
    assert_eq!(set.len(), 1_000);
    assert_eq!(set.inputs().collect::<Vec<_>>(), [("input", &[1, 28, 28][..])]);
    let batch = set.batch(0..3).unwrap();
    let tensor = batch.single().unwrap();
    assert_eq!((tensor.dims(), tensor.dtype()), (&[3, 1, 28, 28][..], DType::F32));
    // NumPy on the full test split: the labels begin 9 2 1, the pixels of image 0 sum to 33,456.
    assert_eq!(batch.labels.as_deref(), Some(&[9, 2, 1][..]));
    let sum: f64 = values(&tensor.get(0).unwrap()).iter().map(|&value| f64::from(value)).sum();
    assert!((sum - 33_456.0 / 255.0).abs() < 1e-4, "{sum}");
}

#[test]
fn idx_sets_are_found_by_prefix_and_ambiguity_is_refused() {
    let set = data::open(&fixture("train-1k"), &Options::default()).unwrap();
    assert!(set.has_labels());
    assert!(set.notes()[0].contains("train-1k-labels-idx1-ubyte.gz"));
    let error = data::open(&fixture(""), &Options::default()).unwrap_err();
    assert_eq!(error.code(), "E0209");
    assert!(error.message().contains("t10k-1k-images-idx3-ubyte.gz, train-1k-images"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    for kind in ["images-idx3", "labels-idx1"] {
        let name = format!("t10k-1k-{kind}-ubyte.gz");
        std::fs::copy(fixture(&name), folder.path().join(name)).unwrap();
    }
    assert_eq!(data::open(folder.path(), &Options::default()).unwrap().len(), 1_000);
}

#[test]
fn plain_idx_is_read_like_compressed_idx() {
    let folder = tempfile::tempdir().unwrap();
    let packed = fixture("t10k-1k-images-idx3-ubyte.gz");
    let plain = folder.path().join("plain-images-idx3-ubyte");
    let idx = data::Idx::read(&packed).unwrap().first(50).unwrap();
    let mut bytes = vec![0, 0, 8, 3];
    for dim in [50_u32, 28, 28] {
        bytes.extend(dim.to_be_bytes());
    }
    bytes.extend(&idx.bytes);
    std::fs::write(&plain, bytes).unwrap();
    let [packed, plain] = [packed, plain].map(|path| {
        let set = data::open(&path, &Options::default()).unwrap();
        values(set.batch(10..50).unwrap().single().unwrap())
    });
    assert_eq!(packed, plain);
    let rewritten = folder.path().join("again-images-idx3-ubyte.gz");
    idx.write_gz(&rewritten).unwrap();
    assert_eq!(data::Idx::read(&rewritten).unwrap(), idx);
}

#[test]
fn idx_labels_can_stand_apart() {
    let labels = Some(fixture("t10k-1k-labels-idx1-ubyte.gz"));
    let set = data::open(&fixture("train-1k"), &Options { labels, ..Options::default() }).unwrap();
    assert_eq!(set.labels().unwrap()[..3], [9, 2, 1]);
}

#[test]
fn numpy_arrays_of_every_form_hold_the_same() {
    let spec = options(&[None, Some(1), Some(2), Some(3)]);
    for name in ["x.npy", "big_endian.npy", "plain.npz", "compressed.npz", "positional.npz"] {
        let set = data::open(&fixture("formats").join(name), &spec).unwrap();
        let batch = set.batch(0..4).unwrap();
        assert_eq!(values(batch.single().unwrap()), tenths(24), "{name}");
        let expected = name.ends_with("npz").then(|| vec![3, 1, 2, 0]);
        assert_eq!(batch.labels, expected, "{name}");
    }
}

#[test]
fn labels_are_read_from_text_and_arrays() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("labels.txt");
    std::fs::write(&text, "3\n1\n2\n0\n").unwrap();
    for labels in [text, fixture("formats/plain.npz")] {
        let given = Options { labels: Some(labels), ..Options::default() };
        let set = data::open(&fixture("formats/x.npy"), &given).unwrap();
        assert_eq!(set.labels().unwrap(), [3, 1, 2, 0]);
    }
}

#[test]
fn safetensors_feeds_several_inputs_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inputs.safetensors");
    let device = candle_core::Device::Cpu;
    let a = Tensor::arange(0_f32, 6.0, &device).unwrap().reshape((2, 3)).unwrap();
    let b = Tensor::arange(0_i64, 4, &device).unwrap().reshape((2, 2)).unwrap();
    let y = Tensor::from_vec(vec![1_i64, 0], 2, &device).unwrap();
    let tensors = std::collections::HashMap::from([("a", a), ("tokens", b), ("labels", y)]);
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let spec = |name: &str, element, width| InputSpec {
        name: name.into(),
        element,
        dims: Some(vec![None, Some(width)]),
    };
    let inputs = vec![spec("tokens", ElementType::I64, 2), spec("a", ElementType::F32, 3)];
    let set = data::open(&path, &Options { inputs, ..Options::default() }).unwrap();
    let batch = set.batch(1..2).unwrap();
    assert_eq!(batch.inputs[0].0, "tokens");
    assert_eq!(batch.inputs[0].1.to_vec2::<i64>().unwrap(), [[2, 3]]);
    assert_eq!(batch.inputs[1].1.to_vec2::<f32>().unwrap(), [[3.0, 4.0, 5.0]]);
    assert_eq!(batch.labels.unwrap(), [0]);
}

#[test]
fn onnx_test_data_joins_its_sets() {
    let set = data::open(&fixture("formats/test_data"), &Options::default()).unwrap();
    assert_eq!(set.len(), 4);
    let batch = set.batch(2..4).unwrap();
    let names: Vec<&str> = batch.inputs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["input_0", "input_1"]);
    assert_eq!(values(&batch.inputs[0].1), tenths(24)[12..]);
    assert_eq!(batch.labels.unwrap(), [2, 0]);
    let one = data::open(&fixture("formats/test_data/test_data_set_1"), &Options::default());
    assert_eq!(one.unwrap().len(), 1);
}

#[test]
fn class_folders_give_labels_in_order_of_name() {
    let folder = tempfile::tempdir().unwrap();
    for (class, file) in [("dog", "b.png"), ("cat", "z.png"), ("cat", "a.png")] {
        std::fs::create_dir_all(folder.path().join(class)).unwrap();
        picture(6, 4).save(folder.path().join(class).join(file)).unwrap();
    }
    std::fs::write(folder.path().join("cat/readme.txt"), "no image").unwrap();
    let set = data::open(folder.path(), &options(&[None, Some(3), None, None])).unwrap();
    assert_eq!(set.classes(), ["cat", "dog"]);
    assert_eq!(set.notes(), ["skipped 1 entries that are no JPEG or PNG files"]);
    let batch = set.batch(0..3).unwrap();
    assert_eq!(batch.labels.as_deref(), Some(&[0, 0, 1][..]));
    let tensor = batch.single().unwrap();
    assert_eq!(tensor.dims(), [3, 3, 4, 6]);
    let pixels = tensor.get(0).unwrap().to_vec3::<f32>().unwrap();
    let got = [pixels[0][1][5], pixels[1][3][0], pixels[2][2][2]];
    assert_eq!(got, [50.0 / 255.0, 30.0 / 255.0, 200.0 / 255.0]);
}

#[test]
fn flat_folders_and_single_images_have_no_labels() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.jpg");
    picture(8, 8).save(&path).unwrap();
    for path in [folder.path(), path.as_path()] {
        let set = data::open(path, &Options::default()).unwrap();
        assert_eq!((set.len(), set.has_labels()), (1, false));
    }
}

#[test]
fn colour_images_become_grey_for_one_channel() {
    let folder = tempfile::tempdir().unwrap();
    picture(6, 4).save(folder.path().join("a.png")).unwrap();
    let set = data::open(folder.path(), &options(&[None, Some(1), None, None])).unwrap();
    let grey = values(set.batch(0..1).unwrap().single().unwrap());
    // Pillow: Image.new("RGB", (1, 1), (50, 30, 200)).convert("L").getpixel((0, 0)) == 55
    assert_eq!(grey[3 * 6 + 5], 55.0 / 255.0);
}

#[test]
fn integer_inputs_get_integers_unscaled() {
    let tensor = Constant::from_bytes(ElementType::U8, vec![2, 3], vec![0, 7, 255, 1, 2, 3]);
    let inputs = vec![InputSpec {
        name: "tokens".into(),
        element: ElementType::I64,
        dims: Some(vec![None, Some(3)]),
    }];
    let options = Options { inputs, ..Options::default() };
    let set = data::from_memory(vec![("tokens".into(), tensor.unwrap())], None, &options).unwrap();
    let batch = set.batch(0..1).unwrap();
    assert_eq!(batch.single().unwrap().to_vec2::<i64>().unwrap(), [[0, 7, 255]]);
}

#[test]
fn vectors_come_from_flattened_images() {
    let set = data::open(&fixture("t10k-1k"), &options(&[None, Some(784)])).unwrap();
    assert_eq!(set.batch(0..2).unwrap().single().unwrap().dims(), [2, 784]);
    assert!(set.notes().iter().any(|note| note.contains("flattened")));
}

/// All samples once, so many apart, in few runs of neighbours.
#[test]
fn runs_are_apart_and_few() {
    let set = data::open(&fixture("t10k-1k"), &Options::default()).unwrap().subset(203, 1);
    let labels = set.labels().unwrap();
    for n in [0, 1, 20, 77, 202, 203, 500] {
        let (others, taken) = set.split_runs(n);
        assert_eq!((others.len(), taken.len()), (203 - n.min(203), n.min(203)), "{n}");
        let mut both = [others.labels().unwrap(), taken.labels().unwrap()].concat();
        let mut all = labels.clone();
        both.sort_unstable();
        all.sort_unstable();
        assert_eq!(both, all, "{n}");
    }
    let (others, taken) = set.split_runs(80);
    // 8 runs of 9 to 11: the last of each 25 or 26 samples.
    assert_eq!(taken.labels().unwrap()[..9], labels[16..25]);
    assert_eq!(others.labels().unwrap()[..16], labels[..16]);
    assert_eq!(set.shuffled(3).in_source_order().labels().unwrap(), labels);
}

#[test]
fn subsets_are_seeded_and_keep_pairs_together() {
    let set = data::open(&fixture("t10k-1k"), &Options::default()).unwrap();
    let [a, b, c] = [(1, 20), (1, 20), (2, 20)].map(|(seed, n)| set.subset(n, seed));
    assert_eq!(a.labels().unwrap(), b.labels().unwrap());
    assert_ne!(a.labels().unwrap(), c.labels().unwrap());
    let shuffled = set.shuffled(5);
    let (mut before, mut after) = (set.labels().unwrap(), shuffled.labels().unwrap());
    assert_ne!(before, after);
    before.sort_unstable();
    after.sort_unstable();
    assert_eq!(before, after);
    // The sample delivered is the one that the label belongs to.
    let first = shuffled.batch(0..1).unwrap();
    let position = (0..1_000).find(|&at| {
        let one = set.batch(at..at + 1).unwrap();
        values(one.single().unwrap()) == values(first.single().unwrap())
    });
    assert_eq!(first.labels.unwrap(), [set.labels().unwrap()[position.unwrap()]]);
    assert_eq!(set.subset(5_000, 0).len(), 1_000);
    let sizes: Vec<usize> =
        set.first(7).batches(3).map(|batch| batch.unwrap().labels.unwrap().len()).collect();
    assert_eq!(sizes, [3, 3, 1]);
}

#[test]
fn batches_do_not_depend_on_the_number_of_threads() {
    let set = data::open(&fixture("t10k-1k"), &Options::default()).unwrap();
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| values(set.batch(0..200).unwrap().single().unwrap()))
    };
    assert_eq!(with(1), with(3));
}

#[test]
fn summary_tells_the_moments_of_fashion_mnist() {
    let set = data::open(&fixture("train-1k"), &Options::default()).unwrap();
    let summary = set.summary().unwrap();
    assert_eq!(summary.samples, 1_000);
    assert_eq!(summary.class_counts.unwrap().iter().sum::<usize>(), 1_000);
    let channel = summary.inputs[0].channels[0];
    assert_eq!((channel.min, channel.max), (0.0, 1.0));
    // The full training split has mean 0.2860 and standard deviation 0.3530; the mean of 1,000
    // images, each with a standard deviation of the mean of 0.15, deviates by about 0.005.
    assert!((channel.mean - 0.286).abs() < 0.02 && (channel.std - 0.353).abs() < 0.02);
    assert!(summary.warnings.is_empty(), "{:?}", summary.warnings);
}

#[test]
fn summary_warns_of_constant_and_badly_scaled_inputs() {
    let warnings = |values: &[f32]| {
        let tensor = Constant::from_f32s(&[2, values.len() / 2], values).unwrap();
        let set = data::from_memory(vec![("x".into(), tensor)], None, &Options::default());
        set.unwrap().summary().unwrap().warnings.join("\n")
    };
    assert!(warnings(&[0.5; 4]).contains("is constant: every value is 0.5"));
    assert!(warnings(&[0.5, 0.5, 0.1, 0.2]).contains("1 of 2 samples"));
    assert!(warnings(&[0.0, 0.003, 0.001, 0.002]).contains("divided by 255 twice"));
    assert!(warnings(&[0.0, 255.0, 13.0, 200.0]).contains("not scaled to 0..1"));
    assert_eq!(warnings(&[0.0, 1.0, 0.2, 0.7]), "");
}
