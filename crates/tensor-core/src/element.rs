//! Element types of ONNX tensors.

use candle_core::DType;

/// Element type of a tensor, as ONNX names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ElementType {
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// IEEE half.
    F16,
    /// bfloat16.
    BF16,
    /// Signed 8-bit integer.
    I8,
    /// Signed 16-bit integer.
    I16,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer.
    I64,
    /// Unsigned 8-bit integer.
    U8,
    /// Unsigned 16-bit integer.
    U16,
    /// Unsigned 32-bit integer.
    U32,
    /// Unsigned 64-bit integer.
    U64,
    /// Signed 4-bit integer, two to a byte.
    I4,
    /// Unsigned 4-bit integer, two to a byte.
    U4,
    /// Boolean, one byte an element.
    Bool,
    /// A type that passes through untouched: its `TensorProto.DataType` number.
    Other(i32),
}

impl ElementType {
    /// From a `TensorProto.DataType` number.
    pub fn from_onnx(code: i32) -> Self {
        match code {
            1 => Self::F32,
            2 => Self::U8,
            3 => Self::I8,
            4 => Self::U16,
            5 => Self::I16,
            6 => Self::I32,
            7 => Self::I64,
            9 => Self::Bool,
            10 => Self::F16,
            11 => Self::F64,
            12 => Self::U32,
            13 => Self::U64,
            16 => Self::BF16,
            21 => Self::U4,
            22 => Self::I4,
            other => Self::Other(other),
        }
    }

    /// The `TensorProto.DataType` number.
    pub fn to_onnx(self) -> i32 {
        match self {
            Self::F32 => 1,
            Self::U8 => 2,
            Self::I8 => 3,
            Self::U16 => 4,
            Self::I16 => 5,
            Self::I32 => 6,
            Self::I64 => 7,
            Self::Bool => 9,
            Self::F16 => 10,
            Self::F64 => 11,
            Self::U32 => 12,
            Self::U64 => 13,
            Self::BF16 => 16,
            Self::U4 => 21,
            Self::I4 => 22,
            Self::Other(code) => code,
        }
    }

    /// Bytes per element; `None` for types that are not byte-sized or not understood.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::I8 | Self::U8 | Self::Bool => Some(1),
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => Some(2),
            Self::F32 | Self::I32 | Self::U32 => Some(4),
            Self::F64 | Self::I64 | Self::U64 => Some(8),
            Self::I4 | Self::U4 | Self::Other(_) => None,
        }
    }

    /// Bytes that `count` elements take; `None` for types that are not understood, and on overflow.
    pub fn bytes(self, count: usize) -> Option<usize> {
        match self {
            Self::I4 | Self::U4 => Some(count.div_ceil(2)),
            _ => count.checked_mul(self.size()?),
        }
    }

    /// Is it a floating-point type?
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64 | Self::F16 | Self::BF16)
    }

    /// The candle type that carries it at run time: halves widen to `F32`, integers and booleans
    /// to `I64`, since candle lacks some of them.
    pub fn storage(self) -> Option<DType> {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => Some(DType::F32),
            Self::F64 => Some(DType::F64),
            Self::Other(_) => None,
            _ => Some(DType::I64),
        }
    }

    /// The smallest and largest integer it holds; `None` for floats.
    pub fn integer_range(self) -> Option<(i64, i64)> {
        match self {
            Self::I4 => Some((-8, 7)),
            Self::U4 => Some((0, 15)),
            Self::I8 => Some((i64::from(i8::MIN), i64::from(i8::MAX))),
            Self::I16 => Some((i64::from(i16::MIN), i64::from(i16::MAX))),
            Self::I32 => Some((i64::from(i32::MIN), i64::from(i32::MAX))),
            Self::I64 => Some((i64::MIN, i64::MAX)),
            Self::U8 => Some((0, i64::from(u8::MAX))),
            Self::U16 => Some((0, i64::from(u16::MAX))),
            Self::U32 => Some((0, i64::from(u32::MAX))),
            Self::U64 => Some((0, i64::MAX)),
            Self::Bool => Some((0, 1)),
            _ => None,
        }
    }
}
