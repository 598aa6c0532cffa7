//! Figures that follow the name of a hardware model.

use super::Model;
use crate::text::near;
use crate::{Error, Result};

/// Named numbers, above 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures(Vec<(String, f64)>);

impl Figures {
    /// Reads `peak=2e12,bandwidth=12.8e9`.
    ///
    /// # Errors
    /// `E0553` for a figure that the model does not take, or a value that is no number above 0.
    pub fn parse(model: &Model, text: &str) -> Result<Self> {
        let mut figures = Vec::new();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let name = name.trim();
            if !model.figures.iter().any(|(known, _)| *known == name) {
                let alike = near(name, model.figures.iter().map(|(known, _)| *known));
                return Err(refused(format!("`{}` takes no figure `{name}`", model.name))
                    .hint(format!("it takes {alike}")));
            }
            let value = value.trim().parse::<f64>().ok().filter(|value| in_range(*value));
            let value = value.ok_or_else(|| {
                refused(format!("figure `{part}` of `{}` is no number above 0", model.name))
                    .hint(format!("such as `{}:{name}=2e9`", model.name))
            })?;
            figures.push((name.to_owned(), value));
        }
        Ok(Self(figures))
    }

    /// The figure, when it was given.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().rev().find(|(other, _)| other == name).map(|(_, value)| *value)
    }

    /// The figure, or what stands for it.
    pub fn or(&self, name: &str, default: f64) -> f64 {
        self.get(name).unwrap_or(default)
    }

    /// A whole number of at least 1.
    ///
    /// # Errors
    /// `E0553` when it has a fraction or is beyond a million.
    pub fn whole(&self, name: &str, default: usize) -> Result<usize> {
        match self.get(name) {
            None => Ok(default),
            Some(value) if value.fract() == 0.0 && (1.0..=1e6).contains(&value) => {
                Ok(value as usize)
            }
            Some(value) => {
                Err(refused(format!("`{name}={value}` is no whole number from 1 to 1e6")))
            }
        }
    }

    /// The figures behind a name, as they are written.
    pub fn behind(&self, name: &str) -> String {
        let figures: Vec<_> = self.0.iter().map(|(key, value)| format!("{key}={value}")).collect();
        if figures.is_empty() { name.to_owned() } else { format!("{name}:{}", figures.join(",")) }
    }
}

fn in_range(value: f64) -> bool {
    (1e-12..=1e24).contains(&value)
}

pub(super) fn refused(message: String) -> Error {
    Error::invalid(message).code_is("E0553")
}
