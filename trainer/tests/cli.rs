//! The command line: help texts, and what a wrong call says.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::Output;

use clap::{Command, CommandFactory as _};

fn trainer(arguments: &[&str]) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_trainer"))
        .env("CUDA_VISIBLE_DEVICES", "-1") // none, where there is a GPU
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
    let output = trainer(&["run", &root.to_string_lossy(), "--device", "cuda"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let expected = if cfg!(feature = "cuda") {
        "NVIDIA driver"
    } else {
        "feature `cuda`"
    };
    assert!(stderr(&output).contains(expected), "{}", stderr(&output));
}
