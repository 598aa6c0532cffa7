//! The steps of a run and the batches that they see.

use super::augment::Images;
use super::{Job, Length, Moment, Params};
use crate::data::{Batch, Dataset};
use crate::graph::{Dim, Graph};
use crate::group::Group;
use crate::run::DeviceName;
use crate::text::counted;
use crate::{Error, Result, random};
use rand_chacha::rand_core::RngCore;
use std::ops::Range;

/// The steps of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) batch: usize,
    pub(super) per_epoch: u64,
    pub(super) steps: u64,
    pub(super) evaluate_every: u64,
}

impl Plan {
    pub(super) fn moment(self, step: u64) -> Moment {
        Moment { step, steps: self.steps, epoch: step / self.per_epoch }
    }
}

/// What a run trains on.
pub(super) struct Feed<'a> {
    pub(super) data: &'a Dataset,
    pub(super) params: &'a Params,
    pub(super) plan: Plan,
    /// The processes that share each batch.
    pub(super) group: Group,
}

impl<'a> Feed<'a> {
    /// The batches of a job, after a check of its parameters.
    pub(super) fn new(job: &Job<'a>) -> Result<Self> {
        let (data, params) = (job.data, job.params);
        params.check()?;
        let batch = params.batch.min(data.len());
        if batch == 0 {
            return Err(Error::invalid("there are no training samples").code_is("E0201"));
        }
        if params.augment.is_active() && data.images().is_none() {
            return Err(Error::invalid("flips and shifts need images, and the samples are none")
                .code_is("E0406")
                .hint("leave out flips and shifts"));
        }
        let per_epoch = (data.len() / batch) as u64;
        let steps = match params.length {
            Length::Epochs(epochs) => per_epoch.saturating_mul(epochs.into()),
            Length::Steps(steps) => steps,
        };
        let evaluate_every = params.evaluate_every.unwrap_or(per_epoch);
        check_group(&job.group, (job.graph, batch), params)?;
        let plan = Plan { batch, per_epoch, steps, evaluate_every };
        Ok(Self { data, params, plan, group: job.group.clone() })
    }

    /// Which samples of each batch are those of this process.
    pub(super) fn own(&self) -> Range<usize> {
        self.group.share(self.plan.batch)
    }

    /// The samples in the order of an epoch.
    pub(super) fn shuffled(&self, epoch: u64) -> Dataset {
        let name = format!("train/shuffle/{epoch}");
        self.data.shuffled(random::stream(self.params.seed, &name).next_u64())
    }

    /// This process's part of the augmented batch of a step, of the samples in the order of its epoch.
    pub(super) fn batch(&self, set: &Dataset, at: Moment) -> Result<Batch> {
        self.part(set, at, self.own())
    }

    /// The augmented batch of a step with the samples of all processes.
    pub(super) fn whole_batch(&self, set: &Dataset, at: Moment) -> Result<Batch> {
        self.part(set, at, 0..self.plan.batch)
    }

    fn part(&self, set: &Dataset, at: Moment, part: Range<usize>) -> Result<Batch> {
        let within = usize::try_from(at.step % self.plan.per_epoch).unwrap_or_default();
        let first = within * self.plan.batch + part.start;
        let mut batch = set.batch(first..first + part.len())?;
        let augment = &self.params.augment;
        if augment.is_active()
            && let Some((layout, black)) = set.images()
            && let [(_, images)] = batch.inputs.as_mut_slice()
        {
            let place = (self.params.seed, at.epoch, first);
            *images = augment.apply(images, &Images { layout, black }, place)?;
        }
        Ok(batch)
    }
}

/// Refuses what processes cannot share.
fn check_group(group: &Group, (graph, batch): (&Graph, usize), params: &Params) -> Result<()> {
    if group.is_alone() {
        return Ok(());
    }
    let refused = |message: String, hint: &str| {
        Err(Error::invalid(message).code_is("E0621").hint(hint.to_owned()))
    };
    let processes = group.size();
    if batch < processes {
        return refused(
            format!("a batch of {} for {processes} processes", counted(batch, "sample")),
            "start fewer processes, or take larger batches",
        );
    }
    if params.device != DeviceName::Cpu {
        return refused(
            format!("{processes} processes on a device other than the CPU"),
            "several processes compute on the CPU",
        );
    }
    for &input in &graph.inputs {
        let dims = graph.declared(input).and_then(|declared| declared.dims.as_ref());
        if let Some(Dim::Known(samples)) = dims.and_then(|dims| dims.first()) {
            return refused(
                format!("`{}` takes {} at a time", graph.name(input), counted(*samples, "sample")),
                "several processes need a model whose batch is free",
            );
        }
    }
    Ok(())
}
