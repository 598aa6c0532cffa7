//! Pooling.

use super::case::{Case, any};
use serde_json::json;

/// A window over `[2, 2, 6, 7]`; libtorch's padding is the same at both ends.
struct Window {
    about: &'static str,
    kernel: [i64; 2],
    strides: [i64; 2],
    pads: [i64; 2],
    dilations: [i64; 2],
    ceil: bool,
}

const X: &[i64] = &[2, 2, 6, 7];

const PLAIN: Window = Window {
    about: "",
    kernel: [2, 2],
    strides: [2, 2],
    pads: [0, 0],
    dilations: [1, 1],
    ceil: false,
};

const WINDOWS: &[Window] = &[
    PLAIN,
    Window { about: "ceil", ceil: true, ..PLAIN },
    Window { about: "overlapping", kernel: [3, 3], strides: [2, 1], ..PLAIN },
    Window { about: "padded", kernel: [3, 3], strides: [2, 2], pads: [1, 1], ..PLAIN },
    Window {
        about: "padded, ceil",
        kernel: [3, 2],
        strides: [2, 3],
        pads: [1, 0],
        ceil: true,
        ..PLAIN
    },
    Window { about: "long steps", kernel: [2, 1], strides: [3, 2], ..PLAIN },
];

const DILATED: &[Window] = &[
    Window { about: "dilations", kernel: [2, 3], strides: [1, 1], dilations: [3, 2], ..PLAIN },
    Window {
        about: "dilations, padded, ceil",
        kernel: [3, 2],
        strides: [2, 2],
        pads: [1, 1],
        dilations: [2, 3],
        ceil: true,
    },
];

impl Window {
    fn maximum(&'static self) -> Case {
        let attributes = json!({
            "kernel_shape": self.kernel,
            "strides": self.strides,
            "pads": ([self.pads, self.pads].concat()),
            "dilations": self.dilations,
            "ceil_mode": i64::from(self.ceil),
        });
        Case::new("MaxPool", self.about, attributes, vec![any(X)], |v| {
            v[0].max_pool2d(self.kernel, self.strides, self.pads, self.dilations, self.ceil)
        })
    }

    fn average(&'static self, include_pads: bool) -> Case {
        let attributes = json!({
            "kernel_shape": self.kernel,
            "strides": self.strides,
            "pads": ([self.pads, self.pads].concat()),
            "ceil_mode": i64::from(self.ceil),
            "count_include_pad": i64::from(include_pads),
        });
        let about = match include_pads {
            true => format!("{} counting padding", self.about).trim_start().to_owned(),
            false => self.about.to_owned(),
        };
        Case::new("AveragePool", &about, attributes, vec![any(X)], move |v| {
            v[0].avg_pool2d(self.kernel, self.strides, self.pads, self.ceil, include_pads, None)
        })
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = WINDOWS.iter().chain(DILATED).map(Window::maximum).collect();
    for window in WINDOWS {
        cases.extend([false, true].map(|include_pads| window.average(include_pads)));
    }
    let line = || vec![any(&[2, 3, 9])];
    let attributes = || json!({"kernel_shape": [3], "strides": [2], "pads": [1, 1]});
    cases.push(Case::new("MaxPool", "one axis", attributes(), line(), |v| {
        v[0].max_pool1d([3], [2], [1], [1], false)
    }));
    cases.push(Case::new("AveragePool", "one axis", attributes(), line(), |v| {
        v[0].avg_pool1d([3], [2], [1], false, false)
    }));
    cases.push(Case::new("GlobalAveragePool", "", json!({}), vec![any(X)], |v| {
        v[0].adaptive_avg_pool2d([1, 1])
    }));
    cases.push(Case::new("GlobalMaxPool", "", json!({}), vec![any(X)], |v| {
        v[0].adaptive_max_pool2d([1, 1]).0
    }));
    cases
}
