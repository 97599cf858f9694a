//! Ranks where some are equal.

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
