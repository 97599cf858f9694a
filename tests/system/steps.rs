//! kill -9 at every single file operation, one after the other.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use harness::{DEADLINE, TestSearch, counting_ones};

/// Starts `victim` over and over, each time to be killed one file operation later, while the others run on.
fn kill_at_every_step(victim: &'static str, brackets: u32) -> Result<()> {
    let mut search = counting_ones("random", brackets);
    search["trainers"] =
        serde_json::json!({ "heartbeat_s": 0.1, "lease_s": 0.5, "max_attempts": 100_000 });
    let mut test = TestSearch::new(&search)?;
    for program in ["scheduler", "sampler", "trainer"] {
        if program != victim {
            test.start(program, None)?;
        }
    }
    let start = Instant::now();
    let mut kill_at = 1;
    loop {
        ensure!(
            start.elapsed() < DEADLINE,
            "not finished with kills up to step {kill_at}\n{}",
            test.logs()
        );
        let index = test.start(victim, Some(&format!("kill-at={kill_at}")))?;
        let status = test.running()[index].child.wait()?;
        if status.success() {
            break;
        }
        if status.code().is_some() {
            bail!(
                "{victim} ended with {status} at step {kill_at}\n{}",
                test.logs()
            );
        }
        test.forget(index);
        kill_at += 1;
    }
    ensure!(kill_at > 20, "only {kill_at} steps were tried");
    test.wait_for_all()?;
    test.check_finished()?;
    Ok(())
}

#[test]
fn a_trainer_killed_at_every_step_loses_nothing() -> Result<()> {
    kill_at_every_step("trainer", 5)
}

#[test]
fn a_sampler_killed_at_every_step_loses_nothing() -> Result<()> {
    kill_at_every_step("sampler", 5)
}

#[test]
fn a_scheduler_killed_at_every_step_loses_nothing() -> Result<()> {
    kill_at_every_step("scheduler", 5)
}
