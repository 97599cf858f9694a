use std::path::Path;

use super::*;
use crate::testing::search_file;

fn read(text: &str) -> Result<Read, String> {
    from_json(Path::new("configspace.json"), text.as_bytes()).map_err(|error| format!("{error:#}"))
}

#[test]
fn a_space_survives_the_way_there_and_back() {
    let space = SearchSpace::new(&search_file().space.unwrap()).unwrap();
    let text = to_json(&space, "test").unwrap().to_string();
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
    insta::assert_snapshot!(
        [
            one(
                r#"{"name": "x", "type": "normal_float", "mu": 0, "sigma": 1}"#,
                ""
            ),
            one(
                r#"{"name": "x", "type": "uniform_float", "lower": 0, "upper": 1, "q": 0.1}"#,
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
                r#"{"child": "x", "parent": "x", "type": "GT", "value": 1}"#
            ),
            one(
                x,
                r#"{"child": "y", "parent": "x", "type": "EQ", "value": 1}"#
            ),
            one(
                x,
                r#"{"child": "x", "parent": "x", "type": "EQ", "value": 1}"#
            ),
            read("[").unwrap_err(),
        ]
        .join("\n")
    );
}

#[test]
fn what_is_dropped_is_said() {
    let text = r#"{"hyperparameters": [
        {"name": "a", "type": "categorical", "choices": ["x", "y"], "probabilities": [0.9, 0.1]}],
        "conditions": [], "forbiddens": []}"#;
    let notes = read(text).unwrap().notes;
    assert_eq!(notes, ["the weights of `a`'s choices are ignored"]);
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
    let json = to_json(&space, "test").unwrap();
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
        .map(|h| (h["name"].as_str().unwrap().to_owned(), h["default"].clone()))
        .collect();
    let default: Configuration = serde_json::from_value(default.into()).unwrap();
    assert!(space.check_configuration(&default).is_ok(), "{default:?}");
}

#[test]
fn what_configspace_cannot_forbid_is_refused_by_name() {
    let refused = |forbidden: &str| {
        let error = to_json(&forbidding(forbidden), "test").unwrap_err();
        format!("{error:#}")
    };
    assert_eq!(
        refused(r#"{"f": {"min": 0.5}}"#),
        "ConfigSpace cannot forbid a range of `f`"
    );
    let with = |forbidden: &str| {
        let three =
            r#"{"hyperparameters": [{"name": "a", "type": "categorical", "choices": [1, 2]}]"#;
        read(&format!(r#"{three}, "forbiddens": [{forbidden}]}}"#)).unwrap_err()
    };
    insta::assert_snapshot!(
        [
            with(r#"{"left": "a", "right": "b", "type": "RELATION", "lambda": "LESS"}"#),
            with(r#"{"name": "b", "type": "EQUALS", "value": 1}"#),
            with(
                r#"{"type": "AND", "clauses": [{"name": "a", "type": "EQUALS", "value": 1},
                    {"name": "a", "type": "IN", "values": [2]}]}"#
            ),
            with(r#"{"name": "a", "type": "IN", "values": [1, 2]}"#),
        ]
        .join("\n")
    );
}

#[test]
fn a_file_from_an_editor_that_marks_the_order_of_bytes_is_read() {
    let space = SearchSpace::new(&search_file().space.unwrap()).unwrap();
    let text = to_json(&space, "test").unwrap().to_string();
    let back = read(&format!("\u{feff}{text}")).unwrap();
    assert_eq!(SearchSpace::new(&back.space).unwrap(), space);
}
