//! The flags behind the parameters that libraries name in their hints.

use std::str::FromStr;
use tensor_core::Error;

/// Parameters of the libraries that are flags of the same name, with `-` for `_`.
const PARAMETERS: [&str; 29] = [
    "attention",
    "batch",
    "checkpoint_every",
    "classes",
    "clip_norm",
    "crop",
    "device",
    "freeze",
    "gate_lr",
    "gates_from",
    "gates_until",
    "input",
    "inputs",
    "label_smoothing",
    "labels",
    "layout",
    "lr",
    "max_bits",
    "min_bits",
    "momentum",
    "resize",
    "round_to",
    "seed",
    "shape",
    "streams",
    "temperature",
    "warmup",
    "weight_decay",
    "width",
];

/// Parameters whose flag has another name.
const RENAMED: [(&str, &str); 7] = [
    ("average", "ema"),
    ("evaluate_every", "eval-every"),
    ("factor", "schedule"),
    ("length", "epochs"),
    ("milestone", "schedule"),
    ("rate", "lr"),
    ("rates", "lr-scale"),
];

/// A message of a library with each `parameter` and `parameter = value` as the flag that sets it.
pub(crate) fn in_flags(message: &str) -> String {
    let quoted = |(i, part): (usize, &str)| match (i % 2, part.split_once(" = ")) {
        (1, Some((name, value))) => match flag(name) {
            Some(flag) => format!("{flag} {value}"),
            None => part.to_owned(),
        },
        (1, None) => flag(part).unwrap_or_else(|| part.to_owned()),
        _ => part.to_owned(),
    };
    message.split('`').enumerate().map(quoted).collect::<Vec<_>>().join("`")
}

/// Reads the value of a flag as its library does, and says what the library hints at.
pub(crate) fn read<T: FromStr<Err = Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: Error| match error.hint_text() {
        Some(hint) => format!("{}; {}", error.message(), in_flags(hint)),
        None => error.message().to_owned(),
    })
}

/// The flag that sets a parameter.
fn flag(name: &str) -> Option<String> {
    let same = || PARAMETERS.contains(&name).then(|| format!("--{}", name.replace('_', "-")));
    let renamed = RENAMED.iter().find(|(parameter, _)| *parameter == name);
    renamed.map(|(_, flag)| format!("--{flag}")).or_else(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_become_flags() {
        for (message, expected) in [
            ("round less (`round_to = 1`)", "round less (`--round-to 1`)"),
            ("a smaller `lr`, or `clip_norm = 1`", "a smaller `--lr`, or `--clip-norm 1`"),
            ("give another `rate`", "give another `--lr`"),
            ("`shape = x=1x3x8x8`", "`--shape x=1x3x8x8`"),
            ("`conv1` and lr", "`conv1` and lr"),
            ("`conv = 3` and `kerf groups MODEL`", "`conv = 3` and `kerf groups MODEL`"),
            ("one ` alone", "one ` alone"),
        ] {
            assert_eq!(in_flags(message), expected);
        }
    }
}
