//! Where a training may be stopped on its way: what was seen at the budgets at which its loss is looked at.
//!
//! The one place that decides, for networks, benchmark functions and programs alike; it reads no clock and no file.

use shared::CurvePoint;
use shared::record::{Check, Checked};

/// The end of a training on its way, because of its loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stop {
    /// Budget spent.
    pub spent: f64,
    /// The loss there.
    pub loss: f64,
    /// The largest loss with which it would have gone on.
    pub limit: f64,
}

/// The checks of a job, and what was seen at the first of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Checks<'a> {
    all: &'a [Check],
    /// Of the job, in its unit.
    budget: f64,
    seen: Vec<Checked>,
}

impl<'a> Checks<'a> {
    /// The checks of a job with a budget, of which earlier attempts have `seen` the first.
    pub fn new(all: &'a [Check], budget: f64, seen: &[Checked]) -> Self {
        let same = seen.iter().zip(all);
        let same = same.take_while(|(seen, check)| seen.spent.total_cmp(&check.spent).is_eq());
        Self {
            all,
            budget,
            seen: same.map(|(seen, _)| *seen).collect(),
        }
    }

    /// What was seen, lowest budget first.
    pub fn seen(&self) -> &[Checked] {
        &self.seen
    }

    /// What was seen, as points of a learning curve.
    pub(crate) fn curve(&self) -> Vec<CurvePoint> {
        let point = |seen: &Checked| CurvePoint {
            spent: seen.spent,
            training_loss: None,
            loss: Some(seen.loss),
        };
        self.seen.iter().map(point).collect()
    }

    /// The budget of the next check; `None` after the last.
    pub fn next(&self) -> Option<f64> {
        self.all.get(self.seen.len()).map(|check| check.spent)
    }

    /// Whether the loss is to be looked at now.
    pub fn is_due(&self, spent: f64) -> bool {
        spent < self.budget && self.next().is_some_and(|next| spent >= next)
    }

    /// Takes note of a loss when so much is spent, for all checks up to there that none was seen for; `Some` if it ends the
    /// training. At the end of the budget there is nothing left to be stopped.
    pub fn see(&mut self, spent: f64, loss: f64) -> Option<Stop> {
        while loss.is_finite()
            && self.is_due(spent)
            && let Some(check) = self.all.get(self.seen.len())
        {
            self.seen.push(Checked {
                spent: check.spent,
                loss,
            });
            if let Some(limit) = check.loss.filter(|limit| loss > *limit) {
                return Some(Stop { spent, loss, limit });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spent: f64, loss: Option<f64>) -> Check {
        Check { spent, loss }
    }

    #[test]
    fn the_first_loss_at_or_beyond_a_check_counts_and_a_larger_one_than_the_limit_stops() {
        let all = [
            check(1.0, Some(0.5)),
            check(3.0, None),
            check(9.0, Some(0.25)),
        ];
        let mut checks = Checks::new(&all, 27.0, &[]);
        assert!(!checks.is_due(0.5) && checks.is_due(1.0));
        assert_eq!(checks.see(0.5, 9.0), None);
        assert_eq!(checks.see(1.5, 0.5), None, "as large as the limit");
        assert_eq!(checks.see(2.0, 0.75), None, "it is behind that check");
        assert_eq!(checks.see(4.0, 0.75), None, "nothing limits it there");
        assert_eq!(checks.see(8.0, f64::NAN), None);
        let stop = checks.see(10.0, 0.375).unwrap();
        assert_eq!((stop.spent, stop.loss, stop.limit), (10.0, 0.375, 0.25));
        let seen: Vec<(f64, f64)> = checks.seen().iter().map(|c| (c.spent, c.loss)).collect();
        assert_eq!(seen, [(1.0, 0.5), (3.0, 0.75), (9.0, 0.375)]);
        assert_eq!(checks.next(), None);
    }

    #[test]
    fn one_loss_may_be_the_first_of_several_checks_but_none_at_the_end_is() {
        let all = [check(1.0, Some(0.5)), check(3.0, Some(0.25))];
        let mut checks = Checks::new(&all, 9.0, &[]);
        assert_eq!(checks.see(9.0, 0.75), None);
        assert!(checks.seen().is_empty());
        let stop = checks.see(5.0, 0.375).unwrap();
        assert!(stop.limit < 0.3 && checks.seen().len() == 2);
    }

    #[test]
    fn what_an_earlier_attempt_has_seen_is_not_looked_at_again() {
        let all = [check(1.0, Some(0.5)), check(3.0, Some(0.25))];
        let mut first = Checks::new(&all, 9.0, &[]);
        first.see(1.0, 0.5);
        let mut second = Checks::new(&all, 9.0, first.seen());
        assert_eq!(second.see(1.0, 0.75), None);
        assert_eq!(second.next(), Some(3.0));
        // Of other checks nothing is known.
        let other = [check(2.0, Some(0.5))];
        assert!(Checks::new(&other, 9.0, first.seen()).seen().is_empty());
    }
}
