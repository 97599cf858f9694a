//! Stopping in place of promoting: every training is towards the largest budget, and ends at a lower rung's budget where
//! its loss is not among the best 1/eta of all that have got there so far.
//!
//! One rule for proposals, which say what each training is compared with, and for simulations.
//!
//! Source: Li et al. 2020 (asynchronous Hyperband), as a rule for stopping: Salinas et al. 2022 (Syne Tune).

use crate::score::Ranked;

/// The loss at a rung above which a training is stopped there; `None` where too little is known to stop any.
///
/// `seen`: what is known of the rung, best first. A training is stopped where the number of those that are strictly better is
/// at least (n + 1) / eta, n being the number of all.
pub fn limit(seen: &[Ranked], eta: f64) -> Option<f64> {
    let share = (seen.len() as f64 + 1.0) / eta;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "above 0, and at most one more than there are results"
    )]
    let place = share.ceil() as usize;
    // So many are better than whatever is worse than the last of them.
    seen.get(place - 1)?.score.loss()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::ConfigurationId;
    use crate::score::Score;

    fn ranked(scores: impl IntoIterator<Item = Score>) -> Vec<Ranked> {
        let numbered = (0..).zip(scores);
        let mut all: Vec<Ranked> = numbered
            .map(|(number, score)| Ranked {
                score,
                job: ConfigurationId(number).job(0),
            })
            .collect();
        all.sort_unstable();
        all
    }

    fn is_stopped(loss: f64, seen: &[Ranked], eta: f64) -> bool {
        limit(seen, eta).is_some_and(|limit| loss > limit)
    }

    #[test]
    fn those_are_stopped_that_are_not_among_the_best_third() {
        let seen = ranked([0.1, 0.2, 0.3, 0.4, 0.5].map(Score::Loss));
        // Two of six are a third.
        assert_eq!(limit(&seen, 3.0), Some(0.2));
        assert!(!is_stopped(0.15, &seen, 3.0) && is_stopped(0.25, &seen, 3.0));
        assert!(!is_stopped(0.2, &seen, 3.0), "equals are no better");
        assert_eq!(limit(&[], 3.0), None, "nothing to compare with");
    }

    #[test]
    fn one_result_is_enough_to_stop_the_next_where_eta_is_at_least_two() {
        let seen = ranked([Score::Loss(0.5)]);
        assert_eq!(limit(&seen, 3.0), Some(0.5));
        assert_eq!(limit(&seen, 2.0), Some(0.5));
        assert_eq!(limit(&seen, 1.9), None, "two of two are wanted");
    }

    #[test]
    fn nothing_is_stopped_where_all_that_are_better_would_be_failures() {
        let failures = ranked([Score::Failed; 5]);
        assert_eq!(limit(&failures, 3.0), None);
        let seen = ranked([
            Score::Loss(0.5),
            Score::Failed,
            Score::Failed,
            Score::Failed,
        ]);
        assert_eq!(limit(&seen, 3.0), None, "two of five");
    }

    proptest! {
        #[test]
        fn the_limit_is_the_rule_that_counts_those_that_are_better(
            losses in proptest::collection::vec(0u8..20, 0..60),
            num_failures in 0usize..20,
            loss in 0u8..22,
            eta in prop_oneof![Just(1.5), Just(2.0), Just(3.0), Just(4.5), Just(9.0)],
        ) {
            let scores = losses.iter().map(|loss| Score::Loss(f64::from(*loss)));
            let seen = ranked(scores.chain(vec![Score::Failed; num_failures]));
            let loss = f64::from(loss);
            let num_better = seen.iter().filter(|other| other.score < Score::Loss(loss)).count();
            let is_over = num_better as f64 >= (seen.len() as f64 + 1.0) / eta;
            prop_assert_eq!(is_stopped(loss, &seen, eta), is_over);
        }
    }
}
