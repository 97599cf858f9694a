//! The command line: help texts, and what a wrong call says.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::{Command, Output};

fn trainer(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trainer"))
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
    for command in ["run", "job", "describe", "export", "predict"] {
        let output = trainer(&[command, "--help"]);
        assert!(output.status.success());
        insta::assert_snapshot!(
            format!("help_{command}"),
            String::from_utf8_lossy(&output.stdout)
        );
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
