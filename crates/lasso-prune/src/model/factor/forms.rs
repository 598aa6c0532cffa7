//! The forms that a convolution may take, and what each costs.

use crate::Spatial;
use serde::Serialize;
use tensor_core::Result;
use tensor_core::cost::hardware::LayerShape;
use tensor_core::cost::{Price, Resource, layer_latency};

/// What stands in the place of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// The convolution.
    Whole,
    /// A vertical one of so many outputs, and a horizontal one.
    Spatial {
        /// Outputs of the vertical convolution.
        rank: usize,
    },
    /// One of so many outputs, and a `1 x 1` one.
    Channel {
        /// Outputs of the narrow convolution.
        rank: usize,
    },
    /// A vertical one, a horizontal one of fewer outputs, and a `1 x 1` one.
    Both {
        /// Outputs of the vertical convolution.
        spatial: usize,
        /// Outputs of the horizontal one.
        channel: usize,
    },
}

impl Form {
    /// The convolutions of the form, in order.
    pub(super) fn layers(self, shape: &LayerShape) -> Vec<LayerShape> {
        let [kh, kw] = shape.kernel;
        let vertical = |rank: usize| LayerShape {
            kernel: [kh, 1],
            stride: [shape.stride[0], 1],
            cout: rank,
            out_w: shape.w,
            ..shape.clone()
        };
        let horizontal = |rank: usize, cout: usize| LayerShape {
            kernel: [1, kw],
            stride: [1, shape.stride[1]],
            cin: rank,
            h: shape.out_h,
            cout,
            ..shape.clone()
        };
        let mixture = |rank: usize| LayerShape {
            kernel: [1, 1],
            stride: [1, 1],
            cin: rank,
            h: shape.out_h,
            w: shape.out_w,
            ..shape.clone()
        };
        match self {
            Self::Whole => vec![shape.clone()],
            Self::Spatial { rank } => vec![vertical(rank), horizontal(rank, shape.cout)],
            Self::Channel { rank } => {
                vec![LayerShape { cout: rank, ..shape.clone() }, mixture(rank)]
            }
            Self::Both { spatial, channel } => {
                vec![vertical(spatial), horizontal(spatial, channel), mixture(channel)]
            }
        }
    }

    /// For people, such as `3x1 of 24, 1x3`.
    pub(super) fn describe(self, [kh, kw]: [usize; 2]) -> String {
        match self {
            Self::Whole => format!("{kh}x{kw}"),
            Self::Spatial { rank } => format!("{kh}x1 of {rank}, 1x{kw}"),
            Self::Channel { rank } => format!("{kh}x{kw} of {rank}, 1x1"),
            Self::Both { spatial, channel } => {
                format!("{kh}x1 of {spatial}, 1x{kw} of {channel}, 1x1")
            }
        }
    }

    /// What a convolution costs in this form: multiply-accumulates of one sample, parameters, bytes, or
    /// microseconds. Only the last of the convolutions has a bias, as the whole one may have.
    ///
    /// # Errors
    /// When a device has no latency for it.
    pub(super) fn cost(self, shape: &LayerShape, price: &Price) -> Result<f64> {
        self.layers(shape)
            .iter()
            .map(|layer| match price {
                Price::Count(Resource::Macs) => Ok(layer.macs() as f64),
                Price::Count(Resource::Parameters) => Ok(layer.weights() as f64),
                Price::Count(Resource::Bytes) => Ok(4.0 * layer.weights() as f64),
                Price::Latency(device) => layer_latency(&**device, layer),
            })
            .sum()
    }

    /// All forms that are worth a look and cheaper than the whole, of the kinds that are allowed. A
    /// horizontal convolution and its mixture are one where that is cheaper (`combineHP` of the
    /// authors' code): that is the spatial form.
    pub(super) fn candidates(
        shape: &LayerShape,
        (spatial, channel): (bool, bool),
        price: &Price,
    ) -> Result<Vec<(Self, f64)>> {
        /// Ranks of each kind that are tried.
        const RANKS: usize = 24;
        const RANKS_OF_BOTH: usize = 6;
        let [kh, kw] = shape.kernel;
        let is_spatial = spatial && kh > 1 && kw > 1;
        let most_spatial = Spatial::full_rank([shape.cout, shape.cin, kh, kw]);
        let most_channel = shape.cout.min(shape.cin * kh * kw);
        let spread = |most: usize, count: usize| {
            let mut ranks: Vec<usize> = (1..=count).map(|i| (most * i / count).max(1)).collect();
            ranks.dedup();
            ranks
        };
        let mut forms = Vec::new();
        if is_spatial {
            let ranks = spread(most_spatial, RANKS);
            forms.extend(ranks.into_iter().map(|rank| Self::Spatial { rank }));
        }
        if channel {
            let ranks = spread(most_channel, RANKS);
            forms.extend(ranks.into_iter().map(|rank| Self::Channel { rank }));
        }
        if is_spatial && channel {
            for spatial in spread(most_spatial, 2 * RANKS_OF_BOTH) {
                let mixed = spread(most_channel, RANKS_OF_BOTH).into_iter();
                forms.extend(mixed.map(|channel| Self::Both { spatial, channel }));
            }
        }
        let whole = Self::Whole.cost(shape, price)?;
        let mut cheaper = Vec::new();
        for form in forms {
            let cost = form.cost(shape, price)?;
            let merged = match form {
                Self::Both { spatial, .. } => Self::Spatial { rank: spatial }.cost(shape, price)?,
                _ => f64::INFINITY,
            };
            if cost < whole && cost < merged {
                cheaper.push((form, cost));
            }
        }
        Ok(cheaper)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use tensor_core::cost::hardware::LayerKind;

    fn shape() -> LayerShape {
        LayerShape {
            op: LayerKind::Conv,
            kernel: [3, 3],
            stride: [2, 2],
            groups: 1,
            cin: 8,
            cout: 16,
            h: 14,
            w: 10,
            out_h: 7,
            out_w: 5,
        }
    }

    /// By hand: each convolution's outputs times what one of them sums over.
    #[test]
    fn costs_are_those_of_the_convolutions() {
        let macs = |form: Form| form.cost(&shape(), &Resource::Macs.into()).unwrap();
        assert_eq!(macs(Form::Whole), (16 * 7 * 5 * 8 * 9) as f64);
        let vertical = 4 * 7 * 10 * 8 * 3;
        assert_eq!(macs(Form::Spatial { rank: 4 }), (vertical + 16 * 7 * 5 * 4 * 3) as f64);
        assert_eq!(macs(Form::Channel { rank: 4 }), (4 * 35 * 72 + 16 * 35 * 4) as f64);
        let both = Form::Both { spatial: 4, channel: 5 };
        assert_eq!(macs(both), (vertical + 5 * 35 * 12 + 16 * 35 * 5) as f64);
        let parameters = both.cost(&shape(), &Resource::Parameters.into()).unwrap();
        assert_eq!(parameters, (4 * 24 + 5 * 12 + 16 * 5) as f64);
    }

    #[test]
    fn candidates_are_cheaper_and_merged_where_that_is_cheaper() {
        let price: Price = Resource::Macs.into();
        let whole = Form::Whole.cost(&shape(), &price).unwrap();
        let all = Form::candidates(&shape(), (true, true), &price).unwrap();
        assert!(!all.is_empty() && all.iter().all(|(_, cost)| *cost < whole));
        for (form, _) in &all {
            if let Form::Both { spatial, channel } = *form {
                // The mixture and the horizontal part against one horizontal part.
                assert!(channel * spatial * 3 + 16 * channel < 16 * spatial * 3, "{form:?}");
            }
        }
        let only = |kinds| Form::candidates(&shape(), kinds, &price).unwrap();
        assert!(only((true, false)).iter().all(|(f, _)| matches!(f, Form::Spatial { .. })));
        assert!(only((false, true)).iter().all(|(f, _)| matches!(f, Form::Channel { .. })));
    }
}
