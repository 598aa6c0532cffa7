//! The flags behind the parameters that libraries name in their hints.

/// Parameters of the libraries that are flags of the same name, with `-` for `_`.
const PARAMETERS: [&str; 15] = [
    "classes",
    "clip_norm",
    "crop",
    "device",
    "freeze",
    "input",
    "labels",
    "layout",
    "lr",
    "resize",
    "round_to",
    "shape",
    "streams",
    "warmup",
    "width",
];

/// A message of a library with each `parameter` and `parameter = value` as the flag that sets it.
pub(crate) fn in_flags(message: &str) -> String {
    let quoted = |(i, part): (usize, &str)| match (i % 2, part.split_once(" = ")) {
        (1, Some((name, value))) if PARAMETERS.contains(&name) => format!("{} {value}", flag(name)),
        (1, None) if PARAMETERS.contains(&part) => flag(part),
        _ => part.to_owned(),
    };
    message.split('`').enumerate().map(quoted).collect::<Vec<_>>().join("`")
}

fn flag(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_become_flags() {
        for (message, expected) in [
            ("round less (`round_to = 1`)", "round less (`--round-to 1`)"),
            ("a smaller `lr`, or `clip_norm = 1`", "a smaller `--lr`, or `--clip-norm 1`"),
            ("`shape = x=1x3x8x8`", "`--shape x=1x3x8x8`"),
            ("`conv1` and lr", "`conv1` and lr"),
            ("`conv = 3` and `kerf groups MODEL`", "`conv = 3` and `kerf groups MODEL`"),
            ("one ` alone", "one ` alone"),
        ] {
            assert_eq!(in_flags(message), expected);
        }
    }
}
