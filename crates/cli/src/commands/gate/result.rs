//! From the trained network with gates to the small one, with proof.

use super::args::GatesArgs;
use super::{plot, text};
use crate::args::fixed_batch;
use crate::commands::engine;
use crate::commands::{Context, samples};
use crate::{report, units};
use gates_gdp::model::{Cut, Ungated, cut_zeros};
use gates_gdp::train::{Gater, History, ListReport, Rival};
use serde::Serialize;
use serde_json::{Value, json};
use std::any::Any;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tensor_core::cost::{Price, Resource};
use tensor_core::data::Dataset;
use tensor_core::measure::Choice;
use tensor_core::measure::compare::{self, Comparison};
use tensor_core::text::counted;
use tensor_core::train::Plugin;
use tensor_core::{Error, Graph, Result, files, onnx, run};

/// Largest difference of the cut network from the gated one, relative to the range of the output.
const LOSSLESS: f64 = 1e-5;

/// Samples that both are compared on.
const COMPARED: usize = 256;

/// What became of the gates.
#[derive(Debug, Serialize)]
pub(crate) struct Gated {
    goal: String,
    /// The resource by the term's own count, and as counted in the cut network.
    resource: Counted,
    /// Every list of gates.
    lists: Vec<ListReport>,
    /// Channels without gates.
    ungated: Vec<Ungated>,
    /// Channels that were cut.
    channels_cut: usize,
    /// Last layers of branches that are gone.
    branches_cut: Vec<String>,
    /// Gates over the run.
    history: History,
    /// Should the cut change nothing?
    is_exact: bool,
    /// The network with gates against the cut one; absent where no engine could run both.
    cut_against_gated: Option<Compared>,
    /// Drawings.
    plots: Vec<PathBuf>,
}

/// A resource.
#[derive(Debug, Serialize)]
pub(super) struct Counted {
    /// Its name.
    pub(super) what: &'static str,
    /// Of the model that was given.
    pub(super) original: f64,
    /// What the resource term counts.
    pub(super) by_gates: f64,
    /// What the cut model costs.
    pub(super) by_model: f64,
}

/// Two networks.
#[derive(Debug, Serialize)]
struct Compared {
    engine: String,
    comparison: Comparison,
}

/// The plug-in among the others.
#[derive(Clone, Copy)]
enum Technique<'a> {
    Gates(&'a Gater),
    Rival(&'a Rival),
}

impl<'a> Technique<'a> {
    fn find(plugins: &'a [Box<dyn Plugin>]) -> Result<Self> {
        let found = plugins.iter().find_map(|plugin| {
            let plugin = &**plugin as &dyn Any;
            let gates = plugin.downcast_ref::<Gater>().map(Self::Gates);
            gates.or_else(|| plugin.downcast_ref::<Rival>().map(Self::Rival))
        });
        found.ok_or_else(|| Error::internal("the gates are gone"))
    }

    fn lists(self) -> Result<Vec<ListReport>> {
        match self {
            Self::Gates(gater) => gater.lists(),
            Self::Rival(rival) => Ok(rival.lists()),
        }
    }

    fn ungated(self) -> &'a [Ungated] {
        match self {
            Self::Gates(gater) => gater.ungated(),
            Self::Rival(rival) => rival.ungated(),
        }
    }

    /// The resource of open channels, and of all.
    fn resource(self) -> Result<Option<[f64; 2]>> {
        match self {
            Self::Gates(gater) => gater.resource(),
            Self::Rival(rival) => Ok(rival.resource()),
        }
    }

    fn goal(self) -> Option<f64> {
        match self {
            Self::Gates(gater) => gater.goal(),
            Self::Rival(rival) => rival.goal(),
        }
    }

    fn history(self) -> &'a History {
        match self {
            Self::Gates(gater) => gater.history(),
            Self::Rival(rival) => rival.history(),
        }
    }
}

/// What `--dry-run` shows, for people and for programs.
pub(crate) fn plan(args: &GatesArgs, plugins: &[Box<dyn Plugin>]) -> Result<(String, Value)> {
    let technique = Technique::find(plugins)?;
    let (lists, ungated) = (technique.lists()?, technique.ungated());
    let text = text::plan(&args.goal(), &lists, ungated);
    let lists: Vec<_> = lists.iter().map(|list| &list.list).collect();
    Ok((text, json!({ "goal": args.goal(), "lists": lists, "ungated": ungated })))
}

impl Gated {
    /// Cuts the trained graph; gives the small one.
    pub(crate) fn new(
        args: &GatesArgs,
        plugins: &[Box<dyn Plugin>],
        trained: &Graph,
        shapes: &BTreeMap<String, Vec<usize>>,
        failures: &mut Vec<String>,
    ) -> Result<(Graph, Self)> {
        let technique = Technique::find(plugins)?;
        let Cut { graph, channels, branches } = match technique {
            Technique::Gates(_) => cut_zeros(trained, shapes)?,
            Technique::Rival(rival) => cut_zeros(&rival.close(trained)?, shapes)?,
        };
        let [by_gates, original] = technique.resource()?.unwrap_or_default();
        let price = args.price()?;
        let by_model = price.of(&graph, &run::infer_declared(&graph, shapes)?)?;
        let what = price.unit();
        let counted = Counted { what, original, by_gates, by_model };
        let is_macs = matches!(price, Price::Count(Resource::Macs));
        if is_macs && (by_model - by_gates).abs() > 0.5 {
            failures.push(format!("the cut model has {by_model:.0} MACs, not {by_gates:.0}"));
        }
        if let Some(goal) = technique.goal().filter(|goal| by_model > *goal) {
            failures.push(format!("the cut model has {by_model:.0} {what}, more than {goal:.0}"));
        }
        let gated = Self {
            goal: args.goal(),
            resource: counted,
            lists: technique.lists()?,
            ungated: technique.ungated().to_vec(),
            channels_cut: channels,
            branches_cut: branches,
            history: technique.history().clone(),
            is_exact: matches!(technique, Technique::Gates(_)),
            cut_against_gated: None,
            plots: Vec::new(),
        };
        Ok((graph, gated))
    }

    /// Runs the network with gates and the cut one in another engine, and compares their outputs.
    pub(crate) fn compare(
        &mut self,
        (gated, cut): (&Graph, &Path),
        (set, batch): (&Dataset, usize),
        failures: &mut Vec<String>,
        (shared, cx): (&crate::args::Shared, &Context),
    ) -> Result<()> {
        let engine = engine::foreign(Choice::Auto, cx.console)?;
        let threads = engine::threads(shared);
        let size = batch.min(set.len()).max(1);
        // With labels both are judged on, all of them, but where the model fixes its batch.
        let whole = |count: usize| size.max(count / size * size);
        let set = set.first(match (set.has_labels(), fixed_batch(gated)) {
            (true, None) => set.len(),
            (true, Some(_)) => whole(set.len()),
            (false, _) => whole(COMPARED),
        });
        let compared = onnx::encode(gated).and_then(|bytes| {
            let mut before = engine.load(&bytes, threads)?;
            let mut after = engine.load_file(cut, threads)?;
            let batches = samples::labelled(&set, size, "compare", &cx.progress);
            compare::compare(&mut *before, &mut *after, batches)
        });
        let comparison = match compared {
            Err(error) if ["E0302", "E0303"].contains(&error.code()) => {
                failures.push(format!("gated and cut network could not be compared: {error}"));
                return Ok(());
            }
            compared => compared?,
        };
        for output in &comparison.outputs {
            if self.is_exact && !output.within(LOSSLESS, 0.0) {
                failures.push(format!(
                    "the cut changes `{}` by {:.1e} of its range, more than {LOSSLESS:.0e}",
                    output.name,
                    report::relative(output)
                ));
            }
        }
        self.cut_against_gated = Some(Compared { engine: engine.name(), comparison });
        Ok(())
    }

    /// Draws gates and resource into a folder.
    pub(crate) fn draw(&mut self, folder: &Path) -> Result<()> {
        for (name, drawing) in [
            ("gates-histogram.svg", plot::histogram(&self.history)?),
            ("gates-layers.svg", plot::layers(&self.lists)?),
            ("gates-resource.svg", plot::resource(&self.history)?),
        ] {
            let path = folder.join(name);
            files::write_whole(&path, |part| std::fs::write(part, &drawing))?;
            self.plots.push(path);
        }
        Ok(())
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = text::lists(&self.goal, &self.resource, &self.lists);
        text.push_str(&text::cut(self.channels_cut, &self.branches_cut));
        if let Some(compared) = &self.cut_against_gated {
            let what = if self.is_exact {
                "lossless  the"
            } else {
                "with loss  the weakest channels were cut; the"
            };
            text.push_str(&format!(
                "{what} cut network gives what the gated one does in {}, within {} ({})\n",
                compared.engine,
                report::distance(&compared.comparison),
                counted(compared.comparison.samples, "sample"),
            ));
            let top1 = compared.comparison.outputs.first().and_then(|output| output.top1);
            if let Some(top1) = top1
                && let (Some(before), Some(after)) =
                    (top1.reference_accuracy, top1.candidate_accuracy)
            {
                text.push_str(&format!(
                    "before the cut  {}, after it {}\n",
                    units::percent_fine(before),
                    units::percent_fine(after)
                ));
            }
        }
        for plot in &self.plots {
            text.push_str(&format!("plot  {}\n", plot.display()));
        }
        text
    }
}
