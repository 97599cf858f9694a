//! From probabilities back to one configuration: the most probable one that the space allows.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use shared::Configuration;

use super::choices::Choices;
use super::gates::Probabilities;

/// Combinations that are looked at, the most probable first, before the allowed one nearest to the first is taken.
const MOST_COMBINATIONS: usize = 20_000;

/// The most probable configuration among those that the space allows and that are networks; `None` where none was found.
pub(super) fn discretise(
    choices: &Choices,
    probabilities: &Probabilities,
) -> Option<Configuration> {
    let ranked = Ranked::new(probabilities);
    let first_allowed = ranked
        .take(MOST_COMBINATIONS)
        .find_map(|levels| choices.configuration(&levels));
    first_allowed.or_else(|| nearest(choices, probabilities))
}

/// The allowed configuration that is nearest to the most probable one.
fn nearest(choices: &Choices, probabilities: &Probabilities) -> Option<Configuration> {
    let levels = Ranked::new(probabilities).next()?;
    let mut values = choices.middle.clone();
    for (choice, level) in choices.all.iter().zip(levels) {
        values.set(choice.name.as_str(), choice.levels[level].clone());
    }
    let nearest = choices.space.decode(&choices.space.encode(&values));
    choices.is_network(&nearest).then_some(nearest)
}

/// A combination of levels, by their rank in each choice.
#[derive(Debug, Clone, PartialEq)]
struct Combination {
    /// The logarithm of its probability.
    score: f64,
    ranks: Vec<usize>,
    /// The choice from which on ranks may be raised, so that no combination is made twice.
    from: usize,
}

impl Eq for Combination {}

impl PartialOrd for Combination {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Combination {
    fn cmp(&self, other: &Self) -> Ordering {
        // Of equally probable ones the first by ranks is the largest.
        let by_score = self.score.total_cmp(&other.score);
        by_score.then_with(|| other.ranks.cmp(&self.ranks))
    }
}

/// All combinations of levels, the most probable first.
struct Ranked {
    /// The levels of each choice with the logarithms of their probabilities, the most probable first.
    levels: Vec<Vec<(usize, f64)>>,
    open: BinaryHeap<Combination>,
}

impl Ranked {
    fn new(probabilities: &Probabilities) -> Self {
        let sorted = |probabilities: &Vec<f64>| {
            let scores = probabilities.iter().map(|p| p.max(f64::MIN_POSITIVE).ln());
            let mut levels: Vec<(usize, f64)> = scores.enumerate().collect();
            levels.sort_by(|(_, a), (_, b)| b.total_cmp(a)); // stable: of equals the smaller network
            levels
        };
        let levels: Vec<Vec<(usize, f64)>> = probabilities.iter().map(sorted).collect();
        let first = Combination {
            score: levels.iter().map(|levels| levels[0].1).sum(),
            ranks: vec![0; levels.len()],
            from: 0,
        };
        Self {
            levels,
            open: BinaryHeap::from([first]),
        }
    }
}

impl Iterator for Ranked {
    type Item = Vec<usize>;

    fn next(&mut self) -> Option<Vec<usize>> {
        let best = self.open.pop()?;
        for place in best.from..self.levels.len() {
            let rank = best.ranks[place];
            if let Some((_, next)) = self.levels[place].get(rank + 1) {
                let mut ranks = best.ranks.clone();
                ranks[place] += 1;
                self.open.push(Combination {
                    score: best.score - self.levels[place][rank].1 + next,
                    ranks,
                    from: place,
                });
            }
        }
        let levels = best.ranks.iter().zip(&self.levels);
        Some(levels.map(|(&rank, levels)| levels[rank].0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combinations_come_by_their_probability_and_each_once() {
        let probabilities = vec![vec![0.2, 0.5, 0.3], vec![1.0], vec![0.6, 0.4]];
        let all: Vec<Vec<usize>> = Ranked::new(&probabilities).collect();
        assert_eq!(all[0], [1, 0, 0]);
        let of = |levels: &Vec<usize>| -> f64 {
            let pairs = probabilities.iter().zip(levels);
            pairs.map(|(levels, &level)| levels[level]).product()
        };
        assert!(
            all.windows(2)
                .all(|pair| of(&pair[0]) >= of(&pair[1]) - 1e-12),
            "{all:?}"
        );
        let mut distinct = all.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!((all.len(), distinct.len()), (6, 6));
    }
}
