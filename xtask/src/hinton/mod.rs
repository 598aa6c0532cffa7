//! The MNIST experiments of "Distilling the knowledge in a neural network" (Hinton, Vinyals and Dean
//! 2015, section 3) on Fashion-MNIST, and soft targets as a regularizer (section 6).

mod bias;
mod network;
mod sets;

use crate::fashion_mnist::FashionMnist;
use crate::step::{run_cargo, say};
use anyhow::{Result, bail};
use network::Run;
use std::fs;
use std::path::{Path, PathBuf};

const TEMPERATURES: [f64; 5] = [1.0, 2.5, 4.0, 8.0, 20.0];

/// The class that the transfer set lacks: Fashion-MNIST's dresses stand for the paper's threes.
const OMITTED: u8 = 3;

/// Temperature of the experiments that do not vary it.
const USUAL: f64 = 4.0;

/// Size of the experiments.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    data: FashionMnist,
    /// Training images
    #[arg(long, default_value_t = 60_000)]
    samples: usize,
    /// Passes over the training images
    #[arg(long, default_value_t = 20)]
    epochs: u32,
    /// Passes of the teacher, which dropout slows down
    #[arg(long, default_value_t = 60)]
    teacher_epochs: u32,
    /// Dropout of the teacher
    #[arg(long, default_value_t = 0.2)]
    dropout: f64,
    /// Pixels by which the teacher's images are shifted at most
    #[arg(long, default_value_t = 1)]
    shift: u32,
    /// Students per row, with different seeds
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Where the table goes
    #[arg(long, default_value = "benches/hinton.md")]
    to: PathBuf,
}

/// Runs everything and writes the table.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.seeds == 0 {
        bail!("at least one seed is needed");
    }
    run_cargo("build --release --bin kerf")?;
    let folder = Path::new("target/hinton");
    fs::create_dir_all(folder)?;
    let all = sets::first(&options.data.from, folder, "all", options.samples)?;
    let few = sets::first(&options.data.from, folder, "few", (options.samples * 3).div_ceil(100))?;
    let lacking = sets::without(&all, folder, OMITTED)?;
    let test = options.data.test();
    let run = |hidden: u32, data: &Path, seed: u64| Run {
        hidden,
        data: data.to_owned(),
        test: test.clone(),
        epochs: options.epochs,
        seed,
        folder: folder.to_owned(),
    };
    let mut table = Table::new(options);

    let &Options { dropout, shift, teacher_epochs, .. } = options;
    let teacher = Run { epochs: teacher_epochs, ..run(1200, &all, 0) };
    let teacher = teacher.regularized("teacher", dropout, shift)?;
    let name = format!("teacher, 2 x 1200, dropout {dropout}, shifts up to {shift} pixels");
    table.row(&name, "-", &[teacher.errors]);
    for hidden in [800, 30] {
        let seeds = |name: &str, temperature: Option<f64>| -> Result<Vec<u64>> {
            (0..options.seeds)
                .map(|seed| {
                    let run = run(hidden, &all, seed);
                    let done = match temperature {
                        None => run.on_labels(name)?,
                        Some(t) => run.distilled(name, &teacher.model, t)?,
                    };
                    Ok(done.errors)
                })
                .collect()
        };
        let network = format!("student, 2 x {hidden}");
        table.row(&format!("{network}, labels"), "-", &seeds("labels", None)?);
        for temperature in TEMPERATURES {
            let errors = seeds("distilled", Some(temperature))?;
            table.row(&format!("{network}, soft targets"), &temperature.to_string(), &errors);
        }
    }

    let usual = USUAL.to_string();
    let (mut plain, mut own, mut raised, mut own_raised, mut shifts) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for seed in 0..options.seeds {
        let student = run(800, &lacking, seed).distilled("lacking", &teacher.model, USUAL)?;
        let found = bias::correct(&student.model, &test, OMITTED)?;
        plain.push(found.errors);
        own.push(found.omitted_errors);
        raised.push(found.corrected_errors);
        own_raised.push(found.corrected_omitted_errors);
        shifts.push(found.shift);
    }
    let name = format!("no image of class {OMITTED} in the transfer set");
    table.row(&name, &usual, &plain);
    table.row(&format!("of these on class {OMITTED} (1,000 images)"), &usual, &own);
    table.row(&format!("{name}, its bias raised by {shifts:.1?}"), &usual, &raised);
    table.row(&format!("of these on class {OMITTED} (1,000 images)"), &usual, &own_raised);

    for (name, temperature) in [("labels", None), ("soft targets", Some(USUAL))] {
        let errors: Result<Vec<u64>> = (0..options.seeds)
            .map(|seed| {
                let run = Run { epochs: options.epochs * 4, ..run(800, &few, seed) };
                Ok(match temperature {
                    None => run.on_labels("few")?.errors,
                    Some(t) => run.distilled("few", &teacher.model, t)?.errors,
                })
            })
            .collect();
        let temperature = temperature.map_or("-".to_owned(), |t: f64| t.to_string());
        table.row(&format!("student, 2 x 800, 3 % of the images, {name}"), &temperature, &errors?);
    }
    fs::write(&options.to, &table.text)?;
    say(&format!("wrote {}", options.to.display()));
    Ok(())
}

/// The table, which is also shown while it grows.
struct Table {
    text: String,
}

impl Table {
    fn new(options: &Options) -> Self {
        let Options { samples, epochs, teacher_epochs, dropout, shift, seeds, .. } = options;
        let text = format!(
            "# Hinton's experiments on Fashion-MNIST\n\n\
             Written by `cargo xtask hinton --samples {samples} --epochs {epochs} --teacher-epochs \
             {teacher_epochs} --dropout {dropout} --shift {shift} --seeds {seeds}`.\nErrors on the \
             10,000 test images: mean over the seeds, and least to most. Soft targets come without \
             labels. As in\nthe paper, the bias of the omitted class is chosen on the test \
             images.\n\n| network | T | test errors |\n|---|---|---|\n"
        );
        Self { text }
    }

    fn row(&mut self, name: &str, temperature: &str, errors: &[u64]) {
        let line = format!("| {name} | {temperature} | {} |", cell(errors));
        say(&line);
        self.text.push_str(&line);
        self.text.push('\n');
    }
}

/// The mean, and the range where there are several.
fn cell(errors: &[u64]) -> String {
    let mean = errors.iter().sum::<u64>() as f64 / errors.len().max(1) as f64;
    match (errors.iter().min(), errors.iter().max()) {
        (Some(least), Some(most)) if errors.len() > 1 => format!("{mean:.0} ({least} to {most})"),
        _ => format!("{mean:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn cells_show_mean_and_range() {
        assert_eq!(cell(&[100, 110, 150]), "120 (100 to 150)");
        assert_eq!(cell(&[7]), "7");
    }
}
