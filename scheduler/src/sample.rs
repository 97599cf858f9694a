//! Directories made by `analyzer correlation --extra`: configurations with their jobs and no requests, so that no
//! scheduler works there, and nobody takes back what dead trainers hold.

use std::time::Instant;

use anyhow::{Result, bail};
use shared::directory::{Directory, JobsView, attempt_end};
use shared::exit::{Code, Failure};
use shared::fs::Moved;
use shared::record::Fate;
use shared::wording::count;
use shared::{ConfigurationId, layout};

use crate::scan::Scanner;
use crate::status::{FileClock, TrainerStatus, look};

/// Whether a directory is a sample: whatever a scheduler has configurations of was requested first.
pub(crate) fn is_sample(directory: &Directory) -> Result<bool> {
    if !directory.shards(layout::REQUESTS)?.is_empty() {
        return Ok(false);
    }
    for shard in directory.shards(layout::CONFIGURATIONS)? {
        let there: Vec<ConfigurationId> = directory.list_shard(layout::CONFIGURATIONS, shard)?;
        if let Some(first) = there.first() {
            // A listing may be older than another.
            return Ok(directory.read_request(*first)?.is_none());
        }
    }
    Ok(false)
}

/// No search is begun in a sample.
///
/// # Errors
/// The directory is one: exit code 3.
pub(crate) fn refuse(directory: &Directory) -> Result<()> {
    if is_sample(directory)? {
        let root = directory.layout().root().display();
        let message = format!(
            "`{root}` is a sample that `analyzer correlation --extra` has made, not a search: it has its jobs already and needs \
             no scheduler. Do them with `trainer run {root} --once`"
        );
        bail!(Failure::new(Code::BadInput, message));
    }
    Ok(())
}

/// Takes back the jobs of trainers that have been silent for longer than the lease, by the age of their heartbeats; how
/// many these were.
pub(crate) fn take_back(directory: &Directory) -> Result<usize> {
    let observer = Directory::observe(directory.layout().root())?;
    let (mut scanner, mut state) = Scanner::load(observer)?;
    scanner.scan(&mut state, Instant::now())?;
    let status = look(&scanner, &state, None, FileClock::ask(directory))?;
    let mut number = 0;
    for claim in directory.jobs()?.claimed {
        if is_silent(&status.trainers, claim.owner.as_str()) {
            let end = attempt_end(
                &claim,
                Fate::NodeLost,
                0.0,
                "no sign of life for longer than the lease",
            );
            number += usize::from(directory.end_attempt(&end)? == Moved::Done);
        }
    }
    Ok(number)
}

fn is_silent(trainers: &[TrainerStatus], owner: &str) -> bool {
    let trainer = trainers.iter().find(|trainer| trainer.owner == owner);
    trainer.is_some_and(|trainer| trainer.is_silent)
}

/// One sentence for everything that must happen before all jobs of a sample are done.
pub(crate) fn waiting_for(view: &JobsView, trainers: &[TrainerStatus]) -> Vec<String> {
    let mut sentences = Vec::new();
    if !view.open.is_empty() {
        let jobs = count(view.open.len(), "open job");
        sentences.push(format!(
            "trainers to claim {jobs}: `trainer run DIR --once`, no scheduler is needed"
        ));
    }
    let (silent, held): (Vec<_>, Vec<_>) = view
        .claimed
        .iter()
        .partition(|claim| is_silent(trainers, claim.owner.as_str()));
    if !silent.is_empty() {
        let jobs = count(silent.len(), "claimed job");
        sentences.push(format!(
            "`scheduler retry --lost DIR` to take back {jobs} of silent trainers"
        ));
    }
    if !held.is_empty() {
        sentences.push(format!(
            "trainers to finish {}",
            count(held.len(), "claimed job")
        ));
    }
    if sentences.is_empty() {
        sentences.push("nothing: every job of this sample is done".into());
    }
    sentences
}
