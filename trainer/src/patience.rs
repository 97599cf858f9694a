//! A trainer that is warned leaves in time, also where its training does not look up: one step of a large network on a
//! slow machine may take a minute.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shared::exit::{self, Code};
use shared::record::Fate;
use shared::signal::Warning;
use shared::store::{Directory, attempt_end, chain};
use tracing::{info, warn};

use crate::allocator;
use crate::heart::{self, Beat, Held, Pulse};
use crate::time_limit::{MARGIN, TimeLimit};

/// How long after a warning the training may take until it looks at it.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long giving the job back may take after that.
const FAREWELL: Duration = Duration::from_secs(4);
/// How long a last word to the log may take.
const LAST_WORD: Duration = Duration::from_millis(200);
const INTERVAL: Duration = Duration::from_millis(100);
/// A SLURM job that has no more time than this is warned of its end, which is known, and not preempted.
const NEAR: Duration = Duration::from_mins(3);

/// Watches over the job in hand for as long as this process lives: where the training has not noticed a warning, or that
/// the SLURM job is about to end, for so long that the time to leave is over, the job is given back as its last
/// checkpoint left it, and the process ends with [`Code::Again`].
///
/// # Panics
/// If this machine has no thread left.
pub fn watch(
    directory: &Directory,
    pulse: &Arc<Pulse>,
    beat: &Arc<Mutex<Beat>>,
    warning: &Warning,
    limit: TimeLimit,
) {
    let (directory, pulse, beat) = (directory.clone(), Arc::clone(pulse), Arc::clone(beat));
    let warning = warning.clone();
    let watch = move || {
        let fate = end_of_patience(
            || is_urgent(warning.received(), limit.left()),
            || limit.is_near(),
            PATIENCE,
        );
        loop {
            // While this holds the job, nobody else ends it.
            let mut held = pulse.held();
            if let Some(held) = held.take() {
                allocator::disarm();
                give_back(directory, beat, held, fate);
                exit::at_once(Code::Again);
            }
            drop(held);
            std::thread::sleep(INTERVAL);
        }
    };
    // Not waited for: it ends with the process.
    let _thread = std::thread::Builder::new()
        .name("patience".to_owned())
        .spawn(watch)
        .expect("a thread can be had at the start of the program");
}

/// Whether a signal asks for an end in seconds. One that SLURM sends minutes before the end of its job does not: the
/// training has until then.
fn is_urgent(signal: Option<&str>, left: Option<Duration>) -> bool {
    match signal {
        None => false,
        Some("SIGUSR1" | "SIGUSR2") => left.is_none_or(|left| left > NEAR),
        Some(_) => true,
    }
}

/// Waits until a warning, or the end of the time, is so long ago that the training should have noticed; which of them.
fn end_of_patience(
    is_warned: impl Fn() -> bool,
    is_late: impl Fn() -> bool,
    patience: Duration,
) -> Fate {
    let (mut warned, mut late): (Option<Instant>, Option<Instant>) = (None, None);
    loop {
        if is_warned() {
            warned.get_or_insert_with(Instant::now);
        }
        if is_late() {
            late.get_or_insert_with(Instant::now);
        }
        if warned.is_some_and(|at| at.elapsed() >= patience) {
            return Fate::Preempted;
        }
        if late.is_some_and(|at| at.elapsed() >= MARGIN.saturating_sub(2 * patience)) {
            return Fate::TimeLimit;
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Gives a job back and says farewell, unless the file server does not answer in time. The log may be on it, too.
fn give_back(directory: Directory, beat: Arc<Mutex<Beat>>, held: Held, fate: Fate) {
    let (done, is_done) = channel();
    let attempt = held.claim.attempt;
    let farewell = move || {
        let message = "a training step took too long to be waited for";
        let end = attempt_end(&held.claim, fate, held.saved, message);
        let ended = directory.end_attempt(&end);
        // Kept from here on: nothing comes after the last heartbeat.
        let mut beat = heart::lock(&beat);
        beat.last();
        match ended {
            Ok(shared::fs::Moved::Done) => info!(
                "gave back job={attempt} ({}) in the middle of a step: {message}",
                fate.as_str()
            ),
            Ok(shared::fs::Moved::Gone) => info!("job={attempt} had been taken back already"),
            Err(error) => warn!("cannot give back job={attempt}: {}", chain(&error)),
        }
        // Nobody waits any more if that took too long.
        let _nobody = done.send(());
        #[cfg(not(test))]
        loop {
            std::thread::park();
        }
    };
    let thread = std::thread::Builder::new().spawn(farewell);
    if thread.is_err() || is_done.recv_timeout(FAREWELL).is_err() {
        let say =
            move || warn!("job={attempt} could not be given back: the scheduler will do that");
        let _said = std::thread::Builder::new().spawn(say);
        std::thread::sleep(LAST_WORD);
    }
}

#[cfg(test)]
mod tests {
    use shared::ConfigurationId;
    use shared::record::{Job, TrainerState};
    use shared::store::new_owner;

    use super::*;
    use crate::heart::tests::directory_in;

    #[test]
    fn a_job_is_given_back_as_its_last_checkpoint_left_it() {
        let folder = tempfile::tempdir().unwrap();
        let directory = directory_in(folder.path());
        let (job, owner) = (ConfigurationId(0).job(2), new_owner());
        let record = Job {
            job,
            bracket: 0,
            budget: directory.search().ladder.budget(2),
            configuration: serde_json::from_value(serde_json::json!({ "x": 0.5 })).unwrap(),
            continues: None,
            search: directory.search().digest.clone(),
            supersedes: None,
            avoid_hosts: Vec::new(),
            memory_mib: None,
        };
        directory.offer(&record, 1).unwrap();
        let (claim, _) = directory.claim(job.attempt(1), &owner).unwrap().unwrap();
        let pulse = Arc::new(Pulse::waiting());
        let first = Beat::first(&directory, Arc::clone(&pulse), &owner, "cpu", 0).unwrap();
        pulse.start(&claim);
        pulse.set_saved(3.5);
        let held = pulse.held().take().unwrap();
        assert!(pulse.held().is_none(), "nobody else ends it");
        let beat = Arc::new(Mutex::new(first));
        give_back(directory.clone(), beat, held, Fate::Preempted);
        let ends = directory.attempt_ends(job).unwrap();
        let ends: Vec<_> = ends
            .iter()
            .map(|end| (&end.claim, end.fate, end.spent))
            .collect();
        assert_eq!(ends, [(&claim, Fate::Preempted, 3.5)]);
        assert_eq!(directory.open_jobs().unwrap(), [job.attempt(2)]);
        let heartbeat = directory.read_heartbeat(&owner).unwrap().unwrap();
        assert_eq!(heartbeat.state, TrainerState::Gone);
    }

    #[test]
    fn a_warning_minutes_before_the_end_leaves_the_training_its_time() {
        let minutes = |number| Some(Duration::from_mins(number));
        assert!(!is_urgent(None, minutes(1)));
        assert!(!is_urgent(Some("SIGUSR1"), minutes(2)));
        assert!(is_urgent(Some("SIGUSR1"), minutes(60)));
        assert!(is_urgent(Some("SIGUSR2"), None));
        assert!(is_urgent(Some("SIGTERM"), minutes(2)));
    }

    #[test]
    fn patience_ends_some_time_after_the_warning_or_in_the_last_minute() {
        let patience = Duration::from_millis(300);
        let start = Instant::now();
        let warned = || start.elapsed() > Duration::from_millis(100);
        assert_eq!(end_of_patience(warned, || true, patience), Fate::Preempted);
        assert!(start.elapsed() > patience + Duration::from_millis(100));
        let patience = Duration::from_millis(29_950);
        assert_eq!(
            end_of_patience(|| false, || true, patience),
            Fate::TimeLimit
        );
    }
}
