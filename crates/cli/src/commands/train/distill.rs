//! Teachers of `kerf distill` and `kerf finetune --teacher`.

use super::super::engine::Own;
use super::super::samples;
use crate::output::{self, Target};
use crate::{flags, input};
use clap::{Args, ValueEnum};
use kd_loss::Mean;
use kd_loss::train::{Choice, DistillParams, Distiller, FeatureTerm};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tensor_core::data::Dataset;
use tensor_core::measure::Runner;
use tensor_core::measure::top_k::TopK;
use tensor_core::progress::Progress;
use tensor_core::run::DeviceName;
use tensor_core::train::Plugin;
use tensor_core::{Error, Result, onnx};

/// Weight of the labels, where there are any.
const HARD_WEIGHT: f64 = 0.1;

/// Flags of distillation.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Distillation")]
pub(super) struct DistillArgs {
    /// Learn from this model too (repeatable: an ensemble). It runs frozen on the same augmented
    /// samples
    #[arg(long, value_name = "MODEL")]
    teacher: Vec<PathBuf>,
    /// How to learn from the scores: soft-targets, standardized, logit-matching, dkd or dist, with
    /// parameters and a weight after a colon, such as `dkd:beta=2,weight=0.5`
    #[arg(long, value_name = "LOSS", default_value = "soft-targets", requires = "teacher")]
    kd_loss: LossArg,
    /// Softens the probabilities of teachers and student [default: as is usual for the loss]
    #[arg(long, value_name = "T", requires = "teacher")]
    temperature: Option<f64>,
    /// Weight of the labels, 0 to 1; the rest goes to the teachers [default: 0.1, or 0 where there
    /// are no labels]
    #[arg(long, value_name = "WEIGHT", requires = "teacher")]
    hard_weight: Option<f64>,
    /// How the probabilities of several teachers are averaged
    #[arg(long, value_enum, value_name = "MEAN", default_value_t = MeanArg::Arithmetic, requires = "teacher")]
    teacher_mean: MeanArg,
    /// Weights of the teachers, such as `2,1` [default: equal]
    #[arg(long, value_name = "WEIGHTS", value_delimiter = ',', requires = "teacher")]
    teacher_weights: Vec<f64>,
    /// Let a value of the student be like one of a teacher, by name (repeatable)
    #[arg(long, value_name = "STUDENT=TEACHER", requires = "teacher")]
    feature: Vec<PairArg>,
    /// How features are compared: hint, attention or relational, with a weight after a colon
    #[arg(long, value_name = "LOSS", default_value = "hint", requires = "feature")]
    feature_loss: LossArg,
}

/// `--teacher-mean`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum MeanArg {
    /// A class counts that any teacher believes in
    Arithmetic,
    /// A class counts that all teachers believe in
    Geometric,
}

/// A loss and its parameters.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
struct LossArg(Choice);

impl FromStr for LossArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        flags::read(text).map(Self)
    }
}

/// `--feature`.
#[derive(Debug, Clone, Serialize)]
struct PairArg {
    student: String,
    teacher: String,
}

impl FromStr for PairArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((student, teacher)) if !student.is_empty() && !teacher.is_empty() => {
                Ok(Self { student: student.to_owned(), teacher: teacher.to_owned() })
            }
            _ => Err("expected two names, such as `layer3.2=layer3.8`".to_owned()),
        }
    }
}

impl DistillArgs {
    /// The plug-in, when there is a teacher.
    pub(super) fn plugin(
        &self,
        set: &Dataset,
        shared: &crate::args::Shared,
        device: DeviceName,
        target: &Path,
    ) -> Result<Option<Box<dyn Plugin>>> {
        if self.teacher.is_empty() {
            return Ok(None);
        }
        let teachers: Vec<&Path> = self.teacher.iter().map(PathBuf::as_path).collect();
        // Whether it may replace a file was checked before; that it is no teacher was not.
        output::check(Target::File { path: target, force: true }, &teachers)?;
        let graphs = teachers.iter().map(|path| onnx::read(path)).collect::<Result<_>>()?;
        let mut logits = self.kd_loss.0.clone();
        if let Some(temperature) = self.temperature {
            logits.set("temperature", temperature);
        }
        let feature = |pair: &PairArg| FeatureTerm {
            student: pair.student.clone(),
            teacher: pair.teacher.clone(),
            loss: self.feature_loss.0.clone(),
        };
        let params = DistillParams {
            logits,
            hard_weight: self.hard_weight(set),
            mean: match self.teacher_mean {
                MeanArg::Arithmetic => Mean::Arithmetic,
                MeanArg::Geometric => Mean::Geometric,
            },
            teacher_weights: self.teacher_weights.clone(),
            features: self.feature.iter().map(feature).collect(),
            shapes: shared.shapes(),
            seed: shared.seed,
            device,
        };
        let distiller = Distiller::new(params, graphs)?;
        if distiller.needs_labels() && !set.has_labels() {
            return Err(Error::invalid("the samples have no labels, but the loss takes some")
                .code_is("E0422")
                .hint("give `--labels`, or `--hard-weight 0` with a loss other than dkd"));
        }
        Ok(Some(Box::new(distiller)))
    }

    fn hard_weight(&self, set: &Dataset) -> f64 {
        self.hard_weight.unwrap_or(if set.has_labels() { HARD_WEIGHT } else { 0.0 })
    }

    /// Hashes of the teachers: with the flags, what distillation depends on.
    pub(super) fn identity(&self) -> Result<Value> {
        let teachers = self.teacher.iter().map(|path| input::sha256(path));
        let teachers = teachers.collect::<Result<Vec<_>>>()?;
        let mut identity = json!(self);
        identity["teacher"] = json!(teachers);
        Ok(identity)
    }

    /// What took part, for the report; nothing without a teacher.
    pub(super) fn report(
        &self,
        set: &Dataset,
        held_out: Option<(&Dataset, usize)>,
        progress: &dyn Progress,
    ) -> Result<Option<DistillReport>> {
        if self.teacher.is_empty() {
            return Ok(None);
        }
        let mut teachers = Vec::new();
        for path in &self.teacher {
            let top1 = held_out.map(|(set, batch)| top1(path, set, batch, progress)).transpose()?;
            let sha256 = input::sha256(path)?;
            teachers.push(TeacherReport { path: path.clone(), sha256, top1 });
        }
        Ok(Some(DistillReport {
            teachers,
            loss: self.kd_loss.clone(),
            hard_weight: self.hard_weight(set),
            features: self.feature.clone(),
        }))
    }
}

/// What took part in a distillation.
#[derive(Debug, Serialize)]
pub(super) struct DistillReport {
    pub(super) teachers: Vec<TeacherReport>,
    loss: LossArg,
    pub(super) hard_weight: f64,
    features: Vec<PairArg>,
}

/// One teacher.
#[derive(Debug, Serialize)]
pub(super) struct TeacherReport {
    pub(super) path: PathBuf,
    sha256: String,
    /// Share of the held-out samples that it classifies correctly, where there are any.
    pub(super) top1: Option<f64>,
}

impl DistillReport {
    /// The name of the loss on scores.
    pub(super) fn loss(&self) -> &str {
        self.loss.0.name()
    }
}

/// The accuracy of a model on labelled samples.
fn top1(path: &Path, set: &Dataset, batch: usize, progress: &dyn Progress) -> Result<f64> {
    let graph = onnx::read(path)?;
    let names: Vec<&str> = graph.inputs.iter().map(|&value| graph.name(value)).collect();
    let mut runner = Own::new(&graph)?;
    let mut top = TopK::new(1);
    for batch in samples::labelled(set, batch, "teacher", progress) {
        let (mut inputs, labels) = batch?;
        // By position where the teacher has other names, as in training.
        for (i, (name, _)) in inputs.iter_mut().enumerate() {
            if let Some(own) = names.get(i).filter(|_| !names.contains(&name.as_str())) {
                *name = (*own).to_owned();
            }
        }
        top.add(&runner.run(&inputs)?, labels.as_deref().unwrap_or_default())?;
    }
    Ok(top.finish()?.top1)
}
