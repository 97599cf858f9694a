//! The trainer's program on real search directories: jobs are offered as a scheduler would, and claimed.

#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(
    clippy::float_cmp,
    reason = "equal means equal: the same numbers are computed or written twice"
)]

mod adapter;
mod command;
mod constraints;
mod faults;
mod finished;
mod outcomes;
mod promotion;
mod python;
mod stopping;

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use shared::record::{AttemptEnd, Fate, Job, JobResult};
use shared::{Claim, ConfigurationId, Directory, JobId, Outcome, fs};

/// How long any wait of a test may take.
const DEADLINE: Duration = Duration::from_mins(2);

/// A search directory in a temporary folder.
struct Search {
    folder: tempfile::TempDir,
    directory: Directory,
}

impl Search {
    /// Of a search file in which `changes` take the place of the fields of the same names.
    fn new(changes: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut file = json!({
            "name": "test",
            "space": { "hyperparameters": [
                { "name": "learning_rate", "type": "float", "lower": 1e-3, "upper": 1, "log": true }
            ] },
            "objective": { "network": {
                "data": { "name": "digits" },
                "training": { "flip": false },
            } },
            "budget": { "unit": "epochs", "min": 1, "max": 9, "eta": 3 },
            "limit": { "brackets": 1 },
            "method": "random",
            "trainers": { "heartbeat_s": 0.1 },
        });
        for (name, value) in changes.as_object().unwrap() {
            file[name] = value.clone();
        }
        let file = serde_json::from_value(file).unwrap();
        let root = folder.path().join("directory");
        let directory = Directory::create(&root, &file, folder.path()).unwrap();
        Self { folder, directory }
    }

    /// A place beside the directory.
    fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Offers the first attempt at a job that starts anew.
    fn offer(&self, id: u32, rung: u8, configuration: &Value) -> JobId {
        self.offer_job(id, rung, configuration, false)
    }

    /// Offers the first attempt at a job that may go on from the rung below.
    fn offer_continued(&self, id: u32, rung: u8, configuration: &Value) -> JobId {
        self.offer_job(id, rung, configuration, rung > 0)
    }

    fn offer_job(&self, id: u32, rung: u8, configuration: &Value, continues: bool) -> JobId {
        let mut job = self.job(id, rung, configuration);
        job.continues = continues.then(|| job.job.configuration.job(rung - 1));
        self.directory.offer(&job, 1).unwrap();
        job.job
    }

    /// A job that starts anew.
    fn job(&self, id: u32, rung: u8, configuration: &Value) -> Job {
        let id = ConfigurationId(id);
        Job {
            job: id.job(rung),
            bracket: 0,
            budget: self.directory.search().ladder.budget(rung),
            configuration: serde_json::from_value(configuration.clone()).unwrap(),
            continues: None,
            search: self.directory.search().digest.clone(),
            supersedes: None,
            checks: Vec::new(),
            avoid_hosts: Vec::new(),
            memory_mib: None,
            seed: None,
            first_rung: None,
        }
    }

    /// `trainer WORD DIRECTORY …`, undisturbed by what the person who runs the tests has set.
    fn trainer(&self, word: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trainer"));
        for variable in shared::env::ALL {
            command.env_remove(variable.name());
        }
        command.arg(word).arg(self.directory.layout().root());
        command
    }

    fn trainer_run(&self) -> Command {
        let mut command = self.trainer("run");
        command.args(["--once", "--poll-s", "0.1", "--device", "cpu"]);
        command
    }

    /// Runs a trainer until no job is open; its log.
    fn work(&self) -> String {
        let output = self.trainer_run().output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        said(&output)
    }

    /// Starts a trainer in the background.
    fn start(&self) -> Running {
        let mut command = self.trainer_run();
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        Running(Some(command.spawn().unwrap()))
    }

    fn result(&self, job: JobId) -> JobResult {
        let result = self.directory.read_result(job).unwrap();
        result.unwrap_or_else(|| panic!("{job} has no result"))
    }

    fn loss(&self, job: JobId) -> f64 {
        let outcome = self.result(job).outcome;
        outcome
            .loss()
            .unwrap_or_else(|| panic!("{job} ended as {outcome:?}"))
    }

    fn message(&self, job: JobId) -> String {
        match self.result(job).outcome {
            Outcome::Crashed { message, .. } => message,
            other => panic!("{job} ended as {other:?}"),
        }
    }

    /// How the only attempt that ended without a result did so.
    fn only_end(&self, job: JobId) -> AttemptEnd {
        let mut ends = self.directory.attempt_ends(job).unwrap();
        assert_eq!(ends.len(), 1, "{ends:?}");
        ends.remove(0)
    }

    /// Checks that a job was given back: without a result, recorded, and open for the next attempt.
    fn check_given_back(&self, job: JobId, fate: Fate) -> AttemptEnd {
        assert!(!self.directory.has_result(job).unwrap());
        let end = self.only_end(job);
        assert_eq!(end.fate, fate, "{end:?}");
        assert_eq!(self.directory.open_jobs().unwrap(), [job.attempt(2)]);
        end
    }

    /// What the program of an attempt has printed.
    fn log(&self, job: JobId) -> String {
        let result = self.result(job);
        let claim = Claim {
            attempt: result.attempt,
            owner: result.owner,
        };
        let bytes = fs::read(&self.directory.layout().log(&claim)).unwrap();
        String::from_utf8(bytes).unwrap()
    }
}

/// A trainer in the background; killed if the test fails.
struct Running(Option<Child>);

impl Running {
    fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(self.0.as_ref().unwrap())
    }

    /// Sends SIGTERM and waits for the end; exit code, seconds that it took, log.
    fn terminate(self) -> (Option<i32>, f64, String) {
        self.warn(Signal::TERM)
    }

    /// As [`terminate`](Self::terminate), with any signal.
    fn warn(self, signal: Signal) -> (Option<i32>, f64, String) {
        let start = Instant::now();
        rustix::process::kill_process(self.pid(), signal).unwrap();
        let output = self.wait();
        (
            output.status.code(),
            start.elapsed().as_secs_f64(),
            said(&output),
        )
    }

    fn wait(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended by itself.
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits for a state.
fn wait_until<T>(what: &str, mut is_so: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = is_so() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "still not: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process is there and has not ended.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // "pid (name) state …"; the dead that nobody has waited for are zombies.
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.trim().chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}
