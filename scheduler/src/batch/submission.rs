//! What was submitted: records in `slurm/`, beside the scripts.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use shared::format::Record;
use shared::{Directory, error, fs, layout};
use tracing::info;

use super::{Kind, Role};

/// In place of a job's id: the batch system has named none, and did not know of one when it was asked.
pub const UNKNOWN: &str = "unknown";
/// How long a submission by another command may take: the controller may be busy. One that takes longer was killed.
const LONGEST_SUBMISSION: Duration = Duration::from_secs(30);
/// More submissions than any search makes.
const LARGEST_NUMBER: u32 = 1_000_000;
/// Between two looks whether it is done.
const LOOK: Duration = Duration::from_millis(200);

/// What was submitted: `slurm/0001-trainers.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// Trainers or the coordinator.
    pub kind: Kind,
    /// The id SLURM gave it, or [`UNKNOWN`].
    pub slurm_job: String,
    /// The name SLURM knows it by.
    pub name: String,
    /// The group of these trainers, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Tasks in the array; 1 for the coordinator.
    pub tasks: u32,
    /// The script, beside this file.
    pub script: String,
    /// Nodes on which it may not run, because trainers have failed there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<String>,
    /// When, RFC 3339 in UTC, for people.
    pub at: String,
}

impl Record for Submission {
    const FORMAT: &'static str = "submission";
    /// 1.0: first. 1.1: `group`, `excluded`; `slurm_job` may be `unknown`.
    const VERSION: [u32; 2] = [1, 1];
}

/// Whether anything was ever submitted.
pub(crate) fn was_any(directory: &Directory) -> Result<bool> {
    let names = fs::list(&directory.layout().path(layout::SLURM))?;
    Ok(names.iter().any(is_record))
}

fn is_record(name: &String) -> bool {
    Path::new(name).extension() == Some("json".as_ref())
}

/// All that was submitted, oldest first. Corrupt records are set aside: what is in the queue is known by name all the same.
pub(crate) fn all(directory: &Directory) -> Result<Vec<Submission>> {
    let folder = directory.layout().path(layout::SLURM);
    let mut all = Vec::new();
    for name in fs::list(&folder)?.into_iter().filter(is_record) {
        let path = folder.join(name);
        match fs::read_record(&path) {
            Ok(submission) => all.push(submission),
            Err(error) if error.is_bad_file() => {
                directory.quarantine(&path, &error::chain(&error))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(all)
}

/// The names that jobs of this search have, as far as its records tell.
pub(crate) fn names(directory: &Directory, root: &Path) -> Result<Vec<String>> {
    let mut names: BTreeSet<String> = [Role::COORDINATOR, Role::trainers(None)]
        .map(|role| role.name(root))
        .into();
    let submitted = all(directory)?
        .into_iter()
        .map(|submission| submission.name);
    // In a copy of a directory they may be those of the other.
    names.extend(submitted.filter(|name| Role::named(root, name).is_some()));
    Ok(names.into_iter().collect())
}

/// The number of the last submission, by whomever; 0 if there is none. To be asked before the queue is: what had this
/// number or an earlier one is in it.
pub(crate) fn last_number(directory: &Directory) -> Result<u32> {
    let start = Instant::now();
    loop {
        let (script, record) = numbers(directory)?;
        if script <= record || start.elapsed() > LONGEST_SUBMISSION {
            return Ok(script.max(record));
        }
        if start.elapsed() < LOOK {
            info!("waiting for another `scheduler slurm`, which is about to submit {script:04}");
        }
        std::thread::sleep(LOOK);
    }
}

/// The largest numbers of scripts and of records.
pub(crate) fn numbers(directory: &Directory) -> Result<(u32, u32)> {
    let names = fs::list(&directory.layout().path(layout::SLURM))?;
    let last_with = |end: &str| -> u32 {
        let of_kind = names.iter().filter(|name| name.ends_with(end));
        let numbers = of_kind.filter_map(|name| name.split_once('-')?.0.parse().ok());
        // Foreign names have none, or one that no search gets to.
        numbers
            .filter(|&number| number < LARGEST_NUMBER)
            .max()
            .unwrap_or(0)
    };
    Ok((last_with(".sh"), last_with(".json")))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record of an array of trainers.
    pub(crate) fn array(number: u32) -> Submission {
        Submission {
            kind: Kind::Trainers,
            slurm_job: number.to_string(),
            name: "tandem".into(),
            group: None,
            tasks: 2,
            script: "x.sh".into(),
            excluded: Vec::new(),
            at: String::new(),
        }
    }

    #[test]
    fn a_corrupt_record_is_set_aside_and_the_others_count() {
        let folder = tempfile::tempdir().unwrap();
        let file = crate::test_search::search_file(1, 9, 3);
        let directory = Directory::create(folder.path(), &file, Path::new("x")).unwrap();
        let slurm = directory.layout().path(layout::SLURM);
        fs::publish_record(&slurm.join("0001-trainers.json"), &array(1)).unwrap();
        fs::publish_new(&slurm.join("0002-trainers.json"), b"{ \"format\"").unwrap();
        assert_eq!(all(&directory).unwrap().len(), 1);
        assert_eq!(
            fs::list(&directory.layout().path(layout::ASIDE))
                .unwrap()
                .len(),
            1
        );
        assert_eq!(all(&directory).unwrap().len(), 1);
    }

    #[test]
    fn a_record_of_version_1_0_is_read() {
        let text = br#"{"format": "submission", "version": [1, 0], "kind": "trainers", "slurm_job": "17",
            "name": "tandem-x-0123456789-trainers", "tasks": 4, "script": "0001-trainers.sh", "at": "now"}"#;
        let read: Submission = shared::format::from_bytes(Path::new("x"), text).unwrap();
        assert_eq!((read.tasks, read.group, read.excluded.len()), (4, None, 0));
    }
}
