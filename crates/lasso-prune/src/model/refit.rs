//! One layer: choose channels, refit the weight, compare with the baselines.

use super::layers::Layer;
use super::problems::{LayerProblems, weight_rows};
use super::report::{LayerReport, PathStep};
use super::sets::Set;
use crate::params::{SelectionParams, ValidSelection};
use crate::reconstruct::System;
use crate::{Problem, Reconstruction, Task, best_ridge};
use tensor_core::Result;
use tensor_core::calibrate::Statistics;
use tensor_core::graph::{Constant, Graph, Index};
use tensor_core::rewrite::{self, Edit, Stored};

/// The sets that one layer reads, and how many channels of each it keeps.
pub(crate) struct Read<'a> {
    pub(crate) set: &'a Set,
    pub(crate) width: usize,
    /// Channels already chosen by an earlier layer or, for several readers, in advance.
    pub(crate) kept: Option<Vec<usize>>,
}

/// A refitted layer.
pub(crate) struct Refitted {
    /// Kept channels of each set, ascending.
    pub(crate) kept: Vec<Vec<usize>>,
    pub(crate) edits: Vec<Edit>,
    pub(crate) report: LayerReport,
}

/// Chooses what is not chosen yet, then solves the least-squares problem of the layer.
pub(crate) fn refit(
    graph: &Graph,
    layer: &Layer,
    statistics: Vec<[Statistics; 2]>,
    reads: &[Read],
    selection: &ValidSelection,
) -> Result<Refitted> {
    let index = Index::new(graph);
    let weights = weight_rows(graph, &index, layer)?;
    let problems = LayerProblems::new(statistics, &weights)?;
    let Choice { kept, path } = choose(layer, &problems, reads, selection)?;
    let fit = Fit::new(layer, &problems, reads, selection.ridge())?;
    let (ridge, held_out_error) = fit.best_ridge(&kept)?;
    let is_cut = reads.iter().zip(&kept).any(|(read, kept)| kept.len() < read.set.classes.len());
    let baseline = |name: &str| -> Result<Option<f64>> {
        if !is_cut {
            return Ok(None);
        }
        let params = SelectionParams::new().method(name).ridge(selection.ridge()).check()?;
        let anew: Vec<Read> = reads.iter().map(|read| Read { kept: None, ..*read }).collect();
        let kept = choose(layer, &problems, &anew, &params)?.kept;
        Ok(Some(fit.error(&fit.solve(&kept, ridge)?.0)))
    };
    let (solved, (first_k, max_response)) = rayon::join(
        || fit.solve(&kept, ridge),
        || rayon::join(|| baseline("first-k"), || baseline("max-response")),
    );
    let (solved, unfitted_error) = solved?;
    let removed: usize =
        reads.iter().zip(&kept).map(|(read, kept)| positions(layer, read.set, kept)).sum();
    let report = LayerReport {
        key: graph.key(layer.node).to_owned(),
        op: graph.node(layer.node).op.clone(),
        channels_before: layer.map.shape().channels,
        channels_after: layer.map.shape().channels - removed,
        rows: problems.all.first().map_or(0, Problem::rows),
        error: fit.error(&solved),
        unfitted_error,
        held_out_error,
        first_k_error: first_k?,
        max_response_error: max_response?,
        path,
    };
    let edits = weight_edits(graph, &index, layer, &solved)?;
    Ok(Refitted { kept, edits, report })
}

/// Positions on the layer's input axis that a set gives up.
fn positions(layer: &Layer, set: &Set, kept: &[usize]) -> usize {
    let removed = |class: &u32| {
        set.classes.iter().position(|c| c == class).is_some_and(|i| kept.binary_search(&i).is_err())
    };
    layer.classes.iter().filter(|class| removed(class)).count()
}

/// Channels that stay.
struct Choice {
    /// By set, ascending.
    kept: Vec<Vec<usize>>,
    /// The penalties that chose them, where there are any.
    path: Vec<PathStep>,
}

fn choose(
    layer: &Layer,
    problems: &LayerProblems,
    reads: &[Read],
    selection: &ValidSelection,
) -> Result<Choice> {
    let mut path = Vec::new();
    let mut of = |read: &Read| match &read.kept {
        Some(kept) => Ok(kept.clone()),
        None if read.width == read.set.classes.len() => Ok((0..read.width).collect()),
        None => {
            let task = Task::new(problems.of(layer, &read.set.classes)?.all)?
                .with_producer_norms(read.set.producer_norms.clone())?;
            let (kept, steps) = selection.selector().select_traced(&task, read.width)?;
            path.extend(steps);
            Ok(read.set.completed(kept))
        }
    };
    let kept = reads.iter().map(&mut of).collect::<Result<_>>()?;
    Ok(Choice { kept, path })
}

/// The least-squares problems of a layer, one per convolution group.
struct Fit {
    problems: LayerProblems,
    /// Where each set's channels start in the joint list.
    starts: Vec<usize>,
    energies: Vec<f64>,
    ridge: f64,
}

impl Fit {
    fn new(layer: &Layer, problems: &LayerProblems, reads: &[Read], ridge: f64) -> Result<Self> {
        let mut classes = Vec::new();
        let mut starts = Vec::new();
        for read in reads {
            starts.push(classes.len());
            classes.extend_from_slice(&read.set.classes);
        }
        let problems = problems.of(layer, &classes)?;
        let energies = problems.all.iter().map(Problem::energy).collect();
        Ok(Self { problems, starts, energies, ridge })
    }

    /// The ridge that does best on held-out rows, and that held-out error.
    fn best_ridge(&self, kept: &[Vec<usize>]) -> Result<(f64, f64)> {
        best_ridge(&self.problems.halves, &self.joint(kept), self.ridge)
    }

    /// The new weights of all groups, and the relative error of the original ones.
    fn solve(&self, kept: &[Vec<usize>], ridge: f64) -> Result<(Vec<Reconstruction>, f64)> {
        let joint = self.joint(kept);
        let (mut solved, mut unfitted) = (Vec::new(), Vec::new());
        for problem in &self.problems.all {
            let system = System::new(problem, &joint)?;
            solved.push(system.solve(ridge)?);
            unfitted.push(system.unfitted_error());
        }
        Ok((solved, self.weighed(unfitted)))
    }

    /// Kept channels of all sets as places in the joint list.
    fn joint(&self, kept: &[Vec<usize>]) -> Vec<usize> {
        let sets = kept.iter().zip(&self.starts);
        sets.flat_map(|(kept, start)| kept.iter().map(move |i| start + i)).collect()
    }

    /// Relative error over all groups.
    fn error(&self, solved: &[Reconstruction]) -> f64 {
        self.weighed(solved.iter().map(|solved| solved.relative_error))
    }

    /// Mean of relative errors over all groups.
    fn weighed(&self, errors: impl IntoIterator<Item = f64>) -> f64 {
        let total: f64 = self.energies.iter().sum();
        let errors = errors.into_iter().zip(&self.energies).map(|(error, e)| error * e);
        if total > 0.0 { errors.sum::<f64>() / total } else { 0.0 }
    }
}

/// The new weight at full size, zero where columns were given up, and the new bias.
pub(crate) fn weight_edits(
    graph: &Graph,
    index: &Index,
    layer: &Layer,
    solved: &[Reconstruction],
) -> Result<Vec<Edit>> {
    let shape = layer.map.shape();
    let (p, n) = (shape.columns(), shape.group_outputs());
    let mut rows = vec![0.0; shape.outputs * p];
    let mut intercept = Vec::with_capacity(shape.outputs);
    for (group, solution) in solved.iter().enumerate() {
        for o in 0..n {
            let row = &mut rows[(group * n + o) * p..][..p];
            let kept = &solution.weight[o * solution.columns.len()..];
            for (&column, &w) in solution.columns.iter().zip(kept) {
                row[column] = w;
            }
        }
        intercept.extend_from_slice(&solution.intercept);
    }
    let stored = Stored::required(graph, index, layer.node, layer.weight.0)?;
    let weight = Constant::from_f32s(stored.constant.dims(), &layer.map.weight_of_rows(&rows))?;
    let mut edits = vec![stored.replaced(&weight)?];
    if let Some((input, factor)) = layer.map.bias() {
        // The response was sampled with its bias, so the intercept is the new bias.
        let bias: Vec<f32> = intercept.iter().map(|b| b / factor).collect();
        edits.push(bias_edit(graph, index, layer, input, &bias)?);
    }
    Ok(edits)
}

/// The new bias, in the type that the old one has.
pub(crate) fn bias_edit(
    graph: &Graph,
    index: &Index,
    layer: &Layer,
    input: usize,
    bias: &[f32],
) -> Result<Edit> {
    let constant = Constant::from_f32s(&[bias.len()], bias)?;
    rewrite::set_stored(graph, index, (layer.node, input), constant)
}
