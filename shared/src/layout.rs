//! Every file and folder name of a search directory, and the way back from a name to an id.
//!
//! No other module holds a file-name literal. Names of records end in `.json`; names that start with `.` are drafts
//! (or NFS's own) and are never records.

use std::path::{Path, PathBuf};

use crate::id::{
    AttemptId, Claim, ConfigurationId, ExtensionId, GivenId, JobId, OwnerId, ResultId,
};
use crate::search::Promotion;

/// The search: [`crate::search::SearchFile`].
pub const SEARCH: &str = "search.json";
/// What `scheduler init` made: [`crate::record::Created`].
pub const CREATED: &str = "created.json";
/// What stands in place of [`SEARCH`] where the results come from another program's log: [`crate::record::Imported`].
pub const IMPORTED: &str = "imported.json";
/// Its presence stops the search: [`crate::directory::Directory::stop`].
pub const STOP: &str = "stop";
/// The scheduler's last word: [`crate::record::Finished`].
pub const FINISHED: &str = "finished.json";
/// Requests, in shards.
pub const REQUESTS: &str = "requests";
/// Proposals, in shards.
pub const CONFIGURATIONS: &str = "configurations";
/// Jobs free to claim.
pub const OPEN: &str = "jobs/open";
/// Jobs in somebody's hands.
pub const CLAIMED: &str = "jobs/claimed";
/// What is a program's own in the checkpoints of a configuration: all of it, or, with `-r2` behind it, that of a rung.
pub const PROGRAM: &str = "program";
/// Results, in shards.
pub const RESULTS: &str = "results";
/// Outcomes that no longer count, because their jobs are done again, in shards.
pub const RETRIES: &str = "retries";
/// Results of earlier searches that this one learns from, copied by `scheduler init`.
pub(crate) const EVIDENCE: &str = "evidence";
/// What was added to the search's limit.
pub const EXTENSIONS: &str = "extensions";
/// Configurations that somebody wants to be tried.
pub(crate) const GIVEN: &str = "given";
/// Attempts that ended without a result, in shards.
pub const ATTEMPTS: &str = "attempts";
/// Results of jobs that already had one.
pub const LATE: &str = "late";
/// Heartbeats.
pub const TRAINERS: &str = "trainers";
/// Checkpoints, in shards, one folder a configuration.
pub const CHECKPOINTS: &str = "checkpoints";
/// What the sampler last fitted, for people.
pub(crate) const MODELS: &str = "models";
/// Corrupt and foreign files, moved here and never deleted.
pub const ASIDE: &str = "aside";
/// What programs and objectives print.
pub const LOGS: &str = "logs";
/// Batch scripts and submissions.
pub const SLURM: &str = "slurm";

/// What schedulers saw of trainers, one file a host.
pub(crate) const OBSERVATIONS: &str = "observations";

/// What `scheduler doctor` tries out, removed when it ends.
pub const DOCTOR: &str = "doctor";

/// The folders that a new search directory gets at once; shards come when they are needed.
pub const FOLDERS: [&str; 13] = [
    REQUESTS,
    CONFIGURATIONS,
    OPEN,
    CLAIMED,
    RESULTS,
    ATTEMPTS,
    LATE,
    TRAINERS,
    CHECKPOINTS,
    MODELS,
    ASIDE,
    LOGS,
    SLURM,
];

/// Those that come when they are needed.
pub(crate) const LATER_FOLDERS: [&str; 7] = [
    "jobs",
    EVIDENCE,
    RETRIES,
    EXTENSIONS,
    GIVEN,
    OBSERVATIONS,
    DOCTOR,
];

/// Paths of one search directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout of the directory at `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file or folder by its constant name above.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The folder of a sharded kind that `configuration` belongs to: `results/000`.
    pub fn shard(&self, kind: &str, shard: u32) -> PathBuf {
        self.root.join(kind).join(format!("{shard:03}"))
    }

    /// `requests/000/c000123.json`
    pub fn request(&self, id: ConfigurationId) -> PathBuf {
        self.shard(REQUESTS, id.shard()).join(format!("{id}.json"))
    }

    /// `configurations/000/c000123.json`
    pub fn configuration(&self, id: ConfigurationId) -> PathBuf {
        self.shard(CONFIGURATIONS, id.shard())
            .join(format!("{id}.json"))
    }

    /// `jobs/open/c000123-r2-a1.json`
    pub fn open(&self, attempt: AttemptId) -> PathBuf {
        self.path(OPEN).join(format!("{attempt}.json"))
    }

    /// `jobs/claimed/c000123-r2-a1.OWNER.json`
    pub fn claimed(&self, claim: &Claim) -> PathBuf {
        self.path(CLAIMED).join(format!("{claim}.json"))
    }

    /// `results/000/c000123-r2.json`, or `results/000/c000123-r2-a5.json` of a job that was done again.
    pub fn result(&self, result: impl Into<ResultId>) -> PathBuf {
        let result = result.into();
        self.shard(RESULTS, result.job.configuration.shard())
            .join(format!("{result}.json"))
    }

    /// `extensions/0001.json`
    pub fn extension(&self, id: ExtensionId) -> PathBuf {
        self.path(EXTENSIONS).join(format!("{id}.json"))
    }

    /// `retries/000/c000123-r2-a4.json`
    pub fn retry(&self, superseded: AttemptId) -> PathBuf {
        self.shard(RETRIES, superseded.job.configuration.shard())
            .join(format!("{superseded}.json"))
    }

    /// `attempts/000/c000123-r2-a1.OWNER.json`
    pub fn attempt(&self, claim: &Claim) -> PathBuf {
        self.shard(ATTEMPTS, claim.attempt.job.configuration.shard())
            .join(format!("{claim}.json"))
    }

    /// `evidence/DIGEST.json`, with the first sixteen digits of the digest.
    pub fn evidence(&self, digest: &str) -> PathBuf {
        let name: String = digest.chars().take(16).collect();
        self.path(EVIDENCE).join(format!("{name}.json"))
    }

    /// `given/0001.json`
    pub fn given(&self, id: GivenId) -> PathBuf {
        self.path(GIVEN).join(format!("{id}.json"))
    }

    /// `late/c000123-r2-a1.OWNER.json`
    pub fn late(&self, claim: &Claim) -> PathBuf {
        self.path(LATE).join(format!("{claim}.json"))
    }

    /// `trainers/OWNER.json`
    pub fn heartbeat(&self, owner: &OwnerId) -> PathBuf {
        self.path(TRAINERS).join(format!("{owner}.json"))
    }

    /// `checkpoints/000/c000123`
    pub fn checkpoints(&self, id: ConfigurationId) -> PathBuf {
        self.shard(CHECKPOINTS, id.shard()).join(id.to_string())
    }

    /// Where a program keeps what it likes: `checkpoints/000/c000123/program-r2`, or, where promotions continue and all
    /// rungs share it, `checkpoints/000/c000123/program`.
    pub fn program_checkpoints(&self, job: JobId, promotion: Promotion) -> PathBuf {
        let name = match promotion {
            Promotion::Scratch | Promotion::Stopping => format!("{PROGRAM}-r{}", job.rung),
            Promotion::Continue => PROGRAM.to_owned(),
        };
        self.checkpoints(job.configuration).join(name)
    }

    /// `checkpoints/000/c000123/checks-r2.json`: what a program's attempts have seen at the job's checks.
    pub fn checks(&self, job: JobId) -> PathBuf {
        self.checkpoints(job.configuration)
            .join(format!("checks-r{}.json", job.rung))
    }

    /// `checkpoints/000/c000123/c000123-r2-a1.OWNER.checkpoint`
    pub fn checkpoint(&self, claim: &Claim) -> PathBuf {
        self.checkpoints(claim.attempt.job.configuration)
            .join(format!("{claim}.checkpoint"))
    }

    /// `logs/000/c000123-r2-a1.OWNER.log`: what an outside command printed.
    pub fn log(&self, claim: &Claim) -> PathBuf {
        self.shard(LOGS, claim.attempt.job.configuration.shard())
            .join(format!("{claim}.log"))
    }

    /// `logs/trainer-1.HOST.log`: what a program logged that `scheduler local` started; two hosts never write one file.
    pub fn program_log(&self, program: &str, host: &str) -> PathBuf {
        let host = plain(host).replace('-', "_");
        self.path(LOGS).join(format!("{program}.{host}.log"))
    }

    /// `observations/HOST.json`
    pub fn observation(&self, host: &str) -> PathBuf {
        self.path(OBSERVATIONS)
            .join(format!("{}.json", plain(host)))
    }

    /// `models/OWNER.json`
    pub fn model(&self, owner: &OwnerId) -> PathBuf {
        self.path(MODELS).join(format!("{owner}.json"))
    }
}

/// The id in a record's file name, if it is one: `c000123-r2.json` → `c000123-r2`.
pub fn id_in<T: std::str::FromStr>(file_name: &str) -> Option<T> {
    file_name.strip_suffix(".json")?.parse().ok() // foreign names are no ids
}

/// The claim in a checkpoint's file name.
pub(crate) fn claim_of_checkpoint(file_name: &str) -> Option<Claim> {
    file_name.strip_suffix(".checkpoint")?.parse().ok() // foreign names are no claims
}

/// The number in a shard folder's name.
pub fn shard_in(folder_name: &str) -> Option<u32> {
    let number = folder_name.parse().ok()?; // foreign folders are no shards
    (format!("{number:03}") == folder_name).then_some(number)
}

/// A host's name as part of a file's.
fn plain(host: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    host.chars().map(plain).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_ids() {
        let layout = Layout::new("/d");
        let claim: Claim = "c001234-r2-a3.h-1-x".parse().unwrap();
        assert_eq!(
            layout.claimed(&claim),
            Path::new("/d/jobs/claimed/c001234-r2-a3.h-1-x.json")
        );
        assert_eq!(
            layout.result(claim.attempt.job),
            Path::new("/d/results/001/c001234-r2.json")
        );
        assert_eq!(id_in::<Claim>("c001234-r2-a3.h-1-x.json"), Some(claim));
        assert_eq!(
            id_in::<JobId>("c001234-r2.json"),
            Some(ConfigurationId(1234).job(2))
        );
        assert_eq!(id_in::<JobId>("c001234-r2.json~"), None);
        assert_eq!(shard_in("001"), Some(1));
        assert_eq!(shard_in("1234"), Some(1234));
        assert_eq!(shard_in("1"), None);
        assert_eq!(shard_in("+01"), None);
    }
}
