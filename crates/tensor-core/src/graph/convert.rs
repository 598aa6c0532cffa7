//! Float constants in other float types.

use super::Constant;
use crate::{ElementType, Error, Result};

impl Constant {
    /// The same values, rounded to another float type; the encoding stays.
    ///
    /// # Errors
    /// When either type is no float, or a finite value is outside the range of the new type.
    pub fn to_element(&self, element: ElementType) -> Result<Self> {
        if element == self.element() {
            return Ok(self.clone());
        }
        if !self.element().is_float() {
            return Err(Error::unsupported(format!(
                "converting {:?} to {element:?}",
                self.element()
            )));
        }
        let values = self.to_f64s()?;
        let bytes: Vec<u8> = match element {
            ElementType::F32 => values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
            ElementType::F64 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ElementType::F16 => {
                values.iter().flat_map(|&v| half::f16::from_f64(v).to_le_bytes()).collect()
            }
            ElementType::BF16 => {
                values.iter().flat_map(|&v| half::bf16::from_f64(v).to_le_bytes()).collect()
            }
            other => return Err(Error::unsupported(format!("converting floats to {other:?}"))),
        };
        let mut converted = Self::from_bytes(element, self.dims().to_vec(), bytes)?;
        converted.encoding = self.encoding;
        if self.is_finite() && !converted.is_finite() {
            return Err(Error::invalid(format!("a value is outside the range of {element:?}")));
        }
        Ok(converted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_and_refuse_what_they_cannot_hold() {
        let values = Constant::from_f32s(&[3], &[1.0, 0.1, -65504.0]).expect("three values");
        let half = values.to_element(ElementType::F16).expect("within range");
        assert_eq!(half.bytes().len(), 6);
        let back = half.to_element(ElementType::F32).expect("wider").to_f32s().expect("floats");
        assert_eq!((back[0], back[2]), (1.0, -65504.0));
        // Half of the last of eleven bits.
        assert!((back[1] - 0.1).abs() <= 0.1 / 2048.0 && back[1] != 0.1);
        let large = Constant::from_f32s(&[1], &[65536.0]).expect("one value");
        assert!(large.to_element(ElementType::F16).is_err());
        assert!(large.to_element(ElementType::BF16).is_ok());
        assert!(large.to_element(ElementType::I64).is_err());
    }
}
