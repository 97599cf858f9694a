//! Where the checkpoint of a result is, and what trains it again.

use std::path::PathBuf;

use anyhow::Result;
use shared::exit::{Code, Failure};
use shared::id::Claim;
use shared::layout::Layout;
use shared::record::Job;
use shared::{JobId, Search, fs};

use crate::history::{Evaluation, History};

/// The checkpoint of a result's job, or the folder in which a command keeps its own; `None` where neither is there any
/// more: only trainings with the full budget are kept.
pub(crate) fn checkpoint(history: &History, result: &Evaluation) -> Result<Option<PathBuf>> {
    let Some(search) = &history.search else {
        return Ok(None);
    };
    let layout = Layout::new(&history.path);
    let folder = layout.checkpoints(result.job.configuration);
    let names = fs::list(&folder)?;
    let own = names.iter().filter_map(|name| {
        let claim: Claim = name.strip_suffix(".checkpoint")?.parse().ok()?;
        (claim.attempt.job == result.job).then_some((claim.attempt, name))
    });
    let last = own
        .max_by_key(|(attempt, _)| *attempt)
        .map(|(_, name)| folder.join(name));
    let program = layout.program_checkpoints(result.job, search.promotion_to(result.job.rung));
    Ok(last.or_else(|| program.is_dir().then_some(program)))
}

/// The job of a result once more, as a record for `trainer job`.
///
/// # Errors
/// For another program's log, which says nothing of how it was trained.
pub(crate) fn job(history: &History, result: &Evaluation) -> Result<Job> {
    let search = history.search.as_ref().ok_or_else(|| {
        let message = "another program's log: only a search directory says how a job is trained";
        Failure::new(Code::Usage, message)
    })?;
    Ok(job_of(history, result.configuration, result.job, search))
}

/// A job of a configuration of this search, from the start.
pub(crate) fn job_of(history: &History, configuration: usize, job: JobId, search: &Search) -> Job {
    let tried = &history.configurations[configuration];
    Job {
        job,
        bracket: tried.bracket,
        budget: search.ladder.budget(job.rung),
        configuration: tried.values.clone(),
        continues: None,
        search: search.digest.clone(),
        supersedes: None,
        checks: Vec::new(),
        avoid_hosts: Vec::new(),
        memory_mib: None,
        first_rung: None,
        seed: Some(search.training_seed(job)),
    }
}
