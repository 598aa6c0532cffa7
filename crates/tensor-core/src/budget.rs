//! Choosing one option per layer under a budget.

use crate::{Error, ErrorKind, Result};

/// The widths that one set of channels may take, and what each costs in quality.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Name for messages.
    pub name: String,
    /// Allowed widths, ascending, at least one.
    pub widths: Vec<usize>,
    /// Loss of quality at each allowed width; not negative, falling with the width.
    pub penalty: Vec<f64>,
}

/// Picks the widths with a small total penalty whose cost is within the budget.
///
/// Starting from full widths, it takes the step with the least penalty per saved cost, looking at
/// all smaller widths of each set so that a flat or uneven curve does not stop it; then it trades
/// steps between pairs of sets while that lowers the penalty. `cost` must not fall when a width
/// grows.
///
/// Returns the index into [`Choice::widths`] for each choice.
///
/// # Errors
/// `E0140` when even the smallest widths cost more than the budget; the message holds the
/// attainable interval and the set that holds the most of the remaining cost.
pub fn allocate(
    choices: &[Choice],
    cost: impl Fn(&[usize]) -> f64,
    budget: f64,
) -> Result<Vec<usize>> {
    let widths = |picks: &[usize]| -> Vec<usize> {
        choices.iter().zip(picks).map(|(choice, &pick)| choice.widths[pick]).collect()
    };
    let cost_of = |picks: &[usize]| cost(&widths(picks));
    let mut picks: Vec<usize> = choices.iter().map(|choice| choice.widths.len() - 1).collect();
    let smallest = vec![0; choices.len()];
    if cost_of(&smallest) > budget {
        return Err(infeasible(choices, &cost_of, &picks, budget));
    }
    let mut current = cost_of(&picks);
    while current > budget {
        let mut best: Option<(f64, usize, usize)> = None;
        for set in 0..choices.len() {
            let old = picks[set];
            // Of several that cost the same, the widest.
            for pick in (0..old).rev() {
                picks[set] = pick;
                let saved = current - cost_of(&picks);
                let lost = choices[set].penalty[pick] - choices[set].penalty[old];
                if saved > 0.0 {
                    // Beyond what is needed, saving more is worth nothing.
                    let rate = lost.max(0.0) / saved.min(current - budget);
                    if best.is_none_or(|(least, ..)| rate < least) {
                        best = Some((rate, set, pick));
                    }
                }
            }
            picks[set] = old;
        }
        // Where no width of one set alone saves anything, several have to fall together.
        let Some((set, pick)) =
            best.map(|(_, set, pick)| (set, pick)).or_else(|| least_loss(choices, &picks))
        else {
            break;
        };
        picks[set] = pick;
        current = cost_of(&picks);
    }
    improve(choices, &cost_of, budget, &mut picks);
    Ok(picks)
}

/// The step to the next narrower width that loses least.
fn least_loss(choices: &[Choice], picks: &[usize]) -> Option<(usize, usize)> {
    let steps = choices.iter().zip(picks).enumerate().filter_map(|(set, (choice, &pick))| {
        let narrower = pick.checked_sub(1)?;
        Some((choice.penalty[narrower] - choice.penalty[pick], set, narrower))
    });
    steps.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, set, pick)| (set, pick))
}

/// Widens one set, narrowing another when needed, while the total penalty falls.
fn improve(
    choices: &[Choice],
    cost_of: &impl Fn(&[usize]) -> f64,
    budget: f64,
    picks: &mut [usize],
) {
    // Each round lowers the penalty, so it ends; the bound guards against rounding.
    for _ in 0..100_000 {
        let mut best: Option<(f64, Vec<(usize, usize)>)> = None;
        let mut consider = |gain: f64, moves: Vec<(usize, usize)>| {
            if gain > 1e-15 && best.as_ref().is_none_or(|(most, _)| gain > *most) {
                best = Some((gain, moves));
            }
        };
        for wide in 0..choices.len() {
            let old = picks[wide];
            if old + 1 == choices[wide].widths.len() {
                continue;
            }
            picks[wide] = old + 1;
            let gain = choices[wide].penalty[old] - choices[wide].penalty[old + 1];
            if cost_of(picks) <= budget {
                consider(gain, vec![(wide, old + 1)]);
            } else {
                for narrow in (0..choices.len()).filter(|&set| set != wide) {
                    let from = picks[narrow];
                    for pick in (0..from).rev() {
                        picks[narrow] = pick;
                        let lost = choices[narrow].penalty[pick] - choices[narrow].penalty[from];
                        if lost >= gain {
                            break;
                        }
                        if cost_of(picks) <= budget {
                            consider(gain - lost, vec![(wide, old + 1), (narrow, pick)]);
                            break;
                        }
                    }
                    picks[narrow] = from;
                }
            }
            picks[wide] = old;
        }
        let Some((_, moves)) = best else { return };
        for (set, pick) in moves {
            picks[set] = pick;
        }
    }
}

fn infeasible(
    choices: &[Choice],
    cost_of: &impl Fn(&[usize]) -> f64,
    full: &[usize],
    budget: f64,
) -> Error {
    let smallest = vec![0; choices.len()];
    let (low, high) = (cost_of(&smallest), cost_of(full));
    let share = |set: usize| {
        let mut picks = full.to_vec();
        picks[set] = 0;
        high - cost_of(&picks)
    };
    let binding = (0..choices.len()).min_by(|&a, &b| share(a).total_cmp(&share(b)));
    let binding = binding.map_or(String::new(), |set| {
        format!(
            "; `{}` gives least: its smallest width is {}",
            choices[set].name, choices[set].widths[0]
        )
    });
    Error::new(
        ErrorKind::Infeasible,
        "E0140",
        format!("budget {budget:.0} cannot be met: attainable is {low:.0} to {high:.0}{binding}"),
    )
    .hint("raise the budget; unless they are in use, smaller multiples (`round_to = 1`) and pruned streams (`streams = prune`) reach further down")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn quadratic(name: &str, widths: usize, weight: f64) -> Choice {
        let penalty = |k: usize| weight * ((widths - k) as f64).powi(2);
        Choice {
            name: name.to_owned(),
            widths: (1..=widths).collect(),
            penalty: (1..=widths).map(penalty).collect(),
        }
    }

    /// Brute force over all combinations.
    fn least(choices: &[Choice], cost: impl Fn(&[usize]) -> f64, budget: f64) -> f64 {
        let mut best = f64::INFINITY;
        let mut picks = vec![0; choices.len()];
        loop {
            let widths: Vec<_> = choices.iter().zip(&picks).map(|(c, &p)| c.widths[p]).collect();
            if cost(&widths) <= budget {
                let sum = choices.iter().zip(&picks).map(|(c, &p)| c.penalty[p]).sum::<f64>();
                best = best.min(sum);
            }
            let Some(set) = (0..picks.len()).find(|&s| picks[s] + 1 < choices[s].widths.len())
            else {
                return best;
            };
            picks[..set].fill(0);
            picks[set] += 1;
        }
    }

    #[test]
    fn bilinear_chain_is_close_to_brute_force() {
        let choices = [quadratic("a", 8, 1.0), quadratic("b", 8, 3.0), quadratic("c", 8, 0.5)];
        let cost = |w: &[usize]| (3 * w[0] + w[0] * w[1] + w[1] * w[2] + w[2] * 10) as f64;
        let full = cost(&[8, 8, 8]);
        for share in [0.3, 0.5, 0.7, 0.9] {
            let picks = allocate(&choices, cost, share * full).unwrap();
            let widths: Vec<_> = choices.iter().zip(&picks).map(|(c, &p)| c.widths[p]).collect();
            let penalty: f64 = choices.iter().zip(&picks).map(|(c, &p)| c.penalty[p]).sum();
            assert!(cost(&widths) <= share * full);
            let best = least(&choices, cost, share * full);
            assert!(penalty <= 1.1 * best + 1e-9, "{penalty} against {best} at {share}");
        }
    }

    /// Of widths that lose the same, the one that saves no more than is needed.
    #[test]
    fn a_flat_penalty_does_not_narrow_below_the_budget() {
        let flat = |name: &str| Choice {
            name: name.to_owned(),
            widths: (1..=10).collect(),
            penalty: vec![0.0; 10],
        };
        let choices = [flat("a"), flat("b")];
        let cost = |widths: &[usize]| widths.iter().sum::<usize>() as f64;
        let picks = allocate(&choices, cost, 12.0).unwrap();
        assert_eq!(picks.iter().map(|pick| pick + 1).sum::<usize>(), 12);
    }

    /// The time of a layer is that of its wider side here, so that no set alone saves any.
    #[test]
    fn sets_that_only_save_together_fall_together() {
        let choices = [quadratic("a", 8, 1.0), quadratic("b", 8, 3.0)];
        let cost = |w: &[usize]| w[0].max(w[1]) as f64;
        let picks = allocate(&choices, cost, 5.0).unwrap();
        assert_eq!(picks, [4, 4]);
    }

    #[test]
    fn infeasible_budget_names_the_interval_and_the_binding_set() {
        let choices = [quadratic("a", 4, 1.0), quadratic("b", 4, 1.0)];
        let error = allocate(&choices, |w| (w[0] + w[1]) as f64 * 10.0, 15.0).unwrap_err();
        assert_eq!(error.code(), "E0140");
        assert!(error.message().contains("20 to 80"), "{error}");
    }
}
