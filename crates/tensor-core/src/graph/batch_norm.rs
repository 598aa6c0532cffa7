//! Finding normalizations that divide by zero or by the root of a negative number.

use super::{Graph, Index};
use crate::{NodeId, Result};

/// The parameters after the data input, in ONNX's order.
const PARAMETERS: [&str; 4] = ["scale", "bias", "mean", "variance"];

impl Graph {
    /// BatchNormalization nodes whose constant parameters cannot give numbers, with the reason: NaN
    /// or infinity, a negative variance, or a zero variance without an epsilon.
    ///
    /// # Errors
    /// When an attribute has the wrong type.
    pub fn invalid_batch_norms(&self) -> Result<Vec<(NodeId, String)>> {
        let index = Index::new(self);
        let mut found = Vec::new();
        for id in self.node_ids() {
            let node = self.node(id);
            if node.op == "BatchNormalization"
                && node.domain.is_empty()
                && let Some(reason) = self.batch_norm_problem(id, &index)?
            {
                found.push((id, reason));
            }
        }
        Ok(found)
    }

    pub(crate) fn batch_norm_problem(&self, id: NodeId, index: &Index) -> Result<Option<String>> {
        let node = self.node(id);
        let epsilon = f64::from(node.attributes.float("epsilon", 1e-5)?);
        for (i, name) in PARAMETERS.into_iter().enumerate() {
            let constant = node.input(i + 1).and_then(|value| self.constant(value, index));
            let Some(constant) = constant.filter(|constant| constant.element().is_float()) else {
                continue;
            };
            let values = constant.to_f64s()?;
            let is_variance = name == "variance";
            let bad = values.iter().enumerate().find_map(|(channel, &value)| {
                let what = match value {
                    v if !v.is_finite() => format!("{name} {v}"),
                    v if is_variance && v < 0.0 => format!("negative variance {v}"),
                    v if is_variance && v + epsilon <= 0.0 => {
                        format!("variance {v} and epsilon {epsilon}")
                    }
                    _ => return None,
                };
                Some(format!("{what} in channel {channel}"))
            });
            if bad.is_some() {
                return Ok(bad);
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Attribute, Constant, Node};

    fn problem(name: &str, value: f32, epsilon: f32) -> Option<String> {
        let mut graph = Graph::default();
        let x = graph.value("x");
        graph.inputs.push(x);
        let mut inputs = vec![x];
        for parameter in PARAMETERS {
            let last = if parameter == name { value } else { 0.5 };
            let id = graph.value(parameter);
            graph.set_initializer(id, Constant::from_f32s(&[2], &[1.0, last]).expect("two"));
            inputs.push(id);
        }
        let y = graph.value("y");
        let mut node = Node::new("norm", "BatchNormalization", &inputs, &[y]);
        node.attributes.set("epsilon", Attribute::Float(epsilon));
        graph.nodes.push(node);
        let found = graph.invalid_batch_norms().expect("attributes are fine");
        found.into_iter().next().map(|(_, reason)| reason)
    }

    #[test]
    fn what_cannot_give_numbers_is_found() {
        let reason = |name, value, epsilon| problem(name, value, epsilon).unwrap_or_default();
        assert_eq!(reason("variance", -0.25, 1e-5), "negative variance -0.25 in channel 1");
        // Epsilon hides the sign, but no variance is negative.
        assert_eq!(reason("variance", -0.25, 1.0), "negative variance -0.25 in channel 1");
        assert_eq!(reason("variance", 0.0, 0.0), "variance 0 and epsilon 0 in channel 1");
        assert_eq!(reason("scale", f32::NAN, 1e-5), "scale NaN in channel 1");
        assert_eq!(reason("mean", f32::INFINITY, 1e-5), "mean inf in channel 1");
        assert_eq!(problem("variance", 0.0, 1e-5), None);
        assert_eq!(problem("bias", -3.0, 0.0), None);
    }
}
