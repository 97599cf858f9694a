//! kill -9 at random moments.

use std::time::Duration;

use anyhow::Result;
use harness::{TestSearch, counting_ones, losses};
use rand::RngExt as _;
use shared::Seed;

/// Kills in the short form, which every test run does; the long form is `TANDEM_TEST_KILLS=100`.
const KILLS: u32 = 25;

#[test]
fn a_search_survives_kills_of_any_program_at_any_moment() -> Result<()> {
    #[expect(clippy::disallowed_methods, reason = "a knob of this test alone")]
    let kills = match std::env::var("TANDEM_TEST_KILLS") {
        Ok(text) => text.parse()?,
        Err(_) => KILLS,
    };
    // Proposals of `hyperband` do not depend on the order of results, so both searches must be equal.
    let mut search = counting_ones("hyperband", 4 + 4 * kills.div_ceil(25));
    search["objective"]["seconds_per_unit"] = 0.01.into();

    let mut undisturbed = TestSearch::new(&search)?;
    undisturbed.run_to_end(4)?;
    let expected = losses(&undisturbed.check_finished()?);

    let mut disturbed = TestSearch::new(&search)?;
    for program in [
        "scheduler",
        "sampler",
        "trainer",
        "trainer",
        "trainer",
        "trainer",
    ] {
        disturbed.start(program, None)?;
    }
    let mut rng = Seed::new(u64::from(kills)).rng();
    let mut num_kills = 0;
    while num_kills < kills && !disturbed.directory()?.flags()?.is_finished {
        std::thread::sleep(Duration::from_millis(rng.random_range(0..300)));
        let index = rng.random_range(0..disturbed.running().len());
        disturbed.kill(index)?;
        num_kills += 1;
        if rng.random_bool(0.5) {
            std::thread::sleep(Duration::from_millis(rng.random_range(0..200)));
        }
        disturbed.restart(index, None)?;
    }
    disturbed.wait_for_all()?;
    let results = disturbed.check_finished()?;
    assert_eq!(losses(&results), expected);
    assert!(
        num_kills >= kills.min(10),
        "the search was finished after {num_kills} kills: too short to show anything"
    );
    Ok(())
}
