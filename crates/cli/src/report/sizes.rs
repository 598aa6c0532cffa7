//! What a model weighs: operations, parameters, bytes.

use super::Change;
use crate::byte_count::ByteCount;
use crate::table::Table;
use crate::units;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use tensor_core::cost::{self, Cost};
use tensor_core::{Error, Graph, Result, run};

/// The static numbers of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Sizes {
    /// Multiply-accumulates.
    pub(crate) macs: u64,
    /// Float parameters.
    pub(crate) parameters: u64,
    /// Bytes of all constants.
    pub(crate) constant_bytes: u64,
    /// Bytes of the file.
    pub(crate) file_bytes: u64,
    /// Bytes of the file after deflate: what a package or a download holds.
    pub(crate) deflated_bytes: u64,
    /// Most bytes of activations alive at once.
    pub(crate) peak_activation_bytes: u64,
}

/// Measures a model and what was made of it, each as its file and its graph, for these input shapes.
/// Gives the nodes, too, whose multiply-accumulates are not known.
///
/// # Errors
/// When a file cannot be read or shapes do not fit.
pub(crate) fn change(
    before: (&Path, &Graph),
    after: (&Path, &Graph),
    shapes: &BTreeMap<String, Vec<usize>>,
) -> Result<(Change<Sizes>, Vec<String>)> {
    let measure = |(path, graph): (&Path, &Graph)| -> Result<(Sizes, Vec<String>)> {
        let cost = cost::cost(graph, &run::infer_declared(graph, shapes)?)?;
        Ok((Sizes::of(path, &cost)?, cost.uncounted))
    };
    let (before, after) = rayon::join(|| measure(before), || measure(after));
    let ((before, uncounted), (after, _)) = (before?, after?);
    Ok((Change { before, after }, uncounted))
}

impl Sizes {
    /// Measures a file.
    fn of(path: &Path, cost: &Cost) -> Result<Self> {
        let bytes = fs::read(path).map_err(|error| Error::io(path, &error))?;
        let mut encoder = DeflateEncoder::new(ByteCount::default(), Compression::default());
        encoder.write_all(&bytes).map_err(|error| Error::io(path, &error))?;
        let deflated = encoder.finish().map_err(|error| Error::io(path, &error))?;
        Ok(Self {
            macs: cost.macs,
            parameters: cost.parameters,
            constant_bytes: cost.parameter_bytes,
            file_bytes: bytes.len() as u64,
            deflated_bytes: deflated.0,
            peak_activation_bytes: cost.peak_activation_bytes,
        })
    }
}

/// The table of all sizes, and the nodes that it leaves out.
pub(crate) fn sizes(change: &Change<Sizes>, uncounted: &[String]) -> String {
    type Get = fn(&Sizes) -> u64;
    type Show = fn(u64) -> String;
    let rows: [(&str, Get, Show); 5] = [
        ("MACs", |sizes| sizes.macs, units::si),
        ("parameters", |sizes| sizes.parameters, units::si),
        ("file", |sizes| sizes.file_bytes, units::bytes),
        ("file, deflated", |sizes| sizes.deflated_bytes, units::bytes),
        ("activations, peak", |sizes| sizes.peak_activation_bytes, units::bytes),
    ];
    let mut table = Table::new(&["", ">before", ">after", ">kept"]);
    for (name, get, show) in rows {
        let (before, after) = (get(&change.before), get(&change.after));
        table.row([name.to_owned(), show(before), show(after), units::share(after, before)]);
    }
    let mut text = table.render();
    if !uncounted.is_empty() {
        text.push_str(&format!(
            "not in the MACs, as shapes or operators are not known: {}\n",
            uncounted.join(", ")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_shows_what_is_kept() {
        let before = Sizes {
            macs: 31_020_000,
            parameters: 272_000,
            constant_bytes: 1 << 20,
            file_bytes: 1 << 20,
            deflated_bytes: 1 << 19,
            peak_activation_bytes: 100_000,
        };
        let after = Sizes { macs: 15_510_000, ..before };
        let text = sizes(&Change { before, after }, &["mystery".to_owned()]);
        assert_eq!(
            text.lines().take(2).collect::<Vec<_>>(),
            [
                "                     before     after    kept",
                "MACs                 31.0 M    15.5 M   50.0%"
            ]
        );
        assert!(text.ends_with("operators are not known: mystery\n"), "{text}");
    }
}
