//! The same search gives the same files.

use anyhow::Result;
use harness::{TestSearch, counting_ones, files, losses, repository_search};
use shared::layout;

fn run(search: &serde_json::Value, trainers: usize) -> Result<TestSearch> {
    let mut test = TestSearch::new(search)?;
    test.run_to_end(trainers)?;
    Ok(test)
}

#[test]
fn one_trainer_twice_gives_identical_proposals_and_losses() -> Result<()> {
    let search = counting_ones("bohb", 8);
    let (first, second) = (run(&search, 1)?, run(&search, 1)?);
    let proposals = files(&first.root(), layout::CONFIGURATIONS)?;
    assert_eq!(proposals, files(&second.root(), layout::CONFIGURATIONS)?);
    assert_eq!(
        files(&first.root(), layout::REQUESTS)?,
        files(&second.root(), layout::REQUESTS)?
    );
    let modelled = proposals
        .values()
        .filter(|bytes| String::from_utf8_lossy(bytes).contains("\"log_acquisition\""));
    assert!(
        modelled.count() > 10,
        "too few proposals came from a model to show anything"
    );
    assert_eq!(
        losses(&first.check_finished()?),
        losses(&second.check_finished()?)
    );
    Ok(())
}

#[test]
fn one_trainer_twice_trains_networks_to_identical_losses() -> Result<()> {
    let mut search = repository_search("smoke.json")?;
    search["limit"] = serde_json::json!({ "brackets": 2 });
    search["budget"] = serde_json::json!({ "unit": "steps", "min": 4, "max": 12, "eta": 3 });
    let (first, second) = (run(&search, 1)?, run(&search, 1)?);
    assert_eq!(
        files(&first.root(), layout::CONFIGURATIONS)?,
        files(&second.root(), layout::CONFIGURATIONS)?
    );
    let losses_of_first = losses(&first.check_finished()?);
    assert_eq!(losses_of_first, losses(&second.check_finished()?));
    assert!(losses_of_first.values().any(Option::is_some));
    Ok(())
}

#[test]
fn every_proposal_of_a_search_with_four_trainers_can_be_replayed() -> Result<()> {
    let test = run(&counting_ones("bohb", 8), 4)?;
    test.check_finished()?;
    let output = test.on("sampler", "replay", &[])?;
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    // A replay that compares nothing would succeed too.
    let layout = test.directory()?.layout().clone();
    let path = layout.configuration(shared::ConfigurationId(80));
    let text = String::from_utf8(shared::fs::read(&path)?)?;
    let tampered = if text.contains("\"cat_0\": 0") {
        text.replace("\"cat_0\": 0", "\"cat_0\": 1")
    } else {
        text.replace("\"cat_0\": 1", "\"cat_0\": 0")
    };
    assert_ne!(tampered, text);
    shared::fs::replace(&path, tampered.as_bytes())?;
    assert_eq!(test.on("sampler", "replay", &[])?.status.code(), Some(1));
    Ok(())
}
