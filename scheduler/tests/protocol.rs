//! The scheduler's loop against a sampler and trainers that follow the protocol, fail to, or vanish.

#[cfg(test)]
mod fake;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fake::{Trainer, check_finished, create, run_all};
use serde_json::json;
use shared::record::{AttemptEnd, Fate};
use shared::{Claim, ConfigurationId, Directory, Outcome, directory, fs};

const HONEST: &(dyn Fn(&Directory, &Claim, &shared::record::Job) -> bool + Sync) = &|_, _, _| false;

/// What an outside program keeps is removed with its configuration, unless that was trained to the full budget.
#[test]
fn programs_folders_are_removed_when_no_job_can_need_them() {
    for changes in [
        json!({}),
        json!({"promotion": "continue"}),
        json!({"scheduling": "asynchronous", "limit": {"configurations": 12}}),
        json!({"scheduling": "asynchronous", "limit": {"configurations": 12}, "promotion": "continue"}),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let directory = create(folder.path(), changes.clone());
        let top = directory.search().ladder.top();
        let seen = Mutex::new(BTreeSet::new());
        run_all(folder.path(), 1, 2, &|directory, claim, _| {
            let id = claim.attempt.job.configuration;
            let kept = directory.layout().checkpoints(id).join("program/epoch");
            fs::replace(&kept, b"weights").unwrap();
            seen.lock().unwrap().insert(id);
            false
        });
        let at_top: BTreeSet<ConfigurationId> = directory
            .all_results()
            .unwrap()
            .iter()
            .filter(|result| result.job().rung == top && !result.outcome.is_failure())
            .map(|result| result.job().configuration)
            .collect();
        assert!(!at_top.is_empty() && seen.lock().unwrap().len() > at_top.len());
        assert_eq!(directory.checkpointed().unwrap(), at_top, "{changes}");
        let bytes = 7 * at_top.len() as u64;
        assert_eq!(directory.checkpoint_bytes().unwrap(), bytes);
    }
}

#[test]
fn one_trainer_makes_the_same_files_every_time() {
    let requests = |folder: &tempfile::TempDir| -> Vec<String> {
        let directory = create(folder.path(), json!({}));
        run_all(folder.path(), 1, 1, HONEST);
        (0..15)
            .map(|id| {
                format!(
                    "{:?}",
                    directory
                        .read_request(ConfigurationId(id))
                        .unwrap()
                        .unwrap()
                )
            })
            .collect()
    };
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = requests(&folders[0]);
    assert_eq!(first, requests(&folders[1]));
    assert_eq!(
        check_finished(folders[0].path()),
        check_finished(folders[1].path())
    );
    // Each proposal but the first may see the result before it.
    assert!(first[1].contains("finished: [JobId"), "{}", first[1]);
}

#[test]
fn any_number_of_schedulers_and_trainers_gives_the_same_brackets() {
    let reference = tempfile::tempdir().unwrap();
    create(reference.path(), json!({}));
    run_all(reference.path(), 1, 1, HONEST);
    let expected = check_finished(reference.path());
    assert_eq!(expected.len(), 20);
    for (schedulers, trainers) in [(1, 4), (2, 8), (3, 3)] {
        let folder = tempfile::tempdir().unwrap();
        create(folder.path(), json!({"trainers": {"ahead": 2}}));
        run_all(folder.path(), schedulers, trainers, HONEST);
        assert_eq!(check_finished(folder.path()), expected);
    }
}

#[test]
fn without_barrier_a_search_ends_with_all_its_configurations() {
    let folder = tempfile::tempdir().unwrap();
    create(
        folder.path(),
        json!({"scheduling": "asynchronous", "limit": {"configurations": 40}}),
    );
    run_all(folder.path(), 2, 4, HONEST);
    let jobs = check_finished(folder.path());
    let configurations: BTreeSet<&str> = jobs.iter().map(|(job, _)| &job[..7]).collect();
    assert_eq!(configurations.len(), 40);
    assert!(jobs.len() > 44, "some are promoted: {}", jobs.len());
}

#[test]
fn jobs_of_vanished_trainers_are_taken_back() {
    let reference = tempfile::tempdir().unwrap();
    create(reference.path(), json!({}));
    run_all(reference.path(), 1, 1, HONEST);

    let folder = tempfile::tempdir().unwrap();
    // Longer than a trainer that lives says nothing.
    let directory = create(folder.path(), json!({"trainers": {"lease_s": 3.0}}));
    let vanished = AtomicU32::new(0);
    run_all(folder.path(), 1, 3, &|_, claim, _| {
        // The first attempt at every fifth configuration ends with its trainer.
        let is_first = claim.attempt.attempt == 1 && claim.attempt.job.rung == 0;
        let vanishes = is_first && claim.attempt.job.configuration.0 % 5 == 0;
        vanished.fetch_add(u32::from(vanishes), Ordering::Relaxed);
        vanishes
    });
    assert_eq!(vanished.load(Ordering::Relaxed), 2);
    assert_eq!(
        check_finished(folder.path()),
        check_finished(reference.path())
    );
    let ends = directory.attempt_ends(ConfigurationId(0).job(0)).unwrap();
    assert_eq!(ends.len(), 1);
    assert_eq!(ends[0].fate, Fate::NodeLost);
}

#[test]
fn a_trainer_that_died_after_publishing_leaves_a_result_and_no_claim() {
    let folder = tempfile::tempdir().unwrap();
    let directory = create(folder.path(), json!({}));
    run_all(folder.path(), 1, 2, &|directory, claim, job| {
        let dies = claim.attempt.job.configuration.0 == 4;
        if dies {
            directory.publish_result(&fake::result(claim, job)).unwrap();
        }
        dies
    });
    check_finished(folder.path());
    assert_eq!(
        directory.attempt_ends(ConfigurationId(4).job(0)).unwrap(),
        []
    );
}

#[test]
fn a_job_that_kills_every_trainer_is_lost_and_the_search_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    create(folder.path(), json!({"trainers": {"max_attempts": 3}}));
    run_all(folder.path(), 1, 3, &|_, claim, _| {
        claim.attempt.job.configuration.0 == 3
    });
    let jobs = check_finished(folder.path());
    let lost: Vec<&(String, Outcome)> = jobs
        .iter()
        .filter(|(_, outcome)| outcome.as_str() == "lost")
        .collect();
    let outcome = Outcome::Lost {
        attempts: 3,
        fate: Fate::NodeLost,
    };
    assert_eq!(lost, [&("c000003-r0".to_owned(), outcome)]);
}

#[test]
fn a_job_that_is_given_back_without_progress_again_and_again_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    create(folder.path(), json!({"trainers": {"max_attempts": 2}}));
    run_all(folder.path(), 1, 1, &|directory, claim, _| {
        let is_hopeless = claim.attempt.job.configuration.0 == 1;
        if is_hopeless {
            let end = directory::attempt_end(claim, Fate::DiskFull, 0.0, "");
            directory.end_attempt(&end).unwrap();
        }
        is_hopeless
    });
    let jobs = check_finished(folder.path());
    // An open job may be claimed again before the scheduler sees it, so there may be more attempts than the limit.
    let is_lost = |(job, outcome): &(String, Outcome)| {
        let lost = matches!(
            outcome,
            Outcome::Lost {
                attempts: 2..,
                fate: Fate::DiskFull
            }
        );
        lost && job == "c000001-r0"
    };
    assert!(jobs.iter().any(is_lost), "{jobs:?}");
}

#[test]
fn attempts_that_save_checkpoints_are_progress() {
    let folder = tempfile::tempdir().unwrap();
    create(folder.path(), json!({"trainers": {"max_attempts": 2}}));
    run_all(folder.path(), 1, 1, &|directory, claim, _| {
        let attempt = claim.attempt;
        let vanishes =
            attempt.job.configuration.0 == 1 && attempt.job.rung == 0 && attempt.attempt < 5;
        if vanishes {
            directory.save_checkpoint(claim, b"weights").unwrap();
        }
        vanishes
    });
    let jobs = check_finished(folder.path());
    assert!(
        jobs.iter().all(|(_, outcome)| outcome.as_str() != "lost"),
        "{jobs:?}"
    );
    // Nobody needs them any more.
    let directory = Directory::open(folder.path()).unwrap();
    assert_eq!(directory.checkpoints(ConfigurationId(1)).unwrap(), []);
}

#[test]
fn of_checkpoints_only_those_of_finished_trainings_stay() {
    for promotion in ["scratch", "continue", "stopping"] {
        let folder = tempfile::tempdir().unwrap();
        let directory = create(folder.path(), json!({ "promotion": promotion }));
        run_all(folder.path(), 1, 1, &|directory, claim, _| {
            directory.save_checkpoint(claim, b"weights").unwrap();
            false
        });
        let top = directory.search().ladder.top();
        let (mut num_kept, mut num_stopped) = (0, 0);
        for (job, outcome) in check_finished(folder.path()) {
            let id = job.parse::<shared::JobId>().unwrap().configuration;
            let left = directory.checkpoints(id).unwrap();
            let is_finished = job == id.job(top).to_string() && outcome.as_str() == "evaluated";
            num_kept += usize::from(is_finished);
            assert!(
                left.iter().all(|claim| claim.attempt.job.rung == top),
                "{promotion}: {left:?} of {job}"
            );
            assert!(!is_finished || left.len() == 1, "{promotion}: {job}");
            if outcome.as_str() == "stopped" {
                num_stopped += 1;
                assert!(left.is_empty(), "{promotion}: {left:?} of {job}");
            }
        }
        assert!(num_kept > 0);
        assert_eq!(num_stopped > 0, promotion == "stopping");
    }
}

#[test]
fn corrupt_and_foreign_files_are_set_aside_and_cost_no_job() {
    let reference = tempfile::tempdir().unwrap();
    create(reference.path(), json!({}));
    run_all(reference.path(), 1, 1, HONEST);

    let folder = tempfile::tempdir().unwrap();
    let directory = create(folder.path(), json!({}));
    let paths = directory.layout();
    for foreign in [
        "jobs/open/notes.txt",
        "jobs/claimed/x.json",
        "trainers/a.b.json",
        "notes.txt",
    ] {
        fs::publish_new(&paths.root().join(foreign), b"hello").unwrap();
    }
    fs::publish_new(&paths.root().join("jobs/open/c000999-r0-a1.json"), b"{}").unwrap();
    let spoilt = Mutex::new(BTreeSet::new());
    // One trainer: another might withdraw the second offer of a job while the first holder has not left it yet.
    run_all(folder.path(), 1, 1, &|directory, claim, _| {
        let is_first = spoilt.lock().unwrap().insert(claim.attempt.job);
        let paths = directory.layout();
        match claim.attempt.job.configuration.0 {
            // The result is cut off in the middle.
            2 if is_first => {
                let path = paths.result(claim.attempt.job);
                fs::publish_new(&path, b"{ \"format\": \"result\"").unwrap();
                directory.drop_claim(claim).unwrap();
                true
            }
            // The open job of the next attempt is.
            3 if is_first => {
                let path = paths.open(claim.attempt.next());
                fs::publish_new(&path, b"{ \"format\"").unwrap();
                directory.drop_claim(claim).unwrap();
                true
            }
            _ => false,
        }
    });
    assert_eq!(
        check_finished(folder.path()),
        check_finished(reference.path())
    );
    let aside = fs::list(&paths.path(shared::layout::ASIDE)).unwrap();
    for part in [
        "notes.txt",
        "x.json",
        "a.b.json",
        "c000999",
        "c000002-r0.json",
        "c000003-r0",
    ] {
        assert!(
            aside.iter().any(|name| name.contains(part)),
            "{part}: {aside:?}"
        );
    }
}

#[test]
fn a_scheduler_started_anew_goes_on_where_the_last_one_was() {
    let reference = tempfile::tempdir().unwrap();
    create(reference.path(), json!({}));
    run_all(reference.path(), 1, 1, HONEST);

    let folder = tempfile::tempdir().unwrap();
    create(folder.path(), json!({}));
    let leave = AtomicBool::new(false);
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| fake::sample(folder.path(), &leave));
        scope.spawn(|| Trainer::new(folder.path(), "t", HONEST).run(&leave));
        // Each scheduler takes one turn, then is no more.
        loop {
            let directory = Directory::open(folder.path()).unwrap();
            let mut scheduler =
                scheduler::run::Scheduler::new(directory, Duration::from_secs(1)).unwrap();
            if scheduler.turn().unwrap() == scheduler::run::Turn::Finished {
                break;
            }
            assert!(start.elapsed() < fake::DEADLINE, "{:?}", scheduler.state());
            std::thread::sleep(Duration::from_millis(2));
        }
        leave.store(true, Ordering::Relaxed);
    });
    assert_eq!(
        check_finished(folder.path()),
        check_finished(reference.path())
    );
}

#[test]
fn the_claims_of_a_process_known_to_be_dead_do_not_wait_for_the_lease() {
    let folder = tempfile::tempdir().unwrap();
    let directory = create(
        folder.path(),
        json!({"trainers": {"heartbeat_s": 100.0, "lease_s": 1000.0}}),
    );
    let mut scheduler =
        scheduler::run::Scheduler::new(directory.clone(), Duration::from_secs(1)).unwrap();
    scheduler.turn().unwrap();
    directory
        .propose(&fake::proposal(&directory, ConfigurationId(0)))
        .unwrap();
    scheduler.turn().unwrap();
    let attempt = directory.open_jobs().unwrap()[0];
    let mut trainer = Trainer::new(folder.path(), "t", HONEST);
    let (claim, _) = directory.claim(attempt, &trainer.owner).unwrap().unwrap();
    trainer.heartbeat(shared::record::TrainerState::Working { claim, spent: 0.5 });
    scheduler.turn().unwrap();
    assert_eq!(directory.open_jobs().unwrap(), []);

    scheduler.report_dead(std::process::id()).unwrap();
    scheduler.turn().unwrap();
    assert_eq!(directory.open_jobs().unwrap(), [attempt.next()]);
    let ends: Vec<AttemptEnd> = directory.attempt_ends(attempt.job).unwrap();
    assert_eq!((ends.len(), ends[0].fate), (1, Fate::NodeLost));
}

#[test]
#[ignore = "a measurement, for `--ignored --nocapture`: how many jobs a second, at the start and later"]
fn jobs_a_second_stay_the_same() {
    let folder = tempfile::tempdir().unwrap();
    create(
        folder.path(),
        json!({"scheduling": "asynchronous", "limit": {"configurations": 4000}, "trainers": {"ahead": 8, "heartbeat_s": 10.0, "lease_s": 100.0}}),
    );
    let start = Instant::now();
    let done = Mutex::new(Vec::new());
    run_all(folder.path(), 1, 8, &|_, _, _| {
        done.lock().unwrap().push(start.elapsed());
        false
    });
    let done = done.into_inner().unwrap();
    let speed = |from: usize, to: usize| {
        (to - from) as f64 / (done[to].as_secs_f64() - done[from].as_secs_f64())
    };
    println!("{} jobs in {:?}", done.len(), start.elapsed());
    for from in (0..done.len() - 500).step_by(500) {
        println!(
            "jobs {from}..{}: {:.0} a second",
            from + 500,
            speed(from, from + 499)
        );
    }
    check_finished(folder.path());
}
