//! Bits of single layers: `NAME=8`, or a plan.

use crate::console::Console;
use quant_mixed::Assignment;
use std::path::Path;
use tensor_core::text::counted;

/// Says which layers a plan leaves out, as they get bits that nobody chose for them.
pub(crate) fn warn_of_unnamed(bits: &Assignment, keys: &[String], plan: &Path, console: &Console) {
    let unnamed = bits.unnamed(keys);
    if let Some(first) = unnamed.first() {
        let bits = bits.others.weights;
        console.warn(&format!(
            "{} says nothing about {}, such as `{first}`: {bits} bits",
            plan.display(),
            counted(unnamed.len(), "layer")
        ));
    }
}

/// Reads a layer and its bits; the name may hold `=` itself.
///
/// # Errors
/// When there is no name, or the bits are outside 1 to 8.
pub(crate) fn parse_pin(text: &str) -> Result<(String, u8), String> {
    let pin = text
        .rsplit_once('=')
        .and_then(|(name, bits)| Some((name.trim().to_owned(), bits.trim().parse().ok()?)));
    pin.filter(|(name, bits)| !name.is_empty() && (1..=8).contains(bits))
        .ok_or_else(|| "expected a layer and 1 to 8 bits, such as `/conv1/Conv=8`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_name_a_layer_and_bits() {
        assert_eq!(parse_pin("a=b=3"), Ok(("a=b".to_owned(), 3)));
        for wrong in ["a", "=3", "a=", "a=0", "a=9", "a=x"] {
            assert!(parse_pin(wrong).is_err(), "{wrong}");
        }
    }
}
