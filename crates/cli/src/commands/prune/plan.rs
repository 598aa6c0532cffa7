//! The plan that `--dry-run` shows: widths and what they cost, before any weight changes.

use super::super::Outcome;
use super::super::model::file_name;
use crate::report::{self, Change, Sizes};
use crate::table::Table;
use crate::units;
use lasso_prune::{Budget, Limit, Plan, PlannedCost, PlannedSet, PredictedTime};
use serde_json::json;
use std::path::Path;
use tensor_core::Graph;
use tensor_core::cost::{Price, Resource};
use tensor_core::text::counted;

/// The plan for people and for programs.
pub(super) fn outcome(path: &Path, graph: &Graph, heading: &str, plan: &Plan) -> Outcome {
    let mut text = format!("{}  opset {}\n{heading}\n", file_name(path), graph.opset());
    text.push_str(&sets(&plan.sets));
    text.push_str(&report::rounding(plan.rounding.as_ref()));
    text.push_str(&report::frozen(&plan.frozen));
    text.push('\n');
    text.push_str(&costs(plan));
    let narrowed = plan.sets.iter().filter(|set| set.after < set.before).count();
    text.push_str(&format!(
        "\nPlan  narrow {} of {}, leave {} alone; nothing was written\n",
        narrowed,
        counted(plan.sets.len(), "group"),
        plan.frozen.len()
    ));
    Outcome::answer(text, json!({ "dry_run": true, "plan": plan }))
}

fn sets(sets: &[PlannedSet]) -> String {
    let headings = ["group", "root", ">channels", ">predicted error", "read by"];
    let mut table = Table::new(&headings);
    for set in sets {
        table.row([
            set.id.clone(),
            set.name.clone(),
            format!("{} -> {}", set.before, set.after),
            set.error.map_or("-".to_owned(), units::percent_fine),
            set.readers.join(", "),
        ]);
    }
    table.render()
}

fn costs(plan: &Plan) -> String {
    type Show = fn(u64) -> String;
    let mut table = Table::new(&["predicted", ">before", ">after", ">kept"]);
    let rows: [(&str, PlannedCost, Show); 3] = [
        ("MACs", plan.macs, units::si),
        ("parameters", plan.parameters, units::si),
        ("bytes of constants", plan.bytes, units::bytes),
    ];
    for (name, cost, show) in rows {
        let (before, after) = (cost.before, cost.after);
        table.row([name.to_owned(), show(before), show(after), units::share(after, before)]);
    }
    if let Some(time) = &plan.time {
        let show = |us: f64| units::milliseconds(us / 1000.0);
        let name = format!("time, batch {}", time.batch);
        let kept = units::percent(time.after_us / time.before_us);
        table.row([name, show(time.before_us), show(time.after_us), kept]);
    }
    table.render()
}

/// Says so when the model costs more than was asked for.
pub(in crate::commands) fn exceeded(
    budget: &Budget,
    sizes: &Change<Sizes>,
    time: Option<&PredictedTime>,
) -> Option<String> {
    let (what, before, after) = match budget.price {
        Price::Count(Resource::Macs) => ("MACs", sizes.before.macs, sizes.after.macs),
        Price::Count(Resource::Parameters) => {
            ("parameters", sizes.before.parameters, sizes.after.parameters)
        }
        Price::Count(Resource::Bytes) => {
            ("bytes of constants", sizes.before.constant_bytes, sizes.after.constant_bytes)
        }
        Price::Latency(_) => return time.and_then(|time| late(budget.limit, time)),
    };
    let limit = match budget.limit {
        Limit::Keep(share) => share * before as f64,
        Limit::AtMost(most) => most,
    };
    // The budget itself may round to a fraction of one.
    (after as f64 > limit + 1.0).then(|| {
        let shown = units::percent_fine(after as f64 / before.max(1) as f64);
        format!("{after} {what} remain ({shown}), more than the {limit:.0} asked for")
    })
}

/// Says so when the predicted time is above the limit.
fn late(limit: Limit, time: &PredictedTime) -> Option<String> {
    let limit = match limit {
        Limit::Keep(share) => share * time.before_us,
        Limit::AtMost(most) => most,
    };
    let show = |us: f64| units::milliseconds(us / 1000.0);
    // Sums in another order differ in the last digits.
    (time.after_us > limit * (1.0 + 1e-9)).then(|| {
        format!("{} are predicted, more than the {} asked for", show(time.after_us), show(limit))
    })
}
