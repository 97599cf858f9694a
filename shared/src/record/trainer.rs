//! A trainer's sign of life, and what a scheduler has seen of trainers.

use serde::{Deserialize, Serialize};

use super::job::check_memory;
use crate::clock::Reading;
use crate::error::Invalid;
use crate::format::Record;
use crate::id::{Claim, OwnerId};

/// A trainer's sign of life: `trainers/OWNER.json`, replaced by its owner.
///
/// A watcher times on its own clock how long `beat` has not changed; no clocks are compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Whose.
    pub owner: OwnerId,
    /// Goes up by one each time.
    pub beat: u64,
    /// What it is doing.
    pub state: TrainerState,
    /// Host name, for people.
    pub host: String,
    /// Process id on that host, for people.
    pub pid: u32,
    /// What it computes on: `cpu`, `cuda:0`, `vulkan:0`, …
    pub device: String,
    /// The SLURM job it runs in: `123` or `123_4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slurm_job: Option<String>,
    /// MiB of memory that trainings may use on this host, as far as known: what system and control groups allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<f64>,
    /// MiB of the device's own memory, where it has some and it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_memory_mib: Option<f64>,
    /// Seconds until it has to leave, where its time is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_left_s: Option<f64>,
    /// When this was written, RFC 3339 in UTC, for people.
    pub at: String,
    /// Version of the trainer.
    pub program: String,
}

impl Heartbeat {
    /// MiB that a job's training has: the device's own where there are some, else the host's.
    pub fn training_memory_mib(&self) -> Option<f64> {
        self.device_memory_mib.or(self.memory_mib)
    }
}

impl Record for Heartbeat {
    const FORMAT: &'static str = "heartbeat";
    /// 1.0: first. 1.1: `memory_mib`, `device_memory_mib`, `time_left_s`.
    const VERSION: [u32; 2] = [1, 1];

    fn check(&self) -> Result<(), Invalid> {
        check_memory("memory_mib", self.memory_mib)?;
        check_memory("device_memory_mib", self.device_memory_mib)?;
        match self.time_left_s {
            Some(left_s) if !(left_s.is_finite() && left_s >= 0.0) => {
                let expected = "a finite number from 0 on";
                Err(Invalid::new("time_left_s", expected, left_s))
            }
            _ => Ok(()),
        }
    }
}

/// What a trainer is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TrainerState {
    /// Waits for an open job.
    Waiting,
    /// Has claimed a job.
    Working {
        /// Which.
        claim: Claim,
        /// Budget spent on it so far, in its unit.
        spent: f64,
    },
    /// Has left in good order and holds nothing.
    Gone,
}

/// What a scheduler saw of the trainers when it left: `observations/HOST.json`, replaced by each scheduler of that host.
///
/// The next scheduler there goes on timing. A claim and its owner's counter never come back once they have changed, so
/// an observation that is old, or another scheduler's, says less than a new one and nothing wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The host that watched.
    pub host: String,
    /// That host's clocks at the time.
    pub reading: Reading,
    /// Trainers that had not left.
    pub trainers: Vec<ObservedTrainer>,
    /// Jobs in trainers' hands.
    pub claims: Vec<ObservedClaim>,
}

impl Record for Observation {
    const FORMAT: &'static str = "observation";
    /// 1.0: first.
    const VERSION: [u32; 2] = [1, 0];

    fn check(&self) -> Result<(), Invalid> {
        let trainers = self.trainers.iter().map(|trainer| trainer.silent_s);
        let claims = self.claims.iter().map(|claim| claim.silent_s);
        for silent_s in trainers.chain(claims) {
            if !(silent_s.is_finite() && silent_s >= 0.0) {
                return Err(Invalid::new(
                    "silent_s",
                    "a finite number from 0 on",
                    silent_s,
                ));
            }
        }
        Ok(())
    }
}

/// A trainer as a scheduler saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservedTrainer {
    /// Which.
    pub owner: OwnerId,
    /// Its heartbeat's counter.
    pub beat: u64,
    /// Seconds, at least, for which that had not changed.
    pub silent_s: f64,
}

/// A claimed job as a scheduler saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservedClaim {
    /// Which, and whose.
    pub claim: Claim,
    /// The counter of the last heartbeat that named it, if one has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beat: Option<u64>,
    /// Seconds, at least, for which that had not changed.
    pub silent_s: f64,
}
