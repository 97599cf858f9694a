//! The protocol: what may be done to a search directory, each act safe to be interrupted, repeated, or raced for.
//!
//! ```text
//!   request ──► proposal ──► open ──claim──► claimed ──finish──► result (claim removed)
//!                              ▲                │
//!                              └──release / take back (next attempt)
//! ```
//! A job's state is where its file is. Claiming, releasing and taking back are one rename each; a result is published
//! under a name that must be new, so the first one stays. Decisions are made elsewhere, from what
//! [`Directory::jobs`] and the results show.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::clock;
use crate::error::{Error, Invalid, Result};
use crate::format::{self, Record};
use crate::fs::{self, Moved, Published};
use crate::id::{AttemptId, Claim, ConfigurationId, ExtensionId, JobId, OwnerId, ResultId};
use crate::layout::{self, Layout};
use crate::objective::Objective;
use crate::record::{
    AttemptEnd, Created, Extension, Fate, Finished, Heartbeat, Job, JobResult, Observation,
    Proposal, Request, Retry,
};
use crate::search::{REVISION, Search, SearchFile};
use crate::system::What;

/// A search directory, opened.
#[derive(Debug, Clone)]
pub struct Directory {
    layout: Layout,
    search: Search,
    is_network: bool,
    is_observer: bool,
    /// Folders that were seen to be no links.
    folders: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// Where the jobs are, as far as one look at the two folders tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobsView {
    /// Free to claim.
    pub open: BTreeSet<AttemptId>,
    /// In somebody's hands.
    pub claimed: BTreeSet<Claim>,
}

impl JobsView {
    /// Every job that is open or claimed.
    pub fn jobs(&self) -> BTreeSet<JobId> {
        self.open
            .iter()
            .map(|attempt| attempt.job)
            .chain(self.claimed.iter().map(|c| c.attempt.job))
            .collect()
    }
}

/// How a claimed job was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishedAs {
    /// The result is the job's result.
    First,
    /// The job had one already; this one is kept aside and ignored.
    Late,
}

impl Directory {
    /// Makes a directory for a search, or finds that it is this search's already.
    pub fn create(root: &Path, file: &SearchFile, given: &Path) -> Result<Self> {
        let layout = Layout::new(root);
        refuse_links(&layout)?;
        let there = read_if_there::<SearchFile>(&layout.path(layout::SEARCH))?;
        let mut file = file.clone();
        if file.revision.is_none() {
            file.revision = there
                .as_ref()
                .map_or(Some(REVISION), |there| there.revision);
        }
        let file = &file;
        let search = Search::check(file).map_err(|source| Error::Value {
            path: given.to_path_buf(),
            format: SearchFile::FORMAT,
            source,
        })?;
        for folder in layout::FOLDERS {
            fs::make_folder(&layout.path(folder))?;
        }
        let other = || Error::OtherSearch {
            path: root.to_path_buf(),
        };
        // A directory of an older version, whose digest is not recorded yet.
        if let Some(there) = there
            && format::to_bytes(&there) != format::to_bytes(file)
        {
            return Err(other());
        }
        let created = Created {
            search: search.digest.clone(),
            at: clock::now(),
            program: concat!("scheduler ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let path = layout.path(layout::CREATED);
        if fs::publish_record(&path, &created)? == Published::AlreadyThere
            && fs::read_record::<Created>(&path)?.search != search.digest
        {
            return Err(other());
        }
        // Last, so that whoever finds a search finds the folders and its digest too.
        if fs::publish_record(&layout.path(layout::SEARCH), file)? == Published::AlreadyThere
            && read_search(root)?.digest != search.digest
        {
            return Err(other());
        }
        let is_network = fs::is_network(root);
        Ok(Self {
            layout,
            search,
            is_network,
            is_observer: false,
            folders: Arc::default(),
        })
    }

    /// Opens an existing search directory.
    pub fn open(root: &Path) -> Result<Self> {
        let search = read_search(root)?;
        let is_network = fs::is_network(root);
        Ok(Self {
            layout: Layout::new(root),
            search,
            is_network,
            is_observer: false,
            folders: Arc::default(),
        })
    }

    /// Opens an existing search directory only to look at it: corrupt and foreign files are reported and left where
    /// they are.
    pub fn observe(root: &Path) -> Result<Self> {
        Ok(Self {
            is_observer: true,
            ..Self::open(root)?
        })
    }

    /// The search.
    pub fn search(&self) -> &Search {
        &self.search
    }

    /// The paths.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether the directory is on a filesystem that other machines share.
    pub fn is_network(&self) -> bool {
        self.is_network
    }

    /// Whether it was opened only to be looked at.
    pub fn is_observer(&self) -> bool {
        self.is_observer
    }

    /// Silence after which a trainer's job is taken back.
    pub fn lease(&self) -> Duration {
        let settings = self.search.trainers;
        let ten_beats = 10.0 * settings.heartbeat_s;
        let default = if self.is_network {
            ten_beats.max(240.0)
        } else {
            ten_beats
        };
        Duration::from_secs_f64(settings.lease_s.unwrap_or(default))
    }

    /// Of how many heartbeats a trainer writes one while it waits for a job: one in a quarter of the lease, so that it
    /// counts as living although some of those are late. Nothing can be taken away from it meanwhile.
    pub fn waiting_writes_one_of(&self) -> u32 {
        let beats = self.lease().as_secs_f64() / (4.0 * self.search.trainers.heartbeat_s);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and saturating"
        )]
        let whole = beats as u32;
        whole.max(1)
    }

    /// The path of a file, after making sure that no folder between it and the search directory is a link. Each folder is
    /// looked at once: who may change folders later may change everything else as well.
    ///
    /// # Errors
    /// One is.
    pub fn inside(&self, path: PathBuf) -> Result<PathBuf> {
        let mut seen = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let mut between: Vec<&Path> = path.ancestors().skip(1).collect();
        between.retain(|folder| {
            folder.starts_with(self.layout.root()) && *folder != self.layout.root()
        });
        for folder in between.into_iter().rev() {
            if !seen.contains(folder) {
                match fs::what_is(folder)? {
                    Some(What::Link) => {
                        let path = folder.to_path_buf();
                        return Err(Error::Link { path });
                    }
                    Some(What::Folder) => {
                        seen.insert(folder.to_path_buf());
                    }
                    // Not there yet, or nothing that anything can be in.
                    Some(What::Other) | None => {}
                }
            }
        }
        drop(seen);
        Ok(path)
    }

    // ---- requests and proposals ----

    /// Asks for a configuration. [`Directory::sync_requests`] makes it last.
    pub fn request(&self, request: &Request) -> Result<Published> {
        let path = self.inside(self.layout.request(request.configuration))?;
        fs::show_new_record(&path, request)
    }

    /// Makes requests last.
    pub fn sync_requests(&self, ids: impl IntoIterator<Item = ConfigurationId>) -> Result<()> {
        self.sync_shards(layout::REQUESTS, ids)
    }

    /// Answers a request. Requests and results lead to the same answer again, should it be lost.
    ///
    /// # Errors
    /// Its values are none of the space, so that no program would read it.
    pub fn propose(&self, proposal: &Proposal) -> Result<Published> {
        let path = self.inside(self.layout.configuration(proposal.configuration))?;
        let unwritable = |invalid: Invalid| Error::Unwritable {
            path: path.clone(),
            format: Proposal::FORMAT,
            source: invalid.within("values").into(),
        };
        let space = &self.search.space;
        let typed = space.check_configuration(&proposal.values);
        let typed = typed.map_err(unwritable)?;
        if typed != proposal.values {
            let expected = "values of the types that the space has";
            return Err(unwritable(Invalid::new("", expected, "others")));
        }
        fs::show_new_record(&path, proposal)
    }

    /// How often this very answer has been set aside: a corrupt file is another one, so somebody refuses it as it is.
    pub fn times_set_aside(&self, proposal: &Proposal) -> Result<usize> {
        let path = self.layout.configuration(proposal.configuration);
        let name = self.name_aside(&path);
        let folder = self.layout.path(layout::ASIDE);
        let bytes = format::to_publish(&path, proposal)?;
        let mut times = 0;
        for other in fs::list(&folder)? {
            let is_named_so = other.rsplit_once('.').is_some_and(|(of, _)| of == name);
            // A pipe, or what is too large, is something else that stood in its place.
            let is_the_same = || {
                let read = fs::read_if_there(&folder.join(&other));
                read.is_ok_and(|read| read.as_ref() == Some(&bytes))
            };
            if is_named_so && is_the_same() {
                times += 1;
            }
        }
        Ok(times)
    }

    /// The request for a configuration, if there is one. A corrupt one is set aside, so that it is written again.
    pub fn read_request(&self, id: ConfigurationId) -> Result<Option<Request>> {
        self.read_or_set_aside(self.layout.request(id), |request: &Request| {
            request.configuration == id
        })
    }

    /// A configuration, if it is proposed. A corrupt one is set aside, so that it is proposed again.
    pub fn read_proposal(&self, id: ConfigurationId) -> Result<Option<Proposal>> {
        self.read_or_set_aside(self.layout.configuration(id), |proposal: &Proposal| {
            proposal.configuration == id
                && self
                    .search
                    .space
                    .check_configuration(&proposal.values)
                    .as_ref()
                    == Ok(&proposal.values)
        })
    }

    /// Ids of the records of one kind in one shard, ascending; foreign files are set aside.
    pub fn list_shard<T: std::str::FromStr + Ord>(&self, kind: &str, shard: u32) -> Result<Vec<T>> {
        self.list_ids(&self.layout.shard(kind, shard))
    }

    /// Numbers of the shards of one kind, ascending.
    pub fn shards(&self, kind: &str) -> Result<Vec<u32>> {
        let mut shards: Vec<u32> = fs::list(&self.layout.path(kind))?
            .iter()
            .filter_map(|name| layout::shard_in(name))
            .collect();
        shards.sort_unstable();
        Ok(shards)
    }

    // ---- jobs ----

    /// Offers a job: the first attempt's ticket. A job without ticket, claim and result is offered again.
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
        self.read_or_set_aside(self.layout.open(attempt), |job: &Job| {
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
        let job = self.read_or_set_aside(path.clone(), |job: &Job| {
            job.job == attempt.job && self.is_of_this_search(job)
        })?;
        let Some(job) = job else { return Ok(None) };
        if self.has_result(job.result())? {
            // A second ticket of a finished job: two schedulers offered it, or it was taken back too early.
            fs::remove(&path)?;
            return Ok(None);
        }
        let claimed: Vec<Claim> = self.list_ids(&self.layout.path(layout::CLAIMED))?;
        if claimed
            .iter()
            .any(|other| other.attempt.job == attempt.job && *other != claim)
        {
            // A second ticket of a job in somebody's hands: two schedulers offered it. Should both holders withdraw,
            // the scheduler misses the job and offers it again.
            fs::remove(&path)?;
            return Ok(None);
        }
        Ok(Some((claim, job)))
    }

    /// Whether a job has a budget of this search: with another one it might never end.
    fn is_of_this_search(&self, job: &Job) -> bool {
        let ladder = self.search.ladder;
        job.search == self.search.digest
            && job.job.rung <= ladder.top()
            && job.budget == ladder.budget(job.job.rung)
    }

    /// The job file of a claim, if it is still there.
    pub fn read_claimed(&self, claim: &Claim) -> Result<Option<Job>> {
        self.read_or_set_aside(self.layout.claimed(claim), |job: &Job| {
            job.job == claim.attempt.job
        })
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

    /// Makes results last before anything that lasts is said of them.
    pub fn sync_results(&self, ids: impl IntoIterator<Item = ConfigurationId>) -> Result<()> {
        self.sync_shards(layout::RESULTS, ids)
    }

    fn sync_shards(
        &self,
        kind: &str,
        ids: impl IntoIterator<Item = ConfigurationId>,
    ) -> Result<()> {
        let shards: BTreeSet<u32> = ids.into_iter().map(ConfigurationId::shard).collect();
        for shard in shards {
            fs::sync_folder(&self.layout.shard(kind, shard))?;
        }
        Ok(())
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

    /// Removes a ticket, of a job that has its result or is to be offered differently; whether it was there.
    pub fn drop_ticket(&self, attempt: AttemptId) -> Result<bool> {
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
            let end = self.read_or_set_aside(self.layout.attempt(&claim), |end: &AttemptEnd| {
                end.claim == claim
            });
            ends.extend(end?);
        }
        Ok(ends)
    }

    // ---- results ----

    /// Whether there is this result.
    pub fn has_result(&self, result: impl Into<ResultId>) -> Result<bool> {
        fs::is_there(&self.layout.result(result))
    }

    /// A result, if there is one: the first one of a job, or one that took its place. A corrupt one is set aside, so that
    /// the job is done again.
    pub fn read_result(&self, result: impl Into<ResultId>) -> Result<Option<JobResult>> {
        let id = result.into();
        self.read_or_set_aside(self.layout.result(id), |result: &JobResult| {
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

    /// Says that an attempt's outcome no longer counts, so that its job is done again.
    pub fn retry(&self, retry: &Retry) -> Result<Published> {
        let path = self.inside(self.layout.retry(retry.supersedes))?;
        fs::publish_record(&path, retry)
    }

    /// Why an attempt's outcome no longer counts, if that has been said. A corrupt record is set aside.
    pub fn read_retry(&self, superseded: AttemptId) -> Result<Option<Retry>> {
        self.read_or_set_aside(self.layout.retry(superseded), |retry: &Retry| {
            retry.supersedes == superseded
        })
    }

    // ---- trainers ----

    /// Shows that a trainer lives.
    pub fn beat(&self, heartbeat: &Heartbeat) -> Result<()> {
        fs::show_record(&self.layout.heartbeat(&heartbeat.owner), heartbeat)
    }

    /// Every trainer that ever was, ascending.
    pub fn owners(&self) -> Result<Vec<OwnerId>> {
        self.list_ids(&self.layout.path(layout::TRAINERS))
    }

    /// The newest heartbeat of every trainer that ever was, by owner.
    pub fn heartbeats(&self) -> Result<BTreeMap<OwnerId, Heartbeat>> {
        let owners = self.owners()?;
        let mut heartbeats = BTreeMap::new();
        for owner in owners {
            if let Some(heartbeat) = self.read_heartbeat(&owner)? {
                heartbeats.insert(owner, heartbeat);
            }
        }
        Ok(heartbeats)
    }

    /// A trainer's newest heartbeat.
    pub fn read_heartbeat(&self, owner: &OwnerId) -> Result<Option<Heartbeat>> {
        self.read_or_set_aside(self.layout.heartbeat(owner), |beat: &Heartbeat| {
            beat.owner == *owner
        })
    }

    /// What a scheduler of this host saw last, if one has left word. A corrupt one is set aside.
    pub fn read_observation(&self) -> Result<Option<Observation>> {
        let host = host_name();
        self.read_or_set_aside(
            self.layout.observation(&host),
            |observation: &Observation| observation.host == host,
        )
    }

    /// Leaves word for the next scheduler of this host.
    pub fn leave_observation(&self, observation: &Observation) -> Result<()> {
        let path = self.inside(self.layout.observation(&observation.host))?;
        fs::replace_record(&path, observation)
    }

    // ---- checkpoints ----

    /// Saves a checkpoint of a claimed job. Each attempt has a file of its own, so no two processes write one.
    pub fn save_checkpoint(&self, claim: &Claim, bytes: &[u8]) -> Result<()> {
        fs::replace(&self.inside(self.layout.checkpoint(claim))?, bytes)
    }

    /// Checkpoints of a configuration, latest rung and attempt first.
    pub fn checkpoints(&self, id: ConfigurationId) -> Result<Vec<Claim>> {
        let names = fs::list(&self.inside(self.layout.checkpoints(id))?)?;
        let mut claims: Vec<Claim> = names
            .iter()
            .filter_map(|name| layout::claim_of_checkpoint(name))
            .filter(|claim| claim.attempt.job.configuration == id)
            .collect();
        claims.sort_by(|a, b| b.cmp(a));
        Ok(claims)
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
        for claim in self.checkpoints(id)? {
            if claim.attempt.job.rung < below {
                fs::remove(&self.layout.checkpoint(&claim))?;
            }
        }
        let names = fs::list(&self.layout.checkpoints(id))?;
        for rung in 0..below {
            let scratch = crate::search::Promotion::Scratch;
            let folder = self.layout.program_checkpoints(id.job(rung), scratch);
            if folder
                .file_name()
                .is_some_and(|name| names.iter().any(|other| name == other.as_str()))
            {
                fs::remove_folder(&folder)?;
            }
        }
        Ok(())
    }

    /// Bytes in all checkpoints, those of outside programs included.
    pub fn checkpoint_bytes(&self) -> Result<u64> {
        fs::tree_bytes(&self.layout.path(layout::CHECKPOINTS))
    }

    // ---- the whole search ----

    /// Asks all programs to leave.
    pub fn stop(&self, reason: &str) -> Result<Published> {
        fs::publish_new(
            &self.layout.path(layout::STOP),
            format!("{reason}\n").as_bytes(),
        )
    }

    /// Takes the wish to stop back, so that the search can go on; whether there was one.
    pub fn unstop(&self) -> Result<bool> {
        fs::remove(&self.layout.path(layout::STOP))
    }

    /// What the top folder says: whether the search is to stop, and whether it is finished. One listing.
    pub fn signs(&self) -> Result<Signs> {
        let names = fs::list_named(self.layout.root())?;
        let has = |name: &str| names.iter().any(|n| n == name);
        Ok(Signs {
            is_stopped: has(layout::STOP),
            is_finished: has(layout::FINISHED),
        })
    }

    /// What was said when the search was finished, if it is.
    pub fn read_finished(&self) -> Result<Option<Finished>> {
        self.read_or_set_aside(self.layout.path(layout::FINISHED), |_: &Finished| true)
    }

    /// Takes back that the search is finished where its last word takes no account of a retry, or of as many
    /// configurations as there are to be; whether it did.
    ///
    /// That word alone tells: what a program knows of the search itself may be older.
    pub fn reopen(&self, configurations: u32) -> Result<bool> {
        let Some(finished) = self.read_finished()? else {
            return Ok(false);
        };
        let mut retries = 0;
        for shard in self.shards(layout::RETRIES)? {
            let listed: Vec<AttemptId> = self.list_shard(layout::RETRIES, shard)?;
            retries += listed.len() as u64;
        }
        let is_all =
            finished.retries >= retries && finished.configurations >= u64::from(configurations);
        if is_all {
            return Ok(false);
        }
        fs::remove(&self.layout.path(layout::FINISHED))
    }

    /// Adds to the limit of the search, whoever else does so at the same time.
    pub fn extend(&self, extension: &Extension) -> Result<ExtensionId> {
        let listed: Vec<ExtensionId> = self.list_ids(&self.layout.path(layout::EXTENSIONS))?;
        let mut id = ExtensionId(listed.last().map_or(1, |last| last.0 + 1));
        loop {
            let path = self.inside(self.layout.extension(id))?;
            if fs::publish_record(&path, extension)? == Published::New {
                return Ok(id);
            }
            id.0 += 1;
        }
    }

    /// What was added to the limit of the search, by number. A corrupt record is set aside.
    pub fn extensions(&self) -> Result<BTreeMap<ExtensionId, Extension>> {
        let mut extensions = BTreeMap::new();
        for id in self.list_ids::<ExtensionId>(&self.layout.path(layout::EXTENSIONS))? {
            let read = self.read_or_set_aside(self.layout.extension(id), |_: &Extension| true)?;
            extensions.extend(read.map(|extension| (id, extension)));
        }
        Ok(extensions)
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

    /// Says that the search is finished.
    pub fn finish_search(&self, finished: &Finished) -> Result<Published> {
        fs::publish_record(&self.layout.path(layout::FINISHED), finished)
    }

    /// Moves a corrupt or foreign file to `aside/`, with a line in the log. Nothing is ever deleted.
    pub fn set_aside(&self, path: &Path, why: &dyn std::fmt::Display) -> Result<()> {
        if self.is_observer {
            warn!("cannot use `{}`: {why}", path.display());
            return Ok(());
        }
        let name = self.name_aside(path);
        let to = self
            .layout
            .path(layout::ASIDE)
            .join(format!("{name}.{}", unique_suffix()));
        fs::make_folder(&self.layout.path(layout::ASIDE))?;
        if fs::move_to(path, &to)? == Moved::Done {
            warn!(
                "set aside `{}` as `{}`: {why}",
                path.display(),
                to.display()
            );
        }
        Ok(())
    }

    /// What a file's name in `aside/` begins with.
    fn name_aside(&self, path: &Path) -> String {
        let relative = path.strip_prefix(self.layout.root()).unwrap_or(path);
        // Short enough for what is put behind it: names end at 255 bytes.
        let name = relative.to_string_lossy().replace('/', "__");
        name.chars().take(50).collect()
    }

    /// As [`set_aside`](Self::set_aside); a file that cannot be moved stays, since the rest must go on.
    fn try_set_aside(&self, path: &Path, why: &dyn std::fmt::Display) {
        if let Err(error) = self.set_aside(path, why) {
            warn!(
                "cannot set aside `{}` ({why}): {}",
                path.display(),
                chain(&error)
            );
        }
    }

    /// Ids in a folder's file names, ascending; files with other names are set aside.
    fn list_ids<T: std::str::FromStr + Ord>(&self, folder: &Path) -> Result<Vec<T>> {
        let mut ids = Vec::new();
        self.inside(folder.join("any"))?;
        for name in fs::list(folder)? {
            match layout::id_in(&name) {
                Some(id) => ids.push(id),
                None => {
                    self.try_set_aside(
                        &folder.join(&name),
                        &"its name is not one of this folder's",
                    );
                }
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    fn read_or_set_aside<R: Record>(
        &self,
        path: PathBuf,
        belongs_here: impl FnOnce(&R) -> bool,
    ) -> Result<Option<R>> {
        let path = &self.inside(path)?;
        let bytes = match fs::read_if_there(path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(error) if error.is_bad_file() => {
                self.set_aside(path, &chain(&error))?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        match format::from_bytes::<R>(path, &bytes) {
            Ok(record) if belongs_here(&record) => Ok(Some(record)),
            Ok(_) => {
                self.set_aside(path, &"its content belongs to another name or search")?;
                Ok(None)
            }
            Err(error) if error.is_bad_file() => {
                self.set_aside(path, &chain(&error))?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// What the top folder of a search says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Signs {
    /// Somebody asked the search to stop.
    pub is_stopped: bool,
    /// The scheduler has nothing left to do.
    pub is_finished: bool,
}

/// Removes drafts that a crash left: those that this sweeper has seen unchanged for an hour of its own clock.
#[derive(Debug, Default)]
pub struct Sweeper {
    seen: BTreeMap<PathBuf, clock::Silence<u64>>,
}

impl Sweeper {
    /// How long a draft must have been unchanged. No publication takes that long.
    pub const AGE: Duration = Duration::from_hours(1);

    /// Looks at the folders once; call it now and then.
    pub fn sweep(&mut self, folders: &[PathBuf], now: Instant) -> Result<()> {
        let mut still = BTreeMap::new();
        for folder in folders {
            for (path, size) in fs::drafts(folder)? {
                let mut silence = self
                    .seen
                    .remove(&path)
                    .unwrap_or_else(|| clock::Silence::new(size, now));
                silence.see(size, now);
                if silence.lasted(now) >= Self::AGE {
                    info!(
                        "removing the draft `{}` of a process that died",
                        path.display()
                    );
                    fs::remove(&path)?;
                } else {
                    still.insert(path, silence);
                }
            }
        }
        self.seen = still;
        Ok(())
    }
}

fn unique_suffix() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!(
        "{}-{}",
        fs::unique_text(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

/// An error and its causes on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Makes this process's owner name: host, process id, SLURM job and restart, and chance.
pub fn new_owner() -> OwnerId {
    use crate::env;
    let host = host_name();
    let pid = std::process::id().to_string();
    let mut parts = vec![host, pid];
    if let Some(slurm_job) = slurm_job() {
        parts.push(format!("s{slurm_job}"));
        parts.push(format!(
            "r{}",
            env::SLURM_RESTART_COUNT.get().unwrap_or_else(|| "0".into())
        ));
    }
    parts.push(fs::unique_text());
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    OwnerId::from_parts(&parts)
}

/// The SLURM job this process runs in, as SLURM writes it: `123` or `123_4`.
pub fn slurm_job() -> Option<String> {
    use crate::env;
    match (
        env::SLURM_ARRAY_JOB_ID.get(),
        env::SLURM_ARRAY_TASK_ID.get(),
    ) {
        (Some(array), Some(task)) => Some(format!("{array}_{task}")),
        _ => env::SLURM_JOB_ID.get(),
    }
}

/// This machine's name.
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The search of a directory, as `scheduler init` recorded it.
///
/// # Errors
/// There is none; it has been changed since; or it names a command, and nothing says that this is the recorded one.
pub fn read_search(root: &Path) -> Result<Search> {
    let layout = Layout::new(root);
    refuse_links(&layout)?;
    let path = layout.path(layout::SEARCH);
    let file: SearchFile = match fs::read_record(&path) {
        Err(error) if error.is_not_found() || root.is_file() => return Err(no_search(root)),
        other => other?,
    };
    let search = match Search::check(&file) {
        Ok(search) => search,
        Err(source) => {
            return Err(Error::Value {
                path,
                format: SearchFile::FORMAT,
                source,
            });
        }
    };
    match read_if_there::<Created>(&layout.path(layout::CREATED))? {
        Some(created) if created.search == search.digest => Ok(search),
        Some(_) => Err(Error::ChangedSearch { path }),
        // Made by a version that did not record it.
        None if matches!(search.objective, Objective::Command(_)) => {
            Err(Error::UnknownCommand { path })
        }
        None => Ok(search),
    }
}

/// A link in place of one of a search's folders would lead its programs elsewhere.
fn refuse_links(layout: &Layout) -> Result<()> {
    for name in layout::FOLDERS.iter().chain(&layout::LATER_FOLDERS) {
        let path = layout.path(name);
        if fs::what_is(&path)? == Some(What::Link) {
            return Err(Error::Link { path });
        }
    }
    Ok(())
}

fn read_if_there<R: Record>(path: &Path) -> Result<Option<R>> {
    match fs::read_record(path) {
        Err(error) if error.is_not_found() => Ok(None),
        other => Ok(Some(other?)),
    }
}

/// What is there instead of a search.
fn no_search(root: &Path) -> Error {
    let shown = root.display();
    let why = if root.is_file() {
        format!(
            "it is a file (`scheduler init {shown} DIRECTORY` makes a directory from a search file)"
        )
    } else {
        let why = if root.exists() {
            "it has no `search.json`"
        } else {
            "there is no such folder"
        };
        format!("{why} (`scheduler init SEARCH.json {shown}` makes one)")
    };
    Error::NoSearch {
        path: root.to_path_buf(),
        why,
    }
}

/// An attempt that ends now.
pub fn attempt_end(
    claim: &Claim,
    fate: Fate,
    spent: f64,
    message: impl Into<String>,
) -> AttemptEnd {
    AttemptEnd {
        claim: claim.clone(),
        fate,
        spent,
        message: message.into(),
        at: clock::now(),
    }
}
