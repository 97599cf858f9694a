use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
    student: Vec<Quantile>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    x: Vec<f64>,
    y: Vec<f64>,
    rho: f64,
    rho_p: f64,
    rho_p_method: String,
    tau: f64,
    tau_p: f64,
    tau_p_method: String,
    interval: Option<(f64, f64)>,
}

#[derive(Deserialize)]
struct Quantile {
    p: f64,
    freedom: f64,
    t: f64,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../tests/golden/statistics.json")).unwrap()
}

/// Relative for small numbers, so that a p of 1e-20 is compared too.
fn assert_close(name: &str, found: f64, expected: f64, tolerance: f64) {
    let scale = expected.abs().clamp(1e-300, 1.0);
    assert!(
        (found - expected).abs() <= tolerance * scale,
        "{name}: {found} instead of {expected}"
    );
}

#[test]
fn correlations_and_p_values_are_scipys() {
    for case in golden().cases {
        let name = &case.name;
        assert_close(name, spearman(&case.x, &case.y).unwrap(), case.rho, 1e-12);
        let p = spearman_p(&case.x, &case.y).unwrap();
        assert_eq!(p.method.as_str(), case.rho_p_method, "{name}");
        assert_close(name, p.p, case.rho_p, 1e-9);
        let (tau, p) = kendall(&case.x, &case.y).unwrap();
        assert_close(name, tau, case.tau, 1e-12);
        assert_eq!(p.method.as_str(), case.tau_p_method, "{name}");
        assert_close(name, p.p, case.tau_p, 1e-9);
    }
}

#[test]
fn bootstrap_intervals_are_scipys_up_to_chance() {
    let mut num_compared = 0;
    for case in golden().cases {
        let Some((low, high)) = case.interval else {
            continue;
        };
        let found = spearman_interval(&case.x, &case.y, 20_000, Seed::new(1)).unwrap();
        // With 20,000 resamples the ends of the intervals scatter by less than a hundredth of their width or so.
        let tolerance = 0.03 * (high - low) + 1e-12;
        assert!(
            (found.0 - low).abs() <= tolerance && (found.1 - high).abs() <= tolerance,
            "{}: {found:?} instead of {low} to {high}",
            case.name
        );
        num_compared += 1;
    }
    assert!(num_compared >= 8, "{num_compared}");
}

#[test]
fn the_students_quantiles_are_scipys() {
    for quantile in golden().student {
        let t = student_quantile(quantile.p, quantile.freedom);
        assert!(
            (t / quantile.t - 1.0).abs() < 1e-9,
            "{t} for {}",
            quantile.t
        );
    }
}

#[test]
fn what_does_not_exist_is_none() {
    assert_eq!(spearman(&[1.0, 2.0], &[1.0, 2.0]), None);
    assert_eq!(spearman(&[1.0, 1.0, 1.0], &[1.0, 2.0, 3.0]), None);
    assert_eq!(kendall(&[1.0, 2.0, 3.0], &[5.0, 5.0, 5.0]), None);
    assert_eq!(kendall(&[1.0, 2.0], &[1.0, 2.0]), None);
    assert_eq!(spearman_p(&[], &[]), None);
    let constant = [2.0; 5];
    let ascending = [1.0, 2.0, 3.0, 4.0, 5.0];
    assert_eq!(
        spearman_interval(&constant, &ascending, 500, Seed::new(0)),
        None
    );
    // One value apart: a third of the resamples are without it, and so without a rho.
    let nearly = [0.0, 0.0, 0.0, 0.0, 1.0];
    assert!(spearman_interval(&nearly, &ascending, 500, Seed::new(0)).is_some());
}

#[test]
fn the_same_seed_gives_the_same_interval() {
    let x: Vec<f64> = (0..30).map(|i| f64::from(i * 7 % 30)).collect();
    let y: Vec<f64> = (0..30).map(f64::from).collect();
    let interval = |seed| spearman_interval(&x, &y, 500, Seed::new(seed)).unwrap();
    assert_eq!(interval(3), interval(3));
    assert_ne!(interval(3), interval(4));
}

#[test]
#[expect(clippy::float_cmp, reason = "exact values are expected")]
fn quantiles_are_numpys() {
    // numpy.quantile([1, 2, 4, 8], [0, 0.25, 0.5, 0.75, 1])
    let shares = [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| quantile(&[1.0, 2.0, 4.0, 8.0], share));
    assert_eq!(shares, [1.0, 1.75, 3.0, 5.0, 8.0]);
    assert_eq!(quantile(&[5.0], 0.3), 5.0);
}

proptest! {
    #[test]
    fn ranks_keep_their_sum_and_order(values in prop::collection::vec(-3i32..3, 1..40)) {
        let values: Vec<f64> = values.into_iter().map(f64::from).collect();
        let ranks = average_ranks(&values);
        let n = values.len() as f64;
        prop_assert!((ranks.iter().sum::<f64>() - n * (n + 1.0) / 2.0).abs() < 1e-9);
        for (a, b) in values.iter().zip(&ranks) {
            for (c, d) in values.iter().zip(&ranks) {
                prop_assert_eq!(a < c, b < d);
            }
        }
    }

    #[test]
    fn tau_counts_pairs_as_the_definition_does(
        pairs in prop::collection::vec((-4i32..4, -4i32..4), 3..40)
    ) {
        let (x, y): (Vec<f64>, Vec<f64>) =
            pairs.iter().map(|(a, b)| (f64::from(*a), f64::from(*b))).unzip();
        let (mut excess, mut free_x, mut free_y) = (0.0, 0.0, 0.0);
        for (i, a) in pairs.iter().enumerate() {
            for b in &pairs[..i] {
                let (dx, dy) = ((a.0 - b.0).signum(), (a.1 - b.1).signum());
                excess += f64::from(dx * dy);
                free_x += f64::from(dx.abs());
                free_y += f64::from(dy.abs());
            }
        }
        match kendall(&x, &y) {
            Some((tau, p)) => {
                prop_assert!((tau - excess / (free_x * free_y).sqrt()).abs() < 1e-12);
                prop_assert!((0.0..=1.0).contains(&p.p));
            }
            None => prop_assert!(free_x * free_y == 0.0),
        }
    }
}
