//! `--widths`.

use lasso_prune::Widths;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tensor_core::{Error, ErrorKind, Result};

/// Where widths come from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum WidthsArg {
    /// From error curves, weighed by effect.
    Auto,
    /// From error curves alone.
    Layerwise,
    /// The same share everywhere.
    Uniform,
    /// From the command line.
    Named(BTreeMap<String, usize>),
    /// From a TOML file.
    File(PathBuf),
}

impl FromStr for WidthsArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => return Ok(Self::Auto),
            "layerwise" => return Ok(Self::Layerwise),
            "uniform" => return Ok(Self::Uniform),
            _ if !text.contains('=') => return Ok(Self::File(text.into())),
            _ => {}
        }
        let mut widths = BTreeMap::new();
        for part in text.split(',') {
            let width = part.rsplit_once('=').and_then(|(name, n)| Some((name, n.parse().ok()?)));
            match width {
                Some((name, n)) if !name.is_empty() && n > 0 => {
                    if widths.insert(name.to_owned(), n).is_some() {
                        return Err(format!("`{name}` is given twice"));
                    }
                }
                _ => return Err(format!("expected NAME=N, got `{part}`")),
            }
        }
        Ok(Self::Named(widths))
    }
}

impl Serialize for WidthsArg {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => to.serialize_str("auto"),
            Self::Layerwise => to.serialize_str("layerwise"),
            Self::Uniform => to.serialize_str("uniform"),
            Self::Named(widths) => widths.serialize(to),
            Self::File(path) => path.serialize(to),
        }
    }
}

impl WidthsArg {
    /// The widths; reads the file if there is one.
    pub(super) fn widths(&self) -> Result<Widths> {
        Ok(match self {
            Self::Auto => Widths::Auto,
            Self::Layerwise => Widths::Layerwise,
            Self::Uniform => Widths::Uniform,
            Self::Named(widths) => Widths::Given(widths.clone()),
            Self::File(path) => Widths::Given(read(path)?),
        })
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, usize>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::io(path, &error)
            .hint("`--widths` takes `auto`, `layerwise`, `uniform`, `NAME=N,...` or a TOML file")
    })?;
    toml::from_str(&text).map_err(|error| {
        let message = format!("{}: {}", path.display(), error.message());
        Error::new(ErrorKind::Invalid, "E0142", message)
            .hint("each line is `\"NAME\" = N`, the channels to keep in that group")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let named = BTreeMap::from([("/a=b".to_owned(), 8), ("c".to_owned(), 3)]);
        assert_eq!("/a=b=8,c=3".parse(), Ok(WidthsArg::Named(named)));
        assert_eq!("auto".parse(), Ok(WidthsArg::Auto));
        assert_eq!("layerwise".parse(), Ok(WidthsArg::Layerwise));
        assert_eq!("w.toml".parse(), Ok(WidthsArg::File("w.toml".into())));
        for bad in ["=8", "a=", "a=0", "a=1,b", "a=-1", "a=1,a=2"] {
            assert!(bad.parse::<WidthsArg>().is_err(), "{bad}");
        }
    }
}
