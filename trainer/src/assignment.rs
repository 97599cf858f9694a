//! What a job's record means for whoever evaluates it: the task, where it goes on from, and its places.

use anyhow::Result;
use shared::objective::Objective;
use shared::record::Job;
use shared::search::Promotion;
use shared::{Claim, Directory, Search};
use tracing::info;

use crate::evaluator::{Assignment, Place};
use crate::objective::Task;
use crate::resume;

/// What a job needs to be evaluated: where it goes on from, and its places.
///
/// # Errors
/// The checkpoints cannot be read.
pub(crate) fn assignment<'a>(
    directory: &Directory,
    claim: &'a Claim,
    job: &Job,
) -> Result<Assignment<'a>> {
    let search = directory.search();
    let resume = match search.objective {
        Objective::Command(_) => Vec::new(), // its checkpoints are its own affair
        Objective::Network(_) | Objective::Benchmark(_) => {
            resume::usable_checkpoints(directory, job)?
        }
    };
    if let Some(from) = resume.first() {
        info!("job={} goes on from checkpoint {from}", claim.attempt);
    }
    let layout = directory.layout();
    let seen = match search.objective {
        Objective::Command(_) if !job.checks.is_empty() => directory.read_checks(job.job)?,
        Objective::Command(_) | Objective::Network(_) | Objective::Benchmark(_) => Vec::new(),
    };
    Ok(Assignment {
        task: task_of(search, job),
        claim: Some(claim),
        resume,
        seen,
        place: Place {
            log: directory.inside(layout.log(claim))?,
            checkpoints: directory
                .inside(layout.program_checkpoints(job.job, search.promotion_to(job.job.rung)))?,
        },
    })
}

/// The task that a job is.
pub(crate) fn task_of(search: &Search, job: &Job) -> Task {
    let first = match (job.continues, search.promotion) {
        // All rungs below, down to the bracket's first: the cycles of the learning rate were laid out for them.
        (Some(_), Promotion::Continue) => first_rung(search, job),
        _ => job.job.rung,
    };
    let ladder = search.ladder.up_to(job.job.rung);
    let ladder = ladder.unwrap_or(search.ladder); // no job of the search
    Task {
        job: job.job,
        configuration: job.configuration.clone(),
        budget: job.budget,
        earlier_budgets: (first..job.job.rung)
            .map(|rung| ladder.budget(rung))
            .collect(),
        seed: job.seed.unwrap_or_else(|| search.training_seed(job.job)),
        checks: job.checks.clone(),
        checkpoint: None,
    }
}

/// The rung at which the job's bracket starts.
fn first_rung(search: &Search, job: &Job) -> u8 {
    if let Some(first) = job.first_rung {
        return first;
    }
    let num_sizes = u8::try_from(search.bracket_sizes(job.bracket).len()).unwrap_or(u8::MAX); // at most 54
    search
        .ladder
        .original()
        .num_levels()
        .saturating_sub(num_sizes)
        .min(job.job.rung)
}
