//! Properties of allocations, on random problems.

#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use quant_mixed::search::ddpg::{self, DdpgParams, Reward};
use quant_mixed::search::{
    Bits, Budget, Judgement, Limit, Problem, Resource, Rest, Score, Sensitivities, SpaceParams,
    exact, greedy, trim, uniform,
};
use std::cell::Cell;
use tensor_core::NodeId;
use tensor_core::cost::hardware::{self, Hardware, Layer, LayerCost, LayerKind, LayerShape};
use tensor_core::progress::Silent;

/// A device whose costs are a table of random numbers, which grow with the bits.
struct Random(Vec<Vec<f64>>);

impl Hardware for Random {
    fn name(&self) -> String {
        "random".to_owned()
    }

    fn batch(&self) -> usize {
        1
    }

    fn cost(&self, layer: &LayerShape, w: u32, a: u32) -> tensor_core::Result<LayerCost> {
        let steps = &self.0[layer.cin - 1];
        // Floats cost what 8 bits do.
        let [w, a] = [w, a].map(|bits| bits.min(8) as usize);
        let cost = steps[..w].iter().sum::<f64>() * steps[8..8 + a].iter().sum::<f64>();
        Ok(LayerCost { latency_us: Some(cost), ..LayerCost::default() })
    }
}

/// Layers that are told apart by their input channels.
fn layers(count: usize) -> Vec<Layer> {
    let layer = |at: usize| Layer {
        node: NodeId::from_index(at),
        name: format!("layer{at}"),
        shape: LayerShape {
            op: if at % 3 == 1 { LayerKind::Depthwise } else { LayerKind::Conv },
            kernel: [3, 3],
            stride: [1, 1],
            groups: 1,
            cin: at + 1,
            cout: 4,
            h: 8,
            w: 8,
            out_h: 8,
            out_w: 8,
        },
    };
    (0..count).map(layer).collect()
}

/// Losses that fall with the bits.
fn sensitivities(steps: &[Vec<f64>]) -> Sensitivities {
    Sensitivities::of(steps.len(), |layer, bits| {
        let lost = |from: usize| steps[layer][from + bits as usize..from + 8].iter().sum();
        (lost(0), lost(8))
    })
}

fn steps(layers: usize) -> impl Strategy<Value = Vec<Vec<f64>>> {
    proptest::collection::vec(proptest::collection::vec(0.0..1.0_f64, 16), layers)
}

fn problem(costs: Vec<Vec<f64>>, share: f64, params: &SpaceParams) -> tensor_core::Result<Problem> {
    let budget = Budget { resource: Resource::Latency, limit: Limit::Keep(share) };
    let layers = layers(costs.len());
    // One more layer, which stays float.
    let rest = Rest { floats: &layers[..1], ..Rest::default() };
    Problem::new(&layers, rest, &Random(costs), budget, params)
}

/// The least loss of all allocations within the budget.
fn brute_force(problem: &Problem, sensitivities: &Sensitivities) -> f64 {
    let mut picks = vec![0; problem.len()];
    let mut least = f64::INFINITY;
    loop {
        let bits: Vec<Bits> =
            picks.iter().enumerate().map(|(layer, &at)| problem.choices(layer)[at].bits).collect();
        if problem.is_within(problem.cost(&bits)) {
            least = least.min(sensitivities.total(&bits));
        }
        let next = (0..picks.len()).find(|&at| picks[at] + 1 < problem.choices(at).len());
        let Some(at) = next else { return least };
        picks[..at].fill(0);
        picks[at] += 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn exact_is_the_best_of_all(costs in steps(4), losses in steps(4), share in 0.1..1.0_f64) {
        let params = SpaceParams { min_bits: 5, pin_ends: false, ..SpaceParams::default() };
        let Ok(problem) = problem(costs, share, &params) else { return Ok(()) };
        let sensitivities = sensitivities(&losses);
        let found = exact::solve(&problem, &sensitivities);
        prop_assert!(found.is_optimal);
        prop_assert!(problem.is_within(problem.cost(&found.bits)));
        let least = brute_force(&problem, &sensitivities);
        let own = sensitivities.total(&found.bits);
        prop_assert!((own - least).abs() <= 1e-9 * (1.0 + least), "{own} against {least}");
    }

    #[test]
    fn budgets_and_pins_hold(costs in steps(9), losses in steps(9), share in 0.05..1.0_f64) {
        let pins = vec![("layer4".to_owned(), 7)];
        let params = SpaceParams { pins, ..SpaceParams::default() };
        let Ok(problem) = problem(costs, share, &params) else { return Ok(()) };
        let sensitivities = sensitivities(&losses);
        let mut trimmed = vec![Bits::both(8); 9];
        trim::trim(&problem, &mut trimmed);
        let exact = exact::solve(&problem, &sensitivities);
        let greedy = greedy::solve(&problem, &sensitivities);
        let least = sensitivities.total(&exact.bits);
        let mut all = vec![trimmed, greedy, exact.bits];
        all.extend(uniform::solve(&problem));
        for bits in all {
            prop_assert!(problem.is_within(problem.cost(&bits)));
            prop_assert_eq!((bits[0], bits[4], bits[8]), (Bits::both(8), Bits::both(7), Bits::both(8)));
            prop_assert!(sensitivities.total(&bits) >= least - 1e-9);
        }
    }
}

/// An agent on a problem whose best allocation is known: it stays within the budget, learns, and a search
/// that was interrupted ends as one that was not.
#[test]
fn the_agent_learns_within_the_budget_and_goes_on_where_it_was() {
    let layers = layers(6);
    let device = hardware::find("roofline").unwrap();
    let budget = Budget { resource: Resource::Latency, limit: Limit::Keep(0.6) };
    let problem =
        Problem::new(&layers, Rest::default(), &*device, budget, &SpaceParams::default()).unwrap();
    // Each bit that weights lack costs four times what one of activations does.
    let runs = Cell::new(0);
    let judge = |bits: &[Bits]| {
        assert!(problem.is_within(problem.cost(bits)));
        assert_eq!((bits[0], bits[5]), (Bits::both(8), Bits::both(8)));
        runs.set(runs.get() + 1);
        let lost = |bits: &Bits| u64::from(4 * (8 - bits.weights) + (8 - bits.activations));
        let right = 1000 - bits.iter().map(lost).sum::<u64>();
        Ok(Judgement {
            score: Some(Score { right, of: 1000 }),
            divergence: (right as f64 / -1000.0).exp(),
        })
    };
    let float = Judgement { score: Some(Score { right: 1000, of: 1000 }), divergence: 0.0 };
    let params = DdpgParams { episodes: 90, hidden: [40, 30], ..DdpgParams::default() };
    let search = |params: &DdpgParams, known: &[Judgement]| {
        let mut score = |bits: &[Bits]| judge(bits);
        ddpg::search(&problem, params, float, known, &mut score, &mut |_| Ok(()), &Silent).unwrap()
    };
    let whole = search(&params, &[]);
    assert_eq!(whole.episodes.len(), 90);
    let mean = |range: std::ops::Range<usize>| {
        let count = range.len() as f64;
        whole.episodes[range].iter().map(|episode| episode.reward).sum::<f64>() / count
    };
    // The first 20 are drawn at random.
    assert!(mean(70..90) > mean(0..20), "{} {}", mean(70..90), mean(0..20));
    runs.set(0);
    let part = search(&DdpgParams { episodes: 33, ..params.clone() }, &[]);
    assert_eq!(part.episodes, whole.episodes[..33]);
    let known: Vec<Judgement> = part.episodes.iter().map(|episode| episode.judgement).collect();
    assert_eq!(search(&params, &known), whole);
    // Episodes that are known are not run again.
    assert_eq!(runs.get(), 90);
    let other = search(&DdpgParams { seed: 1, ..params.clone() }, &[]);
    assert_ne!(other.episodes, whole.episodes);
    // The same bits for all come first, so nothing worse is found.
    assert_eq!(whole.episodes[0].bits, uniform::solve(&problem).unwrap());
    // The outputs are nearest to the float model's where most is right.
    let divergent = DdpgParams { reward: Reward::Divergence, ..params.clone() };
    let best = search(&divergent, &[]);
    let least = best.episodes.iter().map(|episode| episode.judgement.divergence);
    assert_eq!(best.judgement.divergence, least.fold(f64::INFINITY, f64::min));
    assert!(best.episodes.iter().all(|e| (-10.0..=0.0).contains(&e.reward)));
    // What is not finite loses all, and a journal holds it.
    let lost = Judgement { score: None, divergence: f64::MAX };
    let read: Judgement = serde_json::from_str(&serde_json::to_string(&lost).unwrap()).unwrap();
    assert_eq!(read, lost);
    // Without labels there is no accuracy.
    let blind = Judgement { score: None, divergence: 0.5 };
    runs.set(0);
    let mut judge = |_: &[Bits]| {
        runs.set(runs.get() + 1);
        Ok(blind)
    };
    let mut search = |params: &DdpgParams| {
        ddpg::search(&problem, params, blind, &[], &mut judge, &mut |_| Ok(()), &Silent)
    };
    assert_eq!(search(&params).unwrap_err().code(), "E0207");
    assert_eq!(runs.get(), 0);
    assert!(search(&DdpgParams { episodes: 2, ..divergent }).is_ok());
}

#[test]
fn states_are_between_0_and_1() {
    let layers = layers(6);
    let device = hardware::find("size").unwrap();
    let budget = Budget { resource: Resource::Size, limit: Limit::Keep(1.0) };
    let problem =
        Problem::new(&layers, Rest::default(), &*device, budget, &SpaceParams::default()).unwrap();
    let states = ddpg::states(&problem);
    assert!(states.iter().flatten().all(|x| (0.0..=1.0).contains(x)));
    // Place, channels and the mark of depthwise layers differ.
    assert_eq!((states[0][0], states[5][0]), (0.0, 1.0));
    assert_eq!((states[0][7], states[1][7]), (0.0, 1.0));
}

#[test]
fn a_budget_that_cannot_be_met_names_what_is_attainable() {
    let layers = layers(4);
    let device = hardware::find("size").unwrap();
    let budget = Budget { resource: Resource::Size, limit: Limit::Keep(0.1) };
    let error = Problem::new(&layers, Rest::default(), &*device, budget, &SpaceParams::default())
        .unwrap_err();
    assert_eq!((error.code(), error.kind()), ("E0552", tensor_core::ErrorKind::Infeasible));
    // 36 weights per input channel, of which there are 1 to 4: 180 bytes for the ends at 8 bits, 180 for the
    // others at 8 and 45 at 2.
    assert!(error.message().contains("36 B (10.0%)"), "{error}");
    assert!(error.message().contains("attainable is 225 B (62.5%) to 360 B (100.0%)"), "{error}");
    let none = Budget { resource: Resource::Energy, limit: Limit::Keep(0.9) };
    let error = Problem::new(&layers, Rest::default(), &*device, none, &SpaceParams::default())
        .unwrap_err();
    assert_eq!(error.code(), "E0559");
    let pins = vec![("other*".to_owned(), 8)];
    let params = SpaceParams { pins, ..SpaceParams::default() };
    let error = Problem::new(&layers, Rest::default(), &*device, budget, &params).unwrap_err();
    assert_eq!(error.code(), "E0551");
}
