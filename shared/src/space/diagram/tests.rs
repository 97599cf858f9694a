use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{SearchSpace, SpaceFile};
use super::Diagram;
use crate::seed::Seed;
use crate::value::Configuration;

fn space(hyperparameters: &str, forbidden: &str) -> SearchSpace {
    let json = format!(r#"{{"hyperparameters":[{hyperparameters}],"forbidden":[{forbidden}]}}"#);
    SearchSpace::new(&serde_json::from_str::<SpaceFile>(&json).unwrap()).unwrap()
}

/// Σ (found - expected)² / expected, less its mean, in standard deviations.
fn chi_square(found: &BTreeMap<String, f64>, expected: &BTreeMap<String, f64>) -> f64 {
    let total: f64 = found.values().sum();
    let sum: f64 = expected.values().sum();
    assert!(found.keys().all(|cell| expected.contains_key(cell)));
    let terms = expected.iter().map(|(cell, share)| {
        let expected = total * share / sum;
        let found = found.get(cell).copied().unwrap_or(0.0);
        (found - expected) * (found - expected) / expected
    });
    let degrees = expected.len() as f64 - 1.0;
    (terms.sum::<f64>() - degrees) / (2.0 * degrees).sqrt()
}

fn counts(
    number: u32,
    mut draw: impl FnMut() -> Configuration,
    cell: impl Fn(&Configuration) -> String,
) -> BTreeMap<String, f64> {
    let mut counts = BTreeMap::new();
    for _ in 0..number {
        *counts.entry(cell(&draw())).or_insert(0.0) += 1.0;
    }
    counts
}

#[test]
fn draws_are_uniform_over_the_little_that_is_allowed() {
    for upper in [100, 1000, 100_000] {
        let space = space(
            &format!(
                r#"{{"name":"i","type":"integer","lower":1,"upper":{upper}}},
                   {{"name":"j","type":"integer","lower":1,"upper":{upper}}}"#
            ),
            r#"{"i":{"min":11}},{"j":{"min":11}}"#,
        );
        let (share, is_exact) = space.allowed_share();
        // The ends of a whole number's range are a hundred-thousandth narrower than the others.
        let expected = 100.0 / f64::from(upper).powi(2);
        assert!(is_exact && (share / expected - 1.0).abs() < 1e-3, "{share}");
        assert_eq!(space.num_configurations(), Some(100));
        let mut rng = Seed::new(1).rng();
        let draw = || space.decode(&space.sample(&mut rng));
        let cell = |drawn: &Configuration| format!("{drawn:?}");
        let found = counts(2000, draw, cell);
        let all = space.configurations(100).unwrap();
        let expected = all.iter().map(|values| (cell(values), 1.0)).collect();
        let deviation = chi_square(&found, &expected);
        assert!(deviation.abs() < 4.0, "{upper}: {deviation}");
    }
}

/// Scales of all kinds, conditions in conditions, and combinations of one, two and three.
const MIXED: &str = r#"{"name":"kind","type":"categorical","choices":["a","b","c"]},
    {"name":"rate","type":"float","lower":1e-4,"upper":1,"log":true,"active_when":{"hyperparameter":"kind","in":["b","c"]}},
    {"name":"size","type":"ordinal","sequence":[8,16,32,64]},
    {"name":"layers","type":"integer","lower":1,"upper":40,"log":true},
    {"name":"drop","type":"float","lower":-1,"upper":1,"active_when":{"hyperparameter":"layers","in":[2,3,4,5,6,7,8]}},
    {"name":"fixed","type":"constant","value":1},
    {"name":"mode","type":"categorical","choices":["u","v"],"active_when":{"any":[{"hyperparameter":"rate","max":0.01},
        {"all":[{"hyperparameter":"drop","min":0},{"hyperparameter":"size","in":[8,32]}]}]}}"#;
const FORBIDDEN: &str = r#"{"mode":"v","kind":["a","b"],"layers":{"min":5}},{"kind":"a","size":[8,16]},{"rate":{"min":0.001,"max":0.2}},{"rate":{"max":0.0002},"layers":{"min":3}},
    {"kind":["a","c"],"drop":{"min":-0.5},"size":[32,64]},{"layers":{"min":9,"max":30},"size":64,"kind":"b"},{"layers":[1,31],"fixed":1}"#;

#[test]
fn draws_are_those_that_are_left_of_all_draws() {
    let space = space(MIXED, FORBIDDEN);
    let diagram = Diagram::new(&space).unwrap();
    let cell = |drawn: &Configuration| {
        let digits = |name: &str, digits: usize| {
            drawn.float(name).map_or("-".to_owned(), |x| {
                format!("{:.digits$}", if name == "rate" { x.log10() } else { x })
            })
        };
        let (kind, size, mode) = (
            drawn.text("kind"),
            drawn.integer("size"),
            drawn.text("mode"),
        );
        let layers = drawn.integer("layers").map(|n| n / 4);
        format!(
            "{kind:?} {size:?} {layers:?} {mode:?} {} {}",
            digits("rate", 0),
            digits("drop", 0)
        )
    };
    let mut rng = Seed::new(2).rng();
    let mut num_drawn = 0.0;
    let by_rejection = || loop {
        num_drawn += 1.0;
        let vector = space.draw(&mut rng);
        if space.allows_vector(&vector) {
            return space.decode(&vector);
        }
    };
    let expected = counts(400_000, by_rejection, cell);
    let share = 400_000.0 / num_drawn;
    assert!((diagram.mass() / share - 1.0).abs() < 0.01, "{share}");
    let mut rng = Seed::new(3).rng();
    let by_construction = || {
        let mut vector = space.draw(&mut rng);
        diagram.draw(&space, &mut vector, false, &mut rng);
        assert!(space.allows_vector(&vector));
        space.decode(&vector)
    };
    let found = counts(20_000, by_construction, cell);
    let deviation = chi_square(&found, &expected);
    assert!(deviation.abs() < 5.0, "{deviation}");
    assert!(expected.len() > 30, "{}", expected.len());
}

#[test]
fn a_thousandth_of_a_wide_log_float_is_drawn_evenly_on_its_scale() {
    let space = space(
        r#"{"name":"x","type":"float","lower":1e-300,"upper":1e300,"log":true}"#,
        r#"{"x":{"max":1}},{"x":{"min":2}}"#,
    );
    let mut rng = Seed::new(4).rng();
    let draw = || space.decode(&space.sample(&mut rng));
    let cell = |drawn: &Configuration| {
        let x = drawn.float("x").unwrap();
        format!("{:.1}", (x.log2() - 0.05).max(0.0))
    };
    let found = counts(5000, draw, cell);
    let expected = (0..10).map(|tenth| (format!("0.{tenth}"), 1.0)).collect();
    let deviation = chi_square(&found, &expected);
    assert!(deviation.abs() < 5.0, "{deviation} {found:?}");
}

#[test]
fn two_hundred_dimensions_and_as_many_combinations_are_counted() {
    let hyperparameters: Vec<String> = (0..200)
        .map(|i| format!(r#"{{"name":"h{i}","type":"integer","lower":0,"upper":9}}"#))
        .collect();
    let clauses: Vec<String> = (0..199)
        .map(|i| format!(r#"{{"h{i}":{{"min":1}},"h{}":{{"min":1}}}}"#, i + 1))
        .collect();
    let space = space(&hyperparameters.join(","), &clauses.join(","));
    // a(n) = a(n-1) + 9 a(n-2): no two neighbours above 0, of which one in so many draws is.
    let (mut before, mut count) = (1.0_f64, 10.0_f64);
    for _ in 1..200 {
        (before, count) = (count, count + 9.0 * before);
    }
    let diagram = Diagram::new(&space).unwrap();
    assert!((diagram.count() / count - 1.0).abs() < 1e-9);
    let mut rng = Seed::new(5).rng();
    assert!(space.allows_vector(&space.sample(&mut rng)));
}

#[test]
fn ranges_wider_than_the_largest_number_work() {
    let space = space(
        r#"{"name":"x","type":"float","lower":-1e308,"upper":1e308},
           {"name":"y","type":"float","lower":-1.7976931348623157e308,"upper":1.7976931348623157e308}"#,
        "",
    );
    let mut rng = Seed::new(6).rng();
    let mut below = 0;
    for _ in 0..1000 {
        let drawn = space.decode(&space.sample(&mut rng));
        assert_eq!(space.check_configuration(&drawn).as_ref(), Ok(&drawn));
        let again = space.decode(&space.encode(&drawn));
        for name in ["x", "y"] {
            let (a, b) = (drawn.float(name).unwrap(), again.float(name).unwrap());
            assert!((0.5 * a - 0.5 * b).abs() < 1e294, "{a} {b}");
        }
        below += u32::from(drawn.float("x").unwrap() < -0.5e308);
    }
    assert!(below.abs_diff(250) < 60, "{below}");
}

proptest! {
    #[test]
    fn counts_and_listings_are_complete(seed: u64, num_clauses in 1_usize..8) {
        use rand::RngExt as _;
        let plain = space(
            r#"{"name":"kind","type":"categorical","choices":["a","b","c"]},
               {"name":"depth","type":"integer","lower":1,"upper":4,"active_when":{"hyperparameter":"kind","in":["b","c"]}},
               {"name":"size","type":"ordinal","sequence":[8,16,32],"active_when":{"hyperparameter":"depth","in":[1,2,3]}},
               {"name":"flag","type":"categorical","choices":[true,false]},
               {"name":"mode","type":"categorical","choices":[1,2],"active_when":{"any":[{"hyperparameter":"size","in":[8]},
               {"all":[{"hyperparameter":"kind","in":["c"]},{"hyperparameter":"flag","in":[true]}]}]}}"#,
            "",
        );
        let whole = plain.configurations(1000).unwrap();
        // By kind, for depth 4 and for each of the other three: flags, or flags and modes with sizes 8, 16 and 32.
        prop_assert_eq!(whole.len(), 2 + (2 + 3 * (4 + 2 + 2)) + (3 + 3 * (4 + 3 + 3)));
        let mut rng = Seed::new(seed).rng();
        let mut file = plain.to_file();
        for _ in 0..num_clauses {
            let drawn = plain.decode(&plain.sample(&mut rng));
            let parts = drawn.iter().filter(|_| rng.random::<f64>() < 0.5);
            let clause: serde_json::Map<String, serde_json::Value> = parts
                .map(|(name, value)| (name.to_owned(), serde_json::to_value(value).unwrap()))
                .collect();
            if !clause.is_empty() {
                file.forbidden.push(serde_json::from_value(clause.into()).unwrap());
            }
        }
        let Ok(space) = SearchSpace::new(&file) else { return Ok(()) };
        let mut expected: Vec<String> =
            whole.iter().filter(|c| space.allows(c)).map(|c| format!("{c:?}")).collect();
        let mut found: Vec<String> =
            space.configurations(1000).unwrap().iter().map(|c| format!("{c:?}")).collect();
        expected.sort_unstable();
        found.sort_unstable();
        prop_assert_eq!(space.num_configurations(), Some(expected.len() as u64));
        prop_assert_eq!(found, expected);
    }
}
