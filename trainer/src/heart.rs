//! The heartbeat: a thread that shows that this trainer lives, and looks whether its job is still wanted.
//!
//! It never decides anything: it writes `trainers/OWNER.json`, and raises flags that the training looks at. A trainer that
//! waits for a job writes less often, since nobody takes anything away from it: a thousand of those must not trouble the
//! file server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use shared::record::{Heartbeat, TrainerState};
use shared::store::Directory;
use shared::{Claim, OwnerId, clock};
use tracing::warn;

/// The first so many heartbeats are all written: `scheduler slurm --keep` tells by them that a trainer has started well.
const FIRST_BEATS: u64 = 3;

/// What the heartbeat thread and the training tell each other.
#[derive(Debug)]
pub struct Pulse {
    state: Mutex<TrainerState>,
    is_stopped: AtomicBool,
    is_claim_lost: AtomicBool,
    held: Mutex<Option<Held>>,
}

/// A job whose training goes on and has noticed no reason to stop.
#[derive(Debug, Clone)]
pub struct Held {
    /// The claim.
    pub claim: Claim,
    /// Budget that the newest checkpoint of this attempt has spent; 0 if it has none.
    pub saved: f64,
}

impl Pulse {
    /// That of a trainer that waits.
    pub fn waiting() -> Self {
        Self {
            state: Mutex::new(TrainerState::Waiting),
            is_stopped: AtomicBool::new(false),
            is_claim_lost: AtomicBool::new(false),
            held: Mutex::new(None),
        }
    }

    /// What the next heartbeat will say.
    pub fn set_state(&self, state: TrainerState) {
        *self.lock() = state;
    }

    /// A job begins: its claim is believed to be held until the next look.
    pub fn start(&self, claim: &Claim) {
        *self.held() = Some(Held {
            claim: claim.clone(),
            saved: 0.0,
        });
        let mut state = self.lock();
        self.is_claim_lost.store(false, Ordering::Relaxed);
        *state = TrainerState::Working {
            claim: claim.clone(),
            spent: 0.0,
        };
    }

    /// How far the job is.
    pub fn set_spent(&self, now: f64) {
        if let TrainerState::Working { spent, .. } = &mut *self.lock() {
            *spent = now;
        }
    }

    /// What the newest checkpoint of the job in hand has spent.
    pub fn set_saved(&self, now: f64) {
        if let Some(held) = &mut *self.held() {
            held.saved = now;
        }
    }

    /// From now on the training itself ends what it has begun.
    pub fn let_go(&self) {
        *self.held() = None;
    }

    /// The job in hand, until the training has noticed that it should stop, or has ended. Whoever takes it ends it.
    pub fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the search was asked to stop, as of the last heartbeat of a job.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Whether the job in hand was taken away, as of the last heartbeat.
    pub fn is_claim_lost(&self) -> bool {
        self.is_claim_lost.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, TrainerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One heartbeat after the other.
#[derive(Debug)]
pub struct Beat {
    directory: Directory,
    pulse: Arc<Pulse>,
    heartbeat: Heartbeat,
    /// Of how many heartbeats one is written while the trainer waits.
    one_of: u32,
    /// How many were left out since the last one that was written.
    left_out: u32,
}

impl Beat {
    /// The first one, so that the scheduler knows this trainer before it claims anything. `beat` is its number: 0, or
    /// one more than that of the last one where this owner has had another life.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn first(
        directory: &Directory,
        pulse: Arc<Pulse>,
        owner: &OwnerId,
        device: &str,
        beat: u64,
    ) -> shared::Result<Self> {
        let heartbeat = Heartbeat {
            owner: owner.clone(),
            beat,
            state: TrainerState::Waiting,
            host: shared::store::host_name(),
            pid: std::process::id(),
            device: device.to_owned(),
            slurm_job: shared::store::slurm_job(),
            at: clock::now(),
            program: concat!("trainer ", env!("CARGO_PKG_VERSION")).to_owned(),
            memory_mib: None,
            device_memory_mib: None,
        };
        directory.beat(&heartbeat)?;
        Ok(Self {
            directory: directory.clone(),
            pulse,
            heartbeat,
            one_of: directory.waiting_writes_one_of(),
            left_out: 0,
        })
    }

    /// The next one, after a look at whether the job in hand is still wanted. To be called once in an interval, also by
    /// a trainer that waits, so that the scheduler hears of a job in hand within that time.
    pub fn next(&mut self) {
        look(&self.directory, &self.pulse);
        let state = self.pulse.lock().clone();
        let is_no_news = state == TrainerState::Waiting
            && self.heartbeat.state == TrainerState::Waiting
            && self.heartbeat.beat >= FIRST_BEATS;
        if is_no_news && self.left_out.saturating_add(1) < self.one_of {
            self.left_out += 1;
            return;
        }
        self.write(state);
    }

    /// The last one: the trainer leaves and holds nothing.
    pub fn last(&mut self) {
        self.write(TrainerState::Gone);
    }

    fn write(&mut self, state: TrainerState) {
        self.left_out = 0;
        self.heartbeat.beat += 1;
        self.heartbeat.state = state;
        self.heartbeat.at = clock::now();
        if let Err(error) = self.directory.beat(&self.heartbeat) {
            // The next one, which is not left out, may get through; until the lease is over nothing is lost.
            self.left_out = self.one_of;
            warn!(
                "cannot write the heartbeat: {}",
                shared::store::chain(&error)
            );
        }
    }
}

/// The beating thread; dropping it says farewell.
pub struct Heart {
    pulse: Arc<Pulse>,
    beat: Arc<Mutex<Beat>>,
    // Dropping the sender ends the thread.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Heart {
    /// Beats once, so that the scheduler knows this trainer before it claims anything, and from then on by itself.
    /// `beat` is the number of the first heartbeat, see [`Beat::first`].
    ///
    /// # Errors
    /// The first heartbeat cannot be written.
    ///
    /// # Panics
    /// If this machine has no thread left.
    pub fn start(
        directory: &Directory,
        owner: &OwnerId,
        device: &str,
        beat: u64,
    ) -> shared::Result<Self> {
        let pulse = Arc::new(Pulse::waiting());
        let first = Beat::first(directory, Arc::clone(&pulse), owner, device, beat)?;
        let beat = Arc::new(Mutex::new(first));
        let (end, ended) = channel::<()>();
        let thread = {
            let beat = Arc::clone(&beat);
            let interval = Duration::from_secs_f64(directory.search().trainers.heartbeat_s);
            std::thread::Builder::new()
                .name("heartbeat".to_owned())
                .spawn(move || {
                    while ended.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                        lock(&beat).next();
                    }
                    lock(&beat).last();
                })
        };
        let thread = thread.expect("a thread can be had at the start of the program");
        Ok(Self {
            pulse,
            beat,
            end: Some(end),
            thread: Some(thread),
        })
    }

    /// What the thread and the training tell each other.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// What beats.
    pub fn beat(&self) -> &Arc<Mutex<Beat>> {
        &self.beat
    }
}

pub(crate) fn lock(beat: &Mutex<Beat>) -> MutexGuard<'_, Beat> {
    beat.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Heart {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the heartbeat thread had panicked");
        }
    }
}

impl std::fmt::Debug for Heart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Heart")
            .field("pulse", &self.pulse)
            .finish_non_exhaustive()
    }
}

/// Asks the directory what the training should know. Errors mean "no news": the job goes on.
fn look(directory: &Directory, pulse: &Pulse) {
    let claim = match &*pulse.lock() {
        TrainerState::Working { claim, .. } => claim.clone(),
        // Whoever looks for a job looks for these signs, too.
        TrainerState::Waiting | TrainerState::Gone => return,
    };
    if directory.signs().is_ok_and(|signs| signs.is_stopped) {
        pulse.is_stopped.store(true, Ordering::Relaxed);
    }
    if directory.holds(&claim).is_ok_and(|holds| !holds) {
        // Under the lock, and only if the job in hand is still the one that was looked at.
        let state = pulse.lock();
        if matches!(&*state, TrainerState::Working { claim: now, .. } if *now == claim) {
            pulse.is_claim_lost.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use shared::ConfigurationId;

    use super::*;

    /// A search directory on which the lease is that of a network filesystem.
    pub(crate) fn directory_in(folder: &Path) -> Directory {
        let file = serde_json::from_value(serde_json::json!({
            "name": "test",
            "space": { "hyperparameters": [{ "name": "x", "type": "float", "lower": 0, "upper": 1 }] },
            "objective": { "benchmark": "branin" },
            "budget": { "unit": "steps", "min": 1, "max": 9, "eta": 3 },
            "limit": { "brackets": 1 },
            "method": "random",
            "trainers": { "heartbeat_s": 10.0, "lease_s": 240.0 },
        }));
        Directory::create(folder, &file.unwrap(), Path::new("x")).unwrap()
    }

    #[test]
    fn a_trainer_that_waits_leaves_heartbeats_out_and_tells_of_a_job_with_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let directory = directory_in(folder.path());
        let owner = shared::store::new_owner();
        let pulse = Arc::new(Pulse::waiting());
        let mut beat = Beat::first(&directory, Arc::clone(&pulse), &owner, "cpu", 0).unwrap();
        let mut written_after = |num_intervals: u32| {
            for _ in 0..num_intervals {
                beat.next();
            }
            let heartbeat = directory.read_heartbeat(&owner).unwrap().unwrap();
            (heartbeat.beat, heartbeat.state)
        };
        let waiting = |number| (number, TrainerState::Waiting);
        assert_eq!(written_after(3), waiting(3));
        // From now on one in 60 s.
        assert_eq!(written_after(5), waiting(3));
        assert_eq!(written_after(1), waiting(4));
        assert_eq!(written_after(4), waiting(4));
        let claim = Claim {
            attempt: ConfigurationId(0).job(0).attempt(1),
            owner: owner.clone(),
        };
        pulse.start(&claim);
        let working = |number| {
            let claim = claim.clone();
            (number, TrainerState::Working { claim, spent: 0.0 })
        };
        assert_eq!(written_after(1), working(5));
        assert_eq!(written_after(2), working(7));
        // That it has nothing to do any more is news again.
        pulse.set_state(TrainerState::Waiting);
        assert_eq!(written_after(1), waiting(8));
        assert_eq!(written_after(5), waiting(8));
        assert_eq!(written_after(1), waiting(9));
    }
}
