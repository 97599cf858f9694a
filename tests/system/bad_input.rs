//! What is wrong in a directory is named, set aside where it can be, and never takes the rest with it.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use anyhow::{Context as _, Result};
use harness::{TestSearch, counting_ones, losses, repository_search};
use shared::{ConfigurationId, fs, layout};

/// What a program said on stderr, after checking its exit code.
fn refused(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

#[test]
fn truncated_and_foreign_files_are_set_aside_and_the_search_is_the_same() -> Result<()> {
    let search = counting_ones("hyperband", 4);
    let mut clean = TestSearch::new(&search)?;
    clean.run_to_end(1)?;
    let expected = losses(&clean.check_finished()?);

    let mut dirty = TestSearch::new(&search)?;
    let layout = dirty.directory()?.layout().clone();
    let observation = layout.observation(&shared::owner::host_name());
    fs::replace(
        &observation,
        b"{\"format\": \"observation\", \"claims\": [[[",
    )?;
    // As many jobs as are open at a time, so that there is one to damage before any trainer comes.
    dirty.start("scheduler", None)?;
    dirty.start("sampler", None)?;
    let attempt = ConfigurationId(0).job(0).attempt(1);
    dirty.wait_until("the first job is open", |directory| {
        Ok(directory.jobs()?.open.contains(&attempt))
    })?;
    let path = layout.open(attempt);
    let whole = fs::read(&path)?;
    fs::replace(&path, &whole[..whole.len() / 2])?;
    for name in [
        "jobs/open/notes.txt",
        "jobs/claimed/c000000-r0.json",
        "results/000/README",
        "trainers/x y.json",
    ] {
        fs::replace(&layout.path(name), b"not ours")?;
    }
    fs::replace(
        &layout.result(ConfigurationId(1).job(0)),
        b"{\"format\": \"result\", \"version\": [1, 0], ",
    )?;
    dirty.start("trainer", None)?;
    dirty.wait_for_all()?;
    assert_eq!(losses(&dirty.check_finished()?), expected);

    let aside = fs::list(&layout.path(layout::ASIDE))?;
    for name in [
        "jobs__claimed__c000000-r0-a1.",
        "jobs__open__notes.txt",
        "jobs__claimed__c000000-r0.json",
        "observations__",
    ] {
        let kept = aside.iter().find(|kept| kept.starts_with(name));
        assert!(kept.is_some(), "{name} is not among {aside:?}");
    }
    let kept = aside
        .iter()
        .find(|kept| kept.starts_with("results__000__c000001-r0.json"));
    let kept = kept.with_context(|| format!("the truncated result is not among {aside:?}"))?;
    assert!(
        fs::read(&layout.path(layout::ASIDE).join(kept))?.starts_with(b"{\"format\": \"result\"")
    );
    Ok(())
}

#[test]
fn a_result_of_a_newer_version_is_named_refused_and_stays_where_it_is() -> Result<()> {
    let mut test = TestSearch::new(&counting_ones("bohb", 1))?;
    test.run_to_end(1)?;
    let layout = test.directory()?.layout().clone();
    let path = layout.result(ConfigurationId(0).job(0));
    let newer = String::from_utf8(fs::read(&path)?)?.replacen(
        "\"version\": [\n    1,",
        "\"version\": [\n    4,",
        1,
    );
    fs::replace(&path, newer.as_bytes())?;
    for (program, verb) in [
        ("scheduler", "run"),
        ("sampler", "replay"),
        ("analyzer", "correlation"),
    ] {
        let said = refused(&test.on(program, verb, &[])?, 4);
        assert!(
            said.contains("c000000-r0.json") && said.contains("newer"),
            "{program}: {said}"
        );
    }
    assert_eq!(fs::read(&path)?, newer.as_bytes());
    Ok(())
}

#[test]
fn a_folder_that_is_no_search_is_named_by_every_program() -> Result<()> {
    let test = TestSearch::new(&counting_ones("bohb", 1))?;
    let folder = test.beside("empty");
    fs::make_folder(&folder)?;
    let folder = folder.to_string_lossy();
    for (program, verb) in [
        ("scheduler", "run"),
        ("sampler", "run"),
        ("trainer", "run"),
        ("analyzer", "correlation"),
    ] {
        let said = refused(&test.output(program, &[verb, &folder])?, 3);
        assert!(
            said.contains(&*folder) && said.contains("search.json"),
            "{program}: {said}"
        );
    }
    Ok(())
}

#[test]
fn a_directory_that_cannot_be_written_ends_programs_with_5() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        // Root may write everywhere; a filesystem mounted read-only refuses even root.
        return on_a_read_only_mount();
    }
    let test = TestSearch::new(&counting_ones("bohb", 1))?;
    let trainers = test.directory()?.layout().path(layout::TRAINERS);
    std::fs::set_permissions(&trainers, std::fs::Permissions::from_mode(0o555))?;
    let said = refused(&test.on("trainer", "run", &[])?, 5);
    assert!(said.contains("trainers"), "{said}");
    Ok(())
}

fn on_a_read_only_mount() -> Result<()> {
    let test = TestSearch::new(&counting_ones("bohb", 1))?;
    let root = test.root();
    let root = root.to_string_lossy();
    // In a mount namespace of its own, so that nothing stays mounted whatever happens.
    let script = format!(
        "mount --bind '{root}' '{root}' && mount -o remount,ro,bind '{root}' && exec \"$@\""
    );
    for (name, verb) in [("trainer", "run"), ("scheduler", "run")] {
        let program = harness::program(name);
        let program = program.to_string_lossy();
        let output = std::process::Command::new("unshare")
            .args(["--mount", "sh", "-c", &script, "sh", &program, verb, &root])
            .output()
            .context("cannot run unshare")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.contains("unshare failed") || said.contains("permission denied") {
            harness::skip("this machine allows no mounts");
            return Ok(());
        }
        assert!(refused(&output, 5).contains("Read-only"), "{name}: {said}");
    }
    // The analyzer only reads.
    let output = test.on("analyzer", "correlation", &["--format", "csv"])?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn a_missing_data_set_is_named_before_any_job_is_claimed() -> Result<()> {
    let mut search = repository_search("smoke.json")?;
    let folder = tempfile::tempdir()?;
    search["objective"]["network"]["data"] =
        serde_json::json!({ "name": "cifar-10", "path": folder.path() });
    let test = TestSearch::new(&search)?;
    let path = folder.path().to_string_lossy().into_owned();
    folder.close()?;
    let said = refused(&test.on("trainer", "run", &["--device", "cpu"])?, 3);
    assert!(said.contains(&path), "{said}");
    // A person who writes a new search hears of it at once.
    let said = TestSearch::new(&search)
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    assert!(
        said.contains("objective.network.data.path") && said.contains(&path),
        "{said}"
    );
    Ok(())
}

#[test]
fn an_image_that_cannot_be_read_is_named() -> Result<()> {
    let mut search = repository_search("smoke.json")?;
    let test = TestSearch::new(&search)?;
    let folder = test.beside("images");
    for class in ["cats", "dogs"] {
        for number in 0..3 {
            fs::replace(
                &folder.join(format!("train/{class}/{number}.png")),
                b"no image at all",
            )?;
        }
    }
    search["objective"]["network"]["data"] = serde_json::json!({ "name": "folder", "path": folder.to_string_lossy(), "cache": test.beside("cache") });
    let test = TestSearch::new(&search)?;
    let said = refused(&test.on("trainer", "run", &["--device", "cpu"])?, 3);
    assert!(said.contains("train/cats/0.png"), "{said}");
    Ok(())
}

#[test]
fn a_space_that_the_network_does_not_know_is_refused_by_the_trainer() -> Result<()> {
    let mut search = repository_search("smoke.json")?;
    search["space"]["hyperparameters"][0]["name"] = "number_of_blocks".into();
    let test = TestSearch::new(&search)?;
    let said = refused(&test.on("trainer", "run", &["--device", "cpu"])?, 3);
    assert!(said.contains("number_of_blocks"), "{said}");
    Ok(())
}
