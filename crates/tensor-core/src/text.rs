//! Numbers and names in sentences.

/// A count with its noun: `1 node`, `2 nodes`. The plural takes an `s`.
pub fn counted(count: impl TryInto<u64>, noun: &str) -> String {
    // A count beyond 64 bits cannot be; it would still be many.
    let count = count.try_into().unwrap_or(u64::MAX);
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

/// Most names that an error suggests.
const SUGGESTED: usize = 4;

/// The names that are most like a mistyped one, the nearest first, as a list in quotes.
pub fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut ranked: Vec<(usize, &str)> =
        known.map(|other| (distance(name, other), other)).collect();
    ranked.sort_unstable();
    let names: Vec<_> =
        ranked.iter().take(SUGGESTED).map(|(_, other)| format!("`{other}`")).collect();
    names.join(", ")
}

/// Edits between two names (Levenshtein); none when one holds the other, ignoring case.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    if !a.is_empty() && (b.contains(&a) || a.contains(&b)) {
        return 0;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &b) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Does a name match a pattern in which `*` stands for any text?
pub fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == name };
    let Some(rest) = name.strip_prefix(head) else { return false };
    (0..=rest.len()).filter(|&i| rest.is_char_boundary(i)).any(|i| matches(tail, &rest[i..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("conv1", "conv1", true),
            ("conv1", "conv12", false),
            ("conv*", "conv12", true),
            ("*/fc/*", "/head/fc/MatMul", true),
            ("a*b*c", "a--b--c", true),
            ("a*b*c", "a--c--b", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn only_one_is_singular() {
        let forms = [0_usize, 1, 2].map(|n| counted(n, "channel group"));
        assert_eq!(forms, ["0 channel groups", "1 channel group", "2 channel groups"]);
    }

    #[test]
    fn edits_are_counted() {
        for (a, b, expected) in [
            ("conv1", "conv2", 1),
            ("conv1", "cnov1", 2),
            ("kitten", "sitting", 3),
            ("features.0", "/features/features.0/Conv", 0),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
        assert_eq!(near("con2", ["zzz", "conv1", "conv2"].into_iter()), "`conv2`, `conv1`, `zzz`");
    }
}
