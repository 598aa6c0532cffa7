//! Numbers in sentences.

/// A count with its noun: `1 node`, `2 nodes`. The plural takes an `s`.
pub fn counted(count: impl TryInto<u64>, noun: &str) -> String {
    // A count beyond 64 bits cannot be; it would still be many.
    let count = count.try_into().unwrap_or(u64::MAX);
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        let forms = [0_usize, 1, 2].map(|n| counted(n, "channel group"));
        assert_eq!(forms, ["0 channel groups", "1 channel group", "2 channel groups"]);
    }
}
