//! The steps of a run and the batches that they see.

use super::augment::Images;
use super::{Job, Length, Moment, Params};
use crate::data::{Batch, Dataset};
use crate::{Error, Result, random};
use rand_chacha::rand_core::RngCore;

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
        Ok(Self { data, params, plan: Plan { batch, per_epoch, steps, evaluate_every } })
    }

    /// The samples in the order of an epoch.
    pub(super) fn shuffled(&self, epoch: u64) -> Dataset {
        let name = format!("train/shuffle/{epoch}");
        self.data.shuffled(random::stream(self.params.seed, &name).next_u64())
    }

    /// The augmented batch of a step, of the samples in the order of its epoch.
    pub(super) fn batch(&self, set: &Dataset, at: Moment) -> Result<Batch> {
        let within = usize::try_from(at.step % self.plan.per_epoch).unwrap_or_default();
        let first = within * self.plan.batch;
        let mut batch = set.batch(first..first + self.plan.batch)?;
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
