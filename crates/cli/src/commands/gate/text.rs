//! Gates for people.

use super::result::Counted;
use crate::table::Table;
use crate::units;
use gates_gdp::model::Ungated;
use gates_gdp::train::ListReport;
use tensor_core::text::counted;

/// What is going to be gated.
pub(super) fn plan(goal: &str, lists: &[ListReport], ungated: &[Ungated]) -> String {
    let mut text = format!("\nGoal  {goal}\n\n");
    let mut table = Table::new(&["group", "root", ">gates", "may close", "before"]);
    for report in lists {
        let list = &report.list;
        table.row([
            list.id.clone(),
            list.name.clone(),
            list.channels.to_string(),
            if list.may_close { "yes" } else { "" }.to_owned(),
            readers(&list.readers),
        ]);
    }
    text.push_str(&table.render());
    for group in ungated {
        text.push_str(&format!(
            "no gates  {} `{}` ({}): {}\n",
            group.id,
            group.name,
            counted(group.channels as u64, "channel"),
            group.reason
        ));
    }
    text
}

/// The first layers, and how many more there are.
fn readers(readers: &[String]) -> String {
    match readers {
        [first, second, rest @ ..] if !rest.is_empty() => {
            format!("{first}, {second} and {} more", rest.len())
        }
        readers => readers.join(", "),
    }
}

/// What stayed open.
pub(super) fn lists(goal: &str, resource: &Counted, lists: &[ListReport]) -> String {
    let mut text = format!(
        "gates  {goal}: {} -> {} {} ({})\n\n",
        units::si(resource.original as u64),
        units::si(resource.by_model as u64),
        resource.what,
        units::percent(resource.by_model / resource.original.max(1.0)),
    );
    let mut table = Table::new(&["group", "root", ">channels", ">open", ">smallest factor"]);
    for report in lists {
        let open = report.factors.iter().copied().filter(|factor| *factor > 0.0);
        let smallest = open.fold(f32::INFINITY, f32::min);
        table.row([
            report.list.id.clone(),
            report.list.name.clone(),
            report.list.channels.to_string(),
            report.open.to_string(),
            if report.open > 0 { format!("{smallest:.3}") } else { "-".to_owned() },
        ]);
    }
    text.push_str(&table.render());
    text
}

/// What is gone.
pub(super) fn cut(channels: usize, branches: &[String]) -> String {
    let mut text = format!("cut  {}", counted(channels as u64, "channel"));
    if !branches.is_empty() {
        text.push_str(&format!(", and the branches that ended in {}", branches.join(", ")));
    }
    text.push('\n');
    text
}
