//! Hosts whose clocks are wrong by an hour.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use harness::{TestSearch, counting_ones, losses, skip};
use shared::{Directory, Fate, clock};

const HOUR_S: f64 = 3600.0;
/// Longer than a busy machine keeps a heartbeat back, and short enough to be waited for.
const LEASE: Duration = Duration::from_secs(10);

/// Claims of the process with this id.
fn claims_of(directory: &Directory, pid: u32) -> Result<usize> {
    let part = format!("-{pid}-");
    let claimed = directory.jobs()?.claimed;
    Ok(claimed
        .iter()
        .filter(|claim| claim.owner.to_string().contains(&part))
        .count())
}

/// Nobody but the trainer that was killed was taken for dead.
fn lost_only_by(directory: &Directory, pid: u32) -> Result<()> {
    let part = format!("-{pid}-");
    for job in directory.finished_jobs()? {
        for end in directory.attempt_ends(job)? {
            assert_eq!(end.fate, Fate::NodeLost);
            assert!(end.claim.owner.to_string().contains(&part), "{end:?}");
        }
    }
    Ok(())
}

#[test]
fn clocks_wrong_by_an_hour_change_no_decision_and_are_named() -> Result<()> {
    if Command::new("faketime").arg("--version").output().is_err() {
        skip("no `faketime`; `.ci/install` installs it");
        return Ok(());
    }
    // Proposals of `hyperband` do not depend on the order of results, so both searches must be equal.
    let mut search = counting_ones("hyperband", 2);
    let mut undisturbed = TestSearch::new(&search)?;
    undisturbed.run_to_end(2)?;
    let expected = losses(&undisturbed.check_finished()?);

    search["objective"]["seconds_per_unit"] = 0.1.into();
    search["trainers"]["lease_s"] = LEASE.as_secs_f64().into();
    let mut test = TestSearch::new(&search)?;
    let started_s = clock::unix_s();
    test.start_with_clock("scheduler", "+1h")?;
    test.start_with_clock("sampler", "-1h")?;
    test.start("trainer", None)?;
    let ahead = test.start_with_clock("trainer", "+1h")?;
    let behind = test.start_with_clock("trainer", "-1h")?;

    // A lease is timed by the watcher: no sooner than it is over, and no hour later.
    let pid = test.running()[behind].child.id();
    let what = "the trainer with the clock that is behind has a job";
    test.wait_until(what, |directory| {
        Ok(claims_of(directory, pid)? == 1 && directory.heartbeats()?.len() == 3)
    })?;
    // Whatever the clock of the host that asks, and of those it asks about.
    for offset in ["+1h", "-1h"] {
        let status = test.status_with_clock(offset)?;
        assert_eq!(status["trainers_silent"], 0, "{offset}: {status:#}");
        assert_eq!(status["trainers_live"], 3, "{offset}: {status:#}");
    }
    test.kill(behind)?;
    let killed = Instant::now();
    let has_claim = |directory: &Directory| -> Result<bool> { Ok(claims_of(directory, pid)? > 0) };
    if has_claim(&test.directory()?)? {
        test.wait_until("its job was taken back", |directory| {
            Ok(!has_claim(directory)?)
        })?;
        // A heartbeat may have been old when it was killed.
        assert!(killed.elapsed() > LEASE / 2, "{:?}", killed.elapsed());
    }
    test.forget(behind);
    let ahead_pid = format!("-{}-", test.running()[ahead].child.id());
    test.start_with_clock("trainer", "-1h")?;
    test.wait_for_all()?;
    let results = test.check_finished()?;
    assert_eq!(losses(&results), expected);

    lost_only_by(&test.directory()?, pid)?;
    // Durations are right, stamps are those of the hosts' clocks, and the log says whose are wrong.
    let now_s = clock::unix_s();
    let mut num_ahead = 0;
    for result in results.values() {
        assert!(result.elapsed_s <= now_s - started_s, "{result:?}");
        let finished_s = clock::parse(&result.finished_at).context("no stamp")?;
        if result.owner.to_string().contains(&ahead_pid) {
            num_ahead += 1;
            assert!(
                (started_s..=now_s).contains(&(finished_s - HOUR_S)),
                "{result:?}"
            );
        }
    }
    assert!(num_ahead > 0);
    let logs = test.all_logs()?;
    for said in [
        "is 60 min ahead of that of the files",
        "is 60 min behind that of the files",
    ] {
        assert!(
            logs.contains(said),
            "`{said}` is not in the logs:\n{}",
            test.logs()
        );
    }
    Ok(())
}
