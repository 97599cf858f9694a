//! Whose fault a failure is: hosts that cannot do anything, commands that nobody can do, trainers with too little memory,
//! and what `scheduler retry` does about it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[cfg(test)]
mod fake;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fake::{DEADLINE, Fails, Trainer, check_finished, create, proposal, run_all, sample};
use scheduler::blame::Again;
use scheduler::run::{Scheduler, Turn};
use serde_json::json;
use shared::directory::attempt_end;
use shared::record::{Job, TrainerState};
use shared::{ConfigurationId, Directory, Fate, Outcome};

/// A trainer's host, its memory, and what fails there.
type Place<'a> = (&'a str, Option<f64>, Fails<'a>);

/// Runs a scheduler, a sampler and a trainer at each place until the search is finished or `is_enough`.
fn run_at(root: &Path, places: &[Place<'_>], is_enough: &dyn Fn(&Scheduler) -> bool) -> Turn {
    let leave = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| sample(root, &leave));
        for (number, (host, memory_mib, fails)) in places.iter().enumerate() {
            let mut trainer = Trainer::new(root, &format!("{host}-{number}"), &|_, _, _| {
                // As if it took a while.
                std::thread::sleep(Duration::from_millis(5));
                false
            });
            trainer.memory_mib = *memory_mib;
            trainer.fails = Some(*fails);
            trainer.heartbeat_of(host, TrainerState::Waiting);
            let leave = &leave;
            scope.spawn(move || trainer.run(leave));
        }
        let directory = Directory::open(root).unwrap();
        let mut scheduler = Scheduler::new(directory, Duration::from_millis(50)).unwrap();
        let start = Instant::now();
        let turn = loop {
            let turn = scheduler.turn().unwrap();
            if turn == Turn::Finished || is_enough(&scheduler) {
                break turn;
            }
            assert!(start.elapsed() < DEADLINE, "{:?}", scheduler.state());
            scheduler.wait(turn, &mut || false).unwrap();
        };
        leave.store(true, Ordering::Relaxed);
        turn
    })
}

#[expect(clippy::unnecessary_wraps, reason = "a trainer may fail or not")]
fn fruitless(_: &Job) -> Option<Outcome> {
    Some(Outcome::Crashed {
        message: "No module named 'torch'".into(),
        progressed: Some(false),
        log: None,
    })
}

fn well(_: &Job) -> Option<Outcome> {
    None
}

/// What `scheduler status` says.
fn status(root: &Path) -> String {
    let status = Command::new(env!("CARGO_BIN_EXE_scheduler"))
        .arg("status")
        .arg(root)
        .output()
        .unwrap();
    String::from_utf8(status.stdout).unwrap()
}

fn reference() -> Vec<(String, Outcome)> {
    let folder = tempfile::tempdir().unwrap();
    create(folder.path(), json!({}));
    run_all(folder.path(), 1, 1, &|_, _, _| false);
    check_finished(folder.path())
}

#[test]
fn hosts_on_which_everything_crashes_cost_no_configuration_its_loss() {
    let expected = reference();
    let places: [&[Place<'_>]; 2] = [
        &[
            ("bad", None, &fruitless),
            ("good", None, &well),
            ("fine", None, &well),
        ],
        &[
            ("bad", None, &fruitless),
            ("worse", None, &fruitless),
            ("good", None, &well),
            ("fine", None, &well),
        ],
    ];
    for places in places {
        let folder = tempfile::tempdir().unwrap();
        // However many crashes come first.
        let changes = json!({"trainers": {"pause_after": 0, "lease_s": 10.0}});
        let directory = create(folder.path(), changes);
        assert_eq!(run_at(folder.path(), places, &|_| false), Turn::Finished);
        assert_eq!(check_finished(folder.path()), expected);
        let retries = directory.shards(shared::layout::RETRIES).unwrap();
        assert_eq!(retries, [0], "some crashed first");
    }
}

#[test]
fn a_configuration_that_crashes_on_two_good_hosts_has_crashed() {
    let crashes = |job: &Job| match job.job.configuration.0 {
        3 => fruitless(job),
        _ => None,
    };
    let folder = tempfile::tempdir().unwrap();
    // Others live all the time, however slow this machine is.
    let directory = create(folder.path(), json!({"trainers": {"lease_s": 10.0}}));
    let places: &[Place<'_>] = &[
        ("a", None, &crashes),
        ("b", None, &crashes),
        ("c", None, &crashes),
    ];
    assert_eq!(run_at(folder.path(), places, &|_| false), Turn::Finished);
    let job = ConfigurationId(3).job(0);
    let last = directory.last_result(job).unwrap().unwrap();
    assert!(matches!(last.outcome, Outcome::Crashed { .. }));
    assert!(last.supersedes.is_some());
    let first = directory.read_result(job).unwrap().unwrap();
    assert_ne!(first.notes["host"], last.notes["host"]);
}

#[test]
fn who_looks_at_a_finished_search_finds_no_failure_in_doubt() {
    let folder = tempfile::tempdir().unwrap();
    create(folder.path(), json!({}));
    // The last of all, which no request names any more.
    let last = |job: &Job| (job.job.rung == 2).then(|| fruitless(job)).flatten();
    let turn = run_at(folder.path(), &[("lone", None, &last)], &|_| false);
    assert_eq!(turn, Turn::Finished);
    let told = status(folder.path());
    assert!(told.contains("nothing: the search is finished"), "{told}");
}

/// The cause is mended, and all outcomes are asked for again: the search ends as if nothing had happened.
fn is_finished_once_asked(directory: &Directory) {
    for result in directory.all_results().unwrap() {
        directory
            .retry(&Again::asked(result.attempt).record())
            .unwrap();
    }
    let root = directory.layout().root();
    let places: &[Place<'_>] = &[("a", None, &well), ("b", None, &well)];
    assert_eq!(run_at(root, places, &|_| false), Turn::Finished);
    assert_eq!(check_finished(root), reference());
}

#[test]
fn a_search_that_begins_with_crashes_alone_waits_for_somebody_to_ask() {
    let folder = tempfile::tempdir().unwrap();
    let directory = create(
        folder.path(),
        json!({"trainers": {"ahead": 4, "lease_s": 10.0}}),
    );
    let is_paused = |scheduler: &Scheduler| scheduler.state().faults.pause(5).is_some();
    let places: &[Place<'_>] = &[("a", None, &fruitless), ("b", None, &fruitless)];
    run_at(folder.path(), places, &is_paused);
    let number = directory.all_results().unwrap().len();
    assert!((2..=9).contains(&number), "{number}");
    // A scheduler that is started anew knows it, too, and offers nothing, whoever lives.
    let mut again = Scheduler::new(directory.clone(), Duration::from_millis(50)).unwrap();
    assert_eq!(again.turn().unwrap(), Turn::Idle);
    assert!(is_paused(&again));
    assert!(directory.jobs().unwrap().open.is_empty());
    is_finished_once_asked(&directory);
}

#[test]
fn a_command_that_cannot_be_started_pauses_the_search_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // A job that a busy machine seems to have lost would count, too.
    let directory = create(folder.path(), json!({"trainers": {"lease_s": 10.0}}));
    // What trainers do when they cannot start a program.
    let mut scheduler = Scheduler::new(directory.clone(), Duration::from_millis(50)).unwrap();
    scheduler.turn().unwrap();
    let first = ConfigurationId(0);
    directory.propose(&proposal(&directory, first)).unwrap();
    scheduler.turn().unwrap();
    let owner = shared::owner::new_owner();
    while scheduler.state().faults.pause(5).is_none() {
        let attempt = directory.jobs().unwrap().open.pop_first().unwrap();
        let (claim, _) = directory.claim(attempt, &owner).unwrap().unwrap();
        let message = "cannot start `pyhton3`: No such file or directory";
        let end = attempt_end(&claim, Fate::InputOutput, 0.0, message);
        directory.end_attempt(&end).unwrap();
        scheduler.turn().unwrap();
    }
    let told = status(folder.path());
    assert!(
        told.contains("--lost`") && told.contains("cannot start `pyhton3`"),
        "{told}"
    );
    assert!(directory.jobs().unwrap().open.is_empty(), "{told}");
    let results = directory.all_results().unwrap();
    assert!(
        results
            .iter()
            .all(|result| matches!(result.outcome, Outcome::Lost { .. }))
    );
    is_finished_once_asked(&directory);
}

#[test]
fn what_a_small_trainer_cannot_hold_is_left_to_a_large_one() {
    let too_small = |job: &Job| {
        let needs_much = job.job.configuration.0.is_multiple_of(3);
        needs_much.then_some(Outcome::OutOfMemory {
            needed_mib: 12_000.0,
            available_mib: 7_000.0,
        })
    };
    let folder = tempfile::tempdir().unwrap();
    create(folder.path(), json!({"trainers": {"lease_s": 10.0}}));
    let places: &[Place<'_>] = &[
        ("small", Some(8_000.0), &too_small),
        ("small", Some(8_000.0), &too_small),
        ("large", Some(40_000.0), &well),
    ];
    assert_eq!(run_at(folder.path(), places, &|_| false), Turn::Finished);
    // The fake's own failures are of what no memory is enough for.
    assert_eq!(check_finished(folder.path()), reference());
    // Where no larger one lives, it counts.
    let folder = tempfile::tempdir().unwrap();
    let directory = create(folder.path(), json!({}));
    run_at(folder.path(), &places[..1], &|_| false);
    let result = directory.last_result(ConfigurationId(0).job(0)).unwrap();
    assert!(matches!(
        result.unwrap().outcome,
        Outcome::OutOfMemory { .. }
    ));
}

#[test]
fn jobs_reserved_for_a_host_that_is_gone_are_offered_to_all() {
    let folder = tempfile::tempdir().unwrap();
    let directory = create(folder.path(), json!({"trainers": {"lease_s": 5.0}}));
    let root = folder.path();
    // `b` lives when `a` crashes, and has left before it could take the job.
    Trainer::new(root, "b-1", &|_, _, _| false).heartbeat_of("b", TrainerState::Waiting);
    let crashed = AtomicBool::new(false);
    let once = |job: &Job| {
        let is_first = job.job.configuration.0 == 0 && !crashed.swap(true, Ordering::Relaxed);
        if is_first { fruitless(job) } else { None }
    };
    let places: &[Place<'_>] = &[("a", None, &once)];
    assert_eq!(run_at(root, places, &|_| false), Turn::Finished);
    assert_eq!(check_finished(root), reference());
    let last = directory.last_result(ConfigurationId(0).job(0)).unwrap();
    assert!(last.unwrap().attempt.attempt > 2);
}
