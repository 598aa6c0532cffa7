//! `DepthToSpace`, `SpaceToDepth` and `Tile`.

use super::join::select;
use super::operand::{Operand, count, size};
use super::{Entry, Inputs, NodeCx, Operator};
use crate::channels::{Flow, Label, Labels};
use crate::run::{Array, Fact};
use crate::{Error, Result};
use candle_core::Tensor;

/// The operators of this file.
pub(super) const OPERATORS: &[Entry] =
    &[("DepthToSpace", &DepthToSpace), ("SpaceToDepth", &SpaceToDepth), ("Tile", &Tile)];

/// The dimensions of an image batch and the block size.
fn image(cx: &NodeCx, dims: &[usize]) -> Result<([usize; 4], usize)> {
    let block = size(cx.int("blocksize", 0)?)?;
    match <[usize; 4]>::try_from(dims) {
        // The bound keeps the square of the block size from overflowing.
        Ok(dims) if (1..=1 << 16).contains(&block) => Ok((dims, block)),
        _ => Err(Error::invalid(format!("block size {block} for an input of shape {dims:?}"))),
    }
}

/// Does the block position vary slower than the channel (`DCR`)?
fn block_first(cx: &NodeCx) -> Result<bool> {
    match cx.string("mode", "DCR")? {
        "DCR" => Ok(true),
        "CRD" => Ok(false),
        other => Err(Error::unsupported(format!("attribute `mode` = `{other}`"))),
    }
}

struct DepthToSpace;

impl DepthToSpace {
    fn dims(cx: &NodeCx, from: &[usize]) -> Result<[usize; 4]> {
        let ([n, c, h, w], block) = image(cx, from)?;
        if !c.is_multiple_of(block * block) {
            return Err(Error::invalid(format!("{c} channels do not fill blocks of {block}")));
        }
        let dims = [n, c / (block * block), h.saturating_mul(block), w.saturating_mul(block)];
        count(&dims)?;
        Ok(dims)
    }
}

impl Operator for DepthToSpace {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let x = inputs.required(0)?;
        Ok(vec![Fact::new(x.element, Self::dims(cx, &x.dims)?.to_vec())])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let x = inputs.required(0)?;
        let ([n, _, h, w], block) = image(cx, x.dims())?;
        let dims = Self::dims(cx, x.dims())?;
        let tensor = if block_first(cx)? {
            x.tensor
                .reshape([n, block, block, dims[1], h, w].as_slice())?
                .permute([0, 3, 4, 1, 5, 2])?
        } else {
            x.tensor
                .reshape([n, dims[1], block, block, h, w].as_slice())?
                .permute([0, 1, 4, 2, 5, 3])?
        };
        Ok(vec![Array::new(tensor.reshape(&dims)?, x.element)?])
    }

    /// All channels that end in one output channel are tied.
    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        let labels = flow.input(0);
        for axis in [2, 3] {
            flow.freeze_axis(0, axis, "blocks are laid out along it");
        }
        let outputs = flow.output_dims(0).get(1).copied().unwrap_or(0);
        let mut result: Labels = vec![labels[0].clone(), None, None, None];
        if let Some(list) = &labels[1] {
            let square = list.len() / outputs.max(1);
            let first = block_first(cx)?;
            let part: Vec<Label> = (0..outputs)
                .map(|channel| {
                    let place =
                        |k| if first { k * outputs + channel } else { channel * square + k };
                    let tied: Vec<Label> = (0..square).map(|k| list[place(k)]).collect();
                    flow.tie_together(&tied);
                    tied[0]
                })
                .collect();
            result[1] = Some(part.into());
        }
        flow.set_output(0, result);
        Ok(())
    }
}

struct SpaceToDepth;

impl SpaceToDepth {
    fn dims(cx: &NodeCx, from: &[usize]) -> Result<[usize; 4]> {
        let ([n, c, h, w], block) = image(cx, from)?;
        if !h.is_multiple_of(block) || !w.is_multiple_of(block) {
            return Err(Error::invalid(format!(
                "{h} x {w} does not divide into blocks of {block}"
            )));
        }
        Ok([n, c.saturating_mul(block * block), h / block, w / block])
    }
}

impl Operator for SpaceToDepth {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let x = inputs.required(0)?;
        Ok(vec![Fact::new(x.element, Self::dims(cx, &x.dims)?.to_vec())])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let x = inputs.required(0)?;
        let ([n, c, ..], block) = image(cx, x.dims())?;
        let dims = Self::dims(cx, x.dims())?;
        let split = x.tensor.reshape([n, c, dims[2], block, dims[3], block].as_slice())?;
        let order = if block_first(cx)? { [0, 3, 5, 1, 2, 4] } else { [0, 1, 3, 5, 2, 4] };
        let tensor = split.permute(order)?.reshape(&dims)?;
        Ok(vec![Array::new(tensor, x.element)?])
    }

    /// The channels are repeated once per position in the block.
    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        let labels = flow.input(0);
        let (_, block) = image(cx, flow.dims(0))?;
        for axis in [2, 3] {
            flow.freeze_axis(0, axis, "blocks are taken along it");
        }
        let square = block * block;
        let first = block_first(cx)?;
        let repeated = labels[1].as_ref().map(|list| {
            if first {
                list.repeat(square).into()
            } else {
                list.iter().flat_map(|&label| std::iter::repeat_n(label, square)).collect()
            }
        });
        flow.set_output(0, vec![labels[0].clone(), repeated, None, None]);
        Ok(())
    }
}

struct Tile;

impl Tile {
    fn repeats<T: Operand>(inputs: &Inputs<T>) -> Result<Vec<usize>> {
        let rank = inputs.required(0)?.dims().len();
        let repeats: Vec<usize> =
            inputs.required(1)?.integers()?.into_iter().map(size).collect::<Result<_>>()?;
        if repeats.len() != rank {
            let found = repeats.len();
            return Err(Error::invalid(format!("{found} repeats for a tensor of rank {rank}")));
        }
        Ok(repeats)
    }

    fn dims(from: &[usize], repeats: &[usize]) -> Result<Vec<usize>> {
        let dims: Vec<usize> =
            from.iter().zip(repeats).map(|(&dim, &times)| dim.saturating_mul(times)).collect();
        count(&dims)?;
        Ok(dims)
    }
}

impl Operator for Tile {
    fn infer(&self, _cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let x = inputs.required(0)?;
        Ok(vec![Fact::new(x.element, Self::dims(&x.dims, &Self::repeats(inputs)?)?)])
    }

    fn eval(&self, _cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        let x = inputs.required(0)?;
        let repeats = Self::repeats(inputs)?;
        let dims = Self::dims(x.dims(), &repeats)?;
        if dims.contains(&0) {
            let empty = Tensor::zeros(dims, x.tensor.dtype(), x.tensor.device())?;
            return Ok(vec![Array::new(empty, x.element)?]);
        }
        let mut tensor = x.tensor.clone();
        for (axis, times) in repeats.into_iter().enumerate() {
            if times != 1 {
                let length = tensor.dim(axis)?;
                let indices: Vec<usize> = (0..times).flat_map(|_| 0..length).collect();
                tensor = select(&tensor, axis, &indices)?;
            }
        }
        Ok(vec![Array::new(tensor.contiguous()?, x.element)?])
    }

    fn channels(&self, _cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        let facts = Inputs::new(vec![flow.fact(0), flow.fact(1)]);
        let repeats = Self::repeats(&facts)?;
        let mut labels = flow.input(0);
        for (list, times) in labels.iter_mut().zip(repeats) {
            if let (Some(old), true) = (&list, times != 1) {
                *list = Some(old.repeat(times).into());
            }
        }
        flow.set_output(0, labels);
        Ok(())
    }
}
