//! A sampler and trainers in threads of the test, on the real protocol, and a search to run them on.
#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(
    clippy::allow_attributes,
    reason = "in some test files all of it is used"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use scheduler::run::{Scheduler, Turn};
use shared::record::{Checked, Heartbeat, Job, Origin, Proposal, RungCheck, TrainerState};
use shared::{
    Claim, ConfigurationId, Directory, JobResult, Outcome, OwnerId, SearchFile, clock, fs, owner,
};

/// How long any wait of a test may take.
pub(crate) const DEADLINE: Duration = Duration::from_mins(2);

/// Waits for something that other threads or processes bring about.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A script that can be run.
pub(crate) fn executable(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::replace(&path, format!("#!/bin/bash\n{text}\n").as_bytes()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A search over two numbers, as `search.json`.
pub(crate) fn search_file(changes: &serde_json::Value) -> SearchFile {
    let mut json = serde_json::json!({
        "name": "fake",
        "space": { "hyperparameters": [
            { "name": "x", "type": "float", "lower": 0, "upper": 1 },
            { "name": "y", "type": "integer", "lower": 1, "upper": 64, "log": true }
        ] },
        "objective": { "benchmark": "branin" },
        "budget": { "unit": "steps", "min": 1, "max": 9 },
        "limit": { "brackets": 3 },
        "method": "hyperband",
        "seed": 7,
        "trainers": { "heartbeat_s": 0.1, "lease_s": 0.5 }
    });
    for (key, value) in changes.as_object().unwrap() {
        match (json[key].as_object_mut(), value.as_object()) {
            // Of the trainers' settings only those given change; anything else is another choice.
            (Some(old), Some(new)) if key == "trainers" => old.extend(new.clone()),
            _ => json[key] = value.clone(),
        }
    }
    serde_json::from_value(json).unwrap()
}

/// Makes a search directory.
#[expect(clippy::needless_pass_by_value, reason = "calls read better")]
pub(crate) fn create(root: &Path, changes: serde_json::Value) -> Directory {
    Directory::create(root, &search_file(&changes), Path::new("search.json")).unwrap()
}

/// Runs one scheduler until the search is finished or `leave`.
pub(crate) fn schedule(root: &Path, leave: &AtomicBool) -> Option<Turn> {
    let directory = Directory::open(root).unwrap();
    let mut scheduler = Scheduler::new(directory, Duration::from_millis(100)).unwrap();
    let start = Instant::now();
    while !leave.load(Ordering::Relaxed) {
        match scheduler.turn().unwrap() {
            turn @ (Turn::Finished | Turn::Stopped) => return Some(turn),
            turn => scheduler
                .wait(turn, &mut || leave.load(Ordering::Relaxed))
                .unwrap(),
        }
        let state = scheduler.state();
        assert!(start.elapsed() < DEADLINE, "not finished: {state:?}");
    }
    None
}

/// Answers requests with draws that depend on the id alone.
pub(crate) fn sample(root: &Path, leave: &AtomicBool) {
    let directory = Directory::open(root).unwrap();
    let mut next = ConfigurationId(0);
    while !leave.load(Ordering::Relaxed) {
        if directory.read_request(next).unwrap().is_some() {
            directory.propose(&proposal(&directory, next)).unwrap();
            next.0 += 1;
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The largest loss with which a training goes on, where trainings are stopped.
const LIMIT: f64 = 0.3;

/// The proposal for an id.
pub(crate) fn proposal(directory: &Directory, id: ConfigurationId) -> Proposal {
    let search = directory.search();
    let vector = search
        .space
        .sample(&mut search.seed.child("fake", id).rng());
    Proposal {
        configuration: id,
        values: search.space.decode(&vector),
        origin: Origin {
            method: "fake".into(),
            source: "prior".into(),
            reason: "test".into(),
            num_results: 0,
            results_digest: String::new(),
            model: None,
        },
        checks: (0..search.ladder.top())
            .filter(|_| search.is_stopping())
            .map(|rung| RungCheck {
                rung,
                loss: Some(LIMIT),
            })
            .collect(),
        program: "fake".into(),
    }
}

/// What comes of a job that gives no loss.
pub(crate) type Fails<'a> = &'a (dyn Fn(&Job) -> Option<Outcome> + Sync);

/// A trainer that does jobs at once; `sabotage` may make it do something else with a job (then it returns true).
pub(crate) struct Trainer<'a> {
    pub(crate) directory: Directory,
    pub(crate) owner: OwnerId,
    pub(crate) beat: u64,
    pub(crate) done: u64,
    pub(crate) sabotage: &'a (dyn Fn(&Directory, &Claim, &Job) -> bool + Sync),
    pub(crate) host: String,
    pub(crate) memory_mib: Option<f64>,
    /// What comes of a job here, where that is no loss.
    pub(crate) fails: Option<Fails<'a>>,
}

impl<'a> Trainer<'a> {
    pub(crate) fn new(
        root: &Path,
        name: &str,
        sabotage: &'a (dyn Fn(&Directory, &Claim, &Job) -> bool + Sync),
    ) -> Self {
        Self {
            directory: Directory::open(root).unwrap(),
            owner: OwnerId::from_parts(&[name]),
            beat: 0,
            done: 0,
            sabotage,
            host: owner::host_name(),
            memory_mib: None,
            fails: None,
        }
    }

    /// A heartbeat from another host.
    pub(crate) fn heartbeat_of(&mut self, host: &str, state: TrainerState) {
        host.clone_into(&mut self.host);
        self.heartbeat(state);
    }

    pub(crate) fn heartbeat(&mut self, state: TrainerState) {
        self.beat += 1;
        let heartbeat = Heartbeat {
            owner: self.owner.clone(),
            beat: self.beat,
            state,
            host: self.host.clone(),
            pid: std::process::id(),
            device: "fake".into(),
            slurm_job: None,
            at: clock::now(),
            program: "fake".into(),
            memory_mib: self.memory_mib,
            device_memory_mib: None,
            time_left_s: None,
        };
        self.directory.beat(&heartbeat).unwrap();
    }

    /// Works until `leave`, or until a job is sabotaged: the trainer has then vanished without a word.
    pub(crate) fn run(&mut self, leave: &AtomicBool) {
        self.heartbeat(TrainerState::Waiting);
        let mut beaten = Instant::now();
        while !leave.load(Ordering::Relaxed) {
            if beaten.elapsed() > Duration::from_millis(100) {
                self.heartbeat(TrainerState::Waiting);
                beaten = Instant::now();
            }
            let open = self.directory.open_jobs().unwrap();
            let mut claimed = None;
            for attempt in open {
                let suits = |job: Job| {
                    !job.avoid_hosts.contains(&self.host) && job.memory_mib <= self.memory_mib
                };
                if !self
                    .directory
                    .read_open(attempt)
                    .unwrap()
                    .is_some_and(suits)
                {
                    continue;
                }
                claimed = self.directory.claim(attempt, &self.owner).unwrap();
                if claimed.is_some() {
                    break;
                }
            }
            let Some((claim, job)) = claimed else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            if (self.sabotage)(&self.directory, &claim, &job) {
                return;
            }
            let mut result = result(&claim, &job);
            if let Some(outcome) = self.fails.and_then(|fails| fails(&job)) {
                result.outcome = outcome;
            }
            result.notes.insert("host".into(), self.host.clone());
            self.directory.finish(&claim, &result).unwrap();
            self.done += 1;
        }
        self.heartbeat(TrainerState::Gone);
    }
}

/// What a fake trainer finds: a loss that depends on the configuration and the budget alone.
pub(crate) fn result(claim: &Claim, job: &Job) -> JobResult {
    let x = job.configuration.float("x").unwrap();
    let y = job.configuration.float("y").unwrap();
    let loss = |budget: f64| (x - 0.3).powi(2) + y / 100.0 + (x * 50.0).sin() / budget;
    let mut checks: Vec<Checked> = Vec::new();
    for check in job.checks.iter().filter(|_| y <= 50.0) {
        let is_over = |checks: &[Checked]| checks.last().is_some_and(|last| last.loss > LIMIT);
        if !is_over(&checks) {
            let (spent, loss) = (check.spent, loss(check.spent));
            checks.push(Checked { spent, loss });
        }
    }
    let stop = checks.last().filter(|last| last.loss > LIMIT);
    let outcome = if let Some(Checked { spent, loss }) = stop.copied() {
        Outcome::Stopped {
            spent,
            loss,
            limit: LIMIT,
        }
    } else if y > 50.0 {
        Outcome::OutOfMemory {
            needed_mib: 2.0,
            available_mib: 1.0,
        }
    } else {
        Outcome::Evaluated {
            loss: loss(job.budget.amount),
        }
    };
    JobResult {
        attempt: claim.attempt,
        owner: claim.owner.clone(),
        bracket: job.bracket,
        budget: job.budget,
        configuration: job.configuration.clone(),
        outcome,
        measures: [].into(),
        curve: Vec::new(),
        notes: [].into(),
        started_at: clock::now(),
        finished_at: clock::now(),
        elapsed_s: 0.001,
        program: "fake".into(),
        supersedes: job.supersedes,
        checks,
    }
}

/// Runs schedulers, a sampler and trainers on a directory until it is finished.
///
/// A trainer that `sabotage` makes vanish is replaced by a new one, as SLURM would.
pub(crate) fn run_all(
    root: &Path,
    num_schedulers: usize,
    num_trainers: usize,
    sabotage: &(dyn Fn(&Directory, &Claim, &Job) -> bool + Sync),
) {
    let leave = AtomicBool::new(false);
    let started = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..num_schedulers.min(2) {
            scope.spawn(|| sample(root, &leave));
        }
        for _ in 0..num_trainers {
            scope.spawn(|| {
                while !leave.load(Ordering::Relaxed) {
                    let number = started.fetch_add(1, Ordering::Relaxed);
                    Trainer::new(root, &format!("t{number}"), sabotage).run(&leave);
                }
            });
        }
        let schedulers: Vec<_> = (0..num_schedulers)
            .map(|_| scope.spawn(|| schedule(root, &leave)))
            .collect();
        let ends: Vec<_> = schedulers
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        leave.store(true, Ordering::Relaxed);
        for end in ends {
            assert_eq!(end.unwrap(), Some(Turn::Finished));
        }
    });
}

/// What every finished search must look like; returns the jobs with their outcomes.
pub(crate) fn check_finished(root: &Path) -> Vec<(String, Outcome)> {
    let directory = Directory::open(root).unwrap();
    let view = directory.jobs().unwrap();
    assert!(view.claimed.is_empty(), "left claimed: {view:?}");
    assert!(view.open.is_empty(), "left open: {view:?}");
    assert!(directory.flags().unwrap().is_finished);
    let results = directory.all_results().unwrap();
    results
        .into_iter()
        .map(|result| (result.job().to_string(), result.outcome))
        .collect()
}
