use super::resampling::loss_at;
use super::*;
use crate::history::Evaluation;
use crate::testing::history;

/// Losses of configurations whose order at one budget is that at all others, or at 1 epoch another one.
fn search(num: u32, is_misleading: bool) -> History {
    let rows: Vec<Vec<f64>> = (0..num)
        .map(|number| {
            let quality = 0.1 + f64::from((number * 17 + 22) % num) / f64::from(num);
            let first = if is_misleading {
                0.1 + f64::from((number * 29 + 7) % num) / f64::from(num)
            } else {
                quality
            };
            vec![first + 0.2, quality + 0.1, quality]
        })
        .collect();
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    history(&rows)
}

fn find(forecasts: &[Forecast], eta: f64, rungs: usize) -> &Forecast {
    let mut found = forecasts.iter();
    found
        .find(|f| (f.ladder.eta - eta).abs() < 1e-9 && f.ladder.budgets.len() == rungs)
        .unwrap()
}

#[test]
fn costs_are_those_of_successive_halving_by_hand() {
    let history = search(27, false);
    let (forecasts, missing) = forecasts(&history, Some(3.0), Some(60), Seed::new(0)).unwrap();
    // One rung below the search's own, where nothing is known.
    let missing = missing.unwrap();
    assert!(missing.starts_with("left out 1 ladder, since"), "{missing}");
    assert!(missing.ends_with("budgets of 0.3333 epochs"), "{missing}");
    assert!(forecasts[0].is_own && (forecasts[0].cost + forecasts[0].as_good - 2.0).abs() < 1e-12);
    // 27 configurations, budgets 1, 3, 9: three brackets of 9·1 + 3·3 + 1·9 epochs.
    let own = 3.0 * 27.0;
    // Budget 9 alone: 27 trainings; budgets 3 and 9: nine brackets of 3·3 + 1·9.
    assert!((find(&forecasts, 3.0, 1).cost - 27.0 * 9.0 / own).abs() < 1e-12);
    assert!((find(&forecasts, 3.0, 2).cost - 9.0 * 18.0 / own).abs() < 1e-12);
}

#[test]
fn where_small_budgets_tell_the_truth_more_of_them_are_cheaper() {
    let (forecasts, _) = forecasts(&search(54, false), Some(3.0), Some(100), Seed::new(1)).unwrap();
    let alone = find(&forecasts, 3.0, 1);
    assert!((alone.as_good - 1.0).abs() < 1e-12, "nothing is overlooked");
    assert!(alone.until.median > 1.5, "{alone:?}");
    assert!(alone.until.low <= alone.until.median && alone.until.median <= alone.until.high);
}

#[test]
fn where_the_smallest_budget_misleads_leaving_it_out_finds_more() {
    let history = search(54, true);
    let (forecasts, _) = forecasts(&history, Some(3.0), Some(200), Seed::new(2)).unwrap();
    let (own, two) = (find(&forecasts, 3.0, 3), find(&forecasts, 3.0, 2));
    assert!(two.loss.median < own.loss.median, "{two:?} {own:?}");
    assert!(two.as_good > 0.8, "{two:?}");
}

#[test]
fn losses_are_read_from_curves_before_they_are_filled_in() {
    let history = search(12, false);
    let of = |budget| {
        let results: Vec<&Evaluation> = history
            .results
            .iter()
            .filter(|r| r.configuration == 4)
            .collect();
        // Without the job of 3 epochs, so that the curve of 9 is asked.
        let longest = vec![results[2]];
        loss_at(&history, &longest, budget)
    };
    // The curves of these results have a loss at their end only.
    assert_eq!(of(9.0), history.results[14].loss());
    assert_eq!(of(3.0), None);
    let mut with_curve = history.clone();
    let result = &mut with_curve.results[14];
    result.curve = [(1.0, 0.9), (2.0, 0.7), (4.0, 0.5), (9.0, 0.3)]
        .map(|(spent, loss)| shared::CurvePoint {
            spent,
            training_loss: None,
            loss: Some(loss),
        })
        .into();
    let result = &with_curve.results[14];
    assert!((loss_at(&with_curve, &[result], 3.0).unwrap() - 0.6).abs() < 1e-12);
    assert_eq!(loss_at(&with_curve, &[result], 0.5), None);
}

#[test]
fn what_failed_is_never_promoted_and_the_same_seed_gives_the_same_answer() {
    let nan: &[f64] = &[f64::NAN];
    let rows: Vec<Vec<f64>> = (1..=20).map(|n| vec![0.1 * f64::from(n); 3]).collect();
    let mut all: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    all.extend([nan; 4]);
    let history = history(&all);
    let answer = || forecasts(&history, None, Some(50), Seed::new(3)).unwrap();
    let (forecasts, _) = answer();
    assert_eq!(answer().0, forecasts);
    assert!(forecasts.iter().all(|f| f.loss.high.is_finite()));
    assert_eq!(forecasts[0].ladder.budgets, [1.0, 3.0, 9.0]);
}

#[test]
fn too_little_to_go_by_is_said() {
    let few = forecasts(&search(9, false), None, Some(50), Seed::new(0)).unwrap_err();
    assert!(few.starts_with("9 configurations tried"), "{few}");
    let only_first: Vec<&[f64]> = vec![&[0.5]; 12];
    assert!(forecasts(&history(&only_first), None, Some(50), Seed::new(0)).is_err());
}

#[test]
fn where_nothing_has_a_loss_at_the_largest_budget_there_is_no_answer() {
    let failed: Vec<&[f64]> = vec![&[0.5, 0.4, f64::NAN]; 12];
    let why = forecasts(&history(&failed), None, Some(50), Seed::new(0)).unwrap_err();
    assert!(
        why.ends_with("loss at 9 epochs, the largest budget"),
        "{why}"
    );
}

#[test]
fn ladders_are_those_that_a_search_file_can_have() {
    let own = Ladder {
        eta: 3.0,
        budgets: vec![1.0, 3.0, 9.0, 27.0],
        min: 1.0,
    };
    let beside = |unit, eta, num_rungs| own.beside(unit, eta, num_rungs);
    let steps = beside(BudgetUnit::Steps, 4.0, 3).unwrap();
    assert_eq!((steps.budgets, steps.min), (vec![2.0, 7.0, 27.0], 1.0));
    let steps = beside(BudgetUnit::Steps, 2.0, 4).unwrap();
    assert_eq!(
        (steps.budgets, steps.min),
        (vec![3.0, 7.0, 14.0, 27.0], 3.0)
    );
    assert_eq!(beside(BudgetUnit::Steps, 3.0, 5), None, "a third of a step");
    let seconds = beside(BudgetUnit::Seconds, 2.0, 2).unwrap();
    assert_eq!((seconds.budgets, seconds.min), (vec![13.5, 27.0], 13.5));
    assert_eq!(
        beside(BudgetUnit::Epochs, 3.0, 5).unwrap().budgets[1..3],
        [1.0, 3.0]
    );
}

/// Two configurations have losses at the lowest and the largest budget, more of them at neighbouring ones.
fn sparse(num_tops: u32) -> History {
    let quality = |number: u32| 0.1 + 0.05 * f64::from(number);
    let row = |number: u32| {
        let whole = [
            quality(number) + 0.2,
            quality(number) + 0.1,
            quality(number),
        ];
        let rungs = if number < 2 + num_tops {
            3
        } else {
            2 - usize::from(number > 11)
        };
        whole[..rungs].to_vec()
    };
    let rows: Vec<Vec<f64>> = (0..15).map(row).collect();
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let mut history = history(&rows);
    let starts_higher = |configuration: usize| (2..2 + num_tops as usize).contains(&configuration);
    history
        .results
        .retain(|r| r.budget > 0 || !starts_higher(r.configuration));
    history
}

#[test]
fn budgets_in_between_are_steps_where_too_few_have_both() {
    let (forecasts, _) = forecasts(&sparse(4), Some(3.0), Some(50), Seed::new(4)).unwrap();
    assert!(forecasts[0].is_own && forecasts[0].loss.high.is_finite());
    let why = super::forecasts(&sparse(0), Some(3.0), Some(50), Seed::new(4)).unwrap_err();
    assert!(
        why.starts_with("only 2 configurations have a loss both at 9 epochs and at another"),
        "{why}"
    );
}

#[test]
fn a_ladder_that_may_need_more_is_not_recommended() {
    let history = search(12, false);
    let (mut forecasts, _) = forecasts(&history, Some(3.0), Some(50), Seed::new(5)).unwrap();
    forecasts.truncate(2);
    let spread = |median, low, high| Spread { median, low, high };
    forecasts[1].as_good = 1.0;
    forecasts[1].until = spread(0.6, 0.5, 0.9);
    let said = verdict(&history, &forecasts);
    assert!(
        said.contains("60 % of the training (50 % to 90 %)"),
        "{said}"
    );
    assert!(said.contains("`\"min\": 9`, `\"eta\": 3`"), "{said}");
    forecasts[1].until = spread(0.6, 0.5, 1.7);
    let said = verdict(&history, &forecasts);
    assert!(said.starts_with("No other ladder"), "{said}");
    assert!(
        said.contains("needs 60 % of the training (50 % to 170 %)"),
        "{said}"
    );
}

#[test]
fn the_more_configurations_the_fewer_resamples_of_them() {
    let found = [10, 1_250, 5_000, 100_000].map(usual_resamples);
    assert_eq!(found, [400, 400, 100, 40]);
}
