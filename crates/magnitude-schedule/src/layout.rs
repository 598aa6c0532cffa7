//! A weight seen as rows of inputs.

use tensor_core::{Error, Result};

/// What the axes of a weight are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// `[outputs, inputs per group, kernel...]`: `Conv`, a `Gemm` with `transB`, candle's `Linear`.
    #[default]
    OutputsFirst,
    /// The same of a `Conv` with several groups, each with its share of the outputs.
    GroupedOutputsFirst {
        /// Groups of outputs.
        groups: usize,
    },
    /// `[inputs, outputs per group, kernel...]`: `MatMul` and a plain `Gemm` with one group,
    /// `ConvTranspose`.
    InputsFirst {
        /// Groups of inputs.
        groups: usize,
    },
}

/// The rows and columns of a weight: one row per output; along a row tap after tap of the kernel,
/// and for each tap the inputs side by side.
///
/// The inputs are innermost because they are what hardware takes together: a `1x4` block or a 2:4
/// group holds the same tap of four inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    layout: Layout,
    groups: usize,
    outputs: usize,
    inputs: usize,
    taps: usize,
}

impl Layout {
    /// The grid of a weight of that shape.
    ///
    /// # Errors
    /// `E0432` when there are fewer than two axes or an axis is not divisible by the groups, or more
    /// than 2^32 weights.
    pub fn grid(self, dims: &[usize]) -> Result<Grid> {
        let refused = |why: &str| {
            let message = format!("a weight of shape {dims:?} {why}");
            Err(Error::unsupported(message).code_is("E0432"))
        };
        let &[first, second, ref kernel @ ..] = dims else {
            return refused("has no inputs and outputs");
        };
        let count = dims.iter().try_fold(1_usize, |product, &d| product.checked_mul(d));
        if count.is_none_or(|count| u32::try_from(count).is_err()) {
            return refused("is too large");
        }
        let taps = kernel.iter().product();
        let groups = match self {
            Self::OutputsFirst => 1,
            Self::GroupedOutputsFirst { groups } | Self::InputsFirst { groups } => groups,
        };
        if groups == 0 || first % groups != 0 {
            return refused(&format!("does not have {groups} groups"));
        }
        let (outputs, inputs) = match self {
            Self::OutputsFirst | Self::GroupedOutputsFirst { .. } => (first, second),
            Self::InputsFirst { .. } => (second * groups, first / groups),
        };
        Ok(Grid { layout: self, groups, outputs, inputs, taps })
    }
}

impl Grid {
    /// Number of rows: outputs.
    pub fn rows(&self) -> usize {
        self.outputs
    }

    /// Groups of rows that see other inputs than the rest; blocks lie within one.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Number of columns: taps times inputs.
    pub fn columns(&self) -> usize {
        self.taps * self.inputs
    }

    /// Columns of one tap, within which groups and blocks lie.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Number of taps of the kernel.
    pub fn taps(&self) -> usize {
        self.taps
    }

    /// Number of weights.
    pub fn count(&self) -> usize {
        self.rows() * self.columns()
    }

    /// Where a weight lies in the row-major tensor.
    pub fn place(&self, row: usize, column: usize) -> usize {
        let (tap, input) = (column / self.inputs, column % self.inputs);
        match self.layout {
            Layout::OutputsFirst | Layout::GroupedOutputsFirst { .. } => {
                (row * self.inputs + input) * self.taps + tap
            }
            Layout::InputsFirst { groups } => {
                let per_group = self.outputs / groups;
                let (group, output) = (row / per_group, row % per_group);
                ((group * self.inputs + input) * per_group + output) * self.taps + tap
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn row(grid: &Grid, row: usize) -> Vec<usize> {
        (0..grid.columns()).map(|column| grid.place(row, column)).collect()
    }

    #[test]
    fn inputs_are_innermost() {
        // [outputs 2, inputs 3, kernel 1x2]
        let grid = Layout::OutputsFirst.grid(&[2, 3, 1, 2]).unwrap();
        assert_eq!(row(&grid, 0), [0, 2, 4, 1, 3, 5]);
        assert_eq!(row(&grid, 1), [6, 8, 10, 7, 9, 11]);
        let grid = Layout::InputsFirst { groups: 1 }.grid(&[3, 2]).unwrap();
        assert_eq!((row(&grid, 0), row(&grid, 1)), (vec![0, 2, 4], vec![1, 3, 5]));
        // Two groups of two inputs and one output each.
        let grid = Layout::InputsFirst { groups: 2 }.grid(&[4, 1, 1]).unwrap();
        assert_eq!((grid.rows(), row(&grid, 0), row(&grid, 1)), (2, vec![0, 1], vec![2, 3]));
    }

    #[test]
    fn every_weight_has_one_place() {
        for (layout, dims) in [
            (Layout::OutputsFirst, vec![4, 3, 3, 2]),
            (Layout::GroupedOutputsFirst { groups: 2 }, vec![4, 3, 3, 2]),
            (Layout::InputsFirst { groups: 3 }, vec![6, 2, 2, 2]),
        ] {
            let grid = layout.grid(&dims).unwrap();
            let mut places: Vec<_> = (0..grid.rows()).flat_map(|r| row(&grid, r)).collect();
            places.sort_unstable();
            assert_eq!(places, (0..grid.count()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn wrong_shapes_are_refused() {
        assert!(Layout::OutputsFirst.grid(&[4]).is_err());
        assert!(Layout::InputsFirst { groups: 4 }.grid(&[6, 1]).is_err());
        assert!(Layout::GroupedOutputsFirst { groups: 4 }.grid(&[6, 1]).is_err());
        assert!(Layout::GroupedOutputsFirst { groups: 0 }.grid(&[6, 1]).is_err());
        assert!(Layout::OutputsFirst.grid(&[usize::MAX, 2]).is_err());
    }
}
