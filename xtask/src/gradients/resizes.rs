//! Interpolation.

use super::case::{Case, Input, any, integers};
use serde_json::{Value, json};
use tch::Tensor;

/// Five by six from three by four.
const SIZE: [i64; 2] = [5, 6];

type Resize = fn(&Tensor) -> Tensor;

const RESIZES: [(&str, &str, Resize); 5] = [
    ("linear", "half_pixel", |x| x.upsample_bilinear2d(SIZE, false, None, None)),
    ("linear", "align_corners", |x| x.upsample_bilinear2d(SIZE, true, None, None)),
    ("cubic", "half_pixel", |x| x.upsample_bicubic2d(SIZE, false, None, None)),
    ("cubic", "align_corners", |x| x.upsample_bicubic2d(SIZE, true, None, None)),
    ("nearest", "asymmetric", |x| x.upsample_nearest2d(SIZE, None, None)),
];

pub(super) fn cases() -> Vec<Case> {
    let case = |(mode, rule, resize): (&str, &str, Resize)| {
        let attributes: Value = json!({
            "mode": mode,
            "coordinate_transformation_mode": rule,
            "nearest_mode": "floor",
        });
        let sizes = integers(&[2, 2, SIZE[0], SIZE[1]]);
        let inputs = vec![any(&[2, 2, 3, 4]), Input::Absent, Input::Absent, sizes];
        Case::new("Resize", &format!("{mode}, {rule}"), attributes, inputs, move |v| resize(&v[0]))
    };
    RESIZES.map(case).into()
}
