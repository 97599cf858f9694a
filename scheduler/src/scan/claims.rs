//! Claims whose owners are silent, and jobs that come back again and again.

use std::time::Instant;

use shared::clock::Silence;
use shared::directory::JobsView;
use shared::error::Result;
use shared::record::{AttemptEnd, TrainerState};
use shared::{Claim, Fate};
use tracing::info;

use super::Scanner;
use crate::state::{Over, State};

impl Scanner {
    /// Finds claims whose owners show no sign of working on them for longer than the lease.
    pub(super) fn see_claims(
        &mut self,
        state: &mut State,
        view: &JobsView,
        now: Instant,
    ) -> Result<()> {
        state.over.clear();
        let lease = self.directory.lease();
        let mut before = std::mem::take(&mut self.claims);
        for claim in &view.claimed {
            let job = claim.attempt.job;
            if !state.expects(job) || state.is_spent(claim.attempt) {
                continue;
            }
            let trainer = self.trainers.get(&claim.owner);
            let sign = trainer.and_then(|trainer| match &trainer.heartbeat.state {
                TrainerState::Working { claim: working, .. } if working == claim => {
                    Some(trainer.heartbeat.beat)
                }
                TrainerState::Working { .. } | TrainerState::Waiting | TrainerState::Gone => None,
            });
            let mut silence = before
                .remove(claim)
                .unwrap_or_else(|| Silence::new(sign, now));
            // Other words of the owner are no sign that it works on this.
            if sign.is_some() {
                silence.see(sign, now);
            }
            let is_over = silence.lasted(now) >= lease || trainer.is_some_and(|t| t.is_dead);
            self.claims.insert(claim.clone(), silence);
            if is_over {
                self.judge(state, claim)?;
            }
        }
        Ok(())
    }

    /// Decides what a silent owner's claim has come to.
    fn judge(&self, state: &mut State, claim: &Claim) -> Result<()> {
        let job = claim.attempt.job;
        // It may have died between publishing the result and dropping the claim.
        if let Some(result) = self.find_result(state.next_result(job))? {
            state.see_result(self.known(&result));
            state.spent_claims.insert(claim.clone());
            return Ok(());
        }
        let ends = self.directory.attempt_ends(job)?;
        let best = best_spent(&ends);
        let saved = self.directory.checkpoints(job.configuration)?;
        let has_saved = saved.contains(claim);
        let heard =
            self.trainers
                .get(&claim.owner)
                .and_then(|trainer| match &trainer.heartbeat.state {
                    TrainerState::Working {
                        claim: working,
                        spent,
                    } if working == claim => Some(*spent),
                    TrainerState::Working { .. } | TrainerState::Waiting | TrainerState::Gone => {
                        None
                    }
                });
        let over = Over {
            claim: Some(claim.clone()),
            // Without a checkpoint of its own the next attempt starts where this one did.
            spent: if has_saved {
                heard.unwrap_or(best).max(best)
            } else {
                best
            },
            without_progress: if has_saved {
                0
            } else {
                num_without_progress(&ends, &saved) + 1
            },
            fate: Fate::NodeLost,
        };
        info!(
            "the owner of {claim} shows no sign of life; spent={} without_progress={}",
            over.spent, over.without_progress
        );
        state.over.insert(claim.attempt, over);
        Ok(())
    }

    /// Finds jobs that trainers give back again and again without getting on.
    pub(super) fn see_hopeless_jobs(&mut self, state: &mut State, view: &JobsView) -> Result<()> {
        let max_attempts = self.directory.search().trainers.max_attempts;
        self.worthy.retain(|attempt| view.open.contains(attempt));
        for attempt in &view.open {
            let is_high = attempt.attempt > max_attempts;
            if !is_high
                || !state.pending.contains_key(&attempt.job)
                || self.worthy.contains(attempt)
            {
                continue;
            }
            let ends = self.directory.attempt_ends(attempt.job)?;
            let saved = self.directory.checkpoints(attempt.job.configuration)?;
            let without_progress = num_without_progress(&ends, &saved);
            match ends.last() {
                Some(end) if without_progress >= max_attempts => {
                    let over = Over {
                        claim: None,
                        spent: end.spent,
                        without_progress,
                        fate: end.fate,
                    };
                    state.over.insert(*attempt, over);
                }
                _ => {
                    self.worthy.insert(*attempt);
                }
            }
        }
        Ok(())
    }
}

fn best_spent(ends: &[AttemptEnd]) -> f64 {
    ends.iter().map(|end| end.spent).fold(0.0, f64::max)
}

/// A warning that SLURM or a person gave says nothing about the job: however often it comes, the job is tried again.
fn is_machines_fault(fate: Fate) -> bool {
    match fate {
        Fate::NodeLost | Fate::DiskFull | Fate::InputOutput | Fate::DeviceFailed => true,
        Fate::Preempted | Fate::TimeLimit | Fate::Stopped => false,
    }
}

/// How many attempts in a row, up to the last, brought the job no further. Stopping the search is nobody's failure.
///
/// A trainer that gave the job back says what its checkpoint has spent. Of a trainer that vanished only the checkpoint
/// itself can tell, so one of its own (`saved`) is progress.
fn num_without_progress(ends: &[AttemptEnd], saved: &[Claim]) -> u32 {
    let mut best = 0.0;
    let mut number = 0;
    for end in ends {
        let has_saved = end.fate == Fate::NodeLost && saved.contains(&end.claim);
        if has_saved || end.spent > best {
            best = end.spent.max(best);
            number = 0;
        } else if is_machines_fault(end.fate) {
            number += 1;
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_and_warnings_are_no_attempts_without_progress() {
        let end = |attempt: u32, spent: f64, fate: Fate| AttemptEnd {
            claim: format!("c000000-r0-a{attempt}.h").parse().unwrap(),
            fate,
            spent,
            message: String::new(),
            at: String::new(),
        };
        let mut ends = vec![end(1, 0.0, Fate::NodeLost), end(2, 0.0, Fate::Preempted)];
        assert_eq!(num_without_progress(&ends, &[]), 1);
        ends.push(end(2, 0.0, Fate::InputOutput));
        assert_eq!(num_without_progress(&ends, &[]), 2);
        ends.push(end(3, 5.0, Fate::NodeLost));
        assert_eq!(
            (num_without_progress(&ends, &[]), best_spent(&ends)),
            (0, 5.0)
        );
        ends.push(end(4, 5.0, Fate::Stopped));
        ends.push(end(5, 5.0, Fate::TimeLimit));
        assert_eq!(
            (num_without_progress(&ends, &[]), best_spent(&ends)),
            (0, 5.0)
        );
        ends.push(end(6, 5.0, Fate::DiskFull));
        assert_eq!(
            (num_without_progress(&ends, &[]), best_spent(&ends)),
            (1, 5.0)
        );
    }
}
