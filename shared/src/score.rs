//! How good an outcome is: the one order in which configurations are ranked.

use std::cmp::Ordering;

use crate::constraint::Violation;
use crate::id::JobId;
use crate::pareto::Point;
use crate::record::{JobResult, Outcome};

/// How good an outcome is. Ordered, best first: every loss comes before what breaks a constraint, and that before every
/// failure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Score {
    /// Evaluated; finite.
    Loss(f64),
    /// Evaluated, by several objectives. Ordered by the first, the loss, and then the others; promotions go by
    /// [`pareto::order`](crate::pareto::order).
    Point(Point),
    /// Breaks constraints, by so much in all, as a share of the limits: worse than every loss.
    Infeasible(f64),
    /// Diverged, out of memory, or crashed: worse than every loss, by an amount that nobody invents.
    Failed,
}

impl Score {
    /// How the kinds are ordered.
    fn kind(self) -> u8 {
        match self {
            Self::Loss(_) => 0,
            Self::Point(_) => 1,
            Self::Infeasible(_) => 2,
            Self::Failed => 3,
        }
    }

    /// The loss, if there is one.
    pub fn loss(self) -> Option<f64> {
        match self {
            Self::Loss(loss) => Some(loss),
            Self::Point(point) => point.values().first().copied(),
            Self::Infeasible(_) | Self::Failed => None,
        }
    }

    /// The values of several objectives, if there are several.
    pub fn point(self) -> Option<Point> {
        match self {
            Self::Point(point) => Some(point),
            Self::Loss(_) | Self::Infeasible(_) | Self::Failed => None,
        }
    }
}

impl Outcome {
    /// How good it is; `None` for a lost job, which says nothing about its configuration, and for one that was stopped, which
    /// has no loss at its own budget.
    pub fn score(&self) -> Option<Score> {
        match self {
            // -0.0 is 0.0: they are equal losses.
            Self::Evaluated { loss } => Some(Score::Loss(loss + 0.0)),
            Self::Diverged { .. } | Self::OutOfMemory { .. } | Self::Crashed { .. } => {
                Some(Score::Failed)
            }
            Self::Infeasible { violations, .. } => {
                let amount: f64 = violations.iter().map(Violation::amount).sum();
                Some(Score::Infeasible(amount.min(f64::MAX)))
            }
            Self::Stopped { .. } | Self::Lost { .. } => None,
        }
    }
}

impl JobResult {
    /// How good it is by the objectives of its search; none: by its loss.
    pub fn score(&self, objectives: &[String]) -> Option<Score> {
        let score = self.outcome.score()?;
        let (Some(loss), Some((_, others))) = (score.loss(), objectives.split_first()) else {
            return Some(score);
        };
        let others = others.iter().map(|measure| self.measures.get(measure));
        let values: Option<Vec<f64>> = std::iter::once(Some(&loss))
            .chain(others)
            .map(Option::<&f64>::copied)
            .collect();
        // One without a measure that is an objective can only have been put there by hand.
        let point = values.and_then(|values| Point::new(&values));
        Some(point.map_or(Score::Failed, Score::Point))
    }
}

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            // 0.0 and -0.0 are the same loss, which `total_cmp` alone would deny.
            (Self::Loss(a), Self::Loss(b)) => (a + 0.0).total_cmp(&(b + 0.0)),
            (Self::Point(a), Self::Point(b)) => a.compare(b),
            (Self::Infeasible(a), Self::Infeasible(b)) => a.total_cmp(b),
            (a, b) => a.kind().cmp(&b.kind()),
        }
    }
}

/// The mean of losses of one configuration with several seeds, and its standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    /// The mean.
    pub loss: f64,
    /// Its standard error; of two losses or more.
    pub standard_error: f64,
    /// How many losses.
    pub seeds: usize,
}

impl Mean {
    /// Of two losses or more.
    pub fn of(losses: &[f64]) -> Option<Self> {
        let n = losses.len() as f64;
        if losses.len() < 2 {
            return None;
        }
        // Divided first, so that the sum of the largest numbers is finite.
        let loss: f64 = losses.iter().map(|x| x / n).sum();
        let squares: f64 = losses.iter().map(|x| (x - loss) * (x - loss)).sum();
        Some(Self {
            loss,
            standard_error: (squares / (n - 1.0) / n).sqrt().min(f64::MAX),
            seeds: losses.len(),
        })
    }
}

/// A job and its score, ordered by score. Equal scores: the lower id is better, so that replays agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ranked {
    /// How good it is.
    pub score: Score,
    /// Of which job.
    pub job: JobId,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ConfigurationId;

    #[test]
    fn means_have_the_standard_error_of_so_many() {
        assert_eq!(Mean::of(&[0.5]), None);
        let mean = Mean::of(&[1.0, 2.0, 6.0]).unwrap();
        assert_eq!((mean.loss, mean.seeds), (3.0, 3));
        // The variance is 7, of three.
        assert!((mean.standard_error - (7.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        let largest = Mean::of(&[f64::MAX, f64::MAX, -f64::MAX]).unwrap();
        assert!(largest.loss.is_finite() && largest.standard_error.is_finite());
    }

    #[test]
    fn losses_come_before_what_is_infeasible_and_that_before_failures_and_equal_scores_are_ordered_by_id()
     {
        let ranked = |score, id| Ranked {
            score,
            job: ConfigurationId(id).job(0),
        };
        let mut all = [
            ranked(Score::Failed, 0),
            ranked(Score::Loss(f64::MAX), 1),
            ranked(Score::Loss(0.0), 3),
            ranked(Score::Loss(-0.0), 2),
            ranked(Score::Failed, 4),
            ranked(Score::Infeasible(2.0), 5),
            ranked(Score::Infeasible(0.5), 6),
        ];
        all.sort_unstable();
        let order = all.map(|ranked| ranked.job.configuration.0);
        assert_eq!(order, [2, 3, 1, 6, 5, 0, 4]);
    }
}
