//! Preprocessing: settings, files, and what they do to samples.
#![cfg(feature = "data")]
#![allow(clippy::unwrap_used, reason = "tests")]

use candle_core::Tensor;
use std::path::Path;
use tensor_core::data::{self, InputSpec, Layout, Options, PerChannel, Preprocess, Size};
use tensor_core::{Constant, ElementType};

fn options(preprocess: Preprocess, dims: &[Option<usize>]) -> Options {
    let input =
        InputSpec { name: "input".into(), element: ElementType::F32, dims: Some(dims.to_vec()) };
    Options { preprocess, inputs: vec![input], ..Options::default() }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Bytes 0, 1, 2, ... of that shape.
fn bytes(dims: &[usize]) -> Vec<(String, Constant)> {
    let count: usize = dims.iter().product();
    let pixels = (0..count).map(|value| value as u8).collect();
    let tensor = Constant::from_bytes(ElementType::U8, dims.to_vec(), pixels).unwrap();
    vec![("input".to_owned(), tensor)]
}

#[test]
fn the_committed_files_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/preprocess");
    let fmnist = Preprocess::read(&folder.join("fmnist.json")).unwrap();
    assert_eq!(fmnist.mean, Some(PerChannel::One(0.2860)));
    assert_eq!(fmnist.std, Some(PerChannel::One(0.3530)));
    let lite = Preprocess::read(&folder.join("efficientnet_lite0.json")).unwrap();
    let set = data::from_memory(
        bytes(&[1, 1, 16, 16]),
        None,
        &Options {
            preprocess: Preprocess { resize: None, crop: None, ..lite },
            ..Options::default()
        },
    );
    let got = values(set.unwrap().batch(0..1).unwrap().single().unwrap());
    for (pixel, value) in got.iter().enumerate() {
        assert!((value - (pixel as f32 - 127.0) / 128.0).abs() < 1e-6, "{pixel}: {value}");
    }
}

#[test]
fn settings_survive_their_file() {
    let settings = Preprocess {
        resize: Some(Size::Side(256)),
        crop: Some(Size::HeightWidth(224, 192)),
        mean: Some(PerChannel::Each(vec![0.485, 0.456, 0.406])),
        std: Some(PerChannel::One(0.5)),
        layout: Some(Layout::Nhwc),
    };
    let text = settings.to_json().unwrap();
    assert!(text.contains("\"schema\": \"kerf.preprocess/1\""), "{text}");
    assert_eq!(Preprocess::from_json(&text).unwrap(), settings);
}

#[test]
fn wrong_files_are_refused_with_the_key() {
    let cases = [
        (r#"{"schema": "kerf.preprocess/1", "resise": 3}"#, "resise", "did you mean `resize`?"),
        (r#"{"schema": "kerf.preprocess/1", "crop": -3}"#, "crop", ""),
        (r#"{"schema": "kerf.preprocess/1", "crop": 0}"#, "crop", ""),
        (r#"{"schema": "kerf.preprocess/1", "std": [1, 0]}"#, "std", ""),
        (r#"{"schema": "kerf.preprocess/1", "mean": []}"#, "mean", ""),
        (r#"{"schema": "kerf.preprocess/1", "layout": "hwc"}"#, "layout", ""),
        (r#"{"schema": "kerf.preprocess/9"}"#, "kerf.preprocess/9", "kerf.preprocess/1"),
        (r#"{"mean": 0.5}"#, "schema", "kerf.preprocess/1"),
        ("resize = 3", "JSON", ""),
    ];
    for (text, named, hint) in cases {
        let error = Preprocess::from_json(text).unwrap_err();
        assert_eq!(error.code(), "E0210", "{text}");
        assert!(error.message().contains(named), "{text}: {error}");
        assert!(error.hint_text().unwrap_or_default().contains(hint), "{text}: {error:?}");
    }
}

#[test]
fn flags_are_parsed() {
    assert_eq!("224".parse::<Size>().unwrap(), Size::Side(224));
    assert_eq!("224x192".parse::<Size>().unwrap(), Size::HeightWidth(224, 192));
    assert_eq!("0.5".parse::<PerChannel>().unwrap(), PerChannel::One(0.5));
    assert_eq!("1, 2,3".parse::<PerChannel>().unwrap(), PerChannel::Each(vec![1.0, 2.0, 3.0]));
    for text in ["", "x", "3x", "-1", "1x2x3"] {
        assert_eq!(text.parse::<Size>().unwrap_err().code(), "E0210", "{text}");
    }
    assert_eq!("0.5,a".parse::<PerChannel>().unwrap_err().code(), "E0210");
}

#[test]
fn resize_crop_and_normalise_in_either_layout() {
    let preprocess = Preprocess {
        resize: Some(Size::Side(5)),
        crop: Some(Size::HeightWidth(5, 4)),
        mean: Some(PerChannel::Each(vec![0.1, 0.2, 0.3])),
        std: Some(PerChannel::One(0.5)),
        layout: None,
    };
    let pixels: Vec<u8> =
        (0..10 * 20).flat_map(|at| [(at % 20) as u8 * 10, (at / 20) as u8 * 10, 200]).collect();
    let tensor = Constant::from_bytes(ElementType::U8, vec![1, 10, 20, 3], pixels).unwrap();
    let open = |dims: &[Option<usize>]| {
        let inputs = vec![("input".to_owned(), tensor.clone())];
        let set = data::from_memory(inputs, None, &options(preprocess.clone(), dims)).unwrap();
        set.batch(0..1).unwrap().single().unwrap().clone()
    };
    let first = open(&[None, Some(3), Some(5), Some(4)]);
    let last = open(&[Some(1), Some(5), Some(4), Some(3)]);
    assert_eq!(first.dims(), [1, 3, 5, 4]);
    assert_eq!(values(&first.permute((0, 2, 3, 1)).unwrap()), values(&last));
    let planes = first.get(0).unwrap().to_vec3::<f32>().unwrap();
    // Blue is constant. Red is linear along x, 20 per output pixel; the centre crop of 10 columns
    // begins at column 3.
    let close = |value: f32, pixel: f32, mean: f32| {
        assert!((value - (pixel / 255.0 - mean) / 0.5).abs() < 2e-6, "{value} {pixel}");
    };
    planes[2].iter().flatten().for_each(|&value| close(value, 200.0, 0.3));
    for (column, &value) in planes[0][1].iter().enumerate() {
        close(value, 5.0 + 20.0 * (column + 3) as f32, 0.1);
    }
}

#[test]
fn images_stored_channels_last_are_turned_and_noted() {
    let spec = options(Preprocess::default(), &[None, Some(3), Some(2), Some(4)]);
    let set = data::from_memory(bytes(&[1, 2, 4, 3]), None, &spec).unwrap();
    assert!(set.notes()[0].contains("channels last"), "{:?}", set.notes());
    let got = values(set.batch(0..1).unwrap().single().unwrap());
    assert_eq!(got[..3], [0.0, 3.0 / 255.0, 6.0 / 255.0]);
    let preprocess = Preprocess { layout: Some(Layout::Nhwc), ..Preprocess::default() };
    let as_stored = Options { preprocess, ..Options::default() };
    let set = data::from_memory(bytes(&[1, 2, 4, 3]), None, &as_stored).unwrap();
    let got = values(set.batch(0..1).unwrap().single().unwrap());
    assert_eq!(got[..2], [0.0, 1.0 / 255.0]);
}

#[test]
fn float_arrays_are_taken_as_they_are() {
    let tensor = Constant::from_f32s(&[1, 1, 1, 2], &[-3.0, 300.0]).unwrap();
    let inputs = vec![("input".to_owned(), tensor)];
    let set = data::from_memory(inputs, None, &Options::default()).unwrap();
    assert_eq!(values(set.batch(0..1).unwrap().single().unwrap()), [-3.0, 300.0]);
}

#[test]
fn a_misfit_names_both_shapes_and_the_flag() {
    let dims = [None, Some(3), Some(224), Some(224)];
    let spec = options(Preprocess::default(), &dims);
    let error = data::from_memory(bytes(&[1, 3, 10, 8]), None, &spec).unwrap_err();
    assert_eq!(error.code(), "E0205");
    for part in ["3x10x8", "`input`", "3x224x224"] {
        assert!(error.message().contains(part), "{error}");
    }
    assert_eq!(error.hint_text(), Some("add `resize = 224` and `crop = 224`"));
    let error = data::from_memory(bytes(&[1, 1, 224, 224]), None, &spec).unwrap_err();
    assert!(error.hint_text().unwrap().contains("1 channel and the model wants 3"), "{error:?}");
}

#[test]
fn settings_that_do_not_apply_are_refused() {
    let three = Preprocess { mean: Some(PerChannel::Each(vec![0.5; 3])), ..Preprocess::default() };
    let spec = Options { preprocess: three.clone(), ..Options::default() };
    let error = data::from_memory(bytes(&[1, 1, 2, 2]), None, &spec).unwrap_err();
    assert_eq!(error.code(), "E0210");
    let crop = Preprocess { crop: Some(Size::Side(9)), ..Preprocess::default() };
    let spec = Options { preprocess: crop, ..Options::default() };
    let error = data::from_memory(bytes(&[1, 1, 2, 2]), None, &spec).unwrap_err();
    assert_eq!(error.code(), "E0205");
    let error = data::from_memory(bytes(&[2, 2]), None, &spec).unwrap_err();
    assert_eq!(error.code(), "E0210");
    let two = [bytes(&[1, 2]), bytes(&[1, 2])].concat();
    let spec = Options { preprocess: three, ..Options::default() };
    assert_eq!(data::from_memory(two, None, &spec).unwrap_err().code(), "E0210");
}
