//! Results, and the retries that take their effect away.

use std::collections::BTreeSet;

use crate::directory::Directory;
use crate::error::Result;
use crate::fs::{self, Published};
use crate::id::{AttemptId, ConfigurationId, JobId, ResultId};
use crate::layout;
use crate::record::{JobResult, Retry};

impl Directory {
    /// Makes results last before anything that lasts is said of them.
    pub fn sync_results(&self, ids: impl IntoIterator<Item = ConfigurationId>) -> Result<()> {
        self.sync_shards(layout::RESULTS, ids)
    }

    /// Whether there is this result.
    pub fn has_result(&self, result: impl Into<ResultId>) -> Result<bool> {
        fs::is_there(&self.layout.result(result))
    }

    /// A result, if there is one: the first one of a job, or one that took its place. A corrupt one is set aside, so that
    /// the job is done again.
    pub fn read_result(&self, result: impl Into<ResultId>) -> Result<Option<JobResult>> {
        let id = result.into();
        self.read_or_quarantine(self.layout.result(id), |result: &JobResult| {
            result.id() == id
        })
    }

    /// The result of a job that counts, if it has one: the last of those that took each other's places.
    pub fn last_result(&self, job: JobId) -> Result<Option<JobResult>> {
        let ids: Vec<ResultId> = self.list_shard(layout::RESULTS, job.configuration.shard())?;
        for id in ids.into_iter().rev().filter(|id| id.job == job) {
            if let Some(result) = self.read_result(id)? {
                return Ok(Some(result));
            }
        }
        Ok(None)
    }

    /// Publishes a result for a job that nobody holds any more, such as a lost one.
    pub fn publish_result(&self, result: &JobResult) -> Result<Published> {
        fs::publish_record(&self.inside(self.layout.result(result.id()))?, result)
    }

    /// The last result of every job that has one, in the order of their ids. Reads everything: for the analyzer and for
    /// start-up.
    pub fn all_results(&self) -> Result<Vec<JobResult>> {
        let mut results: Vec<JobResult> = Vec::new();
        for shard in self.shards(layout::RESULTS)? {
            for id in self.list_shard::<ResultId>(layout::RESULTS, shard)? {
                let Some(result) = self.read_result(id)? else {
                    continue;
                };
                results.pop_if(|earlier| earlier.job() == result.job());
                results.push(result);
            }
        }
        Ok(results)
    }

    /// The ids of all jobs that have a result.
    pub fn finished_jobs(&self) -> Result<BTreeSet<JobId>> {
        let mut jobs = BTreeSet::new();
        for shard in self.shards(layout::RESULTS)? {
            let results = self.list_shard::<ResultId>(layout::RESULTS, shard)?;
            jobs.extend(results.into_iter().map(|result| result.job));
        }
        Ok(jobs)
    }

    /// Whether any of the results of the newest configurations is such; `most` results are looked at.
    pub fn any_result(
        &self,
        most: usize,
        mut is_such: impl FnMut(&JobResult) -> bool,
    ) -> Result<bool> {
        let mut left = most;
        for shard in self.shards(layout::RESULTS)?.into_iter().rev() {
            for id in self
                .list_shard::<ResultId>(layout::RESULTS, shard)?
                .into_iter()
                .rev()
            {
                if left == 0 {
                    return Ok(false);
                }
                left -= 1;
                if self.read_result(id)?.is_some_and(|result| is_such(&result)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Says that an attempt's outcome no longer counts, so that its job is done again.
    pub fn retry(&self, retry: &Retry) -> Result<Published> {
        let path = self.inside(self.layout.retry(retry.supersedes))?;
        fs::publish_record(&path, retry)
    }

    /// Why an attempt's outcome no longer counts, if that has been said. A corrupt record is set aside.
    pub fn read_retry(&self, superseded: AttemptId) -> Result<Option<Retry>> {
        self.read_or_quarantine(self.layout.retry(superseded), |retry: &Retry| {
            retry.supersedes == superseded
        })
    }
}
