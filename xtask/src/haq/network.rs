//! A trained network with everything that searches need.

use super::Options;
use crate::kerf;
use crate::step::{run_cargo, say};
use anyhow::{Context, Result};
use quant_mixed::model::{Prepared, RangeParams};
use quant_mixed::search::{
    Bits, Problem, Samples, Score, Sensitivities, Simulator, ddpg, exact, greedy, uniform,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tensor_core::cost::hardware::{self, Layer};
use tensor_core::data::{self, Dataset, Idx, InputSpec, Preprocess, Size};
use tensor_core::progress::Silent;
use tensor_core::run::Array;
use tensor_core::{Graph, ValueId, onnx};

/// Images that are trained on; the others of the 60,000 are the validation split.
const TRAINED: usize = 50_000;
/// Images of a forward pass.
const BATCH: usize = 100;
/// Seed of the samples that are drawn.
const SEED: u64 = 0;
/// Fewest bits of a search.
const MIN_BITS: u32 = 2;

/// What a method found.
pub(super) struct Outcome {
    pub(super) method: &'static str,
    pub(super) cost: f64,
    /// Accuracy on the test images, in percent.
    pub(super) test: f64,
    /// Time of the search, without sensitivities.
    pub(super) seconds: f64,
}

/// A network, its layers, and the samples that judge it.
pub(super) struct Network {
    pub(super) layers: Vec<Layer>,
    /// Accuracy of the float model on the test images, in percent.
    pub(super) float: f64,
    pub(super) sensitivity_seconds: f64,
    prepared: Prepared,
    sensitivities: Sensitivities,
    validation: Vec<Samples>,
    test: Vec<Samples>,
    /// Accuracies that are known: several methods and budgets lead to the same bits.
    tested: BTreeMap<Vec<Bits>, f64>,
}

/// The name of a network's files: other settings make another network.
fn stem(options: &Options, name: &str) -> String {
    let Options { width, side, epochs, precision, .. } = options;
    format!("{name}-width{width}-side{side}-epochs{epochs}-{precision}")
}

/// The network of that name, trained unless it was before.
fn trained(options: &Options, name: &str) -> Result<PathBuf> {
    let Options { models, data, width, side, epochs, .. } = options;
    let path = models.join(stem(options, name) + ".onnx");
    if path.is_file() {
        return Ok(path);
    }
    run_cargo("build --release --bin kerf")?;
    std::fs::create_dir_all(models)?;
    let images = models.join("train-images-idx3-ubyte.gz");
    for kind in ["images-idx3-ubyte", "labels-idx1-ubyte"] {
        let part = models.join(format!("train-{kind}.gz"));
        if !part.is_file() {
            let all = Idx::read(&data.from.join(format!("train-{kind}.gz")))?;
            all.first(TRAINED)?.write_gz(&part)?;
        }
    }
    let (new, side, epochs) =
        (models.join(format!("{name}.new.onnx")), side.to_string(), epochs.to_string());
    let input = format!("1x{side}x{side}");
    say(&format!("training {name}"));
    let mut command = kerf::command(&["new", name, "--classes", "10", "--input", &input]);
    kerf::run(command.args(["--width", width, "-o"]).arg(&new))?;
    let mut command = kerf::command(&["train"]);
    command.arg(&new).arg("-o").arg(&path).arg("--data").arg(&images);
    command.args(["--resize", &side, "--mean", "0.2860", "--std", "0.3530", "--batch", "128"]);
    command.args(["--epochs", &epochs, "--lr", "0.1", "--flip", "--shift", "4"]);
    command.args(["--precision", &options.precision]);
    kerf::run(&mut command)?;
    Ok(path)
}

/// A data set as inputs of the network.
fn open(options: &Options, graph: &Graph, path: &Path) -> Result<Dataset> {
    let side = options.side.to_string();
    let preprocess = Preprocess {
        resize: Some(side.parse::<Size>().ok().context("a side")?),
        mean: Some("0.2860".parse().ok().context("a mean")?),
        std: Some("0.3530".parse().ok().context("a deviation")?),
        ..Preprocess::default()
    };
    let options = data::Options { labels: None, preprocess, inputs: InputSpec::of(graph) };
    Ok(data::open(path, &options)?)
}

fn samples(graph: &Graph, set: &Dataset) -> Result<Vec<Samples>> {
    let made = set.batches(BATCH).map(|batch| {
        let batch = batch?;
        let inputs = graph.inputs.iter().map(|&input: &ValueId| {
            let found = batch.inputs.iter().find(|(name, _)| name == graph.name(input));
            let (_, tensor) = found.context("the data feed another input")?;
            Ok(Array::float(tensor.clone()))
        });
        Ok(Samples { inputs: inputs.collect::<Result<_>>()?, labels: batch.labels })
    });
    made.collect()
}

fn percent(score: Score) -> f64 {
    100.0 * score.share()
}

/// The agent, whose noise falls as far in so many episodes as in the 600 of the paper.
fn agent(Options { episodes, reward, .. }: &Options) -> ddpg::DdpgParams {
    let (episodes, reward) = (*episodes, *reward);
    let paper = ddpg::DdpgParams::default();
    let learned = |episodes: usize| episodes.saturating_sub(paper.warmup).max(1) as f64;
    let decay = paper.decay.powf(learned(paper.episodes) / learned(episodes));
    ddpg::DdpgParams { episodes, decay, reward, ..paper }
}

impl Network {
    /// Trains, calibrates, measures sensitivities.
    pub(super) fn prepare(options: &Options, name: &str) -> Result<Self> {
        let path = trained(options, name)?;
        let graph = onnx::read(&path)?;
        let all = open(options, &graph, &options.data.train())?;
        let calibration = all.first(TRAINED).subset(options.calibration, SEED);
        let batches: Vec<Vec<Array>> =
            samples(&graph, &calibration)?.into_iter().map(|s| s.inputs).collect();
        let shapes = BTreeMap::new();
        let prepared = Prepared::new(&graph, &shapes, &batches, &RangeParams::default(), &Silent)?;
        let layers = hardware::layers(&prepared.graph, &prepared.facts)?;
        let names: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
        let few = samples(&graph, &calibration.first(options.sensitivity))?;
        let simulator = Simulator::new(&prepared, &names, few)?;
        let begin = Instant::now();
        let Options { calibration, sensitivity, .. } = options;
        let measure = format!("ranges from {calibration} images, on {sensitivity}");
        let file = options.models.join(stem(options, name) + ".sensitivity.json");
        let known = Sensitivities::read(&file, &measure, &names)?;
        let time_file = options.models.join(stem(options, name) + ".sensitivity.seconds");
        let (sensitivities, sensitivity_seconds) = match known {
            // The time of the measurement belongs to it.
            Some(known) => (known, std::fs::read_to_string(&time_file)?.trim().parse()?),
            None => {
                let mut divergence = |bits: &[Bits]| simulator.divergence(bits);
                let measured =
                    Sensitivities::measure(&names, MIN_BITS, &measure, &mut divergence, &Silent)?;
                measured.write(&file)?;
                let seconds = begin.elapsed().as_secs_f64();
                std::fs::write(&time_file, format!("{seconds:.1}\n"))?;
                (measured, seconds)
            }
        };
        let validation = all.without_first(TRAINED).first(options.validation);
        let validation = samples(&graph, &validation)?;
        let test = open(options, &graph, &options.data.test())?.first(options.test);
        let test = samples(&graph, &test)?;
        let mut network = Self {
            layers: layers.clone(),
            float: 0.0,
            sensitivity_seconds,
            sensitivities,
            validation,
            test,
            tested: BTreeMap::new(),
            prepared,
        };
        network.float = percent(network.judge(&network.test)?.float_score()?);
        Ok(network)
    }

    fn judge(&self, samples: &[Samples]) -> Result<Simulator<'_>> {
        let names: Vec<&str> = self.layers.iter().map(|layer| layer.name.as_str()).collect();
        Ok(Simulator::new(&self.prepared, &names, samples.to_vec())?)
    }

    /// Accuracy on the test images, in percent.
    pub(super) fn test(&mut self, bits: &[Bits]) -> Result<f64> {
        if let Some(&known) = self.tested.get(bits) {
            return Ok(known);
        }
        let found = percent(self.judge(&self.test)?.score(bits)?);
        self.tested.insert(bits.to_vec(), found);
        Ok(found)
    }

    /// The best allocation by sensitivities.
    pub(super) fn exact(&self, problem: &Problem) -> Vec<Bits> {
        exact::solve(problem, &self.sensitivities).bits
    }

    /// Every method on a problem.
    pub(super) fn solve(&mut self, options: &Options, problem: &Problem) -> Result<Vec<Outcome>> {
        let begin = Instant::now();
        let mut found = vec![("uniform", uniform::solve(problem)?, begin.elapsed())];
        let begin = Instant::now();
        found.push(("greedy", greedy::solve(problem, &self.sensitivities), begin.elapsed()));
        let begin = Instant::now();
        found.push(("exact", self.exact(problem), begin.elapsed()));
        if options.episodes > 0 {
            let begin = Instant::now();
            let simulator = self.judge(&self.validation)?;
            let params = agent(options);
            let float = simulator.float_judgement()?;
            let mut judge = |bits: &[Bits]| simulator.judge(bits);
            let mut after = |_: &ddpg::Episode| Ok(());
            let best = ddpg::search(problem, &params, float, &[], &mut judge, &mut after, &Silent)?;
            found.push(("ddpg", best.bits, begin.elapsed()));
        }
        let mut outcomes = Vec::new();
        for (method, bits, time) in found {
            outcomes.push(Outcome {
                method,
                cost: problem.cost(&bits),
                test: self.test(&bits)?,
                seconds: time.as_secs_f64(),
            });
        }
        Ok(outcomes)
    }
}
