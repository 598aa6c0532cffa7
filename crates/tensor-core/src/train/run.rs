//! The training loop.

use super::checkpoint::{self, Snapshot};
use super::evaluate::{Score, arrays, as_matrix, evaluate};
use super::feed::{Feed, Plan};
use super::loss::check_labels;
use super::report::{Planned, Point, Processes, Rate, Report};
use super::restored::Restored;
use super::trainer::{Trainer, diverged};
use super::{Keep, Outline, Params, Plugin, prepare};
use crate::data::Dataset;
use crate::group::Group;
use crate::journal::{Identity, Journal};
use crate::progress::{self, Progress};
use crate::run::Session;
use crate::{Error, Graph, Result, rewrite};
use candle_core::{Device, Tensor};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The checkpoint that a run goes on from, and the one with the highest accuracy.
const LAST: &str = "last.safetensors";
const BEST: &str = "best.safetensors";

/// What a checkpoint calls the sum of a term of the loss, before its name.
const TERM: &str = "run/term/";

/// Batches from which restored normalizations have their first statistics.
const STATISTICS: u64 = 32;

/// What is to be trained, on what and how.
pub struct Job<'a> {
    /// The model.
    pub graph: &'a Graph,
    /// Training samples. What does not fill a batch at the end of an epoch is left to the next
    /// epoch, which has another order.
    pub data: &'a Dataset,
    /// Held-out samples with labels.
    pub evaluation: Option<&'a Dataset>,
    /// How to train.
    pub params: &'a Params,
    /// Techniques that take part.
    pub plugins: &'a mut [Box<dyn Plugin>],
    /// A run folder: journal, checkpoints and resume.
    pub folder: Option<&'a Path>,
    /// What determines the result beside `params`: hashes of the model and of the data, settings
    /// of the plug-ins. A run in the folder goes on only when all of it is the same.
    pub identity: Identity,
    /// Who watches.
    pub progress: &'a dyn Progress,
    /// The processes that share each batch. Each has a job that differs in nothing else, and gets the
    /// same result, which is that of one process but for the order of sums; the first alone writes
    /// into the run folder. A run may go on with another number of processes.
    pub group: Group,
}

/// What a run gave.
#[derive(Debug)]
pub struct Trained {
    /// The trained model, with what plug-ins learned folded in.
    pub graph: Graph,
    /// How it went.
    pub report: Report,
}

/// Sums since the last point.
#[derive(Debug, Clone, Default)]
struct Sums {
    steps: f64,
    loss: f64,
    correct: f64,
    terms: BTreeMap<String, f64>,
}

/// Trains a model.
///
/// With a run folder the run leaves `journal.jsonl`, `last.safetensors` and, with held-out data,
/// `best.safetensors`; when it is interrupted, the same job goes on from the last checkpoint and
/// gives the same bytes as a run that was not interrupted. All random draws come from streams of
/// the seed by purpose, epoch and step; the result does not depend on the number of threads.
///
/// # Errors
/// `E0130` when it was stopped, after a checkpoint was written; `E0401` when the loss is not
/// finite; `E0402` when there is nothing to train; `E0403` and `E0404` when the run folder does not
/// fit; `E0405` when the model is no classifier; `E0406` and `E0407` for wrong parameters and
/// names; `E0621` for what processes cannot share; errors of data and operators.
pub fn train(job: Job) -> Result<Trained> {
    let feed = Feed::new(&job)?;
    let restored = Restored::new(prepare(job.graph), &feed, STATISTICS, job.progress)?;
    let identity = job.identity.clone();
    let mut run = Run::new(&restored, feed, job)?;
    let resumed_from = run.open(identity)?;
    run.run()?;
    run.finish(resumed_from)
}

/// What [`train`] would do, after everything that can be checked without training.
///
/// # Errors
/// As [`train`].
pub fn plan(job: Job) -> Result<Planned> {
    let feed = Feed::new(&job)?;
    let restored = Restored::new(prepare(job.graph), &feed, 1, job.progress)?;
    Ok(Run::new(&restored, feed, job)?.planned())
}

/// A run under way.
struct Run<'a> {
    trainer: Trainer<'a>,
    feed: Feed<'a>,
    restored: &'a Restored,
    evaluation: Option<&'a Dataset>,
    progress: &'a dyn Progress,
    folder: Option<PathBuf>,
    journal: Option<Journal>,
    /// Steps done.
    done: u64,
    sums: Sums,
    points: Vec<Point>,
    best: Option<Best>,
    started: Instant,
    /// Time in sums over processes before that.
    waited: Duration,
    /// The step that this process began with.
    from: u64,
}

impl<'a> Run<'a> {
    fn new(restored: &'a Restored, feed: Feed<'a>, job: Job<'a>) -> Result<Self> {
        let parameters = restored.parameters(job.params)?;
        let (steps, params) = (feed.plan.steps, job.params);
        let rate = |step: u64| params.schedule.factor(step, steps, params.warmup());
        let outline = Outline::new(steps, feed.plan.per_epoch, &rate);
        for plugin in job.plugins.iter_mut() {
            for warning in plugin.outline(&outline)? {
                job.progress.warn(&warning);
            }
        }
        let run = Self {
            trainer: Trainer::new(restored.graph(), parameters, &feed, job.plugins)?,
            feed,
            restored,
            evaluation: job.evaluation,
            progress: job.progress,
            folder: job.folder.map(Path::to_owned),
            journal: None,
            done: 0,
            sums: Sums::default(),
            points: Vec::new(),
            best: None,
            started: Instant::now(),
            waited: Duration::ZERO,
            from: 0,
        };
        run.probe()?;
        Ok(run)
    }

    fn planned(&self) -> Planned {
        let parameters = &self.trainer.parameters;
        let frozen = parameters
            .iter()
            .filter(|parameter| parameter.is_frozen() && !self.restored.replaces(parameter.value));
        let trained = parameters.iter().filter(|parameter| !parameter.is_frozen());
        Planned {
            steps: self.feed.plan.steps,
            steps_per_epoch: self.feed.plan.per_epoch,
            samples: self.feed.data.len(),
            trained_values: trained.map(|parameter| parameter.var.elem_count()).sum(),
            frozen: frozen.map(|parameter| parameter.name.clone()).collect(),
            restored_norms: self.restored.layers().to_vec(),
            rates: self.rates(),
        }
    }

    fn rates(&self) -> Vec<Rate> {
        /// Steps that show the shape of a schedule.
        const SHOWN: u64 = 100;
        let (steps, params) = (self.feed.plan.steps, self.trainer.params);
        let every = steps.div_ceil(SHOWN).max(1);
        let shown = (0..steps).filter(|step| step % every == 0 || step + 1 == steps);
        let factor = |step| params.schedule.factor(step, steps, params.warmup());
        shown.map(|step| Rate { step, rate: params.rate * factor(step) }).collect()
    }

    /// Finds out what would fail later: the graph runs, its output has classes, labels are classes.
    fn probe(&self) -> Result<()> {
        let graph = self.trainer.graph;
        let samples = self.feed.own().len();
        let batch = self.feed.data.batch(0..samples)?;
        let inputs: Vec<_> = graph.inputs.iter().copied().zip(arrays(graph, &batch)?).collect();
        let scores = self.trainer.scores;
        let session = Session::until(graph, &[scores])?.on(&self.trainer.backend)?;
        let outputs = session.fetch(&inputs, &[scores])?;
        let first = outputs.first().ok_or_else(|| Error::internal("no scores"))?;
        let classes = as_matrix(&first.tensor, samples)?.dim(1)?;
        if self.trainer.needs_labels() {
            check_labels("training ", &self.feed.data.labels()?, classes)?;
        }
        if let Some(set) = self.evaluation {
            check_labels("held-out ", &set.labels()?, classes)?;
        }
        Ok(())
    }

    /// Opens the run folder and goes back to its last checkpoint.
    fn open(&mut self, mut identity: Identity) -> Result<Option<u64>> {
        let Some(folder) = self.folder.clone() else { return Ok(None) };
        identity.insert("training".to_owned(), json!(self.trainer.params));
        identity.insert("samples".to_owned(), json!(self.feed.data.len()));
        let group = self.feed.group.clone();
        let mut journal = None;
        let entries = group.broadcast(|| {
            let (opened, entries) = Journal::open(&folder, "train", &identity)?;
            journal = Some(opened);
            Ok(json!(entries).to_string().into_bytes())
        })?;
        self.points = serde_json::from_slice(&entries).map_err(|error| {
            Error::invalid(format!("the journal of {}: {error}", folder.display()))
                .code_is("E0404")
                .hint("remove the run folder and begin again")
        })?;
        let last = checkpoint::read(&folder.join(LAST), &group)?;
        match &last {
            Some(snapshot) => self.restore(snapshot)?,
            None => self.points.clear(),
        }
        let point = self.last_point();
        if let Some(journal) = &mut journal {
            journal.retain(|entry| entry["step"].as_u64().is_some_and(|step| step <= point))?;
        }
        self.journal = journal;
        self.from = self.done;
        Ok(last.map(|_| self.done))
    }

    fn run(&mut self) -> Result<()> {
        let steps = self.feed.plan.steps;
        self.progress.stage("train", usize::try_from(steps).unwrap_or(usize::MAX));
        if self.done > 0 {
            self.progress.note(&format!("goes on from step {} of {steps}", self.done));
            self.progress.advance(usize::try_from(self.done).unwrap_or(usize::MAX), "");
        }
        self.started = Instant::now();
        self.waited = self.feed.group.spent();
        let mut order: Option<(u64, Dataset)> = None;
        loop {
            // All processes stop at the same step, whichever was asked to.
            if self.feed.group.any(self.progress.cancelled())? {
                self.write_checkpoint()?;
                return Err(progress::interrupted());
            }
            let is_due =
                self.done.is_multiple_of(self.feed.plan.evaluate_every) || self.done == steps;
            if is_due && self.done > self.last_point() {
                let taken = self.take_point();
                // An evaluation that was stopped is made after the resumption.
                self.write_checkpoint()?;
                taken?;
            }
            if self.done == steps {
                return Ok(());
            }
            let at = self.feed.plan.moment(self.done);
            let set = match &order {
                Some((epoch, set)) if *epoch == at.epoch => set,
                _ => &order.insert((at.epoch, self.feed.shuffled(at.epoch))).1,
            };
            let batch = self.feed.batch(set, at)?;
            let measured = self.trainer.step(at, &batch)?;
            self.done += 1;
            self.sums.steps += 1.0;
            self.sums.loss += measured.loss;
            self.sums.correct += measured.correct as f64;
            for (name, value) in measured.terms {
                *self.sums.terms.entry(name).or_default() += value;
            }
            self.progress.advance(1, &format!("loss {:.4}", measured.loss));
            let every = self.trainer.params.checkpoint_every;
            if every.is_some_and(|every| self.done.is_multiple_of(every)) {
                self.write_checkpoint()?;
            }
        }
    }

    /// The step of the last point.
    fn last_point(&self) -> u64 {
        self.points.last().map_or(0, |point| point.step)
    }

    /// Evaluates, and keeps the weights when they are the best so far.
    fn take_point(&mut self) -> Result<()> {
        let evaluation = match self.evaluation {
            Some(set) => {
                let graph = self.trainer.written(true)?;
                let Trainer { scores, backend, plugins, .. } = &mut self.trainer;
                let session = Session::until(&graph, &[*scores])?.on(backend)?;
                let set = (set, self.feed.plan.batch, &self.feed.group);
                Some(evaluate(&session, &graph, *scores, set, plugins, self.progress)?)
            }
            None => None,
        };
        if let Some(loss) = evaluation.map(|score| score.loss).filter(|loss| !loss.is_finite()) {
            return Err(diverged(format!(
                "the loss on the held-out samples is {loss} after {} of {} steps",
                self.done, self.feed.plan.steps
            )));
        }
        let seen = (self.sums.steps * self.feed.plan.batch as f64).max(1.0);
        let steps = self.sums.steps.max(1.0);
        let terms = self.sums.terms.iter();
        let terms = terms.map(|(name, sum)| (name.clone(), rounded(sum / steps))).collect();
        let point = Point {
            step: self.done,
            train_loss: rounded(self.sums.loss / steps),
            train_accuracy: self
                .feed
                .data
                .has_labels()
                .then_some(rounded(self.sums.correct / seen)),
            evaluation: evaluation.map(|score| Score {
                loss: rounded(score.loss),
                accuracy: rounded(score.accuracy),
                ..score
            }),
            terms,
        };
        self.sums = Sums::default();
        self.progress.note(&self.line(&point));
        self.points.push(point.clone());
        if let Some(journal) = &mut self.journal {
            let mut entry = json!(point);
            entry["samples_per_second"] =
                json!(speed(self.feed.plan, self.done - self.from, self.started));
            for plugin in self.trainer.plugins.iter() {
                if let Some(note) = plugin.note() {
                    entry[plugin.name()] = note;
                }
            }
            journal.append(&entry)?;
        }
        match evaluation {
            Some(score) if self.best.as_ref().is_none_or(|best| score.accuracy > best.accuracy) => {
                self.keep_best(score.accuracy)
            }
            _ => Ok(()),
        }
    }

    fn keep_best(&mut self, accuracy: f64) -> Result<()> {
        self.best = Some(Best { accuracy, step: self.done, weights: None });
        let snapshot = self.snapshot()?;
        match (&self.folder, &mut self.best) {
            (Some(_), _) if !self.feed.group.is_first() => {}
            (Some(folder), _) => checkpoint::write(&folder.join(BEST), &snapshot)?,
            (None, Some(best)) if self.trainer.params.keep == Keep::Best => {
                best.weights = Some(snapshot);
            }
            _ => {}
        }
        Ok(())
    }

    /// A point in words, for whoever watches.
    fn line(&self, point: &Point) -> String {
        let mut line = format!(
            "epoch {:.1}  step {}/{}  loss {:.4}",
            point.step as f64 / self.feed.plan.per_epoch as f64,
            point.step,
            self.feed.plan.steps,
            point.train_loss
        );
        if let Some(accuracy) = point.train_accuracy {
            line.push_str(&format!("  train {:.2}%", accuracy * 100.0));
        }
        if let Some(score) = &point.evaluation {
            line.push_str(&format!("  held out {:.2}%", score.accuracy * 100.0));
        }
        if let Some(speed) = speed(self.feed.plan, self.done - self.from, self.started) {
            let left =
                (self.feed.plan.steps - self.done) as f64 * self.feed.plan.batch as f64 / speed;
            line.push_str(&format!("  {speed:.0} samples/s  {left:.0} s left"));
        }
        line
    }

    fn write_checkpoint(&self) -> Result<()> {
        match &self.folder {
            Some(folder) if self.feed.group.is_first() => {
                checkpoint::write(&folder.join(LAST), &self.snapshot()?)
            }
            _ => Ok(()),
        }
    }

    /// The weights and everything else that the run needs to go on.
    fn snapshot(&self) -> Result<Snapshot> {
        let mut snapshot = self.trainer.snapshot()?;
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let steps = [count(self.done), count(self.last_point())];
        snapshot.insert("run/steps".to_owned(), Tensor::new(&steps, &Device::Cpu)?);
        let sums = [self.sums.steps, self.sums.loss, self.sums.correct];
        snapshot.insert("run/sums".to_owned(), Tensor::new(&sums, &Device::Cpu)?);
        for (name, sum) in &self.sums.terms {
            snapshot.insert(format!("{TERM}{name}"), Tensor::new(&[*sum], &Device::Cpu)?);
        }
        if let Some(best) = &self.best {
            let values = [best.accuracy, best.step as f64];
            snapshot.insert("run/best".to_owned(), Tensor::new(&values, &Device::Cpu)?);
        }
        Ok(snapshot)
    }

    /// Goes back to a snapshot; the journal has the points.
    fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        let damaged = || {
            Error::invalid("the checkpoint does not say where the run was")
                .code_is("E0404")
                .hint("remove the run folder and begin again")
        };
        self.trainer.restore(snapshot)?;
        let steps = snapshot.get("run/steps").and_then(|t| t.to_vec1::<i64>().ok());
        let sums = snapshot.get("run/sums").and_then(|t| t.to_vec1::<f64>().ok());
        let (Some([done, point]), Some([steps, loss, correct])) =
            (steps.as_deref(), sums.as_deref())
        else {
            return Err(damaged());
        };
        self.done = u64::try_from(*done).map_err(|_| damaged())?;
        if self.done > self.feed.plan.steps {
            return Err(damaged());
        }
        let term = |(name, tensor): (&String, &Tensor)| {
            let sum = tensor.to_vec1::<f64>().ok()?.first().copied()?;
            Some((name.strip_prefix(TERM)?.to_owned(), sum))
        };
        let terms = snapshot.iter().filter_map(term).collect();
        self.sums = Sums { steps: *steps, loss: *loss, correct: *correct, terms };
        let best = snapshot.get("run/best").and_then(|t| t.to_vec1::<f64>().ok());
        if let Some([accuracy, step]) = best.as_deref() {
            self.best = Some(Best { accuracy: *accuracy, step: *step as u64, weights: None });
        }
        let point = u64::try_from(*point).map_err(|_| damaged())?;
        self.points.retain(|known| known.step <= point);
        Ok(())
    }

    /// The trained graph, with what plug-ins learned folded in.
    fn finish(mut self, resumed_from: Option<u64>) -> Result<Trained> {
        let speed = speed(self.feed.plan, self.done - self.from, self.started);
        let group = &self.feed.group;
        let processes = (!group.is_alone()).then(|| Processes {
            count: group.size(),
            seconds_in_sums: (group.spent() - self.waited).as_secs_f64(),
            seconds: self.started.elapsed().as_secs_f64(),
        });
        let mut kept = self.points.last().cloned();
        if self.trainer.params.keep == Keep::Best
            && let Some(best) = self.best.take()
        {
            kept = self.points.iter().find(|point| point.step == best.step).cloned();
            let snapshot = match (best.weights, &self.folder) {
                (Some(weights), _) => Some(weights),
                (None, Some(folder)) => checkpoint::read(&folder.join(BEST), &self.feed.group)?,
                (None, None) => None,
            };
            let snapshot = snapshot.ok_or_else(|| {
                Error::invalid(format!("the run folder has lost {BEST}")).code_is("E0404")
            })?;
            self.trainer.restore(&snapshot)?;
        }
        self.trainer.check_finite()?;
        let mut graph = self.trainer.written(false)?;
        for plugin in self.trainer.plugins.iter() {
            graph = rewrite::apply(&graph, &plugin.finish(&graph)?)?;
        }
        let graph = self.restored.fold(graph)?;
        let report = Report {
            planned: self.planned(),
            resumed_from,
            kept: kept.filter(|point| point.evaluation.is_some()),
            points: self.points,
            samples_per_second: speed,
            processes,
        };
        Ok(Trained { graph, report })
    }
}

/// With nine decimals, which come back from the journal as they were.
fn rounded(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

/// The best evaluation so far.
struct Best {
    accuracy: f64,
    step: u64,
    /// Where there is no folder to hold them.
    weights: Option<Snapshot>,
}

/// Samples per second over some steps, evaluations included.
fn speed(plan: Plan, steps: u64, since: Instant) -> Option<f64> {
    let seconds = since.elapsed().as_secs_f64();
    (steps > 0 && seconds > 0.0).then(|| steps as f64 * plan.batch as f64 / seconds)
}
