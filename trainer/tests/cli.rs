//! The command line: help texts, and what a wrong call says.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::Output;

use clap::{Command, CommandFactory as _};

fn trainer(arguments: &[&str]) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_trainer"))
        // None, where there is a GPU.
        .env("CUDA_VISIBLE_DEVICES", "-1")
        .env("HIP_VISIBLE_DEVICES", "-1")
        .env("VK_DRIVER_FILES", "/none")
        .env("VK_ICD_FILENAMES", "/none")
        .args(arguments)
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_says_what_each_argument_means() {
    let help = |arguments: &[&str]| {
        let output = trainer(arguments);
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    insta::assert_snapshot!("help", help(&["--help"]));
    let command = trainer::Args::command();
    for name in command.get_subcommands().map(Command::get_name) {
        insta::assert_snapshot!(format!("help_{name}"), help(&[name, "--help"]));
    }
}

#[test]
fn wrong_calls_are_refused_with_2() {
    for arguments in [
        &["run"][..],
        &["run", "x", "--poll-s", "0"],
        &["run", "x", "--threads", "0"],
        &["run", "x", "--device", "tpu"],
        &["describe", "a", "b", "--image", "3x32"],
        &["describe", "a", "b", "--classes", "0"],
        &["describe", "a"],
        &["relax", "a"],
        &["relax", "a", "--out", "b", "--epochs", "0"],
        &["describe", "a", "b", "--known"],
        &["export", "x", "c000001"],
        &["export", "x", "c1", "--out", "y"],
        &["predict", "x", "c000001"],
        &["predict", "x", "c000001-r2", "y"],
        &["fly"],
    ] {
        assert_eq!(trainer(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn files_that_are_not_there_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.json");
    let missing = missing.to_string_lossy();
    for arguments in [&["job", &missing][..], &["describe", &missing, &missing]] {
        let output = trainer(arguments);
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        assert!(stderr(&output).contains(&*missing));
    }
    let output = trainer(&["run", &folder.path().to_string_lossy()]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("search.json"));
}

#[test]
fn a_device_that_cannot_be_had_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("directory");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/searches/smoke.json");
    let mut search: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let fields = search.as_object_mut().unwrap();
    fields.remove("space_file");
    fields.remove("format");
    fields.remove("version");
    fields.insert(
        "space".to_owned(),
        serde_json::json!({"hyperparameters": [{"name": "learning_rate", "type": "float", "lower": 0.1, "upper": 1}]}),
    );
    let file: shared::SearchFile = serde_json::from_value(search).unwrap();
    shared::Directory::create(&root, &file, std::path::Path::new(path)).unwrap();
    for (device, is_built, expected) in [
        ("cuda", cfg!(feature = "cuda"), "NVIDIA driver"),
        ("rocm", cfg!(feature = "rocm"), "ROCm"),
        ("vulkan", cfg!(feature = "vulkan"), "no Vulkan"),
    ] {
        let output = trainer(&["run", &root.to_string_lossy(), "--device", device]);
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        let without = format!("feature `{device}`");
        let expected = if is_built { expected } else { &without };
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}

/// A search on digits, with sizes and hyperparameters of the training.
fn search_file(
    folder: &std::path::Path,
    space: &serde_json::Value,
    objective: &serde_json::Value,
) -> String {
    let path = folder.join("search.json");
    let search = serde_json::json!({
        "name": "relaxed", "space": {"hyperparameters": space}, "objective": objective,
        "budget": {"unit": "epochs", "min": 1, "max": 9}, "limit": {"brackets": 1},
    });
    shared::fs::replace(&path, search.to_string().as_bytes()).unwrap();
    path.to_string_lossy().into_owned()
}

#[test]
fn what_relax_writes_can_be_fixed_in_a_search_for_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let space = serde_json::json!([
        {"name": "groups", "type": "constant", "value": 1},
        {"name": "initial_filters", "type": "integer", "lower": 1, "upper": 3},
        {"name": "nr_residual_blocks_1", "type": "integer", "lower": 1, "upper": 2},
        {"name": "learning_rate", "type": "float", "lower": 0.01, "upper": 1, "log": true},
    ]);
    let digits = serde_json::json!({"network": {"data": {"name": "digits", "validation": 0.3}}});
    let path = search_file(folder.path(), &space, &digits);
    let relax = |name: &str, seed: &str| {
        let out = folder.path().join(name);
        let shown = out.to_string_lossy();
        let output = trainer(&[
            "relax", &path, "--out", &shown, "--epochs", "1", "--seed", seed, "--device", "cpu",
        ]);
        assert!(output.status.success(), "{}", stderr(&output));
        let log = stderr(&output);
        assert!(
            log.contains("relaxing 2 hyperparameters in a network of"),
            "{log}"
        );
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("--fix-from"), "{said}");
        std::fs::read(&out).unwrap()
    };
    let first = relax("first.json", "1");
    assert_eq!(first, relax("again.json", "1"));
    let mut search = shared::SearchFile::read(std::path::Path::new(&path)).unwrap();
    search.fix = serde_json::from_slice(&first).unwrap();
    let names: Vec<&str> = search.fix.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["initial_filters", "nr_residual_blocks_1"]);
    search.revision = Some(shared::search::REVISION);
    assert_eq!(
        shared::Search::check(&search)
            .unwrap()
            .space
            .num_dimensions(),
        1
    );
}

#[test]
fn what_cannot_be_relaxed_is_refused_with_3_and_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.json");
    let shown = out.to_string_lossy();
    let rate =
        serde_json::json!([{"name": "learning_rate", "type": "float", "lower": 0.01, "upper": 1}]);
    let digits = serde_json::json!({"network": {"data": {"name": "digits", "validation": 0.3}}});
    let missing = serde_json::json!({"network": {"data": {"name": "folder", "path": "nowhere", "validation": 0.3}}});
    for (objective, expected) in [
        (
            digits,
            "at `space.hyperparameters`: expected one of the network's sizes",
        ),
        (
            serde_json::json!({"benchmark": "branin"}),
            "at `objective`: expected `network`",
        ),
        (
            serde_json::json!({"command": ["true"]}),
            "at `objective`: expected `network`",
        ),
        (missing, "nowhere"),
    ] {
        let path = search_file(folder.path(), &rate, &objective);
        let output = trainer(&["relax", &path, "--out", &shown, "--device", "cpu"]);
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
        assert!(!out.exists());
    }
    let missing = folder.path().join("missing.json");
    let missing = missing.to_string_lossy();
    let output = trainer(&["relax", &missing, "--out", &shown]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains(&*missing));
}
