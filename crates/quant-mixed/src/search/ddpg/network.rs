//! The network of actor and critic: state and action pass through layers of their own, which are added.

use super::STATE;
use super::noise::uniform;
use candle_core::{Device, Result, Tensor, Var};
use candle_nn::{Linear, Module};
use rand_chacha::ChaCha8Rng;

/// Range of the initial weights of the last layer, so that first actions are near 1/2 and first values
/// near 0 (Lillicrap et al. 2016).
const LAST: f64 = 0.003;

/// `out(relu(hidden(relu(state(s) + action(a)))))`.
pub(super) struct Network {
    state: Linear,
    action: Linear,
    hidden: Linear,
    out: Linear,
    vars: Vec<Var>,
}

impl Network {
    /// Uniform initial weights within `1 / sqrt(inputs)`.
    pub(super) fn new([wide, narrow]: [usize; 2], rng: &mut ChaCha8Rng) -> Result<Self> {
        let mut vars = Vec::new();
        let mut layer = |inputs: usize, outputs: usize, range: Option<f64>| -> Result<Linear> {
            let range = range.unwrap_or(1.0 / (inputs as f64).sqrt());
            let mut draw = |dims: &[usize]| -> Result<Var> {
                let count = dims.iter().product();
                let values = std::iter::repeat_with(|| (range * (2.0 * uniform(rng) - 1.0)) as f32);
                let values: Vec<f32> = values.take(count).collect();
                Var::from_tensor(&Tensor::from_vec(values, dims, &Device::Cpu)?)
            };
            let (weight, bias) = (draw(&[outputs, inputs])?, draw(&[outputs])?);
            let layer = Linear::new(weight.as_tensor().clone(), Some(bias.as_tensor().clone()));
            vars.extend([weight, bias]);
            Ok(layer)
        };
        let state = layer(STATE, wide, None)?;
        let action = layer(1, wide, None)?;
        let hidden = layer(wide, narrow, None)?;
        let out = layer(narrow, 1, Some(LAST))?;
        Ok(Self { state, action, hidden, out, vars })
    }

    /// N x 1 for states of N x [`STATE`] and actions of N x 1.
    pub(super) fn forward(&self, states: &Tensor, actions: &Tensor) -> Result<Tensor> {
        let sum = (self.state.forward(states)? + self.action.forward(actions)?)?;
        self.out.forward(&self.hidden.forward(&sum.relu()?)?.relu()?)
    }

    pub(super) fn vars(&self) -> Vec<Var> {
        self.vars.clone()
    }

    /// Moves towards another network by a share of the way.
    pub(super) fn follow(&self, other: &Self, share: f64) -> Result<()> {
        for (own, other) in self.vars.iter().zip(&other.vars) {
            own.set(&((own.as_tensor() * (1.0 - share))? + (other.as_tensor() * share)?)?)?;
        }
        Ok(())
    }
}
