//! The optimizer of gates: proximal descent under a resource.

use crate::controller::{self, Controller, LEAST_OPEN, List, Lumping};
use crate::params::{Goal, Penalty};
use crate::{Gate, GateParams, Resource};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use tensor_core::{Error, ErrorKind, Result};

/// Decay of the running mean squares of gradients.
const DECAY: f64 = 0.99;

/// Trains gates beside the weights of a network, until the network costs what it may.
///
/// One [step](Self::step), with the gradients of the task's loss:
///
/// ```text
/// m <- momentum m + (1 - momentum) dL/dalpha
/// z  = alpha - rate (1 - t) m / rms_u                        t the share of the run so far
/// alpha <- sign(z) max(|z| - lambda A_u / q^power, 0)        q the importance of each gate
/// ```
///
/// where `rms_u` is the running root mean square of the list's gradients, so that one rate fits every
/// network (both averages begin at 0 and are not corrected for that), `A_u` the [coefficient](Resource::relaxation) of the resource term at the numbers of
/// open gates of now, and `lambda` the smallest weight for which the step ends on the
/// [line](Controller) to the goal: it needs no tuning, and is 0 once the goal is reached. Closed gates
/// lose their momentum and stay closed. When the goal is reached and `eps` falls, open gates go to 1
/// while their gain keeps what they do, and the loss moves only the weights.
#[derive(Debug, Clone)]
pub struct GateOptimizer {
    params: GateParams,
    resource: Resource,
    line: Option<Controller>,
    lists: Vec<State>,
    done: u64,
    weight: f64,
}

/// What is known about the gates of one list.
#[derive(Debug, Clone)]
struct State {
    floor: usize,
    lump: Lumping,
    momentum: Vec<f64>,
    /// Running mean square of the list's gradients.
    square: f64,
    /// Running mean square of `gate * dL/dgate`, by gate.
    importance: Vec<f64>,
}

impl GateOptimizer {
    /// For lists of gates as the resource counts them. `may_close` says of each list whether all its
    /// gates may close, as those of a branch beside a skip path may; otherwise one stays open, or as
    /// many as [close together](crate::Rounding).
    ///
    /// # Errors
    /// `E0440` when a parameter is out of range; `E0442` when the goal cannot be met.
    pub fn new(params: GateParams, resource: Resource, may_close: &[bool]) -> Result<Self> {
        params.check()?;
        let full = resource.full().to_vec();
        if may_close.len() != full.len() {
            let message = format!("{} lists, but {} in the resource", may_close.len(), full.len());
            return Err(Error::invalid(message).code_is("E0440"));
        }
        let list = |(at, &width): (usize, &usize)| {
            let lump = params.rounding.lump(width);
            let floor = if may_close[at] { 0 } else { lump.size.min(width) };
            let (momentum, importance) = (vec![0.0; width], vec![0.0; width]);
            State { floor, lump, momentum, square: 0.0, importance }
        };
        let lists: Vec<State> = full.iter().enumerate().map(list).collect();
        let total = resource.at(&full);
        let goal = match params.goal {
            Goal::Keep(share) => Some(share * total),
            Goal::AtMost(most) => Some(most),
            Goal::Weight(_) => None,
        };
        let least: Vec<usize> = lists.iter().map(|list| list.floor).collect();
        let least = resource.at(&least);
        if let Some(goal) = goal.filter(|goal| *goal < least) {
            return Err(out_of_reach(goal, least, total));
        }
        let line = goal.map(|goal| Controller {
            full: total,
            goal,
            begin: params.begin,
            end: params.end,
            curve: params.curve,
        });
        Ok(Self { params, resource, line, lists, done: 0, weight: 0.0 })
    }

    /// The resource that is counted.
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// The weight of the resource term in the last step.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// What the resource may be at the end; `None` with a fixed weight.
    pub fn goal(&self) -> Option<f64> {
        self.line.map(|line| line.goal)
    }

    /// One step, number `step` of `steps` from 0, with the gradient of the loss by each gate's
    /// `alpha`, `None` where the loss does not depend on it.
    ///
    /// # Errors
    /// `E0440` when gates or gradients do not fit the resource; `E0401` when a gradient is not
    /// finite.
    pub fn step(
        &mut self,
        (step, steps): (u64, u64),
        gates: &mut [Gate],
        gradients: &[Option<Tensor>],
    ) -> Result<()> {
        let full = self.resource.full();
        if gates.iter().map(Gate::channels).ne(full.iter().copied())
            || gradients.len() != full.len()
        {
            let message = format!("{} lists of gates do not fit the resource", gates.len());
            return Err(Error::invalid(message).code_is("E0440"));
        }
        self.done += 1;
        let rate = match self.is_settled(step, steps) {
            true => 0.0,
            false => self.params.rate * (1.0 - step as f64 / steps.max(1) as f64).max(0.0),
        };
        let mut alphas = Vec::new();
        for ((state, gate), gradient) in self.lists.iter_mut().zip(&*gates).zip(gradients) {
            let mut values = gate.alphas()?;
            let gradient = match gradient {
                Some(gradient) => gradient.to_device(&Device::Cpu)?.to_vec1::<f32>()?,
                None => vec![0.0; values.len()],
            };
            state.descend(&mut values, &gradient, gate.eps(), (rate, self.params.momentum))?;
            alphas.push(values);
        }
        let strength = self.strength();
        let mut lists: Vec<List> = alphas
            .iter_mut()
            .zip(&strength)
            .zip(&self.lists)
            .map(|((alphas, strength), state)| List {
                alphas,
                strength,
                floor: state.floor,
                lump: state.lump,
            })
            .collect();
        let prox = self.params.prox;
        match (self.line, self.params.goal) {
            (Some(line), _) => {
                let limit = line.limit(step + 1, steps);
                self.weight =
                    controller::shrink(&mut lists, &self.resource, (limit, line.goal), prox);
            }
            // The loss no longer holds gates open then.
            (None, Goal::Weight(_)) if self.is_settled(step, steps) => {}
            (None, Goal::Weight(weight)) => {
                self.weight = weight;
                controller::shrink_by(&mut lists, &self.resource, weight, prox);
            }
            (None, _) => {}
        }
        let eps = self.params.eps.at(step + 1, steps);
        for ((state, gate), values) in self.lists.iter_mut().zip(gates).zip(alphas) {
            for (momentum, alpha) in state.momentum.iter_mut().zip(&values) {
                if *alpha == 0.0 {
                    *momentum = 0.0;
                }
            }
            gate.alpha().set(&Tensor::from_vec(values, gate.channels(), gate.alpha().device())?)?;
            gate.set_eps(eps)?;
        }
        Ok(())
    }

    /// Is the goal reached, and `eps` on its way down? Then gates have decided and the weights alone
    /// learn: a gate near 0 could otherwise be pushed through it.
    fn is_settled(&self, step: u64, steps: u64) -> bool {
        let is_reached = self.line.is_none_or(|line| line.limit(step, steps) <= line.goal);
        is_reached && self.params.eps.at(step, steps) != self.params.eps.first
    }

    /// What the penalty of each gate is divided by.
    fn strength(&self) -> Vec<Vec<f64>> {
        let bias = 1.0 - DECAY.powi(i32::try_from(self.done).unwrap_or(i32::MAX));
        let of = |list: &State| match self.params.penalty {
            Penalty::Adaptive(power) => {
                let importance = list.importance.iter();
                importance.map(|square| (square / bias).powf(power / 2.0)).collect()
            }
            Penalty::Uniform => vec![(list.square / bias).sqrt(); list.importance.len()],
        };
        let mut strength: Vec<Vec<f64>> = self.lists.iter().map(of).collect();
        if let Goal::Weight(_) = self.params.goal {
            // Relative to the mean, so that the weight has the same meaning for every network.
            let all = || strength.iter().flatten();
            let mean = all().sum::<f64>() / all().count().max(1) as f64;
            let scale = if mean > 0.0 { 1.0 / (mean * self.params.rate.max(1e-9)) } else { 1.0 };
            strength.iter_mut().flatten().for_each(|value| *value *= scale);
        }
        strength
    }

    /// What a checkpoint must hold beside `alpha` of the gates.
    ///
    /// # Errors
    /// When candle fails.
    pub fn state(&self, gates: &[Gate]) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::new();
        let tensor = |values: &[f64]| Tensor::new(values, &Device::Cpu);
        state.insert("run".to_owned(), tensor(&[self.done as f64, self.weight])?);
        for (at, (list, gate)) in self.lists.iter().zip(gates).enumerate() {
            state.insert(format!("{at}/momentum"), tensor(&list.momentum)?);
            state.insert(format!("{at}/importance"), tensor(&list.importance)?);
            state.insert(format!("{at}/scale"), tensor(&[list.square, gate.eps()])?);
            state.insert(format!("{at}/gain"), gate.gain().to_device(&Device::Cpu)?);
        }
        Ok(state)
    }

    /// Goes on from what [`state`](Self::state) gave, with gates whose `alpha` is already restored.
    ///
    /// # Errors
    /// `E0404` when the state is not that of these gates.
    pub fn load_state(
        &mut self,
        state: &BTreeMap<String, Tensor>,
        gates: &mut [Gate],
    ) -> Result<()> {
        let find = |name: String, count: usize, kind: DType| {
            state.get(&name).filter(|t| t.dims() == [count] && t.dtype() == kind).ok_or_else(|| {
                Error::invalid(format!("the checkpoint lacks `{name}` of the gates"))
                    .code_is("E0404")
                    .hint("remove the run folder and begin again")
            })
        };
        let numbers = |name: String, count: usize| {
            Ok::<_, Error>(find(name, count, DType::F64)?.to_vec1::<f64>()?)
        };
        let run = numbers("run".to_owned(), 2)?;
        (self.done, self.weight) = (run[0] as u64, run[1]);
        for (at, (list, gate)) in self.lists.iter_mut().zip(gates).enumerate() {
            let count = gate.channels();
            list.momentum = numbers(format!("{at}/momentum"), count)?;
            list.importance = numbers(format!("{at}/importance"), count)?;
            let scale = numbers(format!("{at}/scale"), 2)?;
            list.square = scale[0];
            let gain = find(format!("{at}/gain"), count, DType::F32)?;
            let gain = gain.to_device(gate.alpha().device())?;
            gate.restore(&gain, scale[1])?;
        }
        Ok(())
    }
}

/// The goal is less than what is left with as few channels as may be.
pub(crate) fn out_of_reach(goal: f64, least: f64, total: f64) -> Error {
    Error::new(
        ErrorKind::Infeasible,
        "E0442",
        format!(
            "a goal of {:.2}% cannot be met: with as few gates open as may be, {:.2}% are left \
             ({least:.0} of {total:.0})",
            100.0 * goal / total,
            100.0 * least / total
        ),
    )
    .hint(
        "raise the goal; smaller multiples of channels reach further down, and so do fewer exclusions \
         and fewer groups without gates, which `kerf gate --dry-run` lists",
    )
}

impl State {
    /// The task's part of a step.
    fn descend(
        &mut self,
        alphas: &mut [f32],
        gradient: &[f32],
        eps: f64,
        (rate, momentum): (f64, f64),
    ) -> Result<()> {
        if gradient.len() != alphas.len() || !gradient.iter().all(|g| g.is_finite()) {
            return Err(Error::invalid("the gradient of the gates is not finite")
                .code_is("E0401")
                .hint("use a smaller `lr`, a longer `warmup` or `clip_norm = 1`"));
        }
        let (mut sum, mut open) = (0.0, 0.0);
        for ((&alpha, &g), importance) in alphas.iter().zip(gradient).zip(&mut self.importance) {
            let (alpha, g) = (f64::from(alpha), f64::from(g));
            // gate * dL/dgate, by the chain rule through alpha.
            let effect = g * alpha * (alpha * alpha + eps) / (2.0 * eps);
            *importance = DECAY * *importance + (1.0 - DECAY) * effect * effect;
            if alpha != 0.0 {
                sum += g * g;
                open += 1.0;
            }
        }
        self.square = DECAY * self.square + (1.0 - DECAY) * sum / f64::max(open, 1.0);
        let scale = self.square.sqrt().max(f64::MIN_POSITIVE);
        for ((alpha, &g), velocity) in alphas.iter_mut().zip(gradient).zip(&mut self.momentum) {
            if *alpha != 0.0 {
                *velocity = momentum * *velocity + (1.0 - momentum) * f64::from(g);
                let moved = f64::from(*alpha) - rate * *velocity / scale;
                // Only the proximal step closes gates.
                *alpha = if (moved as f32).abs() < LEAST_OPEN { LEAST_OPEN } else { moved as f32 };
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::Side;

    fn gradient(values: &[f32]) -> Option<Tensor> {
        Some(Tensor::new(values, &Device::Cpu).unwrap())
    }

    fn open_after(penalty: Penalty, gradients: &[f32]) -> Vec<u32> {
        let resource = Resource::new(&[4]).layer(1, &[Side::Gated(0)]).unwrap();
        let goal = Goal::Keep(0.5);
        let params = GateParams { goal, penalty, rate: 0.0, begin: 0.0, ..GateParams::default() };
        let mut gates = [Gate::new(4, 0.1, &Device::Cpu).unwrap()];
        let mut optimizer = GateOptimizer::new(params, resource, &[false]).unwrap();
        for step in 0..20 {
            optimizer.step((step, 20), &mut gates, &[gradient(gradients)]).unwrap();
        }
        gates[0].open().unwrap()
    }

    /// Gates that stand alike close by what the loss says of them, not by their place; uniformly all are
    /// alike, and the first ones close.
    #[test]
    fn what_matters_stays_open() {
        assert_eq!(open_after(Penalty::Adaptive(2.0), &[0.9, -0.1, 0.2, -1.0]), [0, 3]);
        assert_eq!(open_after(Penalty::Adaptive(2.0), &[0.1, 0.9, -1.0, 0.2]), [1, 2]);
        assert_eq!(open_after(Penalty::Uniform, &[0.9, -0.1, 0.2, -1.0]), [2, 3]);
    }

    /// At a fixed price both penalties are in the same units: gates of equal importance shrink by the
    /// rate times the price each step, until `eps` falls.
    #[test]
    fn a_price_is_in_steps_of_the_rate() {
        for penalty in [Penalty::Adaptive(2.0), Penalty::Uniform] {
            let resource = Resource::new(&[4]).layer(1, &[Side::Gated(0)]).unwrap();
            let goal = Goal::Weight(2.0);
            let params = GateParams { goal, penalty, momentum: 0.0, ..GateParams::default() };
            let rate = params.rate;
            let mut gates = [Gate::new(4, 0.1, &Device::Cpu).unwrap()];
            let mut optimizer = GateOptimizer::new(params, resource, &[false]).unwrap();
            let mut step = |at: u64, gates: &mut [Gate]| {
                // The loss moves nothing: importance is that of a gradient which alternates.
                let sign = if at.is_multiple_of(2) { 1.0 } else { -1.0 };
                optimizer.step((at, 1000), gates, &[gradient(&[sign; 4])]).unwrap();
                gates[0].alphas().unwrap()
            };
            let before = gates[0].alphas().unwrap()[1];
            step(0, &mut gates);
            let after = step(1, &mut gates)[1];
            // A_u is a quarter of the resource; the two moves by the loss cancel but for their average.
            let price = 2.0 * 0.25 * rate * 2.0;
            let moved = f64::from(before - after);
            let of_loss = rate * (1.0 / 0.01_f64.sqrt() - 1.0 / 0.0199_f64.sqrt());
            assert!(
                (moved - price - of_loss).abs() < 0.15 * price,
                "{penalty:?}: {moved} {price} {of_loss}"
            );
            let settled: Vec<f32> = (900..910).map(|at| step(at, &mut gates)[0]).collect();
            assert!(settled.windows(2).all(|pair| pair[0] == pair[1]), "{settled:?}");
        }
    }
}
