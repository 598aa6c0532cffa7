//! The report in Markdown.

use super::{CROSSED, CROSSED_BITS, Options, Report, Solved};
use quant_mixed::search::Bits;
use std::cmp::Ordering;
use tensor_core::cost::hardware::{Layer, LayerKind};

/// The section of a network.
pub(super) fn report(options: &Options, report: &Report) -> String {
    let Options {
        width,
        side,
        epochs,
        calibration,
        sensitivity,
        validation,
        test,
        episodes,
        reward,
        ..
    } = options;
    let name = &report.name;
    format!(
        "## {name}\n\n\
         Written by `cargo xtask haq --networks {name} --width {width} --side {side} --epochs {epochs} --calibration {calibration} \
         --sensitivity {sensitivity} --validation {validation} --test {test} --episodes {episodes} --reward {reward}`.\n\n\
         {}\n{}\n![Bits per layer](haq_bits_{name}.svg)\n\n![Accuracy over cost](haq_pareto_{name}.svg)\n",
        network(report),
        verdict(report)
    )
}

fn network(report: &Report) -> String {
    let mut text = format!(
        "Float: {:.2} %. Sensitivities: {:.0} s.\n\n\
         | device | budget, as uniform | method | top-1 | cost, of 8 bits | search time |\n|---|---|---|---|---|---|\n",
        report.float, report.sensitivity_seconds
    );
    for Solved { row, full, outcomes, .. } in &report.solved {
        for outcome in outcomes {
            text.push_str(&format!(
                "| {} | {}, {} bits | {} | {:.2} | {:.1} % | {} |\n",
                row.device,
                row.resource,
                row.bits,
                outcome.method,
                outcome.test,
                100.0 * outcome.cost / full,
                time(outcome.seconds)
            ));
        }
    }
    text.push_str(&format!(
        "\nPolicies searched (`exact`) for the latency of uniform {CROSSED_BITS} bits on one device, run on each; latency \
         in per cent of 8 bits\non that device:\n\n| searched for | {} | top-1 |\n|---|{}---|\n",
        CROSSED.join(" | "),
        "---|".repeat(CROSSED.len())
    ));
    for (device, (shares, top1)) in CROSSED.iter().zip(&report.crossed) {
        let shares: Vec<String> =
            shares.iter().map(|share| format!("{:.1}", 100.0 * share)).collect();
        text.push_str(&format!("| {device} | {} | {top1:.2} |\n", shares.join(" | ")));
    }
    text.push_str(
        "\nMean bits of these policies, pinned layers left out:\n\n\
         | searched for | depthwise weights | depthwise activations | other weights | other activations |\n\
         |---|---|---|---|---|\n",
    );
    for (device, policy) in CROSSED.iter().zip(&report.policies) {
        let [dw, da, ow, oa] = means(&report.network.layers, policy);
        text.push_str(&format!("| {device} | {dw:.2} | {da:.2} | {ow:.2} | {oa:.2} |\n"));
    }
    text
}

/// Mean bits of weights and activations, of depthwise layers and of the others; the first and the last
/// layer left out.
fn means(layers: &[Layer], bits: &[Bits]) -> [f64; 4] {
    let mut sums = [[0.0; 3]; 2];
    let last = layers.len().saturating_sub(1);
    for (at, (layer, bits)) in layers.iter().zip(bits).enumerate() {
        if at == 0 || at == last {
            continue;
        }
        let sum = &mut sums[usize::from(layer.shape.op != LayerKind::Depthwise)];
        sum[0] += f64::from(bits.weights);
        sum[1] += f64::from(bits.activations);
        sum[2] += 1.0;
    }
    let [depthwise, other] = sums.map(|[w, a, n]: [f64; 3]| [w / n.max(1.0), a / n.max(1.0)]);
    [depthwise[0], depthwise[1], other[0], other[1]]
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.0} us", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.0} s"),
    }
}

/// Whether mixed bits beat uniform ones, and exact allocation the agent, and in what time.
fn verdict(report: &Report) -> String {
    let of = |solved: &Solved, method: &str| {
        solved.outcomes.iter().find(|o| o.method == method).map(|o| (o.test, o.seconds))
    };
    let pairs = |method: &str, other: &str| -> Vec<_> {
        let pair = |s: &Solved| Some((of(s, method)?, of(s, other)?));
        report.solved.iter().filter_map(pair).collect()
    };
    let mut text = String::new();
    for method in ["greedy", "exact", "ddpg"] {
        let pairs = pairs(method, "uniform");
        let count = |order: Ordering| {
            let is = |((own, _), (uniform, _)): &&((f64, f64), (f64, f64))| own.total_cmp(uniform);
            pairs.iter().filter(|pair| is(pair) == order).count()
        };
        text.push_str(&format!(
            "* `{method}` is more accurate than uniform bits of the same cost in {} of {} rows, as accurate in {}.\n",
            count(Ordering::Greater),
            pairs.len(),
            count(Ordering::Equal)
        ));
    }
    let pairs = pairs("exact", "ddpg");
    let reached = pairs.iter().filter(|((exact, _), (agent, _))| exact >= agent).count();
    let exact: f64 = pairs.iter().map(|((_, seconds), _)| seconds).sum();
    let agent: f64 = pairs.iter().map(|(_, (_, seconds))| seconds).sum();
    text.push_str(&format!(
        "* `exact` reaches the agent's accuracy in {reached} of {} rows. All allocations took {}, or {} with the \
         sensitivities, the agent {}.\n",
        pairs.len(),
        time(exact),
        time(exact + report.sensitivity_seconds),
        time(agent)
    ));
    text
}
