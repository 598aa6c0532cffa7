//! Named arrays with a description, in one `safetensors` file.

use crate::{Constant, ElementType, Error, Result, files};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// What a file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Archive {
    /// What the arrays are, as JSON; stands in the file's metadata under the name of its schema.
    pub description: Value,
    /// The arrays, of 32- and 64-bit floats and 64-bit integers.
    pub arrays: BTreeMap<String, Constant>,
}

fn dtype(element: ElementType) -> Option<Dtype> {
    match element {
        ElementType::F32 => Some(Dtype::F32),
        ElementType::F64 => Some(Dtype::F64),
        ElementType::I64 => Some(Dtype::I64),
        _ => None,
    }
}

fn element(dtype: Dtype) -> Option<ElementType> {
    match dtype {
        Dtype::F32 => Some(ElementType::F32),
        Dtype::F64 => Some(ElementType::F64),
        Dtype::I64 => Some(ElementType::I64),
        _ => None,
    }
}

impl Archive {
    /// Writes the file, whole or not at all. The same content gives the same bytes.
    ///
    /// # Errors
    /// `E0003` when it cannot be written.
    pub fn write(&self, path: &Path, schema: &str) -> Result<()> {
        let broken = |error| Error::internal(format!("the archive cannot be made: {error}"));
        let mut views = Vec::with_capacity(self.arrays.len());
        for (name, array) in &self.arrays {
            let Some(dtype) = dtype(array.element()) else {
                return Err(Error::internal(format!("`{name}` is of {:?}", array.element())));
            };
            let view = TensorView::new(dtype, array.dims().to_vec(), array.bytes());
            views.push((name.as_str(), view.map_err(broken)?));
        }
        // One key only, so that the order of the map does not show.
        let metadata = HashMap::from([(schema.to_owned(), self.description.to_string())]);
        files::write_whole(path, |part| {
            safetensors::serialize_to_file(views, Some(metadata), part)
                .map_err(std::io::Error::other)
        })
    }

    /// Reads a file that was written with this schema.
    ///
    /// # Errors
    /// `E0003` when it cannot be read, `code` when it is no such file.
    pub fn read(path: &Path, schema: &str, code: &'static str) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| Error::io(path, &error))?;
        let wrong =
            |what: String| Error::invalid(format!("{}: {what}", path.display())).code_is(code);
        let damaged = |error| wrong(format!("no readable `safetensors` file: {error}"));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
        let description = header.metadata().as_ref().and_then(|found| found.get(schema));
        let description =
            description.ok_or_else(|| wrong(format!("no file of the schema `{schema}`")))?;
        let description: Value = serde_json::from_str(description)
            .map_err(|error| wrong(format!("its description: {error}")))?;
        let mut arrays = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(&bytes).map_err(damaged)?.tensors() {
            let Some(element) = element(view.dtype()) else {
                return Err(wrong(format!("`{name}` is of type {:?}", view.dtype())));
            };
            let array = Constant::from_bytes(element, view.shape().to_vec(), view.data().to_vec())?;
            arrays.insert(name, array);
        }
        Ok(Self { description, arrays })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_written_is_read_and_anything_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let arrays = [
            ("x".to_owned(), Constant::from_f32s(&[2, 1], &[1.5, -0.0]).unwrap()),
            ("n".to_owned(), Constant::from_i64s(&[1], &[-3]).unwrap()),
        ];
        let archive = Archive { description: json!({ "of": 1 }), arrays: arrays.into() };
        archive.write(&path, "kerf.test/1").unwrap();
        assert_eq!(Archive::read(&path, "kerf.test/1", "E0146").unwrap(), archive);
        let other = Archive::read(&path, "kerf.test/2", "E0146").unwrap_err();
        assert_eq!(other.code(), "E0146");
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let error = Archive::read(&path, "kerf.test/1", "E0146").unwrap_err();
            assert_eq!(error.code(), "E0146", "{length} of {} bytes", bytes.len());
        }
    }
}
