//! The [`Control`] of a claimed job: warnings, time, heartbeat, checkpoints.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::directory::Directory;
use shared::objective::Objective;
use shared::record::{Checked, Fate};
use shared::search::{Promotion, Search};
use shared::signal::Warning;
use shared::{Budget, Claim, clock};
use tracing::{info, warn};

use crate::heartbeat::JobStatus;
use crate::objective::{Control, StopReason};
use crate::time_limit::TimeLimit;
use crate::watchdog;

/// A checkpoint is also saved after this share of the budget, but not more often than [`OFTEN`].
const SHARE: f64 = 0.05;
const OFTEN: Duration = Duration::from_secs(30);

/// When checkpoints of a job are due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CheckpointTimes {
    /// Of the job, in its unit.
    budget: f64,
    interval: Duration,
    /// Whether what this job ends with is wanted: by a later rung, or as the weights of a finished training.
    is_end_kept: bool,
    saved_at: Instant,
    /// Budget that the newest checkpoint has spent.
    saved: f64,
}

impl CheckpointTimes {
    /// Those of a job that begins now.
    pub(crate) fn new(search: &Search, rung: u8, budget: Budget) -> Self {
        Self {
            budget: budget.amount,
            interval: Duration::from_secs_f64(search.trainers.checkpoint_s),
            is_end_kept: search.promotion == Promotion::Continue
                || rung >= search.ladder.original().top(),
            saved_at: clock::instant(),
            saved: 0.0,
        }
    }

    /// Whether one is due now.
    pub(crate) fn is_due(&self, spent: f64) -> bool {
        if spent >= self.budget {
            return self.is_end_kept;
        }
        let age = clock::since(self.saved_at);
        age >= self.interval || (age >= OFTEN && spent - self.saved >= SHARE * self.budget)
    }

    /// One has been saved.
    pub(crate) fn saved(&mut self, spent: f64) {
        self.saved = spent;
        self.saved_at = clock::instant();
    }
}

/// Steers one claimed job.
#[derive(Debug)]
pub(crate) struct JobControl<'a> {
    directory: &'a Directory,
    claim: &'a Claim,
    status: Arc<JobStatus>,
    warning: &'a Warning,
    limit: TimeLimit,
    times: CheckpointTimes,
    started: Instant,
    /// Budget spent, as reported last, and when it changed.
    spent: Option<f64>,
    changed_at: Instant,
    has_log: bool,
    reason: Option<StopReason>,
    /// What was seen at the job's checks.
    checks: Vec<Checked>,
}

impl<'a> JobControl<'a> {
    /// The control of a job that begins now.
    pub(crate) fn new(
        directory: &'a Directory,
        claim: &'a Claim,
        budget: Budget,
        status: Arc<JobStatus>,
        warning: &'a Warning,
        limit: TimeLimit,
    ) -> Self {
        Self {
            times: CheckpointTimes::new(directory.search(), claim.attempt.job.rung, budget),
            directory,
            claim,
            status,
            warning,
            limit,
            started: clock::instant(),
            spent: None,
            changed_at: clock::instant(),
            has_log: false,
            reason: None,
            checks: Vec::new(),
        }
    }

    /// Budget that the newest checkpoint of this attempt has spent; 0 if it has none.
    pub(crate) fn saved(&self) -> f64 {
        self.times.saved
    }

    /// Why the job was asked to stop, if it was.
    pub(crate) fn reason(&self) -> Option<StopReason> {
        self.reason
    }

    /// Whether the job has reported any progress.
    pub(crate) fn has_progressed(&self) -> bool {
        self.spent.is_some_and(|spent| spent > 0.0)
    }

    /// Whether there is a log of what the job has printed.
    pub(crate) fn has_log(&self) -> bool {
        self.has_log
    }

    /// What was seen at the job's checks, lowest budget first.
    pub(crate) fn checks(&self) -> &[Checked] {
        &self.checks
    }

    /// The search's limit that is passed.
    fn passed_limit(&self) -> Option<StopReason> {
        let trainers = &self.directory.search().trainers;
        let is_over = |since: Instant, limit: Option<f64>| {
            limit.is_some_and(|limit| clock::since(since).as_secs_f64() > limit)
        };
        if is_over(self.started, trainers.job_limit_s) {
            Some(StopReason::JobLimit)
        } else if is_over(self.changed_at, trainers.silence_limit_s) {
            Some(StopReason::Silence)
        } else {
            None
        }
    }
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
            } else if self.status.is_claim_lost() {
                info!("somebody else has job={}: stopping", self.claim.attempt);
                Some(StopReason::ClaimLost)
            } else if self.status.is_stopped() {
                info!("the search is stopped: stopping job={}", self.claim.attempt);
                Some(StopReason::SearchStopped)
            } else if let Some(passed) = self.passed_limit() {
                let words = passed.limit().unwrap_or_default();
                warn!("stopping job={}: {words}", self.claim.attempt);
                Some(passed)
            } else {
                None
            };
        }
        self.reason
    }

    fn progress(&mut self, spent: f64) {
        if self.spent.replace(spent) != Some(spent) {
            self.changed_at = clock::instant();
        }
        self.status.set_spent(spent);
    }

    fn checkpoint_due(&mut self, spent: f64) -> bool {
        self.times.is_due(spent)
    }

    fn save_checkpoint(&mut self, spent: f64, bytes: &[u8]) -> anyhow::Result<()> {
        self.directory.save_checkpoint(self.claim, bytes)?;
        self.times.saved(spent);
        Ok(())
    }

    fn kept(&mut self, spent: f64) {
        self.times.saved(spent);
    }

    fn patience(&self, grace: Duration) -> Duration {
        watchdog::patience(self.warning.received(), self.limit.left(), grace)
    }

    fn saving(&mut self, is_saving: bool) {
        self.status.set_saving(is_saving);
    }

    fn checked(&mut self, seen: &[Checked]) {
        if seen == self.checks {
            return;
        }
        self.checks = seen.to_vec();
        // What is built in has them in its checkpoints.
        if matches!(self.directory.search().objective, Objective::Command(_)) {
            let job = self.claim.attempt.job;
            if let Err(error) = self.directory.keep_checks(job, seen) {
                // The next attempt looks again, at a later loss.
                warn!(
                    "cannot keep what was seen of job={}: {}",
                    self.claim.attempt,
                    shared::error::chain(&error)
                );
            }
        }
    }

    fn printed(&mut self, has_log: bool) {
        self.has_log = has_log;
    }
}

impl StopReason {
    /// How the attempt ended, as it is recorded.
    pub(crate) fn fate(self) -> Fate {
        match self {
            Self::Signal => Fate::Preempted,
            Self::TimeLimit => Fate::TimeLimit,
            Self::SearchStopped => Fate::Stopped,
            // Only recorded if the claim comes back, which it does not; limits have an outcome.
            Self::ClaimLost | Self::JobLimit | Self::Silence | Self::Check => Fate::NodeLost,
        }
    }
}
