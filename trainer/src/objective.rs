//! What this program evaluates by itself: the burn network and benchmark functions, one file each under `objective/`.
//!
//! An objective knows nothing of claims, leases or results: it is given a [`Task`] and a [`Control`], and says how it
//! ended. The program around it (`run.rs`) turns that into records.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::record::{Check, Checked};
use shared::{Budget, Configuration, CurvePoint, JobId};

pub mod benchmark;
pub mod network;

/// One evaluation to be done: which configuration, to which budget, from which checkpoint.
#[derive(Debug, Clone)]
pub struct Task {
    /// The job.
    pub job: JobId,
    /// The point of the search space.
    pub configuration: Configuration,
    /// The budget at which the task is finished; what a checkpoint has already spent counts.
    pub budget: Budget,
    /// Budgets at which earlier rungs of this very training ended, ascending, when it continues them; else empty.
    pub earlier_budgets: Vec<Budget>,
    /// Drives initialisation, data order and all noise; the same for all rungs of one configuration.
    pub seed: u64,
    /// Where its loss is looked at on its way, ascending; empty where nothing stops it.
    pub checks: Vec<Check>,
    /// The bytes of the newest checkpoint, if there is one to go on from.
    pub checkpoint: Option<Vec<u8>>,
}

/// Why an objective was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// SLURM or a person sent a warning signal.
    Signal,
    /// The time of the SLURM job is about to end.
    TimeLimit,
    /// The search's `stop` file is there.
    SearchStopped,
    /// Somebody else has this job now, or its result.
    ClaimLost,
    /// The attempt has taken `trainers.job_limit_s`.
    JobLimit,
    /// No progress was reported for `trainers.silence_limit_s`.
    Silence,
    /// Its loss at a check is larger than the limit.
    Check,
}

impl StopReason {
    /// The search's limit that was reached, in words; `None` for what is not the job's own doing.
    pub fn limit(self) -> Option<&'static str> {
        match self {
            Self::JobLimit => Some("it took longer than `trainers.job_limit_s` allows"),
            Self::Silence => {
                Some("it reported no progress for longer than `trainers.silence_limit_s` allows")
            }
            Self::Signal
            | Self::TimeLimit
            | Self::SearchStopped
            | Self::ClaimLost
            | Self::Check => None,
        }
    }
}

/// What an objective may ask of, and tell, the program that runs it. Cheap enough to be called at every step.
///
/// The default answers are those of somebody who neither disturbs a training nor keeps anything of it.
pub trait Control {
    /// `Some` when the objective should save a checkpoint and return [`Ended::Interrupted`] as soon as it can.
    fn stop_reason(&mut self) -> Option<StopReason> {
        None
    }

    /// Tells how far the training is, for the heartbeat. `spent` is in the budget's unit.
    fn progress(&mut self, _spent: f64) {}

    /// Whether a checkpoint should be saved now: from time to time, and at the end (where `spent` is the whole budget)
    /// if anybody is going to need it. `spent` is in the budget's unit.
    fn checkpoint_due(&mut self, _spent: f64) -> bool {
        false
    }

    /// Publishes a checkpoint; the bytes are complete and self-describing.
    ///
    /// # Errors
    /// The file system's, most often a full disk; the objective returns it as it is.
    fn save_checkpoint(&mut self, _spent: f64, _bytes: &[u8]) -> anyhow::Result<()> {
        Ok(())
    }

    /// Tells that an interrupted objective keeps what it has spent by itself, where this program sees no checkpoint:
    /// an outside command does. Otherwise a job that is interrupted often would look as if it never got on.
    fn kept(&mut self, _spent: f64) {}

    /// How long the objective may go on after [`Control::stop_reason`] has told it to stop; usually `grace`.
    fn patience(&self, grace: Duration) -> Duration {
        grace
    }

    /// Tells whether an objective that was told to stop is saving what it has, and must not be hurried.
    fn saving(&mut self, _is_saving: bool) {}

    /// Tells what was seen at the task's checks so far, lowest budget first.
    fn checked(&mut self, _seen: &[Checked]) {}

    /// Tells whether there is a log of what the job has printed.
    fn printed(&mut self, _has_log: bool) {}
}

/// What a finished evaluation gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evaluation {
    /// What the search minimises; finite.
    pub loss: f64,
    /// Other numbers worth keeping, by name with unit: `test_error`, `parameters`, `training_s`, `validation_s`, …
    pub measures: BTreeMap<String, f64>,
    /// The learning curve, ascending in `spent`.
    pub curve: Vec<CurvePoint>,
    /// For people, by name.
    pub notes: BTreeMap<String, String>,
}

/// How an evaluation ended. What an objective cannot do for reasons of this machine is an error; a worker process says so.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// Trained to its budget.
    Evaluated(Evaluation),
    /// Ended on its way, because its loss at a check was larger than the limit.
    Stopped {
        /// Budget spent.
        spent: f64,
        /// The largest loss with which it would have gone on.
        limit: f64,
        /// What was known then; its loss is the one at the check.
        evaluation: Evaluation,
    },
    /// The loss stopped being finite, or passed its bound.
    Diverged {
        /// Budget spent when it was noticed.
        spent: f64,
        /// What was seen, in a few words.
        message: String,
    },
    /// The configuration does not fit the device's memory; predicted before training, or caught when it happened.
    OutOfMemory {
        /// MiB the training needs, as far as known.
        needed_mib: f64,
        /// MiB that were free.
        available_mib: f64,
    },
    /// Nothing was trained, and this is known of the configuration all the same: it breaks a constraint.
    Untrained {
        /// Numbers by name.
        measures: BTreeMap<String, f64>,
    },
    /// The configuration failed in another way of its own.
    Crashed {
        /// What happened, in a few words.
        message: String,
    },
    /// This machine failed: a full disk, an unreadable file. The job is given back.
    MachineFailed {
        /// What happened, in a few words.
        message: String,
    },
    /// The device failed in the middle of the job; another one is asked before that counts.
    DeviceFailed {
        /// What happened, in a few words.
        message: String,
    },
    /// Stopped on [`Control::stop_reason`] after saving what there was to save.
    Interrupted,
}

impl Ended {
    /// Whether the device failed.
    pub(crate) fn is_devices(&self) -> bool {
        matches!(self, Self::DeviceFailed { .. })
    }
}
