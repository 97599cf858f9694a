//! Results of earlier searches: believed as far as they foretell this one's.
//!
//! ```text
//! levels     earlier 0 ─ own 0 ─ earlier 1 ─ own 1 ─ … ─ earlier R ─ own R      where the earlier search has results
//! model s    sees one earlier search and all of this one; its steps between levels are fitted as those between rungs are
//! weight s   as in [`rung_weights`](super::rung_weights); with few results at the top, by how the earlier search foretells
//!            this one's results on all rungs
//! ```
//! An earlier search has scores and offsets of its own, so only what it says of differences between configurations
//! counts: its losses may be on another scale. Improvements are counted from the best of this search: what was best
//! elsewhere is the first thing to be asked for here, not something that is had already. Models that see no earlier
//! search are among the models drawn, with half of the weight at first, so an earlier search that misleads is given up
//! after a handful of results.
//!
//! Until a model is asked, half of the configurations are the best of the earlier searches.
//!
//! Range of validity: any number of results, on any rungs.
//!
//! # Source
//! Starting from what was best on other data: Feurer et al. 2015. Weighing earlier searches by how they foretell this
//! one: Feurer et al. 2018 (RGPE), who count misordered pairs.

use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;
use shared::{ConfigurationId, Ranked, Score};

use super::scores::scores;
use super::{Tandem, choose};
use crate::history::{EarlierSearch, History};
use crate::method::Suggestion;
use crate::surrogate::Observation;

/// Share of the configurations that come from earlier searches until a model is asked.
const START_FRACTION: f64 = 0.5;
/// Only the best one in so many of an earlier search is worth asking for again.
const ONE_IN: usize = 4;
/// An earlier search has this share of the observations at least.
const FEWEST_SHARE: usize = 3;

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
        by_rung.iter_mut().for_each(|rung| rung.sort_unstable());
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

/// A configuration that did well in an earlier search and has not been asked for here, for a share of the first ones.
pub(super) fn first_ones(history: &History, rng: &mut ChaCha12Rng) -> Option<Suggestion> {
    let searches = history.earlier();
    if searches.is_empty() || rng.random::<f64>() >= START_FRACTION {
        return None;
    }
    let search = &searches[rng.random_range(0..searches.len())];
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
    use super::*;
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
}
