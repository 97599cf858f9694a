//! A trainer as its heartbeats show it.

use std::time::{Duration, Instant};

use shared::clock::Silence;
use shared::record::{Heartbeat, TrainerState};

/// A trainer as its heartbeats show it.
#[derive(Debug, Clone)]
pub struct Trainer {
    /// The newest heartbeat.
    pub heartbeat: Heartbeat,
    /// When the first heartbeat that was read had been written, by the clock that stamps files; for people.
    pub written_s: Option<f64>,
    silence: Silence<u64>,
    /// When the heartbeat was read last.
    pub(super) read: Instant,
    /// Its process has ended, as somebody who can know has said.
    pub(super) is_dead: bool,
}

impl Trainer {
    /// A trainer that is seen for the first time, by this scheduler or at all.
    pub(super) fn new(heartbeat: Heartbeat, before: Option<Silence<u64>>, now: Instant) -> Self {
        let mut silence = before.unwrap_or_else(|| Silence::new(heartbeat.beat, now));
        silence.see(heartbeat.beat, now);
        Self {
            silence,
            read: now,
            heartbeat,
            written_s: None,
            is_dead: false,
        }
    }

    pub(super) fn see(&mut self, heartbeat: Heartbeat, now: Instant) {
        self.silence.see(heartbeat.beat, now);
        self.read = now;
        self.heartbeat = heartbeat;
    }

    /// Whether its heartbeat should be read again.
    pub(super) fn is_due(&self, interval: Duration, lease: Duration, now: Instant) -> bool {
        // One that has left never comes back: a new process has a new name. One that has been silent for long may,
        // but there are many of those at the end of a long search.
        let is_old = self.silent(now) > 2 * lease;
        let interval = if is_old { lease } else { interval };
        !self.is_gone() && now.saturating_duration_since(self.read) >= interval
    }

    /// Whether it left in good order.
    pub fn is_gone(&self) -> bool {
        self.heartbeat.state == TrainerState::Gone
    }

    /// How long its heartbeat has not changed.
    pub fn silent(&self, now: Instant) -> Duration {
        self.silence.lasted(now)
    }

    /// Whether it counts as living. One that was just seen for the first time does.
    pub fn lives(&self, lease: Duration, now: Instant) -> bool {
        !self.is_gone() && !self.is_dead && self.silent(now) < lease
    }
}
