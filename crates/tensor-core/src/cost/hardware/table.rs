//! Cost tables: measured or imported costs of layers, as JSON lines.
//!
//! The format is open, so that tables of one tool and device can be used with another. The first line is
//! the header, every further line one layer with one pair of bit widths:
//!
//! ```json
//! {"schema":"kerf.cost/1","device":"...","engine":"...","version":"...","threads":1,"batch":1,"date":"...","bits":"next-wider"}
//! {"op":"conv","kernel":[3,3],"stride":[1,1],"groups":1,"cin":16,"cout":32,"h":28,"w":28,"out_h":28,"out_w":28,"w_bits":8,"a_bits":8,"latency_us":41.5,"energy_uj":null,"source":"measured","n":200,"std_us":0.4}
//! ```
//!
//! | key | meaning |
//! | --- | --- |
//! | `bits` | `exact`, or `next-wider`: bits without a row of their own cost what the next wider ones do |
//! | `batch` | samples of the run that latency and energy are of |
//! | `op` | `conv`, `depthwise` (one input channel per group) or `linear` |
//! | `kernel`, `stride` | height and width |
//! | `h`, `w`, `out_h`, `out_w` | input and output size without padding; for `linear`, rows and 1 |
//! | `w_bits`, `a_bits` | 1 to 8, or 32 for floats |
//! | `latency_us` | median for one run |
//! | `energy_uj` | microjoules for one run, or absent |
//! | `source` | `measured`, or where the figure is from |
//! | `n`, `std_us` | number of timed runs and their spread (1.4826 times the median absolute deviation) |
//!
//! A line with `network` is a whole network, with the sum of its layers by this table and its own latency:
//!
//! ```json
//! {"network":"resnet20 at 50%","layers_us":310.2,"latency_us":365.0,"n":200,"std_us":2.1}
//! ```
//!
//! A layer without a row is interpolated between rows that differ in `cin` and `cout` only, linearly, never
//! beyond them, and its cost says so. Anything else that is missing is an error.

use super::{
    FLOAT_BITS, Hardware, LayerCost, LayerKind, LayerShape, NetworkRow, NetworkTime, weight_bytes,
};
use crate::{Error, Result, files};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Schema of a table.
pub const SCHEMA: &str = "kerf.cost/1";

/// What bits without a row cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BitsRule {
    /// They have no cost.
    #[default]
    Exact,
    /// What the next wider ones cost.
    NextWider,
}

/// What a table is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`SCHEMA`].
    pub schema: String,
    /// The device.
    pub device: String,
    /// What ran on it.
    #[serde(default)]
    pub engine: String,
    /// Version of that.
    #[serde(default)]
    pub version: String,
    /// Threads.
    #[serde(default)]
    pub threads: usize,
    /// Samples of a run.
    #[serde(default = "one")]
    pub batch: usize,
    /// Day of the measurement, such as `2026-11-23`.
    #[serde(default)]
    pub date: String,
    /// What bits without a row cost.
    #[serde(default)]
    pub bits: BitsRule,
}

fn one() -> usize {
    1
}

/// One layer with one pair of bit widths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The layer.
    #[serde(flatten)]
    pub shape: LayerShape,
    /// Bits of the weights.
    pub w_bits: u32,
    /// Bits of the inputs.
    pub a_bits: u32,
    /// Microseconds of a run.
    pub latency_us: f64,
    /// Microjoules of a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_uj: Option<f64>,
    /// `measured`, or where the figure is from.
    #[serde(default)]
    pub source: String,
    /// Timed runs.
    #[serde(default)]
    pub n: usize,
    /// Spread of their times.
    #[serde(default)]
    pub std_us: f64,
}

/// Latency, and energy where every row that it is from has one.
#[derive(Debug, Clone, Copy)]
struct Figure {
    latency_us: f64,
    energy_uj: Option<f64>,
}

impl Figure {
    /// On the line from here to `other`.
    fn towards(self, other: Self, share: f64) -> Self {
        let mix = |a: f64, b: f64| a + share * (b - a);
        Self {
            latency_us: mix(self.latency_us, other.latency_us),
            energy_uj: self.energy_uj.zip(other.energy_uj).map(|(a, b)| mix(a, b)),
        }
    }
}

/// A table of costs.
#[derive(Debug, Clone)]
pub struct Table {
    header: Header,
    rows: Vec<Row>,
    places: BTreeMap<(LayerShape, u32, u32), usize>,
    networks: Vec<NetworkRow>,
}

impl Table {
    /// An empty table.
    pub fn new(header: Header) -> Self {
        Self { header, rows: Vec::new(), places: BTreeMap::new(), networks: Vec::new() }
    }

    /// What it is of.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Its rows, in the order in which they came.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The networks that were timed as a whole.
    pub fn networks(&self) -> &[NetworkRow] {
        &self.networks
    }

    /// Adds a network that was timed as a whole.
    ///
    /// # Errors
    /// `E0556` when it is there already, or a figure is no time.
    pub fn push_network(&mut self, row: NetworkRow) -> Result<()> {
        if !row.is_valid() {
            return Err(damaged(format!("a figure of network `{}` is no time", row.network)));
        }
        if self.networks.iter().any(|other| other.network == row.network) {
            return Err(damaged(format!("network `{}` is there twice", row.network)));
        }
        self.networks.push(row);
        Ok(())
    }

    /// Does it have that row?
    pub fn has(&self, shape: &LayerShape, w_bits: u32, a_bits: u32) -> bool {
        self.places.contains_key(&(shape.clone(), w_bits, a_bits))
    }

    /// Adds a row.
    ///
    /// # Errors
    /// `E0556` when it is there already, or a figure is negative or no number.
    pub fn push(&mut self, row: Row) -> Result<()> {
        let figures = [row.latency_us, row.energy_uj.unwrap_or(0.0), row.std_us];
        if !figures.iter().all(|figure| figure.is_finite() && *figure >= 0.0) {
            return Err(damaged(format!("a figure of {} is no cost", describe(&row))));
        }
        let bits = [row.w_bits, row.a_bits];
        if !bits.iter().all(|bits| (1..=8).contains(bits) || *bits == FLOAT_BITS) {
            return Err(damaged(format!("bits of {} are not 1 to 8 or 32", describe(&row))));
        }
        let key = (row.shape.clone(), row.w_bits, row.a_bits);
        if self.places.insert(key, self.rows.len()).is_some() {
            return Err(damaged(format!("{} is there twice", describe(&row))));
        }
        self.rows.push(row);
        Ok(())
    }

    /// Reads a table.
    ///
    /// # Errors
    /// `E0556` names the line that is wrong; `E0003` when the file cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, &error))?;
        Self::parse(&text).map_err(|error| {
            damaged(format!("{}: {}", path.display(), error.message())).code_is(error.code())
        })
    }

    /// Reads the lines of a table.
    ///
    /// # Errors
    /// `E0556` names the line that is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let (_, first) = lines.next().ok_or_else(|| damaged("it is empty".to_owned()))?;
        let header: Header = serde_json::from_str(first)
            .map_err(|error| damaged(format!("line 1 is no header: {error}")))?;
        if header.schema != SCHEMA {
            return Err(damaged(format!("schema `{}` is not `{SCHEMA}`", header.schema)));
        }
        if header.batch == 0 {
            return Err(damaged("its batch is 0".to_owned()));
        }
        let mut table = Self::new(header);
        for (at, line) in lines {
            let no_row = |error| damaged(format!("line {} is no row: {error}", at + 1));
            let place = |error: Error| damaged(format!("line {}: {}", at + 1, error.message()));
            let row: Value = serde_json::from_str(line).map_err(no_row)?;
            match row.get("network") {
                Some(_) => table.push_network(serde_json::from_value(row).map_err(no_row)?),
                None => table.push(serde_json::from_value(row).map_err(no_row)?),
            }
            .map_err(place)?;
        }
        Ok(table)
    }

    /// The lines of the file.
    ///
    /// # Errors
    /// When a row cannot be written as JSON, which is a bug.
    pub fn to_text(&self) -> Result<String> {
        let failed = |error: serde_json::Error| Error::internal(error.to_string());
        let mut text = serde_json::to_string(&self.header).map_err(failed)? + "\n";
        for row in &self.rows {
            text.push_str(&serde_json::to_string(row).map_err(failed)?);
            text.push('\n');
        }
        for row in &self.networks {
            text.push_str(&serde_json::to_string(row).map_err(failed)?);
            text.push('\n');
        }
        Ok(text)
    }

    /// Writes the table through a file beside it.
    ///
    /// # Errors
    /// `E0003` when it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = self.to_text()?;
        files::write_whole(path, |part| std::fs::write(part, &text))
    }

    /// The row that stands for these bits: their own, or that of the next wider ones.
    fn row(&self, shape: &LayerShape, w_bits: u32, a_bits: u32) -> Option<Figure> {
        let get = |w: u32, a: u32| {
            let row = &self.rows[*self.places.get(&(shape.clone(), w, a))?];
            Some(Figure { latency_us: row.latency_us, energy_uj: row.energy_uj })
        };
        if let Some(figure) = get(w_bits, a_bits) {
            return Some(figure);
        }
        if self.header.bits == BitsRule::Exact {
            return None;
        }
        let wider =
            |bits: u32| (bits..=8).chain([FLOAT_BITS].into_iter().filter(move |&f| bits <= f));
        wider(w_bits).find_map(|w| wider(a_bits).find_map(|a| get(w, a)))
    }

    /// The row, or what lies between those of other channel counts; then the second value is true.
    fn figure(&self, shape: &LayerShape, w_bits: u32, a_bits: u32) -> Option<(Figure, bool)> {
        if let Some(figure) = self.row(shape, w_bits, a_bits) {
            return Some((figure, false));
        }
        let alike = self.places.keys().map(|(other, ..)| other);
        let mut alike: Vec<&LayerShape> =
            alike.filter(|other| other.with_channels(shape.cin, shape.cout) == *shape).collect();
        alike.dedup();
        let at =
            |cin: usize, cout: usize| self.row(&shape.with_channels(cin, cout), w_bits, a_bits);
        let found = if shape.op == LayerKind::Depthwise {
            let line =
                alike.iter().filter(|other| other.cin * shape.cout == other.cout * shape.cin);
            let (low, high, share) = around(line.map(|other| other.cin), shape.cin)?;
            let of = |cin: usize| at(cin, cin * shape.cout / shape.cin.max(1));
            of(low)?.towards(of(high)?, share)
        } else {
            let (low, high, share) = around(alike.iter().map(|other| other.cin), shape.cin)?;
            let (narrow, wide, other) = around(alike.iter().map(|o| o.cout), shape.cout)?;
            let first = at(low, narrow)?.towards(at(low, wide)?, other);
            first.towards(at(high, narrow)?.towards(at(high, wide)?, other), share)
        };
        Some((found, true))
    }
}

/// The nearest of the values on both sides, and where between them `x` is.
fn around(values: impl Iterator<Item = usize> + Clone, x: usize) -> Option<(usize, usize, f64)> {
    let low = values.clone().filter(|&value| value <= x).max()?;
    let high = values.filter(|&value| value >= x).min()?;
    let share = if high == low { 0.0 } else { (x - low) as f64 / (high - low) as f64 };
    Some((low, high, share))
}

impl Hardware for Table {
    fn name(&self) -> String {
        self.header.device.clone()
    }

    fn batch(&self) -> usize {
        self.header.batch
    }

    fn cost(
        &self,
        layer: &LayerShape,
        weight_bits: u32,
        activation_bits: u32,
    ) -> Result<LayerCost> {
        let (figure, interpolated) =
            self.figure(layer, weight_bits, activation_bits).ok_or_else(|| {
                Error::invalid(format!(
                    "the cost table of `{}` has no row for a {:?} layer with kernel {:?}, stride {:?}, {} to {} \
                     channels on {}x{} at {weight_bits} and {activation_bits} bits",
                    self.header.device,
                    layer.op,
                    layer.kernel,
                    layer.stride,
                    layer.cin,
                    layer.cout,
                    layer.h,
                    layer.w
                ))
                .code_is("E0555")
                .hint("measure the model's layers with `kerf cost measure MODEL -o TABLE`; only channel counts are interpolated")
            })?;
        Ok(LayerCost {
            latency_us: Some(figure.latency_us),
            energy_uj: figure.energy_uj,
            bytes: weight_bytes(layer, weight_bits),
            interpolated,
        })
    }

    fn network(&self) -> NetworkTime {
        NetworkTime::through(&self.networks)
    }
}

fn describe(row: &Row) -> String {
    let LayerShape { op, cin, cout, h, w, .. } = &row.shape;
    format!("{op:?} {cin} to {cout} channels on {h}x{w} at {} and {} bits", row.w_bits, row.a_bits)
}

pub(super) fn damaged(message: String) -> Error {
    Error::invalid(message).code_is("E0556")
        .hint("a cost table has a header line with `\"schema\":\"kerf.cost/1\"`, then one JSON object per line")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn shape(cin: usize, cout: usize) -> LayerShape {
        LayerShape {
            op: LayerKind::Conv,
            kernel: [3, 3],
            stride: [1, 1],
            groups: 1,
            cin,
            cout,
            h: 8,
            w: 8,
            out_h: 8,
            out_w: 8,
        }
    }

    fn row(shape: LayerShape, bits: u32, latency_us: f64) -> Row {
        let source = "test".to_owned();
        Row {
            shape,
            w_bits: bits,
            a_bits: bits,
            latency_us,
            energy_uj: None,
            source,
            n: 1,
            std_us: 0.0,
        }
    }

    fn table(bits: BitsRule) -> Table {
        let header = Header {
            schema: SCHEMA.to_owned(),
            device: "d".to_owned(),
            engine: String::new(),
            version: String::new(),
            threads: 1,
            batch: 1,
            date: String::new(),
            bits,
        };
        let mut table = Table::new(header);
        for cin in [4, 8] {
            for cout in [10, 20] {
                // Bilinear, so that interpolation is exact.
                table.push(row(shape(cin, cout), 8, (cin * cout) as f64)).unwrap();
            }
        }
        let depthwise =
            |c: usize| LayerShape { op: LayerKind::Depthwise, groups: c, ..shape(c, c) };
        table.push(row(depthwise(4), 8, 1.0)).unwrap();
        table.push(row(depthwise(8), 8, 3.0)).unwrap();
        table
    }

    #[test]
    fn lines_read_back() {
        let mut table = table(BitsRule::NextWider);
        let network = NetworkRow {
            network: "n".to_owned(),
            layers_us: 2.0,
            latency_us: 3.0,
            n: 1,
            std_us: 0.0,
        };
        table.push_network(network.clone()).unwrap();
        assert_eq!(table.push_network(network.clone()).unwrap_err().code(), "E0556");
        let void = NetworkRow { network: "m".to_owned(), layers_us: 0.0, ..network };
        assert_eq!(table.push_network(void).unwrap_err().code(), "E0556");
        assert_eq!(table.network().at(4.0), 6.0);
        let again = Table::parse(&table.to_text().unwrap()).unwrap();
        assert_eq!((again.header(), again.rows()), (table.header(), table.rows()));
        assert_eq!(again.networks(), table.networks());
    }

    #[test]
    fn only_channels_are_interpolated_and_it_is_said() {
        let table = table(BitsRule::Exact);
        let cost = table.cost(&shape(8, 20), 8, 8).unwrap();
        assert_eq!((cost.latency_us, cost.interpolated), (Some(160.0), false));
        assert_eq!(cost.bytes, 9.0 * 160.0);
        let cost = table.cost(&shape(5, 12), 8, 8).unwrap();
        assert_eq!((cost.latency_us, cost.interpolated), (Some(60.0), true));
        let depthwise = LayerShape { op: LayerKind::Depthwise, groups: 7, ..shape(7, 7) };
        let cost = table.cost(&depthwise, 8, 8).unwrap();
        assert_eq!((cost.latency_us, cost.interpolated), (Some(2.5), true));
        for (missing, bits) in [
            (shape(9, 20), 8),
            (shape(8, 9), 8),
            (LayerShape { h: 9, ..shape(8, 20) }, 8),
            (LayerShape { stride: [2, 2], ..shape(5, 12) }, 8),
            (shape(8, 20), 4),
        ] {
            assert_eq!(table.cost(&missing, bits, bits).unwrap_err().code(), "E0555");
        }
    }

    #[test]
    fn narrow_bits_cost_what_the_next_wider_do() {
        let mut table = table(BitsRule::NextWider);
        table.push(row(shape(8, 20), 4, 100.0)).unwrap();
        let latency = |w, a| table.cost(&shape(8, 20), w, a).map(|cost| cost.latency_us);
        assert_eq!(latency(3, 2).unwrap(), Some(100.0));
        assert_eq!(latency(5, 3).unwrap(), Some(160.0));
        assert_eq!(latency(32, 8).unwrap_err().code(), "E0555");
    }

    #[test]
    fn wrong_lines_are_named() {
        let text = table(BitsRule::Exact).to_text().unwrap();
        let refuse = |text: &str| {
            let error = Table::parse(text).unwrap_err();
            assert_eq!(error.code(), "E0556");
            error.message().to_owned()
        };
        let first = text.lines().nth(1).unwrap();
        assert!(refuse(&format!("{text}{first}\n")).contains("line 8: "));
        assert!(refuse(&text.replace("kerf.cost/1", "kerf.cost/2")).contains("kerf.cost/2"));
        assert!(
            refuse(&text.replace("\"latency_us\":40.0", "\"latency_us\":-1")).contains("line 2")
        );
        assert!(refuse("").contains("empty"));
    }
}
