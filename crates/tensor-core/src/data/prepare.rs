//! From a raw sample to what the model input takes.

use super::errors::{misfit, preprocessing, shape_text};
use super::image::Planes;
use super::sample::{Sample, Values};
use super::{InputSpec, Layout, Preprocess};
use crate::Result;
use crate::text::counted;

/// How the axes of a stored sample are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axes {
    /// Not an image.
    Plain,
    /// Height and width of one channel.
    Hw,
    /// Channels first.
    Chw,
    /// Channels last.
    Hwc,
}

/// The preparation of the samples of one input.
#[derive(Debug, Clone)]
pub(super) struct Prepare {
    settings: Preprocess,
    name: String,
    /// Shape without the batch axis, as far as the model states it.
    target: Option<Vec<Option<usize>>>,
    layout: Layout,
    integer: bool,
}

impl Prepare {
    /// For that model input; without one, images are delivered channels first.
    pub(super) fn new(settings: &Preprocess, spec: Option<&InputSpec>) -> Result<Self> {
        settings.check()?;
        let target = spec.and_then(InputSpec::sample_dims);
        let layout = settings.layout.unwrap_or_else(|| guess_layout(target.as_deref()));
        let integer = spec.is_some_and(|spec| !spec.element.is_float());
        let name = spec.map_or_else(String::new, |spec| spec.name.clone());
        if integer && (settings.mean.is_some() || settings.std.is_some()) {
            return Err(preprocessing(format!(
                "`mean` and `std` do not apply to the integer input `{name}`"
            )));
        }
        Ok(Self { settings: settings.clone(), name, target, layout, integer })
    }

    /// Channels that the model input takes, when it is an image with a stated number of them.
    pub(super) fn channels(&self) -> Option<usize> {
        match (self.target.as_deref()?, self.layout) {
            (&[channels, _, _], Layout::Nchw) | (&[_, _, channels], Layout::Nhwc) => channels,
            _ => None,
        }
    }

    /// The axis of a delivered sample that counts channels.
    pub(super) fn channel_axis(&self, dims: &[usize]) -> Option<usize> {
        match (dims.len(), self.layout) {
            (3, Layout::Nchw) => Some(0),
            (3, Layout::Nhwc) => Some(2),
            _ => None,
        }
    }

    /// The order of the axes of a delivered image.
    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// What becomes of the value 0 in each channel.
    pub(super) fn black(&self, channels: usize) -> Vec<f32> {
        let normalisation = self.settings.normalisation(channels).ok().flatten();
        normalisation.map_or(vec![0.0; channels], |settings| {
            settings.into_iter().map(|(mean, std)| -mean / std).collect()
        })
    }

    /// What is done to the axes of samples of that shape, when it is worth telling.
    pub(super) fn note(&self, stored: &[usize], delivered: &[usize]) -> Option<String> {
        let text = match (self.axes(stored, false), self.layout) {
            _ if delivered.len() == 1 && stored.len() > 1 => "flattened",
            (Axes::Hwc, Layout::Nchw) if stored.len() == delivered.len() => {
                "stored channels last, delivered channels first"
            }
            (Axes::Chw, Layout::Nhwc) if stored.len() == delivered.len() => {
                "stored channels first, delivered channels last"
            }
            _ => return None,
        };
        Some(format!("samples of shape {}: {text}", shape_text(stored)))
    }

    /// Resizes, crops, normalises and lays out a sample.
    ///
    /// # Errors
    /// `E0205` when the result does not fit the model input; `place` names the sample.
    pub(super) fn apply(&self, sample: Sample, place: &str) -> Result<Sample> {
        if self.integer && sample.values.is_float() {
            return Err(misfit(format!(
                "{place}: holds floats, model input `{}` takes integers",
                self.name
            )));
        }
        let stored = sample.dims.clone();
        if stored.contains(&0) {
            return Err(misfit(format!("{place}: has the empty shape {}", shape_text(&stored))));
        }
        let prepared = match self.axes(&stored, sample.decoded) {
            Axes::Plain => self.plain(sample)?,
            axes => self.picture(sample, axes)?,
        };
        self.fit(prepared, &stored, place)
    }

    fn axes(&self, dims: &[usize], decoded: bool) -> Axes {
        let target_rank = self.target.as_ref().map(Vec::len);
        let image_wanted = matches!(target_rank, None | Some(1 | 3));
        match *dims {
            [_, _] if image_wanted => Axes::Hw,
            [_, _, _] if decoded => Axes::Hwc,
            [first, _, last] if image_wanted => {
                let counts_channels = |dim| match self.channels() {
                    Some(channels) => dim == channels,
                    None => matches!(dim, 1 | 3 | 4),
                };
                match (counts_channels(first), counts_channels(last), self.layout) {
                    (true, false, _) => Axes::Chw,
                    (false, true, _) => Axes::Hwc,
                    (_, _, Layout::Nchw) => Axes::Chw,
                    (_, _, Layout::Nhwc) => Axes::Hwc,
                }
            }
            _ => Axes::Plain,
        }
    }

    fn plain(&self, sample: Sample) -> Result<Sample> {
        if self.settings.resize.is_some() || self.settings.crop.is_some() {
            return Err(preprocessing(format!(
                "`resize` and `crop` need images, the samples have shape {}",
                shape_text(&sample.dims)
            )));
        }
        if self.integer {
            return Ok(Sample { values: to_integers(sample.values), ..sample });
        }
        let mut values = sample.values.into_floats(true);
        if let Some(normalisation) = self.settings.normalisation(1)? {
            normalise(&mut values, normalisation[0]);
        }
        Ok(Sample { dims: sample.dims, values: Values::Floats(values), decoded: false })
    }

    fn picture(&self, sample: Sample, axes: Axes) -> Result<Sample> {
        let untouched = self.settings.resize.is_none() && self.settings.crop.is_none();
        let keeps_axes = axes == Axes::Hw || (axes == Axes::Chw) == (self.layout == Layout::Nchw);
        if self.integer && untouched && keeps_axes {
            // No detour over floats, which would round large integers.
            let dims = if let [height, width] = *sample.dims {
                self.image_dims(1, height, width)
            } else {
                sample.dims
            };
            return Ok(Sample { dims, values: to_integers(sample.values), decoded: false });
        }
        let values = sample.values.into_floats(!self.integer);
        let mut image = match (axes, sample.dims.as_slice()) {
            (Axes::Hwc, &[height, width, channels]) => {
                Planes::from_interleaved(height, width, channels, &values)
            }
            (_, &[channels, height, width]) => Planes { channels, height, width, values },
            (_, &[height, width]) => Planes { channels: 1, height, width, values },
            _ => return Err(misfit(format!("shape {}", shape_text(&sample.dims)))),
        };
        if let Some(size) = self.settings.resize {
            let (height, width) = size.of_resize(image.height, image.width);
            image = image.resize(height.max(1), width.max(1));
        }
        if let Some(size) = self.settings.crop {
            let (height, width) = size.of_crop();
            image = image.crop(height, width)?;
        }
        if let Some(normalisation) = self.settings.normalisation(image.channels)? {
            let plane = (image.height * image.width).max(1);
            for (values, setting) in image.values.chunks_exact_mut(plane).zip(normalisation) {
                normalise(values, setting);
            }
        }
        let dims = self.image_dims(image.channels, image.height, image.width);
        let values = match self.layout {
            Layout::Nchw => image.values,
            Layout::Nhwc => image.to_interleaved(),
        };
        let values = if self.integer {
            Values::Integers(values.into_iter().map(|value| value.round() as i64).collect())
        } else {
            Values::Floats(values)
        };
        Ok(Sample { dims, values, decoded: false })
    }

    fn image_dims(&self, channels: usize, height: usize, width: usize) -> Vec<usize> {
        match self.layout {
            Layout::Nchw => vec![channels, height, width],
            Layout::Nhwc => vec![height, width, channels],
        }
    }

    /// Checks the shape against the model input; flattens for an input of one axis.
    fn fit(&self, mut sample: Sample, stored: &[usize], place: &str) -> Result<Sample> {
        let Some(target) = &self.target else {
            return Ok(sample);
        };
        if let [length] = target[..] {
            let count = sample.dims.iter().product();
            if length.is_none_or(|length| length == count) {
                sample.dims = vec![count];
            }
        }
        let fits = |(&dim, wanted): (&usize, &Option<usize>)| wanted.is_none_or(|w| w == dim);
        if sample.dims.len() == target.len() && sample.dims.iter().zip(target).all(fits) {
            return Ok(sample);
        }
        let wanted: Vec<String> =
            target.iter().map(|dim| dim.map_or("?".to_owned(), |dim| dim.to_string())).collect();
        let after = if sample.dims == stored {
            String::new()
        } else {
            format!(" (stored as {})", shape_text(stored))
        };
        Err(misfit(format!(
            "{place}: shape {}{after} does not fit model input `{}` of shape {}",
            shape_text(&sample.dims),
            self.name,
            wanted.join("x"),
        ))
        .hint(self.advice(&sample.dims)))
    }

    fn advice(&self, dims: &[usize]) -> String {
        let target = self.target.as_deref().unwrap_or_default();
        let (height, width, channels) = match (target, self.layout) {
            (&[channels, height, width], Layout::Nchw)
            | (&[height, width, channels], Layout::Nhwc) => (height, width, channels),
            _ => return "store the samples in the model's shape, batch axis first".to_owned(),
        };
        let have = self.channel_axis(dims).map(|axis| dims[axis]);
        match (have, channels, height, width) {
            (Some(have), Some(wanted), ..) if have != wanted => format!(
                "the samples have {} and the model wants {wanted}; if the axes are in another \
                 order use `layout = nhwc` or `layout = nchw`",
                counted(have, "channel")
            ),
            (Some(_), _, Some(height), Some(width)) if height == width => {
                format!("add `resize = {height}` and `crop = {height}`")
            }
            (Some(_), _, Some(height), Some(width)) => format!("add `resize = {height}x{width}`"),
            _ => "add `resize` or `crop`, or store the samples in the model's shape".to_owned(),
        }
    }
}

fn normalise(values: &mut [f32], (mean, std): (f32, f32)) {
    values.iter_mut().for_each(|value| *value = (*value - mean) / std);
}

fn to_integers(values: Values) -> Values {
    match values {
        Values::Pixels(pixels) => Values::Integers(pixels.into_iter().map(i64::from).collect()),
        other => other,
    }
}

/// Channels last only when the last axis can count channels and the first cannot.
fn guess_layout(target: Option<&[Option<usize>]>) -> Layout {
    let counts_channels = |dim| matches!(dim, Some(1 | 3 | 4));
    match target {
        Some(&[first, _, last]) if counts_channels(last) && !counts_channels(first) => Layout::Nhwc,
        _ => Layout::Nchw,
    }
}
