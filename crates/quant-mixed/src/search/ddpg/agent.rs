//! Actor, critic, and what they learn.

use super::network::Network;
use super::noise::{truncated_normal, uniform};
use super::replay::{Memory, Transition};
use super::{DdpgParams, STATE};
use candle_core::{Device, Tensor};
use candle_nn::ops::sigmoid;
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use rand_chacha::ChaCha8Rng;
use tensor_core::{Result, random};

/// Actions from states, and values of both.
pub(super) struct Agent {
    params: DdpgParams,
    actor: Network,
    critic: Network,
    actor_target: Network,
    critic_target: Network,
    actor_optimizer: AdamW,
    critic_optimizer: AdamW,
    memory: Memory,
    baseline: Option<f64>,
    noise: ChaCha8Rng,
    replay: ChaCha8Rng,
}

/// Adam without decay of weights.
fn adam(network: &Network, rate: f64) -> Result<AdamW> {
    let params = ParamsAdamW { lr: rate, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };
    Ok(AdamW::new(network.vars(), params)?)
}

/// Rows of states as a tensor.
fn rows(states: &[[f32; STATE]]) -> Result<Tensor> {
    let values = states.as_flattened().to_vec();
    Ok(Tensor::from_vec(values, (states.len(), STATE), &Device::Cpu)?)
}

fn column(values: &[f32]) -> Result<Tensor> {
    Ok(Tensor::from_slice(values, (values.len(), 1), &Device::Cpu)?)
}

/// The action that a policy takes: it sees the previous one, the last number of the state, twice, as a
/// part of the state and through a layer of its own.
fn act(actor: &Network, states: &Tensor) -> Result<Tensor> {
    let previous = states.narrow(1, STATE - 1, 1)?.contiguous()?;
    Ok(sigmoid(&actor.forward(states, &previous)?)?)
}

impl Agent {
    pub(super) fn new(params: &DdpgParams, layers: usize) -> Result<Self> {
        // Targets begin as copies: the same stream gives the same weights.
        let network =
            |name: &str| Network::new(params.hidden, &mut random::stream(params.seed, name));
        let (actor, critic) = (network("actor")?, network("critic")?);
        Ok(Self {
            actor_optimizer: adam(&actor, params.actor_rate)?,
            critic_optimizer: adam(&critic, params.critic_rate)?,
            actor_target: network("actor")?,
            critic_target: network("critic")?,
            actor,
            critic,
            memory: Memory::new(params.memory * layers),
            baseline: None,
            noise: random::stream(params.seed, "actions"),
            replay: random::stream(params.seed, "replay"),
            params: params.clone(),
        })
    }

    /// The action in a state, with the noise of the episode; uniform while warming up.
    pub(super) fn act(&mut self, state: &[f32; STATE], episode: usize) -> Result<f64> {
        let DdpgParams { warmup, sigma, decay, .. } = self.params;
        let Some(learned) = episode.checked_sub(warmup) else {
            return Ok(uniform(&mut self.noise));
        };
        let mean = act(&self.actor, &rows(&[*state])?)?.flatten_all()?.to_vec1::<f32>()?;
        let mean = mean.first().copied().map_or(0.5, f64::from);
        let sigma = sigma * decay.powf(learned as f64);
        Ok(truncated_normal(&mut self.noise, mean, sigma))
    }

    /// Keeps the steps of an episode, and learns once for each when not warming up.
    pub(super) fn learn(&mut self, steps: &[Transition], episode: usize) -> Result<()> {
        for &step in steps {
            self.memory.push(step);
            if episode >= self.params.warmup {
                self.update()?;
            }
        }
        Ok(())
    }

    /// One update of both networks: the critic towards `R - B + gamma Q'(next, mu'(next))`, the
    /// actor up the critic, the targets towards both.
    fn update(&mut self) -> Result<()> {
        let drawn = self.memory.draw(self.params.batch, &mut self.replay);
        let count = drawn.len().max(1) as f64;
        let mean = drawn.iter().map(|step| step.reward).sum::<f64>() / count;
        let share = self.params.baseline;
        let baseline = self.baseline.map_or(mean, |old| share * old + (1.0 - share) * mean);
        self.baseline = Some(baseline);
        let states = rows(&drawn.iter().map(|step| step.state).collect::<Vec<_>>())?;
        let next = rows(&drawn.iter().map(|step| step.next).collect::<Vec<_>>())?;
        let actions = column(&drawn.iter().map(|step| step.action).collect::<Vec<_>>())?;
        let ahead = self.critic_target.forward(&next, &act(&self.actor_target, &next)?)?;
        let ahead = ahead.flatten_all()?.to_vec1::<f32>()?;
        let targets: Vec<f32> = drawn
            .iter()
            .zip(ahead)
            .map(|(step, ahead)| {
                let ahead = if step.is_last { 0.0 } else { f64::from(ahead) };
                (step.reward - baseline + self.params.gamma * ahead) as f32
            })
            .collect();
        let values = self.critic.forward(&states, &actions)?;
        let loss = (values - column(&targets)?)?.sqr()?.mean_all()?;
        self.critic_optimizer.backward_step(&loss)?;
        let policy = self.critic.forward(&states, &act(&self.actor, &states)?)?;
        self.actor_optimizer.backward_step(&policy.mean_all()?.neg()?)?;
        self.actor_target.follow(&self.actor, self.params.tau)?;
        self.critic_target.follow(&self.critic, self.params.tau)?;
        Ok(())
    }
}
