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

/// How the file wrote an attribute, where writers differ.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(not(feature = "onnx"), allow(dead_code, reason = "only the ONNX writer reads it"))]
pub(crate) struct Style {
    /// The documentation string.
    pub(crate) doc_string: Option<String>,
    /// The type is left for the reader to infer, as before IR version 2.
    pub(crate) untyped: bool,
    /// A value equal to its type's default is left out, as proto3 writers do.
    pub(crate) implicit: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    name: String,
    value: Attribute,
    style: Style,
}

/// The attributes of a node, in file order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attributes(Vec<Entry>);

impl Attributes {
    /// Names and values in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Attribute)> {
        self.0.iter().map(|entry| (entry.name.as_str(), &entry.value))
    }

    /// Names, values and how they were written, in file order.
    #[cfg(feature = "onnx")]
    pub(crate) fn styled(&self) -> impl Iterator<Item = (&str, &Attribute, &Style)> {
        self.0.iter().map(|entry| (entry.name.as_str(), &entry.value, &entry.style))
    }

    /// The attribute of that name.
    pub fn get(&self, name: &str) -> Option<&Attribute> {
        self.0.iter().find(|entry| entry.name == name).map(|entry| &entry.value)
    }

    /// Adds or replaces an attribute.
    pub fn set(&mut self, name: &str, value: Attribute) {
        match self.0.iter_mut().find(|entry| entry.name == name) {
            Some(entry) => entry.value = value,
            None => self.push(name.to_owned(), value, Style::default()),
        }
    }

    /// Adds an attribute of a name that is not there yet.
    pub(crate) fn push(&mut self, name: String, value: Attribute, style: Style) {
        self.0.push(Entry { name, value, style });
    }

    /// Removes an attribute.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|entry| entry.name != name);
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
