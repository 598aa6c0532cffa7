//! Convolutions and transposed convolutions.

use super::case::{Case, any};
use serde_json::{Value, json};
use tch::Tensor;

/// A convolution over one or two axes.
struct Conv {
    about: &'static str,
    x: &'static [i64],
    w: &'static [i64],
    bias: bool,
    strides: &'static [i64],
    /// All begins, then all ends.
    pads: &'static [i64],
    dilations: &'static [i64],
    group: i64,
}

/// A plain 3 x 3 convolution of five by six positions.
const PLAIN: Conv = Conv {
    about: "",
    x: &[2, 3, 5, 6],
    w: &[4, 3, 3, 3],
    bias: true,
    strides: &[1, 1],
    pads: &[0, 0, 0, 0],
    dilations: &[1, 1],
    group: 1,
};

const CONVOLUTIONS: &[Conv] = &[
    PLAIN,
    Conv { about: "no bias", bias: false, ..PLAIN },
    Conv { about: "padded", pads: &[1, 1, 1, 1], ..PLAIN },
    Conv { about: "padded unevenly", pads: &[0, 2, 1, 1], ..PLAIN },
    Conv { about: "strides", strides: &[2, 3], pads: &[1, 1, 1, 1], ..PLAIN },
    Conv { about: "strides that leave a rest", x: &[1, 3, 6, 8], strides: &[2, 2], ..PLAIN },
    Conv { about: "dilations", pads: &[2, 1, 2, 1], dilations: &[2, 1], ..PLAIN },
    Conv {
        about: "strides and dilations",
        strides: &[2, 2],
        pads: &[2, 2, 1, 2],
        dilations: &[2, 2],
        ..PLAIN
    },
    Conv { about: "1 x 1", w: &[5, 3, 1, 1], ..PLAIN },
    Conv { about: "1 x 1 with strides", w: &[5, 3, 1, 1], strides: &[2, 2], ..PLAIN },
    Conv { about: "a long kernel", w: &[2, 3, 1, 5], pads: &[0, 2, 0, 2], ..PLAIN },
    Conv { about: "whole input", w: &[2, 3, 5, 6], ..PLAIN },
    Conv {
        about: "groups",
        x: &[2, 4, 5, 5],
        w: &[6, 2, 3, 3],
        pads: &[1, 1, 1, 1],
        group: 2,
        ..PLAIN
    },
    Conv {
        about: "groups with strides",
        x: &[2, 4, 5, 5],
        w: &[6, 2, 3, 3],
        strides: &[2, 1],
        pads: &[1, 0, 1, 0],
        group: 2,
        bias: false,
        ..PLAIN
    },
    Conv { about: "depthwise", w: &[3, 1, 3, 3], pads: &[1, 1, 1, 1], group: 3, ..PLAIN },
    Conv {
        about: "depthwise with strides",
        w: &[3, 1, 3, 3],
        strides: &[2, 2],
        pads: &[1, 1, 1, 1],
        group: 3,
        ..PLAIN
    },
    Conv {
        about: "depthwise with dilations",
        w: &[3, 1, 3, 3],
        pads: &[2, 2, 2, 2],
        dilations: &[2, 2],
        group: 3,
        ..PLAIN
    },
    Conv {
        about: "depthwise with two outputs each",
        w: &[6, 1, 3, 3],
        pads: &[0, 1, 1, 0],
        group: 3,
        ..PLAIN
    },
    Conv {
        about: "many channels",
        x: &[1, 16, 4, 5],
        w: &[16, 16, 3, 3],
        pads: &[1, 1, 1, 1],
        ..PLAIN
    },
    Conv {
        about: "one axis",
        x: &[2, 3, 9],
        w: &[4, 3, 3],
        strides: &[2],
        pads: &[1, 0],
        dilations: &[2],
        ..PLAIN
    },
    Conv {
        about: "one axis, depthwise",
        x: &[2, 3, 9],
        w: &[3, 1, 4],
        strides: &[1],
        pads: &[1, 2],
        dilations: &[1],
        group: 3,
        bias: false,
    },
];

impl Conv {
    fn attributes(&self) -> Value {
        json!({
            "strides": self.strides,
            "pads": self.pads,
            "dilations": self.dilations,
            "group": self.group,
        })
    }

    fn case(&'static self) -> Case {
        let mut inputs = vec![any(self.x), any(self.w)];
        inputs.extend(self.bias.then(|| any(&self.w[..1])));
        Case::new("Conv", self.about, self.attributes(), inputs, |v| self.run(v, self.pads))
    }

    /// libtorch pads evenly, so that padding is an operation of its own here.
    fn run(&self, v: &[Tensor], pads: &[i64]) -> Tensor {
        let rank = pads.len() / 2;
        let last_first: Vec<i64> =
            (0..rank).rev().flat_map(|axis| [pads[axis], pads[axis + rank]]).collect();
        let (x, none) = (v[0].constant_pad_nd(last_first), vec![0; rank]);
        let (w, b, none) = (&v[1], v.get(2), none.as_slice());
        match rank {
            1 => x.conv1d(w, b, self.strides, none, self.dilations, self.group),
            _ => x.conv2d(w, b, self.strides, none, self.dilations, self.group),
        }
    }
}

/// Padding that follows from the sizes: an odd rest at the end, or at the begin.
fn automatic() -> Vec<Case> {
    const STRIDED: Conv = Conv { strides: &[2, 2], w: &[2, 3, 3, 3], ..PLAIN };
    // Six columns in steps of two by a kernel of three need one column of padding; five rows two.
    let cases: [(&str, &[i64]); 2] = [("SAME_UPPER", &[1, 0, 1, 1]), ("SAME_LOWER", &[1, 1, 1, 0])];
    let case = |(rule, pads): (&str, &'static [i64])| {
        let attributes = json!({"strides": STRIDED.strides, "auto_pad": rule});
        let inputs = vec![any(STRIDED.x), any(STRIDED.w)];
        Case::new("Conv", rule, attributes, inputs, move |v| STRIDED.run(v, pads))
    };
    cases.map(case).into()
}

/// A transposed convolution over two axes; libtorch's padding is the same at both ends.
struct Transposed {
    about: &'static str,
    x: &'static [i64],
    w: &'static [i64],
    bias: bool,
    strides: [i64; 2],
    pads: [i64; 2],
    dilations: [i64; 2],
    extra: [i64; 2],
    group: i64,
}

const TRANSPOSED: Transposed = Transposed {
    about: "",
    x: &[2, 3, 3, 4],
    w: &[3, 2, 3, 3],
    bias: true,
    strides: [1, 1],
    pads: [0, 0],
    dilations: [1, 1],
    extra: [0, 0],
    group: 1,
};

const TRANSPOSES: &[Transposed] = &[
    TRANSPOSED,
    Transposed { about: "strides", strides: [2, 3], bias: false, ..TRANSPOSED },
    Transposed {
        about: "strides, pads and output padding",
        strides: [2, 2],
        pads: [1, 1],
        extra: [1, 0],
        ..TRANSPOSED
    },
    Transposed { about: "dilations", dilations: [2, 1], pads: [1, 0], ..TRANSPOSED },
    Transposed { about: "2 x 2 in steps of 2", w: &[3, 2, 2, 2], strides: [2, 2], ..TRANSPOSED },
    Transposed {
        about: "groups",
        x: &[2, 4, 3, 3],
        w: &[4, 2, 3, 3],
        strides: [2, 1],
        group: 2,
        ..TRANSPOSED
    },
    Transposed {
        about: "depthwise",
        w: &[3, 1, 3, 3],
        strides: [2, 2],
        pads: [1, 1],
        group: 3,
        ..TRANSPOSED
    },
];

impl Transposed {
    fn case(&'static self) -> Case {
        let attributes = json!({
            "strides": self.strides,
            "pads": ([self.pads, self.pads].concat()),
            "dilations": self.dilations,
            "output_padding": self.extra,
            "group": self.group,
        });
        let mut inputs = vec![any(self.x), any(self.w)];
        inputs.extend(self.bias.then(|| any(&[self.w[1] * self.group])));
        Case::new("ConvTranspose", self.about, attributes, inputs, |v| {
            let (w, b) = (&v[1], v.get(2));
            let Self { strides, pads, extra, group, dilations, .. } = self;
            v[0].conv_transpose2d(w, b, strides, pads, extra, *group, dilations)
        })
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = CONVOLUTIONS.iter().map(Conv::case).collect();
    cases.extend(automatic());
    cases.extend(TRANSPOSES.iter().map(Transposed::case));
    cases
}
