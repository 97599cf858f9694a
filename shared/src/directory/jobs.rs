//! Jobs: offered, claimed, finished, given back.

use tracing::warn;

use crate::directory::{Directory, FinishedAs, JobsView};
use crate::error::{Result, chain};
use crate::fs::{self, Moved, Published};
use crate::id::{AttemptId, Claim, JobId, OwnerId};
use crate::layout;
use crate::record::{AttemptEnd, Job, JobResult};

impl Directory {
    /// Offers a job: the first open job. A job without open job, claim and result is offered again.
    pub fn offer(&self, job: &Job, attempt: u32) -> Result<Published> {
        fs::show_new_record(&self.layout.open(job.job.attempt(attempt)), job)
    }

    /// One look at the open and the claimed jobs. A job that moves between the folders at this moment may be seen in
    /// both or in neither.
    pub fn jobs(&self) -> Result<JobsView> {
        // Open first: a job claimed in between is then seen twice rather than not at all.
        let open = self
            .list_ids(&self.layout.path(layout::OPEN))?
            .into_iter()
            .collect();
        let claimed = self
            .list_ids(&self.layout.path(layout::CLAIMED))?
            .into_iter()
            .collect();
        Ok(JobsView { open, claimed })
    }

    /// The open jobs only: the one look of an idle trainer.
    pub fn open_jobs(&self) -> Result<Vec<AttemptId>> {
        self.list_ids(&self.layout.path(layout::OPEN))
    }

    /// An open job, for a trainer that must know what it is before it claims it; `None` if somebody was faster.
    pub fn read_open(&self, attempt: AttemptId) -> Result<Option<Job>> {
        self.read_or_quarantine(self.layout.open(attempt), |job: &Job| {
            job.job == attempt.job && self.is_of_this_search(job)
        })
    }

    /// Takes an open job; `None` if somebody was faster, or if it needs no one any more.
    pub fn claim(&self, attempt: AttemptId, owner: &OwnerId) -> Result<Option<(Claim, Job)>> {
        let claim = Claim {
            attempt,
            owner: owner.clone(),
        };
        let path = self.layout.claimed(&claim);
        if fs::move_to(&self.layout.open(attempt), &path)? == Moved::Gone {
            return Ok(None);
        }
        let job = self.read_or_quarantine(path.clone(), |job: &Job| {
            job.job == attempt.job && self.is_of_this_search(job)
        })?;
        let Some(job) = job else { return Ok(None) };
        if self.has_result(job.result())? {
            // A second offer of a finished job: two schedulers offered it, or it was taken back too early.
            fs::remove(&path)?;
            return Ok(None);
        }
        let claimed: Vec<Claim> = self.list_ids(&self.layout.path(layout::CLAIMED))?;
        if claimed
            .iter()
            .any(|other| other.attempt.job == attempt.job && *other != claim)
        {
            // A second offer of a job in somebody's hands: two schedulers offered it. Should both holders withdraw,
            // the scheduler misses the job and offers it again.
            fs::remove(&path)?;
            return Ok(None);
        }
        Ok(Some((claim, job)))
    }

    /// Whether a job has a budget of this search: with another one it might never end.
    fn is_of_this_search(&self, job: &Job) -> bool {
        // A rung that an extension has added meanwhile has the budget that it must have.
        let ladder = self.search.ladder.up_to(job.job.rung);
        job.search == self.search.digest
            && ladder.is_some_and(|ladder| job.budget == ladder.budget(job.job.rung))
    }

    /// Whether a claim is still its owner's.
    pub fn holds(&self, claim: &Claim) -> Result<bool> {
        fs::is_there(&self.layout.claimed(claim))
    }

    /// Ends a claimed job with its result.
    ///
    /// # Panics
    /// If the result is another attempt's.
    pub fn finish(&self, claim: &Claim, result: &JobResult) -> Result<FinishedAs> {
        assert_eq!(
            claim.attempt, result.attempt,
            "a result of the claimed attempt"
        );
        let path = self.inside(self.layout.result(result.id()))?;
        let finished_as = match fs::show_new_record(&path, result)? {
            Published::New => FinishedAs::First,
            Published::AlreadyThere => self.keep_late(claim, result)?,
        };
        // The claim goes as soon as the result can be seen, which is what the scheduler waits for. It syncs the name
        // itself before it acts on the result.
        self.drop_claim(claim)?;
        let shard = self
            .layout
            .shard(layout::RESULTS, claim.attempt.job.configuration.shard());
        if let Err(error) = fs::sync_folder(&shard) {
            warn!("{}: {}", claim.attempt, chain(&error));
        }
        Ok(finished_as)
    }

    /// Keeps a result aside that is not its job's first; or finds that the first one is this very attempt's.
    fn keep_late(&self, claim: &Claim, result: &JobResult) -> Result<FinishedAs> {
        let first = self.read_result(result.id())?;
        let is_own =
            first.is_some_and(|first| first.owner == claim.owner && first.attempt == claim.attempt);
        if is_own {
            return Ok(FinishedAs::First);
        }
        fs::publish_record(&self.layout.late(claim), result)?;
        Ok(FinishedAs::Late)
    }

    /// Removes the claim of a job that has its result.
    pub fn drop_claim(&self, claim: &Claim) -> Result<()> {
        fs::remove(&self.layout.claimed(claim)).map(|_was_there| ())
    }

    /// Removes an open job, of a job that has its result or is to be offered differently; whether it was there.
    pub fn drop_open(&self, attempt: AttemptId) -> Result<bool> {
        fs::remove(&self.layout.open(attempt))
    }

    /// Ends an attempt without a result and offers the next one; whether the claim was still there.
    ///
    /// Done by the trainer that gives a job back, or by a scheduler that takes it back.
    pub fn end_attempt(&self, end: &AttemptEnd) -> Result<Moved> {
        let path = self.inside(self.layout.attempt(&end.claim));
        let recorded = path.and_then(|path| fs::publish_record(&path, end));
        if let Err(error) = recorded {
            // A full disk must not keep the job from the next trainer: the rename needs no space.
            warn!("cannot record how {} ended: {}", end.claim, chain(&error));
        }
        fs::move_to(
            &self.layout.claimed(&end.claim),
            &self.layout.open(end.claim.attempt.next()),
        )
    }

    /// How attempts of a job ended so far, in the order of their numbers.
    pub fn attempt_ends(&self, job: JobId) -> Result<Vec<AttemptEnd>> {
        let claims: Vec<Claim> = self.list_shard(layout::ATTEMPTS, job.configuration.shard())?;
        let mut ends = Vec::new();
        for claim in claims.into_iter().filter(|claim| claim.attempt.job == job) {
            let end = self.read_or_quarantine(self.layout.attempt(&claim), |end: &AttemptEnd| {
                end.claim == claim
            });
            ends.extend(end?);
        }
        Ok(ends)
    }
}
