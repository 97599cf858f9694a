//! What the scheduler knows of a search: everything that [`crate::plan::plan`] decides from, and nothing else.
//!
//! No file is touched here. [`crate::scan`] translates what it sees on disk into the methods below; the loop applies
//! the actions it has taken with [`State::apply`]. What can still change is kept apart from what is done, so that
//! looking at the state costs the same at the end of a long search as at its start.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use shared::error::Invalid;
use shared::search::{Promotion, Scheduling};
use shared::store::Signs;
use shared::{
    AttemptId, Claim, Configuration, ConfigurationId, Fate, JobId, JobResult, Outcome, Search,
};

use crate::asha::Asha;
use crate::bracket::{Brackets, NextPromotion, Ranked, Table, Verdict};
use crate::plan::Action;

/// Crashes that are remembered for people.
const MOST_CRASHES: usize = 3;

/// Configurations that the store asks for together, at least.
const STORED_AT_ONCE: usize = 8;

/// The knowledge of one scheduler.
#[derive(Debug, Clone)]
pub struct State {
    table: Table,
    promotion: Promotion,
    /// Whether proposals depend on results.
    learns: bool,
    schedule: Schedule,
    /// What the top folder says.
    pub signs: Signs,
    /// Trainers that live, as far as one can tell.
    pub num_trainers: u32,
    /// How many configurations are requested: ids are given out without gaps.
    pub(crate) num_requested: u32,
    /// Requested, not yet proposed.
    pub(crate) awaited: BTreeSet<ConfigurationId>,
    /// Proposed; the first job is not yet offered.
    pub(crate) proposed: BTreeMap<ConfigurationId, Configuration>,
    /// Offered; no result is known.
    pub(crate) pending: BTreeMap<JobId, Pending>,
    /// Has a result.
    pub(crate) results: BTreeSet<JobId>,
    /// Named by some request.
    recorded: BTreeSet<JobId>,
    /// Has a result that no request names.
    pub(crate) unrecorded: BTreeSet<JobId>,
    /// Named by some request as finished, without a known result: it was set aside, or lost. The sampler waits for it.
    pub(crate) named_in_vain: BTreeSet<JobId>,
    /// Offered above its configuration's first rung and named by some request; without a known result.
    announced: BTreeSet<JobId>,
    /// Offered above its configuration's first rung and named by no request; without a known result.
    pub(crate) unannounced: BTreeSet<JobId>,
    /// The highest number of an ended attempt, of jobs that may be offered anew.
    pub(crate) ended: BTreeMap<JobId, u32>,
    /// Attempts that are over without a result, to be taken back or given up.
    pub(crate) over: BTreeMap<AttemptId, Over>,
    /// Claims of jobs that have a result.
    pub(crate) spent_claims: BTreeSet<Claim>,
    /// Tickets of jobs that have a result.
    pub(crate) spent_tickets: BTreeSet<AttemptId>,
    /// Configurations whose checkpoints below a rung (or all of them) nobody needs.
    pub(crate) spent_checkpoints: BTreeMap<ConfigurationId, Option<u8>>,
    /// Counts for people.
    pub tally: Tally,
}

/// A job that is offered and has no known result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// The highest attempt seen.
    pub attempt: u32,
    /// Its ticket, claim and result have all been gone for so long that they will not come back.
    pub is_missing: bool,
}

/// An attempt that will not give a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Over {
    /// The claim that must be ended; `None` for a ticket that is not worth another try.
    pub claim: Option<Claim>,
    /// Budget that its newest checkpoint has spent, as far as known.
    pub spent: f64,
    /// How many attempts in a row, this one included, brought no progress.
    pub futile: u32,
    /// How it ended.
    pub fate: Fate,
}

/// Counts for people; no decision depends on them.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// By rung, lowest first.
    pub rungs: Vec<RungTally>,
    /// The first jobs that crashed.
    pub crashed: BTreeSet<JobId>,
}

/// Counts of one rung.
#[derive(Debug, Clone, Copy, Default)]
pub struct RungTally {
    /// Evaluated.
    pub evaluated: u64,
    /// Diverged, out of memory, crashed.
    pub failed: u64,
    /// Lost.
    pub lost: u64,
    /// Sum over all results of the seconds they took.
    pub elapsed_s: f64,
    /// The best evaluated configuration.
    pub best: Option<Ranked>,
}

impl RungTally {
    /// All results.
    pub fn num_results(&self) -> u64 {
        self.evaluated + self.failed + self.lost
    }
}

#[derive(Debug, Clone)]
enum Schedule {
    Brackets(Brackets),
    Asha(Asha),
}

/// What of a result matters here; the rest would fill the memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    /// Of which job.
    pub job: JobId,
    /// What it means.
    pub verdict: Verdict,
    /// How long it took.
    pub elapsed_s: f64,
    /// Whether it has a message that people should see.
    pub has_crashed: bool,
}

impl From<&JobResult> for Known {
    fn from(result: &JobResult) -> Self {
        Self {
            job: result.job(),
            verdict: Verdict::of(&result.outcome),
            elapsed_s: result.elapsed_s,
            has_crashed: matches!(result.outcome, Outcome::Crashed { .. }),
        }
    }
}

impl State {
    /// Nothing has happened yet.
    pub fn new(search: &Search) -> Result<Self, Invalid> {
        let table = Table::new(search)?;
        let schedule = match search.scheduling {
            Scheduling::Synchronous => Schedule::Brackets(Brackets::new(table.clone())),
            Scheduling::Asynchronous => {
                Schedule::Asha(Asha::new(table.num_rungs(), search.ladder.eta()))
            }
        };
        Ok(Self {
            promotion: search.promotion,
            learns: search.method.learns(),
            schedule,
            signs: Signs::default(),
            num_trainers: 0,
            num_requested: 0,
            awaited: BTreeSet::new(),
            proposed: BTreeMap::new(),
            pending: BTreeMap::new(),
            results: BTreeSet::new(),
            recorded: BTreeSet::new(),
            unrecorded: BTreeSet::new(),
            named_in_vain: BTreeSet::new(),
            announced: BTreeSet::new(),
            unannounced: BTreeSet::new(),
            ended: BTreeMap::new(),
            over: BTreeMap::new(),
            spent_claims: BTreeSet::new(),
            spent_tickets: BTreeSet::new(),
            spent_checkpoints: BTreeMap::new(),
            tally: Tally {
                rungs: vec![RungTally::default(); usize::from(table.num_rungs())],
                crashed: BTreeSet::new(),
            },
            table,
        })
    }

    /// Which configurations there will be.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Whether a job can be one of this search, as far as configurations are requested.
    pub fn expects(&self, job: JobId) -> bool {
        job.configuration.0 < self.num_requested && self.may_expect(job)
    }

    /// Whether a job can be one of this search, whether its configuration is requested or will be.
    pub fn may_expect(&self, job: JobId) -> bool {
        job.configuration.0 < self.table.total()
            && job.rung < self.table.num_rungs()
            && job.rung >= self.table.place(job.configuration).rung
    }

    /// Whether proposals depend on results.
    pub fn learns(&self) -> bool {
        self.learns
    }

    /// Configurations that are asked for and not offered.
    pub fn num_in_store(&self) -> usize {
        self.awaited.len() + self.proposed.len()
    }

    /// How many configurations are kept in store, at least and at most, so that a trainer need not wait for the sampler:
    /// one for each trainer where nothing is learnt from results that are still to come, else none. What is missing
    /// up to the most is asked for when there are fewer than the least: records made together cost fewer syncs.
    ///
    /// A single trainer waits, so that its whole search is a function of the search file.
    pub fn store_size(&self) -> RangeInclusive<usize> {
        if self.learns || self.num_trainers < 2 {
            return 0..=0;
        }
        let least = self.num_trainers as usize;
        least..=least + least.max(STORED_AT_ONCE)
    }

    /// Promoted configurations whose next job is not offered, in the order in which it should be.
    pub fn promotions(&self) -> Box<dyn Iterator<Item = JobId> + '_> {
        match &self.schedule {
            Schedule::Brackets(brackets) => Box::new(brackets.promotions()),
            Schedule::Asha(asha) => Box::new(asha.promotions()),
        }
    }

    /// The promotion that comes next, as far as it can be foreseen.
    pub fn next_promotion(&self) -> Option<NextPromotion> {
        match &self.schedule {
            Schedule::Brackets(brackets) => brackets.next_promotion(),
            Schedule::Asha(asha) => asha.next_promotion(),
        }
    }

    /// A request and the jobs it names, finished and offered ones, are known, ours or another scheduler's.
    ///
    /// # Panics
    /// If it is not the next one: there are no gaps.
    pub fn see_request(&mut self, id: ConfigurationId, finished: &[JobId], offered: &[JobId]) {
        assert_eq!(id.0, self.num_requested, "requests come without gaps");
        self.num_requested += 1;
        for job in finished {
            self.recorded.insert(*job);
            self.unrecorded.remove(job);
            if !self.results.contains(job) {
                self.named_in_vain.insert(*job);
            }
        }
        for job in offered.iter().filter(|job| !self.results.contains(job)) {
            self.announced.insert(*job);
            self.unannounced.remove(job);
        }
        let first = id.job(self.table.place(id).rung);
        if !self.results.contains(&first) && !self.pending.contains_key(&first) {
            self.awaited.insert(id);
        }
    }

    /// A proposal is known.
    pub fn see_proposal(&mut self, id: ConfigurationId, values: Configuration) {
        if self.awaited.remove(&id) {
            self.proposed.insert(id, values);
        }
    }

    /// A ticket or claim of an expected job is there.
    pub fn see_attempt(&mut self, attempt: AttemptId) {
        let job = attempt.job;
        self.awaited.remove(&job.configuration);
        self.proposed.remove(&job.configuration);
        self.offered(job);
        if job.rung > self.table.place(job.configuration).rung && !self.announced.contains(&job) {
            self.unannounced.insert(job);
        }
        self.ended.remove(&job);
        let pending = self.pending.entry(job).or_insert(Pending {
            attempt: attempt.attempt,
            is_missing: false,
        });
        pending.attempt = pending.attempt.max(attempt.attempt);
        pending.is_missing = false;
    }

    /// An attempt has ended without a result.
    pub fn see_ended(&mut self, attempt: AttemptId) {
        if self.results.contains(&attempt.job) || self.pending.contains_key(&attempt.job) {
            return;
        }
        let ended = self.ended.entry(attempt.job).or_default();
        *ended = attempt.attempt.max(*ended);
    }

    /// A job's ticket, claim and result are all gone.
    pub fn miss(&mut self, job: JobId) {
        if let Some(pending) = self.pending.get_mut(&job) {
            pending.is_missing = true;
        }
    }

    /// The number of the next attempt at a job that is offered for the first time, as far as is known.
    pub fn next_attempt(&self, job: JobId) -> u32 {
        let ended = self.ended.get(&job);
        ended.map_or(1, |ended| ended.saturating_add(1))
    }

    /// A result is known; only the first one of each job counts.
    pub fn see_result(&mut self, known: Known) {
        let Known { job, verdict, .. } = known;
        if !self.expects(job) || !self.results.insert(job) {
            return;
        }
        self.awaited.remove(&job.configuration);
        self.proposed.remove(&job.configuration);
        self.pending.remove(&job);
        self.named_in_vain.remove(&job);
        self.announced.remove(&job);
        self.unannounced.remove(&job);
        self.over.retain(|attempt, _| attempt.job != job);
        if !self.recorded.contains(&job) {
            self.unrecorded.insert(job);
        }
        self.count(known);
        let retired = match &mut self.schedule {
            Schedule::Brackets(brackets) => brackets.record(job, verdict),
            Schedule::Asha(asha) => asha.record(job, verdict),
        };
        let top = self.table.num_rungs() - 1;
        let below = match self.promotion {
            // What a training to the full budget has learnt is kept: people export it.
            _ if job.rung == top => top,
            // No later job reads it.
            Promotion::Scratch => job.rung + 1,
            // The next rung does; this one's lower rungs are done.
            Promotion::Continue => job.rung,
        };
        match verdict {
            Verdict::Evaluated(_) if below > 0 => self.spend(job.configuration, Some(below)),
            Verdict::Evaluated(_) => {}
            // There is nothing to go on from, and nothing to export.
            Verdict::Failed | Verdict::Lost => self.spend(job.configuration, None),
        }
        for configuration in retired {
            let is_at_top = self.results.contains(&configuration.job(top));
            self.spend(configuration, is_at_top.then_some(top));
        }
    }

    /// The effect of an action that was taken.
    pub fn apply(&mut self, action: &Action) {
        match action {
            Action::Request(request) => {
                let (finished, offered) = (&request.finished, &request.pending);
                self.see_request(request.configuration, finished, offered);
            }
            Action::Offer { job, attempt } => self.see_attempt(job.attempt(*attempt)),
            Action::TakeBack { claim, .. } => {
                self.over.remove(&claim.attempt);
                self.see_attempt(claim.attempt.next());
            }
            Action::GiveUp { attempt, .. } => {
                self.over.remove(attempt);
                self.see_result(Known {
                    job: attempt.job,
                    verdict: Verdict::Lost,
                    elapsed_s: 0.0,
                    has_crashed: false,
                });
            }
            Action::DropClaim(claim) => {
                self.spent_claims.remove(claim);
            }
            Action::DropTicket(attempt) => {
                self.spent_tickets.remove(attempt);
            }
            Action::DropCheckpoints { configuration, .. } => {
                self.spent_checkpoints.remove(configuration);
            }
            Action::Finish(_) => self.signs.is_finished = true,
        }
    }

    fn offered(&mut self, job: JobId) {
        match &mut self.schedule {
            Schedule::Brackets(brackets) => brackets.offered(job),
            Schedule::Asha(asha) => asha.offered(job),
        }
    }

    fn spend(&mut self, configuration: ConfigurationId, below: Option<u8>) {
        let spent = self.spent_checkpoints.entry(configuration).or_insert(below);
        // `None` is all of them, so it is the most.
        *spent = match (*spent, below) {
            (Some(a), Some(b)) => Some(a.max(b)),
            _ => None,
        };
    }

    fn count(&mut self, known: Known) {
        let tally = &mut self.tally.rungs[usize::from(known.job.rung)];
        tally.elapsed_s += known.elapsed_s;
        match known.verdict {
            Verdict::Evaluated(loss) => {
                tally.evaluated += 1;
                let ranked = Ranked {
                    loss,
                    configuration: known.job.configuration,
                };
                tally.best = Some(tally.best.map_or(ranked, |best| best.min(ranked)));
            }
            Verdict::Failed => tally.failed += 1,
            Verdict::Lost => tally.lost += 1,
        }
        if known.has_crashed {
            self.tally.crashed.insert(known.job);
            if self.tally.crashed.len() > MOST_CRASHES {
                self.tally.crashed.pop_last();
            }
        }
    }
}
