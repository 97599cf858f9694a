//! How much training of a search was done more than once, from what its trainers and checkpoints say.
//!
//! A trainer that dies cannot say how far it had come. Its last heartbeat can, to within the interval of heartbeats, and
//! its checkpoint says from where its successor went on.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use shared::record::{Job, JobResult, TrainerState};
use shared::{Claim, Directory, Fate, JobId, fs};

use crate::{TestSearch, program};

/// How often the directory is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How far an attempt was seen to be, in the budget's unit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Progress {
    /// By its trainer's heartbeats.
    spent: f64,
    /// In its newest checkpoint.
    saved: f64,
}

/// Follows a search while it runs: files that say how far an attempt was are gone when the search is finished.
#[derive(Debug)]
pub struct Watch {
    seen: Arc<Mutex<BTreeMap<Claim, Progress>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// An attempt that ended without the job's result.
#[derive(Debug, Clone, PartialEq)]
pub struct Repeated {
    /// Which, and whose.
    pub claim: Claim,
    /// How it ended.
    pub fate: Fate,
    /// How far it was by its trainer's last word, in the budget's unit.
    pub spent: f64,
    /// From where its successor could go on.
    pub saved: f64,
    /// Seconds of training between the two.
    pub seconds: f64,
}

impl Watch {
    /// Starts to look.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub fn start(root: &Path) -> Result<Self> {
        let directory = Directory::observe(root)?;
        let seen = Arc::<Mutex<BTreeMap<Claim, Progress>>>::default();
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = {
            let (seen, is_over) = (Arc::clone(&seen), Arc::clone(&is_over));
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    look(&directory, &seen);
                    std::thread::sleep(LOOK);
                }
            })
        };
        Ok(Self {
            seen,
            is_over,
            thread: Some(thread),
        })
    }

    /// The training of every attempt that ended without the job's result, in the order of jobs and attempts.
    ///
    /// # Errors
    /// The directory cannot be read, or a job has no result.
    pub fn repeated(&self, root: &Path) -> Result<Vec<Repeated>> {
        let directory = Directory::observe(root)?;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut repeated = Vec::new();
        for job in directory.finished_jobs()? {
            let ends = directory.attempt_ends(job)?;
            if ends.is_empty() {
                continue;
            }
            let per_unit = seconds_per_unit(&directory, job)?;
            let mut saved = 0.0_f64;
            for end in ends {
                let progress = seen.get(&end.claim).copied().unwrap_or_default();
                saved = saved.max(progress.saved);
                if end.fate != Fate::NodeLost {
                    // It said so itself.
                    saved = saved.max(end.spent);
                }
                let spent = progress.spent.max(saved);
                repeated.push(Repeated {
                    claim: end.claim,
                    fate: end.fate,
                    spent,
                    saved,
                    seconds: (spent - saved) * per_unit,
                });
            }
        }
        Ok(repeated)
    }
}

/// Trains a job of a finished search again in one go, by hand: it ends with the same loss, bit for bit.
///
/// # Errors
/// It does not.
pub fn is_as_in_one_go(test: &TestSearch, result: &JobResult) -> Result<()> {
    let job = Job {
        job: result.job(),
        bracket: result.bracket,
        budget: result.budget,
        configuration: result.configuration.clone(),
        continues: None,
        search: test.directory()?.search().digest.clone(),
        supersedes: None,
        checks: Vec::new(),
        avoid_hosts: Vec::new(),
        memory_mib: None,
        seed: None,
        first_rung: None,
    };
    let file = test.beside("job.json");
    fs::replace_record(&file, &job)?;
    let output = Command::new(program("trainer"))
        .arg("job")
        .arg(&file)
        .arg("--directory")
        .arg(test.root())
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let loss = printed["outcome"]["loss"].as_f64();
    ensure!(
        loss == result.outcome.loss(),
        "{}: {loss:?} in one go, {:?} with interruptions",
        job.job,
        result.outcome.loss()
    );
    Ok(())
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            assert!(
                thread.join().is_ok() || std::thread::panicking(),
                "the watch has panicked"
            );
        }
    }
}

fn look(directory: &Directory, seen: &Mutex<BTreeMap<Claim, Progress>>) {
    // What cannot be read now may be at the next look.
    let heartbeats = directory.heartbeats().unwrap_or_default();
    for heartbeat in heartbeats.into_values() {
        let TrainerState::Working { claim, spent } = heartbeat.state else {
            continue;
        };
        let saved = directory.read_checkpoint(&claim, u64::MAX).ok().flatten();
        let saved = saved.and_then(|bytes| spent_in(&bytes)).unwrap_or(0.0);
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let progress = seen.entry(claim).or_default();
        progress.spent = progress.spent.max(spent);
        progress.saved = progress.saved.max(saved);
    }
}

/// How much of the budget a network's checkpoint has spent: docs/formats.md says how it is written.
fn spent_in(bytes: &[u8]) -> Option<f64> {
    let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?); // too short: no checkpoint
    let end = usize::try_from(length).ok()?.checked_add(8)?; // longer than memory: no checkpoint
    let header: serde_json::Value = serde_json::from_slice(bytes.get(8..end)?).ok()?; // as above
    let training = header["__metadata__"]["training"].as_str()?;
    let training: serde_json::Value = serde_json::from_str(training).ok()?; // as above
    training["progress"]["spent"].as_f64()
}

/// Seconds of training that one unit of the budget took in this job.
fn seconds_per_unit(directory: &Directory, job: JobId) -> Result<f64> {
    let result = directory
        .read_result(job)?
        .with_context(|| format!("{job} has no result"))?;
    let training_s = result.measures.get("training_s");
    let training_s = training_s.with_context(|| format!("{job} does not say how long it took"))?;
    Ok(training_s / result.budget.amount)
}
