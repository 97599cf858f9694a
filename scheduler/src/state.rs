//! What the scheduler knows of a search: everything that [`crate::plan::plan`] decides from, and nothing else.
//!
//! No file is touched here. [`crate::scan`] translates what it sees on disk into the methods below; the loop applies
//! the actions it has taken with [`crate::plan::Action::apply`]. What can still change is kept apart from what is done, so that
//! looking at the state costs the same at the end of a long search as at its start.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use shared::directory::Flags;
use shared::error::Invalid;
use shared::hyperband::{NextPromotion, Schedule, Table};
use shared::id::GivenId;
use shared::pareto::Point;
use shared::record::{Extension, Request};
use shared::score::Mean;
use shared::search::Promotion;
use shared::{
    AttemptId, Claim, Configuration, ConfigurationId, Fate, JobId, Ranked, ResultId, Score, Search,
};

use crate::blame::{Again, Doubt, Faults, Known, Restrictions};

/// Crashes that are remembered for people.
const MOST_CRASHES: usize = 3;

/// Configurations that the store asks for together, at least.
const STORED_AT_ONCE: usize = 8;

/// The knowledge of one scheduler.
#[derive(Debug, Clone)]
pub struct State {
    table: Table,
    /// The rung of the search file's largest budget: what has been trained with that, or more, is kept.
    top: u8,
    promotion: Promotion,
    /// Whether proposals depend on results: values, or the limits at which trainings are stopped.
    learns: bool,
    schedule: Schedule,
    /// The schedule before any result.
    empty: Schedule,
    /// What the top folder says.
    pub flags: Flags,
    /// Trainers that live, as far as one can tell.
    pub num_trainers: u32,
    /// Configurations that somebody gave and that are not requested: their rung and values.
    pub(crate) waiting: BTreeMap<GivenId, (u8, Configuration)>,
    /// Those that are.
    taken: BTreeSet<GivenId>,
    /// How many configurations are requested: ids are given out without gaps.
    pub(crate) num_requested: u32,
    /// Requested, not yet proposed.
    pub(crate) awaited: BTreeSet<ConfigurationId>,
    /// Proposed; the first job is not yet offered.
    pub(crate) proposed: BTreeMap<ConfigurationId, Configuration>,
    /// Offered; no result is known.
    pub(crate) pending: BTreeMap<JobId, Pending>,
    /// Has a result that counts.
    pub(crate) results: BTreeMap<JobId, Settled>,
    /// Failed in a way that may not be the configuration's fault, and it is not decided whether that counts.
    pub(crate) doubtful: BTreeMap<JobId, Known>,
    /// Crashes without any progress that count.
    pub(crate) counted: BTreeMap<JobId, Known>,
    /// Retries that were read, whoever asked for them.
    pub(crate) num_retries: u64,
    /// What is known of failures, and of those who could do better.
    pub faults: Faults,
    /// Results that are named by some request.
    recorded: BTreeSet<ResultId>,
    /// Results that count and that no request names.
    pub(crate) unrecorded: BTreeSet<ResultId>,
    /// Named by some request as finished, without a known result: it was set aside, or lost. The sampler waits for it.
    pub(crate) missing_results: BTreeSet<JobId>,
    /// Offered above its configuration's first rung and named by some request; without a known result.
    reported: BTreeSet<JobId>,
    /// Offered above its configuration's first rung and named by no request; without a known result.
    pub(crate) unreported: BTreeSet<JobId>,
    /// The highest number of an ended attempt, of jobs that may be offered anew.
    pub(crate) ended: BTreeMap<JobId, u32>,
    /// Free to claim, of jobs that have no result.
    pub(crate) open: BTreeSet<AttemptId>,
    /// To whom this scheduler has left those of them that it has offered.
    pub(crate) left_to: BTreeMap<AttemptId, Option<Restrictions>>,
    /// Attempts that are over without a result, to be taken back or given up.
    pub(crate) over: BTreeMap<AttemptId, Over>,
    /// Claims of jobs that have a result.
    pub(crate) spent_claims: BTreeSet<Claim>,
    /// Tickets of jobs that have a result.
    pub(crate) spent_open: BTreeSet<AttemptId>,
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
    /// Open file, claim and result have all been gone for so long that they will not come back.
    pub is_missing: bool,
}

/// An attempt that will not give a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Over {
    /// The claim that must be ended; `None` for an open job that is not worth another try.
    pub claim: Option<Claim>,
    /// Budget that its newest checkpoint has spent, as far as known.
    pub spent: f64,
    /// How many attempts in a row, this one included, brought no progress.
    pub without_progress: u32,
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
    /// Trainings that could not be stopped where trainings are, because they told no loss on their way.
    pub unchecked: u64,
}

impl Tally {
    fn new(table: &Table) -> Self {
        Self {
            rungs: vec![RungTally::default(); usize::from(table.num_rungs())],
            crashed: BTreeSet::new(),
            unchecked: 0,
        }
    }

    fn count(&mut self, settled: &Settled) {
        let job = settled.id.job;
        let rung = &mut self.rungs[usize::from(job.rung)];
        rung.elapsed_s += settled.elapsed_s;
        match settled.score {
            Some(score @ (Score::Loss(_) | Score::Point(_))) => {
                rung.evaluated += 1;
                let ranked = Ranked { score, job };
                rung.best = Some(rung.best.map_or(ranked, |best| best.min(ranked)));
            }
            Some(Score::Infeasible(_)) => rung.infeasible += 1,
            Some(Score::Failed) => rung.failed += 1,
            None if settled.stopped_at.is_some() => rung.stopped += 1,
            None => rung.lost += 1,
        }
        if let Some(at) = settled.stopped_at {
            self.rungs[usize::from(at)].stopped_here += 1;
        }
        if settled.has_crashed {
            self.crashed.insert(job);
            if self.crashed.len() > MOST_CRASHES {
                self.crashed.pop_last();
            }
        }
    }
}

/// Counts of one rung.
#[derive(Debug, Clone, Copy, Default)]
pub struct RungTally {
    /// Evaluated.
    pub evaluated: u64,
    /// Break a constraint.
    pub infeasible: u64,
    /// Diverged, out of memory, crashed.
    pub failed: u64,
    /// Lost.
    pub lost: u64,
    /// Jobs of this rung that were stopped on their way.
    pub stopped: u64,
    /// Trainings that were stopped at this rung's budget.
    pub stopped_here: u64,
    /// Sum over all results of the seconds they took.
    pub elapsed_s: f64,
    /// The best evaluated configuration.
    pub best: Option<Ranked>,
}

impl RungTally {
    /// All results.
    pub fn num_results(&self) -> u64 {
        self.evaluated + self.infeasible + self.failed + self.lost + self.stopped
    }
}

/// What is remembered of a result that counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settled {
    /// Its id.
    id: ResultId,
    /// The attempt that gave it.
    attempt: u32,
    score: Option<Score>,
    elapsed_s: f64,
    has_crashed: bool,
    stopped_at: Option<u8>,
}

impl State {
    /// Nothing has happened yet.
    pub fn new(search: &Search) -> Result<Self, Invalid> {
        let table = Table::new(search)?;
        let schedule = Schedule::new(&table);
        Ok(Self {
            empty: schedule.clone(),
            promotion: search.promotion,
            top: search.ladder.original().top(),
            learns: search.method.learns() || search.is_stopping(),
            schedule,
            flags: Flags::default(),
            num_trainers: 0,
            waiting: BTreeMap::new(),
            taken: BTreeSet::new(),
            num_requested: 0,
            awaited: BTreeSet::new(),
            proposed: BTreeMap::new(),
            pending: BTreeMap::new(),
            results: BTreeMap::new(),
            doubtful: BTreeMap::new(),
            counted: BTreeMap::new(),
            num_retries: 0,
            faults: Faults::default(),
            recorded: BTreeSet::new(),
            unrecorded: BTreeSet::new(),
            missing_results: BTreeSet::new(),
            reported: BTreeSet::new(),
            unreported: BTreeSet::new(),
            ended: BTreeMap::new(),
            open: BTreeSet::new(),
            left_to: BTreeMap::new(),
            over: BTreeMap::new(),
            spent_claims: BTreeSet::new(),
            spent_open: BTreeSet::new(),
            spent_checkpoints: BTreeMap::new(),
            tally: Tally::new(&table),
            table,
        })
    }

    /// Which configurations there will be.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// There is to be more of what the search's limit counts, or a larger largest budget.
    pub fn extend(&mut self, search: &Search, extension: &Extension) -> Result<(), Invalid> {
        self.table.extend(search, extension)?;
        self.empty = Schedule::new(&self.table);
        self.schedule_anew();
        Ok(())
    }

    /// How many configurations there will be.
    pub fn total(&self) -> u32 {
        let waiting = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX); // no more than ids
        self.table.total().saturating_add(waiting)
    }

    /// Somebody wants a configuration to be tried.
    pub(crate) fn see_given(&mut self, number: GivenId, rung: u8, values: Configuration) {
        if !self.taken.contains(&number) {
            self.waiting.insert(number, (rung, values));
        }
    }

    /// Whether a job can be one of this search, as far as configurations are requested.
    pub fn expects(&self, job: JobId) -> bool {
        job.configuration.0 < self.num_requested && self.may_expect(job)
    }

    /// Whether a job can be one of this search, whether its configuration is requested or will be.
    pub(crate) fn may_expect(&self, job: JobId) -> bool {
        let id = job.configuration;
        // What is not requested may be given by somebody, on any rung.
        let may_start = id.0 >= self.num_requested || job.rung >= self.table.place(id).rung;
        id.0 < self.total() && job.rung < self.table.num_rungs() && may_start
    }

    /// The best configuration by the mean of its losses on these rungs, all of which it has; equal means: the lower id.
    pub(crate) fn best_mean(&self, rungs: RangeInclusive<u8>) -> Option<(ConfigurationId, Mean)> {
        let loss = |job: JobId| self.results.get(&job)?.score?.loss();
        let at_last = self.results.keys().filter(|job| job.rung == *rungs.end());
        let mean = |id: ConfigurationId| {
            let losses: Option<Vec<f64>> = rungs.clone().map(|rung| loss(id.job(rung))).collect();
            Some((id, Mean::of(&losses?)?))
        };
        at_last
            .filter_map(|job| mean(job.configuration))
            .min_by(|a, b| a.1.loss.total_cmp(&b.1.loss).then(a.0.cmp(&b.0)))
    }

    /// The results of a rung by several objectives, in the order of ids.
    pub fn points(&self, rung: usize) -> Vec<(JobId, Point)> {
        let of_rung = self
            .results
            .iter()
            .filter(|(job, _)| usize::from(job.rung) == rung);
        of_rung
            .filter_map(|(job, settled)| Some((*job, settled.score?.point()?)))
            .collect()
    }

    /// Median seconds of the evaluated jobs of a rung, if there are so many.
    pub(crate) fn median_s(&self, rung: u8, fewest: usize) -> Option<f64> {
        let of_rung = self.results.values().filter(|settled| {
            settled.id.job.rung == rung && settled.score.and_then(Score::loss).is_some()
        });
        let mut seconds: Vec<f64> = of_rung.map(|settled| settled.elapsed_s).collect();
        let middle = seconds.len() / 2;
        (seconds.len() >= fewest.max(1))
            .then(|| *seconds.select_nth_unstable_by(middle, f64::total_cmp).1)
    }

    /// Whether proposals depend on results.
    pub fn learns(&self) -> bool {
        self.learns
    }

    /// Configurations that are asked for and not offered.
    pub(crate) fn num_in_store(&self) -> usize {
        self.awaited.len() + self.proposed.len()
    }

    /// How many configurations are kept in store, at least and at most, so that a trainer need not wait for the sampler:
    /// one for each trainer where nothing is learnt from results that are still to come, else none. What is missing
    /// up to the most is asked for when there are fewer than the least: records made together cost fewer syncs.
    ///
    /// A single trainer waits, so that its whole search is a function of the search file.
    pub(crate) fn store_size(&self) -> RangeInclusive<usize> {
        if self.learns || self.num_trainers < 2 {
            return 0..=0;
        }
        let least = self.num_trainers as usize;
        least..=least + least.max(STORED_AT_ONCE)
    }

    /// Promoted configurations whose next job is not offered, in the order in which it should be.
    pub fn promotions(&self) -> Box<dyn Iterator<Item = JobId> + '_> {
        self.schedule.promotions()
    }

    /// The promotion that comes next, as far as it can be foreseen.
    pub fn next_promotion(&self) -> Option<NextPromotion> {
        self.schedule.next_promotion()
    }

    /// A request and the jobs it names, finished and offered ones, are known, ours or another scheduler's.
    ///
    /// # Panics
    /// If it is not the next one: there are no gaps.
    pub(crate) fn see_request(&mut self, request: &Request) {
        let id = request.configuration;
        assert_eq!(id.0, self.num_requested, "requests come without gaps");
        self.num_requested += 1;
        if let Some(gift) = &request.given {
            self.waiting.remove(&gift.number);
            self.taken.insert(gift.number);
            self.table.insert(id, request.rung);
            self.schedule.insert(id, request.rung);
            self.empty.insert(id, request.rung);
        }
        for result in &request.superseding {
            self.recorded.insert(*result);
            self.unrecorded.remove(result);
        }
        for job in &request.finished {
            let result = ResultId::from(*job);
            self.recorded.insert(result);
            self.unrecorded.remove(&result);
            if !self.results.contains_key(job) {
                self.missing_results.insert(*job);
            }
        }
        let offered = request.pending.iter();
        for job in offered.filter(|job| !self.results.contains_key(job)) {
            self.reported.insert(*job);
            self.unreported.remove(job);
        }
        let first = id.job(self.table.place(id).rung);
        if !self.results.contains_key(&first) && !self.pending.contains_key(&first) {
            self.awaited.insert(id);
        }
    }

    /// A proposal is known.
    pub(crate) fn see_proposal(&mut self, id: ConfigurationId, values: Configuration) {
        if self.awaited.remove(&id) {
            self.proposed.insert(id, values);
        }
    }

    /// An open job or claim of an expected job is there.
    pub(crate) fn see_attempt(&mut self, attempt: AttemptId) {
        let job = attempt.job;
        self.awaited.remove(&job.configuration);
        self.proposed.remove(&job.configuration);
        self.schedule.offered(job);
        let first_rung = self.table.place(job.configuration).rung;
        if job.rung > first_rung && !self.reported.contains(&job) {
            self.unreported.insert(job);
        }
        self.ended.remove(&job);
        // Another scheduler is further: what it was promoted from has ended, and is looked for.
        for rung in first_rung..job.rung {
            let below = job.configuration.job(rung);
            if !self.results.contains_key(&below) && !self.doubtful.contains_key(&below) {
                self.pending.entry(below).or_insert(Pending {
                    attempt: 1,
                    is_missing: false,
                });
            }
        }
        let pending = self.pending.entry(job).or_insert(Pending {
            attempt: attempt.attempt,
            is_missing: false,
        });
        pending.attempt = pending.attempt.max(attempt.attempt);
        pending.is_missing = false;
    }

    /// An attempt has ended without a result.
    pub(crate) fn see_ended(&mut self, attempt: AttemptId) {
        if self.results.contains_key(&attempt.job) || self.pending.contains_key(&attempt.job) {
            return;
        }
        let ended = self.ended.entry(attempt.job).or_default();
        *ended = attempt.attempt.max(*ended);
    }

    /// A job is in neither folder, and has no result.
    pub fn miss(&mut self, job: JobId) {
        if let Some(pending) = self.pending.get_mut(&job) {
            pending.is_missing = true;
        }
    }

    /// Whether the outcome that an attempt was to give is known already: the job has one, or the attempt's was superseded.
    pub(crate) fn is_spent(&self, attempt: AttemptId) -> bool {
        let job = attempt.job;
        self.results.contains_key(&job)
            || self.doubtful.contains_key(&job)
            || self.faults.superseded(job) >= Some(attempt)
    }

    /// Whether a spent attempt was made after the outcome that makes it so: perhaps somebody has asked for a retry that
    /// this host has not been shown yet.
    pub(crate) fn may_be_a_retry(&self, attempt: AttemptId) -> bool {
        let job = attempt.job;
        let settled = self.results.get(&job).map(|settled| settled.attempt);
        let doubtful = self.doubtful.get(&job).map(|known| known.attempt);
        let last = settled.max(doubtful);
        last.is_some_and(|last| attempt.attempt > last)
    }

    /// The number of the next attempt at a job that is offered for the first time, as far as is known.
    pub(crate) fn next_attempt(&self, job: JobId) -> u32 {
        let ended = self.ended.get(&job).copied();
        let superseded = self.faults.superseded(job).map(|attempt| attempt.attempt);
        ended.max(superseded).unwrap_or(0).saturating_add(1)
    }

    /// The result that a job without one is to have.
    pub(crate) fn next_result(&self, job: JobId) -> ResultId {
        ResultId::of(job, self.faults.superseded(job))
    }

    /// The result that a job has or, without one, is to have.
    pub(crate) fn expected_result(&self, job: JobId) -> ResultId {
        let settled = self.results.get(&job);
        settled.map_or_else(|| self.next_result(job), |settled| settled.id)
    }

    /// A result is known; only the first one of each id counts, unless it was superseded.
    pub(crate) fn see_result(&mut self, known: Known) {
        let job = known.id.job;
        let later = |settled: &Settled| settled.id >= known.id;
        if !self.expects(job) || self.results.get(&job).is_some_and(later) {
            return;
        }
        self.faults.see_result(&known);
        if self.faults.is_superseded(&known) {
            return;
        }
        self.awaited.remove(&job.configuration);
        self.proposed.remove(&job.configuration);
        self.pending.remove(&job);
        self.over.retain(|attempt, _| attempt.job != job);
        // What some request names has counted already.
        if known.doubt.is_some() && !self.recorded.contains(&known.id) {
            self.doubtful.insert(job, known);
        } else {
            self.accept(&known);
        }
    }

    /// All failures that were in doubt count.
    pub(crate) fn accept_all(&mut self) {
        for known in std::mem::take(&mut self.doubtful).into_values() {
            self.accept(&known);
        }
    }

    /// A result counts.
    pub fn accept(&mut self, known: &Known) {
        let Known { id, score, .. } = *known;
        let job = id.job;
        self.doubtful.remove(&job);
        self.counted.remove(&job);
        if known.doubt == Some(Doubt::NoProgress) {
            self.counted.insert(job, known.clone());
        }
        self.missing_results.remove(&job);
        self.reported.remove(&job);
        self.unreported.remove(&job);
        if !self.recorded.contains(&id) {
            self.unrecorded.insert(id);
        }
        let settled = Settled {
            id,
            attempt: known.attempt,
            score,
            elapsed_s: known.elapsed_s,
            has_crashed: known.has_crashed,
            stopped_at: known.stopped_at,
        };
        if self.results.insert(job, settled).is_some() {
            self.schedule_anew();
            return;
        }
        self.tally.count(&settled);
        let is_to_be_checked =
            self.promotion == Promotion::Stopping && self.top > 0 && job.rung == self.top;
        self.tally.unchecked += u64::from(is_to_be_checked && known.is_unchecked);
        let retired = self.schedule.record(job, score);
        let top = self.top;
        let below = match self.promotion {
            // What a training to the full budget has learnt is kept: people export it.
            _ if job.rung >= top => top,
            // No later job reads it.
            Promotion::Scratch | Promotion::Stopping => job.rung + 1,
            // The next rung does; this one's lower rungs are done.
            Promotion::Continue => job.rung,
        };
        match score {
            Some(Score::Loss(_) | Score::Point(_)) if below > 0 => {
                self.spend(job.configuration, Some(below));
            }
            Some(Score::Loss(_) | Score::Point(_)) => {}
            // There is nothing to go on from, and nothing to export unless it was trained in full before.
            Some(Score::Infeasible(_) | Score::Failed) | None => {
                let is_kept = self.is_trained_in_full(job.configuration);
                self.spend(job.configuration, is_kept.then_some(top));
            }
        }
        for configuration in retired {
            let is_kept = self.is_trained_in_full(configuration);
            self.spend(configuration, is_kept.then_some(top));
        }
    }

    /// Whether a configuration has a loss with the search file's largest budget or more.
    pub(crate) fn is_trained_in_full(&self, id: ConfigurationId) -> bool {
        let last = self.table.num_rungs() - 1;
        let mut results = self.results.range(id.job(self.top)..=id.job(last));
        results.any(|(_, settled)| settled.score.and_then(Score::loss).is_some())
    }

    /// A job is to be done again.
    pub(crate) fn see_retry(&mut self, again: Again) {
        let superseded = again.supersedes;
        let job = superseded.job;
        if !self.may_expect(job) || !self.faults.see_retry(again) {
            return;
        }
        let doubted = self.doubtful.remove(&job);
        self.counted.remove(&job);
        let settled = self.results.get(&job).copied();
        let settled = settled.filter(|settled| settled.attempt <= superseded.attempt);
        if let Some(settled) = settled {
            self.results.remove(&job);
            self.unrecorded.remove(&settled.id);
            self.schedule_anew();
        }
        if doubted.is_some() || settled.is_some() {
            self.offer_again(superseded);
        }
    }

    /// The attempt has no result that counts, no open job and no claim: the next one is to be offered.
    pub(crate) fn offer_again(&mut self, attempt: AttemptId) {
        let pending = Pending {
            attempt: attempt.attempt,
            is_missing: true,
        };
        let known = self.pending.entry(attempt.job).or_insert(pending);
        known.attempt = known.attempt.max(attempt.attempt);
        known.is_missing = true;
        self.open.remove(&attempt);
        self.spent_checkpoints.remove(&attempt.job.configuration);
    }

    /// Promotes and counts as if only the results that count now had ever been there. What was offered stays offered.
    fn schedule_anew(&mut self) {
        self.schedule = self.empty.clone();
        self.tally = Tally::new(&self.table);
        let offered: Vec<JobId> = [
            self.pending.keys().copied().collect::<Vec<_>>(),
            self.doubtful.keys().copied().collect(),
            self.results.keys().copied().collect(),
        ]
        .concat();
        for job in offered {
            self.schedule.offered(job);
        }
        for settled in self.results.values() {
            self.tally.count(settled);
            // Their checkpoints were seen to when they became known.
            let _retired = self.schedule.record(settled.id.job, settled.score);
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
}
