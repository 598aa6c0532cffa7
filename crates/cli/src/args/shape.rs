//! `--shape name=1x3x224x224`.

use serde::{Serialize as _, Serializer};
use std::collections::BTreeMap;

/// The shape of one input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedShape {
    /// Name of the input.
    pub(crate) name: String,
    /// Its dimensions.
    pub(crate) dims: Vec<usize>,
}

/// Reads `name=1x3x224x224`; the name may contain `=` and `:`.
pub(super) fn parse(text: &str) -> Result<NamedShape, String> {
    let expected = "expected NAME=DIMS, such as `images=1x3x224x224`";
    let (name, dims) = text.rsplit_once('=').ok_or(expected)?;
    let dims: Result<Vec<usize>, _> =
        dims.split(['x', ',']).map(|dim| dim.trim().parse()).collect();
    match dims {
        Ok(dims) if !name.is_empty() && !dims.contains(&0) => {
            Ok(NamedShape { name: name.to_owned(), dims })
        }
        _ => Err(expected.to_owned()),
    }
}

pub(super) fn serialize<S: Serializer>(shapes: &[NamedShape], to: S) -> Result<S::Ok, S::Error> {
    let map: BTreeMap<_, _> = shapes.iter().map(|shape| (&shape.name, &shape.dims)).collect();
    map.serialize(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_contain_anything() {
        let shape = parse("serving=x:0=1x3x8").expect("valid");
        assert_eq!((shape.name.as_str(), shape.dims.as_slice()), ("serving=x:0", &[1, 3, 8][..]));
        for bad in ["", "x", "x=", "=1x2", "x=1xa", "x=1x-2", "x=0x2", "x=1x99999999999999999999"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
