//! Sessions that leave out zero weights give what dense ones give.
#![allow(clippy::unwrap_used, reason = "tests")]

use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tensor_core::Node;
use tensor_core::graph::{Attribute, Constant, Graph};
use tensor_core::kernels::SparseForm;
use tensor_core::run::{Array, Session};
use tensor_core::zoo::{self, Options};

fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
}

/// Zeroes a share of the weights of every matrix and convolution, in blocks of outputs.
fn thin(graph: &mut Graph, sparsity: f64, block: usize) {
    for value in graph.initializers().to_vec() {
        let constant = graph.initializer(value).unwrap();
        let dims = constant.dims().to_vec();
        if dims.len() < 2 {
            continue;
        }
        let mut weights = constant.to_f32s().unwrap();
        let depth: usize = dims[1..].iter().product();
        let drawn = values(weights.len(), 5);
        for (i, weight) in weights.iter_mut().enumerate() {
            if f64::from(drawn[i / depth / block * depth + i % depth]) < 2.0 * sparsity - 1.0 {
                *weight = 0.0;
            }
        }
        graph.set_initializer(value, Constant::from_f32s(&dims, &weights).unwrap());
    }
}

/// The largest difference of dense and sparse outputs, as a share of the largest output.
fn difference(graph: &Graph, x: &Tensor) -> (f32, usize) {
    let dense = Session::new(graph).unwrap().run_one(x.clone()).unwrap();
    let session = Session::new(graph).unwrap().sparse().unwrap();
    let sparse = session.run_one(x.clone()).unwrap();
    let [dense, sparse] = [&dense, &sparse].map(|outputs| outputs[0].to_f32s().unwrap());
    assert_eq!(dense.len(), sparse.len());
    let largest = dense.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    assert!(largest > 0.0, "nothing to compare");
    let pairs = dense.iter().zip(&sparse);
    let most = pairs.fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
    (most / largest, session.sparse_layers().len())
}

fn network(name: &str, input: [usize; 3], width: f64) -> Graph {
    let options = Options { input: Some(input), width, ..Options::default() };
    zoo::architecture(name).unwrap().build(&options).unwrap()
}

#[test]
fn networks_give_the_same() {
    for (name, input, width, layers) in [
        ("mobilenet-v1", [3, 64, 64], 0.5, 14),
        ("mobilenet-v2", [3, 64, 64], 1.0, 35),
        ("resnet20", [1, 28, 28], 1.0, 3),
        ("mlp", [1, 28, 28], 1.0, 3),
    ] {
        for (sparsity, block) in [(0.9, 1), (0.8, 4)] {
            let mut graph = network(name, input, width);
            thin(&mut graph, sparsity, block);
            for batch in [1, 3] {
                let dims = [batch, input[0], input[1], input[2]];
                let x = Tensor::from_vec(values(dims.iter().product(), 1), &dims, &Device::Cpu);
                let (difference, found) = difference(&graph, &x.unwrap());
                // Sums of the same products in another order, through some thirty layers.
                assert!(difference < 1e-4, "{name} {sparsity}: {difference}");
                assert!(found >= layers, "{name} {sparsity}: {found} layers");
            }
        }
    }
}

#[test]
fn dense_networks_have_no_sparse_layers() {
    let graph = network("mobilenet-v1", [3, 32, 32], 0.25);
    let session = Session::new(&graph).unwrap().sparse().unwrap();
    assert_eq!(session.sparse_layers(), []);
}

#[test]
fn blocks_are_kept_as_blocks() {
    let mut graph = network("mobilenet-v1", [3, 32, 32], 0.5);
    thin(&mut graph, 0.75, 4);
    let session = Session::new(&graph).unwrap().sparse().unwrap();
    let of = |form| session.sparse_layers().iter().filter(|layer| layer.form == form).count();
    assert!(of(SparseForm::Quads) >= 13, "{:?}", session.sparse_layers());
}

/// A constant matrix on the right, with leading axes on the left; and one stored transposed, with
/// factors that keep the bias out of the product.
#[test]
fn matrix_products() {
    let weight = |rows: usize, columns: usize| {
        let mut weights = values(rows * columns, 2);
        weights.iter_mut().enumerate().filter(|(i, _)| i % 11 != 0).for_each(|(_, w)| *w = 0.0);
        Constant::from_f32s(&[rows, columns], &weights).unwrap()
    };
    let mut graph = Graph::default();
    graph.opsets.insert(String::new(), 17);
    let [x, w, z, y] = ["x", "w", "z", "y"].map(|name| graph.value(name));
    graph.inputs.push(x);
    graph.outputs.push(y);
    graph.set_initializer(w, weight(48, 37));
    graph.nodes.push(Node::new("product", "MatMul", &[x, w], &[z]));
    graph.nodes.push(Node::new("relu", "Relu", &[z], &[y]));
    for dims in [&[2, 3, 5, 48][..], &[4, 48], &[1, 48], &[130, 48]] {
        let x = Tensor::from_vec(values(dims.iter().product(), 3), dims, &Device::Cpu).unwrap();
        let (difference, layers) = difference(&graph, &x);
        assert!(difference < 1e-5 && layers == 1, "{dims:?}: {difference}, {layers}");
    }

    let mut graph = Graph::default();
    graph.opsets.insert(String::new(), 17);
    let [x, w, c, y] = ["x", "w", "c", "y"].map(|name| graph.value(name));
    graph.inputs.push(x);
    graph.outputs.push(y);
    graph.set_initializer(w, weight(37, 48));
    graph.set_initializer(c, Constant::from_f32s(&[37], &values(37, 4)).unwrap());
    let mut gemm = Node::new("gemm", "Gemm", &[x, w, c], &[y]);
    gemm.attributes.set("transB", Attribute::Int(1));
    graph.nodes.push(gemm);
    for rows in [1, 7, 100] {
        let x = Tensor::from_vec(values(rows * 48, 3), (rows, 48), &Device::Cpu).unwrap();
        let (difference, layers) = difference(&graph, &x);
        assert!(difference < 1e-5 && layers == 1, "{rows}: {difference}, {layers}");
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let mut graph = network("mobilenet-v1", [3, 64, 64], 0.5);
    thin(&mut graph, 0.9, 1);
    let session = Session::new(&graph).unwrap().sparse().unwrap();
    let x = Tensor::from_vec(values(2 * 3 * 64 * 64, 6), (2, 3, 64, 64), &Device::Cpu).unwrap();
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let run = || session.run(&[(graph.inputs[0], Array::float(x.clone()))]).unwrap();
        let output = pool.install(run)[0].to_f32s().unwrap();
        output.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    assert!(with(1) == with(3));
}
