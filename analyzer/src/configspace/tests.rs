use std::path::Path;

use anyhow::Result;
use serde_json::Value as Json;
use shared::{Configuration, Kind, SearchSpace, Value};

use super::*;
use crate::testing::search_file;

fn read(text: &str) -> Result<Read, String> {
    from_json(Path::new("configspace.json"), text.as_bytes()).map_err(|error| format!("{error:#}"))
}

#[test]
fn a_space_survives_the_way_there_and_back() {
    let space = SearchSpace::new(&search_file().space.unwrap()).unwrap();
    let text = to_json(&space, "test", Generation::One)
        .unwrap()
        .to_string();
    let back = read(&text).unwrap();
    assert_eq!(back.notes, Vec::<String>::new());
    assert_eq!(SearchSpace::new(&back.space).unwrap(), space);
}

#[test]
fn both_generations_of_the_format_are_read() {
    let old = r#"{"hyperparameters": [
        {"name": "b", "type": "uniform_float", "log": true, "lower": 1e-05, "upper": 1, "default": 0.1, "q": null},
        {"name": "a", "type": "categorical", "choices": ["x", "y"], "default": "x", "probabilities": [0.5, 0.5]}],
        "conditions": [{"child": "b", "parent": "a", "type": "EQ", "value": "y"}], "forbiddens": [],
        "json_format_version": 0.4}"#;
    let new = r#"{"name": null, "hyperparameters": [
        {"type": "uniform_float", "name": "b", "lower": 1e-05, "upper": 1.0, "default_value": 0.1, "log": true, "meta": null},
        {"type": "categorical", "name": "a", "choices": ["x", "y"], "weights": null, "default_value": "x", "meta": null}],
        "conditions": [{"child": "b", "parent": "a", "type": "EQ", "value": "y"}], "forbiddens": [],
        "python_module_version": "1.2.0", "format_version": 0.4}"#;
    let (old, new) = (read(old).unwrap().space, read(new).unwrap().space);
    assert_eq!(
        SearchSpace::new(&old).unwrap(),
        SearchSpace::new(&new).unwrap()
    );
    let names: Vec<&str> = old
        .hyperparameters
        .iter()
        .map(|h| h.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b"], "parents first");
}

#[test]
fn what_is_not_expressible_is_refused_by_name() {
    let one = |hyperparameter: &str, conditions: &str| {
        read(&format!(
            r#"{{"hyperparameters": [{hyperparameter}], "conditions": [{conditions}]}}"#
        ))
        .unwrap_err()
    };
    let x = r#"{"name": "x", "type": "uniform_int", "lower": 1, "upper": 3}"#;
    let connected = |conditions: &str| {
        one(
            r#"{"name": "a", "type": "uniform_int", "lower": 1, "upper": 3},
            {"name": "b", "type": "categorical", "choices": ["x", "y"]},
            {"name": "f", "type": "uniform_float", "lower": 0, "upper": 1},
            {"name": "c", "type": "constant", "value": 1}"#,
            conditions,
        )
    };
    insta::assert_snapshot!(
        [
            one(
                r#"{"name": "x", "type": "normal_float", "mu": 0, "sigma": 1}"#,
                ""
            ),
            one(
                r#"{"name": "x", "type": "uniform_float", "lower": 2, "upper": 1}"#,
                ""
            ),
            one(r#"{"name": "x", "type": "categorical"}"#, ""),
            one(r#"{"type": "constant", "value": 1}"#, ""),
            one(
                x,
                r#"{"child": "y", "parent": "x", "type": "EQ", "value": 1}"#
            ),
            one(
                x,
                r#"{"child": "x", "parent": "x", "type": "EQ", "value": 1}"#
            ),
            one(
                r#"{"name": "x", "type": "beta_float", "alpha": 1, "beta": 2, "lower": 0, "upper": 1}"#,
                ""
            ),
            one(
                r#"{"name": "x", "type": "uniform_float", "lower": 0, "upper": 1, "q": 1e-9}"#,
                ""
            ),
            one(
                r#"{"name": "x", "type": "uniform_int", "lower": 0, "upper": 9, "q": 0}"#,
                ""
            ),
            connected(r#"{"child": "c", "parent": "a", "type": "XOR", "value": 1}"#),
            connected(r#"{"child": "c", "parent": "f", "type": "GT", "value": 1.0}"#),
            connected(r#"{"child": "c", "parent": "f", "type": "LT", "value": "x"}"#),
            connected(r#"{"child": "c", "parent": "a", "type": "GT", "value": 7}"#),
            connected(r#"{"child": "c", "parent": "a", "type": "GT", "value": 3}"#),
            connected(r#"{"child": "c", "parent": "b", "type": "LT", "value": "x"}"#),
            connected(r#"{"child": "c", "type": "AND", "conditions": []}"#),
            connected(r#"{"child": "c", "type": "OR", "conditions": [{"parent": "d", "type": "EQ", "value": 1}]}"#),
            read("[").unwrap_err(),
        ]
        .join("\n")
    );
}

#[test]
fn what_is_dropped_is_said() {
    let read = |weights: &str| {
        let text = format!(
            r#"{{"hyperparameters": [{{"name": "a", "type": "categorical", "choices": ["x", "y", "z"], {weights}}}]}}"#
        );
        read(&text).unwrap()
    };
    let uneven = read(r#""probabilities": [0.9, 0.08, 0.02]"#);
    assert_eq!(uneven.notes, ["the weights of `a`'s choices are ignored"]);
    let even = read(r#""weights": [2, 2, 2]"#);
    assert!(even.notes.is_empty() && even.space.hyperparameters[0].prior.is_none());
    let one = read(r#""weights": [1, 4, 1]"#);
    assert!(one.notes.is_empty());
    assert_eq!(
        one.space.hyperparameters[0].prior,
        Some(Value::Text("y".into()))
    );
    let confidence = one.space.hyperparameters[0].confidence.unwrap();
    assert!((confidence.sharpness() - 4.0).abs() < 1e-12);
}

const THREE: &str = r#""hyperparameters": [
    {"name": "a", "type": "categorical", "choices": ["x", "y"]},
    {"name": "n", "type": "integer", "lower": 1, "upper": 5},
    {"name": "f", "type": "float", "lower": 0, "upper": 1}]"#;

fn forbidding(forbidden: &str) -> SearchSpace {
    let json = format!(r#"{{{THREE}, "forbidden": [{forbidden}]}}"#);
    SearchSpace::new(&serde_json::from_str(&json).unwrap()).unwrap()
}

#[test]
fn forbidden_combinations_survive_the_way_there_and_back() {
    let space = forbidding(r#"{"a": "x", "n": [1, 3]}, {"n": 2}, {"a": ["x"], "n": {"min": 4}}"#);
    let json = to_json(&space, "test", Generation::One).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&json["forbiddens"]).unwrap());
    let back = SearchSpace::new(&read(&json.to_string()).unwrap().space).unwrap();
    for a in ["x", "y"] {
        for n in 1..=5 {
            let json = format!(r#"{{"a": "{a}", "n": {n}, "f": 0.5}}"#);
            let configuration: Configuration = serde_json::from_str(&json).unwrap();
            assert_eq!(
                back.allows(&configuration),
                space.allows(&configuration),
                "{json}"
            );
        }
    }
    // ConfigSpace refuses a space whose default is forbidden.
    let defaults = json["hyperparameters"].as_array().unwrap().iter();
    let default: serde_json::Map<String, Json> = defaults
        .map(|h| {
            (
                h["name"].as_str().unwrap().to_owned(),
                h["default_value"].clone(),
            )
        })
        .collect();
    let default: Configuration = serde_json::from_value(default.into()).unwrap();
    assert!(space.check_configuration(&default).is_ok(), "{default:?}");
}

#[test]
fn what_configspace_cannot_forbid_is_refused_by_name() {
    let refused = |forbidden: &str| {
        let error = to_json(&forbidding(forbidden), "test", Generation::Seven).unwrap_err();
        format!("{error:#}")
    };
    assert_eq!(
        refused(r#"{"f": {"min": 0.5}}"#),
        "ConfigSpace 0.7 cannot forbid a range of `f`"
    );
    let with = |forbidden: &str| {
        let three = r#"{"hyperparameters": [{"name": "a", "type": "categorical", "choices": [1, 2]},
            {"name": "c", "type": "constant", "value": 1},
            {"name": "w", "type": "categorical", "choices": ["u", "v"]},
            {"name": "f", "type": "uniform_float", "lower": 0, "upper": 1},
            {"name": "g", "type": "uniform_float", "lower": 0, "upper": 1}]"#;
        read(&format!(r#"{three}, "forbiddens": [{forbidden}]}}"#)).unwrap_err()
    };
    insta::assert_snapshot!(
        [
            with(r#"{"left": "a", "right": "b", "type": "RELATION", "lambda": "LESS"}"#),
            with(r#"{"left": "a", "right": "c", "type": "RELATION", "lambda": "LESS"}"#),
            with(r#"{"left": "a", "right": "a", "type": "RELATION_EQ"}"#),
            with(r#"{"left": "f", "right": "g", "type": "RELATION_LT"}"#),
            with(r#"{"left": "a", "right": "w", "type": "RELATION_LT"}"#),
            with(r#"{"name": "c", "type": "CLAUSE_GT", "value": 1}"#),
            with(r#"{"name": "f", "type": "CLAUSE_GT", "value": 2}"#),
            with(r#"{"name": "b", "type": "EQUALS", "value": 1}"#),
            with(r#"{"name": "a", "type": "IN", "values": [1, 2]}"#),
        ]
        .join("\n")
    );
}

#[test]
fn a_file_from_an_editor_that_marks_the_order_of_bytes_is_read() {
    let space = SearchSpace::new(&search_file().space.unwrap()).unwrap();
    let text = to_json(&space, "test", Generation::One)
        .unwrap()
        .to_string();
    let back = read(&format!("\u{feff}{text}")).unwrap();
    assert_eq!(SearchSpace::new(&back.space).unwrap(), space);
}

/// A space with what ConfigSpace 1.2.2 itself wrote of each feature.
fn of_configspace() -> SearchSpace {
    let bytes = include_bytes!("../../tests/files/configspace-1.2.json");
    let read = from_json(Path::new("configspace-1.2.json"), bytes).unwrap();
    assert_eq!(read.notes, Vec::<String>::new());
    SearchSpace::new(&read.space).unwrap()
}

#[test]
fn conditions_mean_what_they_mean_there() {
    let space = of_configspace();
    let condition = |name: &str| {
        let condition = space.find(name).unwrap().condition.as_ref().unwrap();
        serde_json::to_string(&condition.to_file(space.hyperparameters())).unwrap()
    };
    let names = [
        "above", "below", "outside", "unlike", "beyond", "both", "beneath",
    ];
    insta::assert_snapshot!(names.map(|name| format!("{name}: {}", condition(name))).join("\n"), @r#"
    above: {"hyperparameter":"layers","in":[3,4,5,6]}
    below: {"hyperparameter":"size","in":[1,2]}
    outside: {"any":[{"hyperparameter":"layers","in":[5,6]},{"hyperparameter":"layers","in":[1]}]}
    unlike: {"hyperparameter":"optimizer","in":["sgd","adam"]}
    beyond: {"hyperparameter":"size","in":[4,8]}
    both: {"all":[{"hyperparameter":"layers","in":[3,4,5,6]},{"hyperparameter":"layers","in":[1,3,5]}]}
    beneath: {"all":[{"hyperparameter":"optimizer","in":["adam","sgd","lamb"]},{"hyperparameter":"nested","in":[3,4]}]}
    "#);
}

#[test]
fn conditions_on_several_parents_and_thresholds_mean_what_they_mean_there() {
    let bytes = include_bytes!("../../tests/files/configspace-1.2-conditions.json");
    let read = from_json(Path::new("configspace-1.2-conditions.json"), bytes).unwrap();
    let space = SearchSpace::new(&read.space).unwrap();
    // Configurations that ConfigSpace 1.2.2 drew: what is active there, and nothing else, is active here.
    let drawn = include_str!("../../tests/files/configspace-1.2-conditions.jsonl");
    let mut num_active = std::collections::BTreeMap::<String, u32>::new();
    for line in drawn.lines() {
        let drawn: Configuration = serde_json::from_str(line).unwrap();
        let checked = space.check_configuration(&drawn);
        assert!(checked.is_ok(), "{checked:?}: {line}");
        for (name, _) in drawn.iter() {
            *num_active.entry(name.to_owned()).or_default() += 1;
        }
    }
    assert_eq!(num_active.len(), space.hyperparameters().len());
    // 200 were drawn; one threshold nearly never fails, and another one is the middle of 100,000 values.
    for name in ["gt", "lt", "both", "either", "nested", "grand", "of_and"] {
        assert!((10..190).contains(&num_active[name]), "{num_active:?}");
    }
    for generation in [Generation::Seven, Generation::One] {
        let json = to_json(&space, "test", generation).unwrap();
        let back = from_json(Path::new("configspace.json"), json.to_string().as_bytes()).unwrap();
        let back = SearchSpace::new(&back.space).unwrap();
        for (h, again) in space.hyperparameters().iter().zip(back.hyperparameters()) {
            assert_eq!((&h.name, &h.condition), (&again.name, &again.condition));
        }
    }
}

#[test]
fn forbidden_clauses_and_relations_mean_what_they_mean_there() {
    let space = of_configspace();
    // What `ConfigSpace.util.check_configuration` and `is_forbidden_value` of 1.2.2 said of these.
    let table = include_str!("../../tests/files/configspace-1.2-allowed.jsonl");
    let (mut num, mut num_allowed) = (0, 0);
    for line in table.lines() {
        let (configuration, is_allowed): (Configuration, bool) =
            serde_json::from_str(line).unwrap();
        assert_eq!(space.allows(&configuration), is_allowed, "{line}");
        num += 1;
        num_allowed += usize::from(is_allowed);
    }
    assert!(
        num >= 200 && num_allowed * 5 > num && num_allowed * 5 < 4 * num,
        "{num_allowed} of {num}"
    );
}

#[test]
fn steps_become_ordinals_and_normal_distributions_beliefs() {
    let space = of_configspace();
    let belief = |name: &str| {
        let belief = space.find(name).unwrap().user_prior.clone().unwrap();
        (belief.value, belief.confidence.sharpness())
    };
    assert_eq!(belief("momentum"), (Value::Float(0.5), 5.0));
    let (mean, sharpness) = belief("units");
    assert_eq!(mean, Value::Integer(20));
    assert!((sharpness - 9.9).abs() < 1e-9, "{sharpness}");
    let (mean, sharpness) = belief("rate");
    assert_eq!(mean, Value::Float(0.01));
    // sigma was chosen for a quarter of the logarithmic range.
    assert!((sharpness - 4.0).abs() < 1e-6, "{sharpness}");

    let quantized = read(
        r#"{"hyperparameters": [
        {"name": "x", "type": "uniform_float", "lower": 0, "upper": 1, "q": 0.1, "log": false},
        {"name": "n", "type": "normal_int", "mu": 70, "sigma": 32, "lower": 0, "upper": 128, "q": 32},
        {"name": "m", "type": "uniform_int", "lower": 1, "upper": 9, "q": 1},
        {"name": "k", "type": "normal_float", "mu": -4.6, "sigma": 1.0, "lower": 1e-4, "upper": 1, "log": true, "default": 0.01}]}"#,
    )
    .unwrap();
    let of = |index: usize| &quantized.space.hyperparameters[index];
    let words = |values: &Option<Vec<Value>>| {
        let words: Vec<String> = values.iter().flatten().map(ToString::to_string).collect();
        words.join(" ")
    };
    let tenths = "0.0 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 1.0";
    assert_eq!(words(&of(0).sequence), tenths);
    assert_eq!(words(&of(1).sequence), "0 32 64 96 128");
    assert_eq!(of(1).prior, Some(Value::Integer(64)));
    let checked = SearchSpace::new(&quantized.space).unwrap();
    assert!(matches!(
        checked.hyperparameters()[2].kind,
        Kind::Integer {
            lower: 1,
            upper: 9,
            log: false
        }
    ));
    // ConfigSpace 0.7 has the logarithm of the mean.
    let mean = of(3).prior.as_ref().and_then(Value::as_f64).unwrap();
    assert!((mean - (-4.6_f64).exp()).abs() < 1e-12);
    let sharpness = of(3).confidence.unwrap().sharpness();
    assert!((sharpness - 1e4_f64.ln()).abs() < 1e-9);
}

#[test]
fn what_was_read_survives_being_written() {
    let space = of_configspace();
    let json = to_json(&space, "test", Generation::One).unwrap();
    let back = SearchSpace::new(&read(&json.to_string()).unwrap().space).unwrap();
    for (h, again) in space.hyperparameters().iter().zip(back.hyperparameters()) {
        assert_eq!(
            (&h.name, &h.kind, &h.condition),
            (&again.name, &again.kind, &again.condition)
        );
        let sharpness =
            |h: &shared::Hyperparameter| h.user_prior.as_ref().map(|b| b.confidence.sharpness());
        let (a, b) = (sharpness(h), sharpness(again));
        assert!(
            a.zip(b).is_none_or(|(a, b)| (a - b).abs() < 1e-6) && a.is_some() == b.is_some(),
            "{}",
            h.name
        );
    }
    let table = include_str!("../../tests/files/configspace-1.2-allowed.jsonl");
    for line in table.lines() {
        let (configuration, is_allowed): (Configuration, bool) =
            serde_json::from_str(line).unwrap();
        assert_eq!(back.allows(&configuration), is_allowed, "{line}");
    }
}
