//! The heartbeat: a thread that shows that this trainer lives, and looks whether its job is still wanted.
//!
//! It never decides anything: it writes `trainers/OWNER.json`, and raises flags that whoever runs the job looks at. A trainer that
//! waits for a job writes less often, since nobody takes anything away from it: a thousand of those must not trouble the
//! file server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use shared::directory::Directory;
use shared::record::{Heartbeat, TrainerState};
use shared::{Claim, OwnerId, clock};
use tracing::warn;

use crate::memory;

/// The first so many heartbeats are all written: `scheduler slurm --keep` tells by them that a trainer has started well.
const NUM_FIRST: u64 = 3;

/// What a trainer computes with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Computer {
    /// The device: `cpu`, `cuda:0`, `vulkan:0`, …
    pub device: String,
    /// MiB that trainings on the CPU may take in all: what the system has, or its control groups allow; if known.
    pub memory_mib: Option<f64>,
    /// MiB of the device, where it has memory of its own.
    pub device_memory_mib: Option<f64>,
}

impl Computer {
    /// How a CPU is called as a device.
    pub(crate) const CPU: &str = "cpu";

    /// A CPU, with the memory that there is.
    pub fn cpu() -> Self {
        Self {
            device: Self::CPU.to_owned(),
            memory_mib: memory::total().map(memory::mib),
            device_memory_mib: None,
        }
    }
}

/// What the heartbeat thread and the training tell each other.
#[derive(Debug)]
pub struct JobStatus {
    state: Mutex<TrainerState>,
    is_stopped: AtomicBool,
    is_claim_lost: AtomicBool,
    /// Whether the job in hand has noticed that it should stop, and is saving what there is.
    is_saving: AtomicBool,
}

impl JobStatus {
    /// That of a trainer that waits.
    pub fn waiting() -> Self {
        Self {
            state: Mutex::new(TrainerState::Waiting),
            is_stopped: AtomicBool::new(false),
            is_claim_lost: AtomicBool::new(false),
            is_saving: AtomicBool::new(false),
        }
    }

    /// What the next heartbeat will say.
    pub fn set_state(&self, state: TrainerState) {
        *self.lock() = state;
    }

    /// A job begins: its claim is believed to be held until the next look.
    pub fn start(&self, claim: &Claim) {
        self.set_saving(false);
        let mut state = self.lock();
        self.is_claim_lost.store(false, Ordering::Relaxed);
        *state = TrainerState::Working {
            claim: claim.clone(),
            spent: 0.0,
        };
    }

    /// How far the job is.
    pub(crate) fn set_spent(&self, now: f64) {
        if let TrainerState::Working { spent, .. } = &mut *self.lock() {
            *spent = now;
        }
    }

    /// Whether the job in hand has noticed that it should stop, and is saving what there is.
    pub(crate) fn set_saving(&self, is_saving: bool) {
        self.is_saving.store(is_saving, Ordering::Relaxed);
    }

    /// As last set by [`set_saving`](Self::set_saving).
    pub(crate) fn is_saving(&self) -> bool {
        self.is_saving.load(Ordering::Relaxed)
    }

    /// Whether the search was asked to stop, as of the last heartbeat of a job.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Whether the job in hand was taken away, as of the last heartbeat.
    pub(crate) fn is_claim_lost(&self) -> bool {
        self.is_claim_lost.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, TrainerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One heartbeat after the other.
#[derive(Debug)]
pub struct HeartbeatWriter {
    directory: Directory,
    status: Arc<JobStatus>,
    heartbeat: Heartbeat,
    /// Of how many heartbeats one is written while the trainer waits.
    one_of: u32,
    /// How many were left out since the last one that was written.
    left_out: u32,
}

impl HeartbeatWriter {
    /// The first one, so that the scheduler knows this trainer before it claims anything.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn first(
        directory: &Directory,
        status: Arc<JobStatus>,
        owner: &OwnerId,
        computer: &Computer,
    ) -> shared::Result<Self> {
        let heartbeat = Heartbeat {
            owner: owner.clone(),
            beat: 0,
            state: TrainerState::Waiting,
            host: shared::owner::host_name(),
            pid: std::process::id(),
            device: computer.device.clone(),
            slurm_job: shared::owner::slurm_job(),
            at: clock::now(),
            program: concat!("trainer ", env!("CARGO_PKG_VERSION")).to_owned(),
            memory_mib: computer.memory_mib,
            device_memory_mib: computer.device_memory_mib,
            time_left_s: None,
        };
        directory.beat(&heartbeat)?;
        Ok(Self {
            directory: directory.clone(),
            status,
            heartbeat,
            one_of: directory.waiting_writes_one_of(),
            left_out: 0,
        })
    }

    /// The next one, after a look at whether the job in hand is still wanted. To be called once in an interval, also by
    /// a trainer that waits, so that the scheduler hears of a job in hand within that time.
    pub fn next(&mut self) {
        look(&self.directory, &self.status);
        let state = self.status.lock().clone();
        let is_no_news = state == TrainerState::Waiting
            && self.heartbeat.state == TrainerState::Waiting
            && self.heartbeat.beat >= NUM_FIRST;
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
                shared::error::chain(&error)
            );
        }
    }
}

/// The thread that writes heartbeats; dropping it writes the last one.
#[derive(Debug)]
pub struct HeartbeatThread {
    status: Arc<JobStatus>,
    // Dropping the sender ends the thread.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl HeartbeatThread {
    /// Writes the first heartbeat, so that the scheduler knows this trainer before it claims anything, and from then on
    /// one in every interval of the search.
    ///
    /// # Errors
    /// The first heartbeat cannot be written.
    ///
    /// # Panics
    /// If this machine has no thread left.
    pub fn start(
        directory: &Directory,
        owner: &OwnerId,
        computer: &Computer,
    ) -> shared::Result<Self> {
        let status = Arc::new(JobStatus::waiting());
        let mut writer = HeartbeatWriter::first(directory, Arc::clone(&status), owner, computer)?;
        let (end, ended) = channel::<()>();
        let interval = Duration::from_secs_f64(directory.search().trainers.heartbeat_s);
        let thread = std::thread::Builder::new()
            .name("heartbeat".to_owned())
            .spawn(move || {
                while ended.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                    writer.next();
                }
                writer.last();
            });
        let thread = thread.expect("a thread can be had at the start of the program");
        Ok(Self {
            status,
            end: Some(end),
            thread: Some(thread),
        })
    }

    /// What the thread and the training tell each other.
    pub fn status(&self) -> &Arc<JobStatus> {
        &self.status
    }
}

impl Drop for HeartbeatThread {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the heartbeat thread had panicked");
        }
    }
}

/// Asks the directory what the training should know. Errors mean "no news": the job goes on.
fn look(directory: &Directory, status: &JobStatus) {
    let claim = match &*status.lock() {
        TrainerState::Working { claim, .. } => claim.clone(),
        // Whoever looks for a job looks for these signs, too.
        TrainerState::Waiting | TrainerState::Gone => return,
    };
    if directory.flags().is_ok_and(|flags| flags.is_stopped) {
        status.is_stopped.store(true, Ordering::Relaxed);
    }
    if directory.holds(&claim).is_ok_and(|holds| !holds) {
        // Under the lock, and only if the job in hand is still the one that was looked at.
        let state = status.lock();
        if matches!(&*state, TrainerState::Working { claim: now, .. } if *now == claim) {
            status.is_claim_lost.store(true, Ordering::Relaxed);
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
        let owner = shared::owner::new_owner();
        let status = Arc::new(JobStatus::waiting());
        let mut writer =
            HeartbeatWriter::first(&directory, Arc::clone(&status), &owner, &Computer::cpu())
                .unwrap();
        let mut written_after = |num_intervals: u32| {
            for _ in 0..num_intervals {
                writer.next();
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
        status.start(&claim);
        let working = |number| {
            let claim = claim.clone();
            (number, TrainerState::Working { claim, spent: 0.0 })
        };
        assert_eq!(written_after(1), working(5));
        assert_eq!(written_after(2), working(7));
        // That it has nothing to do any more is news again.
        status.set_state(TrainerState::Waiting);
        assert_eq!(written_after(1), waiting(8));
        assert_eq!(written_after(5), waiting(8));
        assert_eq!(written_after(1), waiting(9));
    }
}
