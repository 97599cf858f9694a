//! Ranks where some are equal, and how they are correlated.

use std::cmp::Ordering;

/// The rank of each item, from 0 on; equals share their mean rank.
///
/// `is_equal` may be coarser than `order`, as long as what it calls equal stands together.
pub fn mean_ranks<T>(
    items: &[T],
    order: impl Fn(&T, &T) -> Ordering,
    is_equal: impl Fn(&T, &T) -> bool,
) -> Vec<f64> {
    let mut sorted: Vec<usize> = (0..items.len()).collect();
    sorted.sort_by(|a, b| order(&items[*a], &items[*b]));
    let mut ranks = vec![0.0; items.len()];
    let mut start = 0;
    for equals in sorted.chunk_by(|a, b| is_equal(&items[*a], &items[*b])) {
        let rank = start as f64 + 0.5 * (equals.len() as f64 - 1.0);
        for item in equals {
            ranks[*item] = rank;
        }
        start += equals.len();
    }
    ranks
}

/// Pearson's correlation; of ranks, Spearman's. `None` where one side is constant.
pub fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = a.len() as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (x - mean_a, y - mean_b);
        (aa, bb, ab) = (aa + x * x, bb + y * y, ab + x * y);
    }
    (aa > 0.0 && bb > 0.0).then(|| ab / (aa * bb).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_share_their_mean_rank() {
        let ranks = mean_ranks(&[3, 1, 2, 1, 1], Ord::cmp, |a, b| a == b);
        let expected = [4.0, 1.0, 3.0, 1.0, 1.0];
        assert!(
            ranks
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-12)
        );
        assert!(mean_ranks::<u8>(&[], Ord::cmp, |a, b| a == b).is_empty());
    }
}
