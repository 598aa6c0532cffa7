//! Episodes.

use super::agent::Agent;
use super::replay::Transition;
use super::{Constraint, DdpgParams, Reward, STATE, states};
use crate::search::trim::trim;
use crate::search::{Bits, Judgement, Problem, uniform};
use serde::Serialize;
use tensor_core::progress::{self, Progress};
use tensor_core::{Error, Result};

/// One allocation that was tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Episode {
    /// Its number, from 0.
    pub episode: usize,
    /// Bits within the budget.
    pub bits: Vec<Bits>,
    /// What they cost.
    pub cost: f64,
    /// What they do on the samples.
    #[serde(flatten)]
    pub judgement: Judgement,
    /// Reward.
    pub reward: f64,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// The bits of the episode with the highest reward; of equal ones the first.
    pub bits: Vec<Bits>,
    /// What they do on the samples.
    pub judgement: Judgement,
    /// All episodes.
    pub episodes: Vec<Episode>,
}

/// Bits of an action in `[0, 1]`: `round(low - 1/2 + a (high - low + 1))`, so that each number of bits has an
/// equal share of the actions; the last action belongs to the most bits.
pub fn bits_of(action: f64, low: u32, high: u32) -> u32 {
    let (least, most) = (f64::from(low), f64::from(high));
    let bits = (least - 0.5 + action * (most - least + 1.0)).round();
    // Rounding is away from zero: actions of 0 and 1 give low and high + 1.
    bits.clamp(least, most) as u32
}

/// The middle of the actions that give these bits.
fn action_of(bits: u32, low: u32, high: u32) -> f64 {
    (f64::from(bits) - f64::from(low) + 0.5) / f64::from(high - low + 1)
}

/// Searches.
///
/// `float` is what the float model does on the samples of `judge`, which judges an allocation. `known`
/// are the judgements of episodes that were run before, in order: they are not run again. `after` is called with
/// each new episode.
///
/// # Errors
/// `E0557` for parameters outside their range, or when there are more known episodes than asked for; `E0207` without
/// the labels that a reward for accuracy needs; `E0130` when interrupted; what `judge` and `after` say.
pub fn search(
    problem: &Problem,
    params: &DdpgParams,
    float: Judgement,
    known: &[Judgement],
    judge: &mut dyn FnMut(&[Bits]) -> Result<Judgement>,
    after: &mut dyn FnMut(&Episode) -> Result<()>,
    progress: &dyn Progress,
) -> Result<Found> {
    params.check()?;
    if known.len() > params.episodes {
        let message = format!("{} episodes are done, more than asked for", known.len());
        return Err(Error::invalid(message).code_is("E0557"));
    }
    // Labels that are missing are missed before anything runs.
    gain(params.reward, float, float)?;
    let shown = states(problem);
    let mut agent = Agent::new(params, problem.len())?;
    let mut episodes: Vec<Episode> = Vec::with_capacity(params.episodes);
    let mut best: Option<usize> = None;
    progress.stage("episodes", params.episodes);
    for number in 0..params.episodes {
        progress::check(progress)?;
        let mut walk = walk(problem, &shown, &mut agent, (number, params.constraint))?;
        // Where no such bits fit, the agent's own are as good a start.
        if let (0, Ok(alike)) = (number, uniform::solve(problem)) {
            walk.bits = alike;
        }
        walk.settle(problem);
        let found = match known.get(number) {
            Some(&found) => found,
            None => judge(&walk.bits)?,
        };
        let reward = params.scale * 100.0 * gain(params.reward, found, float)?;
        walk.steps.iter_mut().for_each(|step| step.reward = reward);
        agent.learn(&walk.steps, number)?;
        let cost = problem.cost(&walk.bits);
        let episode = Episode { episode: number, bits: walk.bits, cost, judgement: found, reward };
        if number >= known.len() {
            after(&episode)?;
        }
        if best.is_none_or(|best| reward > episodes[best].reward) {
            best = Some(number);
        }
        let highest = best.map_or(0.0, |at| episodes.get(at).unwrap_or(&episode).reward);
        episodes.push(episode);
        progress.advance(1, &format!("best reward {highest:.3}"));
    }
    let best = best.and_then(|at| episodes.get(at)).cloned();
    let best = best.ok_or_else(|| Error::internal("a search without episodes"))?;
    Ok(Found { bits: best.bits, judgement: best.judgement, episodes })
}

/// What an allocation has beyond the float model, from -1 to 1.
fn gain(reward: Reward, found: Judgement, float: Judgement) -> Result<f64> {
    match (reward, found.score, float.score) {
        (Reward::Accuracy, Some(found), Some(float)) => Ok(found.share() - float.share()),
        (Reward::Accuracy, ..) => Err(Error::invalid("a reward for accuracy needs labels")
            .code_is("E0207")
            .hint("give them, or reward `divergence`")),
        (Reward::Divergence, ..) => Ok((-found.divergence).exp_m1()),
    }
}

/// Actions of an episode.
struct Walk {
    bits: Vec<Bits>,
    steps: Vec<Transition>,
}

impl Walk {
    /// Takes bits until the budget holds, and makes the actions those of the bits that are left, as the
    /// reward is that of these. Bounded bits are within the budget, unless a device takes less for more.
    fn settle(&mut self, problem: &Problem) {
        trim(problem, &mut self.bits);
        let params = problem.params();
        let searched = (0..problem.len()).filter(|&layer| !problem.is_pinned(layer));
        let taken = searched.flat_map(|layer| {
            let Bits { weights, activations } = self.bits[layer];
            std::iter::once(weights).chain(params.activations.is_none().then_some(activations))
        });
        let mut previous = 1.0;
        for (at, bits) in taken.enumerate() {
            let step = &mut self.steps[at];
            step.state[STATE - 1] = previous;
            // Within the share of its bits the action is the agent's own.
            if bits_of(f64::from(step.action), params.min_bits, params.max_bits) != bits {
                step.action = action_of(bits, params.min_bits, params.max_bits) as f32;
            }
            previous = step.action;
            if let Some(before) = at.checked_sub(1) {
                self.steps[before].next = self.steps[at].state;
            }
        }
    }
}

/// Two steps for each layer that is not pinned; one where activations are not searched.
fn walk(
    problem: &Problem,
    shown: &[[f32; STATE]],
    agent: &mut Agent,
    (episode, constraint): (usize, Constraint),
) -> Result<Walk> {
    let params = problem.params();
    let (low, high) = (params.min_bits, params.max_bits);
    let mut bits = problem.most();
    if constraint == Constraint::Bound {
        // Layers that are not decided yet count with their fewest bits.
        let fewest = Bits { weights: low, activations: params.activations.unwrap_or(low) };
        bits = problem.with_pins(fewest);
    }
    let mut steps: Vec<Transition> = Vec::new();
    let mut previous = 1.0;
    for layer in (0..problem.len()).filter(|&layer| !problem.is_pinned(layer)) {
        for is_weights in [true, false] {
            if !is_weights && params.activations.is_some() {
                continue;
            }
            let mut state = shown[layer];
            state[STATE - 2] = f32::from(u8::from(is_weights));
            state[STATE - 1] = previous;
            let mut action = agent.act(&state, episode)?;
            let mut chosen = bits_of(action, low, high);
            let mut set = |chosen: u32| {
                match is_weights {
                    true => bits[layer].weights = chosen,
                    false => bits[layer].activations = chosen,
                }
                problem.is_within(problem.cost(&bits))
            };
            let mut fits = set(chosen);
            while constraint == Constraint::Bound && !fits && chosen > low {
                chosen -= 1;
                action = action_of(chosen, low, high);
                fits = set(chosen);
            }
            if let Some(last) = steps.last_mut() {
                (last.next, last.is_last) = (state, false);
            }
            previous = action as f32;
            let next = [0.0; STATE];
            steps.push(Transition { state, action: previous, reward: 0.0, next, is_last: true });
        }
    }
    Ok(Walk { bits, steps })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::search::{Budget, Limit, Resource, Rest, SpaceParams};
    use tensor_core::NodeId;
    use tensor_core::cost::hardware::{self, Layer, LayerKind, LayerShape};

    #[test]
    fn actions_become_bits() {
        assert_eq!((bits_of(0.0, 2, 8), bits_of(1.0, 2, 8)), (2, 8));
        assert_eq!((bits_of(0.0, 1, 8), bits_of(1.0, 1, 8)), (1, 8));
        // Each of 7 numbers has a seventh of the actions.
        for bits in 2..=8 {
            let middle = (f64::from(bits) - 1.5) / 7.0;
            assert!((action_of(bits, 2, 8) - middle).abs() < 1e-12);
            for action in [middle - 0.07, middle, middle + 0.07] {
                assert_eq!(bits_of(action, 2, 8), bits, "{action}");
            }
        }
    }

    fn layer(at: usize) -> Layer {
        let shape = LayerShape {
            op: LayerKind::Conv,
            kernel: [3, 3],
            stride: [1, 1],
            groups: 1,
            cin: 8,
            cout: 8,
            h: 8,
            w: 8,
            out_h: 8,
            out_w: 8,
        };
        Layer { node: NodeId::from_index(at), name: format!("layer{at}"), shape }
    }

    /// What is learned from is what was run, before trimming and after it.
    #[test]
    fn steps_hold_the_bits_that_are_left() {
        let layers: Vec<Layer> = (0..6).map(layer).collect();
        let device = hardware::find("bismo-edge").unwrap();
        let budget = Budget { resource: Resource::Latency, limit: Limit::Keep(0.55) };
        let space = SpaceParams::default();
        let problem = Problem::new(&layers, Rest::default(), &*device, budget, &space).unwrap();
        let params = DdpgParams { hidden: [8, 8], ..DdpgParams::default() };
        let mut agent = Agent::new(&params, problem.len()).unwrap();
        let shown = states(&problem);
        let mut walk = walk(&problem, &shown, &mut agent, (0, Constraint::Trim)).unwrap();
        let chosen = walk.bits.clone();
        let own: Vec<f32> = walk.steps.iter().map(|step| step.action).collect();
        walk.settle(&problem);
        assert_ne!(walk.bits, chosen, "the budget binds nothing");
        let left = walk.bits[1..5].iter().flat_map(|bits| [bits.weights, bits.activations]);
        for ((at, step), bits) in walk.steps.iter().enumerate().zip(left) {
            assert_eq!(bits_of(f64::from(step.action), 2, 8), bits);
            let was = bits_of(f64::from(own[at]), 2, 8);
            assert!(was != bits || step.action == own[at], "an action without need for another");
            let previous = at.checked_sub(1).map_or(1.0, |before| walk.steps[before].action);
            assert_eq!(step.state[STATE - 1], previous);
            if let Some(next) = walk.steps.get(at + 1) {
                assert_eq!(step.next, next.state);
            }
        }
    }

    /// A bounded walk needs no trimming, and its steps hold the actions of the bits that it took.
    #[test]
    fn bounded_choices_are_within_the_budget() {
        let layers: Vec<Layer> = (0..6).map(layer).collect();
        let device = hardware::find("size").unwrap();
        let budget = Budget { resource: Resource::Size, limit: Limit::Keep(0.6) };
        let space = SpaceParams { activations: Some(8), ..SpaceParams::default() };
        let problem = Problem::new(&layers, Rest::default(), &*device, budget, &space).unwrap();
        let params = DdpgParams { hidden: [8, 8], ..DdpgParams::default() };
        let shown = states(&problem);
        let mut over = 0;
        for constraint in [Constraint::Trim, Constraint::Bound] {
            let mut agent = Agent::new(&params, problem.len()).unwrap();
            for episode in 0..20 {
                let walk = walk(&problem, &shown, &mut agent, (episode, constraint)).unwrap();
                let is_within = problem.is_within(problem.cost(&walk.bits));
                over += usize::from(!is_within);
                assert!(is_within || constraint == Constraint::Trim, "{:?}", walk.bits);
                for (step, bits) in walk.steps.iter().zip(&walk.bits[1..5]) {
                    assert_eq!(bits_of(f64::from(step.action), 2, 8), bits.weights);
                }
            }
        }
        assert!(over > 5, "the budget binds nothing");
        assert!("clip".parse::<Constraint>().is_err());
    }
}
