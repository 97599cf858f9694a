//! The checkpoints that an attempt goes on from.

use anyhow::Result;
use shared::record::Job;
use shared::{Claim, Directory};
use tracing::warn;

/// This job's own checkpoints, newest first; then those its lower rung ended with, where promotions continue.
///
/// # Errors
/// The checkpoints cannot be listed.
pub(crate) fn usable_checkpoints(directory: &Directory, job: &Job) -> Result<Vec<Claim>> {
    let mut own = Vec::new();
    let mut lower = Vec::new();
    for found in directory.checkpoints(job.job.configuration)? {
        if found.attempt.job == job.job {
            own.push(found);
        } else if Some(found.attempt.job) == job.continues {
            lower.push(found);
        }
    }
    // A lower rung ended with the checkpoint of the attempt that has the result.
    if let Some(lower_job) = job.continues
        && !lower.is_empty()
        && let Some(result) = directory.read_result(lower_job)?
    {
        lower.sort_by_key(|c| (c.attempt, &c.owner) != (result.attempt, &result.owner));
    }
    own.append(&mut lower);
    Ok(own)
}

/// The bytes of the first checkpoint that can be read.
pub(crate) fn read_first(directory: &Directory, checkpoints: &[Claim]) -> Option<Vec<u8>> {
    checkpoints.iter().find_map(|from| {
        let read = directory.read_checkpoint(from, largest_checkpoint());
        // An older one, or none, is better than no training.
        read.unwrap_or_else(|error| {
            let message = shared::error::chain(&error);
            warn!("cannot use checkpoint {from}: {message}");
            None
        })
    })
}

/// Bytes that a checkpoint may have to be read: its numbers are in memory twice for a moment.
pub(crate) fn largest_checkpoint() -> u64 {
    crate::memory::available().map_or(u64::MAX, |available| available / 2)
}
