//! Forecasts of learning curves: reference values of an independent computation, and what holds for every curve.

use proptest::prelude::*;
use sampler::learning_curve::{CurveModel, Point, hopeless};
use sampler::normal;
use serde::Deserialize;
use shared::Seed;

#[derive(Deserialize)]
struct Golden {
    at: f64,
    until: f64,
    curves: Vec<Vec<(f64, Option<f64>)>>,
    queries: Vec<Query>,
}

#[derive(Deserialize)]
struct Query {
    points: Vec<(f64, Option<f64>)>,
    diverging: f64,
    quantiles: Vec<(f64, f64)>,
}

fn curve(points: &[(f64, Option<f64>)]) -> Vec<Point> {
    let point = |(budget, loss): &(f64, Option<f64>)| Point {
        budget: *budget,
        loss: loss.unwrap_or(f64::INFINITY),
    };
    points.iter().map(point).collect()
}

fn slices(curves: &[Vec<Point>]) -> impl DoubleEndedIterator<Item = &[Point]> + Clone {
    curves.iter().map(Vec::as_slice)
}

/// `golden/learning_curve.py` fits anew for each curve that is left out.
#[test]
fn forecasts_are_those_of_numpy_and_scipy() {
    let golden: Golden = serde_json::from_str(include_str!("golden/learning_curve.json")).unwrap();
    let curves: Vec<Vec<Point>> = golden.curves.iter().map(|points| curve(points)).collect();
    let model = CurveModel::new(slices(&curves), golden.at, golden.until);
    assert_eq!(model.num_references(), 12);
    for query in &golden.queries {
        let points = curve(&query.points);
        let forecast = model.forecast(&points).unwrap();
        assert!((forecast.diverging() - query.diverging).abs() < 1e-12);
        for (p, expected) in &query.quantiles {
            let found = forecast.quantile(*p);
            assert!((found - expected).abs() < 1e-10, "{p}: {found} {expected}");
        }
    }
}

/// Curves like those of trainings: power laws to a limit, with noise.
fn drawn(count: usize, seed: u64) -> Vec<Vec<Point>> {
    let mut rng = Seed::new(seed).rng();
    let one = |_| {
        let (last, gain, power) = (
            rng.random::<f64>(),
            rng.random::<f64>(),
            0.2 + rng.random::<f64>(),
        );
        let mut point = |budget: u32| {
            let budget = f64::from(budget);
            let noise = 0.01 * normal::draw(&mut rng);
            Point {
                budget,
                loss: last + gain * libm::pow(budget, -power) + noise,
            }
        };
        (1..=27).map(&mut point).collect()
    };
    (0..count).map(one).collect()
}

/// The part of a curve up to a budget.
fn part(curve: &[Point], budget: f64) -> &[Point] {
    &curve[..curve.partition_point(|p| p.budget <= budget)]
}

#[test]
fn at_least_four_of_five_ends_or_nearly_lie_in_intervals_for_four_fifths() {
    for (count, widest) in [(0, 1.5), (8, 0.35), (32, 0.2)] {
        let (mut inside, mut width, mut num) = (0.0, 0.0, 0.0);
        for seed in 0..20 {
            let curves = drawn(count + 50, seed);
            let (ended, asked) = curves.split_at(count);
            let parts: Vec<Vec<Point>> = asked.iter().map(|c| part(c, 9.0).to_vec()).collect();
            let model = CurveModel::new(slices(&parts).chain(slices(ended)), 9.0, 27.0);
            for (part, whole) in parts.iter().zip(asked) {
                let forecast = model.forecast(part).unwrap();
                let (lower, upper) = (forecast.quantile(0.1), forecast.quantile(0.9));
                let end = whole.last().unwrap().loss;
                inside += f64::from(u8::from(lower <= end && end <= upper));
                width += upper - lower;
                num += 1.0;
            }
        }
        let (inside, width) = (inside / num, width / num);
        assert!(width < widest, "{count}: {width}");
        // Of few curves that have ended the intervals are too wide rather than too narrow.
        assert!(inside > 0.74, "{count}: {inside}");
    }
}

#[test]
fn what_has_ended_or_diverged_is_certain() {
    let curves = drawn(10, 3);
    let model = CurveModel::new(slices(&curves), 9.0, 27.0);
    let ended = model.forecast(&curves[2]).unwrap();
    assert_eq!(ended.quantile(0.01).to_bits(), curves[2][26].loss.to_bits());
    assert_eq!(ended.quantile(0.99).to_bits(), curves[2][26].loss.to_bits());
    let mut diverged = part(&curves[1], 5.0).to_vec();
    diverged.push(Point {
        budget: 6.0,
        loss: f64::INFINITY,
    });
    let forecast = model.forecast(&diverged).unwrap();
    assert!(
        forecast.quantile(0.001).is_infinite() && forecast.probability_below(1e300).abs() < 1e-9
    );
    assert!((forecast.diverging() - 1.0).abs() < 1e-12);
    assert!(model.forecast(&[]).is_none());
    // None of the others has: none is expected to.
    assert!(
        model
            .forecast(part(&curves[1], 9.0))
            .unwrap()
            .diverging()
            .abs()
            < 1e-12
    );
}

#[test]
fn equal_losses_are_foretold_with_certainty() {
    let flat = |loss: f64| -> Vec<Point> {
        (1..=27)
            .map(|b| Point {
                budget: f64::from(b),
                loss,
            })
            .collect()
    };
    let model_of = vec![flat(0.7); 9];
    let model = CurveModel::new(slices(&model_of), 9.0, 27.0);
    let same = flat(0.7);
    let forecast = model.forecast(part(&same, 9.0)).unwrap();
    for p in [0.01, 0.5, 0.99] {
        assert!((forecast.quantile(p) - 0.7).abs() < 1e-12);
    }
    // Curves that end where they stand, at different losses: nothing changes.
    let levels: Vec<Vec<Point>> = (0..12).map(|i| flat(f64::from(i))).collect();
    let model = CurveModel::new(slices(&levels), 9.0, 27.0);
    let forecast = model.forecast(part(&levels[3], 9.0)).unwrap();
    assert!(
        (forecast.median() - 3.0).abs() < 0.1,
        "{}",
        forecast.median()
    );
}

#[test]
fn hopeless_losses_are_those_that_never_ended_well() {
    // What is ahead at a third ends ahead: the end is the loss there less 0.1.
    let line = |start: f64| -> Vec<Point> {
        [(9.0, start), (27.0, start - 0.1)]
            .map(|(budget, loss)| Point { budget, loss })
            .to_vec()
    };
    let curves: Vec<Vec<Point>> = (0..30).map(|i| line(f64::from(i))).collect();
    let found = hopeless(slices(&curves), &[9.0], 27.0, 5.0, 0.05);
    assert_eq!(found.len(), 1);
    assert!(found[0].loss >= 6.0 && found[0].loss <= 9.0, "{found:?}");
    assert!(found[0].forecast > 5.0);
    // The best may come from anywhere: nothing is hopeless.
    let crossing: Vec<Vec<Point>> = (0..30)
        .map(|i| {
            let end = f64::from(i * 7 % 30);
            [(9.0, f64::from(i)), (27.0, end)]
                .map(|(budget, loss)| Point { budget, loss })
                .to_vec()
        })
        .collect();
    assert!(hopeless(slices(&crossing), &[9.0], 27.0, 15.0, 0.05).is_empty());
    assert!(
        hopeless(slices(&curves[..7]), &[9.0], 27.0, 5.0, 0.05).is_empty(),
        "too few"
    );
}

fn any_loss() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => -10.0..10.0_f64,
        1 => prop::sample::select(vec![f64::MAX, f64::MIN, 0.0, 5e-324, 1e300]),
        1 => Just(f64::INFINITY),
    ]
}

fn any_curves() -> impl Strategy<Value = Vec<Vec<Point>>> {
    let points = prop::collection::vec(any_loss(), 1..9);
    let curve = points.prop_map(|losses| -> Vec<Point> {
        let budgets = (1..).map(|b: u32| f64::from(b * b));
        let mut curve: Vec<Point> = budgets
            .zip(losses)
            .map(|(budget, loss)| Point { budget, loss })
            .collect();
        let finite = curve.partition_point(|p| p.loss.is_finite());
        curve.truncate(finite + 1);
        curve
    });
    prop::collection::vec(curve, 1..14)
}

proptest! {
    #[test]
    fn quantiles_are_numbers_and_rise(curves in any_curves(), at in 1.0..40.0_f64, share in 0.1..1.0_f64) {
        let model = CurveModel::new(slices(&curves), at * share, at);
        for curve in &curves {
            let Some(forecast) = model.forecast(part(curve, at * share)) else { continue };
            let mut before = f64::NEG_INFINITY;
            for p in [0.001, 0.1, 0.2, 0.5, 0.9, 0.999] {
                let quantile = forecast.quantile(p);
                prop_assert!(quantile >= before, "{p}: {quantile} {before}");
                before = quantile;
            }
            let middle = forecast.probability_below(forecast.median());
            prop_assert!((0.0..=1.0).contains(&forecast.diverging()) && (0.0..=1.0).contains(&middle));
        }
    }

    #[test]
    fn shifts_and_factors_carry_over(seed in 0_u64..1000, exponent in -30..30_i32, shift in -3.0..3.0_f64) {
        let curves = drawn(12, seed);
        let factor = libm::exp2(f64::from(exponent));
        let moved: Vec<Vec<Point>> = curves
            .iter()
            .map(|curve| curve.iter().map(|p| Point { loss: factor * (p.loss + shift), ..*p }).collect())
            .collect();
        let (model, other) = (
            CurveModel::new(slices(&curves[1..]), 9.0, 27.0),
            CurveModel::new(slices(&moved[1..]), 9.0, 27.0),
        );
        let a = model.forecast(part(&curves[0], 9.0)).unwrap();
        let b = other.forecast(part(&moved[0], 9.0)).unwrap();
        for p in [0.1, 0.5, 0.9] {
            let expected = factor * (a.quantile(p) + shift);
            prop_assert!((b.quantile(p) - expected).abs() < 1e-8 * factor, "{p}");
        }
    }
}
