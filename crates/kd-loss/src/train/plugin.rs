//! The plug-in.

use super::params::{DistillParams, refused};
use super::teacher::{Shapes, Teacher};
use crate::Ensemble;
use crate::registry::{FeatureLoss, FeaturePair, LogitLoss};
use candle_core::{Device, Tensor};
use tensor_core::text::near;
use tensor_core::train::{Extra, Plugin, Step, scores};
use tensor_core::{Error, Graph, Result, ValueId};

/// Teaches the graph in training by other graphs.
pub struct Distiller {
    params: DistillParams,
    loss: Box<dyn LogitLoss>,
    soft_weight: f64,
    /// The graphs, until the run begins.
    graphs: Vec<Graph>,
    teachers: Vec<Teacher>,
    features: Vec<Feature>,
    /// What the last loss was the sum of.
    terms: Vec<(String, Tensor)>,
}

/// A pair of values under comparison.
struct Feature {
    student: String,
    /// Which teacher, and which of its features.
    place: (usize, usize),
    weight: f64,
    loss: Box<dyn FeatureLoss>,
}

impl Feature {
    /// What its loss refuses, with the pair's place.
    fn refused(&self, error: candle_core::Error) -> Error {
        let reason = refused(error);
        Error::invalid(format!("features of `{}`: {}", self.student, reason.message()))
            .code_is("E0421")
            .hint("another loss on features, another pair or larger batches may fit")
    }
}

impl Distiller {
    /// With one or more teachers.
    ///
    /// # Errors
    /// `E0420` without a teacher; `E0421` when a parameter is outside its range, a loss is unknown,
    /// or one for logits is chosen for features.
    pub fn new(params: DistillParams, teachers: Vec<Graph>) -> Result<Self> {
        if teachers.is_empty() {
            return Err(Error::invalid("there is no teacher")
                .code_is("E0420")
                .hint("give one or more"));
        }
        if !(0.0..=1.0).contains(&params.hard_weight) {
            let message = format!("the weight of labels is {}, not in 0 to 1", params.hard_weight);
            return Err(Error::invalid(message).code_is("E0421").hint("give another weight"));
        }
        let ensemble = Ensemble { mean: params.mean, weights: params.teacher_weights.clone() };
        // Wrong weights show on any logits.
        let trial = Tensor::zeros((1, 2), candle_core::DType::F32, &Device::Cpu)?;
        ensemble.logits(&vec![trial; teachers.len()], 1.0).map_err(refused)?;
        let method = params.logits.method()?;
        let loss = method.logit_loss(&params.logits.given()).map_err(refused)?;
        for term in &params.features {
            if !term.loss.method()?.takes_features() {
                let message = format!("`{}` compares logits, not features", term.loss.name);
                return Err(Error::invalid(message)
                    .code_is("E0421")
                    .hint("hint, attention and relational compare features"));
            }
        }
        let weight = params.logits.weight.unwrap_or(method.weight);
        let soft_weight = (1.0 - params.hard_weight) * weight;
        let (graphs, teachers, features) = (teachers, Vec::new(), Vec::new());
        Ok(Self { params, loss, soft_weight, graphs, teachers, features, terms: Vec::new() })
    }

    /// Can it not do without labels, whatever their weight?
    pub fn needs_labels(&self) -> bool {
        self.params.hard_weight > 0.0 || self.loss.needs_labels()
    }

    /// Which teacher has a value of that name.
    fn find(&self, name: &str) -> Result<(usize, ValueId)> {
        let found = self.graphs.iter().enumerate().find_map(|(i, g)| Some((i, g.find(name)?)));
        found.ok_or_else(|| {
            let names = self.graphs.iter().flat_map(|graph| {
                (0..graph.value_count()).map(|i| graph.name(ValueId::from_index(i)))
            });
            Error::invalid(format!("no teacher has a value `{name}`"))
                .code_is("E0407")
                .hint(format!("the nearest names are {}", near(name, names)))
        })
    }

    /// Refuses a teacher with other classes than the student's.
    fn check_classes(&self, student: &Graph, shapes: &Shapes) -> Result<()> {
        let of = |graph: &Graph, shapes: &Shapes| -> Result<Vec<usize>> {
            let mut dims = shapes.get(graph, scores(graph)?)?;
            while dims.len() > 2 && dims.last() == Some(&1) {
                dims.pop();
            }
            Ok(dims)
        };
        let own = of(student, shapes)?;
        for (i, graph) in self.graphs.iter().enumerate() {
            let theirs = of(graph, &Shapes::of(graph, &self.params.shapes)?)?;
            if theirs.get(1..) != own.get(1..) {
                return Err(Error::invalid(format!(
                    "teacher {} gives scores of shape {theirs:?}, the student {own:?}",
                    i + 1
                ))
                .code_is("E0420")
                .hint("both must tell the same classes apart, in the same order"));
            }
        }
        Ok(())
    }

    /// Refuses a teacher that reads samples of another shape than the student.
    fn check_inputs(&self, student: &Graph, shapes: &Shapes) -> Result<()> {
        for (i, graph) in self.graphs.iter().enumerate() {
            let theirs = Shapes::of(graph, &self.params.shapes)?;
            for (position, &input) in graph.inputs.iter().enumerate() {
                let name = graph.name(input);
                let by_name = student.find(name).filter(|value| student.inputs.contains(value));
                let by_position = student.inputs.get(position).copied();
                let Some(own) = by_name.or(by_position) else { continue };
                let (theirs, own) = (theirs.get(graph, input)?, shapes.get(student, own)?);
                if theirs.get(1..) != own.get(1..) {
                    return Err(Error::invalid(format!(
                        "teacher {} reads `{name}` of shape {theirs:?}, the student {own:?}",
                        i + 1
                    ))
                    .code_is("E0420")
                    .hint("both must read the same samples"));
                }
            }
        }
        Ok(())
    }
}

impl Plugin for Distiller {
    fn name(&self) -> &str {
        "distillation"
    }

    fn begin(&mut self, student: &Graph, _steps: u64) -> Result<()> {
        let shapes = Shapes::of(student, &self.params.shapes)?;
        self.check_classes(student, &shapes)?;
        self.check_inputs(student, &shapes)?;
        let mut wanted: Vec<Vec<ValueId>> = vec![Vec::new(); self.graphs.len()];
        let mut features = Vec::new();
        for (number, term) in self.params.features.iter().enumerate() {
            let (teacher, value) = self.find(&term.teacher)?;
            let graph = &self.graphs[teacher];
            let theirs = Shapes::of(graph, &self.params.shapes)?.get(graph, value)?;
            let own = student.find(&term.student).ok_or_else(|| {
                let known =
                    (0..student.value_count()).map(|i| student.name(ValueId::from_index(i)));
                Error::invalid(format!("the student has no value `{}`", term.student))
                    .code_is("E0407")
                    .hint(format!("the nearest names are {}", near(&term.student, known)))
            })?;
            let pair = FeaturePair {
                student: shapes.get(student, own)?,
                teacher: theirs,
                seed: self.params.seed.wrapping_add(number as u64),
                device: Device::Cpu,
            };
            let method = term.loss.method()?;
            features.push(Feature {
                student: term.student.clone(),
                place: (teacher, wanted[teacher].len()),
                weight: term.loss.weight.unwrap_or(method.weight),
                loss: method.feature_loss(&term.loss.given(), &pair).map_err(refused)?,
            });
            wanted[teacher].push(value);
        }
        self.features = features;
        let backend = self.params.device.open()?;
        self.teachers = std::mem::take(&mut self.graphs)
            .into_iter()
            .zip(&wanted)
            .map(|(graph, wanted)| Teacher::new(graph, wanted, &backend))
            .collect::<Result<_>>()?;
        Ok(())
    }

    fn wants(&self) -> Vec<String> {
        self.params.features.iter().map(|term| term.student.clone()).collect()
    }

    fn label_weight(&self) -> f64 {
        self.params.hard_weight
    }

    fn loss(&mut self, step: &Step) -> Result<Option<Tensor>> {
        let (samples, classes) = step.scores.dims2()?;
        let mut logits = Vec::new();
        let mut values = Vec::new();
        for teacher in &self.teachers {
            let mut outputs = teacher.run(step.inputs)?.into_iter();
            let scores =
                outputs.next().ok_or_else(|| Error::internal("a teacher without scores"))?;
            logits.push(scores.reshape((samples, classes))?);
            values.push(outputs.collect::<Vec<_>>());
        }
        let labels = match step.labels {
            Some(labels) => Some(Tensor::from_slice(labels, samples, &Device::Cpu)?),
            None if self.loss.needs_labels() => {
                return Err(Error::invalid(format!("`{}` needs labels", self.params.logits.name))
                    .code_is("E0422")
                    .hint("give `labels`, or choose another loss"));
            }
            None => None,
        };
        let (mean, weights) = (self.params.mean, self.params.teacher_weights.clone());
        let teacher = Ensemble { mean, weights }.logits(&logits, self.loss.temperature())?;
        let soft = self.loss.loss(step.scores, &teacher, labels.as_ref()).map_err(refused)?;
        let mut total = (soft * self.soft_weight)?;
        self.terms = vec![(self.params.logits.name.clone(), total.clone())];
        for feature in &self.features {
            let (teacher, index) = feature.place;
            let value = values.get(teacher).and_then(|values| values.get(index));
            let value = value.ok_or_else(|| Error::internal("a feature is missing"))?;
            let term = feature.loss.loss(step.value(&feature.student)?, value);
            let term = term.map_err(|error| feature.refused(error))?;
            let term = (term * feature.weight)?;
            self.terms.push((format!("feature {}", feature.student), term.clone()));
            total = (total + term)?;
        }
        Ok(Some(total))
    }

    fn mixes_samples(&self) -> Option<String> {
        if self.loss.mixes_samples() {
            return Some(format!("the loss `{}`", self.params.logits.name));
        }
        let mixing = self.features.iter().find(|feature| feature.loss.mixes_samples());
        mixing.map(|feature| format!("the loss on features of `{}`", feature.student))
    }

    fn take_terms(&mut self) -> Vec<(String, Tensor)> {
        std::mem::take(&mut self.terms)
    }

    fn variables(&self) -> Vec<Extra> {
        let of = |(number, feature): (usize, &Feature)| {
            let variables = feature.loss.variables().into_iter();
            variables
                .map(|(name, var)| Extra {
                    name: format!("feature{number}.{name}"),
                    var,
                    decays: name == "weight",
                    rate: 1.0,
                })
                .collect::<Vec<_>>()
        };
        self.features.iter().enumerate().flat_map(of).collect()
    }
}
