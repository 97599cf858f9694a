//! Simulated trainers: each has a name, a heartbeat and a job in hand, and a few threads move them by chance.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::fake::{Trainer, check_finished, create, proposal, result, schedule};
use rand::RngExt as _;
use serde_json::json;
use shared::directory::FinishedAs;
use shared::record::{Job, TrainerState};
use shared::wait::{News, Waiter};
use shared::{Claim, ConfigurationId, Directory, Seed, layout};

/// Threads that move the trainers.
const NUM_THREADS: usize = 4;
/// How long no job may be had before jobs in hand are ended although few trainers have one.
const LONGEST_DROUGHT: Duration = Duration::from_millis(500);
/// Seconds between two heartbeats of a trainer.
const HEARTBEAT_S: f64 = 10.0;

/// A trainer that does nothing by itself.
struct Simulated {
    trainer: Trainer<'static>,
    beaten: Instant,
    job: Option<(Claim, Job)>,
}

/// What the trainers did.
#[derive(Default)]
struct Counts {
    finished: AtomicUsize,
    late: AtomicUsize,
    /// The most jobs that were in hand at once.
    in_hand: AtomicUsize,
    most_in_hand: AtomicUsize,
}

impl Simulated {
    fn new(root: &Path, number: usize) -> Self {
        let mut trainer = Trainer::new(root, &format!("t{number}"), &|_, _, _| false);
        trainer.heartbeat(TrainerState::Waiting);
        Self {
            trainer,
            beaten: Instant::now(),
            job: None,
        }
    }

    fn beat(&mut self) {
        if self.beaten.elapsed().as_secs_f64() < HEARTBEAT_S {
            return;
        }
        let state = match &self.job {
            Some((claim, _)) => TrainerState::Working {
                claim: claim.clone(),
                spent: 0.0,
            },
            None => TrainerState::Waiting,
        };
        self.trainer.heartbeat(state);
        self.beaten = Instant::now();
    }

    /// Takes a job that is open, or ends the one in hand; whether it did.
    fn step(&mut self, open: &mut Vec<shared::AttemptId>, counts: &Counts) -> bool {
        let directory = &self.trainer.directory;
        if let Some((claim, job)) = self.job.take() {
            let finished = directory.finish(&claim, &result(&claim, &job)).unwrap();
            let count = match finished {
                FinishedAs::First => &counts.finished,
                FinishedAs::Late => &counts.late,
            };
            count.fetch_add(1, Ordering::Relaxed);
            counts.in_hand.fetch_sub(1, Ordering::Relaxed);
            return true;
        }
        let Some(attempt) = open.pop() else {
            return false;
        };
        self.job = directory.claim(attempt, &self.trainer.owner).unwrap();
        if self.job.is_some() {
            let now = counts.in_hand.fetch_add(1, Ordering::Relaxed) + 1;
            counts.most_in_hand.fetch_max(now, Ordering::Relaxed);
        }
        true
    }
}

/// Moves some of `num_trainers` trainers by chance until `leave`. They keep their jobs until most trainers have one, or
/// until no more are offered.
fn simulate(
    root: &Path,
    numbers: std::ops::Range<usize>,
    num_trainers: usize,
    counts: &Counts,
    leave: &AtomicBool,
) {
    let mut rng = Seed::new(0).child("crowd", numbers.start).rng();
    let mut trainers: Vec<Simulated> = numbers.map(|n| Simulated::new(root, n)).collect();
    let directory = Directory::open(root).unwrap();
    let mut claimed = Instant::now();
    while !leave.load(Ordering::Relaxed) {
        for trainer in &mut trainers {
            trainer.beat();
        }
        let mut open = directory.open_jobs().unwrap();
        for trainer in trainers.iter_mut().filter(|t| t.job.is_none()) {
            if !trainer.step(&mut open, counts) {
                break;
            }
            claimed = Instant::now();
        }
        let are_most_busy = counts.in_hand.load(Ordering::Relaxed) >= num_trainers * 4 / 5;
        if !are_most_busy && claimed.elapsed() < LONGEST_DROUGHT {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let mut busy: Vec<&mut Simulated> =
            trainers.iter_mut().filter(|t| t.job.is_some()).collect();
        for _ in 0..busy.len().div_ceil(20) {
            let index = rng.random_range(0..busy.len());
            busy.swap_remove(index).step(&mut Vec::new(), counts);
        }
    }
}

/// Answers requests as they come.
fn sample(root: &Path, leave: &AtomicBool) {
    let directory = Directory::open(root).unwrap();
    let folders = [(
        directory.layout().path(layout::REQUESTS).join("000"),
        News::Arrivals,
    )];
    let mut waiter = Waiter::new(&folders, Duration::from_millis(5));
    let mut next = ConfigurationId(0);
    while !leave.load(Ordering::Relaxed) {
        if directory.read_request(next).unwrap().is_some() {
            directory.propose(&proposal(&directory, next)).unwrap();
            next.0 += 1;
            waiter.progress();
        } else {
            waiter.wait(&mut || leave.load(Ordering::Relaxed));
        }
    }
}

/// Runs a search of so many configurations with so many trainers; prints jobs a second.
pub(crate) fn crowd(num_trainers: usize, num_configurations: u32) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    create(
        root,
        json!({
            "scheduling": "asynchronous",
            "limit": { "configurations": num_configurations },
            "trainers": { "heartbeat_s": HEARTBEAT_S, "lease_s": 1000.0 }
        }),
    );
    let (counts, leave) = (Counts::default(), AtomicBool::new(false));
    let ended = Mutex::new(None);
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| sample(root, &leave));
        let share = num_trainers.div_ceil(NUM_THREADS);
        for thread in 0..NUM_THREADS {
            let numbers = thread * share..((thread + 1) * share).min(num_trainers);
            let (counts, leave) = (&counts, &leave);
            scope.spawn(move || simulate(root, numbers, num_trainers, counts, leave));
        }
        let end = scope.spawn(|| schedule(root, &leave)).join();
        leave.store(true, Ordering::Relaxed);
        *ended.lock().unwrap() = end.unwrap();
    });
    assert_eq!(
        ended.into_inner().unwrap(),
        Some(scheduler::run::Turn::Finished)
    );
    let jobs = check_finished(root).len();
    let wall_s = start.elapsed().as_secs_f64();
    let finished = counts.finished.into_inner();
    let most = counts.most_in_hand.into_inner();
    println!(
        "{num_trainers} trainers: {jobs} jobs in {wall_s:.1} s, {:.0} a second; at most {most} in hand",
        jobs as f64 / wall_s
    );
    assert_eq!(
        finished, jobs,
        "every job is finished by exactly one trainer"
    );
    assert_eq!(counts.late.into_inner(), 0);
    assert!(most > num_trainers / 2, "{most} jobs in hand at most");
}
