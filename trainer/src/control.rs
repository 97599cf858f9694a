//! The [`Control`] of a claimed job: warnings, time, heartbeat, checkpoints.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::record::Fate;
use shared::search::{Promotion, Search};
use shared::signal::Warning;
use shared::store::Directory;
use shared::{Budget, Claim, clock};
use tracing::{debug, info};

use crate::heart::Pulse;
use crate::objective::{Control, StopReason};
use crate::time_limit::TimeLimit;

/// A checkpoint is also saved after this share of the budget, but not more often than [`OFTEN`].
const SHARE: f64 = 0.05;
const OFTEN: Duration = Duration::from_secs(30);

/// Steers one claimed job.
#[derive(Debug)]
pub struct JobControl<'a> {
    directory: &'a Directory,
    claim: &'a Claim,
    budget: Budget,
    pulse: Arc<Pulse>,
    warning: &'a Warning,
    limit: TimeLimit,
    saved_at: Instant,
    /// Budget that the newest checkpoint has spent.
    saved: f64,
    /// Whether what this job ends with is wanted: by a later rung, or as the weights of a finished training.
    is_end_kept: bool,
    reason: Option<StopReason>,
}

impl<'a> JobControl<'a> {
    /// The control of a job that goes on from `saved` spent budget (0 for a new one).
    pub fn new(
        directory: &'a Directory,
        claim: &'a Claim,
        budget: Budget,
        pulse: Arc<Pulse>,
        warning: &'a Warning,
        limit: TimeLimit,
    ) -> Self {
        Self {
            is_end_kept: is_end_kept(directory.search(), claim),
            directory,
            claim,
            budget,
            pulse,
            warning,
            limit,
            saved_at: clock::instant(),
            saved: 0.0,
            reason: None,
        }
    }

    /// Budget that the newest checkpoint of this attempt has spent; 0 if it has none.
    pub fn saved(&self) -> f64 {
        self.saved
    }

    /// Why the job was asked to stop, if it was.
    pub fn reason(&self) -> Option<StopReason> {
        self.reason
    }
}

/// Whether a later rung may go on from the end of this job, or its weights are those of a finished training.
fn is_end_kept(search: &Search, claim: &Claim) -> bool {
    search.promotion == Promotion::Continue || claim.attempt.job.rung == search.ladder.top()
}

impl Control for JobControl<'_> {
    fn stop_reason(&mut self) -> Option<StopReason> {
        if self.reason.is_none() {
            self.reason = if let Some(signal) = self.warning.received() {
                info!("{signal}: stopping job={}", self.claim.attempt);
                Some(StopReason::Signal)
            } else if self.limit.is_near() {
                info!(
                    "the SLURM job is about to end: stopping job={}",
                    self.claim.attempt
                );
                Some(StopReason::TimeLimit)
            } else if self.pulse.is_claim_lost() {
                info!("somebody else has job={}: stopping", self.claim.attempt);
                Some(StopReason::ClaimLost)
            } else if self.pulse.is_stopped() {
                info!("the search is stopped: stopping job={}", self.claim.attempt);
                Some(StopReason::SearchStopped)
            } else {
                None
            };
            if self.reason.is_some() {
                self.pulse.let_go();
            }
        }
        self.reason
    }

    fn progress(&mut self, spent: f64) {
        self.pulse.set_spent(spent);
    }

    fn checkpoint_due(&mut self, spent: f64) -> bool {
        if spent >= self.budget.amount {
            return self.is_end_kept;
        }
        let interval = Duration::from_secs_f64(self.directory.search().trainers.checkpoint_s);
        let age = clock::since(self.saved_at);
        age >= interval || (age >= OFTEN && spent - self.saved >= SHARE * self.budget.amount)
    }

    fn save_checkpoint(&mut self, spent: f64, bytes: &[u8]) -> anyhow::Result<()> {
        let start = clock::instant();
        self.directory.save_checkpoint(self.claim, bytes)?;
        debug!(
            "saved checkpoint job={} spent={spent} bytes={} in {:.3} s",
            self.claim.attempt,
            bytes.len(),
            clock::since(start).as_secs_f64()
        );
        self.saved = spent;
        self.pulse.set_saved(spent);
        self.saved_at = clock::instant();
        Ok(())
    }

    fn kept(&mut self, spent: f64) {
        self.saved = spent;
        self.pulse.set_saved(spent);
    }
}

impl StopReason {
    /// How the attempt ended, as it is recorded.
    pub fn fate(self) -> Fate {
        match self {
            Self::Signal => Fate::Preempted,
            Self::TimeLimit => Fate::TimeLimit,
            Self::SearchStopped => Fate::Stopped,
            // Only recorded if the claim comes back, which it does not.
            Self::ClaimLost => Fate::NodeLost,
        }
    }
}
