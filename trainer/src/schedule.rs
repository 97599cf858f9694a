//! The learning rate by spent budget: cosines with warm restarts, the last of which ends with the budget.
//!
//! # The rule
//! A training from scratch on rung r has r + 1 cycles, each twice as long as the one before, that fill the budget
//! exactly: the first is budget / (2^(r+1) − 1). With eta 3 this makes a budget's last cycles longer than the whole
//! rung below:
//!
//! | rung | seconds | cycles | epochs | cycles |
//! |--|--|--|--|--|
//! | 0 | 400 | 400 | 1 | 1 |
//! | 1 | 1200 | 400, 800 | 3 | 1, 2 |
//! | 2 | 3600 | 514.3, 1028.6, 2057.1 | 9 | 1.286, 2.571, 5.143 |
//! | 3 | 10800 | 720, 1440, 2880, 5760 | 27 | 1.8, 3.6, 7.2, 14.4 |
//!
//! A training that continues its lower rungs keeps the cycles it has had: those of the first rung it was trained on
//! from scratch, and then one more for every promotion, from the end of the rung below to the new budget's end. So every
//! budget ends at rate 0 here too; with budgets 400, 1200 and 3600 the cycles are 400, 800 and 2400.
//!
//! The schedule knows no units: seconds, epochs and steps are all amounts of budget.
//!
//! # Source
//! Loshchilov & Hutter 2017 (SGDR), with the smallest rate 0 and factor 2; cycles as in Zela et al. 2018.

use std::f64::consts::PI;

/// The cycles of one training.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Where each cycle ends, ascending; the last is the budget.
    ends: Vec<f64>,
    /// Budget over which the rate rises from 0 at the very start.
    warm_up: f64,
}

impl Schedule {
    /// Lays out the cycles for a budget on a rung (0 is the lowest), continuing from the ends of `earlier` rungs.
    ///
    /// `earlier` are the budgets of consecutive rungs right below, ascending; empty for a training from scratch.
    ///
    /// # Panics
    /// Unless the budgets are positive and ascending, and there are as many rungs below as `earlier` has.
    pub fn new(budget: f64, rung: u8, earlier: &[f64]) -> Self {
        let rungs_below = usize::from(rung);
        assert!(
            earlier.len() <= rungs_below,
            "there are {rungs_below} rungs below, not {earlier:?}"
        );
        let mut budgets = earlier.to_vec();
        budgets.push(budget);
        assert!(budgets[0] > 0.0, "a budget is positive, not {}", budgets[0]);
        assert!(
            budgets.is_sorted_by(|a, b| a < b),
            "budgets ascend, unlike {budgets:?}"
        );
        let cycles = rungs_below - earlier.len() + 1;
        let mut ends = doubling(budgets[0], cycles);
        ends.extend(&budgets[1..]);
        Self { ends, warm_up: 0.0 }
    }

    /// Lets the rate rise linearly from 0 over a share of the first cycle.
    #[must_use]
    pub(crate) fn with_warm_up(mut self, share: f64) -> Self {
        self.warm_up = share * self.ends[0];
        self
    }

    /// Where the cycles end, ascending; the last is the budget.
    pub fn ends(&self) -> &[f64] {
        &self.ends
    }

    /// The fraction of the initial learning rate to be used once `spent` is spent: 1 at a cycle's start, 0 at the end.
    pub fn fraction(&self, spent: f64) -> f64 {
        let spent = spent.max(0.0);
        let rise = if spent < self.warm_up {
            spent / self.warm_up
        } else {
            1.0
        };
        let mut start = 0.0;
        for &end in &self.ends {
            if spent < end {
                return rise * 0.5 * (1.0 + (PI * (spent - start) / (end - start)).cos());
            }
            start = end;
        }
        0.0
    }
}

/// The ends of doubling cycles that fill a budget.
fn doubling(budget: f64, cycles: usize) -> Vec<f64> {
    let parts = |cycles: usize| 2f64.powi(i32::try_from(cycles).expect("rungs are few")) - 1.0;
    // After i cycles, 2^i − 1 parts of 2^cycles − 1 are over; the last is exactly the budget.
    (1..=cycles)
        .map(|cycle| budget * (parts(cycle) / parts(cycles)))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lengths(schedule: &Schedule) -> Vec<f64> {
        let mut start = 0.0;
        schedule
            .ends()
            .iter()
            .map(|end| end - std::mem::replace(&mut start, *end))
            .collect()
    }

    fn assert_lengths(schedule: &Schedule, expected: &[f64]) {
        let found = lengths(schedule);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() < 0.05,
                "found {found}, expected {expected}"
            );
        }
    }

    #[test]
    fn cycles_of_the_published_budgets() {
        assert_lengths(&Schedule::new(400.0, 0, &[]), &[400.0]);
        assert_lengths(&Schedule::new(1200.0, 1, &[]), &[400.0, 800.0]);
        assert_lengths(&Schedule::new(3600.0, 2, &[]), &[514.3, 1028.6, 2057.1]);
        assert_lengths(
            &Schedule::new(10_800.0, 3, &[]),
            &[720.0, 1440.0, 2880.0, 5760.0],
        );
    }

    #[test]
    fn cycles_of_a_few_epochs() {
        assert_eq!(Schedule::new(1.0, 0, &[]).ends(), [1.0]);
        assert_eq!(Schedule::new(3.0, 1, &[]).ends(), [1.0, 3.0]);
        assert_lengths(&Schedule::new(9.0, 2, &[]), &[1.286, 2.571, 5.143]);
        assert_lengths(&Schedule::new(27.0, 3, &[]), &[1.8, 3.6, 7.2, 14.4]);
    }

    #[test]
    fn a_continued_training_keeps_the_cycles_it_has_had() {
        assert_eq!(Schedule::new(1200.0, 1, &[400.0]).ends(), [400.0, 1200.0]);
        assert_eq!(
            Schedule::new(3600.0, 2, &[400.0, 1200.0]).ends(),
            [400.0, 1200.0, 3600.0]
        );
        // This one started on rung 1, from scratch, and had two cycles there.
        assert_eq!(
            Schedule::new(3600.0, 2, &[1200.0]).ends(),
            [400.0, 1200.0, 3600.0]
        );
    }

    #[test]
    fn the_rate_falls_along_a_cosine_and_starts_again() {
        let schedule = Schedule::new(12.0, 1, &[]); // [4, 8]
        for (spent, expected) in [
            (0.0, 1.0),
            (1.0, 0.5 + 0.5 * 0.5f64.sqrt()),
            (2.0, 0.5),
            (4.0, 1.0),
            (8.0, 0.5),
            (10.0, 0.5 - 0.5 * 0.5f64.sqrt()),
            (12.0, 0.0),
            (99.0, 0.0),
        ] {
            assert!(
                (schedule.fraction(spent) - expected).abs() < 1e-12,
                "at {spent}"
            );
        }
    }

    #[test]
    fn a_warm_up_rises_linearly_at_the_very_start_only() {
        let schedule = Schedule::new(12.0, 1, &[]).with_warm_up(0.5); // 2 of the first 4
        let plain = Schedule::new(12.0, 1, &[]);
        assert!(schedule.fraction(0.0).abs() < 1e-12);
        for (spent, share) in [(0.5, 0.25), (1.0, 0.5), (2.0, 1.0), (3.0, 1.0), (4.5, 1.0)] {
            let expected = share * plain.fraction(spent);
            assert!(
                (schedule.fraction(spent) - expected).abs() < 1e-12,
                "at {spent}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_budget_ends_at_rate_zero(budget in 0.01f64..1e6, rung in 0u8..8, kept in 0usize..4) {
            let earlier: Vec<f64> = (1..=kept.min(usize::from(rung)))
                .rev()
                .map(|below| budget / 3f64.powi(i32::try_from(below).unwrap()))
                .collect();
            let schedule = Schedule::new(budget, rung, &earlier);
            for end in earlier.iter().chain([&budget]) {
                prop_assert!(schedule.ends().contains(end));
                prop_assert!(schedule.fraction(end * (1.0 - 1e-9)) < 1e-6);
            }
            prop_assert!(schedule.ends().is_sorted_by(|a, b| a < b));
        }
    }
}
