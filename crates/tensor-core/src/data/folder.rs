//! Folders of JPEG and PNG images, decoded on demand.

use super::errors::{ambiguous, damaged, misfit, not_found, unsupported};
use super::sample::{Sample, Source, Values};
use crate::Result;
use image::{ColorType, DynamicImage, ImageError, ImageReader, Limits};
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// Decoding one image may take this much memory.
const MAX_DECODE: u64 = 1 << 30;
/// A file larger than this is no image of a data set.
const MAX_FILE: u64 = 256 << 20;

/// Image files in a fixed order: by class, then by name.
#[derive(Debug)]
pub(super) struct Folder {
    files: Vec<PathBuf>,
    channels: usize,
}

/// A folder with what its structure says.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) folder: Folder,
    /// Class of every file; `None` without class sub-folders.
    pub(super) labels: Option<Vec<u32>>,
    /// Names of the class sub-folders.
    pub(super) classes: Vec<String>,
    /// Visible entries that are no images.
    pub(super) skipped: usize,
}

/// Is it a JPEG or PNG file by its extension?
pub(super) fn is_image(path: &Path) -> bool {
    matches!(super::extension(path).as_str(), "jpg" | "jpeg" | "png")
}

/// Lists a folder (or takes a single image file). `channels` is 1 (grey) or 3 (RGB).
///
/// # Errors
/// `E0201` when there are no images, `E0209` when images stand beside class sub-folders.
pub(super) fn list(path: &Path, channels: usize) -> Result<Listing> {
    if !matches!(channels, 1 | 3) {
        return Err(misfit(format!(
            "{}: images have 1 or 3 channels, the model input takes {channels}",
            path.display()
        ))
        .hint("if the axes are in another order use `layout = nhwc` or `layout = nchw`"));
    }
    if path.is_file() {
        let folder = Folder { files: vec![path.to_owned()], channels };
        return Ok(Listing { folder, labels: None, classes: Vec::new(), skipped: 0 });
    }
    let (mut files, folders, mut skipped) = read_folder(path)?;
    let mut labels = None;
    let mut classes = Vec::new();
    if !folders.is_empty() {
        if !files.is_empty() {
            return Err(ambiguous(path, "holds both images and sub-folders")
                .hint("put every image into a class sub-folder, or all into one folder"));
        }
        let mut numbers = Vec::new();
        for (number, folder) in (0_u32..).zip(&folders) {
            let (images, deeper, others) = read_folder(folder)?;
            numbers.extend(std::iter::repeat_n(number, images.len()));
            files.extend(images);
            skipped += deeper.len() + others;
            let name = folder.file_name().unwrap_or_default();
            classes.push(name.to_string_lossy().into_owned());
        }
        labels = Some(numbers);
    }
    if files.is_empty() {
        return Err(not_found(path, "holds no images")
            .hint("expected .jpg or .png files, in one folder or in one sub-folder per class"));
    }
    Ok(Listing { folder: Folder { files, channels }, labels, classes, skipped })
}

/// Images and sub-folders, sorted by name, and the number of other visible entries.
fn read_folder(path: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>, usize)> {
    let (mut images, mut folders, mut others) = (Vec::new(), Vec::new(), 0);
    for entry in std::fs::read_dir(path).map_err(|error| not_found(path, error))? {
        let entry = entry.map_err(|error| not_found(path, error))?.path();
        if entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            continue;
        }
        if entry.is_dir() {
            folders.push(entry);
        } else if is_image(&entry) {
            images.push(entry);
        } else {
            others += 1;
        }
    }
    images.sort();
    folders.sort();
    Ok((images, folders, others))
}

impl Source for Folder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        decode(&self.files[index], self.channels)
    }

    fn place(&self, index: usize) -> String {
        self.files[index].display().to_string()
    }
}

/// Decodes a file to height, width, channels.
fn decode(path: &Path, channels: usize) -> Result<Sample> {
    let io = |error: std::io::Error| not_found(path, error);
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > MAX_FILE {
        return Err(unsupported(path, format!("has {size} bytes, too many for an image")));
    }
    let bytes = std::fs::read(path).map_err(io)?;
    if jpeg_is_truncated(&bytes) {
        return Err(damaged(path, "is a truncated JPEG file").hint("remove or replace it"));
    }
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(io)?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODE);
    reader.limits(limits);
    let image = reader.decode().map_err(|error| match error {
        ImageError::Unsupported(_) => unsupported(path, error)
            .hint("JPEG and PNG are read; convert other formats or remove the file"),
        ImageError::Limits(_) => unsupported(path, error).hint("shrink or remove the image"),
        _ => damaged(path, error).hint("remove or replace it"),
    })?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    let pixels = if channels == 1 { grey(&image) } else { image.into_rgb8().into_raw() };
    Ok(Sample {
        dims: vec![height, width, channels],
        values: Values::Pixels(pixels),
        decoded: true,
    })
}

/// Luma by ITU-R 601 in Pillow's fixed-point form; `image` itself weighs by ITU-R 709, which
/// training pipelines do not use.
fn grey(image: &DynamicImage) -> Vec<u8> {
    if matches!(image.color(), ColorType::L8 | ColorType::L16 | ColorType::La8 | ColorType::La16) {
        return image.to_luma8().into_raw();
    }
    let luma = |[red, green, blue]: [u8; 3]| {
        let [red, green, blue] = [red, green, blue].map(u32::from);
        ((19_595 * red + 38_470 * green + 7_471 * blue + 0x8000) >> 16) as u8
    };
    image.to_rgb8().pixels().map(|pixel| luma(pixel.0)).collect()
}

/// Does a JPEG file lack its end marker? The decoder would fill the rest with grey in silence.
fn jpeg_is_truncated(bytes: &[u8]) -> bool {
    if !bytes.starts_with(&[0xFF, 0xD8]) {
        return false;
    }
    // Segments are skipped as a whole, since a thumbnail inside one has an end marker of its own.
    let mut at = 2;
    while let Some(&[0xFF, marker, high, low]) = bytes.get(at..at + 4) {
        match marker {
            0xDA => return !bytes[at..].windows(2).any(|pair| pair == [0xFF, 0xD9]),
            0xFF => at += 1,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    true
}
