//! Parameters of the agent.

use serde::Serialize;
use tensor_core::{Error, Result};

/// How allocations keep to the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Constraint {
    /// When all bits are chosen, layers lose some until the budget holds (HAQ).
    #[default]
    Trim,
    /// No layer gets more bits than leave the others their fewest, so that what is learned from is what
    /// was chosen (He et al., "AMC", 2018, section 3.3).
    Bound,
}

impl std::str::FromStr for Constraint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "trim" => Ok(Self::Trim),
            "bound" => Ok(Self::Bound),
            _ => Err(Error::invalid(format!("there is no constraint `{text}`"))
                .code_is("E0557")
                .hint("trim or bound")),
        }
    }
}

/// What an episode is rewarded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reward {
    /// Accuracy beside that of the float model (HAQ); needs labels.
    #[default]
    Accuracy,
    /// `exp(-divergence) - 1` of the outputs from the float model's; needs none.
    Divergence,
}

impl std::fmt::Display for Reward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Accuracy => "accuracy",
            Self::Divergence => "divergence",
        })
    }
}

impl std::str::FromStr for Reward {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "accuracy" => Ok(Self::Accuracy),
            "divergence" => Ok(Self::Divergence),
            _ => Err(Error::invalid(format!("there is no reward `{text}`"))
                .code_is("E0557")
                .hint("accuracy or divergence")),
        }
    }
}

/// Parameters of a search.
///
/// | name | default | purpose | range |
/// | --- | --- | --- | --- |
/// | `episodes` | 600 | allocations that are tried | at least 1 |
/// | `warmup` | 20 | episodes of uniform random actions before learning | any |
/// | `sigma`, `decay` | 0.5, 0.99 | noise around actions, and what it falls by per episode | `[0, 10]`, `(0, 1]` |
/// | `gamma` | 1 | discount | `[0, 1]` |
/// | `tau` | 0.01 | share by which target networks follow | `(0, 1]` |
/// | `actor_rate`, `critic_rate` | 1e-4, 1e-3 | of Adam | above 0 |
/// | `batch` | 64 | transitions of an update | at least 1 |
/// | `memory` | 128 | transitions kept, per layer | at least 1 |
/// | `baseline` | 0.5 | share of the old value in the moving average of rewards | `[0, 1)` |
/// | `reward` | accuracy | what an episode is rewarded for | |
/// | `scale` | 0.1 | reward of a point in percent | above 0 |
/// | `hidden` | 400, 300 | units | at least 1 |
/// | `constraint` | trim | how allocations keep to the budget | |
/// | `seed` | 0 | | any |
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DdpgParams {
    /// Allocations that are tried.
    pub episodes: usize,
    /// Episodes of uniform random actions before learning.
    pub warmup: usize,
    /// Standard deviation of the noise around actions.
    pub sigma: f64,
    /// What it is multiplied by after each episode.
    pub decay: f64,
    /// Discount.
    pub gamma: f64,
    /// Share by which target networks follow.
    pub tau: f64,
    /// Learning rate of the actor.
    pub actor_rate: f64,
    /// Learning rate of the critic.
    pub critic_rate: f64,
    /// Transitions of an update.
    pub batch: usize,
    /// Transitions kept, per layer.
    pub memory: usize,
    /// Share of the old value in the moving average of rewards.
    pub baseline: f64,
    /// What an episode is rewarded for.
    pub reward: Reward,
    /// Reward of a point in percent.
    pub scale: f64,
    /// Units of the two hidden layers.
    pub hidden: [usize; 2],
    /// How allocations keep to the budget.
    pub constraint: Constraint,
    /// Seed.
    pub seed: u64,
}

impl Default for DdpgParams {
    fn default() -> Self {
        Self {
            episodes: 600,
            warmup: 20,
            sigma: 0.5,
            decay: 0.99,
            gamma: 1.0,
            tau: 0.01,
            actor_rate: 1e-4,
            critic_rate: 1e-3,
            batch: 64,
            memory: 128,
            baseline: 0.5,
            reward: Reward::Accuracy,
            scale: 0.1,
            hidden: [400, 300],
            constraint: Constraint::Trim,
            seed: 0,
        }
    }
}

impl DdpgParams {
    /// Checks all ranges.
    ///
    /// # Errors
    /// `E0557` names the parameter.
    pub fn check(&self) -> Result<()> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let checks = [
            ("episodes", (1..=1_000_000).contains(&self.episodes)),
            ("sigma", (0.0..=10.0).contains(&self.sigma)),
            ("decay", self.decay > 0.0 && self.decay <= 1.0),
            ("gamma", (0.0..=1.0).contains(&self.gamma)),
            ("tau", self.tau > 0.0 && self.tau <= 1.0),
            ("actor_rate", positive(self.actor_rate)),
            ("critic_rate", positive(self.critic_rate)),
            ("batch", (1..=65_536).contains(&self.batch)),
            ("memory", (1..=65_536).contains(&self.memory)),
            ("baseline", (0.0..1.0).contains(&self.baseline)),
            ("scale", positive(self.scale)),
            ("hidden", self.hidden.iter().all(|units| (1..=65_536).contains(units))),
        ];
        match checks.iter().find(|(_, holds)| !holds) {
            Some((name, _)) => {
                let message = format!("`{name}` of the search is outside its range");
                Err(Error::invalid(message).code_is("E0557"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn rewards_are_read_by_the_names_that_they_have() {
        for reward in [Reward::Accuracy, Reward::Divergence] {
            assert_eq!(reward.to_string().parse::<Reward>().unwrap(), reward);
            assert_eq!(serde_json::to_value(reward).unwrap(), reward.to_string());
        }
        assert!("latency".parse::<Reward>().is_err());
    }
}
