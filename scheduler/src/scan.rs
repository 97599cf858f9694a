//! From files to [`State`]: everything that was ever written, once at the start, and after that only what can have
//! changed.
//!
//! A scan lists the open and claimed jobs and the trainers, and reads by name the proposals that were asked for and
//! the results of jobs that have left both folders. No result's name is looked up before: a network filesystem would
//! remember for up to a minute that it is not there. So a scan costs the same however long the search is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use shared::clock::{Reading, Silence};
use shared::error::{Error, Result};
use shared::format::Record as _;
use shared::fs::Published;
use shared::id::ExtensionId;
use shared::parallel::in_parallel;
use shared::record::{
    AttemptEnd, Heartbeat, Observation, ObservedClaim, ObservedTrainer, Request, TrainerState,
};
use shared::search::SearchFile;
use shared::store::JobsView;
use shared::{
    AttemptId, Claim, ConfigurationId, Directory, Fate, JobId, JobResult, OwnerId, ResultId, clock,
    fs, layout,
};
use tracing::{info, warn};

use crate::fault::{Again, Known, Living};
use crate::state::{Over, State};

/// Scans in a row in which a job must be nowhere before it is offered again.
const ABSENT_SCANS: u32 = 3;

/// A silence that need not be told from a longer one: 30 years.
const LONGEST_SILENCE: Duration = Duration::from_secs(1_000_000_000);

/// How long a new trainer may go unnoticed: their folder is not listed at every scan, as it has a file for every
/// trainer that ever was.
const TRAINERS_INTERVAL: Duration = Duration::from_millis(500);

/// Seconds by which a trainer's clock must be wrong before it is said.
const WRONG_CLOCK_S: f64 = 60.0;

/// How long a retry or an extension may go unnoticed: there are few.
const WISHES_INTERVAL: Duration = Duration::from_secs(1);

/// What one scan must remember for the next.
#[derive(Debug)]
pub struct Scanner {
    directory: Directory,
    claimed_before: BTreeSet<Claim>,
    twice_before: BTreeSet<AttemptId>,
    /// Tickets and claims of which no request or retry was seen, and since when.
    unexplained: BTreeMap<AttemptId, Instant>,
    /// Hosts whose clock was said to be wrong, and whether it is ahead.
    told_clocks: BTreeSet<(String, bool)>,
    absent: BTreeMap<JobId, Absence>,
    trainers: BTreeMap<OwnerId, Trainer>,
    /// When their folder was listed last.
    trainers_listed: Option<Instant>,
    /// Signs of life of claims: the heartbeat's counter where it names the claim. Those of a scheduler before this one
    /// are among them until the first scan.
    claims: BTreeMap<Claim, Silence<Option<u64>>>,
    /// What a scheduler before this one knew of trainers that this one has not seen yet.
    known_before: BTreeMap<OwnerId, Silence<u64>>,
    /// Tickets with high numbers that are worth another try nevertheless.
    worthy: BTreeSet<AttemptId>,
    /// Retries that were read.
    retries: BTreeSet<AttemptId>,
    /// Extensions that were read.
    extensions: BTreeSet<ExtensionId>,
    /// When retries and extensions were listed last.
    wishes_seen: Option<Instant>,
}

#[derive(Debug)]
struct Absence {
    scans: u32,
    since: Instant,
}

/// A trainer as its heartbeats show it.
#[derive(Debug, Clone)]
pub struct Trainer {
    /// The newest heartbeat.
    pub heartbeat: Heartbeat,
    /// When the first heartbeat that was read had been written, by the clock that stamps files; for people.
    pub written_s: Option<f64>,
    silence: Silence<u64>,
    /// When the heartbeat was read last.
    read: Instant,
    /// Its process has ended, as somebody who can know has said.
    is_dead: bool,
}

impl Trainer {
    /// A trainer that is seen for the first time, by this scheduler or at all.
    fn new(heartbeat: Heartbeat, before: Option<Silence<u64>>, now: Instant) -> Self {
        let mut silence = before.unwrap_or_else(|| Silence::new(heartbeat.beat, now));
        silence.see(heartbeat.beat, now);
        Self {
            silence,
            read: now,
            heartbeat,
            written_s: None,
            is_dead: false,
        }
    }

    fn see(&mut self, heartbeat: Heartbeat, now: Instant) {
        self.silence.see(heartbeat.beat, now);
        self.read = now;
        self.heartbeat = heartbeat;
    }

    /// Whether its heartbeat should be read again.
    fn is_due(&self, interval: Duration, lease: Duration, now: Instant) -> bool {
        // One that has left never comes back: a new process has a new name. One that has been silent for long may,
        // but there are many of those at the end of a long search.
        let is_old = self.silent(now) > 2 * lease;
        let interval = if is_old { lease } else { interval };
        !self.is_gone() && now.saturating_duration_since(self.read) >= interval
    }

    /// Whether it left in good order.
    pub fn is_gone(&self) -> bool {
        self.heartbeat.state == TrainerState::Gone
    }

    /// How long its heartbeat has not changed.
    pub fn silent(&self, now: Instant) -> Duration {
        self.silence.lasted(now)
    }

    /// Whether it counts as living. One that was just seen for the first time does.
    pub fn lives(&self, lease: Duration, now: Instant) -> bool {
        !self.is_gone() && !self.is_dead && self.silent(now) < lease
    }
}

impl Scanner {
    /// Reads all that was written so far.
    pub fn load(directory: Directory) -> Result<(Self, State)> {
        let mut state = State::new(directory.search()).map_err(|source| Error::Value {
            path: directory.layout().path(layout::SEARCH),
            format: SearchFile::FORMAT,
            source: source.into(),
        })?;
        let mut scanner = Self {
            directory,
            claimed_before: BTreeSet::new(),
            twice_before: BTreeSet::new(),
            unexplained: BTreeMap::new(),
            told_clocks: BTreeSet::new(),
            absent: BTreeMap::new(),
            trainers: BTreeMap::new(),
            trainers_listed: None,
            claims: BTreeMap::new(),
            known_before: BTreeMap::new(),
            worthy: BTreeSet::new(),
            retries: BTreeSet::new(),
            extensions: BTreeSet::new(),
            wishes_seen: None,
        };
        scanner.resume(clock::instant())?;
        // Jobs first: one that ends while the rest is read has its result there already, or is looked for later.
        let view = scanner.directory.jobs()?;
        scanner.see_extensions(&mut state)?;
        scanner.load_requests(&mut state)?;
        scanner.see_retries(&mut state)?;
        scanner.load_results(&mut state)?;
        let claimed = view.claimed.iter().map(|claim| &claim.attempt);
        for attempt in view.open.iter().chain(claimed) {
            if state.expects(attempt.job) && !state.is_spent(*attempt) {
                state.see_attempt(*attempt);
            }
        }
        scanner.load_attempts(&mut state)?;
        scanner.load_checkpoints(&mut state)?;
        scanner.reopen(&state)?;
        Ok((scanner, state))
    }

    /// The directory.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Trainers whose heartbeats were read, by owner.
    pub fn trainers(&self) -> &BTreeMap<OwnerId, Trainer> {
        &self.trainers
    }

    /// Seconds that trainers which have not left have, where their time is limited.
    pub fn times_left_s(&self) -> impl Iterator<Item = Option<f64>> + '_ {
        let here = self.trainers.values().filter(|trainer| !trainer.is_gone());
        here.map(|trainer| trainer.heartbeat.time_left_s)
    }

    /// Brings the state up to date.
    pub fn scan(&mut self, state: &mut State, now: Instant) -> Result<()> {
        state.signs = self.directory.signs()?;
        let is_listed = self
            .wishes_seen
            .is_some_and(|at| now.saturating_duration_since(at) < WISHES_INTERVAL);
        let view = self.directory.jobs()?;
        // A job that seems to be none of this search, or to have its result, may be one that was wished for meanwhile: what
        // was listed after it tells.
        let mut attempts = view
            .open
            .iter()
            .chain(view.claimed.iter().map(|claim| &claim.attempt));
        let is_strange =
            attempts.any(|attempt| !state.expects(attempt.job) || state.is_spent(*attempt));
        if !is_listed || is_strange {
            self.see_wishes(state)?;
            self.wishes_seen = Some(now);
        }
        self.see_jobs(state, &view, now)?;
        self.see_departed(state, &view, now)?;
        self.see_proposals(state)?;
        if !state.doubtful.is_empty() {
            // Whether somebody else may do better is decided by who lives now.
            self.trainers_listed = None;
        }
        self.see_trainers(state, now)?;
        self.see_claims(state, &view, now)?;
        self.see_hopeless_tickets(state, &view)?;
        self.claimed_before = view.claimed;
        Ok(())
    }

    /// Whether some job has left both folders and its result is not there: look again soon.
    pub fn is_searching(&self) -> bool {
        !self.absent.is_empty()
    }

    /// Goes on timing where a scheduler before this one left word.
    fn resume(&mut self, now: Instant) -> Result<()> {
        let Some(observation) = self.directory.read_observation()? else {
            return Ok(());
        };
        let Some(reading) = Reading::now() else {
            return Ok(());
        };
        let since = reading.since(&observation.reading).min(LONGEST_SILENCE);
        let silent = |seconds: f64| {
            let longest = LONGEST_SILENCE.as_secs_f64();
            since + Duration::from_secs_f64(seconds.clamp(0.0, longest))
        };
        for seen in observation.trainers {
            let silence = Silence::resumed(seen.beat, silent(seen.silent_s), now);
            self.known_before.insert(seen.owner, silence);
        }
        for seen in observation.claims {
            let silence = Silence::resumed(seen.beat, silent(seen.silent_s), now);
            self.claims.insert(seen.claim, silence);
        }
        Ok(())
    }

    /// What the next scheduler of this host should know; `None` where processes cannot compare their clocks.
    pub fn observation(&self, now: Instant) -> Option<Observation> {
        let trainers = self
            .trainers
            .iter()
            .filter(|(_, trainer)| !trainer.is_gone());
        Some(Observation {
            host: shared::store::host_name(),
            reading: Reading::now()?,
            trainers: trainers
                .map(|(owner, trainer)| ObservedTrainer {
                    owner: owner.clone(),
                    beat: trainer.heartbeat.beat,
                    silent_s: trainer.silent(now).as_secs_f64(),
                })
                .collect(),
            claims: self
                .claims
                .iter()
                .map(|(claim, silence)| ObservedClaim {
                    claim: claim.clone(),
                    beat: *silence.value(),
                    silent_s: silence.lasted(now).as_secs_f64(),
                })
                .collect(),
        })
    }

    /// Takes note that a process of this machine has ended, so that its claims need not wait for the lease.
    pub fn report_dead(&mut self, process: u32, now: Instant) -> Result<()> {
        let host = shared::store::host_name();
        for owner in self.directory.owners()? {
            if self.trainers.contains_key(&owner) {
                continue;
            }
            if let Some(heartbeat) = self.directory.read_heartbeat(&owner)? {
                let before = self.known_before.remove(&owner);
                self.trainers
                    .insert(owner, Trainer::new(heartbeat, before, now));
            }
        }
        for trainer in self.trainers.values_mut() {
            let beat = &trainer.heartbeat;
            if beat.pid == process && beat.host == host {
                trainer.is_dead = true;
            }
        }
        Ok(())
    }

    fn load_requests(&self, state: &mut State) -> Result<()> {
        let shards = self.directory.shards(layout::REQUESTS)?;
        let mut named = BTreeMap::new();
        for requests in in_parallel(&shards, |shard| self.requests_of(*shard))? {
            named.extend(requests);
        }
        let Some(last) = named.last_key_value().map(|(id, _)| *id) else {
            return Ok(());
        };
        while state.num_requested <= last.0 && state.num_requested < state.table().total() {
            let id = ConfigurationId(state.num_requested);
            match named.remove(&id).flatten() {
                Some(request) => state.see_request(&request),
                None => self.read_requests(state, id)?,
            }
        }
        Ok(())
    }

    /// The requests of a shard; none for a corrupt one.
    fn requests_of(&self, shard: u32) -> Result<Vec<(ConfigurationId, Option<Request>)>> {
        let ids: Vec<ConfigurationId> = self.directory.list_shard(layout::REQUESTS, shard)?;
        let read = |id| Ok((id, self.directory.read_request(id)?));
        ids.into_iter().map(read).collect()
    }

    /// Reads the requests up to one that is known to be there.
    fn read_requests(&self, state: &mut State, last: ConfigurationId) -> Result<()> {
        while state.num_requested <= last.0 && state.num_requested < state.table().total() {
            let id = ConfigurationId(state.num_requested);
            let request = match self.directory.read_request(id)? {
                Some(request) => request,
                None => self.replace_request(state, id)?,
            };
            state.see_request(&request);
        }
        Ok(())
    }

    /// Writes a request again that was corrupt. The results it named are named by the next one.
    fn replace_request(&self, state: &State, id: ConfigurationId) -> Result<Request> {
        let place = state.table().place(id);
        let request = Request {
            configuration: id,
            bracket: place.bracket,
            rung: place.rung,
            finished: Vec::new(),
            pending: Vec::new(),
            superseding: Vec::new(),
        };
        warn!("request {id} is missing and is written again");
        if self.directory.is_observer() {
            return Ok(request);
        }
        let published = self.directory.request(&request)?;
        self.directory.sync_requests([id])?;
        if published == Published::New {
            return Ok(request);
        }
        // Another scheduler was faster.
        Ok(self.directory.read_request(id)?.unwrap_or(request))
    }

    /// Reads what somebody wishes beyond the search file: retries and extensions.
    pub fn see_wishes(&mut self, state: &mut State) -> Result<()> {
        self.see_extensions(state)?;
        self.see_retries(state)
    }

    fn see_extensions(&mut self, state: &mut State) -> Result<()> {
        for (id, extension) in self.directory.extensions()? {
            if self.extensions.insert(id)
                && let Err(invalid) = state.extend(extension.limit)
            {
                let path = self.directory.layout().extension(id);
                self.directory.set_aside(&path, &invalid)?;
            }
        }
        Ok(())
    }

    /// Reads what was said of outcomes that no longer count.
    fn see_retries(&mut self, state: &mut State) -> Result<()> {
        for shard in self.directory.shards(layout::RETRIES)? {
            let listed: Vec<AttemptId> = self.directory.list_shard(layout::RETRIES, shard)?;
            for superseded in listed {
                if self.retries.contains(&superseded) {
                    continue;
                }
                if let Some(retry) = self.directory.read_retry(superseded)? {
                    self.retries.insert(superseded);
                    state.see_retry(Again::from(retry));
                }
            }
        }
        state.num_retries = self.retries.len() as u64;
        Ok(())
    }

    /// Takes back that the search is finished, where there is more to do; whether it did.
    pub fn reopen(&self, state: &State) -> Result<bool> {
        let is_reopened =
            !self.directory.is_observer() && self.directory.reopen(state.table().total())?;
        if is_reopened {
            info!("the search was finished; it goes on, since there is more to do");
        }
        Ok(is_reopened)
    }

    fn load_results(&self, state: &mut State) -> Result<()> {
        let shards = self.directory.shards(layout::RESULTS)?;
        for results in in_parallel(&shards, |shard| self.results_of(*shard))? {
            for known in results {
                state.see_result(known);
            }
        }
        Ok(())
    }

    fn results_of(&self, shard: u32) -> Result<Vec<Known>> {
        let ids: Vec<ResultId> = self.directory.list_shard(layout::RESULTS, shard)?;
        let read = |id| Ok(self.directory.read_result(id)?.as_ref().map(Known::from));
        ids.into_iter()
            .filter_map(|id| read(id).transpose())
            .collect()
    }

    /// The numbers of attempts that have ended, so that a job whose ticket was lost gets a new number.
    fn load_attempts(&self, state: &mut State) -> Result<()> {
        for shard in self.directory.shards(layout::ATTEMPTS)? {
            for claim in self
                .directory
                .list_shard::<Claim>(layout::ATTEMPTS, shard)?
            {
                state.see_ended(claim.attempt);
            }
        }
        Ok(())
    }

    /// Checkpoints that became useless while no scheduler ran.
    fn load_checkpoints(&self, state: &mut State) -> Result<()> {
        let kept = self.directory.checkpointed()?;
        // What is not there needs no removal.
        let spent = std::mem::take(&mut state.spent_checkpoints);
        for (id, below) in spent.into_iter().filter(|(id, _)| kept.contains(id)) {
            let is_spent = match below {
                None => true,
                Some(below) => {
                    let claims = self.directory.checkpoints(id)?;
                    claims.iter().any(|claim| claim.attempt.job.rung < below)
                }
            };
            if is_spent {
                state.spent_checkpoints.insert(id, below);
            }
        }
        Ok(())
    }

    fn see_jobs(&mut self, state: &mut State, view: &JobsView, now: Instant) -> Result<()> {
        state.spent_claims.clear();
        state.spent_tickets.clear();
        state.open.clear();
        let newest = view.jobs().last().map(|job| job.configuration);
        if let Some(newest) = newest.filter(|id| id.0 >= state.num_requested) {
            // Another scheduler is further; or it is no job of this search.
            self.load_requests_up_to(state, newest)?;
        }
        let claimed: BTreeSet<AttemptId> = view.claimed.iter().map(|c| c.attempt).collect();
        let mut twice = BTreeSet::new();
        let unexplained_before = std::mem::take(&mut self.unexplained);
        let since = |attempt: &AttemptId| unexplained_before.get(attempt).copied().unwrap_or(now);
        for attempt in &view.open {
            if !state.expects(attempt.job) {
                self.see_unexpected(state, *attempt, since(attempt), now)?;
            } else if state.is_spent(*attempt) {
                if self.is_surely_spent(state, *attempt, since(attempt), now) {
                    state.spent_tickets.insert(*attempt);
                }
            } else {
                state.see_attempt(*attempt);
                state.open.insert(*attempt);
                if claimed.contains(attempt) {
                    twice.insert(*attempt);
                }
            }
        }
        for claim in &view.claimed {
            let attempt = claim.attempt;
            if state.expects(attempt.job) {
                if !state.is_spent(attempt) {
                    state.see_attempt(attempt);
                } else if self.is_surely_spent(state, attempt, since(&attempt), now) {
                    state.spent_claims.insert(claim.clone());
                }
            }
        }
        state
            .left_to
            .retain(|attempt, _| view.open.contains(attempt));
        // Open and claimed in two looks: two schedulers offered it, and only one ticket was taken. In one look it may
        // have been claimed between the two listings.
        let doubled = twice.intersection(&self.twice_before).copied();
        state.spent_tickets.extend(doubled);
        self.twice_before = twice;
        Ok(())
    }

    /// Whether nobody can need a spent attempt any more: no retry has shown itself that explains it.
    fn is_surely_spent(
        &mut self,
        state: &State,
        attempt: AttemptId,
        since: Instant,
        now: Instant,
    ) -> bool {
        let lasted = now.saturating_duration_since(since);
        let is_unexplained = state.may_be_a_retry(attempt) && lasted < self.patience();
        if is_unexplained {
            self.unexplained.insert(attempt, since);
        }
        !is_unexplained
    }

    /// A ticket of no job that is known: not this search's, or another scheduler's, whose request is in no listing that
    /// this host has been shown so far.
    fn see_unexpected(
        &mut self,
        state: &State,
        attempt: AttemptId,
        since: Instant,
        now: Instant,
    ) -> Result<()> {
        let lasted = now.saturating_duration_since(since);
        if state.may_expect(attempt.job) && lasted < self.patience() {
            self.unexplained.insert(attempt, since);
            return Ok(());
        }
        let path = self.directory.layout().open(attempt);
        self.directory
            .set_aside(&path, &"it is no job of this search")
    }

    fn load_requests_up_to(&self, state: &mut State, newest: ConfigurationId) -> Result<()> {
        let ids: Vec<ConfigurationId> = self
            .directory
            .list_shard(layout::REQUESTS, newest.shard())?;
        match ids.iter().rev().find(|id| **id <= newest) {
            Some(last) => self.read_requests(state, *last),
            None => Ok(()),
        }
    }

    /// Looks for results of jobs that have left both folders, and of jobs that have lost a claim.
    fn see_departed(&mut self, state: &mut State, view: &JobsView, now: Instant) -> Result<()> {
        let here = view.jobs();
        let departed: Vec<JobId> = state
            .pending
            .keys()
            .filter(|job| !here.contains(job))
            .copied()
            .collect();
        let is_open = |job: JobId| {
            view.open
                .range(job.attempt(0)..=job.attempt(u32::MAX))
                .next()
                .is_some()
        };
        let disclaimed: BTreeSet<JobId> = self
            .claimed_before
            .difference(&view.claimed)
            .map(|claim| claim.attempt.job)
            .filter(|job| here.contains(job) && !is_open(*job) && state.pending.contains_key(job))
            .collect();
        for job in disclaimed {
            if let Some(result) = self.find_result(state.next_result(job))? {
                state.see_result(Known::from(&result));
            }
        }
        self.absent
            .retain(|job, _| departed.binary_search(job).is_ok());
        for job in departed {
            let id = state.next_result(job);
            let found = match self.directory.read_result(id)? {
                None if self.directory.is_network() => self.find_result(id)?,
                other => other,
            };
            if let Some(result) = found {
                self.absent.remove(&job);
                state.see_result(Known::from(&result));
                continue;
            }
            if state
                .pending
                .get(&job)
                .is_none_or(|pending| pending.is_missing)
            {
                // It is to be offered as soon as jobs are.
                self.absent.remove(&job);
                continue;
            }
            let absence = self.absent.entry(job).or_insert(Absence {
                scans: 0,
                since: now,
            });
            absence.scans += 1;
            let lasted = now.saturating_duration_since(absence.since);
            if absence.scans >= ABSENT_SCANS && lasted >= self.patience() {
                warn!("{job} has no ticket, claim or result and is offered again");
                self.absent.remove(&job);
                state.miss(job);
            }
        }
        Ok(())
    }

    /// How long a file that was renamed may be seen nowhere.
    fn patience(&self) -> Duration {
        // Attributes of a network filesystem are cached for up to 60 s.
        Duration::from_secs(if self.directory.is_network() { 65 } else { 2 })
    }

    /// A result, without asking for a name that may not be there yet.
    fn find_result(&self, id: ResultId) -> Result<Option<JobResult>> {
        if self.directory.is_network() {
            let shard = id.job.configuration.shard();
            let ids: Vec<ResultId> = self.directory.list_shard(layout::RESULTS, shard)?;
            if ids.binary_search(&id).is_err() {
                return Ok(None);
            }
        }
        self.directory.read_result(id)
    }

    fn see_proposals(&self, state: &mut State) -> Result<()> {
        let mut awaited: Vec<ConfigurationId> = state.awaited.iter().copied().collect();
        if self.directory.is_network() {
            let shards: BTreeSet<u32> = awaited.iter().map(|id| id.shard()).collect();
            let mut there: BTreeSet<ConfigurationId> = BTreeSet::new();
            for shard in shards {
                there.extend(
                    self.directory
                        .list_shard::<ConfigurationId>(layout::CONFIGURATIONS, shard)?,
                );
            }
            awaited.retain(|id| there.contains(id));
        }
        for id in awaited {
            if let Some(proposal) = self.directory.read_proposal(id)? {
                state.see_proposal(id, proposal.values);
            }
        }
        Ok(())
    }

    fn see_trainers(&mut self, state: &mut State, now: Instant) -> Result<()> {
        let lease = self.directory.lease();
        let half_beat = Duration::from_secs_f64(self.directory.search().trainers.heartbeat_s / 2.0);
        let interval = reading_interval(half_beat, lease);
        let is_listed = self
            .trainers_listed
            .is_some_and(|at| now.saturating_duration_since(at) < TRAINERS_INTERVAL.min(half_beat));
        if !is_listed {
            for owner in self.directory.owners()? {
                if !self.trainers.contains_key(&owner)
                    && let Some(heartbeat) = self.directory.read_heartbeat(&owner)?
                {
                    // A heartbeat that is gone or cannot be read at this moment says nothing.
                    let written_s = fs::written_s(&self.directory.layout().heartbeat(&owner))
                        .ok()
                        .flatten();
                    self.tell_wrong_clock(&heartbeat, written_s);
                    let before = self.known_before.remove(&owner);
                    let mut trainer = Trainer::new(heartbeat, before, now);
                    trainer.written_s = written_s;
                    self.trainers.insert(owner, trainer);
                }
            }
            self.trainers_listed = Some(now);
        }
        for (owner, trainer) in &mut self.trainers {
            if !trainer.is_due(interval, lease, now) {
                continue;
            }
            match self.directory.read_heartbeat(owner)? {
                Some(heartbeat) => trainer.see(heartbeat, now),
                // Removed by hand.
                None => trainer.read = now,
            }
        }
        let living = self
            .trainers
            .iter()
            .filter(|(_, trainer)| trainer.lives(lease, now));
        state.faults.living = living
            .map(|(owner, trainer)| {
                let beat = &trainer.heartbeat;
                let living = Living {
                    host: beat.host.clone(),
                    memory_mib: beat.training_memory_mib(),
                };
                (owner.clone(), living)
            })
            .collect();
        state.num_trainers = u32::try_from(state.faults.living.len()).unwrap_or(u32::MAX); // fewer by far
        for trainer in self.trainers.values() {
            let beat = &trainer.heartbeat;
            if matches!(beat.state, TrainerState::Working { spent, .. } if spent > 0.0) {
                state.faults.see_progress(&beat.host);
            }
        }
        Ok(())
    }

    /// Says that the clock of a trainer's host is wrong: nothing is decided by it, but it stamps results for people.
    fn tell_wrong_clock(&mut self, beat: &Heartbeat, written_s: Option<f64>) {
        let Some((stamped, written)) = clock::parse(&beat.at).zip(written_s) else {
            return;
        };
        let ahead = stamped - written;
        // The file may be a heartbeat younger than the stamp that was read.
        let beat_s = self.directory.search().trainers.heartbeat_s;
        let longest_s = beat_s * f64::from(self.directory.waiting_writes_one_of());
        // The beat of a trainer that has left may be of a copied search; and a host is told of once.
        let is_wrong = ahead.abs() > WRONG_CLOCK_S + longest_s && beat.state != TrainerState::Gone;
        if is_wrong && self.told_clocks.insert((beat.host.clone(), ahead > 0.0)) {
            warn!(
                "the clock of host {} is {:.0} min {} that of the files: no decision depends on it, but the times in \
                 its results are off",
                beat.host,
                ahead.abs() / 60.0,
                if ahead > 0.0 { "ahead of" } else { "behind" }
            );
        }
    }

    /// Finds claims whose owners show no sign of working on them for longer than the lease.
    fn see_claims(&mut self, state: &mut State, view: &JobsView, now: Instant) -> Result<()> {
        state.over.clear();
        let lease = self.directory.lease();
        let mut before = std::mem::take(&mut self.claims);
        for claim in &view.claimed {
            let job = claim.attempt.job;
            if !state.expects(job) || state.is_spent(claim.attempt) {
                continue;
            }
            let trainer = self.trainers.get(&claim.owner);
            let sign = trainer.and_then(|trainer| match &trainer.heartbeat.state {
                TrainerState::Working { claim: working, .. } if working == claim => {
                    Some(trainer.heartbeat.beat)
                }
                TrainerState::Working { .. } | TrainerState::Waiting | TrainerState::Gone => None,
            });
            let mut silence = before
                .remove(claim)
                .unwrap_or_else(|| Silence::new(sign, now));
            // Other words of the owner are no sign that it works on this.
            if sign.is_some() {
                silence.see(sign, now);
            }
            let is_over = silence.lasted(now) >= lease || trainer.is_some_and(|t| t.is_dead);
            self.claims.insert(claim.clone(), silence);
            if is_over {
                self.judge(state, claim)?;
            }
        }
        Ok(())
    }

    /// Decides what a silent owner's claim has come to.
    fn judge(&self, state: &mut State, claim: &Claim) -> Result<()> {
        let job = claim.attempt.job;
        // It may have died between publishing the result and dropping the claim.
        if let Some(result) = self.find_result(state.next_result(job))? {
            state.see_result(Known::from(&result));
            state.spent_claims.insert(claim.clone());
            return Ok(());
        }
        let ends = self.directory.attempt_ends(job)?;
        let best = best_spent(&ends);
        let saved = self.directory.checkpoints(job.configuration)?;
        let has_saved = saved.contains(claim);
        let heard =
            self.trainers
                .get(&claim.owner)
                .and_then(|trainer| match &trainer.heartbeat.state {
                    TrainerState::Working {
                        claim: working,
                        spent,
                    } if working == claim => Some(*spent),
                    TrainerState::Working { .. } | TrainerState::Waiting | TrainerState::Gone => {
                        None
                    }
                });
        let over = Over {
            claim: Some(claim.clone()),
            // Without a checkpoint of its own the next attempt starts where this one did.
            spent: if has_saved {
                heard.unwrap_or(best).max(best)
            } else {
                best
            },
            without_progress: if has_saved {
                0
            } else {
                num_without_progress(&ends, &saved) + 1
            },
            fate: Fate::NodeLost,
        };
        info!(
            "the owner of {claim} shows no sign of life; spent={} without_progress={}",
            over.spent, over.without_progress
        );
        state.over.insert(claim.attempt, over);
        Ok(())
    }

    /// Finds jobs that trainers give back again and again without getting on.
    fn see_hopeless_tickets(&mut self, state: &mut State, view: &JobsView) -> Result<()> {
        let max_attempts = self.directory.search().trainers.max_attempts;
        self.worthy.retain(|attempt| view.open.contains(attempt));
        for attempt in &view.open {
            let is_high = attempt.attempt > max_attempts;
            if !is_high
                || !state.pending.contains_key(&attempt.job)
                || self.worthy.contains(attempt)
            {
                continue;
            }
            let ends = self.directory.attempt_ends(attempt.job)?;
            let saved = self.directory.checkpoints(attempt.job.configuration)?;
            let without_progress = num_without_progress(&ends, &saved);
            match ends.last() {
                Some(end) if without_progress >= max_attempts => {
                    let over = Over {
                        claim: None,
                        spent: end.spent,
                        without_progress,
                        fate: end.fate,
                    };
                    state.over.insert(*attempt, over);
                }
                _ => {
                    self.worthy.insert(*attempt);
                }
            }
        }
        Ok(())
    }
}

/// How often a heartbeat is read: twice in its own interval, so that a change is noticed in good time before the shortest
/// lease, two heartbeats; more rarely where the lease is long, since a thousand trainers are read one by one.
fn reading_interval(half_beat: Duration, lease: Duration) -> Duration {
    half_beat.max(lease / 10)
}

fn best_spent(ends: &[AttemptEnd]) -> f64 {
    ends.iter().map(|end| end.spent).fold(0.0, f64::max)
}

/// A warning that SLURM or a person gave says nothing about the job: however often it comes, the job is tried again.
fn is_machines_fault(fate: Fate) -> bool {
    match fate {
        Fate::NodeLost | Fate::DiskFull | Fate::InputOutput | Fate::DeviceFailed => true,
        Fate::Preempted | Fate::TimeLimit | Fate::Stopped => false,
    }
}

/// How many attempts in a row, up to the last, brought the job no further. Stopping the search is nobody's failure.
///
/// A trainer that gave the job back says what its checkpoint has spent. Of a trainer that vanished only the checkpoint
/// itself can tell, so one of its own (`saved`) is progress.
fn num_without_progress(ends: &[AttemptEnd], saved: &[Claim]) -> u32 {
    let mut best = 0.0;
    let mut number = 0;
    for end in ends {
        let has_saved = end.fate == Fate::NodeLost && saved.contains(&end.claim);
        if has_saved || end.spent > best {
            best = end.spent.max(best);
            number = 0;
        } else if is_machines_fault(end.fate) {
            number += 1;
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::test_search::search_file;

    #[test]
    fn a_ticket_whose_request_this_host_cannot_see_yet_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = search_file(1, 9, 3);
        let directory = Directory::create(folder.path(), &file, Path::new("search.json")).unwrap();
        let (mut scanner, mut state) = Scanner::load(directory.clone()).unwrap();
        let ticket = |id| ConfigurationId(id).job(0).attempt(1);
        let open = |id| {
            let path = directory.layout().open(ticket(id));
            fs::publish_new(&path, b"{}").unwrap();
        };
        let start = Instant::now();
        open(0);
        scanner.scan(&mut state, start).unwrap();
        assert_eq!(directory.open_jobs().unwrap(), [ticket(0)]);
        // The request shows itself.
        let request = Request {
            configuration: ConfigurationId(0),
            bracket: 0,
            rung: 0,
            finished: Vec::new(),
            pending: Vec::new(),
            superseding: Vec::new(),
        };
        directory.request(&request).unwrap();
        let later = start + Duration::from_hours(1);
        scanner.scan(&mut state, later).unwrap();
        assert!(state.pending.contains_key(&ticket(0).job));
        // A configuration that there will never be, and one whose request does not come.
        open(state.table().total());
        open(1);
        scanner.scan(&mut state, later).unwrap();
        assert_eq!(directory.open_jobs().unwrap(), [ticket(0), ticket(1)]);
        let much_later = later + Duration::from_hours(1);
        scanner.scan(&mut state, much_later).unwrap();
        assert_eq!(directory.open_jobs().unwrap(), [ticket(0)]);
    }

    #[test]
    fn whoever_lives_is_never_silent_for_a_lease_and_is_read_ten_times_in_it_at_most() {
        for (heartbeat_s, lease_s) in [(10.0, 20.0), (10.0, 55.0), (10.0, 240.0), (0.1, 3600.0)] {
            let folder = tempfile::tempdir().unwrap();
            let mut file = search_file(1, 9, 3);
            file.trainers.heartbeat_s = heartbeat_s;
            file.trainers.lease_s = Some(lease_s);
            let directory = Directory::create(folder.path(), &file, Path::new("x")).unwrap();
            let half_beat = Duration::from_secs_f64(heartbeat_s / 2.0);
            let read_s = reading_interval(half_beat, directory.lease()).as_secs_f64();
            assert!(read_s >= lease_s / 10.0);
            for written in [1, directory.waiting_writes_one_of()] {
                let seen_s = heartbeat_s * f64::from(written) + read_s;
                assert!(
                    seen_s <= 0.75 * lease_s,
                    "{heartbeat_s} {lease_s}: {seen_s}"
                );
            }
        }
    }

    #[test]
    fn progress_and_warnings_are_no_attempts_without_progress() {
        let end = |attempt: u32, spent: f64, fate: Fate| AttemptEnd {
            claim: format!("c000000-r0-a{attempt}.h").parse().unwrap(),
            fate,
            spent,
            message: String::new(),
            at: String::new(),
        };
        let mut ends = vec![end(1, 0.0, Fate::NodeLost), end(2, 0.0, Fate::Preempted)];
        assert_eq!(num_without_progress(&ends, &[]), 1);
        ends.push(end(2, 0.0, Fate::InputOutput));
        assert_eq!(num_without_progress(&ends, &[]), 2);
        ends.push(end(3, 5.0, Fate::NodeLost));
        assert_eq!(
            (num_without_progress(&ends, &[]), best_spent(&ends)),
            (0, 5.0)
        );
        ends.push(end(4, 5.0, Fate::Stopped));
        ends.push(end(5, 5.0, Fate::TimeLimit));
        assert_eq!(
            (num_without_progress(&ends, &[]), best_spent(&ends)),
            (0, 5.0)
        );
        ends.push(end(6, 5.0, Fate::DiskFull));
        assert_eq!(
            (num_without_progress(&ends, &[]), best_spent(&ends)),
            (1, 5.0)
        );
    }
}
