//! How trainers and the scheduler watch each other.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Invalid;
use crate::number;

/// How trainers show that they live, and how often they are believed to have died.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainerSettings {
    /// Seconds between two heartbeats of a trainer.
    pub heartbeat_s: f64,
    /// Seconds of silence after which a trainer's job is taken back; default: ten heartbeats, and at least 240 s on a
    /// network filesystem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_s: Option<f64>,
    /// Attempts at one job that bring no progress before its outcome is `lost`.
    #[serde(deserialize_with = "number::whole")]
    pub max_attempts: u32,
    /// Seconds between two periodic checkpoints.
    pub checkpoint_s: f64,
    /// Open jobs that the scheduler keeps ready beyond one for each live trainer. More keeps trainers busier when the
    /// filesystem is slow to show files; fewer lets each proposal see more results.
    #[serde(deserialize_with = "number::whole")]
    pub ahead: u32,
    /// Seconds that one attempt at a job may take; longer: it is ended, and the job has crashed. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_limit_s: Option<f64>,
    /// Seconds for which a job may report no progress; longer: it is ended, and the job has crashed. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silence_limit_s: Option<f64>,
    /// KiB of an attempt's output that are kept from its beginning, and as many from its end; default: 1,024.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "number::whole_or_none"
    )]
    pub output_kib: Option<u32>,
    /// Attempts that crash or are lost without any progress, and nothing else, with which a search may begin before no
    /// more jobs are offered; 0: any number; default: 5.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "number::whole_or_none"
    )]
    pub pause_after: Option<u32>,
}

impl Default for TrainerSettings {
    fn default() -> Self {
        Self {
            heartbeat_s: 10.0,
            lease_s: None,
            max_attempts: 5,
            checkpoint_s: 300.0,
            ahead: 0,
            job_limit_s: None,
            silence_limit_s: None,
            output_kib: None,
            pause_after: None,
        }
    }
}

impl TrainerSettings {
    /// Attempts that crash or are lost without any progress, and nothing else, after which no more jobs are offered.
    pub fn pause_after(&self) -> u32 {
        self.pause_after.unwrap_or(5)
    }

    /// Bytes of an attempt's output that are kept from its beginning, and as many from its end.
    pub fn output_bytes(&self) -> usize {
        usize::try_from(self.output_kib.unwrap_or(1024))
            .map_or(usize::MAX, |kib| kib.saturating_mul(1024))
    }

    pub(super) fn check(&self) -> Result<(), Invalid> {
        /// A month: more is a slip of the pen.
        const LONGEST_S: f64 = 30.0 * 86_400.0;
        let positive = |at: &str, seconds: f64| {
            if seconds > 0.0 && seconds <= LONGEST_S {
                Ok(())
            } else {
                let expected = format!("more than 0 and up to {LONGEST_S} seconds");
                Err(Invalid::new(at, expected, seconds))
            }
        };
        if self.ahead > 1_000_000 {
            return Err(Invalid::new("ahead", "up to 1000000", self.ahead));
        }
        positive("heartbeat_s", self.heartbeat_s)?;
        positive("checkpoint_s", self.checkpoint_s)?;
        if let Some(lease_s) = self.lease_s {
            positive("lease_s", lease_s)?;
            if lease_s < 2.0 * self.heartbeat_s {
                let expected = format!("at least two heartbeats ({} s)", 2.0 * self.heartbeat_s);
                return Err(Invalid::new("lease_s", expected, lease_s));
            }
        }
        for (at, limit) in [
            ("job_limit_s", self.job_limit_s),
            ("silence_limit_s", self.silence_limit_s),
        ] {
            if let Some(seconds) = limit {
                positive(at, seconds)?;
            }
        }
        if self.max_attempts == 0 {
            return Err(Invalid::new("max_attempts", "at least 1", 0));
        }
        Ok(())
    }
}
