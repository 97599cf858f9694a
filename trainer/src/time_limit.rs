//! How much time the SLURM job around this trainer has left, on this machine's own clock.

use std::time::{Duration, Instant};

use shared::{clock, env};
use tracing::{info, warn};

/// Time kept for the last checkpoint and for giving the job back.
pub const MARGIN: Duration = Duration::from_mins(1);

/// When this process has to be gone.
#[derive(Debug, Clone, Copy, Default)]
pub struct TimeLimit {
    end: Option<Instant>,
}

impl TimeLimit {
    /// No limit.
    pub fn none() -> Self {
        Self { end: None }
    }

    /// A limit in `left` from now.
    pub(crate) fn in_(left: Duration) -> Self {
        Self {
            end: Instant::now().checked_add(left),
        }
    }

    /// What SLURM says of the job this process runs in; no limit outside SLURM.
    ///
    /// `squeue` gives the time left, which needs no clock of another machine. Where it does not answer,
    /// `SLURM_JOB_END_TIME` is compared with this machine's clock.
    pub(crate) fn of_slurm_job() -> Self {
        let Some(job) = shared::owner::slurm_job() else {
            return Self::none();
        };
        let left = ask_squeue(&job).or_else(|| {
            let end: f64 = env::SLURM_JOB_END_TIME.get()?.parse().ok()?; // no number: no limit known
            Duration::try_from_secs_f64((end - clock::unix_s()).max(0.0)).ok() // beyond all limits: none
        });
        if let Some(left) = left {
            info!("SLURM job {job} has {} s left", left.as_secs());
            if left <= MARGIN {
                warn!(
                    "that is too short for a job: {} s are kept for the last checkpoint",
                    MARGIN.as_secs()
                );
            }
            Self::in_(left)
        } else {
            warn!("SLURM does not say when job {job} ends; relying on its warning signal");
            Self::none()
        }
    }

    /// Time left; `None` without a limit.
    pub fn left(&self) -> Option<Duration> {
        self.end
            .map(|end| end.saturating_duration_since(Instant::now()))
    }

    /// Whether it is time to save and leave.
    pub(crate) fn is_near(&self) -> bool {
        self.left().is_some_and(|left| left <= MARGIN)
    }
}

fn ask_squeue(job: &str) -> Option<Duration> {
    let output = env::slurm_command("squeue")
        .args(["-h", "-j", job, "-o", "%L"])
        .output();
    let output = output.ok().filter(|output| output.status.success())?; // no squeue, no answer
    time_left_in(&String::from_utf8_lossy(&output.stdout))
}

/// The time in what squeue says, on a line of its own among whatever a site's commands print; `None` where there is none, or
/// more than one.
fn time_left_in(said: &str) -> Option<Duration> {
    let mut times = said.lines().filter_map(|line| parse_left(line.trim()));
    times.next().filter(|_| times.next().is_none())
}

/// Reads squeue's `days-hours:minutes:seconds`, of which the left parts may be missing.
fn parse_left(text: &str) -> Option<Duration> {
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (days.parse::<u64>().ok()?, rest), // INVALID, UNLIMITED, NOT_SET: none
        None => (0, text),
    };
    let mut seconds: u64 = 0;
    for part in rest.split(':') {
        seconds = seconds.checked_mul(60)?.checked_add(part.parse().ok()?)?; // as above
    }
    days.checked_mul(86_400)?
        .checked_add(seconds)
        .map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squeues_forms_of_time_are_understood() {
        let seconds = |text| parse_left(text).map(|left| left.as_secs());
        assert_eq!(seconds("59"), Some(59));
        assert_eq!(seconds("1:05"), Some(65));
        assert_eq!(seconds("3:59:42"), Some(14_382));
        assert_eq!(seconds("1-00:00:10"), Some(86_410));
        for none in ["UNLIMITED", "INVALID", "NOT_SET", "", "1-", "x-1:00"] {
            assert_eq!(seconds(none), None, "{none}");
        }
    }

    #[test]
    fn the_time_left_is_found_among_noise() {
        let left = |said| time_left_in(said).map(|left| left.as_secs());
        let noisy = "*** 2 nodes are down until 8:00 ***\r\n\n1-00:00:10\r\nquota: 10 of 20\n";
        assert_eq!(left(noisy), Some(86_410));
        for none in ["", "Welcome\n", "UNLIMITED\n", "17\n1:05\n"] {
            assert_eq!(left(none), None, "{none}");
        }
    }

    #[test]
    fn the_end_is_near_a_margin_before_it_comes() {
        assert!(!TimeLimit::none().is_near());
        assert!(!TimeLimit::in_(MARGIN + Duration::from_secs(5)).is_near());
        assert!(TimeLimit::in_(MARGIN).is_near());
    }
}
