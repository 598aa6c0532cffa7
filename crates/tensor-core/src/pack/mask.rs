//! One bit for each element: is it not zero?

use super::plan::is_zero;

/// Bits of all elements of `width` bytes, lowest bit first.
pub(super) fn encode(dense: &[u8], width: usize) -> Vec<u8> {
    let bit = |(i, element): (usize, &[u8])| u8::from(!is_zero(element)) << i;
    let octet = |elements: &[u8]| elements.chunks(width).enumerate().map(bit).sum();
    dense.chunks(8 * width).map(octet).collect()
}

/// Writes the elements that are not zero into zeros; `None` when bits and values do not fit `dense`.
pub(super) fn decode(mask: &[u8], values: &[u8], dense: &mut [u8], width: usize) -> Option<()> {
    let count = dense.len() / width;
    if mask.len() != count.div_ceil(8) {
        return None;
    }
    let ones: usize = mask.iter().map(|octet| octet.count_ones() as usize).sum();
    // Bits behind the last element have no value to stand for.
    let spare = mask.last().map_or(0, |&last| last.checked_shr(tail_bits(count)).unwrap_or(0));
    if ones.checked_mul(width)? != values.len() || spare != 0 {
        return None;
    }
    let mut values = values.chunks_exact(width);
    for (i, element) in dense.chunks_exact_mut(width).enumerate() {
        if mask[i / 8] >> (i % 8) & 1 == 1 {
            element.copy_from_slice(values.next()?);
        }
    }
    Some(())
}

/// Bits in use of the last octet, 1 to 8.
fn tail_bits(count: usize) -> u32 {
    (count.wrapping_sub(1) % 8) as u32 + 1
}
