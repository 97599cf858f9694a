use std::f64::consts::PI;

use rand::RngExt as _;

use super::*;

fn decompose(d: usize, n: usize, seed: u64, f: impl Fn(&[f64]) -> f64) -> Decomposition {
    let seed = Seed::new(seed);
    let mut rng = seed.rng();
    let points: Vec<Vec<f64>> = (0..n)
        .map(|_| (0..d).map(|_| rng.random()).collect())
        .collect();
    let values: Vec<f64> = points.iter().map(|point| f(point)).collect();
    let settings = forest::Settings {
        num_trees: 16,
        seed,
    };
    let forest = Forest::fit(vec![Axis::Interval; d], &points, &values, &settings);
    Decomposition::new(&forest, seed).unwrap()
}

fn pair(parts: &Decomposition, a: usize, b: usize) -> f64 {
    parts
        .pairs
        .iter()
        .find(|pair| (pair.0, pair.1) == (a, b))
        .unwrap()
        .2
}

fn assert_within_two_points(name: &str, found: f64, expected: f64) {
    assert!(
        (found - expected).abs() < 0.02,
        "{name}: {found:.4} instead of {expected:.4}"
    );
}

#[test]
fn the_shares_of_a_weighted_sum_are_those_of_its_weights() {
    // Variances of uniform terms: w²/12.
    let weights = [4.0, 3.0, 2.0, 1.0, 0.0];
    let whole: f64 = weights.iter().map(|w| w * w).sum();
    for seed in 1..=3 {
        let parts = decompose(5, 2000, seed, |x| {
            x.iter().zip(weights).map(|(x, w)| w * x).sum()
        });
        for (axis, weight) in weights.iter().enumerate() {
            assert_within_two_points("weight", parts.main[axis], weight * weight / whole);
        }
        assert!(parts.pairs.iter().all(|pair| pair.2 < 0.02));
    }
}

#[test]
fn the_shares_of_ishigamis_function_are_the_published_ones() {
    // Ishigami and Homma 1990 with a = 7, b = 0.1; Sobol' indices as in Saltelli et al. 2008.
    let ishigami = |x: &[f64]| {
        let x: Vec<f64> = x.iter().map(|x| PI * (2.0 * x - 1.0)).collect();
        x[0].sin() + 7.0 * x[1].sin().powi(2) + 0.1 * x[2].powi(4) * x[0].sin()
    };
    for seed in 1..=3 {
        let parts = decompose(3, 2000, seed, ishigami);
        assert_within_two_points("x1", parts.main[0], 0.3139);
        assert_within_two_points("x2", parts.main[1], 0.4424);
        assert_within_two_points("x3", parts.main[2], 0.0);
        assert_within_two_points("x1 and x3", pair(&parts, 0, 2), 0.2437);
        assert_within_two_points("x1 and x2", pair(&parts, 0, 1), 0.0);
        assert_within_two_points("x2 and x3", pair(&parts, 1, 2), 0.0);
    }
}

#[test]
fn main_effects_are_those_of_an_independent_implementation() {
    #[derive(serde::Deserialize)]
    struct Golden {
        points: Vec<Vec<f64>>,
        losses: Vec<f64>,
        shares: Vec<f64>,
    }
    let golden: Golden =
        serde_json::from_str(include_str!("../../tests/golden/importance.json")).unwrap();
    let axes = vec![
        Axis::Interval,
        Axis::Interval,
        Axis::Interval,
        Axis::Levels(3),
    ];
    let seed = Seed::new(0);
    let settings = forest::Settings {
        num_trees: 16,
        seed,
    };
    let forest = Forest::fit(axes, &golden.points, &golden.losses, &settings);
    let parts = Decomposition::new(&forest, seed).unwrap();
    let whole: f64 = parts.main.iter().sum();
    for (found, expected) in parts.main.iter().zip(&golden.shares) {
        // Optuna's normalised shares leave interactions out, and its trees are decomposed one by one.
        let found = found / whole;
        assert!(
            (found - expected).abs() < 0.03,
            "{:?} instead of {:?}",
            parts.main,
            golden.shares
        );
    }
}

#[test]
fn importance_of_a_history_names_what_matters_and_what_it_rests_on() {
    let rows: Vec<Vec<f64>> = (0..60)
        .map(|number| {
            let blocks = f64::from(number % 5);
            vec![blocks * blocks, 1.0]
        })
        .collect();
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let history = crate::testing::history(&rows);
    let found = importance(&history, 0, &Settings::default()).unwrap();
    assert_eq!(found.names, ["rate", "blocks", "kind", "size"]);
    assert!(found.main[1] > 0.9 && found.local[1] > 0.8, "{found:?}");
    assert!(found.explained > 0.9);
    let curve = &found.marginals[1];
    assert!(curve.mean[0] < 1.0 && curve.mean[127] > 12.0, "{curve:?}");
    // The same history, the same numbers.
    assert_eq!(
        importance(&history, 0, &Settings::default()).unwrap().main,
        found.main
    );
    let texts = [
        basis(&history, &found),
        importance(&history, 1, &Settings::default()).unwrap_err(),
        importance(&history, 2, &Settings::default()).unwrap_err(),
    ];
    let whole: f64 = found.main.iter().sum::<f64>()
        + found.higher()
        + found.pairs.iter().map(|pair| pair.2).sum::<f64>();
    assert!((0.9..1.1).contains(&whole), "{whole}");
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn a_marginal_is_the_mean_over_all_other_axes() {
    let parts = decompose(2, 1000, 5, |x| 2.0 * x[0] + x[1]);
    let marginal = &parts.marginals[0];
    for (place, mean) in marginal.places.iter().zip(&marginal.mean) {
        assert!(
            (mean - (2.0 * place + 0.5)).abs() < 0.15,
            "{mean} at {place}"
        );
    }
    assert!(marginal.spread.iter().all(|spread| *spread < 0.2));
}

#[test]
fn ranks_do_not_care_for_outliers() {
    let rows: Vec<Vec<f64>> = (0..60)
        .map(|number| vec![1e3_f64.powi(number % 5) + f64::from(number) * 1e-6])
        .collect();
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let history = crate::testing::history(&rows);
    let settings = Settings {
        of: Of::Ranks,
        ..Settings::default()
    };
    let found = importance(&history, 0, &settings).unwrap();
    assert!(found.main[1] > 0.9, "{found:?}");
    let curve = &found.marginals[1].mean;
    assert!(
        curve.iter().all(|rank| (-0.1..1.1).contains(rank)),
        "{curve:?}"
    );
}

#[test]
fn losses_too_large_to_be_squared_are_ranked() {
    let rows: Vec<Vec<f64>> = (0..60)
        .map(|number| {
            vec![if number % 5 == 4 {
                1e305
            } else {
                f64::from(number % 5)
            }]
        })
        .collect();
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let history = crate::testing::history(&rows);
    let found = importance(&history, 0, &Settings::default()).unwrap();
    assert_eq!(found.of, Of::Ranks);
    assert!(found.main[1] > 0.9, "{found:?}");
    assert!(basis(&history, &found).contains("of their ranks"));
}
