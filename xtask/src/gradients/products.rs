//! Matrix products.

use super::case::{Case, Input, any};
use serde_json::json;
use tch::Tensor;

/// `alpha A B + beta C`.
struct Gemm {
    about: &'static str,
    transposed: [bool; 2],
    alpha: f64,
    beta: f64,
    c: Option<&'static [i64]>,
}

const PLAIN: Gemm =
    Gemm { about: "", transposed: [false, false], alpha: 1.0, beta: 1.0, c: Some(&[4]) };

const GEMMS: &[Gemm] = &[
    PLAIN,
    Gemm { about: "no bias", c: None, ..PLAIN },
    Gemm { about: "transposed weight", transposed: [false, true], ..PLAIN },
    Gemm { about: "transposed input", transposed: [true, false], c: Some(&[3, 1]), ..PLAIN },
    Gemm {
        about: "both transposed, factors",
        transposed: [true, true],
        alpha: 0.5,
        beta: -1.5,
        c: Some(&[3, 4]),
    },
    Gemm { about: "a factor without bias", alpha: -0.75, c: None, ..PLAIN },
    Gemm { about: "a scalar bias", beta: 2.0, c: Some(&[]), ..PLAIN },
];

impl Gemm {
    fn case(&'static self) -> Case {
        let dims = |[rows, columns]: [i64; 2], transposed: bool| match transposed {
            true => [columns, rows],
            false => [rows, columns],
        };
        let [a, b] = self.transposed;
        let mut inputs = vec![any(&dims([3, 5], a)), any(&dims([5, 4], b))];
        inputs.extend(self.c.map(any));
        let attributes = json!({
            "transA": i64::from(a),
            "transB": i64::from(b),
            "alpha": self.alpha,
            "beta": self.beta,
        });
        Case::new("Gemm", self.about, attributes, inputs, move |v| {
            let turn = |x: &Tensor, yes: bool| if yes { x.tr() } else { x.shallow_clone() };
            let product = turn(&v[0], a).matmul(&turn(&v[1], b)) * self.alpha;
            match v.get(2) {
                Some(c) => product + c * self.beta,
                None => product,
            }
        })
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = GEMMS.iter().map(Gemm::case).collect();
    let shapes: [(&str, &[i64], &[i64]); 6] = [
        ("", &[3, 5], &[5, 4]),
        ("batches", &[2, 3, 5], &[2, 5, 4]),
        ("one weight for all", &[2, 2, 3, 5], &[5, 4]),
        ("broadcast batches", &[2, 1, 3, 5], &[3, 5, 4]),
        ("a vector on the left", &[5], &[2, 5, 4]),
        ("a vector on the right", &[2, 3, 5], &[5]),
    ];
    cases.extend(shapes.map(|(about, a, b)| {
        let inputs: Vec<Input> = vec![any(a), any(b)];
        Case::new("MatMul", about, json!({}), inputs, |v| v[0].matmul(&v[1]))
    }));
    cases
}
