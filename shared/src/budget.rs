//! Budgets, the ladder of rungs they form, and the sizes of Hyperband's brackets; all by integer arithmetic.
//!
//! The floor of a floating-point logarithm, as HpBandSter and NePS use it, gives five rungs for budgets 1 to 243 with
//! eta 3; there are six.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::Invalid;

/// What a budget is an amount of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetUnit {
    /// Seconds of training: forward, backward and optimizer step; nothing else counts.
    Seconds,
    /// Passes over the training data; fractions are allowed.
    Epochs,
    /// Optimizer steps (for benchmark functions: whatever their fidelity counts).
    Steps,
}

impl BudgetUnit {
    /// The unit as it stands behind a number: `s`, `epochs`, `steps`.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Epochs => "epochs",
            Self::Steps => "steps",
        }
    }
}

/// An amount to be spent on one job.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// How much; positive and finite.
    pub amount: f64,
    /// Of what.
    pub unit: BudgetUnit,
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amount = short(self.amount);
        let unit = self.unit.symbol();
        let unit = if amount == "1" {
            unit.trim_end_matches('s')
        } else {
            unit
        };
        // Seconds lose their whole symbol.
        let unit = if unit.is_empty() { "s" } else { unit };
        write!(f, "{amount} {unit}")
    }
}

/// A number with at most three decimals and no trailing zeros.
pub fn short(amount: f64) -> String {
    let text = format!("{amount:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The budgets of a search, as the user writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetSettings {
    /// Unit of `min` and `max`.
    pub unit: BudgetUnit,
    /// Smallest budget wanted, at least 1.
    pub min: u64,
    /// Largest budget.
    pub max: u64,
    /// Each rung has `eta` times the budget of the one below, and one in `eta` configurations is promoted.
    #[serde(default = "default_eta")]
    pub eta: u64,
}

fn default_eta() -> u64 {
    3
}

/// The rungs of a search: budgets `max`, `max/eta`, `max/eta²`, … down to the last one that is at least `min`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ladder {
    settings: BudgetSettings,
    num_rungs: u8,
}

impl Ladder {
    /// Checks the settings and counts the rungs.
    pub fn new(settings: BudgetSettings) -> Result<Self, Invalid> {
        let BudgetSettings { min, max, eta, .. } = settings;
        if min == 0 {
            return Err(Invalid::new("min", "a whole number of at least 1", min));
        }
        if max < min {
            return Err(Invalid::new("max", format!("at least `min` ({min})"), max));
        }
        // Amounts beyond this are no longer exact as floating-point numbers.
        if max > 1 << 53 {
            return Err(Invalid::new("max", "at most 2^53", max));
        }
        if eta < 2 {
            return Err(Invalid::new("eta", "a whole number of at least 2", eta));
        }
        let mut num_rungs = 1;
        let mut budget = min;
        while let Some(next) = budget.checked_mul(eta).filter(|next| *next <= max) {
            budget = next;
            num_rungs += 1;
        }
        Ok(Self {
            settings,
            num_rungs,
        })
    }

    /// How many rungs there are, at least 1 (and at most 53).
    pub fn num_rungs(&self) -> u8 {
        self.num_rungs
    }

    /// The uppermost rung.
    pub fn top(&self) -> u8 {
        self.num_rungs - 1
    }

    /// How much more budget each rung has than the one below.
    pub fn eta(&self) -> u64 {
        self.settings.eta
    }

    /// The unit of all budgets.
    pub fn unit(&self) -> BudgetUnit {
        self.settings.unit
    }

    /// The budget of a rung: `max / eta^(top - rung)`, one division, so that the top one is exactly `max`.
    ///
    /// # Panics
    /// If there is no such rung.
    pub fn budget(&self, rung: u8) -> Budget {
        assert!(rung < self.num_rungs, "rung {rung} of {}", self.num_rungs);
        let divisor = self.settings.eta.pow(u32::from(self.top() - rung));
        Budget {
            amount: self.settings.max as f64 / divisor as f64,
            unit: self.settings.unit,
        }
    }

    /// The smallest budget where it is not the wanted one, because max/min is no power of eta.
    pub fn raised_min(&self) -> Option<Budget> {
        let divisor = self.settings.eta.pow(u32::from(self.top()));
        (self.settings.min * divisor != self.settings.max).then(|| self.budget(0))
    }

    /// Sizes of the `bracket`-th bracket (counted from 0, over and over through all kinds of brackets), lowest rung
    /// first. The bracket starts at rung `num_rungs - sizes.len()`.
    ///
    /// # Source
    /// `Floor`: HpBandSter 0.7.4, `optimizers/bohb.py`; `Ceil`: Li et al. 2018 (Hyperband), algorithm 1.
    pub fn bracket_sizes(&self, bracket: u32, form: BracketSizes) -> Vec<u32> {
        let kinds = u32::from(self.num_rungs);
        // s in the papers: the number of promotions in this bracket.
        let promotions = kinds - 1 - bracket % kinds;
        let eta = self.settings.eta;
        let power = eta.saturating_pow(promotions);
        let (kinds, plus_one) = (u64::from(kinds), u64::from(promotions) + 1);
        let first = match form {
            BracketSizes::Floor => (kinds / plus_one).saturating_mul(power),
            BracketSizes::Ceil => kinds.saturating_mul(power).div_ceil(plus_one),
        };
        (0..=promotions)
            .map(|rung| (first / eta.saturating_pow(rung)).max(1))
            .map(|size| u32::try_from(size).unwrap_or(u32::MAX)) // capped: no search has 4·10⁹ configurations
            .collect()
    }
}

/// How the size of a bracket's first rung is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BracketSizes {
    /// As HpBandSter: `[27,9,3,1] [9,3,1] [6,2] [4]` for four budgets.
    #[default]
    Floor,
    /// As the Hyperband paper: the second bracket is `[12,4,1]`.
    Ceil,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ladder(min: u64, max: u64, eta: u64) -> Ladder {
        Ladder::new(BudgetSettings {
            unit: BudgetUnit::Epochs,
            min,
            max,
            eta,
        })
        .unwrap()
    }

    fn amounts(ladder: &Ladder) -> Vec<f64> {
        (0..ladder.num_rungs())
            .map(|rung| ladder.budget(rung).amount)
            .collect()
    }

    #[test]
    fn rungs_are_counted_without_logarithms() {
        assert_eq!(
            amounts(&ladder(1, 243, 3)),
            [1.0, 3.0, 9.0, 27.0, 81.0, 243.0]
        );
        assert_eq!(amounts(&ladder(1, 1000, 10)), [1.0, 10.0, 100.0, 1000.0]);
        let thousand = ladder(1, 1000, 3);
        assert_eq!(thousand.num_rungs(), 7);
        assert_eq!(amounts(&thousand)[..2], [1000.0 / 729.0, 1000.0 / 243.0]);
        assert_eq!(
            thousand.raised_min().map(|b| b.to_string()).as_deref(),
            Some("1.372 epochs")
        );
        assert_eq!(
            amounts(&ladder(400, 10_800, 3)),
            [400.0, 1200.0, 3600.0, 10_800.0]
        );
        assert_eq!(ladder(400, 10_800, 3).raised_min(), None);
        assert_eq!(amounts(&ladder(5, 5, 3)), [5.0]);
        assert_eq!(amounts(&ladder(5, 14, 3)), [14.0]);
        assert_eq!(ladder(1, 1 << 53, 2).num_rungs(), 54);
    }

    #[test]
    fn one_is_singular() {
        let text = |amount, unit| Budget { amount, unit }.to_string();
        assert_eq!(text(1.0, BudgetUnit::Epochs), "1 epoch");
        assert_eq!(text(9.0, BudgetUnit::Epochs), "9 epochs");
        assert_eq!(text(1.0, BudgetUnit::Seconds), "1 s");
        assert_eq!(text(1.372, BudgetUnit::Steps), "1.372 steps");
    }

    #[test]
    fn brackets_have_hpbandsters_sizes() {
        let four = ladder(400, 10_800, 3);
        let sizes = |b| four.bracket_sizes(b, BracketSizes::Floor);
        assert_eq!(
            [sizes(0), sizes(1), sizes(2), sizes(3)],
            [vec![27, 9, 3, 1], vec![9, 3, 1], vec![6, 2], vec![4]]
        );
        assert_eq!(sizes(4), sizes(0));
        let five = ladder(1, 81, 3);
        let sizes = |b| five.bracket_sizes(b, BracketSizes::Floor);
        assert_eq!(
            [sizes(0), sizes(1), sizes(2), sizes(3), sizes(4)],
            [
                vec![81, 27, 9, 3, 1],
                vec![27, 9, 3, 1],
                vec![9, 3, 1],
                vec![6, 2],
                vec![5]
            ]
        );
    }

    #[test]
    fn brackets_of_the_paper_are_rounded_up() {
        // Li et al. 2018, table 1: R = 81, eta 3.
        let five = ladder(1, 81, 3);
        let first: Vec<u32> = (0..5)
            .map(|b| five.bracket_sizes(b, BracketSizes::Ceil)[0])
            .collect();
        assert_eq!(first, [81, 34, 15, 8, 5]);
        assert_eq!(
            ladder(400, 10_800, 3).bracket_sizes(1, BracketSizes::Ceil),
            [12, 4, 1]
        );
    }

    #[test]
    fn impossible_budgets_are_refused_with_their_place() {
        let refuse = |min, max, eta| {
            Ladder::new(BudgetSettings {
                unit: BudgetUnit::Steps,
                min,
                max,
                eta,
            })
            .unwrap_err()
            .at
        };
        assert_eq!(refuse(0, 9, 3), "min");
        assert_eq!(refuse(10, 9, 3), "max");
        assert_eq!(refuse(1, 9, 1), "eta");
        assert_eq!(refuse(1, u64::MAX, 3), "max");
    }

    proptest! {
        #[test]
        fn the_ladder_is_as_long_as_it_can_be(min in 1u64..1000, factor in 1u64..100_000, eta in 2u64..12) {
            let max = min * factor;
            let ladder = ladder(min, max, eta);
            let amounts = amounts(&ladder);
            prop_assert!(amounts.last().unwrap().total_cmp(&(max as f64)).is_eq());
            prop_assert!(amounts[0] >= min as f64);
            // One more rung would be below the smallest budget wanted.
            let power = u128::from(eta).pow(u32::from(ladder.num_rungs()));
            prop_assert!(u128::from(max) < u128::from(min) * power);
            prop_assert!(amounts.windows(2).all(|w| (w[1] / w[0] - eta as f64).abs() < 1e-9));
        }

        #[test]
        fn each_rung_of_a_bracket_holds_one_in_eta(max in 1u64..100_000, eta in 2u64..6, bracket in 0u32..40) {
            let ladder = ladder(1, max, eta);
            for form in [BracketSizes::Floor, BracketSizes::Ceil] {
                let sizes = ladder.bracket_sizes(bracket, form);
                prop_assert!(!sizes.is_empty() && sizes.len() <= usize::from(ladder.num_rungs()));
                for pair in sizes.windows(2) {
                    prop_assert!(pair[1] >= 1 && u64::from(pair[1]) <= (u64::from(pair[0]) / eta).max(1));
                }
            }
        }
    }
}
