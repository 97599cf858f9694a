//! `scheduler run --once`, again and again as from cron: what one run saw, the next one knows.
//!
//! No test waits for a lease: what a run has written down is made to lie further back.
#![expect(
    clippy::unwrap_used,
    reason = "all of this file is tests and what they share"
)]

#[cfg(test)]
mod fake;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use shared::record::TrainerState;
use shared::{AttemptId, Claim, ConfigurationId, Directory, fs};

/// Longer than a test takes, shorter than [`LONG`].
const LEASE_S: f64 = 600.0;
const LONG: f64 = 3600.0;

/// A search with one job, in the hands of a trainer.
struct Search {
    folder: tempfile::TempDir,
    directory: Directory,
    trainer: fake::Trainer<'static>,
    claim: Claim,
}

impl Search {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let trainers = json!({"heartbeat_s": 0.01, "lease_s": LEASE_S});
        let directory = fake::create(folder.path(), json!({ "trainers": trainers }));
        let first = ConfigurationId(0);
        run(&folder);
        directory
            .propose(&fake::proposal(&directory, first))
            .unwrap();
        let mut trainer = fake::Trainer::new(folder.path(), "t", &|_, _, _| false);
        trainer.heartbeat(TrainerState::Waiting);
        run(&folder);
        let open = first.job(0).attempt(1);
        let (claim, _job) = directory.claim(open, &trainer.owner).unwrap().unwrap();
        let mut search = Self {
            folder,
            directory,
            trainer,
            claim,
        };
        search.beat();
        run(&search.folder);
        search
    }

    fn beat(&mut self) {
        let claim = self.claim.clone();
        self.trainer
            .heartbeat(TrainerState::Working { claim, spent: 0.5 });
    }

    fn status(&self) -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_scheduler"))
            .env_clear()
            .arg("status")
            .arg(self.folder.path())
            .args(["--format", "json"])
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn num_silent_and_live(&self) -> (u64, u64) {
        let status = self.status();
        let of = |name: &str| status[name].as_u64().unwrap();
        (of("trainers_silent"), of("trainers_live"))
    }

    fn observation(&self) -> PathBuf {
        let folder = self.folder.path().join("observations");
        let names = fs::list(&folder).unwrap();
        assert_eq!(names.len(), 1, "{names:?}");
        folder.join(&names[0])
    }

    fn change(&self, change: impl FnOnce(&mut Value)) {
        let path = self.observation();
        let mut json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut json);
        fs::replace(&path, json.to_string().as_bytes()).unwrap();
    }

    /// Makes the last run one of an hour ago.
    fn an_hour_passes(&self) {
        self.change(|json| {
            shift(&mut json["reading"]["monotonic_s"]);
            shift(&mut json["reading"]["unix_s"]);
        });
    }

    /// A run, and whether the job is still in the trainer's hands.
    fn is_held_after_a_run(&self) -> bool {
        run(&self.folder);
        let view = self.directory.jobs().unwrap();
        let next: AttemptId = self.claim.attempt.next();
        assert_ne!(
            view.claimed.contains(&self.claim),
            view.open.contains(&next)
        );
        view.claimed.contains(&self.claim)
    }
}

fn shift(seconds: &mut Value) {
    *seconds = json!(seconds.as_f64().unwrap() - LONG);
}

fn run(folder: &tempfile::TempDir) {
    let output = Command::new(env!("CARGO_BIN_EXE_scheduler"))
        .env_clear()
        .arg("run")
        .arg(folder.path())
        .arg("--once")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_dead_trainers_job_is_taken_back_by_a_later_run() {
    let search = Search::new();
    assert!(search.is_held_after_a_run());
    search.an_hour_passes();
    assert!(!search.is_held_after_a_run());
    let ends = search
        .directory
        .attempt_ends(search.claim.attempt.job)
        .unwrap();
    assert_eq!(ends[0].fate, shared::Fate::NodeLost);
}

#[test]
fn silence_adds_up_over_short_pauses() {
    let search = Search::new();
    let pause = LEASE_S / 4.0;
    let mut runs = 0;
    while search.is_held_after_a_run() {
        runs += 1;
        assert!(runs < 10);
        search.change(|json| {
            for clock in ["monotonic_s", "unix_s"] {
                let now = json["reading"][clock].as_f64().unwrap();
                json["reading"][clock] = json!(now - pause);
            }
        });
    }
    assert_eq!(runs, 4);
}

#[test]
fn a_live_trainer_keeps_its_job_however_long_the_pauses() {
    let mut search = Search::new();
    for _ in 0..4 {
        search.beat();
        search.an_hour_passes();
        assert!(search.is_held_after_a_run());
    }
    // One that has just claimed the job and not yet said so.
    search.change(|json| json["claims"][0]["beat"] = Value::Null);
    search.an_hour_passes();
    assert!(search.is_held_after_a_run());
}

#[test]
fn a_clock_that_jumps_and_a_machine_that_restarts_take_nothing_back() {
    let search = Search::new();
    search.change(|json| shift(&mut json["reading"]["unix_s"]));
    assert!(search.is_held_after_a_run());
    search.change(|json| shift(&mut json["reading"]["monotonic_s"]));
    assert!(search.is_held_after_a_run());
    search.an_hour_passes();
    search.change(|json| json["reading"]["boot"] = json!("another"));
    assert!(search.is_held_after_a_run());
    search.an_hour_passes();
    search.change(|json| json["host"] = json!("another"));
    assert!(search.is_held_after_a_run());
    // From then on it is timed as ever.
    search.an_hour_passes();
    assert!(!search.is_held_after_a_run());
}

#[test]
fn a_corrupt_observation_is_set_aside_and_timing_begins_anew() {
    let search = Search::new();
    for text in ["", "{ \"format\": \"obs", "[]", "{}"] {
        fs::replace(&search.observation(), text.as_bytes()).unwrap();
        assert!(search.is_held_after_a_run(), "{text}");
    }
    // More than a duration can hold, and less than nothing.
    search.change(|json| json["claims"][0]["silent_s"] = json!(-1e300));
    assert!(search.is_held_after_a_run());
    assert_eq!(
        fs::list(&search.folder.path().join("aside")).unwrap().len(),
        5
    );
    search.change(|json| json["claims"][0]["silent_s"] = json!(1e300));
    assert!(!search.is_held_after_a_run());
}

#[test]
fn an_observation_that_another_scheduler_writes_late_takes_nothing_back() {
    let mut search = Search::new();
    let old = std::fs::read(search.observation()).unwrap();
    search.beat();
    assert!(search.is_held_after_a_run());
    fs::replace(&search.observation(), &old).unwrap();
    search.an_hour_passes();
    assert!(search.is_held_after_a_run());
}

#[test]
fn dead_trainers_do_not_count_as_living_and_the_status_knows() {
    let search = Search::new();
    search.an_hour_passes();
    assert_eq!(search.num_silent_and_live(), (1, 0));
}

#[test]
fn the_status_tells_the_age_of_a_heartbeat_by_the_clock_that_stamps_files() {
    let search = Search::new();
    // Nobody has left word.
    fs::remove(&search.observation()).unwrap();
    let path = search.directory.layout().heartbeat(&search.trainer.owner);
    let mut heartbeat: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for stamp in ["2001-01-01T00:00:00Z", "2201-01-01T00:00:00Z"] {
        heartbeat["at"] = stamp.into();
        fs::replace(&path, heartbeat.to_string().as_bytes()).unwrap();
        assert_eq!(search.num_silent_and_live(), (0, 1), "{stamp}");
    }
    let written = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(shared::clock::unix_s() - LONG);
    std::fs::File::open(&path)
        .unwrap()
        .set_modified(written)
        .unwrap();
    assert_eq!(search.num_silent_and_live(), (1, 0));
    let status = search.status();
    let heard_s = status["trainers"][0]["heard_s"].as_f64().unwrap();
    assert!((LONG..LONG + LEASE_S).contains(&heard_s), "{status}");
}
