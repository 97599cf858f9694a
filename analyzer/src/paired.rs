//! Searches with the same seed, one of each group, against each other: differences of what they found in the end.

use std::collections::BTreeMap;

use crate::statistics::{student_quantile, student_two_sided};
use crate::table::{Cell, Table};
use crate::wording::{p_value, significant};

/// What one search found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    /// What it is a repetition of.
    pub(crate) group: String,
    /// Its seed.
    pub(crate) seed: u64,
    /// The loss of its last incumbent.
    pub(crate) loss: f64,
}

/// Two groups and the differences between their searches.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Difference {
    /// The groups; the difference is the first one's loss less the second one's.
    pub(crate) groups: [String; 2],
    /// Seeds that both have.
    pub(crate) n: usize,
    /// Mean of the differences.
    pub(crate) mean: f64,
    /// Its 95 % interval (Student's) and the two-sided p; `None` for one pair, and where all differences are equal.
    pub(crate) interval: Option<(f64, f64, f64)>,
}

/// All pairs of groups that have a seed in common.
pub(crate) fn differences(found: &[Found]) -> Vec<Difference> {
    let mut groups: BTreeMap<&str, BTreeMap<u64, f64>> = BTreeMap::new();
    for search in found {
        let group = groups.entry(&search.group).or_default();
        group.insert(search.seed, search.loss);
    }
    let mut differences = Vec::new();
    for (first, a) in &groups {
        for (second, b) in groups.range::<str, _>((
            std::ops::Bound::Excluded(*first),
            std::ops::Bound::Unbounded,
        )) {
            let pairs = a
                .iter()
                .filter_map(|(seed, loss)| Some((*loss, *b.get(seed)?)));
            let pairs: Vec<(f64, f64)> = pairs.collect();
            if !pairs.is_empty() {
                let groups = [(*first).to_owned(), (*second).to_owned()];
                differences.push(difference(groups, &pairs));
            }
        }
    }
    differences
}

fn difference(groups: [String; 2], pairs: &[(f64, f64)]) -> Difference {
    let n = pairs.len() as f64;
    let largest = pairs.iter().flat_map(|(a, b)| [a.abs(), b.abs()]);
    let rounding = 4.0 * f64::EPSILON * largest.fold(0.0, f64::max);
    // What the rounding of losses alone may come to is none.
    let or_none = |x: f64| if x.abs() <= rounding { 0.0 } else { x };
    let each = pairs.iter().map(|(a, b)| a - b);
    let mean = or_none(each.clone().sum::<f64>() / n);
    let squares: f64 = each.map(|x| (x - mean).powi(2)).sum();
    let error = or_none((squares / (n - 1.0) / n).sqrt());
    let interval = (pairs.len() > 1 && error > 0.0).then(|| {
        let half = student_quantile(0.05, n - 1.0) * error;
        (
            mean - half,
            mean + half,
            student_two_sided(mean / error, n - 1.0),
        )
    });
    Difference {
        groups,
        n: pairs.len(),
        mean,
        interval,
    }
}

/// One row a pair of groups. Columns: `group`, `other`, `n` (seeds), `difference` (mean of the group's loss less the
/// other's), `low`, `high` (95 % interval), `p`.
pub(crate) fn table(differences: &[Difference], is_rounded: bool) -> Table {
    let mut table = Table::new(&["group", "other", "n", "difference", "low", "high", "p"]);
    for difference in differences {
        let cell = |number: Option<f64>, write: &dyn Fn(f64) -> String| {
            if is_rounded {
                Cell::rounded(number, write)
            } else {
                Cell::number(number)
            }
        };
        let loss = |number| cell(number, &|x| significant(x, 3));
        let [group, other] = &difference.groups;
        table.push(vec![
            Cell::text(group),
            Cell::text(other),
            Cell::Count(difference.n),
            loss(Some(difference.mean)),
            loss(difference.interval.map(|interval| interval.0)),
            loss(difference.interval.map(|interval| interval.1)),
            cell(difference.interval.map(|interval| interval.2), &p_value),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(group: &str, losses: &[(u64, f64)]) -> Vec<Found> {
        let search = |(seed, loss): &(u64, f64)| Found {
            group: group.into(),
            seed: *seed,
            loss: *loss,
        };
        losses.iter().map(search).collect()
    }

    #[test]
    fn only_searches_with_the_same_seed_are_compared() {
        // Seeds differ much more than groups do.
        let mut all = found("joint", &[(1, 0.10), (2, 0.50), (3, 0.91), (9, 7.0)]);
        all.extend(found("two steps", &[(3, 0.95), (1, 0.13), (2, 0.52)]));
        all.extend(found("alone", &[(4, 0.1)]));
        let [difference] = &differences(&all)[..] else {
            panic!("one pair of groups has seeds in common");
        };
        assert_eq!(difference.groups, ["joint", "two steps"]);
        assert_eq!(difference.n, 3);
        // scipy.stats.ttest_rel([.1, .5, .91], [.13, .52, .95]): t = -5.196, p = 0.0351, interval ±0.02484
        assert!((difference.mean + 0.03).abs() < 1e-12);
        let (low, high, p) = difference.interval.unwrap();
        assert!(
            (low + 0.05484).abs() < 1e-5 && (high + 0.00516).abs() < 1e-5,
            "{low} {high}"
        );
        assert!((p - 0.0351).abs() < 1e-4, "{p}");
    }

    #[test]
    fn differences_that_are_rounding_alone_are_none() {
        // 0.3 − (0.1 + 0.2) and its like: their mean is no difference, and neither is their spread.
        let mut all = found("a", &[(1, 0.3), (2, 0.1 + 0.2)]);
        all.extend(found("b", &[(1, 0.1 + 0.2), (2, 0.3)]));
        all.extend(found("c", &[(1, 0.1), (2, 0.5)]));
        let all = differences(&all);
        assert_eq!((all[0].mean, all[0].interval), (0.0, None));
        // 0.2 and −0.2: the mean alone.
        assert!(all[1].mean.to_bits() == 0 && all[1].interval.is_some_and(|it| it.1 > 2.0));
    }

    #[test]
    fn one_pair_has_a_difference_and_no_interval() {
        let mut all = found("a", &[(1, 0.1)]);
        all.extend(found("b", &[(1, 0.3)]));
        let [difference] = &differences(&all)[..] else {
            panic!("one pair");
        };
        assert!((difference.mean + 0.2).abs() < 1e-12 && difference.interval.is_none());
        let text = table(std::slice::from_ref(difference), true)
            .write(crate::table::Format::Csv)
            .unwrap();
        assert_eq!(
            text,
            "group,other,n,difference,low,high,p\na,b,1,-0.2,-,-,-\n"
        );
    }
}
