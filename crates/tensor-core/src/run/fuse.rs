//! Which steps of a session run as one.

use super::Array;
use super::session::Step;
use crate::graph::{Graph, Index};
use crate::kernels::Epilogue;
use crate::ops::{Follower, Inputs, NodeCx, Operator};
use crate::{NodeId, ValueId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Steps that run as one, or a single step.
pub(super) struct Stage {
    /// Indices of the steps, in order.
    pub(super) steps: Vec<usize>,
    /// How the first step covers the others; `None` for a single step.
    pub(super) fusion: Option<Fusion>,
    /// Values that no later stage reads.
    pub(super) free: Vec<ValueId>,
}

/// What the first step of a stage does for the others.
#[derive(Default)]
pub(super) struct Fusion {
    /// What is known before the run.
    pub(super) epilogue: Epilogue,
    /// The value that is added.
    pub(super) residual: Option<ValueId>,
}

/// One stage for each step.
pub(super) fn separate(graph: &Graph, steps: &[Step], targets: &[ValueId]) -> Vec<Stage> {
    let single = |step| Stage { steps: vec![step], fusion: None, free: Vec::new() };
    let mut stages: Vec<_> = (0..steps.len()).map(single).collect();
    plan_frees(graph, steps, targets, &mut stages);
    stages
}

/// Stages in which the operators that lead take along what follows them and is read nowhere else.
///
/// A stage stands at the place of its last step, where all its inputs exist.
pub(super) fn fused(
    graph: &Graph,
    steps: &[Step],
    constants: &BTreeMap<ValueId, Array>,
    targets: &[ValueId],
    leads: impl Fn(&dyn Operator) -> bool,
) -> Vec<Stage> {
    let index = Index::new(graph);
    let step_of: BTreeMap<NodeId, usize> =
        steps.iter().enumerate().map(|(i, step)| (step.node, i)).collect();
    let mut taken = vec![false; steps.len()];
    let mut stages: BTreeMap<usize, Stage> = BTreeMap::new();
    for first in 0..steps.len() {
        if taken[first] {
            continue;
        }
        let mut chain = vec![first];
        let mut fusion = Fusion::default();
        if leads(steps[first].operator) {
            let mut last = graph.node(steps[first].node);
            while let [Some(output)] = last.outputs[..]
                && let [(reader, input)] = *index.readers(output)
                && !targets.contains(&output)
                && !graph.outputs.contains(&output)
                && let Some(&step) = step_of.get(&reader)
                && !taken[step]
                && absorb(graph, (&steps[first], &steps[step]), input, constants, &mut fusion)
            {
                chain.push(step);
                last = graph.node(reader);
            }
        }
        for &step in &chain {
            taken[step] = true;
        }
        let place = chain.last().copied().unwrap_or(first);
        let fusion = (chain.len() > 1).then_some(fusion);
        stages.insert(place, Stage { steps: chain, fusion, free: Vec::new() });
    }
    let mut stages: Vec<_> = stages.into_values().collect();
    plan_frees(graph, steps, targets, &mut stages);
    stages
}

/// Adds a step to a fusion if it follows the order of an [`Epilogue`].
fn absorb(
    graph: &Graph,
    (leader, step): (&Step, &Step),
    input: usize,
    constants: &BTreeMap<ValueId, Array>,
    fusion: &mut Fusion,
) -> bool {
    let cx = NodeCx::new(graph, step.node);
    let inputs =
        Inputs::new(cx.node.inputs.iter().map(|v| v.and_then(|v| constants.get(&v))).collect());
    let epilogue = &mut fusion.epilogue;
    let is_closed = epilogue.clamp.is_some() || epilogue.dequantize.is_some();
    if is_closed || cx.node.outputs.len() != 1 {
        return false;
    }
    let follower = step.operator.follower(&cx, &inputs);
    let takes = |follower: &Follower| match leader.operator.fusing() {
        Some(fusing) => fusing.takes(follower),
        None => !matches!(follower, Follower::Dequantize { .. }),
    };
    match follower.filter(takes) {
        Some(Follower::Dequantize { scale, zero }) if input == 0 => {
            epilogue.dequantize = Some((scale, zero));
            true
        }
        Some(Follower::Scale { factors, shifts }) if input == 0 => {
            let free = epilogue.scale.is_none() && fusion.residual.is_none();
            if free {
                epilogue.scale = Some(Arc::new((factors, shifts)));
            }
            free
        }
        Some(Follower::Add) if fusion.residual.is_none() => {
            // A constant is a bias of another shape than the output, as a rule.
            let other = cx.node.input(1 - input).filter(|value| !constants.contains_key(value));
            fusion.residual = other;
            other.is_some()
        }
        Some(Follower::Clamp { low, high }) if input == 0 => {
            epilogue.clamp = Some((low, high));
            true
        }
        _ => false,
    }
}

/// Notes for each stage which values it is the last to touch.
fn plan_frees(graph: &Graph, steps: &[Step], targets: &[ValueId], stages: &mut [Stage]) {
    let mut seen = vec![false; graph.value_count()];
    for target in targets {
        seen[target.index()] = true;
    }
    for stage in stages.iter_mut().rev() {
        for &step in &stage.steps {
            let node = graph.node(steps[step].node);
            for value in node.inputs.iter().chain(&node.outputs).flatten() {
                if !std::mem::replace(&mut seen[value.index()], true) {
                    stage.free.push(*value);
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "tests")]
mod tests {
    use crate::graph::Graph;
    use crate::run::Session;
    use crate::{Constant, Node};

    /// Adds a node whose output has its name.
    fn node(graph: &mut Graph, name: &str, op: &str, inputs: &[&str]) {
        let inputs: Vec<_> = inputs.iter().map(|name| graph.value(name)).collect();
        let output = graph.value(name);
        graph.nodes.push(Node::new(name, op, &inputs, &[output]));
    }

    fn graph() -> Graph {
        let mut graph = Graph::default();
        graph.opsets.insert(String::new(), 17);
        let x = graph.value("x");
        graph.inputs.push(x);
        let w = graph.value("w");
        let weight = Constant::from_f32s(&[2, 2, 1, 1], &[1.0, 2.0, 3.0, 4.0]).expect("four");
        graph.set_initializer(w, weight);
        graph
    }

    /// Numbers of steps of the stages of a fused run.
    fn stages(mut graph: Graph, output: &str) -> Vec<usize> {
        let output = graph.value(output);
        graph.outputs.push(output);
        let session = Session::new(&graph).expect("a valid graph");
        session.stages().iter().map(|stage| stage.steps.len()).collect()
    }

    #[test]
    fn a_chain_is_one_stage_and_stands_at_its_end() {
        let mut g = graph();
        node(&mut g, "a", "Conv", &["x", "w"]);
        node(&mut g, "b", "Tanh", &["x"]);
        node(&mut g, "c", "Add", &["b", "a"]);
        node(&mut g, "d", "Relu", &["c"]);
        assert_eq!(stages(g, "d"), [1, 3]);
    }

    #[test]
    fn a_value_with_two_readers_ends_a_chain() {
        let mut g = graph();
        node(&mut g, "a", "Conv", &["x", "w"]);
        node(&mut g, "b", "Relu", &["a"]);
        node(&mut g, "c", "Add", &["a", "b"]);
        assert_eq!(stages(g, "c"), [1, 1, 1]);
    }

    #[test]
    fn nothing_follows_a_clamp() {
        let mut g = graph();
        node(&mut g, "a", "Conv", &["x", "w"]);
        node(&mut g, "b", "Relu", &["a"]);
        node(&mut g, "c", "Add", &["b", "x"]);
        assert_eq!(stages(g, "c"), [2, 1]);
    }
}
