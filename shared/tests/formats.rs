//! Golden files of every record in every version ever written, and the page that describes them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use shared::evidence::Evidence;
use shared::format::{Record, from_bytes, to_bytes};
use shared::record::{
    AttemptEnd, Checks, Created, Extension, Finished, Given, Heartbeat, Imported, Job, JobResult,
    Observation, Outcome, Proposal, Request, Retry,
};
use shared::space::SpaceFile;
use shared::{Search, SearchFile, SearchSpace};

fn formats() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats")
}

/// The golden files, `VERSION/FORMAT.json`.
fn golden_files() -> Vec<PathBuf> {
    let versions = fs::read_dir(formats()).unwrap();
    versions
        .flat_map(|version| fs::read_dir(version.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect()
}

fn golden(version: &str, format: &str) -> (PathBuf, Vec<u8>) {
    let path = formats().join(version).join(format!("{format}.json"));
    let bytes = fs::read(&path).unwrap();
    (path, bytes)
}

fn read<R: Record>(version: &str) -> R {
    let (path, bytes) = golden(version, R::FORMAT);
    from_bytes(&path, &bytes).unwrap()
}

/// Reads each golden file of a kind of record, writes it again, and compares: nothing is lost, nothing is made up, but that
/// it is written in the version of today, of which there must be one. Returns how many there are.
fn round_trips<R: Record>() -> usize {
    let newest = R::VERSION.map(|part| part.to_string()).join(".");
    let name = format!("{}.json", R::FORMAT);
    let files = golden_files();
    let files: Vec<&PathBuf> = files.iter().filter(|file| file.ends_with(&name)).collect();
    let is_newest = |file: &&PathBuf| file.ends_with(Path::new(&newest).join(&name));
    assert!(files.iter().any(is_newest), "tests/formats/{newest}/{name}");
    for file in &files {
        let bytes = fs::read(file).unwrap();
        let record: R = from_bytes(file, &bytes).unwrap();
        let written: Json = serde_json::from_slice(&to_bytes(&record)).unwrap();
        let mut original: Json = serde_json::from_slice(&bytes).unwrap();
        original["version"] = record.version().to_vec().into();
        assert_eq!(written, original, "{}", file.display());
    }
    files.len()
}

#[test]
fn records_of_every_version_are_read_and_written_unchanged() {
    let counts = [
        round_trips::<SearchFile>(),
        round_trips::<SpaceFile>(),
        round_trips::<Created>(),
        round_trips::<Request>(),
        round_trips::<Proposal>(),
        round_trips::<Job>(),
        round_trips::<Heartbeat>(),
        round_trips::<Observation>(),
        round_trips::<AttemptEnd>(),
        round_trips::<JobResult>(),
        round_trips::<Retry>(),
        round_trips::<Extension>(),
        round_trips::<Finished>(),
        round_trips::<Imported>(),
        round_trips::<Evidence>(),
        round_trips::<Given>(),
        round_trips::<Checks>(),
    ];
    assert_eq!(counts.iter().sum::<usize>(), golden_files().len());
}

#[test]
fn records_of_earlier_versions_mean_what_they_meant() {
    for version in ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6"] {
        Search::new(&read(version)).unwrap();
    }
    for version in ["1.0", "1.1", "1.2", "1.3"] {
        SearchSpace::new(&read(version)).unwrap();
    }
    // As the programs of version 1.0 wrote it into jobs, which are still this search's.
    let digest = "38cd502daed6551c6ffae8aca994e4b3e0d8ae94a89eb9f5caa77202e8333400";
    assert_eq!(Search::new(&read("1.0")).unwrap().digest, digest);
    assert!(Search::new(&read("1.6")).unwrap().is_cost_aware);
    assert_eq!(read::<JobResult>("1.1").id().to_string(), "c000123-r2-a4");
    assert_eq!(read::<Job>("1.2").seed, Some(u64::MAX));
    assert!(read::<Request>("2.0").given.is_some());
    let result: JobResult = read("2.0");
    assert_eq!(result.outcome.loss(), None);
    // 42 % too many, and half of what must be.
    assert_eq!(
        result.outcome.score(),
        Some(shared::Score::Infeasible(0.42 + 0.5))
    );
}

#[test]
fn what_follows_a_larger_largest_budget_is_read() {
    let extension: Extension = read("2.0");
    assert_eq!(extension.max_budget, Some(81.0));
    let job: Job = read("2.0");
    assert_eq!(job.first_rung, Some(1));
    let request: Request = read("3.0");
    assert_eq!(request.top, Some(4));
    let finished: Finished = read("1.2");
    assert_eq!(finished.top, Some(4));
}

#[test]
fn what_stopping_needs_is_read() {
    assert!(Search::new(&read("1.5")).unwrap().is_stopping());
    let proposal: Proposal = read("1.1");
    let losses: Vec<Option<f64>> = proposal.checks.iter().map(|check| check.loss).collect();
    assert_eq!(losses, [Some(0.4375), Some(0.3125), None]);
    assert_eq!(read::<Job>("1.3").checks.len(), 2);
    let result: JobResult = read("3.0");
    assert_eq!(
        (result.outcome.loss(), result.outcome.score()),
        (None, None)
    );
    assert!(!result.outcome.is_failure());
    assert_eq!(result.checks, read::<JobResult>("1.2").checks);
    // Without what is new a record is of the version before.
    let mut older = result.clone();
    older.outcome = Outcome::Evaluated { loss: 0.5 };
    assert_eq!(older.version(), [1, 2]);
    older.checks.clear();
    assert_eq!(older.version(), [1, 1]);
    let search: SearchFile = read("1.4");
    assert_eq!(search.version(), [1, 4]);
    assert_eq!(read::<Proposal>("1.0").version(), [1, 0]);
    assert_eq!(read::<Job>("1.2").version(), [1, 2]);
}

#[test]
fn checks_that_do_not_ascend_are_refused() {
    let (path, bytes) = golden("1.3", "job");
    let text = String::from_utf8(bytes).unwrap();
    let text = text.replacen("\"spent\": 1200.0", "\"spent\": 400.0", 1);
    let said = from_bytes::<Job>(&path, text.as_bytes()).unwrap_err();
    assert!(
        shared::error::chain(&said).contains("checks[1].spent"),
        "{said:?}"
    );
}

#[test]
fn an_extension_by_nothing_and_a_job_below_its_first_rung_are_refused() {
    let bad = |version, name, from: &str, to: &str| {
        let (path, bytes) = golden(version, name);
        let text = String::from_utf8(bytes).unwrap();
        (path, text.replacen(from, to, 1))
    };
    let (path, text) = bad("1.0", "extension", "\"limit\"", "\"other\"");
    let said = from_bytes::<Extension>(&path, text.as_bytes()).unwrap_err();
    assert!(
        shared::error::chain(&said).contains("a limit or `max_budget`"),
        "{said:?}"
    );
    let (path, text) = bad("2.0", "extension", "81.0", "-81.0");
    assert!(from_bytes::<Extension>(&path, text.as_bytes()).is_err());
    let (path, text) = bad("2.0", "job", "\"first_rung\": 1", "\"first_rung\": 5");
    let said = from_bytes::<Job>(&path, text.as_bytes()).unwrap_err();
    assert!(
        shared::error::chain(&said).contains("a rung up to its own (4)"),
        "{said:?}"
    );
}

#[test]
fn every_outcome_is_read_and_written_unchanged() {
    for text in [
        r#"{"kind":"evaluated","loss":0.5}"#,
        r#"{"kind":"stopped","spent":12.0,"loss":0.5,"limit":0.25}"#,
        r#"{"kind":"diverged","spent":12.0,"message":"the loss is NaN"}"#,
        r#"{"kind":"out_of_memory","needed_mib":90000.0,"available_mib":2000.0}"#,
        r#"{"kind":"infeasible","violations":[{"measure":"parameters","value":9.0,"max":5.0}]}"#,
        r#"{"kind":"crashed","message":"boom"}"#,
        r#"{"kind":"lost","attempts":5,"fate":"node_lost"}"#,
    ] {
        let outcome: Outcome = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&outcome).unwrap(), text);
    }
}

#[test]
fn records_of_a_newer_minor_version_are_read() {
    let (path, bytes) = golden("1.0", "result");
    let text = String::from_utf8(bytes).unwrap();
    let newer = text.replacen("[1, 0]", "[1, 9]", 1).replacen(
        "\"owner\"",
        "\"colour\": \"red\", \"owner\"",
        1,
    );
    from_bytes::<JobResult>(&path, newer.as_bytes()).unwrap();
    let other = text.replacen("[1, 0]", "[4, 0]", 1);
    let error = from_bytes::<JobResult>(&path, other.as_bytes()).unwrap_err();
    assert_eq!(error.exit_code(), shared::exit::Code::NewerVersion);
}

#[test]
fn losses_that_are_no_numbers_are_refused() {
    let (path, bytes) = golden("1.0", "result");
    let text = String::from_utf8(bytes).unwrap();
    for bad in ["null", "\"NaN\"", "1e999"] {
        let text = text.replacen(
            "0.1873 },\n  \"measures\"",
            &format!("{bad} }},\n  \"measures\""),
            1,
        );
        assert!(
            from_bytes::<JobResult>(&path, text.as_bytes())
                .unwrap_err()
                .is_bad_file(),
            "{bad}"
        );
    }
}

/// Every key of every golden file, below the names that users choose.
fn keys(json: &Json, found: &mut BTreeSet<String>) {
    match json {
        Json::Object(fields) => {
            for (key, value) in fields {
                found.insert(key.clone());
                if ![
                    "values",
                    "configuration",
                    "measures",
                    "notes",
                    "start_with",
                    "forbidden",
                    "fix",
                ]
                .contains(&key.as_str())
                {
                    keys(value, found);
                }
            }
        }
        Json::Array(items) => items.iter().for_each(|item| keys(item, found)),
        _ => {}
    }
}

#[test]
fn the_page_of_formats_names_every_field() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("../docs/formats.md")).unwrap();
    for file in golden_files() {
        let bytes = fs::read(file).unwrap();
        let json: Json = serde_json::from_slice(&bytes).unwrap();
        let format = json["format"].as_str().unwrap().to_owned();
        let section = page
            .split("\n## ")
            .find(|section| section.starts_with(&format!("`{format}`")));
        let section =
            section.unwrap_or_else(|| panic!("docs/formats.md has no section `{format}`"));
        let mut found = BTreeSet::new();
        keys(&json, &mut found);
        // Values of one record are explained in the section of another: hyperparameters, objectives, budgets.
        for key in found {
            let is_named =
                section.contains(&format!("`{key}`")) || page.contains(&format!("`{key}`"));
            let is_chosen_by_the_user = ["blocks", "optimizer"].contains(&key.as_str());
            assert!(
                is_named || is_chosen_by_the_user,
                "docs/formats.md does not explain `{key}` of `{format}`"
            );
        }
    }
}
