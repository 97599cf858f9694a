//! Hyperband's brackets: which configuration belongs to which, and successive halving with a barrier.
//!
//! The semantics are those of HpBandSter 0.7.4 (`core/base_iteration.py`, `optimizers/iterations/successivehalving.py`):
//! a rung is compared when all its jobs have results, and the best move up. It differs in two places. Equal losses are
//! ranked by id, where HpBandSter leaves them to an unstable sort. And a rung that has too few evaluated
//! configurations promotes fewer: HpBandSter fills the next rung with new configurations that start there, and fails
//! when there is none to compare. A configuration that diverged, ran out of memory, crashed or was lost is never
//! promoted.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt as _;
use serde::Serialize;
use shared::error::Invalid;
use shared::search::{Limit, Scheduling};
use shared::{ConfigurationId, JobId, Outcome, Search, Seed};

/// What a result means for promotion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// It has a finite loss.
    Evaluated(f64),
    /// The configuration itself failed: worse than every loss.
    Failed,
    /// It says nothing about the configuration.
    Lost,
}

impl Verdict {
    /// The verdict on an outcome.
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Evaluated { loss } => Self::Evaluated(*loss),
            Outcome::Diverged { .. } | Outcome::OutOfMemory { .. } | Outcome::Crashed { .. } => {
                Self::Failed
            }
            Outcome::Lost { .. } => Self::Lost,
        }
    }
}

/// An evaluated configuration, ordered by loss. Equal losses: the lower id is better, so that replays agree.
#[derive(Debug, Clone, Copy)]
pub struct Ranked {
    /// Its loss, finite.
    pub loss: f64,
    /// Which.
    pub configuration: ConfigurationId,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // 0.0 and -0.0 are the same loss, which `total_cmp` alone would deny.
        (self.loss + 0.0)
            .total_cmp(&(other.loss + 0.0))
            .then(self.configuration.cmp(&other.configuration))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

/// A bracket and a rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The bracket.
    pub bracket: u32,
    /// The rung where a configuration's first job is.
    pub rung: u8,
}

/// Which configurations a search will have, and where each of them starts: a function of the search alone.
///
/// With a barrier, bracket after bracket gets the next ids. Without, a draw that is seeded by the id decides: kind s of
/// bracket with a probability proportional to the size of its first rung, which gives rungs the same shares of new
/// configurations as running the brackets in turn (Li et al. 2020, asynchronous Hyperband).
#[derive(Debug, Clone)]
pub struct Table {
    kinds: Vec<Vec<u32>>,
    num_rungs: u8,
    eta: f64,
    limit: Limit,
    /// As many configurations as the space has, where that is known to be few.
    most: Option<u64>,
    total: u32,
    /// The bracket in which the space has no untried configuration left, and the sizes of its rungs.
    last: Option<(u32, Vec<u32>)>,
    /// The seed of the draws; only without barrier.
    draw: Option<Seed>,
}

impl Table {
    /// The table of a search; complaints are about its limit.
    pub fn new(search: &Search) -> Result<Self, Invalid> {
        let num_rungs = search.ladder.num_rungs();
        let kinds: Vec<Vec<u32>> = (0..)
            .take(search.first_rungs.len())
            .map(|bracket| search.bracket_sizes(bracket))
            .collect();
        let mut table = Self {
            kinds,
            num_rungs,
            eta: search.ladder.eta(),
            limit: search.limit,
            most: search.most_configurations(),
            total: 0,
            last: None,
            draw: match search.scheduling {
                Scheduling::Synchronous => None,
                Scheduling::Asynchronous => Some(search.seed),
            },
        };
        table.set_limit(search.limit)?;
        Ok(table)
    }

    fn set_limit(&mut self, limit: Limit) -> Result<(), Invalid> {
        let wanted = match limit {
            Limit::Configurations(number) => u128::from(number),
            Limit::Brackets(number) => self.first_of(number),
        };
        let most = self.most.map_or(wanted, u128::from);
        let total = wanted.min(most);
        self.total = u32::try_from(total).map_err(|_too_many| {
            let expected = format!("at most {} configurations", u32::MAX);
            Invalid::new("limit", expected, total)
        })?;
        self.last = match limit {
            Limit::Brackets(number) if total < wanted => Some(self.last_bracket(number)),
            Limit::Brackets(_) | Limit::Configurations(_) => None,
        };
        self.limit = limit;
        Ok(())
    }

    /// Adds more of what the search's limit counts; what there is keeps its place.
    ///
    /// # Errors
    /// It counts something else, or there would be too many.
    pub fn extend(&mut self, more: Limit) -> Result<(), Invalid> {
        let sum = |a: u32, b: u32| a.saturating_add(b); // told below
        let limit = match (self.limit, more) {
            (Limit::Brackets(a), Limit::Brackets(b)) => Limit::Brackets(sum(a, b)),
            (Limit::Configurations(a), Limit::Configurations(b)) => {
                Limit::Configurations(sum(a, b))
            }
            (Limit::Brackets(_), Limit::Configurations(_)) => {
                let expected = "a number of brackets, as in the search's own limit";
                return Err(Invalid::new("limit", expected, "configurations"));
            }
            (Limit::Configurations(_), Limit::Brackets(_)) => {
                let expected = "a number of configurations, as in the search's own limit";
                return Err(Invalid::new("limit", expected, "brackets"));
            }
        };
        self.set_limit(limit)
    }

    /// The bracket that gets the last configurations of a small space.
    ///
    /// It has for each rung what it and the brackets that come to nothing would have had, as far as it has configurations:
    /// so all are tried, and what repetitions would have cost is spent on larger budgets.
    fn last_bracket(&self, num_brackets: u32) -> (u32, Vec<u32>) {
        let last = self.bracket_by_order(ConfigurationId(self.total.saturating_sub(1)));
        let first = u32::try_from(self.first_of(last)).unwrap_or(self.total);
        let number = self.total - first;
        let mut sizes: Vec<u32> = vec![0; self.sizes(last).len()];
        for bracket in last..num_brackets {
            let of_bracket = self.sizes(bracket);
            let rungs = sizes.iter_mut().rev().zip(of_bracket.iter().rev());
            for (size, more) in rungs {
                *size = number.min(size.saturating_add(*more));
            }
            if sizes.iter().all(|size| *size == number) {
                break;
            }
        }
        sizes[0] = number;
        // Brackets that would have begun higher up take their configurations from here, too.
        for rung in (1..sizes.len()).rev() {
            sizes[rung - 1] = sizes[rung - 1].max(sizes[rung]);
        }
        (last, sizes)
    }

    /// How many configurations there will be.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// How many brackets there will be, where the space ends them; the last one may be another than its kind.
    pub fn num_brackets(&self) -> Option<u32> {
        self.last.as_ref().map(|(last, _)| last + 1)
    }

    /// How many rungs the ladder has.
    pub fn num_rungs(&self) -> u8 {
        self.num_rungs
    }

    /// Sizes of a bracket's rungs, lowest first.
    pub fn sizes(&self, bracket: u32) -> &[u32] {
        if let Some((last, sizes)) = &self.last
            && *last == bracket
        {
            return sizes;
        }
        &self.kinds[bracket as usize % self.kinds.len()]
    }

    /// The rung a bracket starts at.
    pub fn first_rung(&self, bracket: u32) -> u8 {
        // There is at most one size a rung.
        let length = u8::try_from(self.sizes(bracket).len()).unwrap_or(self.num_rungs);
        self.num_rungs - length
    }

    /// Where a configuration starts.
    pub fn place(&self, id: ConfigurationId) -> Place {
        let bracket = match self.draw {
            None => self.bracket_by_order(id),
            Some(seed) => self.bracket_by_draw(seed, id),
        };
        Place {
            bracket,
            rung: self.first_rung(bracket),
        }
    }

    /// Jobs that each rung will have, lowest first, if no configuration fails. Without barrier: about.
    pub fn expected_jobs(&self) -> Vec<u64> {
        let mut jobs = vec![0; usize::from(self.num_rungs)];
        let per_cycle: u64 = self.kinds.iter().map(|sizes| u64::from(sizes[0])).sum();
        let last = self.last.as_ref().map(|(last, _)| self.first_of(*last));
        let total = last.map_or(u64::from(self.total), |first| {
            u64::try_from(first).unwrap_or(u64::MAX) // below the total
        });
        let mut rest = total % per_cycle;
        for sizes in &self.kinds {
            let first = usize::from(self.num_rungs) - sizes.len();
            let size = u64::from(sizes[0]);
            if self.draw.is_some() {
                jobs[first] += total * size / per_cycle;
                continue;
            }
            // A search ends with a whole bracket, so the rest is whole brackets too.
            let brackets = total / per_cycle + u64::from(rest >= size);
            rest = rest.saturating_sub(size);
            for (rung, size) in sizes.iter().enumerate() {
                jobs[first + rung] += brackets * u64::from(*size);
            }
        }
        if let Some((_, sizes)) = &self.last {
            let rungs = jobs.iter_mut().rev().zip(sizes.iter().rev());
            rungs.for_each(|(jobs, size)| *jobs += u64::from(*size));
        }
        if self.draw.is_some() {
            for rung in 1..jobs.len() {
                jobs[rung] += share(jobs[rung - 1], self.eta);
            }
        }
        jobs
    }

    /// The number of configurations in all brackets before this one.
    fn first_of(&self, bracket: u32) -> u128 {
        let per_cycle: u128 = self.kinds.iter().map(|sizes| u128::from(sizes[0])).sum();
        let kinds = self.kinds.len();
        let in_cycle = &self.kinds[..bracket as usize % kinds];
        let rest: u128 = in_cycle.iter().map(|sizes| u128::from(sizes[0])).sum();
        u128::from(bracket) / kinds as u128 * per_cycle + rest
    }

    fn bracket_by_order(&self, id: ConfigurationId) -> u32 {
        let per_cycle: u64 = self.kinds.iter().map(|sizes| u64::from(sizes[0])).sum();
        let mut rest = u64::from(id.0) % per_cycle;
        let cycle = u64::from(id.0) / per_cycle;
        let mut kind = 0;
        while rest >= u64::from(self.kinds[kind][0]) {
            rest -= u64::from(self.kinds[kind][0]);
            kind += 1;
        }
        let bracket = cycle * self.kinds.len() as u64 + kind as u64;
        u32::try_from(bracket).expect("no more brackets than configurations")
    }

    fn bracket_by_draw(&self, seed: Seed, id: ConfigurationId) -> u32 {
        let sum: u64 = self.kinds.iter().map(|sizes| u64::from(sizes[0])).sum();
        let mut rest = seed.child("bracket", id).rng().random_range(0..sum);
        for (kind, sizes) in (0..).zip(&self.kinds) {
            if rest < u64::from(sizes[0]) {
                return kind;
            }
            rest -= u64::from(sizes[0]);
        }
        unreachable!("the draw is below the sum")
    }
}

/// One in `eta` of so many, rounded down.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "no more than a number of jobs"
)]
fn share(jobs: u64, eta: f64) -> u64 {
    (jobs as f64 / eta) as u64
}

/// The brackets that are not finished, as far as results are known.
#[derive(Debug, Clone)]
pub struct Brackets {
    table: Table,
    live: BTreeMap<u32, Bracket>,
    /// Brackets that are finished although earlier ones may not be.
    finished: BTreeSet<u32>,
    due: BTreeSet<JobId>,
}

/// What the promotion that comes next waits for, for people and scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NextPromotion {
    /// The bracket; none where promotions have no barrier.
    pub bracket: Option<u32>,
    /// The rung whose results are missing.
    pub rung: u8,
    /// How many are; without barrier about.
    pub missing: usize,
    /// How many configurations are then promoted; 0 if the bracket ends there.
    pub promoted: usize,
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

    /// Takes note of a result; returns the configurations that will get no job any more.
    ///
    /// The same results in any order lead to the same state.
    pub fn record(&mut self, job: JobId, verdict: Verdict) -> Vec<ConfigurationId> {
        let number = self.table.place(job.configuration).bracket;
        self.due.remove(&job);
        if self.finished.contains(&number) {
            return vec![job.configuration];
        }
        let table = &self.table;
        let bracket = self
            .live
            .entry(number)
            .or_insert_with(|| Bracket::new(table, number));
        let retired = bracket.record(job, verdict, &mut self.due);
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
        if job.rung <= place.rung || self.finished.contains(&place.bracket) {
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
    early: BTreeMap<JobId, Verdict>,
    /// Jobs of higher rungs that were offered already.
    promoted: BTreeSet<JobId>,
}

impl Bracket {
    fn new(table: &Table, number: u32) -> Self {
        let first = u32::try_from(table.first_of(number)).expect("ids are below the total");
        let sizes = table.sizes(number).to_vec();
        Self {
            first_rung: table.first_rung(number),
            missing: (first..first + sizes[0]).map(ConfigurationId).collect(),
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
        verdict: Verdict,
        due: &mut BTreeSet<JobId>,
    ) -> Vec<ConfigurationId> {
        let mut retired = Vec::new();
        if job.rung > self.rung() {
            self.early.insert(job, verdict);
            return retired;
        }
        self.take(job, verdict, &mut retired);
        while self.missing.is_empty() && !self.is_finished() {
            self.advance(due, &mut retired);
        }
        retired
    }

    fn take(&mut self, job: JobId, verdict: Verdict, retired: &mut Vec<ConfigurationId>) {
        let configuration = job.configuration;
        if job.rung != self.rung() || !self.missing.remove(&configuration) {
            return;
        }
        match verdict {
            Verdict::Evaluated(loss) => {
                self.evaluated.insert(Ranked {
                    loss,
                    configuration,
                });
            }
            Verdict::Failed | Verdict::Lost => retired.push(configuration),
        }
    }

    /// All results of this rung are known: the best go up.
    fn advance(&mut self, due: &mut BTreeSet<JobId>, retired: &mut Vec<ConfigurationId>) {
        self.stage += 1;
        let size = self.sizes.get(self.stage).map_or(0, |size| *size as usize);
        let ranked = std::mem::take(&mut self.evaluated);
        let rung = self.rung();
        for (place, ranked) in ranked.into_iter().enumerate() {
            let job = ranked.configuration.job(rung);
            let is_promoted = self.promoted.remove(&job) || self.early.contains_key(&job);
            if place < size || is_promoted {
                self.missing.insert(ranked.configuration);
            } else {
                retired.push(ranked.configuration);
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
        for (job, verdict) in std::mem::take(&mut self.early) {
            if job.rung == rung {
                self.take(job, verdict, retired);
            } else {
                self.early.insert(job, verdict);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use shared::SearchFile;
    use shared::search::MethodName;

    use super::*;
    use crate::test_search::{of_whole_numbers, search, search_with};

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
    fn ids_are_dealt_to_brackets_in_turn() {
        let table = Table::new(&search(1, 9, 3)).unwrap();
        let place = |id| {
            let place = table.place(ConfigurationId(id));
            (place.bracket, place.rung)
        };
        assert_eq!(table.total(), 15);
        assert_eq!([place(0), place(8)], [(0, 0), (0, 0)]);
        assert_eq!([place(9), place(11)], [(1, 1), (1, 1)]);
        assert_eq!([place(12), place(14)], [(2, 2), (2, 2)]);
        assert_eq!([place(15), place(24)], [(3, 0), (4, 1)]);
        assert_eq!(table.expected_jobs(), [9, 6, 5]);
        let with = |brackets| {
            let search = search_with(1, 9, 3, |file| file.limit = Limit::Brackets(brackets));
            Table::new(&search).unwrap().expected_jobs()
        };
        assert_eq!(
            [with(1), with(2), with(4)],
            [[9, 3, 1], [9, 6, 2], [18, 9, 6]]
        );
    }

    #[test]
    fn an_extended_table_is_that_of_a_search_with_the_larger_limit() {
        let with = |brackets| {
            Table::new(&search_with(1, 9, 3, |file| {
                file.limit = Limit::Brackets(brackets);
            }))
            .unwrap()
        };
        let mut table = with(2);
        table.extend(Limit::Brackets(3)).unwrap();
        let whole = with(5);
        assert_eq!(table.total(), whole.total());
        assert_eq!(table.expected_jobs(), whole.expected_jobs());
        for id in (0..whole.total()).map(ConfigurationId) {
            assert_eq!(table.place(id), whole.place(id));
        }
        assert!(table.extend(Limit::Configurations(3)).is_err());
        assert!(table.extend(Limit::Brackets(u32::MAX)).is_err());
        assert_eq!(table.total(), whole.total());
    }

    #[test]
    fn brackets_start_at_the_rungs_that_the_search_names() {
        let of = |change: fn(&mut SearchFile)| Table::new(&search_with(1, 9, 3, change)).unwrap();
        let places = |table: &Table| {
            let place = |id| table.place(ConfigurationId(id));
            [8, 9, 11, 12, 15, 21].map(|id| (place(id).bracket, place(id).rung))
        };
        // Sizes [9,3,1] and [3] by turns.
        let expected = [(0, 0), (1, 2), (1, 2), (2, 0), (2, 0), (3, 2)];
        let named = of(|file| {
            file.first_rungs = Some(vec![0, 2]);
            file.limit = Limit::Brackets(4);
        });
        assert_eq!(places(&named), expected);
        assert_eq!((named.total(), named.expected_jobs()), (24, vec![18, 6, 8]));
        let tandem = of(|file| file.method = MethodName::Tandem);
        let expected = [(0, 0), (1, 2), (1, 2), (2, 2), (3, 0), (3, 0)];
        assert_eq!(places(&tandem), expected);
        let lowest = of(|file| file.first_rungs = Some(vec![1]));
        assert_eq!(
            lowest.place(ConfigurationId(7)),
            Place {
                bracket: 2,
                rung: 1
            }
        );
    }

    #[test]
    fn without_barrier_brackets_are_drawn_in_proportion_to_their_first_rungs() {
        let table = Table::new(&search_with(1, 9, 3, |file| {
            file.scheduling = Scheduling::Asynchronous;
            file.limit = Limit::Configurations(6000);
        }))
        .unwrap();
        let mut counts = [0u32; 3];
        for id in 0..6000 {
            counts[table.place(ConfigurationId(id)).bracket as usize] += 1;
        }
        // 9:3:3 of 6000; four standard deviations are about 150.
        assert!(counts[0].abs_diff(3600) < 150, "{counts:?}");
        assert!(counts[1].abs_diff(1200) < 130, "{counts:?}");
    }

    #[test]
    fn the_bracket_in_which_a_small_space_ends_has_what_those_behind_it_would_have_had() {
        let of = |number, change: fn(&mut SearchFile)| {
            let search = search_with(1, 9, 3, |file| {
                of_whole_numbers(file, number);
                change(file);
            });
            Table::new(&search).unwrap()
        };
        let sizes = |table: &Table| -> Vec<Vec<u32>> {
            let number = table.num_brackets().unwrap_or(3);
            (0..number).map(|b| table.sizes(b).to_vec()).collect()
        };
        // [9,3,1] [3,1] [3] where there is enough.
        let enough = of(15, |_| {});
        assert_eq!(sizes(&enough), [vec![9, 3, 1], vec![3, 1], vec![3]]);
        assert_eq!(enough.num_brackets(), None);
        // 3 + 3 on rung 1, 1 + 1 + 3 on rung 2.
        let seven = of(7, |_| {});
        assert_eq!(sizes(&seven), [vec![7, 6, 5]]);
        assert_eq!((seven.total(), seven.expected_jobs()), (7, vec![7, 6, 5]));
        let eleven = of(11, |_| {});
        assert_eq!(sizes(&eleven), [vec![9, 3, 1], vec![2, 2]]);
        assert_eq!(eleven.expected_jobs(), [9, 5, 3]);
        let one = of(1, |_| {});
        assert_eq!(sizes(&one), [vec![1, 1, 1]]);
        // Tandem's brackets begin at the lowest rung, then twice at the top: all of these pass the middle.
        let tandem = of(9, |file| file.method = MethodName::Tandem);
        assert_eq!(sizes(&tandem), [vec![9, 7, 7]]);
        let random = of(4, |file| {
            file.method = MethodName::Random;
            file.limit = Limit::Brackets(2);
        });
        assert_eq!((random.total(), sizes(&random)), (4, vec![vec![4]]));
        let without_barrier = of(4, |file| {
            file.scheduling = Scheduling::Asynchronous;
            file.limit = Limit::Configurations(30);
        });
        assert_eq!(without_barrier.total(), 4);
    }

    #[test]
    fn a_search_with_more_configurations_than_ids_is_refused() {
        let search = search_with(1, 59_049, 3, |file| file.limit = Limit::Brackets(u32::MAX));
        assert_eq!(Table::new(&search).unwrap_err().at, "limit");
    }

    #[test]
    fn the_best_third_moves_up_when_the_last_result_is_in() {
        let mut brackets = brackets();
        for id in 0..8 {
            assert_eq!(
                brackets.record(job(id, 0), Verdict::Evaluated(f64::from(id % 4))),
                []
            );
            assert_eq!(due(&brackets), [""; 0]);
        }
        // Losses 0 1 2 3 0 1 2 3 and 9: of the equal ones 1 and 5 the lower id goes up.
        let retired = brackets.record(job(8, 0), Verdict::Evaluated(9.0));
        assert_eq!(due(&brackets), ["c000000-r1", "c000001-r1", "c000004-r1"]);
        assert_eq!(retired.len(), 6);
        brackets.offered(job(1, 1));
        assert_eq!(due(&brackets), ["c000000-r1", "c000004-r1"]);
    }

    #[test]
    fn failures_are_never_promoted_and_make_the_next_rung_smaller() {
        let mut brackets = brackets();
        brackets.record(job(3, 0), Verdict::Evaluated(5.0));
        for id in [0, 1, 2, 4, 5, 6, 7] {
            brackets.record(job(id, 0), Verdict::Failed);
        }
        brackets.record(job(8, 0), Verdict::Lost);
        assert_eq!(due(&brackets), ["c000003-r1"]);
        brackets.record(job(3, 1), Verdict::Failed);
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
        brackets.record(job(0, 1), Verdict::Evaluated(0.5));
        for id in 0..8 {
            brackets.record(job(id, 0), Verdict::Evaluated(f64::from(id)));
        }
        assert_eq!(due(&brackets), [""; 0]);
        brackets.record(job(8, 0), Verdict::Evaluated(-1.0));
        assert_eq!(due(&brackets), ["c000008-r1"]);
        for id in [1, 2] {
            brackets.record(job(id, 1), Verdict::Evaluated(1.0));
        }
        assert_eq!(due(&brackets), ["c000008-r1"]);
        brackets.offered(job(8, 1));
        brackets.record(job(8, 1), Verdict::Evaluated(0.1));
        assert_eq!(due(&brackets), ["c000008-r2"]);
    }

    proptest! {
        #[test]
        fn the_order_of_results_does_not_matter(
            losses in proptest::collection::vec(0u8..6, 9),
            failed in proptest::collection::vec(proptest::bool::weighted(0.2), 9),
            order in Just((0..13usize).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let verdict = |id: u32| if failed[id as usize] { Verdict::Failed } else {
                Verdict::Evaluated(f64::from(losses[id as usize]))
            };
            // Reference: rung by rung.
            let mut reference = brackets();
            let mut all: Vec<JobId> = (0..9).map(|id| job(id, 0)).collect();
            for job in &all { reference.record(*job, verdict(job.configuration.0)); }
            loop {
                let due: Vec<JobId> = reference.promotions().collect();
                if due.is_empty() { break }
                for job in due { reference.record(job, verdict(job.configuration.0)); all.push(job); }
            }
            let mut shuffled = brackets();
            for index in order {
                if let Some(job) = all.get(index) { shuffled.record(*job, verdict(job.configuration.0)); }
            }
            prop_assert_eq!(due(&shuffled), due(&reference));
            prop_assert_eq!(&shuffled.finished, &reference.finished);
            prop_assert!(shuffled.finished.contains(&0));
        }
    }
}
