//! A look at the wire format before anything is decoded: is it complete, how deep does it nest, and
//! how much memory will it take?
//!
//! Protobuf spends two bytes on an empty message that costs hundreds of bytes in memory, so a small
//! hostile file could ask for gigabytes. The check here costs one pass over the structure (weights
//! are skipped, not read) and no memory.

use crate::{Error, Result};

/// Nested messages that `prost` decodes, counting the model itself.
pub(super) const MAX_DEPTH: usize = 100;

/// A graph may take this many bytes of memory per byte of file, beyond the base.
const MEMORY_PER_BYTE: usize = 32;
const MEMORY_BASE: usize = 64 << 20;

/// Checks a whole `ModelProto`.
///
/// # Errors
/// `E0100` when a length points past the end, messages nest too deeply, or the structure would take
/// far more memory than the file does.
pub(super) fn check_model(bytes: &[u8]) -> Result<()> {
    check(bytes, Kind::Model)
}

/// Checks a lone `TensorProto`, like [`check_model`].
pub(super) fn check_tensor(bytes: &[u8]) -> Result<()> {
    check(bytes, Kind::Tensor)
}

fn check(bytes: &[u8], kind: Kind) -> Result<()> {
    let limit = MEMORY_BASE.saturating_add(bytes.len().saturating_mul(MEMORY_PER_BYTE));
    let mut scan = Scan { memory: 0, limit, path: Vec::new() };
    scan.message(bytes, kind).map_err(|problem| {
        let place = scan.place();
        Error::invalid(format!("not a readable ONNX file: {problem}{place}")).code_is("E0100")
    })
}

/// Messages of the schema that differ in what their fields hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    ValueInfo,
    Type,
    TensorType,
    ElementType,
    MapType,
    Shape,
    Training,
    Function,
    Annotation,
    Placement,
    Sharding,
    ShardedDim,
    /// A message without repeated messages inside.
    Leaf,
    /// A name of a value.
    Name,
    /// Any other string in a list.
    Text,
    /// Numbers in packed form.
    Packed,
}

impl Kind {
    /// What a length-delimited field holds, and how messages call it.
    pub(super) fn field(self, number: u64) -> Option<(&'static str, Kind)> {
        use Kind::*;
        Some(match (self, number) {
            (Model, 7) => ("graph", Graph),
            (Model, 8) => ("opset_import", Leaf),
            (Model, 14) | (Graph, 16) | (Node, 9) => ("metadata_props", Leaf),
            (Model, 20) => ("training_info", Training),
            (Model, 25) => ("functions", Function),
            (Model, 26) => ("configuration", Leaf),
            (Graph, 1) | (Function, 7) => ("node", Node),
            (Graph, 5) => ("initializer", Tensor),
            (Graph, 11) => ("input", ValueInfo),
            (Graph, 12) => ("output", ValueInfo),
            (Graph, 13) | (Function, 12) => ("value_info", ValueInfo),
            (Graph, 14) => ("quantization_annotation", Annotation),
            (Graph, 15) => ("sparse_initializer", Sparse),
            (Node, 1) => ("input", Name),
            (Node, 2) => ("output", Name),
            (Node, 5) | (Function, 11) => ("attribute", Attribute),
            (Node, 10) => ("device_configurations", Placement),
            (Attribute, 5 | 10) => ("tensor", Tensor),
            (Attribute, 6 | 11) => ("graph", Graph),
            (Attribute, 8) => ("ints", Packed),
            (Attribute, 9) => ("strings", Text),
            (Attribute, 14 | 15) => ("type", Type),
            (Attribute, 22 | 23) => ("sparse_tensor", Sparse),
            (Tensor, 1) => ("dims", Packed),
            (Tensor, 5) => ("int32_data", Packed),
            (Tensor, 6) => ("string_data", Text),
            (Tensor, 7) => ("int64_data", Packed),
            (Tensor, 11) => ("uint64_data", Packed),
            (Tensor, 13) => ("external_data", Leaf),
            (Tensor, 16) | (ValueInfo, 4) | (Function, 14) => ("metadata_props", Leaf),
            (Sparse, 1) => ("values", Tensor),
            (Sparse, 2) => ("indices", Tensor),
            (Sparse, 3) => ("dims", Packed),
            (ValueInfo, 2) => ("type", Type),
            (Type, 1 | 8) => ("type", TensorType),
            (Type, 4 | 9) => ("type", ElementType),
            (Type, 5) => ("type", MapType),
            (TensorType, 2) => ("shape", Shape),
            (ElementType, 1) | (MapType, 2) => ("type", Type),
            (Shape, 1) => ("dim", Leaf),
            (Training, 1) => ("initialization", Graph),
            (Training, 2) => ("algorithm", Graph),
            (Training, 3 | 4) => ("binding", Leaf),
            (Function, 4..=6) => ("name", Name),
            (Function, 9) => ("opset_import", Leaf),
            (Annotation, 2) => ("quant_parameter_tensor_names", Leaf),
            (Placement, 2) => ("sharding_spec", Sharding),
            (Sharding, 2) => ("device", Packed),
            (Sharding, 3) => ("index_to_device_group_map", Leaf),
            (Sharding, 4) => ("sharded_dim", ShardedDim),
            (ShardedDim, 2) => ("simple_sharding", Leaf),
            _ => return None,
        })
    }

    /// Is it a message whose fields matter here?
    pub(super) fn has_messages(self) -> bool {
        !matches!(self, Self::Leaf | Self::Name | Self::Text | Self::Packed)
    }

    /// Bytes of memory that one costs in the decoded message and in the graph made from it, apart
    /// from its fields: rounded up from the sizes of the types.
    fn memory(self, length: usize) -> usize {
        match self {
            Kind::Node | Kind::Graph | Kind::Function => 1024,
            Kind::Attribute | Kind::Tensor | Kind::Sparse | Kind::ValueInfo => 512,
            Kind::Name => 400 + 3 * length,
            Kind::Text => 24 + length,
            // A one-byte varint becomes eight bytes, in a vector that grows by doubling.
            Kind::Packed => 16 * length,
            _ => 128,
        }
    }
}

struct Scan {
    memory: usize,
    limit: usize,
    path: Vec<(&'static str, usize)>,
}

impl Scan {
    fn message(&mut self, bytes: &[u8], kind: Kind) -> Result<(), String> {
        if self.path.len() >= MAX_DEPTH {
            return Err(format!("messages nest deeper than {MAX_DEPTH}"));
        }
        let mut rest = bytes;
        let mut seen: [usize; 32] = [0; 32];
        while !rest.is_empty() {
            let key = varint(&mut rest)?;
            let (number, wire_type) = (key >> 3, key & 7);
            match wire_type {
                0 => {
                    varint(&mut rest)?;
                    self.charge(8)?;
                }
                1 => drop(take(&mut rest, 8)?),
                2 => {
                    let length = varint(&mut rest)?;
                    let length = usize::try_from(length).unwrap_or(usize::MAX);
                    let Some((name, child)) = kind.field(number) else {
                        take(&mut rest, length)?;
                        continue;
                    };
                    let position = seen.get_mut(number as usize).map_or(0, |count| {
                        *count += 1;
                        *count - 1
                    });
                    self.path.push((name, position));
                    let body = take(&mut rest, length)?;
                    self.charge(child.memory(length))?;
                    if child.has_messages() {
                        self.message(body, child)?;
                    }
                    self.path.pop();
                }
                5 => drop(take(&mut rest, 4)?),
                other => return Err(format!("wire type {other} is not used in ONNX")),
            }
        }
        Ok(())
    }

    fn charge(&mut self, bytes: usize) -> Result<(), String> {
        self.memory = self.memory.saturating_add(bytes);
        if self.memory > self.limit {
            return Err("it would take far more memory than its size justifies".to_owned());
        }
        Ok(())
    }

    /// Where the scan stopped, such as `` in graph > initializer #12``.
    fn place(&self) -> String {
        // The outermost steps say enough.
        let steps: Vec<String> = self
            .path
            .iter()
            .take(4)
            .map(|(name, position)| match *name {
                "graph" => (*name).to_owned(),
                _ => format!("{name} #{position}"),
            })
            .collect();
        if steps.is_empty() { String::new() } else { format!(", in {}", steps.join(" > ")) }
    }
}

fn varint(rest: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first().ok_or("it ends in the middle of a number")?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number has more than 64 bits".to_owned())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let Some((body, tail)) = rest.split_at_checked(length) else {
        return Err(format!("{length} bytes are announced, {} are left", rest.len()));
    };
    *rest = tail;
    Ok(body)
}
