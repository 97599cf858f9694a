//! Brackets of successive halving with a barrier.
//!
//! The semantics are those of HpBandSter 0.7.4 (`core/base_iteration.py`, `optimizers/iterations/successivehalving.py`):
//! a rung is compared when all its jobs have results, and the best move up. It differs in two places. Equal losses are
//! ranked by id, where HpBandSter leaves them to an unstable sort. And a rung that has too few evaluated
//! configurations promotes fewer: HpBandSter fills the next rung with new configurations that start there, and fails
//! when there is none to compare. A configuration that diverged, ran out of memory, crashed, was lost or
//! breaks a constraint is never promoted.
//!
//! Where an extension has added rungs on top, what has come to the top of all brackets before it is compared when these have
//! ended, and the best 1/eta of all go on together: a pool.

use std::collections::{BTreeMap, BTreeSet};

use crate::hyperband::table::Pool;
use crate::hyperband::{NextPromotion, Table};
use crate::id::{ConfigurationId, JobId};
use crate::pareto;
use crate::score::{Ranked, Score};

/// The brackets that are not finished, as far as results are known.
#[derive(Debug, Clone)]
pub struct Brackets {
    table: Table,
    live: BTreeMap<u32, Bracket>,
    /// Brackets that are finished although earlier ones may not be.
    finished: BTreeSet<u32>,
    /// What goes on beyond the tops of brackets, by their ladder.
    pools: Vec<Bracket>,
    due: BTreeSet<JobId>,
}

impl Brackets {
    /// No results yet.
    pub fn new(table: Table) -> Self {
        Self {
            pools: table.pools().into_iter().map(Bracket::of_pool).collect(),
            table,
            live: BTreeMap::new(),
            finished: BTreeSet::new(),
            due: BTreeSet::new(),
        }
    }

    /// A configuration that somebody gave takes the next id, as [`Table::insert`].
    pub fn insert(&mut self, id: ConfigurationId, rung: u8) {
        self.table.insert(id, rung);
        for bracket in self.live.values_mut() {
            let later = bracket.missing.split_off(&id);
            let moved = later.into_iter().map(|id| ConfigurationId(id.0 + 1));
            bracket.missing.extend(moved);
        }
    }

    /// Which configuration belongs to which bracket.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Takes note of a result; returns the configurations that will get no job any more.
    ///
    /// The same results in any order lead to the same state.
    pub fn record(&mut self, job: JobId, score: Option<Score>) -> Vec<ConfigurationId> {
        let number = self.table.place(job.configuration).bracket;
        self.due.remove(&job);
        if self.table.given_at(job.configuration).is_some() {
            return vec![job.configuration];
        }
        if let Some(pool) = self.pool_of(job) {
            if self.pools[pool].is_finished() {
                return vec![job.configuration];
            }
            let retired = self.pools[pool].record(job, score, &mut self.due);
            return self.settle(pool, retired);
        }
        if self.finished.contains(&number) {
            return vec![job.configuration];
        }
        let table = &self.table;
        let bracket = self
            .live
            .entry(number)
            .or_insert_with(|| Bracket::new(table, number));
        let mut retired = bracket.record(job, score, &mut self.due);
        if !bracket.is_finished() {
            return retired;
        }
        let ended = std::mem::take(&mut bracket.ended);
        self.live.remove(&number);
        self.finished.insert(number);
        let pool = self.table.span_number(number);
        if let Some(next) = self.pools.get_mut(pool) {
            next.join(ended, &mut retired, &mut self.due);
            return self.settle(pool, retired);
        }
        retired
    }

    /// The pool that a job above the top of its bracket's ladder belongs to.
    fn pool_of(&self, job: JobId) -> Option<usize> {
        let bracket = self.table.place(job.configuration).bracket;
        let first = self.table.span_number(bracket);
        let above = |pool: &Bracket| job.rung > pool.first_rung;
        let number = self.pools.iter().skip(first).take_while(|pool| above(pool));
        number.count().checked_sub(1).map(|more| first + more)
    }

    /// Hands what a pool ends with to the next one, and so on.
    fn settle(
        &mut self,
        mut pool: usize,
        mut retired: Vec<ConfigurationId>,
    ) -> Vec<ConfigurationId> {
        while self.pools[pool].is_finished()
            && !std::mem::replace(&mut self.pools[pool].is_handed_on, true)
            && pool + 1 < self.pools.len()
        {
            let ended = std::mem::take(&mut self.pools[pool].ended);
            pool += 1;
            self.pools[pool].join(ended, &mut retired, &mut self.due);
        }
        retired
    }

    /// Takes note that a job is offered. One that is offered before its rung is complete, because the results there have
    /// changed since, stays promoted.
    pub fn offered(&mut self, job: JobId) {
        self.due.remove(&job);
        let place = self.table.place(job.configuration);
        let is_given = self.table.given_at(job.configuration).is_some();
        if is_given || job.rung <= place.rung {
            return;
        }
        if let Some(pool) = self.pool_of(job) {
            self.pools[pool].offered(job);
            return;
        }
        if self.finished.contains(&place.bracket) {
            return;
        }
        let table = &self.table;
        let new = || Bracket::new(table, place.bracket);
        let bracket = self.live.entry(place.bracket).or_insert_with(new);
        bracket.offered(job);
    }

    /// Promoted configurations whose next job is not offered; earlier brackets first, then lower ids.
    pub fn promotions(&self) -> impl Iterator<Item = JobId> + '_ {
        self.due.iter().copied()
    }

    /// What the earliest bracket that has begun waits for; else the earliest pool.
    pub fn next_promotion(&self) -> Option<NextPromotion> {
        let live = self.live.iter().map(|(number, live)| (Some(*number), live));
        let begun = |pool: &&Bracket| pool.num_awaited == 0 && !pool.is_finished();
        let pools = self.pools.iter().filter(begun).map(|pool| (None, pool));
        let (bracket, live) = live.chain(pools).next()?;
        let next_size = live.sizes.get(live.stage + 1);
        let promoted = next_size.map_or(0, |size| *size as usize);
        Some(NextPromotion {
            bracket,
            rung: live.rung(),
            missing: live.missing.len(),
            promoted: promoted.min(live.missing.len() + live.evaluated.len()),
        })
    }
}

/// One bracket or pool, at one of its rungs.
#[derive(Debug, Clone)]
struct Bracket {
    first_rung: u8,
    sizes: Vec<u32>,
    /// Brackets whose best a pool still waits for.
    num_awaited: usize,
    /// The rung being filled, counted from the bracket's first.
    stage: usize,
    /// Configurations at this rung that have no result.
    missing: BTreeSet<ConfigurationId>,
    /// Configurations at this rung that have one.
    evaluated: BTreeSet<Ranked>,
    /// Results of higher rungs, which another scheduler may have got further to see.
    early: BTreeMap<JobId, Option<Score>>,
    /// Jobs of higher rungs that were offered already.
    promoted: BTreeSet<JobId>,
    /// What has a loss on the last rung, once all are there.
    ended: Vec<Ranked>,
    /// Whether a pool has given that to the next one.
    is_handed_on: bool,
}

impl Bracket {
    fn new(table: &Table, number: u32) -> Self {
        let first = u32::try_from(table.first_of(number)).expect("ids are below the total");
        let sizes = table.sizes(number).to_vec();
        let ids = (first..first + sizes[0]).map(|number| table.id(number));
        Self {
            missing: ids.collect(),
            ..Self::empty(table.first_rung(number), sizes)
        }
    }

    /// Who is in it is known when what it waits for has ended.
    fn of_pool(pool: Pool) -> Self {
        Self {
            num_awaited: pool.num_awaited,
            ..Self::empty(pool.first_rung, pool.sizes)
        }
    }

    fn empty(first_rung: u8, sizes: Vec<u32>) -> Self {
        Self {
            first_rung,
            sizes,
            num_awaited: 0,
            stage: 0,
            missing: BTreeSet::new(),
            evaluated: BTreeSet::new(),
            early: BTreeMap::new(),
            promoted: BTreeSet::new(),
            ended: Vec::new(),
            is_handed_on: false,
        }
    }

    /// The end of a bracket that a pool waits for: what has a loss at its top, which so is not retired.
    fn join(
        &mut self,
        ended: Vec<Ranked>,
        retired: &mut Vec<ConfigurationId>,
        due: &mut BTreeSet<JobId>,
    ) {
        let ids: BTreeSet<ConfigurationId> = ended.iter().map(|e| e.job.configuration).collect();
        retired.retain(|id| !ids.contains(id));
        self.evaluated.extend(ended);
        self.num_awaited = self.num_awaited.saturating_sub(1);
        self.advance_all(due, retired);
    }

    fn offered(&mut self, job: JobId) {
        if job.rung > self.rung() {
            self.promoted.insert(job);
        }
    }

    fn advance_all(&mut self, due: &mut BTreeSet<JobId>, retired: &mut Vec<ConfigurationId>) {
        while self.num_awaited == 0 && self.missing.is_empty() && !self.is_finished() {
            self.advance(due, retired);
        }
    }

    fn rung(&self) -> u8 {
        self.first_rung + u8::try_from(self.stage).expect("at most one stage a rung")
    }

    fn is_finished(&self) -> bool {
        self.stage == self.sizes.len()
    }

    fn record(
        &mut self,
        job: JobId,
        score: Option<Score>,
        due: &mut BTreeSet<JobId>,
    ) -> Vec<ConfigurationId> {
        let mut retired = Vec::new();
        if job.rung > self.rung() {
            self.early.insert(job, score);
            return retired;
        }
        self.take(job, score, &mut retired);
        self.advance_all(due, &mut retired);
        retired
    }

    fn take(&mut self, job: JobId, score: Option<Score>, retired: &mut Vec<ConfigurationId>) {
        let configuration = job.configuration;
        if job.rung != self.rung() || !self.missing.remove(&configuration) {
            return;
        }
        match score {
            Some(score @ (Score::Loss(_) | Score::Point(_))) => {
                self.evaluated.insert(Ranked { score, job });
            }
            Some(Score::Infeasible(_) | Score::Failed) | None => retired.push(configuration),
        }
    }

    /// All results of this rung are known: the best go up.
    fn advance(&mut self, due: &mut BTreeSet<JobId>, retired: &mut Vec<ConfigurationId>) {
        self.stage += 1;
        let size = self.sizes.get(self.stage).map_or(0, |size| *size as usize);
        let ranked: Vec<Ranked> = std::mem::take(&mut self.evaluated).into_iter().collect();
        // One objective: as they are.
        let ranked = pareto::order(&ranked);
        if self.is_finished() {
            self.ended.clone_from(&ranked);
        }
        let rung = self.rung();
        for (place, ranked) in ranked.into_iter().enumerate() {
            let configuration = ranked.job.configuration;
            let job = configuration.job(rung);
            let is_promoted = self.promoted.remove(&job) || self.early.contains_key(&job);
            if place < size || is_promoted {
                self.missing.insert(configuration);
            } else {
                retired.push(configuration);
            }
            if place < size && !is_promoted {
                due.insert(job);
            }
        }
        if self.missing.is_empty() {
            // Nothing to promote: the bracket ends here.
            self.stage = self.sizes.len();
            return;
        }
        for (job, score) in std::mem::take(&mut self.early) {
            if job.rung == rung {
                self.take(job, score, retired);
            } else {
                self.early.insert(job, score);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hyperband::testing::{FAILED, loss, search};
    use crate::record::Extension;

    fn brackets() -> Brackets {
        // Budgets 1, 3, 9: brackets [9,3,1] [3,1] [3].
        Brackets::new(Table::new(&search(1, 9, 3)).unwrap())
    }

    fn job(id: u32, rung: u8) -> JobId {
        ConfigurationId(id).job(rung)
    }

    fn due(brackets: &Brackets) -> Vec<String> {
        brackets.promotions().map(|job| job.to_string()).collect()
    }

    #[test]
    fn the_best_third_moves_up_when_the_last_result_is_in() {
        let mut brackets = brackets();
        for id in 0..8 {
            assert_eq!(brackets.record(job(id, 0), loss(f64::from(id % 4))), []);
            assert_eq!(due(&brackets), [""; 0]);
        }
        // Losses 0 1 2 3 0 1 2 3 and 9: of the equal ones 1 and 5 the lower id goes up.
        let retired = brackets.record(job(8, 0), loss(9.0));
        assert_eq!(due(&brackets), ["c000000-r1", "c000001-r1", "c000004-r1"]);
        assert_eq!(retired.len(), 6);
        brackets.offered(job(1, 1));
        assert_eq!(due(&brackets), ["c000000-r1", "c000004-r1"]);
    }

    #[test]
    fn failures_are_never_promoted_and_make_the_next_rung_smaller() {
        let mut brackets = brackets();
        brackets.record(job(3, 0), loss(5.0));
        for id in [0, 1, 2, 4, 5, 6, 7] {
            brackets.record(job(id, 0), FAILED);
        }
        brackets.record(job(8, 0), None);
        assert_eq!(due(&brackets), ["c000003-r1"]);
        brackets.record(job(3, 1), FAILED);
        assert_eq!(due(&brackets), [""; 0]);
        assert_eq!(brackets.next_promotion(), None);
        assert!(brackets.finished.contains(&0));
    }

    #[test]
    fn what_was_promoted_stays_when_an_outcome_changes_and_what_is_better_now_joins_it() {
        // A failure was counted, the best three went up, and then it was done again.
        let mut brackets = brackets();
        for id in [0, 1, 2] {
            brackets.offered(job(id, 1));
        }
        brackets.record(job(0, 1), loss(0.5));
        for id in 0..8 {
            brackets.record(job(id, 0), loss(f64::from(id)));
        }
        assert_eq!(due(&brackets), [""; 0]);
        brackets.record(job(8, 0), loss(-1.0));
        assert_eq!(due(&brackets), ["c000008-r1"]);
        for id in [1, 2] {
            brackets.record(job(id, 1), loss(1.0));
        }
        assert_eq!(due(&brackets), ["c000008-r1"]);
        brackets.offered(job(8, 1));
        brackets.record(job(8, 1), loss(0.1));
        assert_eq!(due(&brackets), ["c000008-r2"]);
    }

    #[test]
    fn what_somebody_gives_moves_the_ids_behind_it_and_nothing_else() {
        for at in 0..=9 {
            let (mut without, mut with) = (brackets(), brackets());
            let moved = |id: u32| if id < at { id } else { id + 1 };
            for id in 0..9 {
                if id == at {
                    with.insert(ConfigurationId(at), 1);
                }
                let score = loss(f64::from(id * 7 % 9));
                without.record(job(id, 0), score);
                with.record(job(moved(id), 0), score);
            }
            if at == 9 {
                with.insert(ConfigurationId(at), 1);
            }
            let expected: Vec<JobId> = without
                .promotions()
                .map(|due| job(moved(due.configuration.0), due.rung))
                .collect();
            assert_eq!(expected.len(), 3);
            assert!(with.promotions().eq(expected), "{at}");
            // It is better than all of them, and has nothing to do with them.
            let retired = with.record(job(at, 1), loss(-1.0));
            assert_eq!(retired, [ConfigurationId(at)]);
            assert_eq!(with.promotions().count(), 3);
            for id in 9..15 {
                let place = with.table.place(ConfigurationId(id + 1));
                assert_eq!(place, without.table.place(ConfigurationId(id)));
            }
            assert_eq!(with.table.total(), without.table.total() + 1);
            let one_more: Vec<u64> = without.table.expected_jobs();
            assert_eq!(with.table.expected_jobs()[1], one_more[1] + 1);
        }
    }

    /// Brackets [9,3,1] [3,1] [3] of 1, 3 and 9 steps, then 27 and later 243 steps at most.
    fn raised(budgets: &[f64]) -> Brackets {
        let search = search(1, 9, 3);
        let mut table = Table::new(&search).unwrap();
        for max_budget in budgets {
            let extension = Extension {
                limit: None,
                max_budget: Some(*max_budget),
                at: String::new(),
                program: String::new(),
            };
            table.extend(&search, &extension).unwrap();
        }
        Brackets::new(table)
    }

    /// Records what is due, again and again, with the loss of each configuration; all jobs that had results.
    fn go(brackets: &mut Brackets, score: &dyn Fn(JobId) -> Option<Score>) -> Vec<String> {
        let mut all = Vec::new();
        let firsts = (0..15).map(|id| {
            let id = ConfigurationId(id);
            id.job(brackets.table.place(id).rung)
        });
        let mut next: Vec<JobId> = firsts.collect();
        while !next.is_empty() {
            for job in next {
                brackets.offered(job);
                brackets.record(job, score(job));
                all.push(job.to_string());
            }
            next = brackets.promotions().collect();
        }
        all
    }

    #[test]
    fn beyond_the_top_the_best_of_all_brackets_go_on_when_all_have_ended() {
        let by_id = |job: JobId| loss(f64::from(job.configuration.0));
        let mut as_before = brackets();
        let before = go(&mut as_before, &by_id);
        // Five come to the top, one in three goes on; to the second rung one at least.
        let mut all = go(&mut raised(&[27.0]), &by_id);
        assert_eq!(all.split_off(before.len()), ["c000000-r3"]);
        assert_eq!(all, before);
        let mut all = go(&mut raised(&[243.0]), &by_id);
        assert_eq!(
            all.split_off(before.len()),
            ["c000000-r3", "c000000-r4", "c000000-r5"]
        );
        // In two steps it is the same.
        let mut all = go(&mut raised(&[27.0, 243.0]), &by_id);
        assert_eq!(
            all.split_off(before.len()),
            ["c000000-r3", "c000000-r4", "c000000-r5"]
        );
        // The best of all, whichever bracket it was in; not one that failed there.
        let last_is_best = |job: JobId| match (job.configuration.0, job.rung) {
            (14, 2) => FAILED,
            (id, _) => loss(-f64::from(id)),
        };
        let all = go(&mut raised(&[27.0]), &last_is_best);
        assert_eq!(all.last().map(String::as_str), Some("c000013-r3"));
    }

    #[test]
    fn nothing_goes_on_before_all_brackets_have_ended() {
        let mut brackets = raised(&[27.0]);
        let by_id = |job: JobId| match job.configuration.0 {
            14 => None,
            id => loss(f64::from(id)),
        };
        for id in 12..14 {
            let retired = brackets.record(job(id, 2), by_id(job(id, 2)));
            assert_eq!(retired, []);
        }
        // Another scheduler is further.
        brackets.record(job(0, 3), loss(0.0));
        assert_eq!(brackets.promotions().count(), 0);
        let all = go(&mut brackets, &by_id);
        assert!(!all.contains(&"c000000-r3".to_owned()), "{all:?}");
        assert!(brackets.pools[0].is_finished());
        assert_eq!(brackets.next_promotion(), None);
        assert_eq!(brackets.record(job(0, 3), loss(0.0)), [ConfigurationId(0)]);
    }

    proptest! {
        #[test]
        fn the_order_of_results_does_not_matter_beyond_the_top(
            losses in proptest::collection::vec(0u8..9, 15),
            order in Just((0..30usize).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let score = |job: JobId| loss(f64::from(losses[job.configuration.0 as usize]));
            let mut reference = raised(&[27.0, 243.0]);
            let all = go(&mut reference, &score);
            let mut shuffled = raised(&[27.0, 243.0]);
            for index in order {
                if let Some(name) = all.get(index) {
                    let job: JobId = name.parse().unwrap();
                    shuffled.record(job, score(job));
                }
            }
            prop_assert!(all.len() <= 30);
            prop_assert_eq!(due(&shuffled), [""; 0]);
            prop_assert!(shuffled.pools.iter().all(Bracket::is_finished));
        }

        #[test]
        fn the_order_of_results_does_not_matter(
            losses in proptest::collection::vec(0u8..6, 9),
            failed in proptest::collection::vec(proptest::bool::weighted(0.2), 9),
            order in Just((0..13usize).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let score = |id: u32| if failed[id as usize] { FAILED } else {
                loss(f64::from(losses[id as usize]))
            };
            // Reference: rung by rung.
            let mut reference = brackets();
            let mut all: Vec<JobId> = (0..9).map(|id| job(id, 0)).collect();
            for job in &all { reference.record(*job, score(job.configuration.0)); }
            loop {
                let due: Vec<JobId> = reference.promotions().collect();
                if due.is_empty() { break }
                for job in due { reference.record(job, score(job.configuration.0)); all.push(job); }
            }
            let mut shuffled = brackets();
            for index in order {
                if let Some(job) = all.get(index) { shuffled.record(*job, score(job.configuration.0)); }
            }
            prop_assert_eq!(due(&shuffled), due(&reference));
            prop_assert_eq!(&shuffled.finished, &reference.finished);
            prop_assert!(shuffled.finished.contains(&0));
        }
    }
}
