//! Budgets, the ladder of rungs they form, and the sizes of Hyperband's brackets, without logarithms.
//!
//! Products of whole numbers are exact up to 2^53, which no budget passes; where `eta` is no whole number, results that
//! are one but for rounding count as it. The floor of a floating-point logarithm, as HpBandSter and NePS use it, gives five rungs for budgets 1 to 243 with
//! eta 3; there are six.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Invalid;
use crate::number;

/// What a budget is an amount of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetUnit {
    /// Seconds of training: forward, backward and optimizer step; nothing else counts.
    Seconds,
    /// The same in CPU time of the threads that train, on a CPU; what else the machine does then costs no budget.
    CpuSeconds,
    /// Passes over the training data; fractions are allowed.
    Epochs,
    /// Optimizer steps (for benchmark functions: whatever their fidelity counts).
    Steps,
}

impl BudgetUnit {
    /// The unit as it stands behind a number: `s`, `CPU s`, `epochs`, `steps`.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::CpuSeconds => "CPU s",
            Self::Epochs => "epochs",
            Self::Steps => "steps",
        }
    }

    /// The unit as it stands behind a 1: `s`, `CPU s`, `epoch`, `step`.
    pub fn symbol_of_one(self) -> &'static str {
        match self {
            Self::Epochs => "epoch",
            Self::Steps => "step",
            seconds => seconds.symbol(),
        }
    }

    /// Whether it is measured, not counted: amounts of it are seldom met exactly, and need not be whole.
    pub fn is_time(self) -> bool {
        matches!(self, Self::Seconds | Self::CpuSeconds)
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
        let unit = if amount == "1" {
            self.unit.symbol_of_one()
        } else {
            self.unit.symbol()
        };
        write!(f, "{amount} {unit}")
    }
}

/// Budgets that differ by less than this share of themselves are the same: ladders and logs round them.
const SAME_BUDGET: f64 = 1e-9;

/// Whether two amounts are the same budget, but for rounding.
pub fn is_same_budget(a: f64, b: f64) -> bool {
    (a - b).abs() <= SAME_BUDGET * a.abs().max(b.abs())
}

/// A number with at most three decimals and no trailing zeros.
pub fn short(amount: f64) -> String {
    let text = format!("{amount:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The budgets of a search, as the user writes them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetSettings {
    /// Unit of `min` and `max`.
    pub unit: BudgetUnit,
    /// Smallest budget wanted, more than 0; steps are whole.
    #[serde(serialize_with = "number::shortest")]
    pub min: f64,
    /// Largest budget.
    #[serde(serialize_with = "number::shortest")]
    pub max: f64,
    /// Each rung has `eta` times the budget of the one below, and one in `eta` configurations is promoted; more than 1.
    #[serde(default = "default_eta", serialize_with = "number::shortest")]
    pub eta: f64,
}

fn default_eta() -> f64 {
    3.0
}

/// How far two numbers may be apart, as a share of them, to count as the same: roundings of a few dozen operations.
const ROUNDING: f64 = 1e-12;
/// The largest budget, 2^53: amounts beyond it are no longer exact as floating-point numbers.
const LARGEST: f64 = 9_007_199_254_740_992.0;
/// Most rungs of a ladder: 2^53 with eta 2 has 54.
const MOST_RUNGS: u8 = 54;

/// The rungs of a search: budgets `max`, `max/eta`, `max/eta²`, … down to the last one that is at least `min`; rounded to
/// whole epochs or steps where `min` and `max` are whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ladder {
    settings: BudgetSettings,
    num_rungs: u8,
    /// Rungs that extensions have added above `settings.max`; none where there are repetitions.
    raised: u8,
    /// Trainings of each configuration on the top rung, at least 1.
    repetitions: u8,
    /// How many powers of `settings.eta` are between two rungs.
    stride: u8,
    is_whole: bool,
}

impl Ladder {
    /// Checks the settings and counts the rungs.
    ///
    /// `wants_whole`: epochs and steps are whole on every rung, as far as the rungs then differ; else they are as they
    /// come, as in the first revision.
    pub fn new(settings: BudgetSettings, wants_whole: bool) -> Result<Self, Invalid> {
        let BudgetSettings {
            unit,
            min,
            max,
            eta,
        } = settings;
        let is_steps = unit == BudgetUnit::Steps;
        if !(min > 0.0 && min.is_finite() && (is_whole(min) || !is_steps)) {
            let expected = if is_steps {
                "a whole number of at least 1"
            } else {
                "more than 0"
            };
            return Err(Invalid::new("min", expected, min));
        }
        if max < min {
            return Err(Invalid::new("max", format!("at least `min` ({min})"), max));
        }
        if max > LARGEST {
            return Err(Invalid::new("max", "at most 2^53", max));
        }
        if is_steps && !is_whole(max) {
            return Err(Invalid::new("max", "a whole number of steps", max));
        }
        if !(eta > 1.0 && eta.is_finite()) {
            return Err(Invalid::new("eta", "a number above 1, such as 3", eta));
        }
        let mut ladder = Self {
            settings,
            num_rungs: 1,
            raised: 0,
            repetitions: 1,
            stride: 1,
            is_whole: wants_whole && !unit.is_time() && is_whole(min) && is_whole(max),
        };
        let slack = if is_whole(min) && is_whole(max) && is_whole(eta) {
            0.0
        } else {
            ROUNDING
        };
        let mut budget = min;
        while budget * eta <= max * (1.0 + slack) {
            budget *= eta;
            if ladder.num_rungs == MOST_RUNGS {
                let expected = format!("budgets of at most {MOST_RUNGS} rungs: a larger eta");
                return Err(Invalid::new("eta", expected, eta));
            }
            ladder.num_rungs += 1;
        }
        ladder.drop_equal_rungs();
        Ok(ladder)
    }

    /// Ends the ladder where rounding would make two rungs one.
    fn drop_equal_rungs(&mut self) {
        let below = |down: u8| self.amount_below(down + 1) < self.amount_below(down);
        let differing = (0..self.num_rungs - 1).take_while(|down| below(*down));
        self.num_rungs = 1 + u8::try_from(differing.count()).unwrap_or(MOST_RUNGS);
    }

    /// The ladder without every second rung, counted from the top; as it is where the top rung alone would be left.
    #[must_use]
    pub(crate) fn with_every_second_rung(self) -> Self {
        if self.num_rungs < 3 {
            return self;
        }
        Self {
            num_rungs: 1 + (self.num_rungs - 1) / 2,
            stride: 2 * self.stride,
            ..self
        }
    }

    /// Whether it is one without every second rung.
    pub fn leaves_out_rungs(&self) -> bool {
        self.stride > 1
    }

    /// How many rungs there are, at least 1 (and at most 54).
    pub fn num_rungs(&self) -> u8 {
        self.num_rungs + self.raised
    }

    /// The uppermost rung.
    pub fn top(&self) -> u8 {
        self.num_rungs() - 1
    }

    /// The ladder of the search file, without what extensions have added on top.
    #[must_use]
    pub fn original(self) -> Self {
        Self { raised: 0, ..self }
    }

    /// Whether extensions have added rungs on top.
    pub fn is_raised(&self) -> bool {
        self.raised > 0
    }

    /// The ladder with so many rungs more on top as it takes to have this one; `None` where there can be none.
    #[must_use]
    pub fn up_to(self, rung: u8) -> Option<Self> {
        let more = rung.saturating_sub(self.last());
        let raised = Self {
            raised: self.raised + more,
            ..self
        };
        let is_possible = self.repetitions == 1 && rung < MOST_RUNGS;
        (more == 0 || is_possible && raised.amount(rung) <= LARGEST).then_some(raised)
    }

    /// The search file's ladder with rungs added on top, of which the last has this budget.
    ///
    /// # Errors
    /// The budget is not that of a rung above the search file's top; the complaint names those that there can be.
    pub(crate) fn raised_to(self, max: f64) -> Result<Self, Invalid> {
        let first = self.num_rungs;
        let above = (first..MOST_RUNGS).map_while(|rung| self.original().up_to(rung));
        if let Some(found) = above.clone().find(|ladder| ladder.ends_at(max)) {
            return Ok(found);
        }
        let shown: Vec<String> = above
            .skip(usize::from(self.raised))
            .take(3)
            .map(|ladder| short(ladder.amount(ladder.top())))
            .collect();
        let expected = format!(
            "{}, …: each rung has {} times the budget of the one below, and the largest budget is {}",
            shown.join(", "),
            short(self.eta()),
            self.budget(self.top())
        );
        Err(Invalid::new("max_budget", expected, max))
    }

    /// Whether this is the largest budget, but for rounding.
    fn ends_at(&self, max: f64) -> bool {
        let there = self.amount(self.top());
        let slack = if self.is_whole { 0.5 } else { 1e-3 * there };
        (there - max).abs() <= slack
    }

    /// The same with so many trainings of each configuration that comes to the top, each with another seed.
    #[must_use]
    pub(crate) fn with_repetitions(self, repetitions: u8) -> Self {
        Self {
            repetitions,
            ..self
        }
    }

    /// The rung of the last repetition: the second training with the largest budget is on the rung above the top, and so
    /// on, all with the budget of the top.
    pub fn last(&self) -> u8 {
        self.top() + (self.repetitions - 1)
    }

    /// Rungs with the repetitions above them.
    pub fn num_levels(&self) -> u8 {
        self.last() + 1
    }

    /// Which training with its budget a job on a rung is, counted from 0.
    pub fn repetition(&self, rung: u8) -> u8 {
        match self.repetitions {
            1 => 0,
            _ => rung.saturating_sub(self.top()),
        }
    }

    /// How much more budget each rung has than the one below, but for rounding.
    pub fn eta(&self) -> f64 {
        power(self.settings.eta, self.stride)
    }

    /// The unit of all budgets.
    pub fn unit(&self) -> BudgetUnit {
        self.settings.unit
    }

    /// The budget of a rung: `max / eta^(top - rung)`, eta as [`eta`](Self::eta) has it, one division, so that the top one
    /// of the search file is exactly `max`; rounded where budgets are whole. Above that one: `max` times powers of eta.
    ///
    /// # Panics
    /// If there is no such rung.
    pub fn budget(&self, rung: u8) -> Budget {
        assert!(rung <= self.last(), "rung {rung} of {}", self.num_rungs());
        Budget {
            amount: self.amount(rung.min(self.top())),
            unit: self.settings.unit,
        }
    }

    fn amount(&self, rung: u8) -> f64 {
        let top = self.num_rungs - 1;
        if rung <= top {
            return self.amount_below(top - rung);
        }
        self.rounded(self.settings.max * self.factor(rung - top))
    }

    /// The budget so many rungs below the top of the search file.
    fn amount_below(&self, down: u8) -> f64 {
        self.rounded(self.settings.max / self.factor(down))
    }

    fn rounded(&self, amount: f64) -> f64 {
        if self.is_whole {
            amount.round()
        } else {
            amount
        }
    }

    /// How much less budget a rung has than the one so many above.
    fn factor(&self, down: u8) -> f64 {
        power(self.settings.eta, down * self.stride)
    }

    /// The smallest budget where it is not the wanted one, because max/min is no power of eta.
    pub fn raised_min(&self) -> Option<Budget> {
        let lowest = self.budget(0);
        let is_wanted = (lowest.amount - self.settings.min).abs() <= ROUNDING * lowest.amount;
        (!is_wanted).then_some(lowest)
    }

    /// Whether a budget was rounded to a whole number.
    pub fn is_rounded(&self) -> bool {
        let exact = |down| self.settings.max / self.factor(down);
        (0..self.num_rungs).any(|down| (self.amount_below(down) - exact(down)).abs() > 1e-9)
    }

    /// Sizes of the `bracket`-th bracket (counted from 0, over and over through all kinds of brackets), lowest rung
    /// first. The bracket starts at rung `num_rungs - sizes.len()`.
    ///
    /// # Source
    /// `Floor`: HpBandSter 0.7.4, `optimizers/bohb.py`; `Ceil`: Li et al. 2018 (Hyperband), algorithm 1.
    pub fn bracket_sizes(&self, bracket: u32, form: BracketSizes) -> Vec<u32> {
        let kinds = self.num_rungs();
        // s in the papers: the number of promotions in this bracket.
        let rest = u8::try_from(bracket % u32::from(kinds)).unwrap_or(0); // below a u8
        let promotions = kinds - 1 - rest;
        let eta = self.eta();
        let (kinds, plus_one) = (f64::from(kinds), f64::from(promotions) + 1.0);
        // A product that is a whole number but for rounding counts as that number.
        let first = match form {
            BracketSizes::Floor => {
                ((kinds / plus_one).floor() * power(eta, promotions) * (1.0 + ROUNDING)).floor()
            }
            BracketSizes::Ceil => {
                (kinds * power(eta, promotions) / plus_one * (1.0 - ROUNDING)).ceil()
            }
        };
        (0..=promotions)
            .map(|rung| {
                (first / power(eta, rung) * (1.0 + ROUNDING))
                    .floor()
                    .max(1.0)
            })
            .map(as_size)
            .collect()
    }
}

/// By repeated multiplication: exact for whole numbers up to 2^53.
fn power(eta: f64, exponent: u8) -> f64 {
    (0..exponent).fold(1.0, |power, _| power * eta)
}

fn is_whole(number: f64) -> bool {
    number.fract().abs() < f64::MIN_POSITIVE
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at least 1, and capped: no search has 4·10⁹ configurations"
)]
fn as_size(size: f64) -> u32 {
    size as u32
}

/// How the size of a bracket's first rung is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BracketSizes {
    /// As HpBandSter: `[27,9,3,1] [9,3,1] [6,2] [4]` for four budgets.
    #[default]
    Floor,
    /// As the Hyperband paper: the second bracket is `[12,4,1]`.
    Ceil,
}

#[cfg(test)]
mod tests;
