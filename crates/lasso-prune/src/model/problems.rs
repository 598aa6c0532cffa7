//! The selection problems of one layer of a network.

use super::layers::Layer;
use crate::Problem;
use tensor_core::Result;
use tensor_core::calibrate::Statistics;
use tensor_core::channels::ClassId;
use tensor_core::graph::{Graph, Index};
use tensor_core::rewrite::Stored;

/// The layer's weight as rows, one matrix per convolution group.
pub(crate) fn weight_rows(graph: &Graph, index: &Index, layer: &Layer) -> Result<Vec<Vec<f32>>> {
    let shape = layer.map.shape();
    let constant = Stored::required(graph, index, layer.node, layer.weight.0)?.constant;
    let rows = layer.map.rows_of_weight(&constant.to_f32s()?);
    Ok(rows.chunks(shape.group_outputs() * shape.columns()).map(<[f32]>::to_vec).collect())
}

/// Selection problems of a layer, one per convolution group.
#[derive(Clone)]
pub(crate) struct LayerProblems {
    /// On all rows.
    pub(crate) all: Vec<Problem>,
    /// On even and odd [blocks](tensor_core::calibrate::Replay::is_odd) of samples.
    pub(crate) halves: Vec<[Problem; 2]>,
}

impl LayerProblems {
    /// Without channels yet, from the statistics of even and odd blocks of samples and the weight rows.
    pub(crate) fn new(statistics: Vec<[Statistics; 2]>, weights: &[Vec<f32>]) -> Result<Self> {
        let mut problems = Self { all: Vec::new(), halves: Vec::new() };
        for ([even, odd], weight) in statistics.into_iter().zip(weights) {
            let problem = |statistics| Problem::new(statistics, weight, Vec::new());
            let mut merged = even.clone();
            merged.merge(&odd)?;
            // A single sample cannot be split; it is then judged on itself.
            let is_split = even.rows() > 0 && odd.rows() > 0;
            let halves = || match is_split {
                true => {
                    let (even, odd) = rayon::join(|| problem(even), || problem(odd));
                    Ok(Some([even?, odd?]))
                }
                false => Ok(None),
            };
            let (all, halves) = rayon::join(|| problem(merged), halves);
            let (all, halves): (_, Result<_>) = (all?, halves);
            problems.halves.push(halves?.unwrap_or_else(|| [all.clone(), all.clone()]));
            problems.all.push(all);
        }
        Ok(problems)
    }

    /// The same for the channels of the given classes; statistics are shared.
    pub(crate) fn of(&self, layer: &Layer, classes: &[ClassId]) -> Result<Self> {
        let mut problems = Self { all: Vec::new(), halves: Vec::new() };
        let blocks = layer.blocks(classes);
        for ((all, [even, odd]), blocks) in self.all.iter().zip(&self.halves).zip(blocks) {
            let halves = [even.with_blocks(blocks.clone())?, odd.with_blocks(blocks.clone())?];
            problems.halves.push(halves);
            problems.all.push(all.with_blocks(blocks)?);
        }
        Ok(problems)
    }
}
