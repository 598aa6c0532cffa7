//! The plug-in in the training loop.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used, reason = "tests")]

use gates_gdp::model::cut_zeros;
use gates_gdp::train::{Gater, Method, Rival, TrainParams};
use gates_gdp::{GateParams, Goal, Prox, Rounding};
use std::any::Any;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use tensor_core::cost::{Resource, cost};
use tensor_core::data::{self, Dataset, InputSpec, Options, Preprocess};
use tensor_core::group::Group;
use tensor_core::journal::Identity;
use tensor_core::progress::{Progress, Silent};
use tensor_core::run::infer;
use tensor_core::train::{Job, Length, Params, Plugin, Trained, train};
use tensor_core::{ErrorKind, Graph, Result, zoo};

fn network(name: &str) -> Graph {
    let input = Some([1, 28, 28]);
    let options = zoo::Options { input, width: 0.5, ..zoo::Options::default() };
    zoo::architecture(name).unwrap().build(&options).unwrap()
}

fn images(graph: &Graph) -> Dataset {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let preprocess = Preprocess::read(&root.join("preprocess/fmnist.json")).unwrap();
    let options = Options { preprocess, inputs: InputSpec::of(graph), ..Options::default() };
    data::open(&root.join("data/train-1k-images-idx3-ubyte.gz"), &options).unwrap()
}

struct Done {
    trained: Trained,
    plugins: Vec<Box<dyn Plugin>>,
}

impl Done {
    fn gater(&self) -> &Gater {
        (&*self.plugins[0] as &dyn Any).downcast_ref::<Gater>().unwrap()
    }
}

fn run(
    graph: &Graph,
    (params, steps, rate): (GateParams, u64, f64),
    (folder, progress): (Option<&Path>, &dyn Progress),
) -> Result<Done> {
    let params = TrainParams { gates: params, ..TrainParams::default() };
    let mut plugins: Vec<Box<dyn Plugin>> = vec![Box::new(Gater::new(params).unwrap())];
    let (length, restore_norms) = (Length::Steps(steps), true);
    let params = Params { length, batch: 50, rate, restore_norms, ..Params::default() };
    let trained = train(Job {
        graph,
        data: &images(graph).first(400),
        evaluation: None,
        params: &params,
        plugins: &mut plugins,
        folder,
        identity: Identity::new(),
        progress,
        group: Group::alone(),
    })?;
    Ok(Done { trained, plugins })
}

fn keep(share: f64) -> GateParams {
    GateParams { goal: Goal::Keep(share), ..GateParams::default() }
}

/// Stops at a step.
struct StopAt(AtomicUsize);

impl Progress for StopAt {
    fn advance(&self, _: usize, _: &str) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }

    fn cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }
}

#[test]
fn runs_end_at_the_goal_and_cut_to_what_the_term_counts() {
    for (name, share, prox, rounding) in [
        ("lenet", 0.5, Prox::Soft, Rounding::To(1)),
        ("resnet20", 0.3, Prox::Soft, Rounding::To(1)),
        ("resnet20", 0.6, Prox::Hard, Rounding::UpTo(16)),
    ] {
        let graph = network(name);
        let params = GateParams { prox, rounding, ..keep(share) };
        let done = run(&graph, (params, 16, 0.02), (None, &Silent)).unwrap();
        let [found, full] = done.gater().resource().unwrap().unwrap();
        let small = cut_zeros(&done.trained.graph, &BTreeMap::new()).unwrap().graph;
        let macs = |graph: &Graph| {
            cost(graph, &infer(graph, &BTreeMap::new()).unwrap()).unwrap().of(Resource::Macs) as f64
        };
        assert_eq!((macs(&graph), macs(&small)), (full, found), "{name}");
        assert!(found <= share * full && found > 0.9 * share * full, "{name} {}", found / full);
        let history = done.gater().history();
        assert_eq!(history.steps.last(), Some(&16));
        assert!(history.resource.is_sorted_by(|a, b| a >= b));
        for list in done.gater().lists().unwrap() {
            let closed = list.values.iter().filter(|value| **value == 0.0).count();
            assert_eq!(closed, list.list.channels - list.open);
            // Polarized: nothing between closed and open.
            assert!(list.values.iter().all(|value| *value == 0.0 || *value > 0.5), "{list:?}");
        }
    }
}

/// While all gates are open, training is what it is without them, bit by bit.
#[test]
fn open_gates_leave_training_alone() {
    let graph = network("lenet");
    let params = GateParams { rate: 0.0, ..keep(1.0) };
    let gated = run(&graph, (params, 6, 0.02), (None, &Silent)).unwrap();
    let mut plugins: Vec<Box<dyn Plugin>> = Vec::new();
    let length = Length::Steps(6);
    let params = Params { length, batch: 50, rate: 0.02, restore_norms: true, ..Params::default() };
    let plain = train(Job {
        graph: &graph,
        data: &images(&graph).first(400),
        evaluation: None,
        params: &params,
        plugins: &mut plugins,
        folder: None,
        identity: Identity::new(),
        progress: &Silent,
        group: Group::alone(),
    })
    .unwrap();
    // Until eps changes at half of the run the losses are the same; after that they round
    // differently.
    assert!(
        (gated.trained.report.points[0].train_loss - plain.report.points[0].train_loss).abs()
            < 1e-6
    );
}

#[test]
fn an_interrupted_run_gives_the_same_bytes() {
    for prox in [Prox::Soft, Prox::Hard] {
        let graph = network("lenet");
        let params = GateParams { prox, ..keep(0.4) };
        let whole = run(&graph, (params.clone(), 16, 0.02), (None, &Silent)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        // Eight batches of statistics, then seven steps.
        let stop = StopAt(AtomicUsize::new(8 + 7));
        let at = Some(folder.path());
        let Err(error) = run(&graph, (params.clone(), 16, 0.02), (at, &stop)) else {
            panic!("the run was not stopped");
        };
        assert_eq!(error.kind(), ErrorKind::Interrupted);
        let resumed = run(&graph, (params, 16, 0.02), (at, &Silent)).unwrap();
        assert_eq!(resumed.trained.report.resumed_from, Some(7));
        assert_eq!(whole.gater().history(), resumed.gater().history());
        for &value in whole.trained.graph.initializers() {
            let bytes =
                |done: &Done| done.trained.graph.initializer(value).unwrap().bytes().to_vec();
            assert!(bytes(&whole) == bytes(&resumed), "{}", whole.trained.graph.name(value));
        }
        let journal = std::fs::read_to_string(folder.path().join("journal.jsonl")).unwrap();
        let last: serde_json::Value =
            serde_json::from_str(journal.lines().last().unwrap()).unwrap();
        let lists = last["gates"]["lists"].as_array().unwrap();
        assert_eq!(lists.len(), whole.gater().lists().unwrap().len());
        assert!(last["gates"]["resource"].as_f64().unwrap() <= 0.4);
    }
}

#[test]
fn an_unreachable_goal_is_refused_before_training() {
    let graph = network("lenet");
    for (params, code) in [
        (keep(0.001), "E0442"),
        (GateParams { rounding: Rounding::To(1000), ..keep(0.5) }, "E0442"),
    ] {
        let Err(error) = run(&graph, (params, 4, 0.02), (None, &Silent)) else {
            panic!("an impossible goal");
        };
        assert_eq!(error.code(), code);
    }
}

/// What gates are measured against meets the budget too, but not without loss.
#[test]
fn rivals_are_cut_to_the_budget() {
    let graph = network("resnet20");
    for method in [Method::Sigmoid, Method::Slimming, Method::Polarization] {
        let params = TrainParams { gates: keep(0.5), ..TrainParams::default() };
        let rival = Rival::new(method, method.default_strength(), 0.02, params).unwrap();
        let mut plugins: Vec<Box<dyn Plugin>> = vec![Box::new(rival)];
        let params =
            Params { length: Length::Steps(8), batch: 50, rate: 0.02, ..Params::default() };
        let trained = train(Job {
            graph: &graph,
            data: &images(&graph).first(400),
            evaluation: None,
            params: &params,
            plugins: &mut plugins,
            folder: None,
            identity: Identity::new(),
            progress: &Silent,
            group: Group::alone(),
        });
        let trained = trained.unwrap().graph;
        let rival = (&*plugins[0] as &dyn Any).downcast_ref::<Rival>().unwrap();
        let small = cut_zeros(&rival.close(&trained).unwrap(), &BTreeMap::new()).unwrap().graph;
        let macs = cost(&small, &infer(&small, &BTreeMap::new()).unwrap()).unwrap().macs as f64;
        let [found, full] = rival.resource().unwrap();
        assert_eq!(macs, found, "{method:?}");
        assert!(found <= 0.5 * full && found > 0.45 * full, "{method:?} {}", found / full);
        assert_eq!(rival.history().steps.last(), Some(&8));
    }
}
