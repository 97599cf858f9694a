use super::*;
use crate::testing::history;

/// Rung 0 results come every 10 s, those of rung 1 from 1,000 s and those of rung 2 from 2,000 s on.
fn example() -> History {
    history(&[
        &[0.9, 0.8],
        &[0.5, 0.7, 0.75],
        &[f64::NAN],
        &[0.6, 0.7, 0.6],
        &[0.5],
    ])
}

fn incumbents(at: At) -> Vec<(usize, f64, f64)> {
    let history = example();
    let step = |step: Step| {
        let loss = history.results[step.incumbent].loss().unwrap();
        (step.jobs, step.spent, loss)
    };
    steps(&history, at).into_iter().map(step).collect()
}

#[test]
fn a_larger_budget_replaces_a_smaller_one() {
    let expected = [
        (1, 1.0, 0.9),
        (2, 2.0, 0.5),
        (6, 4.5 + 3.0, 0.8),
        (7, 4.5 + 6.0, 0.7),
        (9, 4.5 + 18.0, 0.75),
        (10, 4.5 + 27.0, 0.6),
    ];
    assert_eq!(incumbents(At::Reached), expected);
    assert_eq!(incumbents(At::Top), [(9, 22.5, 0.75), (10, 31.5, 0.6)]);
    // The last line is always the last result.
    assert_eq!(
        incumbents(At::Any),
        [(1, 1.0, 0.9), (2, 2.0, 0.5), (10, 31.5, 0.5)]
    );
}

#[test]
fn wall_time_starts_with_the_first_attempt() {
    let history = example();
    let walls: Vec<_> = steps(&history, At::Any)
        .iter()
        .map(|s| s.wall_s.unwrap())
        .collect();
    assert_eq!(walls, [15.0, 25.0, 2045.0]);
}

#[test]
fn the_incumbent_is_the_best_at_the_largest_budget() {
    let history = example();
    let incumbent = history.incumbent().unwrap();
    assert_eq!(incumbent.job.to_string(), "c000003-r2");
    insta::assert_snapshot!(format!(
        "{}\n{:#}\n{}",
        incumbent_text(&history, incumbent, At::Reached),
        incumbent_json(&history, Some(incumbent)),
        incumbent_table(&history, Some(incumbent)).csv().unwrap()
    ));
}

#[test]
fn equal_losses_go_to_the_lower_id() {
    let history = history(&[&[0.5], &[0.4], &[0.4]]);
    assert_eq!(history.incumbent().unwrap().job.to_string(), "c000001-r0");
}

#[test]
fn without_a_loss_there_is_no_incumbent() {
    let history = history(&[&[f64::NAN], &[f64::NAN]]);
    assert!(history.incumbent().is_none());
    assert!(steps(&history, At::Reached).is_empty());
    assert!(incumbent_json(&history, None).is_null());
    assert_eq!(incumbent_table(&history, None).rows.len(), 0);
}

#[test]
fn a_continued_job_spends_the_difference() {
    let mut history = example();
    history.count_spent(true);
    let spent: Vec<f64> = history.results.iter().map(|result| result.spent).collect();
    assert_eq!(spent, [1.0, 2.0, 1.0, 2.0, 6.0, 0.5, 1.0, 2.0, 6.0, 1.0]);
}

#[test]
fn the_incumbent_is_that_of_the_last_step() {
    for history in [
        example(),
        history(&[&[0.5, 0.6], &[0.4]]),
        history(&[&[f64::NAN]]),
    ] {
        for at in [At::Reached, At::Top, At::Any] {
            let last = steps(&history, at)
                .last()
                .map(|step| &history.results[step.incumbent]);
            assert_eq!(
                incumbent(&history, at).map(|r| r.job),
                last.map(|r| r.job),
                "{at:?}"
            );
        }
    }
    let history = history(&[&[0.5, 0.6], &[0.4]]);
    let any = incumbent(&history, At::Any).unwrap();
    let text = incumbent_text(&history, any, At::Any);
    assert!(
        text.starts_with("c000001: loss 0.4 at 1 epoch, the best of 3 at all budgets\n"),
        "{text}"
    );
    let none = no_incumbent(&history, At::Top);
    assert!(none.contains("no result at 9 epochs has a loss"), "{none}");
}
