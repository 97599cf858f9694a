//! What the pages for people name exists: links, files, and the figures of the README among the measured ones.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// Every page below a folder, except what was built.
fn pages_in(folder: &Path) -> Vec<PathBuf> {
    let mut pages = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        // What is built into `target` and `dist` is no part of the project.
        if path.is_dir() && !name.starts_with('.') && name != "target" && name != "dist" {
            pages.extend(pages_in(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    pages
}

/// A page without its blocks of code.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// What links of a page lead to.
fn links(text: &str) -> Vec<String> {
    let targets = prose(text);
    let targets = targets.split("](").skip(1);
    targets
        .map(|rest| rest.split_once(')').unwrap().0.to_owned())
        .collect()
}

/// The names by which the headings of a page are linked to.
fn anchors(text: &str) -> Vec<String> {
    let prose = prose(text);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            let kept = words.replace(' ', "-");
            kept.chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
                .collect()
        })
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let pages = pages_in(&root());
    assert!(pages.len() > 20, "{pages:?}");
    let mut count = 0;
    for path in pages {
        let text = fs::read_to_string(&path).unwrap();
        for link in links(&text) {
            if link.starts_with("http") {
                continue;
            }
            count += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            assert!(target.exists(), "{}: {link}", path.display());
            if !anchor.is_empty() {
                let anchors = anchors(&fs::read_to_string(&target).unwrap());
                let is_there = anchors.iter().any(|known| known == anchor);
                assert!(is_there, "{}: {link}, not {anchors:?}", path.display());
            }
        }
    }
    assert!(count > 50, "{count} links");
}

#[test]
fn files_in_the_guide_exist() {
    let guide = prose(&page("CONTRIBUTING.md"));
    let paths: Vec<&str> = guide
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.contains('/') && !word.contains([' ', '*']) && !word.contains("NAME"))
        .filter(|word| !word.contains("1.N") && !word.starts_with("target/"))
        .collect();
    assert!(paths.len() > 30, "{paths:?}");
    for path in paths {
        assert!(root().join(path).exists(), "CONTRIBUTING.md: `{path}`");
    }
}

#[test]
fn the_readme_is_short_and_its_comparisons_are_measured() {
    let (readme, benchmarks) = (page("README.md"), page("docs/benchmarks.md"));
    let words = readme.split_whitespace().count();
    assert!(words < 900, "{words} words");
    let (_, comparison) = readme.split_once("## How it compares").unwrap();
    let figures: Vec<&str> = comparison
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .map(|figure| figure.trim_matches('.'))
        .filter(|figure| figure.contains('.'))
        .collect();
    assert!(figures.len() > 3, "{figures:?}");
    for figure in figures {
        assert!(benchmarks.contains(figure), "{figure} is not on the page");
    }
}
