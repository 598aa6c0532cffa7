//! Where the gates of a training graph are, and what they are counted in.

use super::plugin::TrainParams;
use crate::Resource;
use crate::model::{Placement, Selection, Site};
use candle_core::{Device, Tensor};
use tensor_core::channels::{Channels, analyze};
use tensor_core::graph::Graph;
use tensor_core::run::infer;
use tensor_core::{Error, Result};

/// A placement with its resource term.
pub(super) struct Placed {
    pub(super) placement: Placement,
    pub(super) resource: Resource,
    /// Labels of the training graph.
    pub(super) channels: Channels,
}

impl Placed {
    /// Places gates in the graph of a run; the original counts, and names groups.
    pub(super) fn new(params: &TrainParams, graph: &Graph) -> Result<Self> {
        let facts = infer(graph, &params.shapes)?;
        let channels = analyze(graph, &facts)?;
        let original = params.original.as_ref().map(|graph| {
            let facts = infer(graph, &params.shapes)?;
            let channels = analyze(graph, &facts)?;
            Ok::<_, Error>((graph, facts, channels))
        });
        let original = original.transpose()?;
        let selection = Selection {
            exclude: &params.exclude,
            frozen: &params.frozen,
            branches: params.branches,
            original: original.as_ref().map(|(graph, _, channels)| (*graph, channels)),
        };
        let placement = Placement::new(graph, &facts, &channels, selection)?;
        let what = &params.resource;
        let resource = match &original {
            Some((graph, facts, channels)) => placement.resource(graph, facts, channels, what)?,
            None => placement.resource(graph, &facts, &channels, what)?,
        };
        Ok(Self { placement, resource, channels })
    }
}

/// For each position of a site the place of its gate in the list of all gates, one past the end where
/// there is none.
pub(super) fn places(placement: &Placement, site: &Site) -> Result<Tensor> {
    let starts: Vec<usize> = placement
        .lists
        .iter()
        .scan(0, |next, list| Some(std::mem::replace(next, *next + list.channels)))
        .collect();
    let end: usize = placement.lists.iter().map(|list| list.channels).sum();
    let place = |gate: &Option<(usize, usize)>| {
        gate.map_or(end, |(list, place)| starts[list] + place) as u32
    };
    let places: Vec<u32> = site.gates.iter().map(place).collect();
    Ok(Tensor::new(places, &Device::Cpu)?)
}
