//! How methods compare over several problems: ratios of mean regrets and their geometric mean, with intervals.
//!
//! ```text
//! ratio of a method on a problem   mean regret / smallest mean regret of the other methods, within 0.01..100
//! geometric mean                   over problems; 95 % interval by a bootstrap that draws problems, and seeds in each
//! worse                            mean(a - 1.2 b) > 2 standard errors of it, b: the best of the others, paired by seed,
//!                                  over at least two seeds: one run has no standard error
//! ```
//! Range of validity: at least two methods; problems on which one has not got to a point are left out of it.

use std::fmt::Write as _;

use rand::RngExt as _;
use shared::Seed;

use crate::bench::curve::{self, AtPoints, POINTS};

/// Some runs end at a regret of exactly 0, which would make every geometric mean 0.
pub(super) const SMALLEST_RATIO: f64 = 0.01;
/// So do the best of the others.
pub(super) const LARGEST_RATIO: f64 = 1.0 / SMALLEST_RATIO;
const NUM_RESAMPLES: usize = 1000;
/// A method is worse than the others on a problem from this ratio on.
const WORSE: f64 = 1.2;

/// The runs of some methods on one problem.
#[derive(Debug)]
pub(super) struct Compared {
    pub(super) name: String,
    /// By method, by seed.
    pub(super) runs: Vec<Vec<AtPoints>>,
}

impl Compared {
    /// Mean regret of a method at a point over the runs drawn.
    fn mean(&self, method: usize, point: usize, drawn: &[usize]) -> Option<f64> {
        let runs = &self.runs[method];
        let regrets = drawn
            .iter()
            .filter_map(|seed| runs.get(*seed % runs.len().max(1)));
        curve::mean(
            &regrets
                .filter_map(|regret| regret[point])
                .collect::<Vec<f64>>(),
        )
        .map(|mean| mean.mean)
    }

    /// The best of the other methods and its mean regret.
    fn best_other(&self, method: usize, point: usize, drawn: &[usize]) -> Option<(usize, f64)> {
        (0..self.runs.len())
            .filter(|other| *other != method)
            .filter_map(|other| Some((other, self.mean(other, point, drawn)?)))
            .min_by(|a, b| a.1.total_cmp(&b.1))
    }

    fn ratio(&self, method: usize, point: usize, drawn: &[usize]) -> Option<f64> {
        let own = self.mean(method, point, drawn)?;
        let (_, best) = self.best_other(method, point, drawn)?;
        Some(ratio(own, best))
    }

    fn num_seeds(&self) -> usize {
        self.runs.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Whether a method is certainly worse than the best of the others.
    fn is_worse(&self, method: usize, point: usize) -> bool {
        let all: Vec<usize> = (0..self.num_seeds()).collect();
        let Some((best, _)) = self.best_other(method, point, &all) else {
            return false;
        };
        let pairs = self.runs[method].iter().zip(&self.runs[best]);
        let differences: Vec<f64> = pairs
            .filter_map(|(a, b)| Some(a[point]? - WORSE * b[point]?))
            .collect();
        curve::mean(&differences).is_some_and(|d| d.error.is_some_and(|error| d.mean > 2.0 * error))
    }
}

/// A mean regret by the best other one; 1 where both are 0.
pub(super) fn ratio(own: f64, best: f64) -> f64 {
    if own > 0.0 || best > 0.0 {
        (own / best).clamp(SMALLEST_RATIO, LARGEST_RATIO)
    } else {
        1.0
    }
}

/// The summary of at least two methods.
pub(super) fn write(
    text: &mut String,
    methods: &[&str],
    problems: &[Compared],
    points: &[f64; POINTS.len()],
) -> std::fmt::Result {
    writeln!(
        text,
        "ratio to the best of the other methods: geometric mean over {} problems (95 % interval), the largest, and on how \
         many it is above {WORSE} beyond two standard errors",
        problems.len()
    )?;
    write!(text, "{:28}", "")?;
    for point in points {
        write!(text, " {point:>32}")?;
    }
    writeln!(text)?;
    for (index, method) in methods.iter().enumerate() {
        write!(text, "{method:28}")?;
        for point in 0..points.len() {
            write!(text, " {:>32}", cell(problems, index, point))?;
        }
        writeln!(text)?;
    }
    for (index, method) in methods.iter().enumerate() {
        writeln!(text, "\n{method} / best of the others")?;
        for problem in problems {
            let all: Vec<usize> = (0..problem.num_seeds()).collect();
            write!(text, "  {:44}", problem.name)?;
            for point in 0..points.len() {
                let ratio = problem.ratio(index, point, &all);
                let mark = if problem.is_worse(index, point) {
                    "!"
                } else {
                    " "
                };
                let cell = ratio.map_or_else(|| "-".to_owned(), |r| format!("{r:.2}{mark}"));
                write!(text, " {cell:>8}")?;
            }
            writeln!(text)?;
        }
    }
    Ok(())
}

fn cell(problems: &[Compared], method: usize, point: usize) -> String {
    let every: Vec<usize> = (0..problems.len()).collect();
    let whole = |p: usize| (0..problems[p].num_seeds()).collect();
    let Some(mean) = geometric_mean(problems, method, point, &every, whole) else {
        return "-".to_owned();
    };
    let mut rng = Seed::new(0).child("bootstrap", point).rng();
    let mut means: Vec<f64> = (0..NUM_RESAMPLES)
        .filter_map(|_| {
            let drawn: Vec<usize> = every
                .iter()
                .map(|_| rng.random_range(0..problems.len()))
                .collect();
            geometric_mean(problems, method, point, &drawn, |p| {
                let n = problems[p].num_seeds();
                (0..n).map(|_| rng.random_range(0..n)).collect()
            })
        })
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    let (lower, upper) = (
        means[means.len() / 40],
        means[means.len() - 1 - means.len() / 40],
    );
    let largest = every
        .iter()
        .filter_map(|p| problems[*p].ratio(method, point, &whole(*p)))
        .fold(0.0, f64::max);
    let worse = problems
        .iter()
        .filter(|p| p.is_worse(method, point))
        .count();
    format!("{mean:.2} ({lower:.2} to {upper:.2}) {largest:.2} {worse}")
}

fn geometric_mean(
    problems: &[Compared],
    method: usize,
    point: usize,
    drawn: &[usize],
    mut seeds: impl FnMut(usize) -> Vec<usize>,
) -> Option<f64> {
    let logs: Vec<f64> = drawn
        .iter()
        .filter_map(|p| problems[*p].ratio(method, point, &seeds(*p)))
        .map(libm::log)
        .collect();
    curve::mean(&logs).map(|mean| libm::exp(mean.mean))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(a: [f64; 4], b: [f64; 4]) -> Compared {
        let runs = [a, b].map(|regrets| regrets.map(|r| [Some(r); POINTS.len()]).to_vec());
        Compared {
            name: "p".into(),
            runs: runs.to_vec(),
        }
    }

    #[test]
    fn ratios_are_those_of_the_means() {
        let problems = [
            compared([1.0, 2.0, 3.0, 2.0], [4.0; 4]),
            compared([2.0, 2.0, 2.0, 2.0], [0.9, 1.1, 1.0, 1.0]),
        ];
        let all = [0, 1, 2, 3];
        assert_eq!(problems[0].ratio(0, 0, &all), Some(0.5));
        assert_eq!(problems[0].ratio(1, 0, &all), Some(2.0));
        assert!(problems[1].is_worse(0, 0) && !problems[0].is_worse(0, 0));
        // √(0.5 · 2).
        assert!(cell(&problems, 0, 2).starts_with("1.00 (0."));
        let mut text = String::new();
        write(&mut text, &["a", "b"], &problems, &POINTS).unwrap();
        assert!(text.contains("2.00!"), "{text}");
    }

    #[test]
    fn regrets_of_zero_give_ratios_that_can_be_averaged() {
        let problem = compared([0.0; 4], [1.0; 4]);
        assert_eq!(problem.ratio(0, 0, &[0]), Some(SMALLEST_RATIO));
        assert_eq!(problem.ratio(1, 0, &[0]), Some(LARGEST_RATIO));
        assert_eq!(compared([0.0; 4], [0.0; 4]).ratio(0, 0, &[0]), Some(1.0));
    }

    #[test]
    fn nothing_is_certain_of_one_run() {
        let of_seeds = |n: usize| Compared {
            name: "p".into(),
            runs: [3.0, 1.0]
                .map(|r| vec![[Some(r); POINTS.len()]; n])
                .to_vec(),
        };
        assert!(!of_seeds(1).is_worse(0, 0));
        assert!(of_seeds(2).is_worse(0, 0));
    }
}
