//! How samples become what the model was trained on: resize, crop, scale, normalise.

use super::errors::{not_found, preprocessing};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::str::FromStr;

/// The schema of a preprocessing file.
pub const SCHEMA: &str = "kerf.preprocess/1";

/// Larger images are refused, so that a slip of the pen does not exhaust memory.
const MAX_SIDE: usize = 65_536;

/// Preprocessing of images, in the order of its fields. The default does nothing but scale 8-bit
/// pixels to 0..1.
///
/// | field | default | meaning |
/// |---|---|---|
/// | `resize` | none | bilinear with antialiasing, to a shorter side or to `HxW` |
/// | `crop` | none | centre crop to `N` x `N` or `HxW` |
/// | `mean`, `std` | 0, 1 | `(x - mean) / std`, one value or one per channel, x in 0..1 |
/// | `layout` | from the model | order of the axes of the model's image inputs |
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// Size before the crop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<Size>,
    /// Size of the centre crop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<Size>,
    /// Subtracted, per channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<PerChannel>,
    /// Divides, per channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub std: Option<PerChannel>,
    /// Axis order of the model input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
}

/// Axis order of a batch of images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Batch, channels, height, width.
    #[default]
    Nchw,
    /// Batch, height, width, channels.
    Nhwc,
}

/// An image size: one number (`224`) or height and width (`224x192`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Size {
    /// The shorter side for a resize, both sides for a crop.
    Side(usize),
    /// Height and width.
    HeightWidth(usize, usize),
}

/// One value for all channels, or one per channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PerChannel {
    /// For all channels.
    One(f32),
    /// One per channel.
    Each(Vec<f32>),
}

impl PerChannel {
    fn values(&self) -> &[f32] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Each(values) => values,
        }
    }
}

impl Size {
    fn sides(self) -> [usize; 2] {
        match self {
            Self::Side(side) => [side, side],
            Self::HeightWidth(height, width) => [height, width],
        }
    }

    /// Height and width of a crop.
    pub(super) fn of_crop(self) -> (usize, usize) {
        let [height, width] = self.sides();
        (height, width)
    }

    /// Height and width of an image after a resize; the longer side is truncated to a whole pixel,
    /// as torchvision does.
    pub(super) fn of_resize(self, height: usize, width: usize) -> (usize, usize) {
        match self {
            Self::HeightWidth(height, width) => (height, width),
            Self::Side(side) if height <= width => (side, side * width / height.max(1)),
            Self::Side(side) => (side * height / width.max(1), side),
        }
    }
}

impl FromStr for Size {
    type Err = Error;

    /// `224` or `224x192` (height first).
    fn from_str(text: &str) -> Result<Self> {
        let number = |part: &str| part.trim().parse::<usize>().ok();
        let size = match text.split_once('x') {
            Some((height, width)) => number(height)
                .zip(number(width))
                .map(|(height, width)| Self::HeightWidth(height, width)),
            None => number(text).map(Self::Side),
        };
        size.ok_or_else(|| {
            preprocessing(format!("not a size: `{text}`"))
                .hint("write `224` or height x width, `224x192`")
        })
    }
}

impl FromStr for PerChannel {
    type Err = Error;

    /// `0.5` or `0.485,0.456,0.406`.
    fn from_str(text: &str) -> Result<Self> {
        let values: Option<Vec<f32>> =
            text.split(',').map(|part| part.trim().parse().ok()).collect();
        match values.as_deref() {
            Some([value]) => Ok(Self::One(*value)),
            Some(_) => Ok(Self::Each(values.unwrap_or_default())),
            None => Err(preprocessing(format!("not a number or list of numbers: `{text}`"))
                .hint("write one value or one per channel, `0.485,0.456,0.406`")),
        }
    }
}

impl Preprocess {
    /// Reads a preprocessing file: JSON with `"schema": "kerf.preprocess/1"`.
    ///
    /// # Errors
    /// `E0210` names the file and, for an unknown key, the nearest known one.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| not_found(path, error))?;
        Self::from_json(&text).map_err(|error| {
            let named = preprocessing(format!("{}: {}", path.display(), error.message()));
            match error.hint_text() {
                Some(hint) => named.hint(hint),
                None => named,
            }
        })
    }

    /// Parses the content of a preprocessing file.
    ///
    /// # Errors
    /// As [`Preprocess::read`].
    pub fn from_json(text: &str) -> Result<Self> {
        const KEYS: [&str; 6] = ["schema", "resize", "crop", "mean", "std", "layout"];
        let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)
            .map_err(|error| preprocessing(format!("is no JSON object: {error}")))?;
        if let Some(key) = object.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let nearest = KEYS.iter().min_by_key(|known| edit_distance(known, key));
            return Err(preprocessing(format!("unknown key: `{key}`"))
                .hint(format!("did you mean `{}`?", nearest.unwrap_or(&"resize"))));
        }
        match object.shift_remove("schema") {
            Some(serde_json::Value::String(schema)) if schema == SCHEMA => {}
            other => {
                let found = other.map_or_else(|| "none".to_owned(), |value| value.to_string());
                return Err(preprocessing(format!("unknown schema: {found}"))
                    .hint(format!("the file needs `\"schema\": \"{SCHEMA}\"`")));
            }
        }
        // One field at a time, so that the message can name it.
        let mut settings = Self::default();
        for (key, value) in object {
            let wrong = |error: serde_json::Error| {
                preprocessing(format!("wrong value for `{key}`: {error}"))
            };
            match key.as_str() {
                "resize" => settings.resize = serde_json::from_value(value).map_err(wrong)?,
                "crop" => settings.crop = serde_json::from_value(value).map_err(wrong)?,
                "mean" => settings.mean = serde_json::from_value(value).map_err(wrong)?,
                "std" => settings.std = serde_json::from_value(value).map_err(wrong)?,
                _ => settings.layout = serde_json::from_value(value).map_err(wrong)?,
            }
        }
        settings.check()?;
        Ok(settings)
    }

    /// The content of a preprocessing file.
    ///
    /// # Errors
    /// When a value has no JSON form.
    pub fn to_json(&self) -> Result<String> {
        #[derive(Serialize)]
        struct File<'a> {
            schema: &'static str,
            #[serde(flatten)]
            settings: &'a Preprocess,
        }
        serde_json::to_string_pretty(&File { schema: SCHEMA, settings: self })
            .map_err(|error| preprocessing(error.to_string()))
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// `E0210` names the field.
    pub fn check(&self) -> Result<()> {
        for (name, size) in [("resize", self.resize), ("crop", self.crop)] {
            if size.is_some_and(|size| size.sides().iter().any(|s| !(1..=MAX_SIDE).contains(s))) {
                return Err(preprocessing(format!(
                    "`{name}` is outside 1 to {MAX_SIDE} pixels a side"
                )));
            }
        }
        for (name, setting) in [("mean", &self.mean), ("std", &self.std)] {
            let values = setting.as_ref().map_or(&[0.5][..], PerChannel::values);
            if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
                return Err(preprocessing(format!("`{name}` must hold finite numbers")));
            }
            if name == "std" && values.iter().any(|&value| value <= 0.0) {
                return Err(preprocessing("`std` must be positive"));
            }
        }
        Ok(())
    }

    /// Mean and standard deviation of every channel; `None` when nothing is to be normalised.
    ///
    /// # Errors
    /// `E0210` when the number of values is not the number of channels.
    pub(super) fn normalisation(&self, channels: usize) -> Result<Option<Vec<(f32, f32)>>> {
        if self.mean.is_none() && self.std.is_none() {
            return Ok(None);
        }
        let expand = |name: &str, setting: &Option<PerChannel>, default: f32| {
            let values =
                setting.as_ref().map_or(std::slice::from_ref(&default), PerChannel::values);
            match values {
                [value] => Ok(vec![*value; channels]),
                _ if values.len() == channels => Ok(values.to_vec()),
                _ => Err(preprocessing(format!(
                    "`{name}` has {} values, the samples have {channels} channels",
                    values.len()
                ))
                .hint("give one value, or one per channel")),
            }
        };
        let means = expand("mean", &self.mean, 0.0)?;
        let stds = expand("std", &self.std, 1.0)?;
        Ok(Some(means.into_iter().zip(stds).collect()))
    }
}

/// Levenshtein distance, for "did you mean".
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
