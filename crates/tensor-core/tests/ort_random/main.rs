//! Every operator on random shapes and attributes, against ONNX Runtime.

#![cfg(feature = "measure")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod case;
#[path = "../common/mod.rs"]
mod common;

use case::Case;
use common::{Attributes, Draws, int, ints, text, typed};
use proptest::prelude::*;
use tensor_core::graph::Attribute;
use tensor_core::{Constant, ElementType};

/// One test per family: `cases` random cases of its generator.
macro_rules! families {
    ($($name:ident: $cases:literal, $generator:expr;)*) => {
        $(
            proptest! {
                #![proptest_config(common::config($cases))]

                #[test]
                fn $name(list in prop::collection::vec(any::<u16>(), 64)) {
                    let generator: fn(&mut Draws) -> Result<(), TestCaseError> = $generator;
                    generator(&mut Draws::new(list))?;
                }
            }
        )*
    };
}

families! {
    arithmetic_on_floats: 200, |d| {
        let op = d.pick(&["Add", "Sub", "Mul", "Div", "Pow", "PRelu"]);
        let opset = d.pick(&[9, 13, 17]);
        let dims = d.shape(0, 5, 5);
        let other = d.broadcast_to(&dims);
        // Only the slope of PRelu may be the one that is broadcast.
        let swapped = op != "PRelu" && d.coin();
        let (a, b) = if swapped { (other, dims) } else { (dims, other) };
        let mut case = Case::new(opset).tolerance(if op == "Pow" { 1e-5 } else { 1e-6 });
        let low = if matches!(op, "Pow" | "Div") { 0.5 } else { -2.0 };
        case.floats(d, &a, low, 2.0);
        case.floats(d, &b, low, 2.0);
        case.check(op, vec![])
    };
    arithmetic_on_integers: 100, |d| {
        let op = d.pick(&["Add", "Sub", "Mul", "Div", "Mod", "Max", "Min"]);
        let dims = d.shape(1, 4, 4);
        let mut case = Case::new(13);
        case.integers(d, &dims, -50, 50);
        let other = d.broadcast_to(&dims);
        case.integers(d, &other, 1, 9);
        case.check(op, vec![])
    };
    extrema_and_means: 60, |d| {
        let op = d.pick(&["Max", "Min", "Sum", "Mean"]);
        let dims = d.shape(1, 4, 4);
        let mut case = Case::new(13);
        case.floats(d, &dims, -2.0, 2.0);
        for _ in 0..d.below(3) {
            let other = d.broadcast_to(&dims);
            case.floats(d, &other, -2.0, 2.0);
        }
        case.check(op, vec![])
    };
    comparisons_and_choice: 80, |d| {
        let op = d.pick(&["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Where"]);
        let dims = d.shape(1, 4, 4);
        let mut case = Case::new(17);
        if op == "Where" {
            let own = d.broadcast_to(&dims);
            let values = d.integers(own.iter().product(), 0, 1);
            case.data(typed(ElementType::Bool, &own, &values));
            case.floats(d, &dims, -1.0, 1.0);
        } else {
            case.integers(d, &dims, 0, 3);
        }
        let other = d.broadcast_to(&dims);
        if op == "Where" {
            case.floats(d, &other, -1.0, 1.0);
        } else {
            case.integers(d, &other, 0, 3);
        }
        case.check(op, vec![])
    };
    functions: 400, |d| {
        let (op, opset, low, high) = d.pick(&[
            ("Relu", 14, -3.0, 3.0), ("LeakyRelu", 16, -3.0, 3.0), ("ThresholdedRelu", 10, -3.0, 3.0),
            ("Elu", 13, -3.0, 3.0), ("Celu", 13, -3.0, 3.0), ("Selu", 13, -3.0, 3.0),
            ("Sigmoid", 13, -30.0, 30.0), ("HardSigmoid", 13, -5.0, 5.0), ("HardSwish", 14, -5.0, 5.0),
            ("Tanh", 13, -5.0, 5.0), ("Erf", 13, -4.5, 4.5), ("Exp", 13, -20.0, 5.0),
            ("Log", 13, 0.01, 9.0), ("Sqrt", 13, 0.0, 9.0), ("Neg", 13, -3.0, 3.0), ("Abs", 13, -3.0, 3.0),
            ("Sign", 13, -3.0, 3.0), ("Reciprocal", 13, 0.2, 3.0), ("Floor", 13, -3.0, 3.0),
            ("Ceil", 13, -3.0, 3.0), ("Round", 13, -3.0, 3.0), ("Sin", 13, -3.0, 3.0),
            ("Cos", 13, -3.0, 3.0), ("Softplus", 13, -9.0, 9.0), ("Softsign", 13, -9.0, 9.0),
            ("Mish", 18, -6.0, 6.0), ("Gelu", 20, -6.0, 6.0), ("Identity", 16, -3.0, 3.0),
            ("Dropout", 13, -3.0, 3.0),
        ]);
        let mut attributes: Attributes = Vec::new();
        if matches!(op, "LeakyRelu" | "ThresholdedRelu" | "Elu" | "Celu" | "HardSigmoid") && d.coin() {
            attributes.push(("alpha", Attribute::Float(0.3)));
        }
        if op == "HardSigmoid" && d.coin() {
            attributes.push(("beta", Attribute::Float(0.4)));
        }
        if op == "Gelu" && d.coin() {
            attributes.push(("approximate", text("tanh")));
        }
        let dims = d.shape(0, 4, 6);
        let mut case = Case::new(opset).tolerance(2e-6);
        case.floats(d, &dims, low, high);
        case.check(op, attributes)
    };
    clip: 60, |d| {
        let opset = d.pick(&[9, 11, 13]);
        let dims = d.shape(0, 4, 6);
        let (low, high) = (d.floats(1, -1.0, 0.0)[0], d.floats(1, 0.0, 1.0)[0]);
        let mut case = Case::new(opset);
        case.floats(d, &dims, -2.0, 2.0);
        let (with_low, with_high) = (d.coin(), d.coin());
        let mut attributes: Attributes = Vec::new();
        for (name, value, given) in [("min", low, with_low), ("max", high, with_high)] {
            match given {
                true if opset < 11 => attributes.push((name, Attribute::Float(value))),
                true => case.constant(Constant::from_f32s(&[], &[value]).unwrap()),
                false => case.absent(),
            }
        }
        if opset < 11 {
            case.inputs.truncate(1);
        }
        case.check("Clip", attributes)
    };
    cast: 60, |d| {
        let dims = d.shape(0, 3, 6);
        let to = d.pick(&[1_i64, 2, 3, 6, 7, 9, 11]);
        let mut case = Case::new(13);
        if d.coin() {
            // Casting a negative float to an unsigned type is undefined.
            case.floats(d, &dims, if to == 2 { 0.0 } else { -100.0 }, 100.0);
        } else {
            case.integers(d, &dims, -1000, 1000);
        }
        case.check("Cast", vec![("to", int(to))])
    };
    softmax: 100, |d| {
        let op = d.pick(&["Softmax", "LogSoftmax", "Hardmax"]);
        let opset = d.pick(&[11, 13]);
        let dims = d.shape(1, 4, 6);
        let axis = d.axis(dims.len());
        let mut case = Case::new(opset);
        case.floats(d, &dims, -9.0, 9.0);
        case.check(op, vec![("axis", int(axis))])
    };
    reductions: 250, |d| {
        let op = d.pick(&[
            "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
            "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp",
        ]);
        let opset = d.pick(&[11, 13, 17, 18]);
        let dims = d.shape(1, 4, 5);
        let low = if op == "ReduceLogSum" { 0.1 } else { -1.5 };
        let mut attributes = vec![("keepdims", int(d.between(0, 1)))];
        let mut case = Case::new(opset).tolerance(1e-5);
        case.floats(d, &dims, low, 1.5);
        let since = if op == "ReduceSum" { 13 } else { 18 };
        if d.coin() {
            let axes = d.axes(dims.len());
            case.axes(opset, since, &axes, &mut attributes);
        } else if opset >= since {
            attributes.push(("noop_with_empty_axes", int(d.between(0, 1))));
        }
        case.check(op, attributes)
    };
    arg_max: 60, |d| {
        let op = d.pick(&["ArgMax", "ArgMin"]);
        let dims = d.shape(1, 4, 5);
        let axis = d.axis(dims.len());
        let mut case = Case::new(13);
        // Few distinct values, so that there are ties.
        let values = d.integers(dims.iter().product(), 0, 3).into_iter().map(|v| v as f32);
        case.data(Constant::from_f32s(&dims, &values.collect::<Vec<_>>()).unwrap());
        let keep = ("keepdims", int(d.between(0, 1)));
        case.check(op, vec![("axis", int(axis)), keep, ("select_last_index", int(d.between(0, 1)))])
    };
    reshape: 80, |d| {
        let dims = d.shape(1, 4, 4);
        let mut target: Vec<i64> = dims.iter().map(|&n| n as i64).collect();
        // Merge a pair of axes, add one, then leave one open or copied.
        if target.len() > 1 && d.coin() {
            let i = d.below(target.len() - 1);
            target[i] *= target.remove(i + 1);
        }
        if d.coin() {
            target.insert(d.below(target.len() + 1), 1);
        }
        if d.coin() {
            let i = d.below(target.len());
            target[i] = -1;
        } else if target[0] == dims[0] as i64 {
            target[0] = 0;
        }
        let mut case = Case::new(14);
        case.floats(d, &dims, -1.0, 1.0);
        case.sizes(&target);
        case.check("Reshape", vec![])
    };
    axes_moved: 120, |d| {
        let op = d.pick(&["Flatten", "Transpose", "Squeeze", "Unsqueeze", "Shape", "Expand"]);
        let opset = d.pick(&[11, 15]);
        let mut dims = d.shape(1, 4, 3);
        let rank = dims.len();
        let mut attributes: Attributes = Vec::new();
        let mut case = Case::new(opset);
        let mut sizes = None;
        match op {
            "Flatten" => attributes.push(("axis", int(d.between(-(rank as i64), rank as i64)))),
            "Transpose" => {
                let mut left: Vec<i64> = (0..rank as i64).collect();
                let order: Vec<i64> = (0..rank).map(|_| left.remove(d.below(left.len()))).collect();
                attributes.push(("perm", ints(&order)));
            }
            "Squeeze" => {
                let axes = d.axes(rank);
                for &axis in &axes {
                    dims[axis.rem_euclid(rank as i64) as usize] = 1;
                }
                sizes = Some(axes);
            }
            "Unsqueeze" => {
                // Negative axes count from the end of the result, whose rank depends on them.
                let axes = d.axes(rank + 1);
                sizes = Some(axes.iter().map(|axis| axis.rem_euclid(rank as i64 + 1)).collect());
            }
            "Shape" if opset >= 15 => {
                attributes.push(("start", int(d.between(-5, 4))));
                attributes.push(("end", int(d.between(-5, 5))));
            }
            _ => {}
        }
        case.floats(d, &dims, -1.0, 1.0);
        if let Some(axes) = sizes {
            case.axes(opset, 13, &axes, &mut attributes);
        }
        if op == "Expand" {
            let mut target: Vec<i64> = dims.iter().map(|&n| n as i64).collect();
            for n in &mut target {
                *n = if *n == 1 { d.between(1, 3) } else { d.pick(&[*n, 1]) };
            }
            if d.coin() {
                target.insert(0, d.between(1, 3));
            }
            case.sizes(&target);
        }
        case.check(op, attributes)
    };
    slice: 200, |d| {
        let opset = d.pick(&[9, 10, 13]);
        let dims = d.shape(1, 4, 6);
        let axes = d.axes(dims.len());
        let bound = |d: &mut Draws| d.pick(&[0, 1, 2, 3, 9, -1, -2, -9, i64::MAX, i64::MIN + 1]);
        let starts: Vec<i64> = axes.iter().map(|_| bound(d)).collect();
        let ends: Vec<i64> = axes.iter().map(|_| bound(d)).collect();
        let mut case = Case::new(opset);
        case.floats(d, &dims, -1.0, 1.0);
        if opset < 10 {
            let attributes =
                vec![("starts", ints(&starts)), ("ends", ints(&ends)), ("axes", ints(&axes))];
            return case.check("Slice", attributes);
        }
        let steps: Vec<i64> = axes.iter().map(|_| d.pick(&[1, 2, -1, -2, 7])).collect();
        for list in [&starts, &ends, &axes, &steps] {
            case.sizes(list);
        }
        let shown = format!("{dims:?} from {starts:?} to {ends:?} on {axes:?} by {steps:?}");
        case.check("Slice", vec![]).map_err(|e| TestCaseError::fail(format!("{shown}: {e}")))
    };
    split: 80, |d| {
        let opset = d.pick(&[11, 13, 18]);
        let mut dims = d.shape(1, 4, 4);
        let axis = d.axis(dims.len());
        let at = axis.rem_euclid(dims.len() as i64) as usize;
        let parts: Vec<i64> = (0..1 + d.below(3)).map(|_| d.between(1, 3)).collect();
        let mut attributes = vec![("axis", int(axis))];
        let stated = d.coin();
        dims[at] = if stated { parts.iter().sum::<i64>() as usize } else { parts.len() * 2 };
        let mut case = Case::new(opset);
        case.floats(d, &dims, -1.0, 1.0);
        match (stated, opset) {
            (true, 11) => attributes.push(("split", ints(&parts))),
            (true, _) => case.sizes(&parts),
            (false, 18) => attributes.push(("num_outputs", int(parts.len() as i64))),
            (false, _) => {}
        }
        case.check_outputs("Split", attributes, parts.len())
    };
    joins: 80, |d| {
        let mut dims = d.shape(1, 4, 4);
        let axis = d.axis(dims.len());
        let at = axis.rem_euclid(dims.len() as i64) as usize;
        let mut case = Case::new(13);
        if d.coin() {
            for _ in 0..1 + d.below(3) {
                dims[at] = 1 + d.below(4);
                case.floats(d, &dims, -1.0, 1.0);
            }
            return case.check("Concat", vec![("axis", int(axis))]);
        }
        case.floats(d, &dims, -1.0, 1.0);
        let n = dims[at] as i64;
        let shape = d.shape(0, 2, 4);
        case.integers(d, &shape, -n, n - 1);
        case.check("Gather", vec![("axis", int(axis))])
    };
    pad: 120, |d| {
        let opset = d.pick(&[9, 11, 13, 18]);
        let dims: Vec<usize> = d.shape(1, 4, 3).into_iter().map(|n| n + 2).collect();
        let mode = d.pick(&["constant", "reflect", "edge"]);
        // Crops, for which ONNX Runtime limits reflections further than ONNX does.
        let low = if mode == "constant" && d.coin() { -1 } else { 0 };
        let pads: Vec<i64> = (0..2 * dims.len()).map(|_| d.between(low, 2)).collect();
        let mut case = Case::new(opset);
        case.floats(d, &dims, -1.0, 1.0);
        let mut attributes = vec![("mode", text(mode))];
        if opset < 11 {
            attributes.push(("pads", ints(&pads)));
            attributes.push(("value", Attribute::Float(0.5)));
        } else {
            case.sizes(&pads);
            if d.coin() {
                case.constant(Constant::from_f32s(&[], &[0.5]).unwrap());
            }
        }
        case.check("Pad", attributes)
    };
    rearranged: 80, |d| {
        let op = d.pick(&["DepthToSpace", "SpaceToDepth", "Tile"]);
        let mut case = Case::new(13);
        let block = 1 + d.below(3);
        let small = [1 + d.below(2), 1 + d.below(3), 1 + d.below(3), 1 + d.below(3)];
        match op {
            "DepthToSpace" => {
                case.floats(d, &[small[0], small[1] * block * block, small[2], small[3]], -1.0, 1.0);
                let mode = text(d.pick(&["DCR", "CRD"]));
                case.check(op, vec![("blocksize", int(block as i64)), ("mode", mode)])
            }
            "SpaceToDepth" => {
                case.floats(d, &[small[0], small[1], small[2] * block, small[3] * block], -1.0, 1.0);
                case.check(op, vec![("blocksize", int(block as i64))])
            }
            _ => {
                let dims = d.shape(1, 4, 3);
                case.floats(d, &dims, -1.0, 1.0);
                let repeats: Vec<i64> = dims.iter().map(|_| d.between(1, 3)).collect();
                case.sizes(&repeats);
                case.check(op, vec![])
            }
        }
    };
    resize: 300, |d| {
        let opset = d.pick(&[11, 13, 18]);
        let mode = d.pick(&["nearest", "linear", "cubic"]);
        let dims = [1 + d.below(2), 1 + d.below(2), 2 + d.below(5), 2 + d.below(5)];
        let coordinates = d.pick(&["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]);
        let mut attributes = vec![
            ("mode", text(mode)),
            ("coordinate_transformation_mode", text(coordinates)),
            ("nearest_mode", text(d.pick(&["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]))),
        ];
        if mode == "cubic" {
            attributes.push(("exclude_outside", int(d.between(0, 1))));
            attributes.push(("cubic_coeff_a", Attribute::Float(d.pick(&[-0.75, -0.5]))));
        }
        let mut case = Case::new(opset).tolerance(1e-5);
        case.floats(d, &dims, -1.0, 1.0);
        case.constant(Constant::from_f32s(&[0], &[]).unwrap());
        if d.coin() {
            // Factors whose products are exact, so that no rounding of coordinates decides.
            let factors = [1.0, 1.0, d.pick(&[2.0, 1.0, 3.0, 0.5]), d.pick(&[2.0, 1.0, 4.0, 0.5])];
            let whole = (0..4).all(|i| (dims[i] as f32 * factors[i]).fract() == 0.0);
            prop_assume!(coordinates != "align_corners" || whole);
            case.constant(Constant::from_f32s(&[4], &factors).unwrap());
        } else {
            case.constant(Constant::from_f32s(&[0], &[]).unwrap());
            let factor = |d: &mut Draws, n: usize| n * d.pick(&[1, 2, 4]);
            let sizes = [dims[0], dims[1], factor(d, dims[2]), factor(d, dims[3])];
            case.sizes(&sizes.map(|n| n as i64));
        }
        case.check("Resize", attributes)
    };
    resize_before_opset_11: 40, |d| {
        let (op, opset) = d.pick(&[("Upsample", 9), ("Resize", 10)]);
        let dims = [1 + d.below(2), 1 + d.below(2), 2 + d.below(4), 2 + d.below(4)];
        let mut case = Case::new(opset).tolerance(1e-5);
        case.floats(d, &dims, -1.0, 1.0);
        let factors = [1.0, 1.0, d.pick(&[1.0, 2.0, 3.0]), d.pick(&[1.0, 2.0, 4.0])];
        case.constant(Constant::from_f32s(&[4], &factors).unwrap());
        case.check(op, vec![("mode", text(d.pick(&["nearest", "linear"])))])
    };
    quantize: 120, |d| {
        let op = d.pick(&["QuantizeLinear", "DequantizeLinear"]);
        let dims = d.shape(2, 4, 4);
        let axis = d.axis(dims.len());
        let channels = dims[axis.rem_euclid(dims.len() as i64) as usize];
        let per_axis = d.coin();
        let shape: Vec<usize> = if per_axis { vec![channels] } else { vec![] };
        let count = shape.iter().product();
        let element = d.pick(&[ElementType::I8, ElementType::U8]);
        let mut case = Case::new(13).tolerance(1e-6);
        let total = dims.iter().product();
        if op == "QuantizeLinear" {
            case.floats(d, &dims, -6.0, 6.0);
        } else {
            let values = d.integers(total, 0, 127);
            case.data(typed(element, &dims, &values));
        }
        let scales = d.floats(count, 0.01, 0.1);
        case.constant(Constant::from_f32s(&shape, &scales).unwrap());
        if d.coin() || element == ElementType::I8 {
            let zeros = d.integers(count, 0, 20);
            case.constant(typed(element, &shape, &zeros));
        }
        case.check(op, if per_axis { vec![("axis", int(axis))] } else { vec![] })
    };
    convolution: 150, |d| {
        let op = d.pick(&["Conv", "ConvTranspose"]);
        let spatial = 1 + d.below(2);
        let groups = d.pick(&[1, 2, 3]);
        let (per_in, per_out) = (1 + d.below(3), 1 + d.below(3));
        let kernel: Vec<usize> = (0..spatial).map(|_| 1 + d.below(3)).collect();
        let list = |d: &mut Draws, n: usize, low: i64, high: i64| -> Vec<i64> {
            (0..n).map(|_| d.between(low, high)).collect()
        };
        let mut attributes = vec![
            ("group", int(groups as i64)),
            ("strides", ints(&list(d, spatial, 1, 3))),
            ("dilations", ints(&list(d, spatial, 1, 2))),
        ];
        match d.below(3) {
            0 => attributes.push(("pads", ints(&list(d, 2 * spatial, 0, 1)))),
            1 if op == "Conv" => {
                attributes.push(("auto_pad", text(d.pick(&["SAME_UPPER", "SAME_LOWER", "VALID"]))));
                // ONNX Runtime has no SAME padding with dilation.
                attributes[2] = ("dilations", ints(&vec![1; spatial]));
            }
            _ => {}
        }
        let mut dims = vec![1 + d.below(3), per_in * groups];
        dims.extend((0..spatial).map(|_| 6 + d.below(5)));
        let mut case = Case::new(13).tolerance(1e-5);
        case.floats(d, &dims, -1.0, 1.0);
        let mut weight = match op {
            "Conv" => vec![per_out * groups, per_in],
            _ => vec![per_in * groups, per_out],
        };
        weight.extend(&kernel);
        let values = d.floats(weight.iter().product(), -1.0, 1.0);
        case.constant(Constant::from_f32s(&weight, &values).unwrap());
        if d.coin() {
            let bias = d.floats(per_out * groups, -1.0, 1.0);
            case.constant(Constant::from_f32s(&[per_out * groups], &bias).unwrap());
        }
        case.check(op, attributes)
    };
    pooling: 120, |d| {
        let op = d.pick(&["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"]);
        let spatial = 1 + d.below(2);
        let mut dims = vec![1 + d.below(2), 1 + d.below(3)];
        dims.extend((0..spatial).map(|_| 5 + d.below(5)));
        let mut case = Case::new(d.pick(&[11, 13, 19]));
        case.floats(d, &dims, -1.0, 1.0);
        let mut attributes: Attributes = Vec::new();
        if !op.starts_with("Global") {
            let list = |d: &mut Draws, n: usize, low: i64, high: i64| -> Vec<i64> {
                (0..n).map(|_| d.between(low, high)).collect()
            };
            attributes.push(("kernel_shape", ints(&list(d, spatial, 2, 3))));
            attributes.push(("strides", ints(&list(d, spatial, 1, 3))));
            attributes.push(("pads", ints(&list(d, 2 * spatial, 0, 1))));
            if op == "AveragePool" {
                attributes.push(("count_include_pad", int(d.between(0, 1))));
            }
            // With ceil_mode ONNX Runtime averages windows past the padding in its own way.
            if op == "MaxPool" {
                attributes.push(("ceil_mode", int(d.between(0, 1))));
            }
        }
        case.check(op, attributes)
    };
    products: 150, |d| {
        let op = d.pick(&["Gemm", "MatMul"]);
        let (m, k, n) = (1 + d.below(5), 1 + d.below(6), 1 + d.below(5));
        let mut case = Case::new(13).tolerance(1e-5);
        if op == "MatMul" {
            let batch = d.shape(0, 2, 3);
            let other = d.broadcast_to(&batch);
            case.floats(d, &[batch, vec![m, k]].concat(), -1.0, 1.0);
            case.floats(d, &[other, vec![k, n]].concat(), -1.0, 1.0);
            return case.check(op, vec![]);
        }
        let (ta, tb) = (d.coin(), d.coin());
        case.floats(d, &if ta { [k, m] } else { [m, k] }, -1.0, 1.0);
        case.floats(d, &if tb { [n, k] } else { [k, n] }, -1.0, 1.0);
        if d.coin() {
            let c = d.broadcast_to(&[m, n]);
            case.floats(d, &c, -1.0, 1.0);
        }
        let attributes = vec![
            ("transA", int(i64::from(ta))),
            ("transB", int(i64::from(tb))),
            ("alpha", Attribute::Float(d.pick(&[1.0, 0.5]))),
            ("beta", Attribute::Float(d.pick(&[1.0, 2.0]))),
        ];
        case.check(op, attributes)
    };
    batch_normalization: 40, |d| {
        let dims = [vec![1 + d.below(2), 1 + d.below(4)], d.shape(0, 2, 4)].concat();
        let mut case = Case::new(d.pick(&[9, 13, 15])).tolerance(1e-5);
        case.floats(d, &dims, -1.0, 1.0);
        for (low, high) in [(0.5, 1.5), (-1.0, 1.0), (-1.0, 1.0), (0.1, 2.0)] {
            let values = d.floats(dims[1], low, high);
            case.constant(Constant::from_f32s(&[dims[1]], &values).unwrap());
        }
        case.check("BatchNormalization", vec![("epsilon", Attribute::Float(1e-3))])
    };    normalization_of_samples: 60, |d| {
        let op = d.pick(&["InstanceNormalization", "LayerNormalization", "GroupNormalization"]);
        let (groups, per_group) = (1 + d.below(3), 1 + d.below(3));
        let channels = groups * per_group;
        let dims = [vec![1 + d.below(2), channels, 2 + d.below(3)], d.shape(0, 1, 4)].concat();
        let mut attributes = vec![("epsilon", Attribute::Float(1e-2))];
        let parameters = match op {
            "LayerNormalization" => {
                let axis = 1 + d.below(dims.len() - 1);
                let counted = if d.coin() { axis as i64 - dims.len() as i64 } else { axis as i64 };
                attributes.push(("axis", int(counted)));
                dims[axis..].to_vec()
            }
            "GroupNormalization" => {
                attributes.push(("num_groups", int(groups as i64)));
                vec![channels]
            }
            _ => vec![channels],
        };
        let mut case = Case::new(21).tolerance(1e-5);
        case.floats(d, &dims, -1.0, 1.0);
        case.floats(d, &parameters, 0.5, 1.5);
        case.floats(d, &parameters, -1.0, 1.0);
        case.check(op, attributes)
    };
}
