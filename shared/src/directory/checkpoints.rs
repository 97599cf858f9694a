//! Checkpoints of configurations.

use std::collections::BTreeSet;

use crate::directory::Directory;
use crate::error::Result;
use crate::fs;
use crate::id::{Claim, ConfigurationId, JobId};
use crate::layout;
use crate::record::{Checked, Checks};
use crate::search::Promotion;

impl Directory {
    /// Saves a checkpoint of a claimed job. Each attempt has a file of its own, so no two processes write one.
    pub fn save_checkpoint(&self, claim: &Claim, bytes: &[u8]) -> Result<()> {
        fs::replace(&self.inside(self.layout.checkpoint(claim))?, bytes)
    }

    /// Checkpoints of a configuration, latest rung and attempt first.
    pub fn checkpoints(&self, id: ConfigurationId) -> Result<Vec<Claim>> {
        let names = fs::list(&self.inside(self.layout.checkpoints(id))?)?;
        Ok(claims_in(&names, id))
    }

    /// Configurations that have checkpoints of any kind.
    pub fn checkpointed(&self) -> Result<BTreeSet<ConfigurationId>> {
        let mut ids = BTreeSet::new();
        for shard in self.shards(layout::CHECKPOINTS)? {
            let names = fs::list(&self.layout.shard(layout::CHECKPOINTS, shard))?;
            ids.extend(
                names
                    .iter()
                    .filter_map(|name| name.parse::<ConfigurationId>().ok()), // foreign names are no ids
            );
        }
        Ok(ids)
    }

    /// The bytes of a checkpoint, if it is still there; at most `largest`.
    pub fn read_checkpoint(&self, claim: &Claim, largest: u64) -> Result<Option<Vec<u8>>> {
        let path = self.inside(self.layout.checkpoint(claim))?;
        fs::read_large_if_there(&path, largest)
    }

    /// Removes the checkpoints of a configuration whose jobs are below `from_rung`, or all of them.
    pub fn drop_checkpoints(&self, id: ConfigurationId, below: Option<u8>) -> Result<()> {
        let Some(below) = below else {
            // Drafts that a crash left, and what an outside program kept, go with them.
            return fs::remove_folder(&self.inside(self.layout.checkpoints(id))?);
        };
        let names = fs::list(&self.inside(self.layout.checkpoints(id))?)?;
        for claim in claims_in(&names, id) {
            if claim.attempt.job.rung < below {
                fs::remove(&self.layout.checkpoint(&claim))?;
            }
        }
        for rung in 0..below {
            let folder = self
                .layout
                .program_checkpoints(id.job(rung), Promotion::Scratch);
            if folder
                .file_name()
                .is_some_and(|name| names.iter().any(|other| name == other.as_str()))
            {
                fs::remove_folder(&folder)?;
            }
        }
        Ok(())
    }

    /// What attempts at a job of somebody's program have seen at its checks; nothing where none has.
    pub fn read_checks(&self, job: JobId) -> Result<Vec<Checked>> {
        let record =
            self.read_or_quarantine(self.layout.checks(job), |checks: &Checks| checks.job == job)?;
        Ok(record.map_or_else(Vec::new, |record| record.checks))
    }

    /// Keeps what was seen at a job's checks for its next attempt, beside its checkpoints.
    pub fn keep_checks(&self, job: JobId, seen: &[Checked]) -> Result<()> {
        let record = Checks {
            job,
            checks: seen.to_vec(),
        };
        fs::replace_record(&self.inside(self.layout.checks(job))?, &record)
    }

    /// Bytes in all checkpoints, those of outside programs included.
    pub fn checkpoint_bytes(&self) -> Result<u64> {
        fs::tree_bytes(&self.layout.path(layout::CHECKPOINTS))
    }
}

/// The claims whose checkpoints are in a configuration's folder, latest rung and attempt first.
fn claims_in(names: &[String], id: ConfigurationId) -> Vec<Claim> {
    let mut claims: Vec<Claim> = names
        .iter()
        .filter_map(|name| layout::claim_of_checkpoint(name))
        .filter(|claim| claim.attempt.job.configuration == id)
        .collect();
    claims.sort_by(|a, b| b.cmp(a));
    claims
}
