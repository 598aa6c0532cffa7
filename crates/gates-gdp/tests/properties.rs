//! What holds for any gates.
#![allow(clippy::unwrap_used, reason = "tests")]

use candle_core::{DType, Device, Tensor};
use gates_gdp::{
    EpsSchedule, Gate, GateOptimizer, GateParams, Goal, Penalty, Prox, Resource, Rounding, Side,
    absorb, keep,
};
use proptest::prelude::*;

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

fn vector(values: &[f32]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

#[test]
fn open_gates_change_no_bit() {
    for eps in [1e-6, 1e-4, 0.1, 0.3, 7.0] {
        let gate = Gate::new(6, eps, &Device::Cpu).unwrap();
        assert_eq!(bits(&gate.values().unwrap()), [1.0_f32.to_bits(); 6]);
        let weight = Tensor::randn(0_f32, 3.0, (4, 6, 3, 3), &Device::Cpu).unwrap();
        assert_eq!(bits(&gate.apply(&weight, 1).unwrap()), bits(&weight));
    }
}

#[test]
fn wrong_shapes_and_parameters_are_refused() {
    let gate = Gate::new(6, 0.1, &Device::Cpu).unwrap();
    let weight = Tensor::zeros((4, 5), DType::F32, &Device::Cpu).unwrap();
    for error in [
        gate.apply(&weight, 1).unwrap_err(),
        gate.apply(&weight, 7).unwrap_err(),
        absorb(&gate, &weight, 1).unwrap_err(),
        keep(&gate, &weight, 3).unwrap_err(),
        Gate::new(0, 0.1, &Device::Cpu).unwrap_err(),
        Gate::new(3, 0.0, &Device::Cpu).unwrap_err(),
        Gate::new(3, f64::NAN, &Device::Cpu).unwrap_err(),
        gates_gdp::gate(&weight, -1.0).unwrap_err(),
    ] {
        assert_eq!(error.code(), "E0440");
    }
    type Change = fn(&mut GateParams);
    let wrong: [Change; 13] = [
        |p| p.goal = Goal::Keep(0.0),
        |p| p.goal = Goal::Keep(1.1),
        |p| p.goal = Goal::AtMost(f64::NAN),
        |p| p.goal = Goal::Weight(-1.0),
        |p| p.penalty = Penalty::Adaptive(5.0),
        |p| p.rate = f64::INFINITY,
        |p| p.momentum = 1.0,
        |p| p.begin = 0.6,
        |p| p.end = 1.1,
        |p| p.curve = 0.5,
        |p| p.eps = EpsSchedule::constant(0.0),
        |p| p.rounding = Rounding::To(0),
        |p| p.eps.until = 0.1,
    ];
    for change in wrong {
        let mut params = GateParams::default();
        change(&mut params);
        assert_eq!(params.check().unwrap_err().code(), "E0440", "{params:?}");
    }
    let resource = || Resource::new(&[8]).layer(1, &[Side::Gated(0)]).unwrap();
    let goal = |goal| GateParams { goal, ..GateParams::default() };
    let refused = GateOptimizer::new(goal(Goal::AtMost(0.5)), resource(), &[false]).unwrap_err();
    assert_eq!(refused.code(), "E0442");
    assert!(GateOptimizer::new(goal(Goal::AtMost(0.5)), resource(), &[true]).is_ok());
    let mut optimizer = GateOptimizer::new(goal(Goal::Keep(0.5)), resource(), &[false]).unwrap();
    let mut gates = [Gate::new(8, 0.1, &Device::Cpu).unwrap()];
    let infinite = vector(&[f32::INFINITY; 8]);
    assert_eq!(optimizer.step((0, 9), &mut gates, &[Some(infinite)]).unwrap_err().code(), "E0401");
    assert_eq!(optimizer.step((0, 9), &mut [], &[]).unwrap_err().code(), "E0440");
}

#[test]
fn closed_gates_lose_their_momentum() {
    let resource = Resource::new(&[4]).layer(1, &[Side::Gated(0)]).unwrap();
    let params = GateParams { begin: 0.0, end: 0.0, ..GateParams::default() };
    let mut optimizer = GateOptimizer::new(params, resource, &[false]).unwrap();
    let mut gates = [Gate::new(4, 0.1, &Device::Cpu).unwrap()];
    let gradient = vector(&[1.0, -2.0, 3.0, -4.0]);
    optimizer.step((0, 2), &mut gates, &[Some(gradient)]).unwrap();
    assert_eq!(gates[0].open().unwrap().len(), 2);
    let momentum: Vec<f64> = optimizer.state(&gates).unwrap()["0/momentum"].to_vec1().unwrap();
    for (alpha, momentum) in gates[0].alphas().unwrap().into_iter().zip(momentum) {
        assert_eq!(alpha == 0.0, momentum == 0.0);
    }
}

proptest! {
    /// When eps changes, open gates stay what they are, and closed ones 0.
    #[test]
    fn eps_changes_without_a_jump(
        alphas in prop::collection::vec(-1.5_f32..1.5, 1..20),
        first in -6.0_f64..0.0,
        last in -6.0_f64..0.0,
    ) {
        let (first, last) = (10_f64.powf(first), 10_f64.powf(last));
        let mut gate = Gate::new(alphas.len(), first, &Device::Cpu).unwrap();
        let mut alphas = alphas;
        alphas[0] = 0.0;
        gate.alpha().set(&vector(&alphas)).unwrap();
        let before: Vec<f32> = gate.values().unwrap().to_vec1().unwrap();
        gate.set_eps(last).unwrap();
        let after: Vec<f32> = gate.values().unwrap().to_vec1().unwrap();
        prop_assert_eq!(after[0].to_bits(), 0);
        for (before, after) in before.iter().zip(&after) {
            prop_assert!((before - after).abs() <= 4e-6 * before.abs(), "{} {}", before, after);
        }
    }

    /// Absorbed, the layer gives what it gave behind its gates.
    #[test]
    fn absorbing_changes_nothing(alphas in prop::collection::vec(-1.0_f32..1.0, 2..12)) {
        let count = alphas.len();
        let gate = Gate::new(count, 0.1, &Device::Cpu).unwrap();
        let mut alphas = alphas;
        alphas[0] = 0.7;
        alphas[1] = 0.0;
        gate.alpha().set(&vector(&alphas)).unwrap();
        let weight = Tensor::randn(0_f32, 1.0, (3, count), &Device::Cpu).unwrap();
        let x = Tensor::randn(0_f32, 1.0, (5, count), &Device::Cpu).unwrap();
        let gated = gate.apply(&x, 1).unwrap().matmul(&weight.t().unwrap()).unwrap();
        let small = absorb(&gate, &weight, 1).unwrap();
        prop_assert_eq!(small.dims()[1], gate.open().unwrap().len());
        let cut = keep(&gate, &x, 1).unwrap().matmul(&small.t().unwrap()).unwrap();
        let difference: f32 = (gated - cut).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap();
        prop_assert!(difference < 2e-5, "{}", difference);
    }

    /// Whatever the gradients: closed gates stay closed, the resource never rises, and the run ends
    /// at the goal within 1 % or a channel's worth.
    #[test]
    fn runs_end_at_the_goal(
        seed in 0_u64..1000,
        keep in 0.15_f64..0.95,
        prox in prop::sample::select(vec![Prox::Soft, Prox::Hard]),
        penalty in prop::sample::select(
            vec![Penalty::Adaptive(2.0), Penalty::Adaptive(1.0), Penalty::Uniform]
        ),
        rounding in prop::sample::select(vec![Rounding::To(1), Rounding::UpTo(16)]),
    ) {
        use rand_chacha::rand_core::{RngCore, SeedableRng};
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let widths = [16, 32, 24];
        let resource = Resource::new(&widths)
            .layer(900, &[Side::Fixed(3), Side::Gated(0)])
            .and_then(|r| r.layer(90, &[Side::Gated(0), Side::Gated(1)]))
            .and_then(|r| r.layer(90, &[Side::Gated(1)]))
            .and_then(|r| r.layer(10, &[Side::Gated(1), Side::Gated(2)]))
            .and_then(|r| r.layer(1, &[Side::Gated(2), Side::Fixed(10)]))
            .unwrap();
        let params = GateParams { goal: Goal::Keep(keep), prox, penalty, rounding, ..GateParams::default() };
        let Ok(mut optimizer) = GateOptimizer::new(params, resource, &[false; 3]) else {
            return Ok(());
        };
        let mut gates = widths.map(|n| Gate::new(n, 0.1, &Device::Cpu).unwrap());
        let open = |gates: &[Gate]| -> Vec<usize> {
            gates.iter().map(|gate| gate.open().unwrap().len()).collect()
        };
        let mut before = widths.to_vec();
        for step in 0..40 {
            let closed: Vec<Vec<u32>> = gates.iter().map(|g| g.open().unwrap()).collect();
            let gradients: Vec<_> = gates
                .iter()
                .map(|gate| {
                    let mut value = || random.next_u32() as f32 / u32::MAX as f32 - 0.5;
                    // The task's gradient of a closed gate is 0.
                    let alphas = gate.alphas().unwrap();
                    let all: Vec<f32> =
                        alphas.iter().map(|a| if *a == 0.0 { 0.0 } else { value() }).collect();
                    Some(vector(&all))
                })
                .collect();
            optimizer.step((step, 40), &mut gates, &gradients).unwrap();
            for (gate, before) in gates.iter().zip(&closed) {
                prop_assert!(gate.open().unwrap().iter().all(|channel| before.contains(channel)));
            }
            let now = open(&gates);
            prop_assert!(now.iter().zip(&before).all(|(now, before)| now <= before));
            before = now;
        }
        let resource = optimizer.resource();
        let goal = optimizer.goal().unwrap();
        let found = resource.at(&before);
        let one = (0..3).any(|list| {
            let mut more = before.clone();
            more[list] += 1;
            resource.at(&more) > goal
        });
        prop_assert!(found <= goal && (found >= 0.99 * goal || one), "{} {}", found, goal);
        prop_assert_eq!(optimizer.weight(), 0.0);
    }
}
