//! A trainer that is warned leaves in time, whatever holds it up: a worker that does not stop, or a file server that does
//! not answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::exit::{self, Code};
use shared::signal::Warning;

use crate::heartbeat::JobStatus;
use crate::time_limit::{MARGIN, TimeLimit};

/// How long a built-in training has to notice that it should stop: one step of a large network on a slow machine may
/// take a minute.
pub(crate) const TRAINING_GRACE: Duration = Duration::from_secs(15);
/// How long a program has to end after SIGTERM, before SIGKILL. SLURM's own patience (`KillWait`) is 30 s.
pub(crate) const PROGRAM_GRACE: Duration = Duration::from_secs(20);
/// How long giving the job back may take after that.
const RELEASE: Duration = Duration::from_secs(4);
/// A SLURM job that has no more time than this is warned of its end, which is known, and not preempted.
const NEAR: Duration = Duration::from_mins(3);
/// Time kept at the end of a SLURM job for giving the job back.
const LAST: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_millis(100);

/// How long a job may go on after it was told to stop: `grace`, or, where the SLURM job is about to end and nothing else
/// hurries, until half a minute before that. `left`: of the SLURM job, when the job was told.
pub(crate) fn patience(signal: Option<&str>, left: Option<Duration>, grace: Duration) -> Duration {
    let is_calm = match signal {
        None => left.is_some_and(|left| left <= MARGIN),
        Some("SIGUSR1" | "SIGUSR2") => left.is_some_and(|left| left <= NEAR),
        Some(_) => false,
    };
    match left {
        Some(left) if is_calm => left.saturating_sub(LAST).max(grace),
        _ => grace,
    }
}

/// Ends this process with [`Code::Again`] where it has not done so by itself when its time after a warning is over, unless
/// its job is saving what it has. Nothing is lost: the scheduler takes the job back.
///
/// # Panics
/// If this machine has no thread left.
pub(crate) fn watch(status: &Arc<JobStatus>, warning: &Warning, limit: TimeLimit, grace: Duration) {
    let (status, warning) = (Arc::clone(status), warning.clone());
    let watch = move || {
        let patience = loop {
            if warning.received().is_some() || limit.is_near() {
                break patience(warning.received(), limit.left(), grace);
            }
            std::thread::sleep(INTERVAL);
        };
        let start = Instant::now();
        while start.elapsed() < patience + RELEASE || status.is_saving() {
            std::thread::sleep(INTERVAL);
        }
        exit::at_once(Code::Again);
    };
    // Not waited for: it ends with the process.
    let _thread = std::thread::Builder::new()
        .name("watchdog".to_owned())
        .spawn(watch)
        .expect("a thread can be had at the start of the program");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_minutes_before_the_end_leaves_the_training_its_time() {
        let left = |seconds| Some(Duration::from_secs(seconds));
        let after = |signal, left| patience(signal, left, TRAINING_GRACE).as_secs();
        // The end of the SLURM job, which is a minute away when it counts as near.
        assert_eq!(after(None, left(60)), 30);
        assert_eq!(after(Some("SIGUSR1"), left(150)), 120);
        // Never less than without a limit.
        assert_eq!(after(Some("SIGUSR1"), left(40)), 15);
        // Preempted, or warned by somebody.
        assert_eq!(after(Some("SIGUSR1"), left(3600)), 15);
        assert_eq!(after(Some("SIGUSR2"), None), 15);
        assert_eq!(after(Some("SIGTERM"), left(120)), 15);
        assert_eq!(patience(None, None, PROGRAM_GRACE).as_secs(), 20);
    }
}
