//! Four bits for each gap between elements that are not zero.

use super::plan::is_zero;

/// The longest gap that an index holds; this index alone stands for as many zeros and no element.
pub(super) const LONGEST: usize = 15;

/// Indices of all elements of `width` bytes, two in a byte, lower half first. Fewer than
/// [`LONGEST`] zeros at the end are left out; an odd last half is zero.
pub(super) fn encode(dense: &[u8], width: usize) -> Vec<u8> {
    let mut packed = Vec::new();
    let (mut gap, mut half) = (0, None);
    let mut push = |index: usize| match half.take() {
        None => half = Some(index as u8),
        Some(low) => packed.push(low | (index as u8) << 4),
    };
    for element in dense.chunks_exact(width) {
        if !is_zero(element) {
            push(gap);
            gap = 0;
        } else if gap + 1 == LONGEST {
            push(LONGEST);
            gap = 0;
        } else {
            gap += 1;
        }
    }
    packed.extend(half);
    packed
}

/// Writes the elements that are not zero into zeros; `None` when indices and values do not fit
/// `dense`.
pub(super) fn decode(gaps: &[u8], values: &[u8], dense: &mut [u8], width: usize) -> Option<()> {
    let halves = gaps.len().checked_mul(2)?;
    let count = dense.len() / width;
    let mut values = values.chunks_exact(width);
    let mut at = 0;
    for half in 0..halves {
        let index = usize::from(gaps[half / 2] >> (half % 2 * 4) & 15);
        at += index;
        if index == LONGEST {
            continue;
        }
        match values.next() {
            Some(value) => {
                dense.get_mut(at * width..(at + 1) * width)?.copy_from_slice(value);
                at += 1;
            }
            None if half + 1 == halves && index == 0 => {}
            None => return None,
        }
    }
    let is_whole = values.next().is_none() && values.remainder().is_empty();
    (is_whole && at <= count && count - at < LONGEST).then_some(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Elements of a byte each.
    fn decoded(gaps: &[u8], values: &[u8], count: usize) -> Option<Vec<u8>> {
        let mut dense = vec![0; count];
        decode(gaps, values, &mut dense, 1).map(|()| dense)
    }

    #[test]
    fn gaps_of_every_length() {
        for gap in 0..50 {
            for tail in 0..33 {
                let mut dense = vec![0; gap];
                dense.push(7);
                dense.extend(vec![0; tail]);
                let packed = encode(&dense, 1);
                let indices = 1 + gap / LONGEST + tail / LONGEST;
                assert_eq!(packed.len(), indices.div_ceil(2));
                assert_eq!(decoded(&packed, &[7], dense.len()), Some(dense), "{gap} {tail}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let packed = encode(&[0, 0, 5, 0, 6], 1);
        assert_eq!(packed, [2 | 1 << 4]);
        assert!(decoded(&packed, &[5], 5).is_none());
        assert!(decoded(&packed, &[5, 6, 7], 5).is_none());
        assert!(decoded(&packed, &[5, 6], 4).is_none());
        assert!(decoded(&packed, &[5, 6], 5 + LONGEST).is_none());
        assert!(decoded(&packed, &[5, 6], 5).is_some());
    }
}
