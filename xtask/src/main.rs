//! Development tasks: `cargo xtask fixtures data --from DIR`.

mod data;

use clap::{Parser, Subcommand};
use std::path::PathBuf;

#[derive(Parser)]
enum Task {
    /// Makes files under `fixtures/`
    #[command(subcommand)]
    Fixtures(Fixture),
}

#[derive(Subcommand)]
enum Fixture {
    /// The Fashion-MNIST excerpt, from the folder with the full set
    Data {
        /// Where the Debian package `dataset-fashion-mnist` puts it
        #[arg(long, default_value = "/usr/share/datasets/fashion-mnist")]
        from: PathBuf,
        /// Target folder
        #[arg(long, default_value = "fixtures/data")]
        to: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Fixtures(Fixture::Data { from, to }) => data::excerpt(&from, &to),
    }
}
