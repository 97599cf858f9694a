//! Each program by hand, as for debugging.

use anyhow::{Context as _, Result};
use harness::{TestSearch, counting_ones, repository, repository_search};
use shared::{ConfigurationId, fs};

fn text(output: &std::process::Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_search_can_be_driven_step_by_step() -> Result<()> {
    let test = TestSearch::new(&repository_search("smoke.json")?)?;
    let job = ConfigurationId(0).job(0);
    assert!(text(&test.on("scheduler", "plan", &[])?).contains("c000000"));
    assert!(text(&test.on("sampler", "propose", &["--count", "2"])?).contains("learning_rate"));
    text(&test.on("scheduler", "run", &["--once"])?);
    text(&test.on("sampler", "run", &["--once"])?);
    text(&test.on("scheduler", "run", &["--once"])?);

    // The job file alone: the same loss as when it is claimed, and nothing published.
    let file = test.directory()?.layout().open(job.attempt(1));
    let printed = text(&test.output(
        "trainer",
        &["job", &file.to_string_lossy(), "--device", "cpu"],
    )?);
    let by_hand: serde_json::Value = serde_json::from_str(&printed)?;
    assert!(!test.directory()?.has_result(job)?);

    text(&test.on("trainer", "run", &["--once", "--device", "cpu"])?);
    let result = test.directory()?.read_result(job)?;
    let loss = result.and_then(|result| result.outcome.loss());
    assert_eq!(by_hand["outcome"]["loss"].as_f64(), loss);
    assert!(loss.is_some(), "{printed}");
    Ok(())
}

#[test]
fn a_truncated_job_file_is_named_with_its_line() -> Result<()> {
    let test = TestSearch::new(&counting_ones("random", 1))?;
    let file = test.beside("job.json");
    fs::replace(
        &file,
        b"{\"format\": \"job\", \"version\": [1, 0], \"job\": \"c0000",
    )?;
    let output = test.output(
        "trainer",
        &["job", &file.to_string_lossy(), "--device", "cpu"],
    )?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains("job.json") && said.contains("line 1"),
        "{said}"
    );
    Ok(())
}

#[test]
fn the_largest_network_of_the_space_is_described_and_said_not_to_fit() -> Result<()> {
    let test = TestSearch::new(&counting_ones("random", 1))?;
    let file = test.beside("largest.json");
    let largest = serde_json::json!({
        "nr_residual_blocks_1": 16, "nr_residual_blocks_2": 16, "nr_residual_blocks_3": 16,
        "initial_filters": 32, "widen_factor_1": 8, "widen_factor_2": 4, "widen_factor_3": 4,
        "res_branches_1": 5, "res_branches_2": 5, "res_branches_3": 5,
        "learning_rate": 0.1, "batch_size": 64, "weight_decay": 5e-4, "momentum": 0.9,
        "mixup_alpha": 0.2, "cutout_length": 16, "death_rate": 0.5,
    });
    fs::replace(&file, &serde_json::to_vec(&largest)?)?;
    let space = repository("data/spaces/joint-resnet.json");
    let arguments = [
        "describe",
        &space.to_string_lossy(),
        &file.to_string_lossy(),
        "--format",
        "json",
    ];
    let description: serde_json::Value =
        serde_json::from_str(&text(&test.output("trainer", &arguments)?))?;
    let parameters = description["parameters"].as_f64().unwrap_or_default();
    assert!((25.1e9..25.3e9).contains(&parameters), "{parameters}");
    Ok(())
}

#[test]
fn every_search_and_space_of_the_repository_is_valid() -> Result<()> {
    let mut num_searches = 0;
    for entry in std::fs::read_dir(repository("data/searches"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.strip_suffix(".json").is_some() {
            let mut search = repository_search(&name)?;
            let fields = search.as_object_mut().context("a search is an object")?;
            fields.remove("format");
            fields.remove("version");
            shared::Search::new(&serde_json::from_value(search)?).with_context(|| name.clone())?;
            num_searches += 1;
        }
    }
    assert!(num_searches >= 4, "{num_searches}");
    let reference: shared::space::SpaceFile =
        fs::read_record(&repository("data/spaces/joint-resnet.json"))?;
    assert_eq!(shared::SearchSpace::new(&reference)?.num_dimensions(), 17);
    Ok(())
}

#[test]
fn a_search_in_which_every_job_crashes_says_why_and_is_no_success() -> Result<()> {
    let mut search = counting_ones("random", 1);
    search["budget"] = serde_json::json!({ "unit": "steps", "min": 1, "max": 3, "eta": 3 });
    search["objective"] = serde_json::json!({
        "command": ["/bin/sh", "-c", "echo there is no data >&2; exit 1"],
    });
    let test = TestSearch::new(&search)?;
    let file = test.beside("search.json");
    let (file, root) = (file.to_string_lossy(), test.root());
    let root = root.to_string_lossy();
    let output = test.output("scheduler", &["local", &file, &root, "--trainers", "1"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains("no job gave a loss") && said.contains("there is no data"),
        "{said}"
    );
    assert!(text(&test.on("scheduler", "status", &[])?).contains("there is no data"));
    Ok(())
}
