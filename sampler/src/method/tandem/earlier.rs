//! Results of earlier searches: believed as far as they foretell this one's.
//!
//! ```text
//! levels     earlier 0 ─ own 0 ─ earlier 1 ─ own 1 ─ … ─ earlier R ─ own R      where the earlier search has results
//! model s    sees one earlier search and all of this one; its steps between levels are fitted as those between rungs are
//! trust s    Φ(Σᵣ zᵣ / √R),   zᵣ = (rank correlation of this search's losses on rung r with what the earlier search alone
//!            foretells for them) √(nᵣ - 1)                       R: rungs with three results or more
//! share s    of the proposals: max(0, 2 trust - 1), at most 0.9, of several the largest in all, in proportion to each
//! ```
//! An earlier search has scores and offsets of its own, so only what it says of differences between configurations
//! counts: its losses may be on another scale. Improvements are counted from the best of this search: what was best
//! elsewhere is the first thing to be asked for here, not something that is had already. It has to show that it
//! foretells: one that says nothing of this search has a small share by chance, and one that misleads none.
//!
//! Until there are three results, half of the configurations are the best of the earlier searches; then, until a model is
//! asked, as many as the share says, at most half.
//!
//! Range of validity: any number of results, on any rungs.
//!
//! # Source
//! Starting from what was best on other data: Feurer et al. 2015. Weighing earlier searches by how they foretell this
//! one: Feurer et al. 2018 (RGPE), who count misordered pairs as well.

use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;
use shared::ranks::{correlation, mean_ranks};
use shared::{ConfigurationId, Ranked, Score};

use super::scores::scores;
use super::{FIT_STEPS, MOST_FITTED, Tandem, choose};
use crate::history::{EarlierSearch, History};
use crate::method::Suggestion;
use crate::normal;
use crate::surrogate::{KernelParameters, Observation, Surrogate, Work};

/// Share of the configurations that come from earlier searches until a model is asked.
const START_FRACTION: f64 = 0.5;
/// Only the best one in so many of an earlier search is worth asking for again.
const ONE_IN: usize = 4;
/// An earlier search has one in so many of the observations at least.
const FEWEST_SHARE: usize = 3;
/// The largest share of the proposals: the others see this search alone.
const LARGEST_SHARE: f64 = 0.9;
/// Results of a rung that an earlier search is compared with, at least and at most.
const FEWEST_COMPARED: usize = 3;
const MOST_COMPARED: usize = 100;
/// Results on a rung from which an earlier search is asked about that rung alone.
const FEWEST_ON_RUNG: usize = 8;

/// The steps of the model's process, from the one that says least of the top rung.
#[derive(Debug)]
pub(super) struct Levels {
    /// Of this search's rungs.
    pub(super) own: Vec<usize>,
    /// Of the earlier search's; meaningless where it has no results.
    earlier: Vec<usize>,
    /// How many there are.
    pub(super) count: usize,
}

impl Levels {
    pub(super) fn new(num_rungs: usize, earlier: Option<&EarlierSearch>) -> Self {
        let (mut own, mut before) = (Vec::new(), Vec::new());
        let mut count = 0;
        for rung in 0..num_rungs {
            let mut results = earlier.iter().flat_map(|search| &search.results);
            before.push(count);
            count += usize::from(results.any(|result| usize::from(result.rung) == rung));
            own.push(count);
            count += 1;
        }
        Self {
            own,
            earlier: before,
            count,
        }
    }
}

impl Tandem {
    /// What an earlier search contributes to `most` observations, beside `num_own` results.
    pub(super) fn earlier_observations(
        &self,
        search: &EarlierSearch,
        levels: &Levels,
        num_own: usize,
        most: usize,
    ) -> Vec<Observation> {
        let mut by_rung: Vec<Vec<Ranked>> = vec![Vec::new(); self.num_rungs];
        for (number, result) in (0..).zip(&search.results) {
            by_rung[self.rung(result.rung)].push(Ranked {
                score: result.score,
                job: ConfigurationId(number).job(result.rung),
            });
        }
        for rung in &mut by_rung {
            rung.sort_unstable();
        }
        let by_rung: Vec<&[Ranked]> = by_rung.iter().map(Vec::as_slice).collect();
        let room = (most / FEWEST_SHARE).max(most.saturating_sub(num_own));
        let chosen = choose(&by_rung, room);
        let values = scores(&chosen);
        let observation = |(ranked, value): (&Ranked, f64)| {
            let result = &search.results[ranked.job.configuration.0 as usize];
            Observation {
                point: self.features.of_vector(&result.vector),
                rung: levels.earlier[self.rung(result.rung)],
                value,
            }
        };
        chosen.iter().zip(values).map(observation).collect()
    }
}

/// The shares of the proposals that come from models that see the earlier searches; they sum to at most
/// [`LARGEST_SHARE`].
pub(super) fn shares(method: &Tandem, history: &History, own: &[Ranked]) -> Vec<f64> {
    let share = |search| {
        let trust = trust(method, history, search, own).unwrap_or(0.5);
        (2.0 * trust - 1.0).clamp(0.0, LARGEST_SHARE)
    };
    let mut shares: Vec<f64> = history.earlier().iter().map(share).collect();
    let (largest, sum) = (
        shares.iter().copied().fold(0.0, f64::max),
        shares.iter().sum::<f64>(),
    );
    if sum > 0.0 {
        for share in &mut shares {
            *share *= largest / sum;
        }
    }
    shares
}

/// How far this search's results bear an earlier one out; `None` while there are fewer than three on each rung.
fn trust(
    method: &Tandem,
    history: &History,
    search: &EarlierSearch,
    own: &[Ranked],
) -> Option<f64> {
    let (mut sum, mut num_rungs) = (0.0, 0.0);
    for rung in 0..method.num_rungs {
        let on_rung = own.iter().rev().filter(|r| method.rung(r.job.rung) == rung);
        let mut newest: Vec<Ranked> = on_rung.take(MOST_COMPARED).copied().collect();
        newest.sort_unstable();
        if newest.len() < FEWEST_COMPARED {
            continue;
        }
        let predicted = method.foretold(history, search, rung, &newest)?;
        let by_loss = mean_ranks(&newest, Ord::cmp, |a, b| a.score == b.score);
        let by_prediction = mean_ranks(&predicted, f64::total_cmp, |a, b| a.total_cmp(b).is_eq());
        if let Some(correlation) = correlation(&by_loss, &by_prediction) {
            sum += correlation * (newest.len() as f64 - 1.0).sqrt();
            num_rungs += 1.0;
        }
    }
    (num_rungs > 0.0).then(|| normal::distribution(sum / f64::sqrt(num_rungs)))
}

impl Tandem {
    /// What an earlier search alone says of configurations on a rung, the smaller the better: by its results there or,
    /// where it has few, by all.
    fn foretold(
        &self,
        history: &History,
        search: &EarlierSearch,
        rung: usize,
        own: &[Ranked],
    ) -> Option<Vec<f64>> {
        let ranked = (0..).zip(&search.results).map(|(number, result)| Ranked {
            score: result.score,
            job: ConfigurationId(number).job(result.rung),
        });
        let mut there: Vec<Ranked> = ranked.collect();
        there.sort_unstable();
        let on_rung: Vec<Ranked> = there
            .iter()
            .filter(|ranked| self.rung(ranked.job.rung) == rung)
            .copied()
            .collect();
        let seen = if on_rung.len() < FEWEST_ON_RUNG {
            &there
        } else {
            &on_rung
        };
        let chosen = choose(&[seen], MOST_FITTED / FEWEST_SHARE);
        let observation = |(ranked, value): (&Ranked, f64)| Observation {
            point: self
                .features
                .of_vector(&search.results[ranked.job.configuration.0 as usize].vector),
            rung: 0,
            value,
        };
        let values = scores(&chosen);
        let observations: Vec<Observation> = chosen.iter().zip(values).map(observation).collect();
        let parameters = KernelParameters::fit(
            &self.features,
            &observations,
            1,
            self.length_prior,
            FIT_STEPS,
        );
        let model = Surrogate::new(&self.features, &parameters, &observations, &[], 0)?;
        let mut work = Work::default();
        let mean = |ranked: &Ranked| {
            let vector = history.vector(ranked.job.configuration);
            let point = self.features.of_vector(vector);
            model.predict(&point, &mut work).mean
        };
        Some(own.iter().map(mean).collect())
    }
}

/// A configuration that did well in an earlier search and has not been asked for here, for a share of the first ones.
pub(super) fn first_ones(
    method: &Tandem,
    history: &History,
    rng: &mut ChaCha12Rng,
) -> Option<Suggestion> {
    let searches = history.earlier();
    if searches.is_empty() {
        return None;
    }
    let search = &searches[rng.random_range(0..searches.len())];
    let share = match trust(method, history, search, history.arrivals()) {
        Some(trust) => (2.0 * trust - 1.0).clamp(0.0, START_FRACTION),
        None => START_FRACTION,
    };
    if rng.random::<f64>() >= share {
        return None;
    }
    let evaluated = search.results.iter().filter(|r| r.score != Score::Failed);
    let top = evaluated.clone().map(|result| result.rung).max()?;
    let mut best: Vec<_> = evaluated.filter(|result| result.rung == top).collect();
    let count = best.len();
    // A stable sort: of equals, the first in the source.
    best.sort_by_key(|result| result.score);
    best.truncate(count.div_ceil(ONE_IN));
    let mut best = best.iter().enumerate();
    let (place, result) = best.find(|(_, result)| !history.has_asked_for(&result.vector))?;
    Some(Suggestion {
        vector: result.vector.clone(),
        source: "earlier",
        reason: format!(
            "number {} of {count} results at the largest budget of `{}`",
            place + 1,
            search.source
        ),
        model: None,
    })
}

#[cfg(test)]
mod tests {
    use shared::Seed;
    use shared::search::MethodName;

    use super::*;
    use crate::bench::problem::Problem;
    use crate::bench::simulate;
    use crate::history::Earlier;

    fn search(rungs: &[u8]) -> EarlierSearch {
        let results = rungs.iter().map(|rung| Earlier {
            vector: vec![0.5],
            rung: *rung,
            score: Score::Failed,
        });
        EarlierSearch {
            source: "earlier".to_owned(),
            results: results.collect(),
        }
    }

    #[test]
    fn an_earlier_rung_says_less_than_the_same_rung_of_this_search_and_more_than_the_one_below() {
        let alone = Levels::new(3, None);
        assert_eq!((alone.own, alone.count), (vec![0, 1, 2], 3));
        let levels = Levels::new(3, Some(&search(&[2, 0, 2])));
        assert_eq!((levels.own, levels.count), (vec![1, 2, 4], 5));
        assert_eq!((levels.earlier[0], levels.earlier[2]), (0, 3));
    }

    /// A method, and a history of `count` results of this search on the lowest rung that are a bowl, after an earlier search
    /// whose results at the same rung are `there`.
    fn after(there: fn(&[f64], f64) -> f64, count: u32, seed: u64) -> (Tandem, History) {
        let problem = Problem::function("mf-hartmann3", None, None).unwrap();
        let search = simulate::search(&problem, MethodName::Tandem, false, 0).unwrap();
        let mut rng = Seed::new(seed).rng();
        let mut history = History::new(&search.space);
        let results = (0..30).map(|_| {
            let vector = search.space.sample(&mut rng);
            let score = Score::Loss(there(&vector, rng.random()));
            Earlier {
                vector,
                rung: 0,
                score,
            }
        });
        history.learn_from(EarlierSearch {
            source: "earlier".to_owned(),
            results: results.collect(),
        });
        for number in 0..count {
            let id = ConfigurationId(number);
            let vector = search.space.sample(&mut rng);
            history.ask(id);
            history.know(id, vector.clone());
            let score = Some(Score::Loss(bowl(&vector)));
            history.learn(id.job(0), score, vector);
        }
        (Tandem::new(&search), history)
    }

    fn bowl(x: &[f64]) -> f64 {
        x.iter().map(|x| (x - 0.6) * (x - 0.6)).sum()
    }

    fn share(there: fn(&[f64], f64) -> f64, count: u32, seed: u64) -> f64 {
        let (method, history) = after(there, count, seed);
        shares(&method, &history, history.arrivals())[0]
    }

    #[test]
    fn an_earlier_search_is_believed_as_far_as_it_foretells_this_one() {
        let mut unrelated = 0.0;
        for seed in 0..10 {
            let foretelling = share(|x, noise| 5.0 * bowl(x) + 7.0 + 0.1 * noise, 8, seed);
            assert!(foretelling > 0.8, "{seed}: {foretelling}");
            let misleading = share(|x, _| -bowl(x), 8, seed);
            assert!(misleading < 1e-12, "{seed}: {misleading}");
            unrelated += share(|_, noise| noise, 8, seed) / 10.0;
        }
        // By chance it is between nothing and all; the mean of 2 trust - 1, where that is positive, is a quarter.
        assert!(unrelated < 0.5, "{unrelated}");
    }

    #[test]
    fn a_search_begins_with_what_was_best_until_its_own_results_speak_against_it() {
        let count = |there: fn(&[f64], f64) -> f64, results: u32| {
            let (method, history) = after(there, results, 1);
            let draws = 0..200;
            let given =
                draws.filter_map(|seed| first_ones(&method, &history, &mut Seed::new(seed).rng()));
            let given: Vec<Suggestion> = given.collect();
            // The best is suggested until it has been asked for.
            assert!(
                given
                    .iter()
                    .all(|s| s.source == "earlier" && s.reason.contains("number 1 of 30"))
            );
            given.len()
        };
        assert!(count(|x, _| bowl(x), 0).abs_diff(100) < 30);
        assert_eq!(count(|x, _| -bowl(x), 7), 0);
    }
}
