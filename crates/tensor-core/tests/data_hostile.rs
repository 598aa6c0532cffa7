//! Damaged, lying and unsuitable data: every one an error that names the file, none a panic.
#![cfg(feature = "data")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use tensor_core::data::{self, Options};
use tensor_core::{Constant, Error, Result};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/data").join(name)
}

/// Opens and reads everything.
fn read_all(path: &Path, options: &Options) -> Result<()> {
    let set = data::open(path, options)?;
    set.batches(64).try_for_each(|batch| batch.map(drop))
}

/// The error for a file of that name and content; it must name the file.
fn error_for(name: &str, content: &[u8]) -> Error {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    let error = read_all(&path, &Options::default()).expect_err(name);
    assert!(error.message().contains(name), "{name}: {error}");
    error
}

fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
}

fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn encoded(name: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let image = image::RgbImage::from_fn(64, 48, |x, y| image::Rgb([x as u8, y as u8, 9]));
    image.save(&path).unwrap();
    std::fs::read(path).unwrap()
}

/// Two images of the given widths in one folder.
fn two_images(first: u32, second: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, width) in [("a.png", first), ("b.png", second)] {
        image::RgbImage::new(width, 4).save(folder.path().join(name)).unwrap();
    }
    folder
}

#[test]
fn lying_headers_allocate_nothing() {
    let images_2_31 =
        [&[0, 0, 8, 3][..], &[0x80, 0, 0, 0], &[0, 0, 0, 28], &[0, 0, 0, 28]].concat();
    let overflow = [&[0, 0, 14, 8][..], &[0xFF; 32]].concat();
    let wide = "{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776, 3), }";
    let empty = "{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776, 0), }";
    let huge = r#"{"x":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}"#;
    let wrapped = r#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}}"#;
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("a-images-idx3-ubyte", images_2_31.clone(), "E0202"),
        ("b-images-idx3-ubyte", overflow, "E0202"),
        ("c-images-idx3-ubyte.gz", gzip(&images_2_31), "E0204"),
        ("wide.npy", npy(wide, &[0; 64]), "E0202"),
        ("empty.npy", npy(empty, &[]), "E0201"),
        ("huge.safetensors", safetensors(huge, &[0; 8]), "E0202"),
        ("wrapped.safetensors", safetensors(wrapped, &[0; 8]), "E0202"),
        ("header.safetensors", vec![0xFF; 16], "E0202"),
        ("long.npy", [b"\x93NUMPY\x02\x00", &[0xFF; 4][..]].concat(), "E0202"),
    ];
    for (name, content, code) in cases {
        assert_eq!(error_for(name, &content).code(), code, "{name}");
    }
}

#[test]
fn every_truncation_of_a_file_is_an_error() {
    let files = [
        fixture("t10k-1k-labels-idx1-ubyte.gz"),
        fixture("formats/x.npy"),
        fixture("formats/plain.npz"),
        fixture("formats/compressed.npz"),
    ];
    for file in files {
        let content = std::fs::read(&file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        // gzip's last 8 bytes are a checksum that is beyond what the header asks for.
        let keep = content.len() - if name.ends_with(".gz") { 9 } else { 0 };
        for length in (0..keep).step_by(7) {
            let error = error_for(name, &content[..length]);
            assert!(["E0201", "E0202"].contains(&error.code()), "{name} {length}: {error}");
        }
    }
}

#[test]
fn truncated_and_foreign_images_are_errors() {
    for name in ["a.png", "a.jpg"] {
        let content = encoded(name);
        // The last hundredth of this PNG is its end chunk, which holds no pixels.
        for part in [10, 40, 70, 90, 98] {
            let error = error_for(name, &content[..content.len() * part / 100]);
            assert_eq!(error.code(), "E0202", "{name} {part} %: {error}");
        }
        error_for(name, &[]);
        error_for(name, b"this is a text");
    }
    let mut bomb = encoded("a.png");
    // Width and height in the header; the checksum no longer fits either.
    bomb[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    error_for("bomb.png", &bomb);
}

#[test]
fn mutated_files_never_panic() {
    use rand_chacha::rand_core::RngCore;
    let mut rng = tensor_core::random::stream(0, "hostile data");
    let files = ["x.npy", "plain.npz", "compressed.npz"].map(|name| fixture("formats").join(name));
    let mut contents: Vec<(String, Vec<u8>)> = files
        .iter()
        .map(|path| {
            (path.file_name().unwrap().to_string_lossy().into(), std::fs::read(path).unwrap())
        })
        .collect();
    for name in ["a.png", "a.jpg"] {
        contents.push((name.to_owned(), encoded(name)));
    }
    let folder = tempfile::tempdir().unwrap();
    for round in 0..2_000 {
        let (name, content) = &contents[round % contents.len()];
        let mut content = content.clone();
        for _ in 0..1 + rng.next_u32() % 4 {
            let at = rng.next_u64() as usize % content.len();
            content[at] = rng.next_u32() as u8;
        }
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        if let Err(error) = read_all(&path, &Options::default()) {
            assert!(error.code().starts_with("E02"), "{name}: {} {error}", error.code());
        }
    }
}

#[test]
fn missing_and_empty_places_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = data::open(folder.path(), &Options::default()).unwrap_err();
    assert_eq!(error.code(), "E0201");
    assert!(error.message().contains("holds no images"), "{error}");
    std::fs::create_dir(folder.path().join("cat")).unwrap();
    assert_eq!(data::open(folder.path(), &Options::default()).unwrap_err().code(), "E0201");
    let error = data::open(&folder.path().join("absent"), &Options::default()).unwrap_err();
    assert_eq!(error.code(), "E0201");
    assert!(error.message().contains("absent"));
    assert_eq!(error_for("notes.txt", b"hello").code(), "E0201");
    assert_eq!(error_for("zero-bytes", b"").code(), "E0201");
}

#[cfg(unix)]
#[test]
fn an_unreadable_image_is_named() {
    let folder = two_images(4, 4);
    let target = folder.path().join("c.png");
    std::os::unix::fs::symlink(folder.path().join("nowhere"), &target).unwrap();
    let error = read_all(folder.path(), &Options::default()).unwrap_err();
    assert_eq!(error.code(), "E0201");
    assert!(error.message().contains("c.png"), "{error}");
}

#[test]
fn images_beside_class_folders_are_ambiguous() {
    let folder = two_images(4, 4);
    std::fs::create_dir(folder.path().join("cat")).unwrap();
    assert_eq!(data::open(folder.path(), &Options::default()).unwrap_err().code(), "E0209");
}

#[test]
fn mixed_sizes_need_a_resize() {
    let folder = two_images(4, 5);
    let error = read_all(folder.path(), &Options::default()).unwrap_err();
    assert_eq!(error.code(), "E0206");
    assert!(error.message().contains("b.png: has shape 3x4x5"), "{error}");
    assert!(error.hint_text().unwrap().contains("`resize = "));
}

#[test]
fn nan_and_infinity_are_found_where_they_are() {
    for bad in [f32::NAN, f32::INFINITY] {
        let tensor = Constant::from_f32s(&[3, 2], &[0.0, 1.0, 2.0, bad, 0.0, 1.0]).unwrap();
        let set = data::from_memory(vec![("x".into(), tensor)], None, &Options::default()).unwrap();
        let error = set.summary().unwrap_err();
        assert_eq!(error.code(), "E0208");
        assert!(error.message().contains("sample 1"), "{error}");
    }
}

#[test]
fn labels_must_be_class_numbers_and_as_many_as_samples() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.txt");
    for (text, part) in [("1\n2\n", "2 labels for 4"), ("1\n-2\n3\n4\n", "-2"), ("a\n", "list")] {
        std::fs::write(&path, text).unwrap();
        let options = Options { labels: Some(path.clone()), ..Options::default() };
        let error = data::open(&fixture("formats/x.npy"), &options).unwrap_err();
        assert_eq!(error.code(), "E0207", "{text:?}");
        assert!(error.message().contains(part), "{error}");
    }
    let options = Options { labels: Some(fixture("formats/x.npy")), ..Options::default() };
    assert_eq!(data::open(&fixture("formats/x.npy"), &options).unwrap_err().code(), "E0207");
    let unlabelled = data::open(&fixture("formats/x.npy"), &Options::default()).unwrap();
    assert_eq!(unlabelled.labels().unwrap_err().code(), "E0207");
}

#[test]
fn types_and_orders_that_are_not_handled_say_so() {
    for name in ["complex.npy", "fortran.npy"] {
        let error = data::open(&fixture("formats").join(name), &Options::default()).unwrap_err();
        assert_eq!(error.code(), "E0204", "{name}");
        assert!(error.hint_text().is_some(), "{name}");
    }
    let scalar = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", &[0; 4]);
    assert_eq!(error_for("scalar.npy", &scalar).code(), "E0204");
    let objects = npy("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", &[0; 64]);
    assert_eq!(error_for("objects.npy", &objects).code(), "E0204");
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
        "b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    assert_eq!(error_for("two.safetensors", &safetensors(header, &[0; 8])).code(), "E0209");
}

#[test]
fn a_range_outside_the_set_is_an_error() {
    let set = data::open(&fixture("formats/x.npy"), &Options::default()).unwrap();
    assert!(set.batch(2..5).is_err());
    assert_eq!(set.batch(4..4).unwrap().single().unwrap().dims()[0], 0);
}
