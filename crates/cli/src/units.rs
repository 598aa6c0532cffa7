//! Numbers with units, in both directions.

/// `1_820_000_000` as `1.82 G`, with three significant digits.
pub(crate) fn si(value: u64) -> String {
    scaled(value as f64, 1000.0, &["", "k", "M", "G", "T", "P", "E"])
}

/// Bytes as `44.6 MiB`, with three significant digits.
pub(crate) fn bytes(value: u64) -> String {
    scaled(value as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

fn scaled(mut value: f64, base: f64, units: &[&str]) -> String {
    let mut unit = 0;
    // 999.5 would round to 1000 of this unit.
    while value >= 999.5 && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    let name = units.get(unit).copied().unwrap_or_default();
    format!("{value:.digits$} {name}").trim_end().to_owned()
}

/// A ratio as `49.6%`.
pub(crate) fn percent(ratio: f64) -> String {
    format!("{:.1}%", ratio * 100.0)
}

/// A small ratio as `1.234%`.
pub(crate) fn percent_fine(ratio: f64) -> String {
    format!("{:.3}%", ratio * 100.0)
}

/// `part` of `whole` as `49.6%`; `-` when there is no whole.
pub(crate) fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { percent(part as f64 / whole as f64) }
}

/// Milliseconds as `11.82 ms`.
pub(crate) fn milliseconds(value: f64) -> String {
    let digits = if value < 1.0 { 3 } else { 2 };
    format!("{value:.digits$} ms")
}

/// Dimensions as `1x3x224x224`; a scalar is `()`.
pub(crate) fn dims(dims: &[usize]) -> String {
    if dims.is_empty() {
        return "()".to_owned();
    }
    let dims: Vec<_> = dims.iter().map(ToString::to_string).collect();
    dims.join("x")
}

/// Reads a count such as `1.2G` (powers of 1000).
pub(crate) fn parse_count(text: &str) -> Result<u64, String> {
    let units = [("k", 1e3), ("K", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12), ("", 1.0)];
    parse_scaled(text, &units, "a count such as `1.2G`, `350M` or `900k`")
}

/// Reads a size such as `4MiB` (powers of 1024) or `4MB` (powers of 1000).
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let units = [
        ("KiB", 1024.0),
        ("MiB", 1024.0 * 1024.0),
        ("GiB", 1024.0 * 1024.0 * 1024.0),
        ("kB", 1e3),
        ("KB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("B", 1.0),
    ];
    parse_scaled(text, &units, "a size with its unit, such as `4MiB`, `900KiB` or `3.5MB`")
}

fn parse_scaled(text: &str, units: &[(&str, f64)], expected: &str) -> Result<u64, String> {
    let error = || format!("expected {expected}");
    let trimmed = text.trim();
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| trimmed.strip_suffix(unit).map(|number| (number, factor)))
        .ok_or_else(error)?;
    let number: f64 = number.trim().parse().map_err(|_| error())?;
    let value = number * factor;
    // Beyond 2^53 a float no longer counts by ones.
    if value.is_finite() && (1.0..9.0e15).contains(&value) {
        Ok(value.round() as u64)
    } else {
        Err(error())
    }
}

/// Reads a share such as `50%`, in (0, 100].
pub(crate) fn parse_share(text: &str) -> Result<f64, String> {
    percentage(text).unwrap_or_else(|| Err("expected a share in percent, such as `50%`".to_owned()))
}

/// Reads the share of something to keep, as [`parse_share`] does.
pub(crate) fn parse_kept(text: &str) -> Result<f64, String> {
    percentage(text).unwrap_or_else(|| {
        Err("expected the share to keep in percent, such as `50%`; a bare number could mean kept or \
             removed"
            .to_owned())
    })
}

/// The share that is written, `None` when there is no percent sign.
fn percentage(text: &str) -> Option<Result<f64, String>> {
    let number = text.trim().strip_suffix('%')?;
    Some(match number.trim().parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 100.0 => Ok(value / 100.0),
        _ => Err("expected a share above 0% and up to 100%".to_owned()),
    })
}

/// Reads a share of zeros such as `80%`, in [0, 100).
pub(crate) fn parse_sparsity(text: &str) -> Result<f64, String> {
    let expected = "expected the share of zeros in percent from 0% to below 100%, such as `80%`";
    let number = text.trim().strip_suffix('%').ok_or(expected)?;
    match number.trim().parse::<f64>() {
        Ok(value) if (0.0..100.0).contains(&value) => Ok(value / 100.0),
        _ => Err(expected.to_owned()),
    }
}

/// Reads a time in microseconds.
pub(crate) fn parse_time(text: &str) -> Result<f64, String> {
    let units = [("ms", 1e3), ("us", 1.0), ("s", 1e6)];
    parse_unit(text, &units, "a time with its unit, such as `12ms` or `900us`")
}

/// Reads a length of time in seconds.
pub(crate) fn parse_duration(text: &str) -> Result<f64, String> {
    let units = [("min", 60.0), ("h", 3600.0), ("s", 1.0)];
    parse_unit(text, &units, "a length of time with its unit, such as `10min` or `90s`")
}

/// Reads an energy in microjoules.
pub(crate) fn parse_energy(text: &str) -> Result<f64, String> {
    let units = [("mJ", 1e3), ("uJ", 1.0), ("J", 1e6)];
    parse_unit(text, &units, "an energy with its unit, such as `3mJ` or `900uJ`")
}

fn parse_unit(text: &str, units: &[(&str, f64)], expected: &str) -> Result<f64, String> {
    let found = units.iter().find_map(|(unit, factor)| {
        let number: f64 = text.trim().strip_suffix(unit)?.trim().parse().ok()?;
        Some(number * factor)
    });
    let found = found.filter(|value| value.is_finite() && *value > 0.0);
    found.ok_or_else(|| format!("expected {expected}"))
}

/// Reads a percentage such as `0.5%`, in [0, 100].
pub(crate) fn parse_percentage(text: &str) -> Result<f64, String> {
    let expected = "expected a percentage from 0% to 100%, such as `0.5%`";
    let number = text.trim().strip_suffix('%').ok_or(expected)?;
    match number.trim().parse::<f64>() {
        Ok(value) if (0.0..=100.0).contains(&value) => Ok(value / 100.0),
        _ => Err(expected.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_three_digits() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1000, "1.00 k"),
            (9_994, "9.99 k"),
            (9_996, "10.0 k"),
            (36_352_000, "36.4 M"),
            (999_499, "999 k"),
            (999_500, "1.00 M"),
            (1_820_000_000, "1.82 G"),
        ];
        for (value, text) in cases {
            assert_eq!(si(value), text, "{value}");
        }
        assert_eq!(bytes(46_765_568), "44.6 MiB");
        assert_eq!(bytes(1023), "1.00 KiB");
        assert_eq!(bytes(17), "17 B");
    }

    #[test]
    fn budgets_need_units() {
        assert_eq!(parse_time("12ms"), Ok(12_000.0));
        assert_eq!(parse_time("0.5 s"), Ok(500_000.0));
        assert_eq!(parse_energy("900uJ"), Ok(900.0));
        for bad in ["12", "ms", "-1ms", "nanms", "0us"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_count("1.2G"), Ok(1_200_000_000));
        assert_eq!(parse_count("1000"), Ok(1000));
        assert_eq!(parse_bytes("4MiB"), Ok(4 << 20));
        assert_eq!(parse_bytes("1.5 kB"), Ok(1500));
        assert_eq!(parse_share("50%"), Ok(0.5));
        for bad in ["0.5", "", "%", "0%", "101%", "-1%", "nan%", "inf%"] {
            assert!(parse_share(bad).is_err(), "{bad}");
        }
        assert_eq!((parse_percentage("0%"), parse_percentage("0.5%")), (Ok(0.0), Ok(0.005)));
        for bad in ["0", "-1%", "101%", "nan%"] {
            assert!(parse_percentage(bad).is_err(), "{bad}");
        }
        for bad in ["4", "MiB", "-1MiB", "1e400MiB", "nanB", "0B"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
        for bad in ["G", "-1", "1.2Gi", "infG", "1e300"] {
            assert!(parse_count(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn other_forms() {
        assert_eq!(dims(&[1, 3, 8]), "1x3x8");
        assert_eq!(dims(&[]), "()");
        assert_eq!(share(1, 0), "-");
        assert_eq!(share(1, 3), "33.3%");
        assert_eq!(milliseconds(0.12345), "0.123 ms");
        assert_eq!(milliseconds(11.82), "11.82 ms");
    }
}
