//! Which configurations a search will have, in which brackets, and where each of them starts.

use rand::RngExt as _;

use crate::error::Invalid;
use crate::id::ConfigurationId;
use crate::search::{Limit, Scheduling, Search};
use crate::seed::Seed;

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
    /// All that come here go on to the repetitions above.
    top: u8,
    eta: f64,
    limit: Limit,
    /// As many configurations as the space has, where that is known to be few.
    most: Option<u64>,
    total: u32,
    /// The bracket in which the space has no untried configuration left, and the sizes of its rungs.
    last: Option<(u32, Vec<u32>)>,
    /// The seed of the draws; only without barrier.
    draw: Option<Seed>,
    /// Configurations that somebody gave, ascending, and the rung of each: they are in no bracket, and the brackets' go on
    /// behind them.
    given: Vec<(ConfigurationId, u8)>,
}

impl Table {
    /// The table of a search; complaints are about its limit.
    pub fn new(search: &Search) -> Result<Self, Invalid> {
        let mut table = Self {
            most: search.most_configurations(),
            ..Self::endless(search)
        };
        table.set_limit(search.limit)?;
        Ok(table)
    }

    /// The table of a search that never ends, for simulations: also a small space's brackets are whole.
    pub fn endless(search: &Search) -> Self {
        Self {
            kinds: (0..)
                .take(search.first_rungs.len())
                .map(|bracket| search.bracket_sizes(bracket))
                .collect(),
            num_rungs: search.ladder.num_levels(),
            top: search.ladder.top(),
            eta: search.ladder.eta(),
            limit: Limit::Brackets(u32::MAX),
            most: None,
            total: u32::MAX,
            last: None,
            draw: match search.scheduling {
                Scheduling::Synchronous => None,
                Scheduling::Asynchronous => Some(search.seed),
            },
            given: Vec::new(),
        }
    }

    /// A configuration that somebody gave takes an id that is not taken so far: those of the brackets come after it.
    pub fn insert(&mut self, id: ConfigurationId, rung: u8) {
        self.given.push((id, rung));
    }

    /// The rung of a configuration that somebody gave; `None` for those of brackets.
    pub fn given_at(&self, id: ConfigurationId) -> Option<u8> {
        let found = self.given.binary_search_by_key(&id, |(id, _)| *id);
        found.ok().map(|place| self.given[place].1) // no such id: of a bracket
    }

    /// The number of a configuration among those of brackets.
    fn number(&self, id: ConfigurationId) -> ConfigurationId {
        let before = self.given.partition_point(|(given, _)| *given < id);
        ConfigurationId(id.0 - u32::try_from(before).expect("no more than ids"))
    }

    /// The id of the configuration with a number among those of brackets.
    pub(super) fn id(&self, number: u32) -> ConfigurationId {
        let mut id = ConfigurationId(number);
        for (given, _) in &self.given {
            if *given > id {
                break;
            }
            id.0 += 1;
        }
        id
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
        let given = u32::try_from(self.given.len()).unwrap_or(u32::MAX); // no more than ids
        self.total.saturating_add(given)
    }

    /// How many brackets there will be, where the space ends them; the last one may be another than its kind.
    pub fn num_brackets(&self) -> Option<u32> {
        self.last.as_ref().map(|(last, _)| last + 1)
    }

    /// How many rungs the ladder has, with repetitions.
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

    /// Where a configuration starts. One that somebody gave counts to the bracket of the next.
    pub fn place(&self, id: ConfigurationId) -> Place {
        let number = self.number(id);
        let bracket = match self.draw {
            None => self.bracket_by_order(number),
            Some(seed) => self.bracket_by_draw(seed, number),
        };
        if let Some(rung) = self.given_at(id) {
            return Place { bracket, rung };
        }
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
                let is_repeated = rung > usize::from(self.top);
                let eta = if is_repeated { 1.0 } else { self.eta };
                jobs[rung] += share(jobs[rung - 1], eta);
            }
        }
        for (_, rung) in &self.given {
            jobs[usize::from(*rung)] += 1;
        }
        jobs
    }

    /// The number of configurations in all brackets before this one.
    pub(super) fn first_of(&self, bracket: u32) -> u128 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hyperband::testing::{of_whole_numbers, search, search_with};
    use crate::search::{MethodName, SearchFile};

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
    fn tandem_leaves_out_every_second_rung_since_revision_4_unless_first_rungs_are_named() {
        let of = |revision, max, first_rungs: Option<&[u8]>| {
            let search = search_with(1, max, 3, |file| {
                file.method = MethodName::Tandem;
                file.revision = revision;
                file.first_rungs = first_rungs.map(<[u8]>::to_vec);
            });
            let rungs = 0..search.ladder.num_rungs();
            let budgets: Vec<String> = rungs.map(|r| search.ladder.budget(r).to_string()).collect();
            let sizes = search.bracket_sizes(0);
            (budgets.join(", "), search.first_rungs, sizes)
        };
        let all = |first_rungs: &[u8]| {
            let budgets = "1 step, 3 steps, 9 steps".to_owned();
            (budgets, first_rungs.to_vec(), vec![9, 3, 1])
        };
        for before in [None, Some(2), Some(3)] {
            assert_eq!(of(before, 9, None), all(&[0, 2, 2]), "{before:?}");
        }
        let two = |budgets: &str, sizes: [u32; 2]| (budgets.to_owned(), vec![0], sizes.to_vec());
        assert_eq!(of(Some(4), 9, None), two("1 step, 9 steps", [9, 1]));
        assert_eq!(of(Some(4), 3, None), two("1 step, 3 steps", [3, 1]));
        assert_eq!(of(Some(4), 9, Some(&[0, 2, 2])), all(&[0, 2, 2]));
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
        // Before revision 4 tandem's brackets begin at the lowest rung, then twice at the top: all of these pass the middle.
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
}
