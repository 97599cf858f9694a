//! Time: stamps for people, and stop-watches for programs. Stamps of different machines are never compared.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp, Unit};
use serde::{Deserialize, Serialize};

use crate::system::with_system;

/// The wall clock as RFC 3339 in UTC, to the millisecond.
pub fn now() -> String {
    with_system(|system| system.stamp())
}

/// This process's stop-watch.
pub fn instant() -> Instant {
    with_system(|system| system.instant())
}

/// How long ago that was.
pub fn since(start: Instant) -> Duration {
    instant().saturating_duration_since(start)
}

/// Waits.
pub fn sleep(duration: Duration) {
    with_system(|system| system.sleep(duration));
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

/// This machine's clocks at one moment, for another process of the same machine to tell how long ago that was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Which start of which machine `monotonic_s` belongs to.
    pub boot: String,
    /// Seconds on the clock that nobody sets.
    pub monotonic_s: f64,
    /// Seconds since 1970 on the clock that people set.
    pub unix_s: f64,
}

impl Reading {
    /// What the clocks say now; `None` where starts of the machine have no names (other systems than Linux).
    pub fn now() -> Option<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?; // no such name
        let monotonic = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let monotonic: Duration = monotonic.try_into().ok()?; // before the start of the machine
        Some(Self {
            boot: boot.trim().to_owned(),
            monotonic_s: monotonic.as_secs_f64(),
            unix_s: unix_s(),
        })
    }

    /// The time from `earlier` to this reading, rather too short than too long: what both clocks agree has passed.
    /// Nothing, if they are of different starts of a machine.
    ///
    /// The clock that nobody sets may still be another one in a container; the one that people set may jump.
    pub fn since(&self, earlier: &Self) -> Duration {
        if self.boot != earlier.boot {
            return Duration::ZERO;
        }
        let monotonic_s = self.monotonic_s - earlier.monotonic_s;
        let seconds = monotonic_s.min(self.unix_s - earlier.unix_s);
        // Negative, or no number: nothing.
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }
}

/// How long something that others write has not changed, timed on this process's own clock.
#[derive(Debug, Clone)]
pub struct Silence<T> {
    last: T,
    since: Instant,
    before: Duration,
}

impl<T: PartialEq> Silence<T> {
    /// Starts timing at the first sight of `value`.
    pub fn new(value: T, now: Instant) -> Self {
        Self::resumed(value, Duration::ZERO, now)
    }

    /// Goes on timing: `value` has been seen for `before` already.
    pub fn resumed(value: T, before: Duration, now: Instant) -> Self {
        Self {
            last: value,
            since: now,
            before,
        }
    }

    /// What was seen last.
    pub fn value(&self) -> &T {
        &self.last
    }

    /// Notes what is seen now; a change starts the time again.
    pub fn see(&mut self, value: T, now: Instant) {
        if value != self.last {
            *self = Self::new(value, now);
        }
    }

    /// How long the same was seen.
    pub fn lasted(&self, now: Instant) -> Duration {
        self.before + now.saturating_duration_since(self.since)
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

    #[test]
    fn a_silence_that_is_resumed_goes_on_until_something_changes() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut silence = Silence::resumed(1, 5 * second, start);
        silence.see(1, start + second);
        assert_eq!(silence.lasted(start + second), 6 * second);
        silence.see(2, start + 2 * second);
        assert_eq!(silence.lasted(start + 3 * second), second);
    }

    #[test]
    fn between_two_processes_only_time_that_both_clocks_saw_has_passed() {
        let reading = |boot: &str, monotonic_s: f64, unix_s: f64| Reading {
            boot: boot.into(),
            monotonic_s,
            unix_s,
        };
        let earlier = reading("a", 100.0, 5000.0);
        for (later, seconds) in [
            (reading("a", 160.0, 5060.0), 60.0),
            // Somebody has set the clock forth, or back.
            (reading("a", 160.0, 8660.0), 60.0),
            (reading("a", 160.0, 1460.0), 0.0),
            // Another container's clock.
            (reading("a", 9_000.0, 5060.0), 60.0),
            (reading("a", 10.0, 5060.0), 0.0),
            (reading("b", 160.0, 5060.0), 0.0),
            (reading("a", f64::NAN, f64::NAN), 0.0),
            (reading("a", f64::INFINITY, f64::INFINITY), 0.0),
        ] {
            let since = later.since(&earlier);
            assert_eq!(since, Duration::from_secs_f64(seconds), "{later:?}");
        }
        let now = Reading::now().unwrap();
        assert!(now.since(&now) == Duration::ZERO && !now.boot.is_empty());
    }
}
