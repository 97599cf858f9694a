//! The finished searches of `docs/poster.md`, kept in `data/examples`: the tables that the page shows are what the
//! program prints of them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// What the archive has below a prefix, unpacked.
fn unpacked(prefix: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let archive = shared::fs::read(&root().join("data/examples/poster.tar.gz")).unwrap();
    let archive = flate2::read::GzDecoder::new(archive.as_slice());
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path_bytes().starts_with(prefix.as_bytes()) {
            entry.unpack_in(folder.path()).unwrap();
        }
    }
    folder
}

fn run(folder: &TempDir, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_analyzer"))
        .args(arguments)
        .current_dir(folder.path().join("poster"))
        .env_clear()
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && stderr.is_empty(),
        "{arguments:?}: {stderr}"
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Asserts that the page shows what a command printed, word for word.
fn page_shows(printed: &str) {
    let page = shared::fs::read(&root().join("docs/poster.md")).unwrap();
    let page = String::from_utf8(page).unwrap();
    assert!(
        page.contains(printed),
        "docs/poster.md does not show this:\n{printed}"
    );
}

#[test]
fn correlations_are_those_of_the_page() {
    let folder = unpacked("poster/cifar16");
    for directory in ["cifar16", "cifar16-sample"] {
        page_shows(&run(
            &folder,
            &["correlation", directory, "--format", "markdown"],
        ));
    }
    let list = "cifar16-sample-best-third.txt";
    let among = ["correlation", "cifar16-sample", "--among", list];
    page_shows(&run(
        &folder,
        &[&among[..], &["--format", "markdown"]].concat(),
    ));
    insta::assert_snapshot!(run(&folder, &["correlation", "cifar16"]));
    insta::assert_snapshot!(run(&folder, &["correlation", "cifar16-sample"]));
}

#[test]
fn joint_search_and_two_steps_differ_as_the_page_says() {
    let folder = unpacked("poster/digits/");
    for method in ["tandem", "bohb"] {
        let names = ["joint", "network-first", "training-first"];
        let directories =
            names.map(|name| (1..=5).map(move |seed| format!("digits/{method}-{name}-{seed}")));
        let directories: Vec<String> = directories.into_iter().flatten().collect();
        let mut arguments = vec![
            "compare", "--by", "name", "--paired", "--format", "markdown",
        ];
        arguments.extend(directories.iter().map(String::as_str));
        page_shows(&run(&folder, &arguments));
    }
}
