//! The baselines of He et al. 2017, figure 4.

use tensor_core::Result;

use crate::problem::Task;
use crate::selector::Selector;

/// Keeps the first channels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FirstK;

impl Selector for FirstK {
    fn order(&self, task: &Task) -> Result<Vec<usize>> {
        Ok((0..task.channels()).collect())
    }
}

/// Keeps the channels whose filters have the largest sum of absolute weights.
///
/// "Filters" are those that produce the channels where the caller has stated their norms
/// ([`Task::with_producer_norms`]), as in the paper. Otherwise the weights that read the channel are
/// summed, each layer relative to all its weights, as in AMC. The lower index wins a tie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MaxResponse;

impl Selector for MaxResponse {
    fn order(&self, task: &Task) -> Result<Vec<usize>> {
        let scores = match task.producer_norms() {
            Some(norms) => norms.to_vec(),
            None => consumer_norms(task),
        };
        Ok(descending(&scores))
    }
}

fn consumer_norms(task: &Task) -> Vec<f64> {
    let mut scores = vec![0.0; task.channels()];
    for problem in task.problems() {
        let sums: Vec<f64> = problem
            .blocks
            .iter()
            .map(|block| {
                block
                    .iter()
                    .map(|&c| problem.weight.row(c).iter().map(|w| w.abs()).sum::<f64>())
                    .sum()
            })
            .collect();
        let total: f64 = sums.iter().sum();
        if total > 0.0 {
            for (score, sum) in scores.iter_mut().zip(sums) {
                *score += sum / total;
            }
        }
    }
    scores
}

/// Indices by descending score; equal scores keep their order.
pub(crate) fn descending(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order
}
