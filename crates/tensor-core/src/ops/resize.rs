//! `Resize` (opset 10 to 19) and its predecessor `Upsample`.

use super::join::select;
use super::operand::{Operand, axes, count, finish, size};
use super::resample::{Axis, Coordinates, Mode, Nearest, Rules, Table, interpolate};
use super::sizes::Target;
use super::{Entry, Inputs, NodeCx, Operator};
use crate::channels::{CutCx, Flow};
use crate::rewrite::Edit;
use crate::run::{Array, Fact};
use crate::{ElementType, Error, Result};
use candle_core::{DType, Tensor};
use std::sync::Arc;

/// The operators of this file.
pub(super) const OPERATORS: &[Entry] = &[("Resize", &Resize), ("Upsample", &Upsample)];

/// A resize of all axes.
struct Plan {
    axes: Vec<Axis>,
    rules: Rules,
    extrapolation: f32,
}

impl Plan {
    fn dims(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| axis.to).collect()
    }

    fn run(&self, x: &Array) -> Result<Array> {
        count(&self.dims())?;
        let floats = x.tensor.dtype() == DType::F32;
        let nearest = matches!(self.rules.mode, Mode::Nearest(_));
        if !floats && !nearest {
            return Err(Error::unsupported(format!("interpolating elements {:?}", x.element)));
        }
        let mut tensor = x.tensor.clone();
        for (i, axis) in self.axes.iter().enumerate() {
            if axis.is_identity(&self.rules) {
                continue;
            }
            let table = Arc::new(Table::new(axis, &self.rules)?);
            tensor = if floats {
                interpolate(&tensor, i, table.clone())?
            } else {
                select(&tensor, i, table.nearest())?
            };
            if !table.outside().is_empty() {
                tensor = self.extrapolate(&tensor, i, table.outside())?;
            }
        }
        finish(tensor, x.element)
    }

    /// Fills slices along an axis with the extrapolation value.
    fn extrapolate(&self, x: &Tensor, axis: usize, outside: &[usize]) -> Result<Tensor> {
        let mut keep = vec![1_f32; x.dim(axis)?];
        outside.iter().for_each(|&position| keep[position] = 0.0);
        let mut dims = vec![1; x.rank()];
        dims[axis] = keep.len();
        let keep = Tensor::from_vec(keep, dims, x.device())?.to_dtype(x.dtype())?;
        let fill = ((1.0 - &keep)? * f64::from(self.extrapolation))?;
        Ok(x.broadcast_mul(&keep)?.broadcast_add(&fill)?)
    }
}

/// Output lengths and scales from scale factors, as ONNX Runtime computes them: in single precision.
fn from_scales(dims: &[usize], scales: &[f32], axes: &[usize]) -> Result<Vec<Axis>> {
    let mut result = unchanged(dims);
    for (&axis, &scale) in axes.iter().zip(scales) {
        let to = (dims[axis] as f32 * scale).floor();
        if !(scale > 0.0 && to <= i32::MAX as f32) {
            return Err(Error::invalid(format!(
                "scale {scale} of an axis of length {}",
                dims[axis]
            )));
        }
        result[axis].to = to as usize;
        result[axis].scale = f64::from(scale);
    }
    Ok(result)
}

fn unchanged(dims: &[usize]) -> Vec<Axis> {
    let same = |&n: &usize| Axis { from: n, to: n, scale: 1.0, crop: (0.0, 1.0) };
    dims.iter().map(same).collect()
}

struct Resize;

/// Positions of the inputs, which opset 11 moved.
struct Layout {
    roi: usize,
    scales: usize,
    sizes: usize,
}

impl Resize {
    fn layout(cx: &NodeCx) -> Layout {
        if cx.opset() < 11 {
            Layout { roi: usize::MAX, scales: 1, sizes: usize::MAX }
        } else {
            Layout { roi: 1, scales: 2, sizes: 3 }
        }
    }

    fn rules(cx: &NodeCx) -> Result<Rules> {
        let wrong =
            |name: &str, value: &str| Error::unsupported(format!("attribute `{name}` = `{value}`"));
        // Opset 10 has no attribute for these two.
        let (coordinates, nearest) = if cx.opset() < 11 {
            ("asymmetric", "floor")
        } else {
            (
                cx.string("coordinate_transformation_mode", "half_pixel")?,
                cx.string("nearest_mode", "round_prefer_floor")?,
            )
        };
        let nearest = match nearest {
            "round_prefer_floor" => Nearest::RoundPreferFloor,
            "round_prefer_ceil" => Nearest::RoundPreferCeil,
            "floor" => Nearest::Floor,
            "ceil" => Nearest::Ceil,
            other => return Err(wrong("nearest_mode", other)),
        };
        Ok(Rules {
            mode: match cx.string("mode", "nearest")? {
                "nearest" => Mode::Nearest(nearest),
                "linear" | "bilinear" => Mode::Linear,
                "cubic" => Mode::Cubic(f64::from(cx.float("cubic_coeff_a", -0.75)?)),
                other => return Err(wrong("mode", other)),
            },
            coordinates: match coordinates {
                "half_pixel" => Coordinates::HalfPixel,
                "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
                "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
                "align_corners" => Coordinates::AlignCorners,
                "asymmetric" => Coordinates::Asymmetric,
                "tf_crop_and_resize" => Coordinates::TfCropAndResize,
                other => return Err(wrong("coordinate_transformation_mode", other)),
            },
            exclude_outside: cx.int("exclude_outside", 0)? != 0,
            antialias: cx.int("antialias", 0)? != 0,
        })
    }

    /// The axes that `roi`, `scales` and `sizes` speak of.
    fn axes(cx: &NodeCx, rank: usize) -> Result<Vec<usize>> {
        match cx.ints("axes")? {
            Some(list) => axes(list, rank),
            None => Ok((0..rank).collect()),
        }
    }

    fn plan<T: Operand>(cx: &NodeCx, inputs: &Inputs<T>) -> Result<Plan> {
        let dims = inputs.required(0)?.dims();
        let (layout, rules) = (Self::layout(cx), Self::rules(cx)?);
        let axes = Self::axes(cx, dims.len())?;
        // An empty tensor stands for an input that is not given.
        let given = |i: usize| inputs.get(i).filter(|input| input.dims() != [0]);
        let mut result = match (given(layout.scales), given(layout.sizes)) {
            (Some(scales), None) => {
                let scales = scales.floats()?;
                fits(&axes, scales.len(), "scales")?;
                from_scales(dims, &scales, &axes)?
            }
            (None, Some(sizes)) => {
                let sizes = sizes.integers()?;
                fits(&axes, sizes.len(), "sizes")?;
                let policy = cx.string("keep_aspect_ratio_policy", "stretch")?;
                from_sizes(dims, &sizes, &axes, policy)?
            }
            _ => return Err(Error::invalid("exactly one of `scales` and `sizes` must be given")),
        };
        if rules.coordinates == Coordinates::TfCropAndResize {
            let roi = given(layout.roi)
                .ok_or_else(|| Error::invalid("tf_crop_and_resize needs `roi`"))?
                .floats()?;
            fits(&axes, roi.len() / 2, "roi")?;
            for (i, &axis) in axes.iter().enumerate() {
                result[axis].crop = (f64::from(roi[i]), f64::from(roi[axes.len() + i]));
            }
        }
        Ok(Plan { axes: result, rules, extrapolation: cx.float("extrapolation_value", 0.0)? })
    }

    fn target(cx: &NodeCx, rank: usize) -> Result<Target> {
        // No entry leaves a size open.
        let axes = Self::axes(cx, rank)?;
        Ok(Target { input: Self::layout(cx).sizes, axes, open: i64::MIN, copies: false })
    }
}

fn fits(axes: &[usize], entries: usize, what: &str) -> Result<()> {
    if axes.len() == entries {
        return Ok(());
    }
    Err(Error::invalid(format!("{entries} {what} for {} axes", axes.len())))
}

/// Output lengths as given, or with one common scale for all axes.
fn from_sizes(dims: &[usize], sizes: &[i64], axes: &[usize], policy: &str) -> Result<Vec<Axis>> {
    let mut result = unchanged(dims);
    let ratio = |to: i64, axis: usize| to as f64 / dims[axis].max(1) as f64;
    let ratios = axes.iter().zip(sizes).map(|(&axis, &to)| ratio(to, axis));
    let common = match policy {
        "stretch" => None,
        "not_larger" => Some(ratios.fold(f64::INFINITY, f64::min)),
        "not_smaller" => Some(ratios.fold(0.0, f64::max)),
        other => {
            let what = format!("attribute `keep_aspect_ratio_policy` = `{other}`");
            return Err(Error::unsupported(what));
        }
    };
    for (&axis, &to) in axes.iter().zip(sizes) {
        let to = size(to)?;
        result[axis].scale = common.unwrap_or(ratio(to as i64, axis));
        result[axis].to = match common {
            Some(scale) => {
                (scale * dims[axis] as f64 + 0.5).floor().min(f64::from(i32::MAX)) as usize
            }
            None => to,
        };
    }
    Ok(result)
}

impl Operator for Resize {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let plan = Self::plan(cx, inputs)?;
        Ok(vec![Fact::new(inputs.required(0)?.element, plan.dims())])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        Ok(vec![Self::plan(cx, inputs)?.run(inputs.required(0)?)?])
    }

    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        let facts = Inputs::new((0..cx.node.inputs.len()).map(|i| flow.fact(i)).collect());
        let plan = Self::plan(cx, &facts)?;
        let mut labels = flow.input(0);
        for (axis, change) in plan.axes.iter().enumerate() {
            if !change.is_identity(&plan.rules) {
                flow.freeze_axis(0, axis, "it is resized");
                labels[axis] = None;
            }
        }
        let target = Self::target(cx, labels.len())?;
        if flow.fact(target.input).is_some_and(|fact| fact.dims != [0]) {
            labels = target.adapt(cx, flow, labels);
        }
        flow.set_output(0, labels);
        Ok(())
    }

    fn follow_cut(&self, cx: &NodeCx, cut: &CutCx) -> Result<Vec<Edit>> {
        let target = Self::target(cx, cut.old_output_dims(0).len())?;
        match cut.input_fact(target.input) {
            Some(fact) if fact.dims != [0] => target.rewrite(cx, cut),
            _ => Ok(Vec::new()),
        }
    }
}

/// Scales as attribute before opset 9, as input in opset 9.
struct Upsample;

impl Upsample {
    fn plan<T: Operand>(cx: &NodeCx, inputs: &Inputs<T>) -> Result<Plan> {
        let dims = inputs.required(0)?.dims();
        let scales = inputs.required(1)?.floats()?;
        let all: Vec<usize> = (0..dims.len()).collect();
        fits(&all, scales.len(), "scales")?;
        let mode = match cx.string("mode", "nearest")? {
            "nearest" => Mode::Nearest(Nearest::Floor),
            "linear" | "bilinear" => Mode::Linear,
            other => return Err(Error::unsupported(format!("attribute `mode` = `{other}`"))),
        };
        let coordinates = Coordinates::Asymmetric;
        let rules = Rules { mode, coordinates, exclude_outside: false, antialias: false };
        Ok(Plan { axes: from_scales(dims, &scales, &all)?, rules, extrapolation: 0.0 })
    }
}

impl Operator for Upsample {
    fn infer(&self, cx: &NodeCx, inputs: &Inputs<Fact>) -> Result<Vec<Fact>> {
        let element: ElementType = inputs.required(0)?.element;
        Ok(vec![Fact::new(element, Self::plan(cx, inputs)?.dims())])
    }

    fn eval(&self, cx: &NodeCx, inputs: &Inputs<Array>) -> Result<Vec<Array>> {
        Ok(vec![Self::plan(cx, inputs)?.run(inputs.required(0)?)?])
    }

    fn channels(&self, cx: &NodeCx, flow: &mut Flow) -> Result<()> {
        let facts = Inputs::new((0..cx.node.inputs.len()).map(|i| flow.fact(i)).collect());
        let plan = Self::plan(cx, &facts)?;
        let mut labels = flow.input(0);
        for (axis, change) in plan.axes.iter().enumerate() {
            if !change.is_identity(&plan.rules) {
                flow.freeze_axis(0, axis, "it is resized");
                labels[axis] = None;
            }
        }
        flow.set_output(0, labels);
        Ok(())
    }
}
