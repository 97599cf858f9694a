//! From files to [`State`]: everything that was ever written, once at the start, and after that only what can have
//! changed.
//!
//! A scan lists the open and claimed jobs and the trainers, and reads by name the proposals that were asked for and
//! the results of jobs that have left both folders. No result's name is looked up before: a network filesystem would
//! remember for up to a minute that it is not there. So a scan costs the same however long the search is.

mod claims;
mod jobs;
mod requests;
mod results;
mod trainers;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use shared::clock::Silence;
use shared::error::{Error, Result};
use shared::format::Record as _;
use shared::id::{ExtensionId, GivenId};
use shared::search::SearchFile;
use shared::{AttemptId, Claim, Directory, JobId, OwnerId, clock, layout};

pub use crate::scan::trainers::Trainer;
use crate::state::State;

/// How long a retry or an extension may go unnoticed: there are few.
const WISHES_INTERVAL: Duration = Duration::from_secs(1);

/// What one scan must remember for the next.
#[derive(Debug)]
pub struct Scanner {
    directory: Directory,
    claimed_before: BTreeSet<Claim>,
    twice_before: BTreeSet<AttemptId>,
    /// Open and claimed jobs of which no request or retry was seen, and since when.
    unexplained: BTreeMap<AttemptId, Instant>,
    /// Hosts whose clock was said to be wrong, and whether it is ahead.
    told_clocks: BTreeSet<(String, bool)>,
    absent: BTreeMap<JobId, Absence>,
    trainers: BTreeMap<OwnerId, Trainer>,
    /// When their folder was listed last.
    trainers_listed: Option<Instant>,
    /// Flags of life of claims: the heartbeat's counter where it names the claim. Those of a scheduler before this one
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
    /// Configurations that somebody gave, which were read.
    given: BTreeSet<GivenId>,
    /// When retries, extensions and given configurations were listed last.
    wishes_seen: Option<Instant>,
}

/// A job that is seen nowhere.
#[derive(Debug)]
struct Absence {
    scans: u32,
    since: Instant,
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
            given: BTreeSet::new(),
            wishes_seen: None,
        };
        scanner.resume(clock::instant())?;
        // Jobs first: one that ends while the rest is read has its result there already, or is looked for later.
        let view = scanner.directory.jobs()?;
        scanner.see_extensions(&mut state)?;
        scanner.see_given(&mut state)?;
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
    pub(crate) fn times_left_s(&self) -> impl Iterator<Item = Option<f64>> + '_ {
        let here = self.trainers.values().filter(|trainer| !trainer.is_gone());
        here.map(|trainer| trainer.heartbeat.time_left_s)
    }

    /// Brings the state up to date.
    pub fn scan(&mut self, state: &mut State, now: Instant) -> Result<()> {
        state.flags = self.directory.flags()?;
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
        self.see_hopeless_jobs(state, &view)?;
        if state.flags.is_finished {
            // No failure was left in doubt: whoever finished the search let the last ones count, too.
            state.accept_all();
        }
        self.claimed_before = view.claimed;
        Ok(())
    }

    /// Whether some job has left both folders and its result is not there: look again soon.
    pub(crate) fn is_searching(&self) -> bool {
        !self.absent.is_empty()
    }
}
