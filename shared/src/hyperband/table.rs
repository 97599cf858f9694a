//! Which configurations a search will have, in which brackets, and where each of them starts.

use rand::RngExt as _;

use crate::error::Invalid;
use crate::id::ConfigurationId;
use crate::record::Extension;
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

/// Which configurations a search will have, and where each of them starts: a function of the search and its extensions.
///
/// With a barrier, bracket after bracket gets the next ids. Without, a draw that is seeded by the id decides: kind s of
/// bracket with a probability proportional to the size of its first rung, which gives rungs the same shares of new
/// configurations as running the brackets in turn (Li et al. 2020, asynchronous Hyperband).
///
/// Where an extension adds rungs on top, the brackets behind it have them. Of those before it, the best 1/eta of all that
/// come to their top go on to the rungs above, together: see [`Pool`].
#[derive(Debug, Clone)]
pub struct Table {
    /// Never empty; one more for each larger largest budget.
    spans: Vec<Span>,
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

/// Brackets on one ladder, up to those on a longer one.
#[derive(Debug, Clone)]
struct Span {
    /// The first of these brackets; without barrier the first of these kinds, counted over all spans.
    first_bracket: u32,
    /// How many brackets the limit counted when it began.
    limit: u32,
    /// The number of its first configuration among those of brackets.
    first: u128,
    /// Sizes of their rungs, lowest first; brackets are of these kinds in turn.
    kinds: Vec<Vec<u32>>,
    /// How many rungs their ladder has, with repetitions.
    num_rungs: u8,
}

/// Those that come to the top of all brackets on one ladder, of which the best go on to the rungs that an extension has
/// added; of those again the best where it has added several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pool {
    /// The brackets, and the pool before this one, whose ends it waits for.
    pub(super) num_awaited: usize,
    /// The top of the brackets' ladder.
    pub(super) first_rung: u8,
    /// How many are to come there, and how many of them to each rung above, up to the top of the next ladder.
    pub(super) sizes: Vec<u32>,
}

impl Table {
    /// The table of a search without its extensions; complaints are about its limit.
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
        let ladder = search.ladder.original();
        Self {
            spans: vec![Span {
                first_bracket: 0,
                limit: 0,
                first: 0,
                kinds: search.kinds_of_brackets(&ladder),
                num_rungs: ladder.num_levels(),
            }],
            num_rungs: ladder.num_levels(),
            top: ladder.top(),
            eta: ladder.eta(),
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
    pub(crate) fn given_at(&self, id: ConfigurationId) -> Option<u8> {
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
        // Its sizes were those with the old limit.
        self.last = None;
        self.last = match limit {
            Limit::Brackets(number) if total < wanted && self.draw.is_none() => {
                Some(self.last_bracket(number))
            }
            Limit::Brackets(_) | Limit::Configurations(_) => None,
        };
        self.limit = limit;
        Ok(())
    }

    /// Adds what an extension asks for: first rungs on top, then more of what the search's limit counts. What there is keeps
    /// its place.
    ///
    /// # Errors
    /// The limit counts something else, or there would be too many, or there can be no rung with that budget.
    pub fn extend(&mut self, search: &Search, extension: &Extension) -> Result<(), Invalid> {
        let mut extended = self.clone();
        if let Some(max_budget) = extension.max_budget {
            extended.raise(search, max_budget)?;
        }
        if let Some(more) = extension.limit {
            extended.add(more)?;
        }
        *self = extended;
        Ok(())
    }

    fn raise(&mut self, search: &Search, max_budget: f64) -> Result<(), Invalid> {
        let ladder = search.ladder_to(max_budget)?;
        if ladder.top() <= self.top {
            return Ok(());
        }
        let last = self.last_span();
        let limit = match self.limit {
            Limit::Brackets(number) => number,
            Limit::Configurations(_) => 0,
        };
        let first = match self.limit {
            Limit::Brackets(number) => self.first_of(number),
            Limit::Configurations(number) => u128::from(number),
        };
        let first_bracket = match self.draw {
            None => limit,
            Some(_) => last.first_bracket + u32::try_from(last.kinds.len()).unwrap_or(u32::MAX), // at most 54
        };
        self.spans.push(Span {
            first_bracket,
            limit,
            first,
            kinds: search.kinds_of_brackets(&ladder),
            num_rungs: ladder.num_levels(),
        });
        self.top = ladder.top();
        self.num_rungs = ladder.num_levels();
        Ok(())
    }

    fn add(&mut self, more: Limit) -> Result<(), Invalid> {
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
        // On the same ladder: what is on a longer one would have been other trainings.
        let behind = self.spans.iter().map(|span| span.first_bracket);
        let end = behind.filter(|first| *first > last).min();
        for bracket in last..num_brackets.min(end.unwrap_or(u32::MAX)) {
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

    /// The uppermost rung, where extensions have added some.
    pub fn raised_top(&self) -> Option<u8> {
        (self.spans.len() > 1).then_some(self.top)
    }

    pub(super) fn is_synchronous(&self) -> bool {
        self.draw.is_none()
    }

    pub(super) fn eta(&self) -> f64 {
        self.eta
    }

    /// The top of the ladder, with all repetitions above it.
    pub(super) fn top(&self) -> u8 {
        self.top
    }

    /// Sizes of a bracket's rungs, lowest first.
    pub fn sizes(&self, bracket: u32) -> &[u32] {
        if let Some((last, sizes)) = &self.last
            && *last == bracket
        {
            return sizes;
        }
        self.span_of(bracket).sizes(bracket)
    }

    /// The rung a bracket starts at.
    pub fn first_rung(&self, bracket: u32) -> u8 {
        let num_rungs = self.span_of(bracket).num_rungs;
        // There is at most one size a rung.
        let length = u8::try_from(self.sizes(bracket).len()).unwrap_or(num_rungs);
        num_rungs - length
    }

    /// Whether a job is on a rung that the search file does not have, or in a bracket that does.
    pub fn is_beyond_the_file(&self, bracket: u32, rung: u8) -> bool {
        let file = &self.spans[0];
        rung >= file.num_rungs || self.span_of(bracket).num_rungs > file.num_rungs
    }

    fn last_span(&self) -> &Span {
        self.spans.last().expect("there is one")
    }

    fn span_of(&self, bracket: u32) -> &Span {
        &self.spans[self.span_number(bracket)]
    }

    /// Which of the ladders a bracket is on, the search file's being 0.
    pub(super) fn span_number(&self, bracket: u32) -> usize {
        let behind = |span: &Span| span.first_bracket <= bracket;
        self.spans.partition_point(behind) - 1
    }

    /// The span that has a configuration, by its number among those of brackets.
    fn span_with(&self, number: ConfigurationId) -> &Span {
        let behind = |span: &Span| span.first <= u128::from(number.0);
        &self.spans[self.spans.partition_point(behind) - 1]
    }

    /// The brackets of a span with a barrier: the first rung and sizes of each kind, and how many there are.
    fn brackets_in(&self, span: usize) -> Vec<(u8, &[u32], u32)> {
        let Limit::Brackets(limit) = self.limit else {
            return Vec::new();
        };
        let end = self
            .spans
            .get(span + 1)
            .map_or(limit, |next| next.first_bracket);
        let span = &self.spans[span];
        let whole = self.last.as_ref().map_or(end, |(last, _)| end.min(*last));
        let number = whole.saturating_sub(span.first_bracket);
        let kinds = u32::try_from(span.kinds.len()).unwrap_or(u32::MAX); // at most 54
        let mut all: Vec<(u8, &[u32], u32)> = (0..kinds)
            .zip(&span.kinds)
            .map(|(kind, sizes)| {
                let count = number / kinds + u32::from(kind < number % kinds);
                (span.first_rung(sizes), sizes.as_slice(), count)
            })
            .collect();
        if let Some((last, sizes)) = &self.last
            && (span.first_bracket..end).contains(last)
        {
            all.push((span.first_rung(sizes), sizes, 1));
        }
        all
    }

    /// What goes on beyond the top of its bracket's ladder: a pool for each ladder but the last.
    pub(super) fn pools(&self) -> Vec<Pool> {
        let mut pools: Vec<Pool> = Vec::new();
        for (index, pair) in self.spans.windows(2).enumerate() {
            let brackets = self.brackets_in(index);
            let number: u32 = brackets.iter().map(|(_, _, number)| number).sum();
            let tops = brackets.iter().map(|(_, sizes, number)| {
                let top = sizes.last().copied().unwrap_or(0);
                top.saturating_mul(*number)
            });
            // Of the pool before this one.
            let come = pools.last().and_then(|pool| pool.sizes.last().copied());
            let first = tops.chain(come).fold(0, u32::saturating_add);
            let mut sizes = vec![first];
            for _ in pair[0].num_rungs..pair[1].num_rungs {
                let size = share(u64::from(sizes[sizes.len() - 1]), self.eta);
                sizes.push(u32::try_from(size).unwrap_or(u32::MAX).max(1));
            }
            pools.push(Pool {
                num_awaited: number as usize + usize::from(come.is_some()),
                first_rung: pair[0].num_rungs - 1,
                sizes,
            });
        }
        pools
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
        let mut jobs = match self.draw {
            None => self.jobs_with_barrier(),
            Some(_) => self.jobs_without_barrier(),
        };
        for (_, rung) in &self.given {
            jobs[usize::from(*rung)] += 1;
        }
        jobs
    }

    fn jobs_with_barrier(&self) -> Vec<u64> {
        let mut jobs = vec![0; usize::from(self.num_rungs)];
        for (first, sizes, number) in (0..self.spans.len()).flat_map(|span| self.brackets_in(span))
        {
            for (rung, size) in (usize::from(first)..).zip(sizes) {
                jobs[rung] += u64::from(number) * u64::from(*size);
            }
        }
        for pool in self.pools() {
            for (rung, size) in (usize::from(pool.first_rung)..).zip(&pool.sizes).skip(1) {
                jobs[rung] += u64::from(*size);
            }
        }
        jobs
    }

    fn jobs_without_barrier(&self) -> Vec<u64> {
        let mut jobs = vec![0; usize::from(self.num_rungs)];
        for (index, span) in self.spans.iter().enumerate() {
            let total = u128::from(self.total);
            let end = self
                .spans
                .get(index + 1)
                .map_or(total, |next| next.first.min(total));
            let number = u64::try_from(end.saturating_sub(span.first)).unwrap_or(u64::MAX); // below the total
            for sizes in &span.kinds {
                let first = usize::from(span.first_rung(sizes));
                jobs[first] += number * u64::from(sizes[0]) / span.per_cycle();
            }
        }
        for rung in 1..jobs.len() {
            let is_repeated = rung > usize::from(self.top);
            let eta = if is_repeated { 1.0 } else { self.eta };
            jobs[rung] += share(jobs[rung - 1], eta);
        }
        jobs
    }

    /// The number of configurations in all brackets before this one.
    pub(super) fn first_of(&self, bracket: u32) -> u128 {
        let behind = |span: &Span| span.limit <= bracket;
        let span = &self.spans[self.spans.partition_point(behind) - 1];
        let bracket = bracket - span.limit;
        let kinds = span.kinds.len();
        let in_cycle = &span.kinds[..bracket as usize % kinds];
        let rest: u128 = in_cycle.iter().map(|sizes| u128::from(sizes[0])).sum();
        span.first + u128::from(bracket) / kinds as u128 * u128::from(span.per_cycle()) + rest
    }

    fn bracket_by_order(&self, number: ConfigurationId) -> u32 {
        let span = self.span_with(number);
        let within = u64::from(number.0) - u64::try_from(span.first).unwrap_or(u64::MAX); // at most the number
        let mut rest = within % span.per_cycle();
        let cycle = within / span.per_cycle();
        let mut kind = 0;
        while rest >= u64::from(span.kinds[kind][0]) {
            rest -= u64::from(span.kinds[kind][0]);
            kind += 1;
        }
        let bracket = cycle * span.kinds.len() as u64 + kind as u64;
        span.first_bracket + u32::try_from(bracket).expect("no more brackets than configurations")
    }

    fn bracket_by_draw(&self, seed: Seed, number: ConfigurationId) -> u32 {
        let span = self.span_with(number);
        let mut rest = seed
            .child("bracket", number)
            .rng()
            .random_range(0..span.per_cycle());
        for (kind, sizes) in (span.first_bracket..).zip(&span.kinds) {
            if rest < u64::from(sizes[0]) {
                return kind;
            }
            rest -= u64::from(sizes[0]);
        }
        unreachable!("the draw is below the sum")
    }
}

impl Span {
    /// Configurations of one bracket of each kind.
    fn per_cycle(&self) -> u64 {
        self.kinds.iter().map(|sizes| u64::from(sizes[0])).sum()
    }

    fn sizes(&self, bracket: u32) -> &[u32] {
        let place = (bracket - self.first_bracket) as usize;
        &self.kinds[place % self.kinds.len()]
    }

    fn first_rung(&self, sizes: &[u32]) -> u8 {
        let length = u8::try_from(sizes.len()).unwrap_or(self.num_rungs); // one a rung at most
        self.num_rungs - length
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
mod tests;
