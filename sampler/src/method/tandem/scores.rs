//! Losses as a Gaussian process likes them: of the order of 1 around 0, without far outliers.
//!
//! ```text
//! score = ½ (rank score + value score)
//! rank score   Φ⁻¹((rank - ½) / n), equal results sharing their mean rank
//! value score  t = (loss - median) / spread; t below 0, ln(1 + t) above      spread = (median - 10 % quantile) / 1.2816
//! ```
//! Ranks alone magnify the differences between nearly equal losses where results are dense, which is around the
//! incumbent, until everything else looks hopeless; values alone hide the differences between good losses where the
//! scale is wide. Their mean does neither.
//!
//! Range of validity: any number of results, failures among them. Equal losses: spread 1, all scores 0. Failures rank
//! after all losses and have the value score of the worst loss, at least 1: no loss is invented for them. What breaks a
//! constraint is between the two: it ranks after all losses, the less it breaks the better, and has that value score.

use crate::normal;
use shared::ranks::mean_ranks;
use shared::{Ranked, Score};

/// Distance from the median to the 10 % quantile of the standard normal distribution.
const TENTH: f64 = 1.281_551_565_544_600_4;

/// The scores of results, which may come from several rungs.
pub(super) fn scores(results: &[Ranked]) -> Vec<f64> {
    let ranks = rank_scores(results);
    let values = value_scores(results);
    ranks
        .iter()
        .zip(values)
        .map(|(rank, value)| 0.5 * (rank + value))
        .collect()
}

fn rank_scores(results: &[Ranked]) -> Vec<f64> {
    let n = results.len() as f64;
    let ranks = mean_ranks(results, Ord::cmp, |a, b| a.score == b.score);
    ranks
        .iter()
        .map(|rank| normal::quantile((rank + 0.5) / n))
        .collect()
}

fn value_scores(results: &[Ranked]) -> Vec<f64> {
    let mut losses: Vec<f64> = results.iter().filter_map(|r| r.score.loss()).collect();
    losses.sort_unstable_by(f64::total_cmp);
    let Some(largest) = losses.last() else {
        return vec![0.0; results.len()];
    };
    // Further apart than the largest number: in quarters they are not, and scores do not depend on a factor.
    if !(largest - losses[0]).is_finite() {
        let quarter = |r: &Ranked| Ranked {
            score: r.score.loss().map_or(r.score, |x| Score::Loss(0.25 * x)),
            job: r.job,
        };
        return value_scores(&results.iter().map(quarter).collect::<Vec<Ranked>>());
    }
    let median = losses[losses.len() / 2];
    let range = largest - losses[0];
    let spread = [(median - losses[losses.len() / 10]) / TENTH, range]
        .into_iter()
        .find(|spread| *spread > 0.0)
        .unwrap_or(1.0);
    let score = |loss: f64| {
        let t = ((loss - median) / spread).clamp(-1e3, 1e30);
        if t > 0.0 { libm::log1p(t) } else { t }
    };
    let worst = score(*largest).max(1.0);
    let score = |r: &Ranked| r.score.loss().map_or(worst, score);
    results.iter().map(score).collect()
}

#[cfg(test)]
mod tests {
    use shared::ConfigurationId;

    use super::*;

    fn results(standings: &[Option<f64>]) -> Vec<Ranked> {
        (0..)
            .zip(standings)
            .map(|(number, loss)| Ranked {
                score: loss.map_or(Score::Failed, Score::Loss),
                job: ConfigurationId(number).job(0),
            })
            .collect()
    }

    #[test]
    fn failures_score_worse_than_every_loss() {
        let found = scores(&results(&[
            Some(1.0),
            None,
            Some(1e300),
            Some(-1e308),
            Some(1e308),
            None,
        ]));
        assert!(found.iter().all(|x| x.is_finite()), "{found:?}");
        assert!(found[1] > found[4] && (found[1] - found[5]).abs() < f64::MIN_POSITIVE);
        assert!(found[3] < found[0] && found[0] < found[2] && found[2] < found[4]);
    }

    #[test]
    fn losses_at_both_ends_of_all_numbers_are_told_apart() {
        for losses in [
            [1e308, -1e308, 0.0, 1.0, -1e308, 1e308],
            [f64::MAX, f64::MIN, f64::MAX, f64::MIN, 1e300, -1e300],
            [f64::MAX, f64::MIN, f64::MIN, f64::MIN, f64::MIN, f64::MIN],
        ] {
            let found = scores(&results(&losses.map(Some)));
            assert!(found.iter().all(|x| x.is_finite()), "{found:?}");
            for (a, x) in losses.iter().zip(&found) {
                let is_right = |(b, y): (&f64, &f64)| (a < b) <= (x < y);
                assert!(losses.iter().zip(&found).all(is_right), "{found:?}");
            }
        }
    }

    #[test]
    fn shifts_and_factors_change_no_score() {
        let losses = [3.0, -1.0, 0.5, 0.25, 8.0, 0.5];
        let scaled = losses.map(|x| Some(4.0 * x + 16.0));
        let (a, b) = (
            scores(&results(&losses.map(Some))),
            scores(&results(&scaled)),
        );
        // Powers of two: not even rounding differs.
        assert!(
            a.iter()
                .zip(b)
                .all(|(a, b)| (a - b).abs() < f64::MIN_POSITIVE)
        );
    }

    #[test]
    fn equal_losses_score_nothing() {
        let flat = scores(&results(&[Some(7.0); 9]));
        assert!(flat.iter().all(|x| x.abs() < 1e-15), "{flat:?}");
        assert!(scores(&results(&[None; 3])).iter().all(|x| x.is_finite()));
        assert!(scores(&[]).is_empty());
    }
}
