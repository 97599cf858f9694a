use super::*;

/// Budgets 1, 3, 9, … epochs.
pub(super) fn rung(rung: u8, expected: u64, evaluated: u64, mean_s: Option<f64>) -> RungStatus {
    RungStatus {
        rung,
        budget: 3f64.powi(i32::from(rung)),
        unit: BudgetUnit::Epochs,
        expected,
        open: 0,
        claimed: 0,
        evaluated,
        infeasible: 0,
        failed: 0,
        lost: 0,
        stopped: 0,
        stopped_here: 0,
        best_loss: None,
        mean_s,
    }
}

/// A live trainer that has spent some of its job's budget.
fn trainer(spent: Option<f64>, budget: Option<f64>) -> TrainerStatus {
    TrainerStatus {
        owner: "t".into(),
        host: "h".into(),
        device: "cpu".into(),
        slurm_job: None,
        job: budget.map(|_budget| "c000000-r0-a1".into()),
        spent,
        budget,
        continued: None,
        heard_s: Some(1.0),
        is_silent: false,
    }
}

#[test]
fn time_left_follows_from_the_mean_durations_and_the_budgets() {
    let rungs = [
        rung(0, 9, 5, Some(2.0)),
        rung(1, 3, 0, None),
        rung(2, 1, 0, None),
    ];
    let idle = || trainer(None, None);
    // 4 of 2 s, 3 of 6 s, 1 of 18 s.
    assert_eq!(remaining_s(&rungs, &[idle()]), Some(8.0 + 18.0 + 18.0));
    assert_eq!(remaining_s(&rungs, &[]), None);
    let silent = TrainerStatus {
        is_silent: true,
        ..idle()
    };
    assert_eq!(remaining_s(&rungs, &[silent]), None);
    assert_eq!(remaining_s(&[rung(0, 9, 0, None)], &[idle()]), None);
    // However many there are, the rungs come one after the other.
    let many: Vec<TrainerStatus> = (0..64).map(|_| idle()).collect();
    assert_eq!(remaining_s(&rungs, &many), Some(2.0 + 6.0 + 18.0));
}

#[test]
fn time_left_counts_what_is_done_of_the_jobs_in_hand() {
    let rungs = [rung(0, 9, 9, Some(2.0)), rung(1, 3, 1, Some(6.0))];
    let half = || trainer(Some(1.5), Some(3.0));
    // One more job of 6 s, of which nobody has begun; with two trainers, both are in hand.
    assert_eq!(remaining_s(&rungs, &[half()]), Some(9.0));
    assert_eq!(remaining_s(&rungs, &[half(), half()]), Some(3.0));
    // What the job on the rung below has spent is no part of this one.
    let third = TrainerStatus {
        continued: Some(1.0),
        ..trainer(Some(2.0), Some(3.0))
    };
    assert_eq!(
        remaining_s(&rungs, &[third.clone(), third]),
        Some(6.0 * 0.5)
    );
    let late = trainer(Some(0.0), Some(3.0));
    assert_eq!(remaining_s(&rungs, &[half(), late]), Some(6.0));
    assert_eq!(
        remaining_s(&[rung(0, 9, 9, Some(2.0))], &[half()]),
        Some(0.0)
    );
}
