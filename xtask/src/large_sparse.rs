//! Large and sparse against small and dense, at equal training budgets (Zhu and Gupta 2017,
//! Table 2).

use crate::fashion_mnist::FashionMnist;
use crate::finetune::{accuracy, summary};
use crate::kerf;
use crate::step::{run_cargo, say};
use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;

/// Factors of the channels of the dense networks.
const WIDTHS: [&str; 4] = ["1", "0.75", "0.5", "0.25"];
/// Sparsities of the network of full width.
const SPARSITIES: [&str; 4] = ["50%", "75%", "90%", "95%"];

const MODEL: &str = "target/large_sparse.onnx";
const TABLE: &str = "benches/large_sparse.md";
const PLOT: &str = "benches/large_sparse.svg";

/// Size of the experiment.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    data: FashionMnist,
    /// Training images, drawn by the seed
    #[arg(long, default_value_t = 60_000)]
    samples: u32,
    /// Passes over the training images, for each network
    #[arg(long, default_value_t = 6)]
    epochs: u32,
    /// Images per step; small networks in short runs learn more from many steps
    #[arg(long, default_value_t = 32)]
    batch: u32,
    /// Peak learning rate
    #[arg(long, default_value = "0.03")]
    lr: String,
    /// Networks per row
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Number format of the products in convolutions, `f32` or `bf16`
    #[arg(long, default_value = "f32")]
    precision: String,
    /// How zeros are spread over the layers, as `kerf train --distribution` takes it
    #[arg(long, default_value = "uniform")]
    distribution: String,
}

/// One row: what was trained, the values that are not zero, and the accuracies in percent.
struct Row {
    is_sparse: bool,
    name: String,
    nonzero: u64,
    found: Vec<f64>,
}

impl Row {
    fn mean(&self) -> f64 {
        self.found.iter().sum::<f64>() / self.found.len().max(1) as f64
    }

    fn spread(&self) -> f64 {
        let most = self.found.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        most - self.found.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

/// Trains all networks, writes the table and the plot.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_cargo("build --release --bin kerf")?;
    let mut rows = Vec::new();
    let dense = WIDTHS.iter().map(|width| (*width, None));
    let sparse = SPARSITIES.iter().map(|sparsity| ("1", Some(*sparsity)));
    for (width, sparsity) in dense.chain(sparse) {
        let row = row(options, width, sparsity)?;
        say(&line(&row));
        rows.push(row);
    }
    let Options { samples, epochs, batch, lr, seeds, precision, distribution, .. } = options;
    let mut text = format!(
        "# Large and sparse against small and dense\n\n\
         Written by `cargo xtask large-sparse --samples {samples} --epochs {epochs} --batch {batch} --lr {lr} \
         --seeds {seeds} --precision {precision} --distribution {distribution}`:\nMobileNet-V1 on {samples} training images of Fashion-MNIST, from random weights, the same \
         budget for each network.\nSparse ones are pruned while they train, with the defaults of `kerf train \
         --sparsity`. Top-1 on the 10,000 test\nimages for each seed.\n\n\
         | network | values that are not zero | seeds | mean | spread |\n|---|---|---|---|---|\n"
    );
    for row in &rows {
        text.push_str(&line(row));
        text.push('\n');
    }
    text.push('\n');
    for row in rows.iter().filter(|row| row.is_sparse) {
        text.push_str(&verdict(row, &rows)?);
        text.push('\n');
    }
    text.push_str("\n![Accuracy over values that are not zero](large_sparse.svg)\n");
    std::fs::write(TABLE, text).with_context(|| format!("writing {TABLE}"))?;
    let mut picture = String::new();
    draw(&mut picture, &rows).map_err(|error| anyhow!("drawing: {error}"))?;
    std::fs::write(PLOT, picture).with_context(|| format!("writing {PLOT}"))
}

/// A sparse network against the dense ones of as many values: the line between the means of its two
/// neighbours, over the logarithm of the count, or the nearest one where a neighbour is missing.
fn verdict(sparse: &Row, rows: &[Row]) -> Result<String> {
    let dense = || rows.iter().filter(|row| !row.is_sparse);
    let below = dense().filter(|row| row.nonzero <= sparse.nonzero).max_by_key(|row| row.nonzero);
    let above = dense().filter(|row| row.nonzero >= sparse.nonzero).min_by_key(|row| row.nonzero);
    let (below, above) = below.or(above).zip(above.or(below)).context("no dense network")?;
    let place = |count: u64| (count.max(1) as f64).ln();
    let length = place(above.nonzero) - place(below.nonzero);
    let share = match length > 0.0 {
        true => (place(sparse.nonzero) - place(below.nonzero)) / length,
        false => 0.0,
    };
    let expected = below.mean() + share * (above.mean() - below.mean());
    let difference = sparse.mean() - expected;
    let spread = [sparse, below, above].map(Row::spread).into_iter().fold(0.0, f64::max);
    let side = if difference < 0.0 { "below" } else { "above" };
    let size = if difference.abs() > spread { "more" } else { "not more" };
    Ok(format!(
        "* {}: {:.2} points {side} dense networks of as many values ({expected:.2} %), {size} than the larger \
         spread of {spread:.2}.",
        sparse.name,
        difference.abs()
    ))
}

fn line(row: &Row) -> String {
    format!("| {} | {} | {} |", row.name, row.nonzero, summary(&row.found))
}

/// Trains the network of one row with each seed.
fn row(options: &Options, width: &str, sparsity: Option<&str>) -> Result<Row> {
    let new = ["new", "mobilenet-v1", "--classes", "10", "--input", "1x28x28", "--width", width];
    kerf::run(kerf::command(&new).args(["-o", MODEL]))?;
    let inspected = kerf::json(&mut kerf::command(&["inspect", MODEL]))?;
    let parameters = inspected["result"]["parameters"].as_u64().context("no parameters")?;
    // Steps of small batches leave a processor idle; runs beside each other do not.
    let runs = std::thread::scope(|scope| {
        let runs =
            (0..options.seeds).map(|seed| scope.spawn(move || train(options, sparsity, seed)));
        let runs: Vec<_> = runs.collect();
        runs.into_iter()
            .map(|run| run.join().expect("a run does not panic"))
            .collect::<Result<Vec<_>>>()
    })?;
    let zeros = runs.first().map_or(0, |run| run.1);
    let found = runs.iter().map(|run| run.0).collect();
    let name = match sparsity {
        None => format!("width {width}, dense"),
        Some(sparsity) => format!("width {width}, {sparsity} sparse"),
    };
    Ok(Row { is_sparse: sparsity.is_some(), name, nonzero: parameters - zeros, found })
}

/// Accuracy in percent and number of zeros of one run.
fn train(options: &Options, sparsity: Option<&str>, seed: u64) -> Result<(f64, u64)> {
    let output = format!("target/large_sparse_{seed}.onnx");
    let [samples, epochs, batch] =
        [options.samples, options.epochs, options.batch].map(|number| number.to_string());
    let seed = seed.to_string();
    let mut command = kerf::command(&["train", MODEL, "--reinit", "--seed", &seed]);
    command.args(["--samples", &samples, "--epochs", &epochs, "--batch", &batch]);
    command.args(["--lr", &options.lr, "--precision", &options.precision]);
    command.args(["--threads", "1", "-o", &output]);
    if let Some(sparsity) = sparsity {
        command.args(["--sparsity", sparsity, "--distribution", &options.distribution]);
    }
    let report = kerf::run(options.data.trains(&mut command))?;
    let zeros = match sparsity {
        Some(_) => report["result"]["sparsity"]["zeros"].as_u64().context("no zeros")?,
        None => 0,
    };
    Ok((accuracy(&report)?, zeros))
}

/// Accuracies over the values that are not zero: a point for each seed, a line through the means of
/// each kind.
fn draw(text: &mut String, rows: &[Row]) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(text, (800, 500)).into_drawing_area();
    root.fill(&WHITE)?;
    let all = || rows.iter().flat_map(|row| row.found.iter().copied());
    let (low, high) = (all().fold(100.0, f64::min), all().fold(0.0, f64::max));
    let counts = || rows.iter().map(|row| row.nonzero);
    let (least, most) = (counts().min().unwrap_or(1) as f64, counts().max().unwrap_or(1) as f64);
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(44)
        .build_cartesian_2d((least / 1.3..most * 1.3).log_scale(), low - 0.5..high + 0.5)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(8)
        .x_label_formatter(&|count| format!("{:.1} M", count / 1e6))
        .x_desc("values that are not zero")
        .y_desc("top-1, %")
        .draw()?;
    for (i, (name, is_sparse)) in
        [("small, dense", false), ("large, sparse", true)].iter().enumerate()
    {
        let color = Palette99::pick(i).to_rgba();
        let of = || rows.iter().filter(|row| row.is_sparse == *is_sparse);
        let means = of().map(|row| (row.nonzero as f64, row.mean()));
        chart
            .draw_series(LineSeries::new(means, color.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
        let seeds = of().flat_map(|row| row.found.iter().map(|top1| (row.nonzero as f64, *top1)));
        chart.draw_series(seeds.map(|place| Circle::new(place, 3, color.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_is_judged_at_equal_counts() -> Result<()> {
        let row = |is_sparse, nonzero, found: &[f64]| Row {
            is_sparse,
            name: "it".to_owned(),
            nonzero,
            found: found.to_vec(),
        };
        // Between 100 and 10,000 values, 1,000 are half way on a logarithmic scale.
        let rows = [row(false, 10_000, &[80.0, 80.0]), row(false, 100, &[69.0, 71.0])];
        for (found, expected) in [
            (
                [78.0, 79.0],
                "3.50 points above dense networks of as many values (75.00 %), more than",
            ),
            (
                [74.0, 74.0],
                "1.00 points below dense networks of as many values (75.00 %), not more",
            ),
        ] {
            let text = verdict(&row(true, 1000, &found), &rows)?;
            assert!(text.contains(expected) && text.contains("spread of 2.00"), "{text}");
        }
        let few = verdict(&row(true, 10, &[70.0]), &rows)?;
        assert!(
            few.contains("0.00 points above dense networks of as many values (70.00 %)"),
            "{few}"
        );
        assert!(verdict(&row(true, 10, &[70.0]), &[]).is_err());
        Ok(())
    }

    #[test]
    fn the_plot_has_a_point_for_each_seed() -> Result<(), Box<dyn std::error::Error>> {
        let row = |is_sparse, nonzero, found: &[f64]| Row {
            is_sparse,
            name: String::new(),
            nonzero,
            found: found.to_vec(),
        };
        let rows = [row(false, 3_000_000, &[80.9, 78.5]), row(true, 400_000, &[78.6])];
        let mut text = String::new();
        draw(&mut text, &rows)?;
        assert_eq!(text.matches("<circle").count(), 3);
        Ok(())
    }
}
