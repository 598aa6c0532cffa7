//! Node attributes.

use super::{Constant, Opaque};
use crate::{Error, Result};

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// One integer.
    Int(i64),
    /// One float.
    Float(f32),
    /// A byte string, usually UTF-8.
    Bytes(Vec<u8>),
    /// Integers.
    Ints(Vec<i64>),
    /// Floats.
    Floats(Vec<f32>),
    /// Byte strings.
    Strings(Vec<Vec<u8>>),
    /// A tensor.
    Tensor(Constant),
    /// Anything else (sub-graphs, sparse tensors, types, references), as its `AttributeProto`.
    Opaque(Opaque),
}

/// The attributes of a node, in file order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attributes(Vec<(String, Attribute)>);

impl Attributes {
    /// Names and values in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Attribute)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The attribute of that name.
    pub fn get(&self, name: &str) -> Option<&Attribute> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// Adds or replaces an attribute.
    pub fn set(&mut self, name: &str, value: Attribute) {
        match self.0.iter_mut().find(|(other, _)| other == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Removes an attribute.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(other, _)| other != name);
    }

    /// An integer with its default.
    ///
    /// # Errors
    /// When the attribute has another type.
    pub fn int(&self, name: &str, default: i64) -> Result<i64> {
        match self.get(name) {
            None => Ok(default),
            Some(Attribute::Int(value)) => Ok(*value),
            Some(_) => Err(wrong_type(name, "an integer")),
        }
    }

    /// A float with its default.
    ///
    /// # Errors
    /// When the attribute has another type.
    pub fn float(&self, name: &str, default: f32) -> Result<f32> {
        match self.get(name) {
            None => Ok(default),
            Some(Attribute::Float(value)) => Ok(*value),
            Some(_) => Err(wrong_type(name, "a float")),
        }
    }

    /// Integers, when present.
    ///
    /// # Errors
    /// When the attribute has another type.
    pub fn ints(&self, name: &str) -> Result<Option<&[i64]>> {
        match self.get(name) {
            None => Ok(None),
            Some(Attribute::Ints(values)) => Ok(Some(values)),
            Some(_) => Err(wrong_type(name, "a list of integers")),
        }
    }

    /// A string with its default.
    ///
    /// # Errors
    /// When the attribute has another type or is not UTF-8.
    pub fn string<'a>(&'a self, name: &str, default: &'a str) -> Result<&'a str> {
        match self.get(name) {
            None => Ok(default),
            Some(Attribute::Bytes(value)) => {
                std::str::from_utf8(value).map_err(|_| wrong_type(name, "UTF-8 text"))
            }
            Some(_) => Err(wrong_type(name, "a string")),
        }
    }
}

fn wrong_type(name: &str, expected: &str) -> Error {
    Error::invalid(format!("attribute `{name}` is not {expected}"))
}
