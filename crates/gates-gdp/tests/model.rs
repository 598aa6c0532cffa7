//! Gates in graphs: placement, the resource term against the cost of the cut model, and the cut
//! against the mask.
#![allow(clippy::unwrap_used, reason = "tests")]

use gates_gdp::model::{Cut, Placement, Selection, close, cut_zeros};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tensor_core::channels::{Channels, analyze};
use tensor_core::cost::{self, Price, cost, hardware};
use tensor_core::graph::{Constant, Graph, Node};
use tensor_core::run::{Array, Facts, Session, infer};
use tensor_core::train::prepare;
use tensor_core::{onnx, zoo};

struct Model {
    graph: Graph,
    facts: Facts,
    channels: Channels,
    placement: Placement,
}

impl Model {
    fn new(graph: &Graph) -> Self {
        Self::with(graph, Selection::default())
    }

    fn with(graph: &Graph, selection: Selection) -> Self {
        let graph = prepare(graph);
        let facts = infer(&graph, &BTreeMap::new()).unwrap();
        let channels = analyze(&graph, &facts).unwrap();
        let placement = Placement::new(&graph, &facts, &channels, selection).unwrap();
        Self { graph, facts, channels, placement }
    }

    fn fixture(name: &str) -> Self {
        let path = format!("../../fixtures/models/{name}_fmnist.onnx");
        let path =
            path.replace("_bn_fmnist", "_fmnist_bn").replace("_folded_fmnist", "_fmnist_folded");
        Self::new(&onnx::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap())
    }

    fn zoo(name: &str, size: usize, width: f64) -> Self {
        let channels = if name == "lenet" { 1 } else { 3 };
        let input = Some([channels, size, size]);
        let options = zoo::Options { input, width, ..zoo::Options::default() };
        Self::new(&zoo::architecture(name).unwrap().build(&options).unwrap())
    }

    /// With the weights behind closed gates zero; gives the numbers of open gates.
    fn gated(&self, is_open: &mut dyn FnMut(usize, usize) -> bool) -> (Graph, Vec<usize>) {
        let open: Vec<Vec<bool>> = self
            .placement
            .lists
            .iter()
            .enumerate()
            .map(|(at, list)| (0..list.channels).map(|place| is_open(at, place)).collect())
            .collect();
        let closed: Vec<Vec<bool>> =
            open.iter().map(|list| list.iter().map(|open| !open).collect()).collect();
        let graph = close(&self.graph, &self.placement, &closed).unwrap();
        let counts = open.iter().map(|list| list.iter().filter(|open| **open).count());
        (graph, counts.collect())
    }

    fn counted(&self, what: cost::Resource, open: &[usize]) -> f64 {
        let Self { graph, facts, channels, placement } = self;
        placement.resource(graph, facts, channels, &what.into()).unwrap().at(open)
    }
}

fn total(graph: &Graph, what: cost::Resource) -> u64 {
    cost(graph, &infer(graph, &BTreeMap::new()).unwrap()).unwrap().of(what)
}

/// Largest difference of the outputs on random inputs, relative to the largest output.
fn difference(a: &Graph, b: &Graph, random: &mut ChaCha8Rng) -> f64 {
    let input = a.inputs[0];
    let dims = infer(a, &BTreeMap::new()).unwrap().dims(input).unwrap().to_vec();
    let values: Vec<f32> =
        (0..dims.iter().product()).map(|_| random.next_u32() as f32 / u32::MAX as f32).collect();
    let array = Array::from_constant(&Constant::from_f32s(&dims, &values).unwrap()).unwrap();
    let run = |graph: &Graph| {
        let session = Session::new(graph).unwrap();
        session.run(&[(graph.inputs[0], array.clone())]).unwrap()[0].to_f32s().unwrap()
    };
    let (a, b) = (run(a), run(b));
    let most = a.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let worst = a.iter().zip(&b).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
    f64::from(worst / most)
}

fn cut(graph: &Graph) -> Cut {
    cut_zeros(graph, &BTreeMap::new()).unwrap()
}

/// Closes gates at random; the term counts what the cut model costs, and the cut changes nothing.
fn check(model: &Model, seed: u64, share: f64, runs: bool) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = || f64::from(random.next_u32()) / f64::from(u32::MAX);
    let (gated, open) = model.gated(&mut |_, place| place == 0 || draw() < share);
    let Cut { graph, channels, .. } = cut(&gated);
    let closed: usize =
        model.placement.lists.iter().zip(&open).map(|(list, open)| list.channels - open).sum();
    assert_eq!(channels, closed);
    for what in [cost::Resource::Macs, cost::Resource::Parameters] {
        assert_eq!(total(&graph, what) as f64, model.counted(what, &open), "{what:?}");
    }
    if runs {
        let found = difference(&gated, &graph, &mut random);
        assert!(found < 1e-5, "{found}");
    }
}

#[test]
fn the_term_counts_what_the_cut_fixtures_cost() {
    for name in ["resnet20_bn", "resnet20_folded", "vgg7_bn", "vgg7_folded"] {
        let model = Model::fixture(name);
        for (seed, share) in [(0, 0.9), (1, 0.5), (2, 0.1)] {
            check(&model, seed, share, true);
        }
    }
}

#[test]
fn every_architecture_can_be_gated() {
    for (name, size, width, runs) in [
        ("lenet", 28, 0.5, true),
        ("vgg16-bn", 32, 0.125, true),
        ("resnet50", 64, 0.125, true),
        ("mobilenet-v1", 64, 0.25, true),
        ("mobilenet-v2", 64, 0.35, true),
        ("mobilenet-v1", 224, 1.0, false),
        ("mobilenet-v2", 224, 1.0, false),
        ("xception", 96, 0.25, true),
        ("inception-v3", 96, 0.25, true),
    ] {
        let model = Model::zoo(name, size, width);
        assert!(model.placement.lists.len() >= 3, "{name}");
        check(&model, 3, 0.6, runs);
    }
}

/// One vector per coupled set: a residual stage has one for its stream, and one for each branch.
#[test]
fn streams_share_their_gates() {
    let model = Model::fixture("resnet20_bn");
    let lists = &model.placement.lists;
    let found: Vec<(usize, usize, bool)> =
        lists.iter().map(|list| (list.channels, list.readers.len(), list.may_close)).collect();
    let branch = |channels: usize| (channels, 1, true);
    let expected = [
        (16, 5, false),
        branch(16),
        branch(16),
        branch(16),
        branch(32),
        (32, 4, false),
        branch(32),
        branch(32),
        branch(64),
        (64, 3, false),
        branch(64),
        branch(64),
    ];
    assert_eq!(found, expected);
    // Depthwise layers have no gates: no site is a weight with one input per group.
    let model = Model::zoo("mobilenet-v1", 64, 0.25);
    for site in &model.placement.sites {
        assert!(site.gates.len() > 1, "{}", site.parameter);
    }
}

/// A branch without channels leaves its constant, also where the convolution pads.
#[test]
fn whole_branches_go_exactly() {
    for (name, branches) in [("resnet20_bn", 9), ("resnet20_folded", 9)] {
        let model = Model::fixture(name);
        let may_close = model.placement.may_close();
        assert_eq!(may_close.iter().filter(|may| **may).count(), branches);
        let mut random = ChaCha8Rng::seed_from_u64(5);
        // All of them, then one among others.
        for keep in [usize::MAX, 4] {
            let (gated, open) = model
                .gated(&mut |list, _| !(may_close[list] && (keep == usize::MAX || list == keep)));
            let small = cut(&gated);
            let count = if keep == usize::MAX { branches } else { 1 };
            assert_eq!(small.branches.len(), count, "{:?}", small.branches);
            for resource in [cost::Resource::Macs, cost::Resource::Parameters] {
                let found = total(&small.graph, resource) as f64;
                assert_eq!(found, model.counted(resource, &open), "{name} {resource:?}");
            }
            let found = difference(&gated, &small.graph, &mut random);
            assert!(found < 1e-5, "{found}");
            let convolutions = small.graph.nodes.iter().filter(|node| node.op == "Conv").count();
            assert_eq!(convolutions, 21 - 2 * count);
        }
    }
}

/// What only a closed branch needs goes with it, also layers that read none of its gated channels: the
/// term counts that, and what it counts as the least is what the least model has.
#[test]
fn long_branches_take_along_what_led_to_them() {
    for (name, branches) in [("mobilenet-v2", 10), ("resnet50", 16)] {
        let model = Model::zoo(name, 64, 0.25);
        let may_close = model.placement.may_close();
        assert_eq!(may_close.iter().filter(|may| **may).count(), branches, "{name}");
        let all: Vec<usize> = (0..may_close.len()).filter(|&list| may_close[list]).collect();
        for closed in [&all[..], &all[..1], &all[2..5]] {
            let is_open = &mut |list: usize, place: usize| match closed.contains(&list) {
                true => false,
                false => place == 0 || !place.is_multiple_of(3),
            };
            let (gated, open) = model.gated(is_open);
            let small = cut(&gated);
            assert_eq!(small.branches.len(), closed.len(), "{name}");
            let found = total(&small.graph, cost::Resource::Macs) as f64;
            assert_eq!(found, model.counted(cost::Resource::Macs, &open), "{name}");
            // Untrained normalizations leave no constant, whose place is counted: up to 3,776 channels of
            // the sums in resnet50 at this width.
            let found = total(&small.graph, cost::Resource::Parameters) as f64;
            let counted = model.counted(cost::Resource::Parameters, &open);
            assert!((found..=found + 3776.0).contains(&counted), "{name} {found} {counted}");
            let found = difference(&gated, &small.graph, &mut ChaCha8Rng::seed_from_u64(6));
            assert!(found < 1e-5, "{found}");
        }
    }
}

/// One gate closes a branch, of any length, also beside a projection; the term counts what is left.
#[test]
fn a_gate_closes_a_whole_branch() {
    let resnet50 = Model::zoo("resnet50", 64, 0.125).graph;
    let mobilenet = Model::zoo("mobilenet-v2", 64, 0.35).graph;
    let models = [
        (Model::fixture("resnet20_bn").graph, 9),
        (Model::fixture("resnet20_folded").graph, 9),
        (resnet50, 16),
        (mobilenet, 10),
    ];
    for (graph, branches) in models {
        let model = Model::with(&graph, Selection { branches: true, ..Selection::default() });
        let is_branch = |list: usize| model.placement.lists[list].classes.is_empty();
        let count = (0..model.placement.lists.len()).filter(|&list| is_branch(list)).count();
        assert_eq!(count, branches);
        for seed in 0..4 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut draw = || f64::from(random.next_u32()) / f64::from(u32::MAX);
            // Every second branch closes, some channels of all lists do.
            let (gated, open) = model.gated(&mut |list, place| match is_branch(list) {
                true => draw() < 0.5,
                false => place == 0 || draw() < 0.7,
            });
            let closed = (0..open.len()).filter(|&list| is_branch(list) && open[list] == 0).count();
            let small = cut(&gated);
            assert_eq!(small.branches.len(), closed);
            let macs = total(&small.graph, cost::Resource::Macs);
            assert_eq!(macs as f64, model.counted(cost::Resource::Macs, &open));
            let found = difference(&gated, &small.graph, &mut random);
            assert!(found < 1e-5, "{found}");
        }
    }
    let exclude = ["no-such-layer".to_owned()];
    let selection = Selection { frozen: &exclude, branches: true, ..Selection::default() };
    let all = Model::with(&Model::fixture("resnet20_bn").graph, selection).placement;
    let name = [all.lists.last().unwrap().name.clone()];
    let selection = Selection { frozen: &name, branches: true, ..Selection::default() };
    let fewer = Model::with(&Model::fixture("resnet20_bn").graph, selection).placement;
    let count = |placement: &Placement| {
        placement.lists.iter().filter(|list| list.classes.is_empty()).count()
    };
    assert_eq!((count(&all), count(&fewer)), (9, 8));
}

/// Of a device's time, the term follows what the device says of the cut model.
#[test]
fn the_term_follows_a_device() {
    let device = hardware::find("roofline:peak=1e10,bandwidth=1e9").unwrap();
    let price = Price::Latency(Arc::from(device));
    for name in ["resnet20_bn", "vgg7_folded"] {
        let graph = Model::fixture(name).graph;
        let model = Model::with(&graph, Selection { branches: true, ..Selection::default() });
        let Model { graph, facts, channels, placement } = &model;
        let resource = placement.resource(graph, facts, channels, &price).unwrap();
        let all = price.of(graph, facts).unwrap();
        assert!((resource.at(resource.full()) / all - 1.0).abs() < 1e-9);
        for (seed, share) in [(0, 0.8), (1, 0.5), (2, 0.2)] {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut draw = || f64::from(random.next_u32()) / f64::from(u32::MAX);
            let (gated, open) = model.gated(&mut |_, place| place == 0 || draw() < share);
            let small = cut(&gated).graph;
            let found = price.of(&small, &infer(&small, &BTreeMap::new()).unwrap()).unwrap();
            let term = resource.at(&open);
            assert!((term / found - 1.0).abs() < 0.01, "{name} {share}: {term} {found}");
        }
        // A stage without branches takes what its stream takes.
        let is_branch = |list: usize| placement.lists[list].classes.is_empty();
        let (gated, open) = model.gated(&mut |list, _| !is_branch(list));
        let small = cut(&gated).graph;
        let found = price.of(&small, &infer(&small, &BTreeMap::new()).unwrap()).unwrap();
        assert!((resource.at(&open) / found - 1.0).abs() < 1e-9, "{name}");
        assert!((0..open.len()).all(|list| resource.relaxation(resource.full(), list) > 0.0));
    }
}

/// Outside of branches one channel of a list stays, though nothing comes through its readers.
#[test]
fn an_axis_keeps_a_channel() {
    let model = Model::fixture("vgg7_bn");
    let (gated, _) = model.gated(&mut |list, _| list != 2);
    let small = cut(&gated);
    assert_eq!(small.channels, model.placement.lists[2].channels - 1);
    let found = difference(&gated, &small.graph, &mut ChaCha8Rng::seed_from_u64(7));
    assert!(found < 1e-5, "{found}");
}

/// A channel that something other than a gated layer reads has no gate, and says why.
#[test]
fn other_readers_are_respected() {
    let mut graph = Model::fixture("vgg7_folded").graph;
    let before = Model::new(&graph).placement.lists.len();
    // The first activation becomes an output, too: its channels must stay.
    let first = graph.nodes.iter().find(|node| node.op == "Relu").unwrap().output(0).unwrap();
    let seen = graph.value("seen");
    graph.nodes.push(Node::new("see", "Identity", &[first], &[seen]));
    graph.outputs.push(seen);
    let model = Model::new(&graph);
    assert_eq!(model.placement.lists.len(), before - 1);
    let reasons: Vec<&str> = model.placement.ungated.iter().map(|u| u.reason.as_str()).collect();
    assert!(reasons.iter().any(|reason| reason.contains("graph output `seen`")), "{reasons:?}");
    check(&model, 8, 0.5, false);
    // A weight that two layers share cannot be scaled for one of them.
    let mut graph = Model::fixture("vgg7_folded").graph;
    let (second, third) = (graph.nodes[2].clone(), graph.nodes[2].input(1).unwrap());
    let copy = graph.value("copy");
    graph.nodes.push(Node::new("twice", "Shape", &[third], &[copy]));
    graph.validate().unwrap();
    let model = Model::new(&graph);
    assert!(
        model.placement.ungated.iter().any(|u| u.reason.contains("has other readers too")),
        "{:?} {}",
        model.placement.ungated,
        second.op
    );
}

#[test]
fn groups_are_left_out_by_name() {
    let model = Model::fixture("vgg7_bn");
    let of = |exclude: &[String], frozen: &[String]| {
        let selection = Selection { exclude, frozen, ..Selection::default() };
        Placement::new(&model.graph, &model.facts, &model.channels, selection)
    };
    let name = model.placement.lists[1].id.clone();
    let fewer = of(std::slice::from_ref(&name), &[]).unwrap();
    assert_eq!(fewer.lists.len(), model.placement.lists.len() - 1);
    assert!(fewer.ungated.iter().any(|u| u.reason == format!("`{name}` is excluded")));
    let wrong = of(&["no-such-layer".to_owned()], &[]).unwrap_err();
    assert_eq!(wrong.code(), "E0407");
    assert!(of(&[], &["no-such-layer".to_owned()]).is_ok());
    assert_eq!(of(&["*".to_owned()], &[]).unwrap_err().code(), "E0441");
}
