//! Brackets of successive halving with a barrier.
//!
//! The semantics are those of HpBandSter 0.7.4 (`core/base_iteration.py`, `optimizers/iterations/successivehalving.py`):
//! a rung is compared when all its jobs have results, and the best move up. It differs in two places. Equal losses are
//! ranked by id, where HpBandSter leaves them to an unstable sort. And a rung that has too few evaluated
//! configurations promotes fewer: HpBandSter fills the next rung with new configurations that start there, and fails
//! when there is none to compare. A configuration that diverged, ran out of memory, crashed, was lost or
//! breaks a constraint is never promoted.

use std::collections::{BTreeMap, BTreeSet};

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
    due: BTreeSet<JobId>,
}

impl Brackets {
    /// No results yet.
    pub fn new(table: Table) -> Self {
        Self {
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
        let is_given = self.table.given_at(job.configuration).is_some();
        if is_given || self.finished.contains(&number) {
            return vec![job.configuration];
        }
        let table = &self.table;
        let bracket = self
            .live
            .entry(number)
            .or_insert_with(|| Bracket::new(table, number));
        let retired = bracket.record(job, score, &mut self.due);
        if bracket.is_finished() {
            self.live.remove(&number);
            self.finished.insert(number);
        }
        retired
    }

    /// Takes note that a job is offered. One that is offered before its rung is complete, because the results there have
    /// changed since, stays promoted.
    pub fn offered(&mut self, job: JobId) {
        self.due.remove(&job);
        let place = self.table.place(job.configuration);
        let is_given = self.table.given_at(job.configuration).is_some();
        if is_given || job.rung <= place.rung || self.finished.contains(&place.bracket) {
            return;
        }
        let table = &self.table;
        let new = || Bracket::new(table, place.bracket);
        let bracket = self.live.entry(place.bracket).or_insert_with(new);
        if job.rung > bracket.rung() {
            bracket.promoted.insert(job);
        }
    }

    /// Promoted configurations whose next job is not offered; earlier brackets first, then lower ids.
    pub fn promotions(&self) -> impl Iterator<Item = JobId> + '_ {
        self.due.iter().copied()
    }

    /// What the earliest bracket that has begun waits for.
    pub fn next_promotion(&self) -> Option<NextPromotion> {
        let (number, bracket) = self.live.first_key_value()?;
        let next_size = bracket.sizes.get(bracket.stage + 1);
        let promoted = next_size.map_or(0, |size| *size as usize);
        Some(NextPromotion {
            bracket: Some(*number),
            rung: bracket.rung(),
            missing: bracket.missing.len(),
            promoted: promoted.min(bracket.missing.len() + bracket.evaluated.len()),
        })
    }
}

/// One bracket, at one of its rungs.
#[derive(Debug, Clone)]
struct Bracket {
    first_rung: u8,
    sizes: Vec<u32>,
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
}

impl Bracket {
    fn new(table: &Table, number: u32) -> Self {
        let first = u32::try_from(table.first_of(number)).expect("ids are below the total");
        let sizes = table.sizes(number).to_vec();
        Self {
            first_rung: table.first_rung(number),
            missing: (first..first + sizes[0])
                .map(|number| table.id(number))
                .collect(),
            sizes,
            stage: 0,
            evaluated: BTreeSet::new(),
            early: BTreeMap::new(),
            promoted: BTreeSet::new(),
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
        while self.missing.is_empty() && !self.is_finished() {
            self.advance(due, &mut retired);
        }
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

    proptest! {
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
