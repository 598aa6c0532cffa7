//! What was measured on calibration samples, for any number of budgets, in a file.

use super::curves::{Curve, curves};
use super::layers::Layer;
use super::params::{Budget, Limit, PruneParams, Streams, Widths};
use super::prepare::Prepared;
use super::prune::{NETWORKS, warn_of_few_samples};
use super::sets::Set;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use tensor_core::archive::Archive;
use tensor_core::calibrate::{Batches, Replay, Statistics};
use tensor_core::cost::Resource;
use tensor_core::graph::Graph;
use tensor_core::progress::Progress;
use tensor_core::run::Array;
use tensor_core::{Constant, ElementType, Error, Result};

/// The key of the metadata of a file of statistics.
pub const SCHEMA: &str = "kerf.statistics/1";

/// The code of everything that is wrong with a file of statistics.
const CODE: &str = "E0146";

/// Statistics of the layers of a model on calibration samples, and what follows from them for any
/// budget.
///
/// | array | content |
/// |---|---|
/// | `layers.L.G.even.*`, `layers.L.G.odd.*` | second moments (or rows) of the inputs and responses of layer `L`, convolution group `G`, on even and odd blocks of samples: [`Statistics::to_parts`] |
/// | `sets.S.order` | channels of set `S`, the one to keep longest first |
/// | `sets.S.error` | held-out error of its readers when the first `k` of them are kept, `k` from 0 |
/// | `sets.weights` | what an error of each set counts, by what it does to the outputs |
/// | `samples.NAME` | a few samples of input `NAME`, to check results with |
///
/// All of it is of the original network, BatchNormalization folded. The description in the metadata
/// names layers and sets, and the settings that decide about the numbers.
#[derive(Debug, Clone)]
pub struct Calibration {
    about: About,
    arrays: BTreeMap<String, Constant>,
}

/// The description of a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct About {
    samples: usize,
    method: String,
    ridge: f64,
    positions: Option<usize>,
    seed: u64,
    layers: Vec<LayerAbout>,
    sets: Vec<SetAbout>,
    /// What the caller says about model and data.
    origin: Value,
}

/// A layer that reads prunable channels.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct LayerAbout {
    key: String,
    groups: usize,
    /// Input columns, and responses, of one group.
    inputs: usize,
    outputs: usize,
}

/// A set of channels.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SetAbout {
    name: String,
    channels: usize,
}

/// Measures a model on calibration samples. Of `params`, the selection, the positions, the seed and
/// the memory count, what attention can lose, and whether streams are to be [sampled](Streams::Sample). `origin` is what to
/// say about model and data in the file. Where the samples are spread over processes, each gets the
/// statistics of all samples.
///
/// # Errors
/// As [`prune`](crate::prune) up to the choice of widths.
pub fn calibrate(
    graph: &Graph,
    shapes: &BTreeMap<String, Vec<usize>>,
    batches: impl Into<Batches>,
    params: &PruneParams,
    origin: Value,
    progress: &dyn Progress,
) -> Result<Calibration> {
    let batches = batches.into();
    if batches.is_empty() {
        return Err(Error::invalid("calibration needs data").code_is("E0144"));
    }
    let streams = match params.streams {
        Streams::Sample => Streams::Sample,
        // The sets of kept streams are some of these.
        _ => Streams::Prune,
    };
    let all = PruneParams {
        streams,
        widths: Widths::Auto,
        budget: Budget { price: Resource::Macs.into(), limit: Limit::Keep(1.0) },
        round_to: 1,
        exclude: Vec::new(),
        ..params.clone()
    };
    let valid = all.check()?;
    let prepared = Prepared::new(graph, shapes, &valid, progress)?;
    let mut arrays = few(graph, &batches)?;
    let replay = Replay::new(&prepared.graph, batches, params.memory / NETWORKS)?;
    let samples = replay.samples();
    warn_of_few_samples(samples, progress);
    let scope = prepared.scope(&valid);
    let mut layers = Vec::new();
    let mut keep = |at: usize, statistics: &[[Statistics; 2]]| {
        let layer = layers.len();
        for (group, halves) in statistics.iter().enumerate() {
            for (half, statistics) in HALVES.into_iter().zip(halves) {
                for (name, array) in statistics.to_parts()? {
                    arrays.insert(format!("layers.{layer}.{group}.{half}.{name}"), array);
                }
            }
        }
        let layer = &prepared.layers[at];
        let shape = layer.map.shape();
        layers.push(LayerAbout {
            key: prepared.graph.key(layer.node).to_owned(),
            groups: shape.groups,
            inputs: shape.columns(),
            outputs: shape.group_outputs(),
        });
        Ok(())
    };
    let curves = curves(&scope, replay, &mut keep, progress)?;
    let mut sets = Vec::new();
    for (at, (set, curve)) in scope.sets.iter().zip(&curves).enumerate() {
        let order = curve.order.iter().map(|&i| i64::try_from(i));
        let order: Vec<i64> = order
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| Error::internal("a channel beyond any integer"))?;
        let name = format!("sets.{at}.order");
        arrays.insert(name, Constant::from_i64s(&[order.len()], &order)?);
        arrays.insert(format!("sets.{at}.error"), f64s(&curve.error)?);
        sets.push(SetAbout { name: set.name.clone(), channels: set.classes.len() });
    }
    let weights: Vec<f64> = curves.iter().map(|curve| curve.weight).collect();
    arrays.insert("sets.weights".to_owned(), f64s(&weights)?);
    let about = About {
        samples,
        method: valid.selection.method().name.to_owned(),
        ridge: valid.selection.ridge(),
        positions: params.positions,
        seed: params.seed,
        layers,
        sets,
        origin,
    };
    Ok(Calibration { about, arrays })
}

const HALVES: [&str; 2] = ["even", "odd"];

fn f64s(values: &[f64]) -> Result<Constant> {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Constant::from_bytes(ElementType::F64, vec![values.len()], bytes)
}

/// The first samples of each input, by name. Where the samples are spread over processes, it takes those
/// of several where the first has too few.
fn few(graph: &Graph, batches: &Batches) -> Result<BTreeMap<String, Constant>> {
    /// As many as a written model is checked on.
    const SAMPLES: usize = 32;
    const BYTES: usize = 32 << 20;
    let (own, group) = (batches.own(), batches.group());
    let size = |array: &Array| array.dims().first().copied().unwrap_or(1).max(1);
    let first = own.first().map(Vec::as_slice).unwrap_or_default();
    let bytes = first.iter().map(|array| array.tensor.elem_count() / size(array) * 4);
    let wanted = SAMPLES.min(BYTES / bytes.sum::<usize>().max(1)).max(1);
    let whole = wanted.div_ceil(first.first().map_or(1, size));
    // The first process has a whole batch, if there is one.
    let mut whole = [if group.is_first() { whole as f64 } else { 0.0 }];
    group.sum_f64(&mut whole)?;
    let here = (whole[0] as usize).saturating_sub(batches.first()).min(own.len());
    let mut arrays = BTreeMap::new();
    for (i, &input) in graph.inputs.iter().enumerate() {
        let (mut count, mut bytes) = ([0.0], Vec::new());
        for batch in &own[..here] {
            let array = Array { element: stored_as(batch[i].element)?, ..batch[i].clone() };
            count[0] += size(&array) as f64;
            bytes.extend_from_slice(array.to_constant()?.bytes());
        }
        group.sum_f64(&mut count)?;
        let bytes = group.gather(bytes)?.concat();
        // A process without samples knows no shape, and is not the one that writes the file.
        let Some(first) = first.get(i) else { continue };
        let mut dims = first.dims().to_vec();
        if let Some(first) = dims.first_mut() {
            *first = count[0] as usize;
        }
        let array = Constant::from_bytes(stored_as(first.element)?, dims, bytes)?;
        arrays.insert(format!("samples.{}", graph.name(input)), array);
    }
    Ok(arrays)
}

/// The type in which the values of an input stand in the file.
fn stored_as(element: ElementType) -> Result<ElementType> {
    match element {
        ElementType::F32 | ElementType::F16 | ElementType::BF16 => Ok(ElementType::F32),
        ElementType::F64 => Ok(ElementType::F64),
        _ if element.storage().is_some() => Ok(ElementType::I64),
        _ => Err(Error::unsupported(format!("an input of {element:?}"))),
    }
}

fn wrong(message: impl Into<String>) -> Error {
    Error::invalid(message).code_is(CODE)
}

impl Calibration {
    /// Writes the file.
    ///
    /// # Errors
    /// `E0003` when it cannot be written.
    pub fn write(self, path: &Path) -> Result<()> {
        let description = json!(self.about);
        Archive { description, arrays: self.arrays }.write(path, SCHEMA)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// `E0003` when it cannot be read, `E0146` when it holds no statistics.
    pub fn read(path: &Path) -> Result<Self> {
        let Archive { description, arrays } = Archive::read(path, SCHEMA, CODE)?;
        let about = serde_json::from_value(description)
            .map_err(|error| wrong(format!("{}: its description: {error}", path.display())))?;
        Ok(Self { about, arrays })
    }

    /// What was said about model and data.
    pub fn origin(&self) -> &Value {
        &self.about.origin
    }

    /// Samples that it was measured on.
    pub fn samples(&self) -> usize {
        self.about.samples
    }

    /// Names of the layers that it has statistics of.
    pub fn layers(&self) -> impl Iterator<Item = &str> {
        self.about.layers.iter().map(|layer| layer.key.as_str())
    }

    /// Sampled output positions per image and layer, where they were given.
    pub fn positions(&self) -> Option<usize> {
        self.about.positions
    }

    /// Checks the settings that decide about the numbers.
    pub(crate) fn check(&self, params: &PruneParams) -> Result<()> {
        let about = &self.about;
        let given = params.selection.clone().check()?;
        let differs = |name: &str, theirs: String, ours: String| {
            Err(wrong(format!("the statistics were made with {name} {theirs}, not {ours}"))
                .hint("calibrate again with this setting, or give that one"))
        };
        let shown =
            |positions: Option<usize>| positions.map_or("by default".into(), |p| p.to_string());
        if about.method != given.method().name {
            return differs("method", about.method.clone(), given.method().name.to_owned());
        }
        if about.ridge.to_bits() != given.ridge().to_bits() {
            return differs("ridge", about.ridge.to_string(), given.ridge().to_string());
        }
        if about.positions != params.positions {
            return differs("positions", shown(about.positions), shown(params.positions));
        }
        if about.seed != params.seed {
            return differs("seed", about.seed.to_string(), params.seed.to_string());
        }
        Ok(())
    }

    fn array(&self, name: &str) -> Result<&Constant> {
        self.arrays.get(name).ok_or_else(|| wrong(format!("the statistics lack `{name}`")))
    }

    /// The curves of sets.
    pub(crate) fn curves(&self, sets: &[Set], is_weighed: bool) -> Result<Vec<Curve>> {
        let weights = self.array("sets.weights")?.to_f64s()?;
        let curve = |set: &Set| {
            let found = self.about.sets.iter().position(|known| known.name == set.name);
            let channels = set.classes.len();
            let found = found.filter(|&at| self.about.sets[at].channels == channels);
            let at = found.ok_or_else(|| {
                wrong(format!(
                    "the statistics know no group {} of {channels} channels",
                    set.label()
                ))
                .hint("they may be of another model; sampled streams and whole heads need `streams = sample` and `attention = heads` in the calibration, too")
            })?;
            let order = self.array(&format!("sets.{at}.order"))?.to_i64s()?;
            let order: Vec<usize> =
                order.into_iter().filter_map(|i| usize::try_from(i).ok()).collect();
            let error = self.array(&format!("sets.{at}.error"))?.to_f64s()?;
            let weight = weights.get(at).copied().unwrap_or(f64::NAN);
            let mut places = order.clone();
            places.sort_unstable();
            let is_whole = places.iter().copied().eq(0..channels)
                && error.len() == channels + 1
                && error.iter().chain([&weight]).all(|v| v.is_finite());
            if !is_whole {
                return Err(wrong(format!("the curve of group {} is damaged", set.label())));
            }
            Ok(Curve { order, error, weight: if is_weighed { weight } else { 1.0 } })
        };
        sets.iter().map(curve).collect()
    }

    /// The statistics of a layer, as a walk through the original network collects them.
    pub(crate) fn statistics(&self, key: &str, layer: &Layer) -> Result<Vec<[Statistics; 2]>> {
        let shape = layer.map.shape();
        let at = self.about.layers.iter().position(|known| {
            known.key == key
                && (known.groups, known.inputs, known.outputs)
                    == (shape.groups, shape.columns(), shape.group_outputs())
        });
        let at = at.ok_or_else(|| {
            wrong(format!("the statistics know no layer `{key}` of this size"))
                .hint("they are of another model; calibrate this one")
        })?;
        let half = |group: usize, half: &str| {
            let prefix = format!("layers.{at}.{group}.{half}.");
            let parts = self.arrays.range(prefix.clone()..);
            let parts = parts
                .map_while(|(name, array)| Some((name.strip_prefix(&prefix)?.to_owned(), array)))
                .map(|(name, array)| (name, array.clone()))
                .collect();
            Statistics::from_parts(shape.columns(), shape.group_outputs(), &parts)
                .map_err(|error| wrong(format!("layer `{key}`: {}", error.message())))
        };
        (0..shape.groups).map(|group| Ok([half(group, "even")?, half(group, "odd")?])).collect()
    }

    /// A few samples in the order of the graph's inputs.
    ///
    /// # Errors
    /// `E0146` when an input has none.
    pub fn arrays(&self, graph: &Graph) -> Result<Vec<Array>> {
        let array = |&input: &tensor_core::ValueId| {
            let stored = self.array(&format!("samples.{}", graph.name(input)))?;
            let element = graph.declared(input).and_then(|declared| declared.element);
            let element = element.unwrap_or(stored.element());
            Array::new(Array::from_constant(stored)?.tensor, element)
                .map_err(|_| wrong(format!("samples of input `{}`", graph.name(input))))
        };
        graph.inputs.iter().map(array).collect()
    }
}
