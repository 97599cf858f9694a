//! What was submitted: records beside the scripts, in the batch system's folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use shared::format::Record;
use shared::{Directory, error, fs};
use tracing::info;

use super::{Kind, Role, System};

/// In place of a job's id: the batch system has named none, and did not know of one when it was asked.
pub(crate) const UNKNOWN: &str = "unknown";
/// How long a submission by another command may take: the controller may be busy. One that takes longer was killed.
const LONGEST_SUBMISSION: Duration = Duration::from_secs(30);
/// More submissions than any search makes.
const LARGEST_NUMBER: u32 = 1_000_000;
/// Between two looks whether it is done.
const LOOK: Duration = Duration::from_millis(200);

/// What was submitted: `0001-trainers.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// Trainers or the coordinator.
    pub kind: Kind,
    /// The id that the batch system gave it, or [`UNKNOWN`].
    #[serde(rename = "slurm_job")]
    pub job: String,
    /// The name that the batch system knows it by.
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

/// The folder of a search for what was submitted to this system.
pub(crate) fn folder(system: &dyn System, directory: &Directory) -> PathBuf {
    directory.layout().path(system.folder())
}

/// Whether anything was ever submitted.
pub(crate) fn was_any(system: &dyn System, directory: &Directory) -> Result<bool> {
    let names = fs::list(&folder(system, directory))?;
    Ok(names.iter().any(is_record))
}

fn is_record(name: &String) -> bool {
    Path::new(name).extension() == Some("json".as_ref())
}

/// All that was submitted, oldest first. Corrupt records are set aside: what is in the queue is known by name all the same.
pub(crate) fn all(system: &dyn System, directory: &Directory) -> Result<Vec<Submission>> {
    let folder = folder(system, directory);
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
pub(crate) fn names(
    system: &dyn System,
    directory: &Directory,
    root: &Path,
) -> Result<Vec<String>> {
    let mut names: BTreeSet<String> = [Role::COORDINATOR, Role::trainers(None)]
        .map(|role| role.name(root))
        .into();
    let submitted = all(system, directory)?
        .into_iter()
        .map(|submission| submission.name);
    // In a copy of a directory they may be those of the other.
    names.extend(submitted.filter(|name| Role::named(root, name).is_some()));
    Ok(names.into_iter().collect())
}

/// The number of the last submission, by whomever; 0 if there is none. To be asked before the queue is: what had this
/// number or an earlier one is in it.
pub(crate) fn last_number(system: &dyn System, directory: &Directory) -> Result<u32> {
    let start = Instant::now();
    loop {
        let (script, record) = numbers(system, directory)?;
        if script <= record || start.elapsed() > LONGEST_SUBMISSION {
            return Ok(script.max(record));
        }
        if start.elapsed() < LOOK {
            let command = system.command();
            info!("waiting for another `{command}`, which is about to submit {script:04}");
        }
        std::thread::sleep(LOOK);
    }
}

/// The largest numbers of scripts and of records.
pub(crate) fn numbers(system: &dyn System, directory: &Directory) -> Result<(u32, u32)> {
    let names = fs::list(&folder(system, directory))?;
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
    use crate::slurm::Slurm;

    /// A record of an array of trainers.
    pub(crate) fn array(number: u32) -> Submission {
        Submission {
            kind: Kind::Trainers,
            job: number.to_string(),
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
        let folder = super::folder(&Slurm, &directory);
        fs::publish_record(&folder.join("0001-trainers.json"), &array(1)).unwrap();
        fs::publish_new(&folder.join("0002-trainers.json"), b"{ \"format\"").unwrap();
        assert_eq!(all(&Slurm, &directory).unwrap().len(), 1);
        assert_eq!(
            fs::list(&directory.layout().path(shared::layout::ASIDE))
                .unwrap()
                .len(),
            1
        );
        assert_eq!(all(&Slurm, &directory).unwrap().len(), 1);
    }

    #[test]
    fn a_record_of_version_1_0_is_read() {
        let text = br#"{"format": "submission", "version": [1, 0], "kind": "trainers", "slurm_job": "17",
            "name": "tandem-x-0123456789-trainers", "tasks": 4, "script": "0001-trainers.sh", "at": "now"}"#;
        let read: Submission = shared::format::from_bytes(Path::new("x"), text).unwrap();
        assert_eq!((read.tasks, read.group, read.excluded.len()), (4, None, 0));
    }
}
