//! Command lines that can be pasted into a shell.

use std::ffi::OsString;

/// `kerf` with its arguments, quoted where a shell needs it.
pub(crate) fn replay(arguments: &[OsString]) -> String {
    let mut line = "kerf".to_owned();
    for argument in arguments.iter().skip(1) {
        line.push(' ');
        line.push_str(&quoted(&argument.to_string_lossy()));
    }
    line
}

fn quoted(argument: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,%+@".contains(c);
    if !argument.is_empty() && argument.chars().all(is_plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_only_what_needs_it() {
        let arguments = ["/bin/kerf", "prune", "a b.onnx", "--macs", "50%", "--freeze", "*/fc'"];
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let expected = "kerf prune 'a b.onnx' --macs 50% --freeze '*/fc'\\'''";
        assert_eq!(replay(&arguments), expected);
    }
}
