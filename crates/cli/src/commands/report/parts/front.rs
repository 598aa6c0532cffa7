//! What each cost in size, time or operations buys: all trials, and those that no other beats.

use super::super::evidence::Evidence;
use super::super::part::{Block, Cell, Figure, Kind, Make, Part, Sheet};
use super::super::svg::{Axis, Mark, Series, Style, plot};
use super::super::trials;
use super::{list, text};
use serde_json::Value;
use tensor_core::Result;

pub(super) const KIND: Kind = Kind {
    id: "front",
    title: "Pareto front",
    make: Make::Alone(make),
    source: "kerf compress MODEL --size 20% --data D, kerf pareto or kerf search",
};

/// One model that was tried.
struct Tried {
    name: String,
    /// Share of the original's cost.
    cost: f64,
    /// Share of right answers, or of equal ones; higher is better.
    quality: f64,
    /// Could it be the result?
    is_eligible: bool,
    /// A simple way that everything is to be compared with.
    is_baseline: bool,
    is_chosen: bool,
    why: String,
}

/// What the axes are.
struct Names {
    cost: &'static str,
    quality: &'static str,
    unit: &'static str,
}

fn make(evidence: &Evidence) -> Result<Option<Part>> {
    let found =
        of_compress(evidence).or_else(|| of_pareto(evidence)).or_else(|| of_search(evidence));
    let Some((tried, names)) = found.filter(|(tried, _)| tried.len() > 1) else { return Ok(None) };
    let scale = if names.unit == "%" { 100.0 } else { 1.0 };
    let mut sheet = Sheet::new(
        "Trials",
        &["trial", "cost, % of the original", "quality", "goals", "on the front", "why"],
    );
    if let Some(column) = sheet.columns.get_mut(2) {
        *column = (names.quality.to_owned(), names.unit);
    }
    let front = front(&tried);
    for (at, one) in tried.iter().enumerate() {
        let mut name = one.name.clone();
        if one.is_chosen {
            name.push_str(" (chosen)");
        }
        sheet.row([
            Cell::Text(name),
            Cell::Number(100.0 * one.cost, 1),
            Cell::Number(scale * one.quality, if scale > 1.0 { 2 } else { 5 }),
            Cell::text(if one.is_eligible { "met" } else { "not met" }),
            Cell::text(if front.contains(&at) { "yes" } else { "" }),
            Cell::text(&one.why),
        ]);
    }
    let point = |one: &Tried| (100.0 * one.cost, scale * one.quality);
    let marks = |name: &str, class: usize, mark: Mark, of: &dyn Fn(&Tried) -> bool| {
        let points = tried.iter().filter(|one| of(one)).map(|one| {
            let title = format!(
                "{}: {:.2}{} at {:.1}%",
                one.name,
                scale * one.quality,
                names.unit,
                100.0 * one.cost
            );
            (point(one), title)
        });
        Series::marks(name, class, mark, points.collect())
    };
    let mut steps: Vec<(f64, f64)> = front.iter().map(|&at| point(&tried[at])).collect();
    steps.sort_by(|a, b| a.0.total_cmp(&b.0));
    let series = [
        Series::line("front", 1, steps).styled(Style::Steps),
        marks("trials", 1, Mark::Dot, &|one| one.is_eligible && !one.is_baseline),
        marks("not eligible", 7, Mark::Cross, &|one| !one.is_eligible && !one.is_baseline),
        marks("baselines", 2, Mark::Triangle, &|one| one.is_baseline),
        marks("chosen", 1, Mark::Ring, &|one| one.is_chosen),
    ];
    let x = Axis::from_zero(tried.iter().map(|one| 100.0 * one.cost)).unit("%");
    let y = Axis::over(tried.iter().map(|one| scale * one.quality)).unit(names.unit);
    let figure = Figure {
        is_small: false,
        svg: plot(
            &series,
            (&x, names.cost),
            (&y, names.quality),
            &[],
            260.0,
            "Quality over cost of all trials",
        ),
        legend: vec![
            ("dot f1", "meets the goals".into()),
            ("cross f7", "does not".into()),
            ("triangle f2", "simple baselines".into()),
            ("ring ", "chosen".into()),
            ("s1", "front".into()),
        ],
        caption: format!(
            "{} over {}. The line joins what meets the goals and is not beaten in both by \
             anything that does.",
            capital(names.quality),
            names.cost
        ),
        sheet,
    };
    Ok(Some(Part {
        lead: baselines(&tried, scale, names.unit),
        blocks: vec![Block::Figure(figure)],
    }))
}

/// The chosen one beside the simple ones, in words.
fn baselines(tried: &[Tried], scale: f64, unit: &str) -> Vec<String> {
    let Some(chosen) = tried.iter().find(|one| one.is_chosen) else { return Vec::new() };
    let say = |one: &Tried| {
        format!(
            "{} {:.2}{unit} at {:.1}% of the cost",
            one.name,
            scale * one.quality,
            100.0 * one.cost
        )
    };
    let others: Vec<String> = tried.iter().filter(|one| one.is_baseline).map(say).collect();
    match others.is_empty() {
        true => vec![format!("Chosen: {}.", say(chosen))],
        false => vec![format!("Chosen: {}. To compare: {}.", say(chosen), others.join("; "))],
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// Places of those that could be the result and that no other such beats in cost and quality.
fn front(tried: &[Tried]) -> Vec<usize> {
    let beats = |a: &Tried, b: &Tried| {
        a.cost <= b.cost && a.quality >= b.quality && (a.cost < b.cost || a.quality > b.quality)
    };
    let is_best =
        |at: &usize| !tried.iter().any(|other| other.is_eligible && beats(other, &tried[*at]));
    (0..tried.len()).filter(|at| tried[*at].is_eligible).filter(is_best).collect()
}

fn ratio(pair: &Value) -> Option<f64> {
    Some(pair[1].as_f64()? / pair[0].as_f64()?.max(f64::MIN_POSITIVE))
}

/// Trials of `kerf compress`.
fn of_compress(evidence: &Evidence) -> Option<(Vec<Tried>, Names)> {
    let all = evidence.trials();
    let settings = evidence.outer().map(|outer| &outer.value["settings"]);
    let wants = |key: &str| settings.is_some_and(|settings| !settings[key].is_null());
    let by_time = wants("latency") || wants("max_latency");
    let key = match by_time
        && all.iter().any(|trial| ratio(&trial["measured"]["latency_us"]).is_some())
    {
        true => "latency_us",
        false => "file_bytes",
    };
    let has_labels = all.iter().any(|trial| trial["measured"]["accuracy"].is_array());
    let mut tried = vec![Tried {
        name: "original".to_owned(),
        cost: 1.0,
        quality: all
            .iter()
            .find_map(|trial| trial["measured"]["accuracy"][0].as_f64())
            .unwrap_or(1.0),
        is_eligible: true,
        is_baseline: true,
        is_chosen: false,
        why: String::new(),
    }];
    for trial in &all {
        let measured = &trial["measured"];
        let after = measured["accuracy"][1].as_f64();
        let quality = after.or_else(|| trials::lost(trial).map(|lost| 1.0 - lost));
        let (Some(cost), Some(quality), Some(name)) =
            (ratio(&measured[key]), quality, trials::name(trial))
        else {
            continue;
        };
        tried.push(Tried {
            is_chosen: evidence.best.as_ref() == Some(&name),
            is_baseline: false,
            is_eligible: trials::meets(trial),
            why: text(trial, "why").to_owned(),
            name: if trial["variant"]["keep"].is_null() { format!("uniform {name}") } else { name },
            cost,
            quality,
        });
    }
    let names = Names {
        cost: if key == "latency_us" {
            "latency, share of the original's"
        } else {
            "size, share of the original's"
        },
        quality: if has_labels { "top-1 accuracy" } else { "top-1 agreement" },
        unit: "%",
    };
    (tried.len() > 1).then_some((tried, names))
}

/// Points of `kerf pareto`.
fn of_pareto(evidence: &Evidence) -> Option<(Vec<Tried>, Names)> {
    let (_, points) = evidence.results("points").next()?;
    let mut tried = Vec::new();
    let mut quality_name = "cosine";
    for point in points.as_array()? {
        let output = list(&point["comparison"], "outputs").first()?;
        let top1 = &output["top1"];
        let (name, original, quality) = match top1["candidate_accuracy"].as_f64() {
            Some(after) => ("top-1 accuracy", top1["reference_accuracy"].as_f64()?, after),
            None => match top1["agreement"].as_f64() {
                Some(same) => ("top-1 agreement", 1.0, same),
                None => ("cosine with the original", 1.0, output["cosine"].as_f64()?),
            },
        };
        quality_name = name;
        let one = |name: String, cost: f64, quality: f64, is_baseline: bool| Tried {
            name,
            cost,
            quality,
            is_eligible: true,
            is_baseline,
            is_chosen: false,
            why: String::new(),
        };
        if tried.is_empty() {
            tried.push(one("original".to_owned(), 1.0, original, true));
        }
        let share = point["share"].as_f64()?;
        tried.push(one(format!("keep {:.1}%", 100.0 * share), share, quality, false));
    }
    Some((tried, Names { cost: "share kept", quality: quality_name, unit: "%" }))
}

/// Allocations that `kerf search` judged.
fn of_search(evidence: &Evidence) -> Option<(Vec<Tried>, Names)> {
    let (document, judged) = evidence.results("judged").next()?;
    let full = document.value["result"]["full"].as_f64()?;
    let has_scores =
        list(&document.value["result"], "judged").iter().all(|one| one["score"].is_object());
    let mut tried = Vec::new();
    for one in judged.as_array()? {
        let share = |score: &Value| Some(score["right"].as_f64()? / score["of"].as_f64()?.max(1.0));
        let quality = match has_scores {
            true => share(&one["score"])?,
            // Less divergence is better.
            false => -one["divergence"].as_f64()?,
        };
        tried.push(Tried {
            name: text(one, "name").to_owned(),
            cost: one["cost"].as_f64()? / full.max(f64::MIN_POSITIVE),
            quality,
            is_eligible: one["fits"].as_bool()?,
            is_baseline: one["baseline"].as_bool().unwrap_or(false),
            is_chosen: one["chosen"].as_bool().unwrap_or(false),
            why: String::new(),
        });
    }
    let (quality, unit) = match has_scores {
        true => ("top-1 accuracy, simulated", "%"),
        false => ("divergence from the floats in nats, upside down", ""),
    };
    Some((tried, Names { cost: "cost on the device, share of 8 bits", quality, unit }))
}
