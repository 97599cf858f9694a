//! Results, of jobs that have left both folders, and what earlier attempts have left.

use std::collections::BTreeSet;
use std::time::Instant;

use shared::directory::JobsView;
use shared::error::Result;
use shared::parallel::in_parallel;
use shared::{Claim, JobId, JobResult, ResultId, layout};
use tracing::warn;

use super::{Absence, Scanner};
use crate::blame::Known;
use crate::state::State;

/// Scans in a row in which a job must be nowhere before it is offered again.
const ABSENT_SCANS: u32 = 3;

impl Scanner {
    pub(super) fn load_results(&self, state: &mut State) -> Result<()> {
        let shards = self.directory.shards(layout::RESULTS)?;
        for results in in_parallel(&shards, |shard| self.results_of(*shard))? {
            for known in results {
                state.see_result(known);
            }
        }
        Ok(())
    }

    fn results_of(&self, shard: u32) -> Result<Vec<Known>> {
        let ids: Vec<ResultId> = self.directory.list_shard(layout::RESULTS, shard)?;
        let read = |id| {
            Ok(self
                .directory
                .read_result(id)?
                .map(|found| self.known(&found)))
        };
        ids.into_iter()
            .filter_map(|id| read(id).transpose())
            .collect()
    }

    pub(super) fn known(&self, result: &JobResult) -> Known {
        Known::of(result, &self.directory.search().objectives)
    }

    /// The numbers of attempts that have ended, so that a job whose file was lost gets a new number.
    pub(super) fn load_attempts(&self, state: &mut State) -> Result<()> {
        for shard in self.directory.shards(layout::ATTEMPTS)? {
            for claim in self
                .directory
                .list_shard::<Claim>(layout::ATTEMPTS, shard)?
            {
                state.see_ended(claim.attempt);
            }
        }
        Ok(())
    }

    /// Checkpoints that became useless while no scheduler ran.
    pub(super) fn load_checkpoints(&self, state: &mut State) -> Result<()> {
        let kept = self.directory.checkpointed()?;
        // What is not there needs no removal.
        let spent = std::mem::take(&mut state.spent_checkpoints);
        for (id, below) in spent.into_iter().filter(|(id, _)| kept.contains(id)) {
            let is_spent = match below {
                None => true,
                Some(below) => {
                    let claims = self.directory.checkpoints(id)?;
                    claims.iter().any(|claim| claim.attempt.job.rung < below)
                }
            };
            if is_spent {
                state.spent_checkpoints.insert(id, below);
            }
        }
        Ok(())
    }

    /// Looks for results of jobs that have left both folders, and of jobs that have lost a claim.
    pub(super) fn see_departed(
        &mut self,
        state: &mut State,
        view: &JobsView,
        now: Instant,
    ) -> Result<()> {
        let here = view.jobs();
        let departed: Vec<JobId> = state
            .pending
            .keys()
            .filter(|job| !here.contains(job))
            .copied()
            .collect();
        let is_open = |job: JobId| {
            view.open
                .range(job.attempt(0)..=job.attempt(u32::MAX))
                .next()
                .is_some()
        };
        let disclaimed: BTreeSet<JobId> = self
            .claimed_before
            .difference(&view.claimed)
            .map(|claim| claim.attempt.job)
            .filter(|job| here.contains(job) && !is_open(*job) && state.pending.contains_key(job))
            .collect();
        for job in disclaimed {
            if let Some(result) = self.find_result(state.next_result(job))? {
                state.see_result(self.known(&result));
            }
        }
        self.absent
            .retain(|job, _| departed.binary_search(job).is_ok());
        for job in departed {
            let id = state.next_result(job);
            let found = match self.directory.read_result(id)? {
                None if self.directory.is_network() => self.find_result(id)?,
                other => other,
            };
            if let Some(result) = found {
                self.absent.remove(&job);
                state.see_result(self.known(&result));
                continue;
            }
            if state
                .pending
                .get(&job)
                .is_none_or(|pending| pending.is_missing)
            {
                // It is to be offered as soon as jobs are.
                self.absent.remove(&job);
                continue;
            }
            let absence = self.absent.entry(job).or_insert(Absence {
                scans: 0,
                since: now,
            });
            absence.scans += 1;
            let lasted = now.saturating_duration_since(absence.since);
            if absence.scans >= ABSENT_SCANS && lasted >= self.patience() {
                warn!("{job} has no open job, claim or result and is offered again");
                self.absent.remove(&job);
                state.miss(job);
            }
        }
        Ok(())
    }

    /// A result, without asking for a name that may not be there yet.
    pub(super) fn find_result(&self, id: ResultId) -> Result<Option<JobResult>> {
        if self.directory.is_network() {
            let shard = id.job.configuration.shard();
            let ids: Vec<ResultId> = self.directory.list_shard(layout::RESULTS, shard)?;
            if ids.binary_search(&id).is_err() {
                return Ok(None);
            }
        }
        self.directory.read_result(id)
    }
}
