//! Signals and the wish to stop: work in hand is saved, given back, and gone on with.

use anyhow::{Context as _, Result};
use harness::{TestSearch, counting_ones};
use rustix::process::{Pid, Signal, kill_process};
use shared::record::Fate;

fn slow_search() -> serde_json::Value {
    let mut search = counting_ones("random", 1);
    search["budget"] = serde_json::json!({ "unit": "seconds", "min": 2, "max": 8, "eta": 4 });
    search["objective"]["seconds_per_unit"] = 1.into();
    // Longer than a busy disk holds a heartbeat up.
    search["trainers"]["lease_s"] = 30.0.into();
    search
}

#[test]
fn a_warned_trainer_saves_gives_back_and_exits_75_and_the_next_one_goes_on() -> Result<()> {
    for signal in [Signal::USR1, Signal::USR2, Signal::TERM] {
        let mut test = TestSearch::new(&slow_search())?;
        test.start("scheduler", None)?;
        test.start("sampler", None)?;
        let trainer = test.start("trainer", None)?;
        test.wait_until("a job has run for three seconds", |directory| {
            Ok(directory.heartbeats()?.values().any(|beat| {
                matches!(&beat.state, shared::record::TrainerState::Working { spent, .. } if *spent >= 3.0)
            }))
        })?;
        let child = &mut test.running()[trainer].child;
        kill_process(Pid::from_child(child), signal)?;
        assert_eq!(child.wait()?.code(), Some(75));

        let directory = test.directory()?;
        let job = shared::ConfigurationId(0).job(1);
        let ends = directory.attempt_ends(job)?;
        assert_eq!(ends.len(), 1, "{ends:?}");
        assert_eq!(ends[0].fate, Fate::Preempted);
        assert!(ends[0].spent >= 3.0 && ends[0].spent < 8.0, "{ends:?}");
        assert!(directory.jobs()?.claimed.is_empty());

        test.restart(trainer, None)?;
        test.wait_until("the first job has its result", |directory| {
            directory.has_result(job).map_err(Into::into)
        })?;
        let result = directory.read_result(job)?.context("seen a moment ago")?;
        assert_eq!(result.attempt.attempt, 2);
        // It slept only for what the first attempt had left.
        assert!(result.elapsed_s < 8.0, "went on for {} s", result.elapsed_s);
    }
    Ok(())
}

#[test]
fn a_stopped_search_can_be_gone_on_with() -> Result<()> {
    let mut search = counting_ones("hyperband", 6);
    search["objective"]["seconds_per_unit"] = 0.01.into();
    let mut test = TestSearch::new(&search)?;
    test.start("scheduler", None)?;
    test.start("sampler", None)?;
    test.start("trainer", None)?;
    test.wait_until("ten jobs are finished", |directory| {
        Ok(directory.finished_jobs()?.len() >= 10)
    })?;
    assert!(test.on("scheduler", "stop", &[])?.status.success());
    test.wait_for_all()?;
    assert!(!test.directory()?.flags()?.is_finished);
    assert!(test.directory()?.jobs()?.claimed.is_empty());

    assert!(test.on("scheduler", "stop", &["--undo"])?.status.success());
    for index in 0..3 {
        test.restart(index, None)?;
    }
    test.wait_for_all()?;
    test.check_finished()?;
    Ok(())
}
