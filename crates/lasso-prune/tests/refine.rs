//! Gradient steps towards the original's responses.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used, reason = "tests")]

use lasso_prune::{
    Budget, Limit, PruneParams, Pruned, RefineParams, Refined, Streams, check_refine, prune, refine,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tensor_core::cost::Resource;
use tensor_core::data::{self, Dataset, InputSpec, Options, Preprocess};
use tensor_core::progress::Silent;
use tensor_core::run::Array;
use tensor_core::{Constant, Graph, Result, onnx};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn images(graph: &Graph, count: usize) -> Dataset {
    let preprocess = Preprocess::read(&fixture("preprocess/fmnist.json")).unwrap();
    let options = Options { preprocess, inputs: InputSpec::of(graph), ..Options::default() };
    let path = fixture("data/train-1k-images-idx3-ubyte.gz");
    data::open(&path, &options).unwrap().first(count)
}

fn pruned(graph: &Graph, set: &Dataset, streams: Streams) -> Pruned {
    let batches = set.batches(50).map(|batch| {
        let batch = batch.unwrap();
        batch.inputs.into_iter().map(|(_, tensor)| Array::float(tensor)).collect()
    });
    let budget = Budget { price: Resource::Macs.into(), limit: Limit::Keep(0.2) };
    let params = PruneParams { budget, streams, ..PruneParams::default() }.check().unwrap();
    prune(graph, &BTreeMap::new(), batches.collect::<Vec<Vec<Array>>>(), &params, &Silent).unwrap()
}

/// On all samples but the first 20, which judge.
fn refined(
    graph: &Graph,
    pruned: &Pruned,
    set: &Dataset,
    params: &RefineParams,
) -> Result<Refined> {
    let sets = (&set.without_first(20), &set.first(20));
    refine(graph, pruned, &BTreeMap::new(), sets, params, &Silent)
}

/// Makes all weights smaller, which no refit of one layer did.
fn weaken(graph: &mut Graph) {
    for value in graph.initializers().to_vec() {
        let constant = graph.initializer(value).unwrap();
        if constant.dims().len() > 1 {
            let values: Vec<f32> = constant.to_f32s().unwrap().iter().map(|w| 0.95 * w).collect();
            let weaker = Constant::from_f32s(constant.dims(), &values).unwrap();
            graph.set_initializer(value, weaker);
        }
    }
}

/// With normalizations that pruning folds, and with streams that lose channels, so that less of a value
/// is compared.
#[test]
fn scores_come_closer_on_samples_that_were_left_out() {
    for (name, streams) in
        [("vgg7_fmnist_bn", Streams::Auto), ("resnet20_fmnist_bn", Streams::Prune)]
    {
        let graph = onnx::read(&fixture(&format!("models/{name}.onnx"))).unwrap();
        let set = images(&graph, 200);
        let mut pruned = pruned(&graph, &set.without_first(20), streams);
        weaken(&mut pruned.graph);
        let params = RefineParams { steps: 15, batch: 50, ..RefineParams::default() };
        let refined = refined(&graph, &pruned, &set, &params).unwrap();
        let report = &refined.report;
        // Every layer but the first reads what both networks have.
        let layers = pruned.report.layers.len();
        assert!(report.values + 3 >= layers.min(18), "{name}: {} of {layers}", report.values);
        assert!(report.is_kept && report.after < 0.8 * report.before, "{name}: {report:?}");
        assert_eq!(refined.graph.nodes.len(), pruned.graph.nodes.len());
        let again = self::refined(&graph, &pruned, &set, &params).unwrap();
        let bytes = |graph: &Graph| onnx::encode(graph).unwrap();
        assert!(bytes(&again.graph) == bytes(&refined.graph), "{name}: other bytes");
    }
}

/// Two steps that are far too long make the error larger: the model stays as it was.
#[test]
fn what_gets_worse_is_given_up() {
    let graph = onnx::read(&fixture("models/vgg7_fmnist_folded.onnx")).unwrap();
    let set = images(&graph, 100);
    let pruned = pruned(&graph, &set, Streams::Auto);
    let params = RefineParams { steps: 2, batch: 10, rate: 0.05, ..RefineParams::default() };
    let refined = refined(&graph, &pruned, &set, &params).unwrap();
    let report = &refined.report;
    assert!(!report.is_kept && report.after > report.before, "{report:?}");
    let bytes = |graph: &Graph| onnx::encode(graph).unwrap();
    assert!(bytes(&refined.graph) == bytes(&pruned.graph));
}

#[test]
fn parameters_have_ranges() {
    let graph = onnx::read(&fixture("models/vgg7_fmnist_folded.onnx")).unwrap();
    let set = images(&graph, 40);
    let pruned = pruned(&graph, &set, Streams::Auto);
    let wrong = [
        RefineParams { steps: 0, ..RefineParams::default() },
        RefineParams { batch: 0, ..RefineParams::default() },
        RefineParams { memory: 0, ..RefineParams::default() },
        RefineParams { rate: f64::NAN, ..RefineParams::default() },
        RefineParams { rate: 0.0, ..RefineParams::default() },
    ];
    for params in wrong {
        let found = refined(&graph, &pruned, &set, &params);
        assert_eq!(found.unwrap_err().code(), "E0147", "{params:?}");
    }
}

/// Values of a step, with gradients, are held in bounded memory: here those of a few samples.
#[test]
fn large_values_mean_small_steps() {
    let graph = onnx::read(&fixture("models/vgg7_fmnist_folded.onnx")).unwrap();
    let set = images(&graph, 40);
    let pruned = pruned(&graph, &set, Streams::Auto);
    let params = RefineParams { steps: 1, memory: 4 << 20, ..RefineParams::default() };
    let batch = refined(&graph, &pruned, &set, &params).unwrap().report.batch;
    assert!((1..8).contains(&batch), "{batch}");
}

/// What cannot be trained is known before pruning: here scores for each place of a map.
#[test]
fn models_without_a_table_of_scores_are_refused() {
    let mut graph = onnx::read(&fixture("models/vgg7_fmnist_folded.onnx")).unwrap();
    let set = images(&graph, 40);
    let check = |graph: &Graph| {
        check_refine(graph, &BTreeMap::new(), &set, &RefineParams::default()).map_err(|e| e.code())
    };
    assert_eq!(check(&graph), Ok(()));
    let map = graph.nodes.iter().find(|node| node.op == "Relu").unwrap().output(0).unwrap();
    graph.outputs = vec![map];
    assert_eq!(check(&graph), Err("E0405"));
}

/// All outputs count: of two, one of which pruning leaves as it is, the mean is half of the other's.
#[test]
fn every_output_is_compared() {
    let mut graph = onnx::read(&fixture("models/vgg7_fmnist_folded.onnx")).unwrap();
    let map = graph.nodes.iter().find(|node| node.op == "Relu").unwrap().output(0).unwrap();
    graph.outputs.push(map);
    let set = images(&graph, 60);
    let mut pruned = pruned(&graph, &set, Streams::Auto);
    let params = RefineParams { steps: 1, batch: 10, ..RefineParams::default() };
    let both = refined(&graph, &pruned, &set, &params).unwrap().report.before;
    graph.outputs.truncate(1);
    pruned.graph.outputs.truncate(1);
    let first = refined(&graph, &pruned, &set, &params).unwrap().report.before;
    assert!((2.0 * both / first - 1.0).abs() < 1e-6, "{both} of both, {first} of the first");
}
