//! What happened to each layer.

use crate::table::Table;
use crate::units;
use lasso_prune::{FrozenReport, LayerReport, PruneReport, RoundingReport};
use tensor_core::text::counted;

/// The layers in execution order, the frozen groups, and how often the baselines were worse.
pub(crate) fn layers(report: &PruneReport) -> String {
    let mut table = Table::new(&[
        "layer",
        "op",
        "reads",
        ">input channels",
        ">error",
        ">first-k",
        ">max-response",
        ">held out",
    ]);
    for layer in &report.layers {
        table.row([
            layer.key.clone(),
            layer.op.clone(),
            groups(report, layer),
            channels(layer),
            units::percent_fine(layer.error),
            layer.first_k_error.map_or("-".to_owned(), units::percent_fine),
            layer.max_response_error.map_or("-".to_owned(), units::percent_fine),
            units::percent_fine(layer.held_out_error),
        ]);
    }
    let mut text = table.render();
    text.push_str(
        "reads: the group that the layer's input channels belong to (`kerf groups`)\n\
         error: squared error of the layer's response after least squares, relative to its variance \
         (to its mean square,\nwhere the layer has no bias that could hold the mean); the \
         baselines at the same widths\nheld out: fitted on half of the samples, judged on the \
         other half\n",
    );
    text.push_str(&beaten(report));
    text.push_str(&rounding(report.rounding.as_ref()));
    if report.folded_batch_norms > 0 {
        let nodes = counted(report.folded_batch_norms, "BatchNormalization node");
        text.push_str(&format!("folded {nodes}\n"));
    }
    text.push_str(&frozen(&report.frozen));
    text
}

/// What rounding the channel counts costs.
pub(crate) fn rounding(report: Option<&RoundingReport>) -> String {
    report.map_or_else(String::new, |rounding| {
        let mut text = format!(
            "rounded to multiples of {}: predicted error {}, without rounding {}\n",
            rounding.to,
            units::percent_fine(rounding.error),
            units::percent_fine(rounding.unrounded_error)
        );
        for trial in rounding.tried.iter().filter(|trial| trial.error != rounding.error) {
            text.push_str(&format!(
                "  multiples of {} instead: predicted error {}, {} of the MACs on whole blocks\n",
                trial.to,
                units::percent_fine(trial.error),
                units::percent(trial.blocked_macs)
            ));
        }
        text
    })
}

/// The groups that were left alone, with the reasons.
pub(crate) fn frozen(groups: &[FrozenReport]) -> String {
    let line = |group: &FrozenReport| {
        let channels = counted(group.channels, "channel");
        format!("frozen  {} {} ({channels}): {}\n", group.id, group.name, group.reason)
    };
    groups.iter().map(line).collect()
}

/// The groups that a layer reads, apart from frozen ones.
fn groups(report: &PruneReport, layer: &LayerReport) -> String {
    let read = report.sets.iter().filter(|set| set.readers.contains(&layer.key));
    read.map(|set| set.id.as_str()).collect::<Vec<_>>().join(" ")
}

/// In how many of the narrowed layers the baselines are worse.
fn beaten(report: &PruneReport) -> String {
    let narrowed = report
        .layers
        .iter()
        .filter_map(|layer| Some((layer.error, layer.first_k_error?, layer.max_response_error?)));
    let errors: Vec<_> = narrowed.collect();
    // What the table shows as equal counts as equal: layers that fit their samples have rounding
    // errors only.
    let is_lower = |own: f64, other: f64| {
        own < other && units::percent_fine(own) != units::percent_fine(other)
    };
    let first = errors.iter().filter(|(own, first, _)| is_lower(*own, *first)).count();
    let most = errors.iter().filter(|(own, _, most)| is_lower(*own, *most)).count();
    let total = errors.len();
    if total == 0 {
        return "no layer lost input channels\n".to_owned();
    }
    let layers = counted(total, "narrowed layer");
    format!("lower error than first-k in {first} of {layers}, than max-response in {most}\n")
}

fn channels(layer: &LayerReport) -> String {
    format!("{} -> {}", layer.channels_before, layer.channels_after)
}
