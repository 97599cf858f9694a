//! Who lives: heartbeats, and how long they have been silent.

use std::time::{Duration, Instant};

use shared::clock::{Reading, Silence};
use shared::error::Result;
use shared::owner::host_name;
use shared::record::{Heartbeat, Observation, ObservedClaim, ObservedTrainer, TrainerState};
use shared::{clock, fs};
use tracing::warn;

use super::Scanner;
use crate::blame::Living;
use crate::state::State;

/// A silence that need not be told from a longer one: 30 years.
const LONGEST_SILENCE: Duration = Duration::from_secs(1_000_000_000);

/// How long a new trainer may go unnoticed: their folder is not listed at every scan, as it has a file for every
/// trainer that ever was.
const TRAINERS_INTERVAL: Duration = Duration::from_millis(500);

/// Seconds by which a trainer's clock must be wrong before it is said.
const WRONG_CLOCK_S: f64 = 60.0;

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

impl Scanner {
    /// Goes on timing where a scheduler before this one left word.
    pub(super) fn resume(&mut self, now: Instant) -> Result<()> {
        let Some(observation) = self.directory.read_observation()? else {
            return Ok(());
        };
        let Some(reading) = Reading::now() else {
            return Ok(());
        };
        let since = reading.since(&observation.reading).min(LONGEST_SILENCE);
        let silent = |seconds: f64| {
            let longest = LONGEST_SILENCE.as_secs_f64();
            since + Duration::from_secs_f64(seconds.clamp(0.0, longest))
        };
        for seen in observation.trainers {
            let silence = Silence::resumed(seen.beat, silent(seen.silent_s), now);
            self.known_before.insert(seen.owner, silence);
        }
        for seen in observation.claims {
            let silence = Silence::resumed(seen.beat, silent(seen.silent_s), now);
            self.claims.insert(seen.claim, silence);
        }
        Ok(())
    }

    /// What the next scheduler of this host should know; `None` where processes cannot compare their clocks.
    pub fn observation(&self, now: Instant) -> Option<Observation> {
        let trainers = self
            .trainers
            .iter()
            .filter(|(_, trainer)| !trainer.is_gone());
        Some(Observation {
            host: host_name(),
            reading: Reading::now()?,
            trainers: trainers
                .map(|(owner, trainer)| ObservedTrainer {
                    owner: owner.clone(),
                    beat: trainer.heartbeat.beat,
                    silent_s: trainer.silent(now).as_secs_f64(),
                })
                .collect(),
            claims: self
                .claims
                .iter()
                .map(|(claim, silence)| ObservedClaim {
                    claim: claim.clone(),
                    beat: *silence.value(),
                    silent_s: silence.lasted(now).as_secs_f64(),
                })
                .collect(),
        })
    }

    /// Takes note that a process of this machine has ended, so that its claims need not wait for the lease.
    pub fn report_dead(&mut self, process: u32, now: Instant) -> Result<()> {
        let host = host_name();
        for owner in self.directory.owners()? {
            if self.trainers.contains_key(&owner) {
                continue;
            }
            if let Some(heartbeat) = self.directory.read_heartbeat(&owner)? {
                let before = self.known_before.remove(&owner);
                self.trainers
                    .insert(owner, Trainer::new(heartbeat, before, now));
            }
        }
        for trainer in self.trainers.values_mut() {
            let beat = &trainer.heartbeat;
            if beat.pid == process && beat.host == host {
                trainer.is_dead = true;
            }
        }
        Ok(())
    }

    pub(super) fn see_trainers(&mut self, state: &mut State, now: Instant) -> Result<()> {
        let lease = self.directory.lease();
        let half_beat = Duration::from_secs_f64(self.directory.search().trainers.heartbeat_s / 2.0);
        let interval = reading_interval(half_beat, lease);
        let is_listed = self
            .trainers_listed
            .is_some_and(|at| now.saturating_duration_since(at) < TRAINERS_INTERVAL.min(half_beat));
        if !is_listed {
            for owner in self.directory.owners()? {
                if !self.trainers.contains_key(&owner)
                    && let Some(heartbeat) = self.directory.read_heartbeat(&owner)?
                {
                    // A heartbeat that is gone or cannot be read at this moment says nothing.
                    let written_s = fs::written_s(&self.directory.layout().heartbeat(&owner))
                        .ok()
                        .flatten();
                    self.tell_wrong_clock(&heartbeat, written_s);
                    let before = self.known_before.remove(&owner);
                    let mut trainer = Trainer::new(heartbeat, before, now);
                    trainer.written_s = written_s;
                    self.trainers.insert(owner, trainer);
                }
            }
            self.trainers_listed = Some(now);
        }
        for (owner, trainer) in &mut self.trainers {
            if !trainer.is_due(interval, lease, now) {
                continue;
            }
            match self.directory.read_heartbeat(owner)? {
                Some(heartbeat) => trainer.see(heartbeat, now),
                // Removed by hand.
                None => trainer.read = now,
            }
        }
        let living = self
            .trainers
            .iter()
            .filter(|(_, trainer)| trainer.lives(lease, now));
        state.faults.living = living
            .map(|(owner, trainer)| {
                let beat = &trainer.heartbeat;
                let living = Living {
                    host: beat.host.clone(),
                    memory_mib: beat.training_memory_mib(),
                };
                (owner.clone(), living)
            })
            .collect();
        state.num_trainers = u32::try_from(state.faults.living.len()).unwrap_or(u32::MAX); // fewer by far
        for trainer in self.trainers.values() {
            let beat = &trainer.heartbeat;
            if matches!(beat.state, TrainerState::Working { spent, .. } if spent > 0.0) {
                state.faults.see_progress(&beat.host);
            }
        }
        Ok(())
    }

    /// Says that the clock of a trainer's host is wrong: nothing is decided by it, but it stamps results for people.
    fn tell_wrong_clock(&mut self, beat: &Heartbeat, written_s: Option<f64>) {
        let Some((stamped, written)) = clock::parse(&beat.at).zip(written_s) else {
            return;
        };
        let ahead = stamped - written;
        // The file may be a heartbeat younger than the stamp that was read.
        let beat_s = self.directory.search().trainers.heartbeat_s;
        let longest_s = beat_s * f64::from(self.directory.waiting_writes_one_of());
        // The beat of a trainer that has left may be of a copied search; and a host is told of once.
        let is_wrong = ahead.abs() > WRONG_CLOCK_S + longest_s && beat.state != TrainerState::Gone;
        if is_wrong && self.told_clocks.insert((beat.host.clone(), ahead > 0.0)) {
            warn!(
                "the clock of host {} is {:.0} min {} that of the files: no decision depends on it, but the times in \
                 its results are off",
                beat.host,
                ahead.abs() / 60.0,
                if ahead > 0.0 { "ahead of" } else { "behind" }
            );
        }
    }
}

/// How often a heartbeat is read: twice in its own interval, so that a change is noticed in good time before the shortest
/// lease, two heartbeats; more rarely where the lease is long, since a thousand trainers are read one by one.
fn reading_interval(half_beat: Duration, lease: Duration) -> Duration {
    half_beat.max(lease / 10)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use shared::Directory;

    use super::*;
    use crate::test_search::search_file;

    #[test]
    fn whoever_lives_is_never_silent_for_a_lease_and_is_read_ten_times_in_it_at_most() {
        for (heartbeat_s, lease_s) in [(10.0, 20.0), (10.0, 55.0), (10.0, 240.0), (0.1, 3600.0)] {
            let folder = tempfile::tempdir().unwrap();
            let mut file = search_file(1, 9, 3);
            file.trainers.heartbeat_s = heartbeat_s;
            file.trainers.lease_s = Some(lease_s);
            let directory = Directory::create(folder.path(), &file, Path::new("x")).unwrap();
            let half_beat = Duration::from_secs_f64(heartbeat_s / 2.0);
            let read_s = reading_interval(half_beat, directory.lease()).as_secs_f64();
            assert!(read_s >= lease_s / 10.0);
            for written in [1, directory.waiting_writes_one_of()] {
                let seen_s = heartbeat_s * f64::from(written) + read_s;
                assert!(
                    seen_s <= 0.75 * lease_s,
                    "{heartbeat_s} {lease_s}: {seen_s}"
                );
            }
        }
    }
}
