//! `kerf search`: bits per layer under a budget.

mod agent;
mod args;
mod judged;
mod run;
mod sensitivity;

pub(crate) use args::SearchArgs;

use super::{Context, Outcome, Task, Verdict};
use crate::args::Shared;
use crate::output::Target;
use crate::table::Table;
use crate::units;
use judged::Judged;
use quant_mixed::search::{Bits, Problem, Score, Sensitivities};
use serde_json::json;
use std::path::Path;
use tensor_core::Result;

impl Task for SearchArgs {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn model(&self) -> Option<&Path> {
        Some(&self.model)
    }

    fn outputs(&self) -> Vec<Target<'_>> {
        vec![Target::File { path: &self.output, force: self.force }]
    }

    fn run_folder(&self) -> Option<&Path> {
        self.run.as_deref()
    }

    fn run(&self, cx: &Context) -> Result<Outcome> {
        let found = run::search(self, cx)?;
        found.problem.plan(&self.method, &found.bits).write(&self.output)?;
        Ok(self.outcome(&found))
    }
}

/// What a search found.
struct Found {
    problem: Problem,
    bits: Vec<Bits>,
    /// Right answers of the float model and with these bits, where there are labels.
    scores: Option<(Score, Score)>,
    /// Divergence of the outputs from the float model's.
    divergence: f64,
    seconds: f64,
    /// What the solver went by, if it was measured layer by layer.
    sensitivities: Option<Sensitivities>,
    /// This one and the same bits everywhere, judged on the same samples; episodes of the agent, on those
    /// that it selects by.
    judged: Vec<Judged>,
}

impl SearchArgs {
    fn outcome(&self, found: &Found) -> Outcome {
        let Found { problem, bits, scores, divergence, seconds, .. } = found;
        let resource = problem.limits().resource;
        let cost = problem.cost(bits);
        let mut table = Table::new(&["layer", ">weights", ">activations", &format!(">{resource}")]);
        for (layer, &own) in bits.iter().enumerate() {
            let pin = if problem.is_pinned(layer) { " pinned" } else { "" };
            table.row([
                format!("{}{pin}", problem.name(layer)),
                own.weights.to_string(),
                own.activations.to_string(),
                resource.show(problem.layer_cost(layer, own)),
            ]);
        }
        let share = cost / problem.full();
        let mut text = format!(
            "Goal  {} on {}   method {}\n\n{}\ncost  {} ({} of 8 bits), budget {}\n",
            problem.limits(),
            problem.device(),
            self.method,
            table.render(),
            resource.show(cost),
            units::percent(share),
            resource.show(problem.budget())
        );
        text.push_str(&format!("outputs  divergence {divergence:.5} nats from the float model\n"));
        if let Some((float, score)) = scores {
            text.push_str(&format!(
                "top-1  {} of {} samples, float {}\n",
                units::percent_fine(score.share()),
                score.of,
                units::percent_fine(float.share())
            ));
        }
        text.push_str(&format!("time  {seconds:.1} s\nwrote {}\n", self.output.display()));
        let fits = problem.is_within(cost);
        let layers: Vec<&str> = (0..problem.len()).map(|layer| problem.name(layer)).collect();
        let result = json!({
            "device": problem.device(), "budget": problem.limits(), "method": self.method,
            "budget_amount": problem.budget(), "full": problem.full(), "cost": cost,
            "fixed": problem.fixed(), "unpriced": problem.unpriced(), "cost_share": share, "layers": layers, "bits": bits, "divergence": divergence,
            "float": scores.map(|(float, _)| float), "score": scores.map(|(_, score)| score),
            "interpolated": problem.is_interpolated(), "seconds": seconds,
            "sensitivities": found.sensitivities, "judged": found.judged,
        });
        let verdict = if fits { Verdict::Pass } else { Verdict::Fail };
        let hint = format!(
            "`kerf quantize {} --plan {}` makes the quantized model",
            self.model.display(),
            self.output.display()
        );
        Outcome { hint: Some(hint), ..Outcome::new(text, result, verdict) }
    }
}
