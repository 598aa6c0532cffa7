//! Development tasks: `cargo xtask ci | tidy | docs | api | fixtures | results | single-layer | side-by-side |
//! train-speed | hinton | one-shot | gradual | large-sparse | margin | finetune | polarize | gates |
//! gate-ablation | haq | crossover | int8 | draws | qat | three-c | pruning | rivals | kills | processes |
//! bench`.

mod alone;
mod api;
mod bench;
mod ci;
mod crossover;
mod data;
mod docs;
mod draws;
mod fashion_mnist;
mod finetune;
mod fixtures;
mod gates;
#[cfg(feature = "tch")]
mod gradients;
mod gradual;
mod haq;
mod hinton;
mod int8;
mod kerf;
mod kills;
mod large_sparse;
mod margin;
mod one_shot;
mod processes;
mod pruning;
mod qat;
mod readme;
mod results;
mod rivals;
mod section;
mod side_by_side;
mod single_layer;
mod step;
mod three_c;
mod tidy;
mod train_speed;
mod watched;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};

// As in the command-line program, so that kernels are timed as they run there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Development tasks
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Everything that CI runs
    Ci {
        /// Run only the steps whose name contains this
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
    },
    /// Dependency arrows, file lengths, words and paths that must not be in the sources
    Tidy,
    /// Write the reference of commands and the schemas of JSON documents under docs/
    Docs {
        /// Only say what is out of date
        #[arg(long)]
        check: bool,
    },
    /// Write the listings of public interfaces under docs/api
    Api {
        /// Only say what is out of date
        #[arg(long)]
        check: bool,
    },
    /// Make files under fixtures/ again
    #[command(subcommand)]
    Fixtures(fixtures::Fixture),
    /// Run every prune of the README's results table and write the table
    Results(results::Options),
    /// Prune every layer alone, by LASSO and by the baselines
    SingleLayer,
    /// Time pruning against the straightforward Python version
    SideBySide(side_by_side::Options),
    /// Time training steps against PyTorch
    TrainSpeed(train_speed::Options),
    /// Make the fixture networks sparse without training, and write the table
    OneShot(fashion_mnist::FashionMnist),
    /// Factorize and prune under one budget, against each alone, and write the table
    ThreeC(fashion_mnist::FashionMnist),
    /// Prune by statistics, by layers' errors and real networks, and write the tables
    Pruning(pruning::Options),
    /// Prune by kerf and by other tools side by side, and write the table
    Rivals(rivals::Options),
    /// Make resnet20 sparse while it trains, and write the table
    Gradual(gradual::Options),
    /// Train large sparse and small dense networks with the same budget, and write the table
    LargeSparse(large_sparse::Options),
    /// Repeat Hinton's distillation experiments on Fashion-MNIST and write their table
    Hinton(hinton::Options),
    /// Teach a student by labels and by a teacher, with several seeds, and write the table
    Margin(margin::Options),
    /// Fine-tune pruned networks by labels and by the original, with several seeds, and write the table
    Finetune(finetune::Options),
    /// Train gates and what they are measured against, cut, and write table and plot
    Polarize(gates::Options),
    /// Gate under budgets, compare with LASSO pruning and fine-tuning, and write the tables
    Gates(gates::Options),
    /// Change one part of gates at a time, and write the table
    GateAblation(gates::Options),
    /// Search bits per layer by every method on every device, and write tables and figures
    Haq(haq::Options),
    /// Time sparse convolutions against dense ones over sparsity, and write table and plot
    Crossover(crossover::Options),
    /// Quantize by kerf and by ONNX Runtime's tools, and write the tables
    Int8(int8::Options),
    /// Quantize and prune with other draws of the calibration samples, and write the tables
    Draws(draws::Options),
    /// Quantize to few bits after training and in training, and write the table
    Qat(qat::Options),
    /// Kill a search at random moments, again and again, and compare the bytes that it ends in
    Kills(kills::Options),
    /// Train and calibrate in one process and in two, by MPI, and write the table
    Processes(processes::Options),
    /// Run the benchmarks
    Bench {
        /// Run only the benchmarks whose name contains this
        filter: Option<String>,
    },
}

fn main() -> Result<()> {
    std::env::set_current_dir(workspace::root())?;
    match Cli::parse().task {
        Task::Ci { only } => ci::run(only.as_deref()),
        Task::Tidy => tidy::run(),
        Task::Docs { check: true } => docs::check(),
        Task::Docs { check: false } => docs::write(),
        Task::Api { check: true } => api::check(),
        Task::Api { check: false } => api::write(),
        Task::Fixtures(fixture) => fixtures::run(&fixture),
        Task::Results(options) => results::run(&options),
        Task::SingleLayer => single_layer::run(),
        Task::SideBySide(options) => side_by_side::run(&options),
        Task::Processes(options) => processes::run(&options),
        Task::TrainSpeed(options) => train_speed::run(&options),
        Task::Margin(options) => margin::run(&options),
        Task::Finetune(options) => finetune::run(&options),
        Task::ThreeC(data) => three_c::run(&data),
        Task::Pruning(options) => pruning::run(&options),
        Task::Kills(options) => kills::run(&options),
        Task::Rivals(options) => rivals::run(&options),
        Task::OneShot(data) => one_shot::run(&data),
        Task::Gradual(options) => gradual::run(&options),
        Task::LargeSparse(options) => large_sparse::run(&options),
        Task::Hinton(options) => hinton::run(&options),
        Task::Polarize(options) => gates::polarize(&options),
        Task::Gates(options) => gates::budget(&options),
        Task::GateAblation(options) => gates::ablation(&options),
        Task::Haq(options) => haq::run(&options),
        Task::Crossover(options) => crossover::run(&options),
        Task::Int8(options) => int8::run(&options),
        Task::Draws(options) => draws::run(&options),
        Task::Qat(options) => qat::run(&options),
        Task::Bench { filter } => bench::run(filter.as_deref()),
    }
}
