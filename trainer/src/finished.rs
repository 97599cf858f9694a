//! Trainings that have come to their end in a search directory: for `trainer export` and `trainer predict`.
//!
//! Reads only. A training keeps its last checkpoint if it had the full budget, or if a higher rung goes on from it.

use std::path::Path;

use anyhow::Result;
use data::{Dataset, Splits};
use shared::directory::Directory;
use shared::exit::{Code, Failure};
use shared::objective::{NetworkObjective, Objective};
use shared::{Claim, Configuration, ConfigurationId, JobId, JobResult, Outcome};

use crate::resume::largest_checkpoint;
use crate::train::{Learnt, learnt};

/// A training that was evaluated at its budget, with its weights.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) job: JobId,
    pub(crate) configuration: Configuration,
    pub(crate) loss: f64,
    pub(crate) objective: NetworkObjective,
    pub(crate) learnt: Learnt,
}

impl Finished {
    pub(crate) fn read(root: &Path, id: ConfigurationId) -> Result<Self> {
        let directory = Directory::observe(root)?;
        let search = directory.search();
        let Objective::Network(objective) = &search.objective else {
            let message = format!("the objective of `{}` is no network", root.display());
            return Err(Failure::new(Code::BadInput, message).into());
        };
        let mut highest = None;
        for rung in (0..=search.ladder.top()).rev() {
            highest = directory.last_result(id.job(rung))?;
            if highest.is_some() {
                break;
            }
        }
        let Some(result) = highest else {
            return Err(refused(format!(
                "{id} has no result in `{}`",
                root.display()
            )));
        };
        let job = result.job();
        let Outcome::Evaluated { loss } = result.outcome else {
            let outcome = result.outcome.as_str();
            return Err(refused(format!(
                "{job} has no weights: its outcome is `{outcome}`"
            )));
        };
        let learnt = kept(&directory, &result)?.ok_or_else(|| {
            let top = search.ladder.top();
            refused(format!(
                "the weights of {job} were not kept: only those of rung {top}, the full budget, are \
                 (and of lower rungs while a higher one may go on from them)"
            ))
        })?;
        Ok(Self {
            job,
            configuration: result.configuration,
            loss,
            objective: objective.clone(),
            learnt,
        })
    }

    /// The data set that was learnt.
    pub(crate) fn data(&self) -> Result<Splits> {
        let splits = Dataset::load(&self.objective.data).map_err(Failure::from)?;
        if splits.digest.to_string() != self.learnt.data_digest {
            let message = "the data set has changed since the training: its digest is another";
            return Err(refused(message));
        }
        Ok(splits)
    }
}

/// What the attempt that gave a result had learnt at its end, if it was kept.
fn kept(directory: &Directory, result: &JobResult) -> Result<Option<Learnt>> {
    let claim = Claim {
        attempt: result.attempt,
        owner: result.owner.clone(),
    };
    let Some(bytes) = directory.read_checkpoint(&claim, largest_checkpoint())? else {
        return Ok(None);
    };
    let path = directory.layout().checkpoint(&claim);
    let learnt = learnt(&bytes).map_err(|error| {
        let message = format!("cannot use the checkpoint `{}`", path.display());
        Failure::because(Code::BadInput, message, error)
    })?;
    // One from the middle of the training gives other scores than its result says.
    Ok((learnt.spent >= result.budget.amount).then_some(learnt))
}

fn refused(message: impl Into<String>) -> anyhow::Error {
    Failure::new(Code::BadInput, message).into()
}
