//! How large packed weights become.

use super::relative::LONGEST;

/// Expected bytes of a tensor of `count` elements of `width` bytes, `nonzeros` of them not zero and
/// at random places: its values and the cheaper index, or all elements when that is less.
///
/// Zeros that lie together, such as whole rows, make gaps uneven: the tensor then takes up to 6 %
/// more. The header of a packed file, some hundred bytes for each tensor, is not counted either; it
/// shows in small files.
///
/// ```
/// use tensor_core::pack::expected_bytes;
///
/// // Half of a million 32-bit weights: two million bytes of values, and a bit for each weight.
/// assert_eq!(expected_bytes(1_000_000, 500_000, 4), 2_125_000.0);
/// ```
pub fn expected_bytes(count: u64, nonzeros: u64, width: u64) -> f64 {
    let (mask, gaps) = index_bytes(count, nonzeros);
    let values = (nonzeros * width) as f64;
    (values + mask.min(gaps)).min((count * width) as f64)
}

/// Expected bytes of the two indices: a bit for each element, and 4 bits for each gap.
///
/// A gap has its length before the next element that is not zero; each full 15 zeros in it take 4
/// bits more. With a share `p` of elements that are not zero and `q = 1 - p`, that is
/// `q^15 / (1 - q^15)` more for each of them.
pub fn index_bytes(count: u64, nonzeros: u64) -> (f64, f64) {
    let mask = count.div_ceil(8) as f64;
    if nonzeros == 0 {
        return (mask, count as f64 / LONGEST as f64 / 2.0);
    }
    let zero_share = 1.0 - nonzeros as f64 / count as f64;
    let long = zero_share.powi(LONGEST as i32);
    // The last element that is not zero may be followed by a gap as well.
    let fillers = (nonzeros + 1) as f64 * long / (1.0 - long);
    (mask, (nonzeros as f64 + fillers) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables 5 and 6 of the paper, from its counts of parameters: the bit mask, half a byte for
    /// each non-zero, and the sum with four bytes for each non-zero, all in millions of bytes.
    #[test]
    fn the_tables_of_the_paper() {
        const PARAMETERS: u64 = 4_210_000;
        for (nonzeros, half_bytes, total) in [
            (2_130_000, 1.06, 9.04),
            (1_090_000, 0.54, 4.88),
            (460_000, 0.23, 2.07),
            (250_000, 0.13, 1.13),
        ] {
            let million = |bytes: f64| bytes / 1e6;
            let (mask, _) = index_bytes(PARAMETERS, nonzeros);
            let gaps = nonzeros as f64 / 2.0;
            let sum = (nonzeros * 4) as f64 + mask.min(gaps);
            assert!((million(mask) - 0.52).abs() < 0.01);
            assert!((million(gaps) - half_bytes).abs() < 0.006, "{gaps}");
            assert!((million(sum) - total).abs() < 0.01, "{sum}");
        }
    }

    #[test]
    fn ends() {
        assert_eq!(expected_bytes(800, 800, 4), 3200.0);
        assert_eq!(expected_bytes(0, 0, 4), 0.0);
        assert!(expected_bytes(1500, 0, 4) <= 50.0);
    }
}
