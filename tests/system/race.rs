//! More programs than anybody meant to start.

use anyhow::Result;
use harness::{TestSearch, counting_ones, losses};

#[test]
fn two_schedulers_two_samplers_and_eight_trainers_are_exact() -> Result<()> {
    let search = counting_ones("hyperband", 12);
    let mut alone = TestSearch::new(&search)?;
    alone.run_to_end(1)?;
    let expected = losses(&alone.check_finished()?);

    let mut crowd = TestSearch::new(&search)?;
    for program in ["scheduler", "sampler"] {
        crowd.start(program, None)?;
        crowd.start(program, None)?;
    }
    for _ in 0..8 {
        crowd.start("trainer", None)?;
    }
    crowd.wait_for_all()?;
    assert_eq!(losses(&crowd.check_finished()?), expected);
    assert!(crowd.on("sampler", "replay", &[])?.status.success());
    Ok(())
}
