//! HAQ's experiments at our scale: bits per layer under budgets of latency, energy and size, by every
//! method, on every device.

mod draw;
mod network;
mod table;

use crate::fashion_mnist::FashionMnist;
use crate::section;
use crate::step::say;
use anyhow::{Context, Result};
use network::{Network, Outcome};
use quant_mixed::search::ddpg::Reward;
use quant_mixed::search::{Bits, Budget, Limit, Problem, Resource, Rest, SpaceParams};
use std::path::PathBuf;
use tensor_core::cost::hardware::{self, Hardware};

const REPORT: &str = "benches/haq.md";

/// Size of the experiment.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    data: FashionMnist,
    /// Networks that were trained before are taken from here
    #[arg(long, default_value = "target/haq")]
    models: PathBuf,
    /// Width of both networks
    #[arg(long, default_value = "0.5")]
    width: String,
    /// Side to which images are resized
    #[arg(long, default_value_t = 56)]
    side: u32,
    /// Passes over the 50,000 images that are trained on
    #[arg(long, default_value_t = 4)]
    epochs: u32,
    /// Number format of the products in convolutions while training, `f32` or `bf16`
    #[arg(long, default_value = "f32")]
    precision: String,
    /// Images for the ranges of activations
    #[arg(long, default_value_t = 200)]
    calibration: usize,
    /// Images for sensitivities, of those
    #[arg(long, default_value_t = 128)]
    sensitivity: usize,
    /// Images of the validation split that judge an episode
    #[arg(long, default_value_t = 1000)]
    validation: usize,
    /// Test images
    #[arg(long, default_value_t = 10_000)]
    test: usize,
    /// Episodes of the agent
    #[arg(long, default_value_t = 120)]
    episodes: usize,
    /// What the agent is rewarded for, `accuracy` or `divergence`
    #[arg(long, default_value = "accuracy")]
    reward: Reward,
    /// Networks
    #[arg(long, value_delimiter = ',', default_value = "mobilenet-v1,mobilenet-v2")]
    networks: Vec<String>,
}

/// A row of the experiment: a device and a budget, that of uniform bits.
struct Row {
    device: &'static str,
    resource: Resource,
    bits: u32,
}

const ROWS: [Row; 8] = [
    Row { device: "bismo-edge", resource: Resource::Latency, bits: 4 },
    Row { device: "bismo-edge", resource: Resource::Latency, bits: 5 },
    Row { device: "bismo-edge", resource: Resource::Latency, bits: 6 },
    Row { device: "bismo-cloud", resource: Resource::Latency, bits: 4 },
    Row { device: "bismo-cloud", resource: Resource::Latency, bits: 5 },
    Row { device: "bismo-cloud", resource: Resource::Latency, bits: 6 },
    Row { device: "bitfusion", resource: Resource::Energy, bits: 4 },
    Row { device: "size", resource: Resource::Size, bits: 3 },
];

/// Devices of the cross table, and the uniform bits whose latency is the budget on each.
const CROSSED: [&str; 3] = ["bitfusion", "bismo-edge", "bismo-cloud"];
const CROSSED_BITS: u32 = 4;

/// A row with what each method found.
struct Solved {
    row: &'static Row,
    full: f64,
    outcomes: Vec<Outcome>,
}

/// What was found for a network.
struct Report {
    name: String,
    float: f64,
    sensitivity_seconds: f64,
    solved: Vec<Solved>,
    /// For each device of [`CROSSED`], its policy: costs as shares of 8 bits by device, and accuracy.
    crossed: Vec<(Vec<f64>, f64)>,
    policies: Vec<Vec<Bits>>,
    network: Network,
}

/// Trains, searches, writes tables and figures: a section and two figures for each network.
pub(crate) fn run(options: &Options) -> Result<()> {
    for name in &options.networks {
        let report = search(options, name)?;
        section::write(REPORT, name, &table::report(options, &report))?;
        let figures = [("bits", draw::bits(&report)?), ("pareto", draw::pareto(&report)?)];
        for (kind, figure) in figures {
            let path = format!("benches/haq_{kind}_{name}.svg");
            std::fs::write(&path, figure).with_context(|| format!("writing {path}"))?;
        }
    }
    Ok(())
}

/// The problem of a budget as large as uniform bits cost; a budget of size leaves activations at 8 bits.
fn problem(network: &Network, device: &dyn Hardware, row: &Row) -> Result<Problem> {
    let activations = (row.resource == Resource::Size).then_some(8);
    let space = SpaceParams { activations, ..SpaceParams::default() };
    let all = Budget { resource: row.resource, limit: Limit::Keep(1.0) };
    let problem = Problem::new(&network.layers, Rest::default(), device, all, &space)?;
    let uniform = Bits { weights: row.bits, activations: activations.unwrap_or(row.bits) };
    let cost = problem.cost(&problem.with_pins(uniform));
    Ok(problem.with_limit(Limit::AtMost(cost))?)
}

fn search(options: &Options, name: &str) -> Result<Report> {
    let mut network = Network::prepare(options, name)?;
    say(&format!(
        "{name}: float {:.2} %, sensitivities in {:.0} s",
        network.float, network.sensitivity_seconds
    ));
    let mut solved = Vec::new();
    for row in &ROWS {
        let device = hardware::find(row.device)?;
        let problem = problem(&network, &*device, row)?;
        let outcomes = network.solve(options, &problem)?;
        let shown: Vec<String> = outcomes
            .iter()
            .map(|o| format!("{} {:.2} % in {:.1} s", o.method, o.test, o.seconds))
            .collect();
        say(&format!(
            "{name}, {}, {} as uniform {}: {}",
            row.device,
            row.resource,
            row.bits,
            shown.join(", ")
        ));
        solved.push(Solved { row, full: problem.full(), outcomes });
    }
    let devices = CROSSED.map(hardware::find);
    let devices = devices.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut crossed = Vec::new();
    let mut policies = Vec::new();
    for (own, device) in CROSSED.iter().zip(&devices) {
        let row = Row { device: own, resource: Resource::Latency, bits: CROSSED_BITS };
        let own = problem(&network, &**device, &row)?;
        let bits = network.exact(&own);
        let mut shares = Vec::new();
        for (other, device) in CROSSED.iter().zip(&devices) {
            let other = Row { device: other, ..row };
            let other = problem(&network, &**device, &other)?;
            shares.push(other.cost(&bits) / other.full());
        }
        crossed.push((shares, network.test(&bits)?));
        policies.push(bits);
    }
    let (float, sensitivity_seconds) = (network.float, network.sensitivity_seconds);
    Ok(Report {
        name: name.to_owned(),
        float,
        sensitivity_seconds,
        solved,
        crossed,
        policies,
        network,
    })
}
