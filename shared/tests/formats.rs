//! Golden files of every record in every version ever written, and the page that describes them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use shared::evidence::Evidence;
use shared::format::{Record, from_bytes, to_bytes};
use shared::record::{
    AttemptEnd, Created, Extension, Finished, Given, Heartbeat, Imported, Job, JobResult,
    Observation, Outcome, Proposal, Request, Retry,
};
use shared::space::SpaceFile;
use shared::{Search, SearchFile, SearchSpace};

fn golden(name: &str) -> (PathBuf, Vec<u8>) {
    golden_of("1.0", name)
}

fn golden_of(version: &str, name: &str) -> (PathBuf, Vec<u8>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/formats")
        .join(version)
        .join(name);
    let bytes = std::fs::read(&path).unwrap();
    (path, bytes)
}

/// Reads the golden file, writes it again, and compares: nothing is lost, nothing is made up, but that it is written
/// in the version of today.
fn round_trip<R: Record>(version: &str) -> R {
    let (path, bytes) = golden_of(version, &format!("{}.json", R::FORMAT));
    let record: R = from_bytes(&path, &bytes).unwrap();
    let written: Json = serde_json::from_slice(&to_bytes(&record)).unwrap();
    let mut original: Json = serde_json::from_slice(&bytes).unwrap();
    original["version"] = record.version().to_vec().into();
    assert_eq!(written, original, "{}", R::FORMAT);
    record
}

#[test]
fn records_of_version_1_0_are_read_and_written_unchanged() {
    const V: &str = "1.0";
    let search: SearchFile = round_trip(V);
    // As the programs of version 1.0 wrote it into jobs, which are still this search's.
    let digest = "38cd502daed6551c6ffae8aca994e4b3e0d8ae94a89eb9f5caa77202e8333400";
    assert_eq!(Search::new(&search).unwrap().digest, digest);
    SearchSpace::new(&round_trip::<SpaceFile>(V)).unwrap();
    round_trip::<Created>(V);
    round_trip::<Request>(V);
    round_trip::<Proposal>(V);
    round_trip::<Job>(V);
    round_trip::<Heartbeat>(V);
    round_trip::<Observation>(V);
    round_trip::<AttemptEnd>(V);
    round_trip::<JobResult>(V);
    round_trip::<Retry>(V);
    round_trip::<Extension>(V);
    round_trip::<Finished>(V);
    round_trip::<Imported>(V);
    round_trip::<Evidence>(V);
    round_trip::<Given>(V);
}

#[test]
fn records_of_version_1_1_are_read_and_written_unchanged() {
    let search: SearchFile = round_trip("1.1");
    Search::new(&search).unwrap();
    SearchSpace::new(&round_trip::<SpaceFile>("1.1")).unwrap();
    round_trip::<Request>("1.1");
    round_trip::<Job>("1.1");
    round_trip::<Heartbeat>("1.1");
    round_trip::<Finished>("1.1");
    let result: JobResult = round_trip("1.1");
    assert_eq!(result.id().to_string(), "c000123-r2-a4");
}

#[test]
fn searches_and_spaces_of_version_1_2_are_read_and_written_unchanged() {
    let search: SearchFile = round_trip("1.2");
    Search::new(&search).unwrap();
    SearchSpace::new(&round_trip::<SpaceFile>("1.2")).unwrap();
}

#[test]
fn jobs_of_version_1_2_are_read_and_written_unchanged() {
    let job: Job = round_trip("1.2");
    assert_eq!(job.seed, Some(u64::MAX));
}

#[test]
fn searches_of_version_1_3_are_read_and_written_unchanged() {
    let search: SearchFile = round_trip("1.3");
    Search::new(&search).unwrap();
}

#[test]
fn searches_of_version_1_4_are_read_and_written_unchanged() {
    let search: SearchFile = round_trip("1.4");
    Search::new(&search).unwrap();
}

#[test]
fn results_of_version_2_0_are_read_and_written_unchanged() {
    let result: JobResult = round_trip("2.0");
    assert_eq!(result.outcome.loss(), None);
    // 42 % too many, and half of what must be.
    assert_eq!(
        result.outcome.score(),
        Some(shared::Score::Infeasible(0.42 + 0.5))
    );
}

#[test]
fn requests_of_version_2_0_are_read_and_written_unchanged() {
    let request: Request = round_trip("2.0");
    assert!(request.given.is_some());
}

#[test]
fn what_follows_a_larger_largest_budget_is_read_and_written_unchanged() {
    let extension: Extension = round_trip("2.0");
    assert_eq!(extension.max_budget, Some(81.0));
    let job: Job = round_trip("2.0");
    assert_eq!(job.first_rung, Some(1));
    let request: Request = round_trip("3.0");
    assert_eq!(request.top, Some(4));
    let finished: Finished = round_trip("1.2");
    assert_eq!(finished.top, Some(4));
}

#[test]
fn an_extension_by_nothing_and_a_job_below_its_first_rung_are_refused() {
    let bad = |version, name, from: &str, to: &str| {
        let (path, bytes) = golden_of(version, name);
        let text = String::from_utf8(bytes).unwrap();
        (path, text.replacen(from, to, 1))
    };
    let (path, text) = bad("1.0", "extension.json", "\"limit\"", "\"other\"");
    let said = from_bytes::<Extension>(&path, text.as_bytes()).unwrap_err();
    assert!(
        shared::error::chain(&said).contains("a limit or `max_budget`"),
        "{said:?}"
    );
    let (path, text) = bad("2.0", "extension.json", "81.0", "-81.0");
    assert!(from_bytes::<Extension>(&path, text.as_bytes()).is_err());
    let (path, text) = bad("2.0", "job.json", "\"first_rung\": 1", "\"first_rung\": 5");
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
    let (path, bytes) = golden("result.json");
    let text = String::from_utf8(bytes).unwrap();
    let newer = text.replacen("[1, 0]", "[1, 9]", 1).replacen(
        "\"owner\"",
        "\"colour\": \"red\", \"owner\"",
        1,
    );
    from_bytes::<JobResult>(&path, newer.as_bytes()).unwrap();
    let other = text.replacen("[1, 0]", "[3, 0]", 1);
    let error = from_bytes::<JobResult>(&path, other.as_bytes()).unwrap_err();
    assert_eq!(error.exit_code(), shared::exit::Code::NewerVersion);
}

#[test]
fn losses_that_are_no_numbers_are_refused() {
    let (path, bytes) = golden("result.json");
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
    let page = std::fs::read_to_string(root.join("../docs/formats.md")).unwrap();
    let files = ["1.0", "1.1", "1.2", "1.3", "1.4", "2.0", "3.0"]
        .into_iter()
        .flat_map(|version| std::fs::read_dir(root.join("tests/formats").join(version)).unwrap());
    for entry in files {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
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
