use proptest::prelude::*;

use super::*;

fn settings(unit: BudgetUnit, min: f64, max: f64, eta: f64) -> BudgetSettings {
    BudgetSettings {
        unit,
        min,
        max,
        eta,
    }
}

fn ladder(min: u64, max: u64, eta: u64) -> Ladder {
    let (min, max, eta) = (min as f64, max as f64, eta as f64);
    Ladder::new(settings(BudgetUnit::Epochs, min, max, eta), false).unwrap()
}

/// The budgets of the newest revision.
fn rungs(unit: BudgetUnit, min: f64, max: f64, eta: f64) -> Vec<f64> {
    amounts(&Ladder::new(settings(unit, min, max, eta), true).unwrap())
}

#[test]
fn epochs_and_steps_are_whole_on_every_rung() {
    use BudgetUnit::{Epochs, Seconds, Steps};
    assert_eq!(rungs(Epochs, 1.0, 50.0, 3.0), [2.0, 6.0, 17.0, 50.0]);
    assert_eq!(rungs(Steps, 1.0, 1000.0, 3.0)[..3], [1.0, 4.0, 12.0]);
    assert_eq!(rungs(Epochs, 1.0, 243.0, 3.0).len(), 6);
    // Seconds are not counted in whole numbers, nor are epochs of which parts are asked for.
    assert_eq!(rungs(Seconds, 1.0, 6.0, 4.0), [1.5, 6.0]);
    assert_eq!(rungs(Epochs, 0.5, 4.0, 2.0), [0.5, 1.0, 2.0, 4.0]);
    // No two rungs become one: 2 / 1.3 is rounded to 2 as well.
    let narrow = rungs(Epochs, 1.0, 5.0, 1.3);
    assert_eq!(narrow, [2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn eta_is_any_number_above_1_and_budgets_may_be_fractions() {
    use BudgetUnit::{Epochs, Seconds};
    assert_eq!(
        rungs(Seconds, 1.0, 39.0625, 2.5),
        [1.0, 2.5, 6.25, 15.625, 39.0625]
    );
    // 0.1 · 3 · 3 is a little more than 0.9 in floating point.
    assert_eq!(rungs(Epochs, 0.1, 0.9, 3.0).len(), 3);
    assert_eq!(rungs(Seconds, 0.001, 1000.0, 10.0).len(), 7);
    let sizes = |eta: f64, bracket| {
        let four = Ladder::new(settings(Seconds, 1.0, eta.powi(3), eta), true).unwrap();
        four.bracket_sizes(bracket, BracketSizes::Floor)
    };
    // int(4/4 · 2.5³) = 15; 15/2.5 = 6, 15/6.25 = 2, 15/15.625 < 1 but one at least.
    assert_eq!(sizes(2.5, 0), [15, 6, 2, 1]);
    // int(1.5³) = 3: 3, 2, 1, 1.
    assert_eq!(sizes(1.5, 0), [3, 2, 1, 1]);
    assert_eq!(sizes(1.5, 3), [4]);
    let text = r#"{"unit":"epochs","min":1.0,"max":27,"eta":3.0}"#;
    let read: BudgetSettings = serde_json::from_str(text).unwrap();
    let written = r#"{"unit":"epochs","min":1,"max":27,"eta":3}"#;
    assert_eq!(serde_json::to_string(&read).unwrap(), written);
}

fn amounts(ladder: &Ladder) -> Vec<f64> {
    (0..ladder.num_rungs())
        .map(|rung| ladder.budget(rung).amount)
        .collect()
}

#[test]
fn every_second_rung_is_left_out_from_the_top_unless_the_top_would_be_alone() {
    let whole = |max| Ladder::new(settings(BudgetUnit::Epochs, 1.0, max, 3.0), true).unwrap();
    let thinned = |max| whole(max).with_every_second_rung();
    assert_eq!(amounts(&thinned(27.0)), [3.0, 27.0]);
    assert_eq!(amounts(&thinned(81.0)), [1.0, 9.0, 81.0]);
    assert_eq!(amounts(&thinned(100.0)), [1.0, 11.0, 100.0]);
    let sizes = |b| thinned(81.0).bracket_sizes(b, BracketSizes::Floor);
    assert_eq!([sizes(0), sizes(1)], [vec![81, 9, 1], vec![9, 1]]);
    for max in [1.0, 3.0] {
        assert_eq!(thinned(max), whole(max));
    }
}

#[test]
fn rungs_are_added_on_top_where_the_budget_is_the_largest_one_times_a_power_of_eta() {
    use BudgetUnit::{Epochs, Seconds};
    let four = ladder(1, 27, 3);
    let five = four.raised_to(81.0).unwrap();
    assert_eq!(amounts(&five), [1.0, 3.0, 9.0, 27.0, 81.0]);
    assert_eq!((five.top(), five.original()), (4, four));
    assert_eq!(
        five.bracket_sizes(0, BracketSizes::Floor),
        [81, 27, 9, 3, 1]
    );
    // Counted from the search file's ladder.
    assert_eq!(five.raised_to(81.0).unwrap(), five);
    assert_eq!(five.raised_to(729.0).unwrap().num_rungs(), 7);
    assert_eq!(four.up_to(4), Some(five));
    assert_eq!([four.up_to(3), four.up_to(60)], [Some(four), None]);
    let said = four.raised_to(100.0).unwrap_err().to_string();
    assert!(
        said.contains("81, 243, 729, …: each rung has 3 times"),
        "{said}"
    );
    let said = five.raised_to(27.0).unwrap_err().to_string();
    assert!(
        said.contains("243, 729, 2187, …") && said.contains("largest budget is 81 epochs"),
        "{said}"
    );
    // Whole epochs, of which the lower ones are as before: 50 / 3 is 17, and 39 · 2.5 is 97.5.
    let fifty = Ladder::new(settings(Epochs, 1.0, 50.0, 3.0), true).unwrap();
    let raised = amounts(&fifty.raised_to(150.0).unwrap());
    assert_eq!(raised, [2.0, 6.0, 17.0, 50.0, 150.0]);
    let other = Ladder::new(settings(Epochs, 1.0, 39.0, 2.5), true).unwrap();
    for max in [97.5, 98.0] {
        assert_eq!(amounts(&other.raised_to(max).unwrap())[4..], [98.0]);
    }
    let seconds = Ladder::new(settings(Seconds, 0.1, 0.9, 3.0), true).unwrap();
    assert_eq!(seconds.raised_to(2.7).unwrap().num_rungs(), 4);
    // Every second rung, and repetitions.
    let thinned = four.with_every_second_rung();
    assert!(thinned.raised_to(81.0).is_err());
    assert_eq!(
        amounts(&thinned.raised_to(243.0).unwrap()),
        [3.0, 27.0, 243.0]
    );
    assert!(four.with_repetitions(2).raised_to(81.0).is_err());
    assert!(ladder(1, 1 << 53, 2).raised_to(2.0_f64.powi(54)).is_err());
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
    assert_eq!(text(1.0, BudgetUnit::CpuSeconds), "1 CPU s");
    assert_eq!(text(15.0, BudgetUnit::CpuSeconds), "15 CPU s");
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
        let settings = settings(BudgetUnit::Steps, min, max, eta);
        Ladder::new(settings, true).unwrap_err().at
    };
    assert_eq!(refuse(0.0, 9.0, 3.0), "min");
    assert_eq!(refuse(-1.0, 9.0, 3.0), "min");
    assert_eq!(refuse(0.5, 9.0, 3.0), "min");
    assert_eq!(refuse(10.0, 9.0, 3.0), "max");
    assert_eq!(refuse(1.0, 9.5, 3.0), "max");
    assert_eq!(refuse(1.0, 9.0, 1.0), "eta");
    assert_eq!(refuse(1.0, 9.0, 0.5), "eta");
    assert_eq!(refuse(1.0, 1e6, 1.01), "eta");
    assert_eq!(refuse(1.0, 1e300, 3.0), "max");
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
