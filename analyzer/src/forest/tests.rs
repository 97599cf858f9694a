use rand::RngExt as _;

use super::*;

fn settings() -> Settings {
    Settings {
        num_trees: 16,
        seed: Seed::new(1),
    }
}

fn samples(n: usize) -> (Vec<Vec<f64>>, Vec<f64>) {
    let mut rng = Seed::new(2).rng();
    let points: Vec<Vec<f64>> = (0..n)
        .map(|_| {
            vec![
                rng.random(),
                f64::from(rng.random_range(0..3_u8)),
                rng.random(),
            ]
        })
        .collect();
    let value = |p: &Vec<f64>| 3.0 * p[0] + if p[1] > 1.5 { 2.0 } else { 0.0 };
    let values = points.iter().map(value).collect();
    (points, values)
}

fn axes() -> Vec<Axis> {
    vec![Axis::Interval, Axis::Levels(3), Axis::Interval]
}

#[test]
fn a_forest_learns_a_sum_and_knows_its_error() {
    let (points, values) = samples(800);
    let forest = Forest::fit(axes(), &points, &values, &settings());
    let (error, explained) = forest.error(&values).unwrap();
    assert!(error < 0.15 && explained > 0.97, "{error} {explained}");
    assert!((forest.predict(&[0.5, 2.0, 0.1]) - 3.5).abs() < 0.1);
    assert!((forest.predict(&[0.5, 0.0, 0.9]) - 1.5).abs() < 0.1);
}

#[test]
fn noise_is_not_explained_out_of_the_bag() {
    let (points, _) = samples(400);
    let mut rng = Seed::new(3).rng();
    let values: Vec<f64> = (0..400).map(|_| rng.random()).collect();
    let forest = Forest::fit(axes(), &points, &values, &settings());
    let (_, explained) = forest.error(&values).unwrap();
    assert!(explained < 0.1, "{explained}");
}

#[test]
fn the_leaves_fill_the_space_and_hold_their_points() {
    let (points, values) = samples(200);
    let forest = Forest::fit(axes(), &points, &values, &settings());
    for tree in forest.stages.iter().flatten() {
        let (mut volume, mut mean) = (0.0, 0.0);
        let mut found = vec![0; points.len()];
        tree.for_each_leaf(&axes(), |value, sides| {
            let shares = sides
                .iter()
                .zip(axes())
                .map(|(side, axis)| side.share(axis));
            let share: f64 = shares.product();
            volume += share;
            mean += share * value;
            for (point, found) in points.iter().zip(&mut found) {
                let is_in = sides.iter().zip(point).all(|(side, x)| match side {
                    Side::Interval(from, to) => *x <= *to && (*x > *from || *from == 0.0),
                    Side::Levels(bits) => bits >> level(*x) & 1 == 1,
                });
                if is_in {
                    *found += 1;
                    assert_eq!(value, tree.predict(point));
                }
            }
        });
        assert!((volume - 1.0).abs() < 1e-9, "{volume}");
        assert!(found.iter().all(|found| *found == 1));
        assert!((-5.0..5.0).contains(&mean));
    }
}

#[test]
fn constant_values_give_one_leaf_and_no_error() {
    let (points, _) = samples(50);
    let forest = Forest::fit(axes(), &points, &[0.7; 50], &settings());
    assert_eq!(forest.error(&[0.7; 50]), None);
    assert!((forest.predict(&points[0]) - 0.7).abs() < 1e-12);
    assert!(forest.num_stages() >= 1);
}

#[test]
fn the_same_seed_gives_the_same_forest() {
    let (points, values) = samples(100);
    let fit = |seed| {
        let seed = Seed::new(seed);
        let forest = Forest::fit(axes(), &points, &values, &Settings { seed, ..settings() });
        forest.predict(&[0.3, 1.0, 0.4])
    };
    assert_eq!(fit(1), fit(1));
    assert_ne!(fit(1), fit(2));
}
