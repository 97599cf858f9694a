//! Time: stamps for people, and stop-watches for programs. Stamps of different machines are never compared.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp, Unit};

use crate::system::ask;

/// The wall clock as RFC 3339 in UTC, to the millisecond.
pub fn now() -> String {
    ask(|system| system.stamp())
}

/// This process's stop-watch.
pub fn instant() -> Instant {
    ask(|system| system.instant())
}

/// How long ago that was.
pub fn since(start: Instant) -> Duration {
    instant().saturating_duration_since(start)
}

/// Waits.
pub fn sleep(duration: Duration) {
    ask(|system| system.sleep(duration));
}

/// Seconds since 1970 on the wall clock; only to be compared with what this very machine wrote, and with the end of
/// the SLURM job that it is running in.
pub fn unix_s() -> f64 {
    Timestamp::now().as_duration().as_secs_f64()
}

/// Seconds since 1970 of a stamp that [`now`] wrote, for plots.
pub fn parse(stamp: &str) -> Option<f64> {
    stamp
        .parse::<Timestamp>()
        .ok()
        .map(|t| t.as_duration().as_secs_f64()) // not a stamp: none
}

/// The stamp of a second since 1970, to the millisecond; `None` beyond the years -9999 to 9999.
pub fn stamp(unix_s: f64) -> Option<String> {
    let time = Timestamp::from_duration(SignedDuration::try_from_secs_f64(unix_s).ok()?).ok()?; // out of range: none
    time.round(Unit::Millisecond).ok().map(|t| t.to_string()) // only at the very end of the range
}

/// How long something that others write has not changed, timed on this process's own clock.
#[derive(Debug, Clone)]
pub struct Silence<T> {
    last: T,
    since: Instant,
}

impl<T: PartialEq> Silence<T> {
    /// Starts timing at the first sight of `value`.
    pub fn new(value: T, now: Instant) -> Self {
        Self {
            last: value,
            since: now,
        }
    }

    /// Notes what is seen now; a change starts the time again.
    pub fn see(&mut self, value: T, now: Instant) {
        if value != self.last {
            self.last = value;
            self.since = now;
        }
    }

    /// How long the same was seen.
    pub fn lasted(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_utc_and_come_back() {
        let stamp = now();
        assert!(stamp.ends_with('Z'), "{stamp}");
        assert!((parse(&stamp).unwrap() - unix_s()).abs() < 5.0);
        assert_eq!(parse("yesterday"), None);
        assert_eq!(
            super::stamp(0.25).as_deref(),
            Some("1970-01-01T00:00:00.25Z")
        );
        assert_eq!(parse(&super::stamp(1.5e9).unwrap()), Some(1.5e9));
        assert_eq!(super::stamp(f64::NAN), None);
    }

    #[test]
    fn silence_lasts_until_something_changes() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut silence = Silence::new(1, start);
        silence.see(1, start + second);
        assert_eq!(silence.lasted(start + 3 * second), 3 * second);
        silence.see(2, start + 4 * second);
        assert_eq!(silence.lasted(start + 5 * second), second);
    }
}
