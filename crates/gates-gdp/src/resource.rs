//! What a network costs as a function of the numbers of open gates.

use tensor_core::cost::{WidthAxis, WidthCost, WidthTerm};
use tensor_core::{Error, Result};

/// How many channels one side of a layer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A number that does not change.
    Fixed(usize),
    /// The open gates of a list, by its index.
    Gated(usize),
}

/// A resource over the numbers of open gates, such as multiply-accumulates
///
/// ```text
/// R = sum over layers of c * n_in * n_out,   c = H_out W_out kh kw
/// ```
///
/// bilinear in the numbers of the lists on both sides of each layer. Depthwise layers have one side.
///
/// ```
/// use gates_gdp::{Resource, Side};
///
/// // 1 -> 8 -> 16 -> 10 channels: 3x3 convolutions over 28 x 28 and 14 x 14, then a linear layer.
/// let resource = Resource::new(&[8, 16])
///     .layer(28 * 28 * 9, &[Side::Fixed(1), Side::Gated(0)])?
///     .layer(14 * 14 * 9, &[Side::Gated(0), Side::Gated(1)])?
///     .layer(1, &[Side::Gated(1), Side::Fixed(10)])?;
/// assert_eq!(resource.at(&[8, 16]), 56448.0 + 225792.0 + 160.0);
/// assert_eq!(resource.share(&[8, 16]), 1.0);
/// # Ok::<(), tensor_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Resource {
    cost: WidthCost,
    terms: Vec<WidthTerm>,
    full: Vec<usize>,
    total: f64,
}

impl Resource {
    /// Of lists of gates with so many channels, without layers.
    pub fn new(widths: &[usize]) -> Self {
        let cost = WidthCost::of_terms(0.0, Vec::new());
        Self { cost, terms: Vec::new(), full: widths.to_vec(), total: 0.0 }
    }

    /// With another layer that costs `each` times the product of its sides.
    ///
    /// # Errors
    /// `E0440` when a side names a list that does not exist.
    pub fn layer(mut self, each: u64, sides: &[Side]) -> Result<Self> {
        let axis = |side: &Side| match *side {
            Side::Fixed(count) => Ok(WidthAxis { base: count as f64, parts: Vec::new() }),
            Side::Gated(list) if list < self.full.len() => {
                Ok(WidthAxis { base: 0.0, parts: vec![(list, 1.0)] })
            }
            Side::Gated(list) => {
                Err(Error::invalid(format!("there is no list {list} of gates")).code_is("E0440"))
            }
        };
        let axes = sides.iter().map(axis).collect::<Result<_>>()?;
        self.terms.push(WidthTerm { coefficient: each as f64, axes, needs: Vec::new() });
        self.cost = WidthCost::of_terms(0.0, self.terms.clone());
        self.total = self.cost.at(&self.full);
        Ok(self)
    }

    /// From a cost over lists with so many channels.
    pub fn of(cost: WidthCost, full: Vec<usize>) -> Self {
        let total = cost.at(&full);
        Self { cost, terms: Vec::new(), full, total }
    }

    /// Channels of each list.
    pub fn full(&self) -> &[usize] {
        &self.full
    }

    /// The resource with these numbers of open gates, one per list.
    pub fn at(&self, open: &[usize]) -> f64 {
        self.cost.at(open)
    }

    /// The same as a share of that with all gates open.
    pub fn share(&self, open: &[usize]) -> f64 {
        if self.total > 0.0 { self.at(open) / self.total } else { 0.0 }
    }

    /// The coefficient of the L1 norm of one list in the alternating relaxation: the numbers of the
    /// other lists are frozen, its own is relaxed,
    ///
    /// ```text
    /// A_u = (sum over layers that read u of c n_out + sum over layers that make u of c n_in) / R_full
    /// ```
    ///
    /// the share of the resource that one of its channels costs.
    pub fn relaxation(&self, open: &[usize], list: usize) -> f64 {
        if self.total > 0.0 { self.cost.slope(open, list) / self.total } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// A chain with a depthwise layer and one that reads and makes the same stream.
    #[test]
    fn coefficients_by_hand() {
        let resource = Resource::new(&[4, 6])
            .layer(10, &[Side::Fixed(3), Side::Gated(0)])
            .and_then(|r| r.layer(2, &[Side::Gated(0), Side::Gated(1)]))
            .and_then(|r| r.layer(5, &[Side::Gated(1)]))
            .and_then(|r| r.layer(1, &[Side::Gated(0), Side::Gated(0)]))
            .unwrap();
        let full = 10.0 * 12.0 + 2.0 * 24.0 + 5.0 * 6.0 + 16.0;
        assert_eq!(resource.at(&[4, 6]), full);
        assert_eq!(resource.at(&[2, 3]), 60.0 + 12.0 + 15.0 + 4.0);
        let close = |a: f64, b: f64| assert!((a - b / full).abs() < 1e-12, "{a} {}", b / full);
        close(resource.relaxation(&[2, 3], 0), 30.0 + 6.0 + 4.0);
        close(resource.relaxation(&[2, 3], 1), 4.0 + 5.0);
        assert!(Resource::new(&[1]).layer(1, &[Side::Gated(1)]).is_err());
    }
}
