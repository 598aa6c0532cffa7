//! Operators: one file per family, one line per family in `FAMILIES`.
//!
//! Each operator states in its one file what its outputs look like, how it is evaluated, how
//! channel labels pass through it, which size constants follow a cut, and what it costs.

mod arithmetic;
mod binary;
mod broadcast;
mod constant;
mod context;
mod conv;
mod conv_transpose;
mod conv_weight;
mod differentiate;
mod elementwise;
mod fusing;
mod gemm;
mod join;
mod matmul;
mod norm;
mod operand;
mod pad;
mod passing;
mod pointwise;
mod pool;
mod prepared_sparse;
mod quantize;
mod real;
mod rearrange;
mod reduce;
mod regroup;
mod resample;
mod resize;
mod row_norm;
mod shape;
mod sizes;
mod slice;
mod softmax;
mod unary;
mod window;

pub use context::{Inputs, NodeCx};
pub use differentiate::{Differentiated, Following, Pullback};
pub use fusing::{Follower, Fusing};
pub use prepared_sparse::PreparedSparse;

use crate::calibrate::LinearMap;
use crate::channels::{CutCx, Flow};
use crate::cost::NodeCost;
use crate::graph::Graph;
use crate::kernels::Precision;
use crate::rewrite::Edit;
use crate::run::{Array, Fact, Training};
use crate::{Error, NodeId, Result};
use std::any::Any;
use std::sync::Arc;

/// State that an operator computes once per session from its constant inputs, such as packed weights.
pub type Prepared = Arc<dyn Any + Send + Sync>;

/// What Kerf knows about one operator.
///
/// Partial support is fine, but whatever is not handled must be an error
/// ([`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported)), never a guess.
pub trait Operator: Send + Sync {
    /// Type and shape of each output.
    ///
    /// # Errors
    /// When shapes or attributes are invalid, or this version does not handle them.
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>>;

    /// Computes the outputs.
    ///
    /// # Errors
    /// As [`infer`](Self::infer).
    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>>;

    /// Computes the outputs by candle's own operations, on the device where the float inputs are;
    /// `None` when there is no such way, so that the CPU has to do it. Integers and booleans are
    /// on the CPU in either case. `training` is there in a training step.
    ///
    /// # Errors
    /// As [`eval`](Self::eval).
    fn portable(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        _training: Option<&mut Training>,
    ) -> Result<Option<Vec<Array>>> {
        match self.eval_is_portable() {
            true => self.eval(cx, inputs).map(Some),
            false => Ok(None),
        }
    }

    /// Does [`eval`](Self::eval) itself use candle's own operations only?
    fn eval_is_portable(&self) -> bool {
        false
    }

    /// Computes the outputs in training, for operators that differ there from inference.
    ///
    /// # Errors
    /// As [`eval`](Self::eval).
    fn train(
        &self,
        cx: &NodeCx,
        inputs: &Inputs<Array>,
        _training: &mut Training,
    ) -> Result<Vec<Array>> {
        self.eval(cx, inputs)
    }

    /// Computes the only output in training together with the way back of its gradient, and with
    /// what follows; `None` when the operator leaves gradients to candle, or does not take along
    /// what follows.
    ///
    /// `wanted` says for each input, and last for the residual, whether a gradient is wanted.
    ///
    /// # Errors
    /// As [`eval`](Self::eval).
    fn differentiate(
        &self,
        _cx: &NodeCx,
        _inputs: &Inputs<Array>,
        _wanted: &[bool],
        _following: &Following,
        _training: &mut Training,
    ) -> Result<Option<Differentiated>> {
        Ok(None)
    }

    /// Are products of a training step on the CPU computed in a precision below `f32`?
    ///
    /// # Errors
    /// As [`infer`](Self::infer).
    fn reduces(&self, _cx: &NodeCx, _inputs: &Inputs<Fact>, _to: Precision) -> Result<bool> {
        Ok(false)
    }

    /// Does [`differentiate`](Self::differentiate) take along a residual and a clamp?
    fn leads_in_training(&self) -> bool {
        false
    }

    /// Are the outputs constant around almost all inputs, as positions and shapes are? Then there is
    /// no gradient to lose. Boolean outputs are always so.
    fn is_flat(&self) -> bool {
        false
    }

    /// Precomputes from the inputs that are constant; `eval` finds it in [`NodeCx::prepared`].
    ///
    /// # Errors
    /// As [`eval`](Self::eval).
    fn prepare(&self, _cx: &NodeCx, _constants: &Inputs<Array>) -> Result<Option<Prepared>> {
        Ok(None)
    }

    /// As [`prepare`](Self::prepare), without the zeros of a constant weight; `None` where that
    /// would not be faster.
    ///
    /// # Errors
    /// As [`eval`](Self::eval).
    fn prepare_sparse(
        &self,
        _cx: &NodeCx,
        _constants: &Inputs<Array>,
    ) -> Result<Option<PreparedSparse>> {
        Ok(None)
    }

    /// The operator as one that applies what follows it, if it can.
    fn fusing(&self) -> Option<&dyn Fusing> {
        None
    }

    /// What the node does when it follows an operator that can apply it; `constants` are the
    /// inputs that are known.
    fn follower(&self, _cx: &NodeCx, _constants: &Inputs<Array>) -> Option<Follower> {
        None
    }

    /// How channel labels pass from inputs to outputs. The default freezes all of them.
    ///
    /// # Errors
    /// Only for invalid graphs; what cannot be proven safe is frozen, not refused.
    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        flow.barrier(format!("{} is not understood by the channel analysis", cx.node.op));
        Ok(())
    }

    /// Edits to size constants and attributes of this node that a cut implies.
    ///
    /// # Errors
    /// When the cut cannot be expressed, which [`channels`](Self::channels) should have frozen.
    fn follow_cut(&self, _cx: &NodeCx, _cut: &CutCx) -> Result<Vec<Edit>> {
        Ok(Vec::new())
    }

    /// The node as a linear map of its data input's rows by a constant weight, for operators that
    /// contract channels.
    ///
    /// # Errors
    /// When attributes are invalid or the map cannot be read row by row.
    fn linear(&self, _cx: &NodeCx, _inputs: &Inputs<Fact>) -> Result<Option<Box<dyn LinearMap>>> {
        Ok(None)
    }

    /// Multiply-accumulates of the node; the default is an elementwise operator, which has none.
    fn cost(&self, _cx: &NodeCx, _inputs: &Inputs<Fact>, _outputs: &[Fact]) -> NodeCost {
        NodeCost::default()
    }
}

/// One registered operator: its ONNX name and its implementation.
pub type Entry = (&'static str, &'static dyn Operator);

/// All operator families.
const FAMILIES: &[&[Entry]] = &[
    binary::OPERATORS,
    constant::OPERATORS,
    conv::OPERATORS,
    conv_transpose::OPERATORS,
    gemm::OPERATORS,
    join::OPERATORS,
    matmul::OPERATORS,
    norm::OPERATORS,
    pad::OPERATORS,
    pointwise::OPERATORS,
    quantize::OPERATORS,
    rearrange::OPERATORS,
    pool::OPERATORS,
    reduce::OPERATORS,
    resize::OPERATORS,
    row_norm::OPERATORS,
    shape::OPERATORS,
    slice::OPERATORS,
    softmax::OPERATORS,
    unary::OPERATORS,
];

/// The implementation of an operator of the default domain.
pub fn lookup(domain: &str, op: &str) -> Option<&'static dyn Operator> {
    if !domain.is_empty() && domain != "ai.onnx" {
        return None;
    }
    FAMILIES.iter().copied().flatten().find(|(name, _)| *name == op).map(|(_, operator)| *operator)
}

/// Names of all operators, sorted.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = FAMILIES.iter().copied().flatten().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names
}

/// The implementation for a node.
///
/// # Errors
/// `E0110` when the operator is unknown.
pub fn for_node(graph: &Graph, id: NodeId) -> Result<&'static dyn Operator> {
    let node = graph.node(id);
    lookup(&node.domain, &node.op).ok_or_else(|| {
        let domain = if node.domain.is_empty() { "" } else { " of another domain" };
        Error::unsupported(format!("operator {}{domain} is not implemented", node.op))
            .code_is("E0110")
            .in_node(graph.describe(id))
            .hint("`kerf check MODEL` lists every such node")
    })
}
