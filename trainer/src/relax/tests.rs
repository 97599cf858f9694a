use data::ImageShape;
use proptest::prelude::*;
use shared::SearchSpace;

use super::*;

const SHAPE: ImageShape = ImageShape {
    channels: 3,
    height: 16,
    width: 16,
};

fn space(hyperparameters: &str, forbidden: &str) -> SearchSpace {
    let json = format!(r#"{{"hyperparameters": [{hyperparameters}], "forbidden": [{forbidden}]}}"#);
    SearchSpace::new(&serde_json::from_str(&json).unwrap()).unwrap()
}

/// Conditions, combinations that are forbidden, and the middle of the space among them.
fn tangled() -> SearchSpace {
    space(
        r#"{"name": "initial_filters", "type": "integer", "lower": 1, "upper": 16, "log": true},
        {"name": "kernel_size", "type": "ordinal", "sequence": [3, 5]},
        {"name": "groups", "type": "ordinal", "sequence": [2, 3]},
        {"name": "res_branches_1", "type": "integer", "lower": 1, "upper": 3},
        {"name": "res_branches_2", "type": "integer", "lower": 1, "upper": 3,
         "active_when": {"hyperparameter": "res_branches_1", "min": 2}},
        {"name": "nr_residual_blocks_3", "type": "integer", "lower": 1, "upper": 2,
         "active_when": {"hyperparameter": "groups", "in": [3]}},
        {"name": "widen_factor_1", "type": "float", "lower": 0.25, "upper": 2, "log": true},
        {"name": "learning_rate", "type": "float", "lower": 0.01, "upper": 1, "log": true},
        {"name": "momentum", "type": "float", "lower": 0, "upper": 0.9,
         "active_when": {"hyperparameter": "kernel_size", "in": [5]}}"#,
        r#"{"initial_filters": {"min": 8}, "widen_factor_1": {"min": 1}},
        {"res_branches_1": 2, "res_branches_2": [2, 3]},
        {"learning_rate": {"min": 0.05, "max": 0.2}, "kernel_size": 3},
        {"res_branches_1": 1, "kernel_size": 5}"#,
    )
}

fn choices(space: &SearchSpace) -> Choices {
    Choices::new(space, SHAPE, 10).unwrap()
}

proptest! {
    #[test]
    fn what_is_found_is_always_allowed(weights in prop::collection::vec(0.0_f64..1.0, 80), power in 1_i32..40) {
        let space = tangled();
        let choices = choices(&space);
        let mut weights = weights.into_iter().map(|weight| weight.powi(power) + 1e-300);
        let probabilities: Probabilities = choices.all.iter().map(|choice| {
            let weights: Vec<f64> = weights.by_ref().take(choice.levels.len()).collect();
            let sum: f64 = weights.iter().sum();
            weights.iter().map(|weight| weight / sum).collect()
        }).collect();
        let found = discretise::discretise(&choices, &probabilities).unwrap();
        prop_assert_eq!(space.check_configuration(&found), Ok(found.clone()));
        prop_assert!(choices.is_network(&found));
        // And the second step can begin.
        let result = choices.result_of(&found);
        let rest = space.fix(&result).unwrap();
        let is_left = rest.dimensions().any(|h| h.name == "learning_rate");
        prop_assert!(is_left);
    }
}

#[test]
fn the_most_probable_level_of_each_choice_is_taken_where_all_is_allowed() {
    let space = space(
        r#"{"name": "initial_filters", "type": "integer", "lower": 4, "upper": 12, "log": true},
        {"name": "widen_factor_2", "type": "float", "lower": 0.5, "upper": 2, "log": true},
        {"name": "res_branches_1", "type": "integer", "lower": 1, "upper": 3},
        {"name": "batch_size", "type": "integer", "lower": 32, "upper": 128, "log": true}"#,
        "",
    );
    let choices = choices(&space);
    assert_eq!(
        choices.names,
        ["initial_filters", "res_branches_1", "widen_factor_2"]
    );
    assert_eq!(choices.training.batch_size, 64);
    let probabilities: Probabilities = choices
        .all
        .iter()
        .map(|choice| gates::one_hot(choice.levels.len() / 2, choice.levels.len()))
        .collect();
    let found = choices.result_of(&discretise::discretise(&choices, &probabilities).unwrap());
    let json = serde_json::to_string(&found).unwrap();
    insta::assert_snapshot!(json);
    // Twelve filters, twice as many, and the default 2 behind that.
    let channels: Vec<usize> = choices
        .largest
        .groups
        .iter()
        .map(|group| group.channels)
        .collect();
    assert_eq!(channels, [12, 24, 48]);
}

#[test]
fn a_space_without_sizes_is_refused_with_their_names() {
    let space = space(
        r#"{"name": "learning_rate", "type": "float", "lower": 0.01, "upper": 1, "log": true},
        {"name": "initial_filters", "type": "constant", "value": 8}"#,
        "",
    );
    let refused = Choices::new(&space, SHAPE, 10).unwrap_err();
    insta::assert_snapshot!(refused.to_string());
}

#[test]
fn gates_worked_by_hand() {
    let space = space(
        r#"{"name": "groups", "type": "constant", "value": 1},
        {"name": "initial_filters", "type": "integer", "lower": 1, "upper": 2},
        {"name": "widen_factor_1", "type": "ordinal", "sequence": [1, 2]},
        {"name": "nr_residual_blocks_1", "type": "integer", "lower": 1, "upper": 2},
        {"name": "res_branches_1", "type": "integer", "lower": 1, "upper": 2},
        {"name": "kernel_size", "type": "ordinal", "sequence": [1, 3]}"#,
        "",
    );
    let choices = choices(&space);
    // Filters, kernel, blocks, branches, widening.
    let probabilities = [
        [0.25, 0.75],
        [0.5, 0.5],
        [0.75, 0.25],
        [0.5, 0.5],
        [0.5, 0.5],
    ];
    let probabilities: Probabilities = probabilities.map(|p| p.to_vec()).to_vec();
    let found = gates::gates(&choices, &probabilities);
    let (ring, centre) = (0.5, 1.0);
    assert_eq!(
        found.kernel,
        [ring, ring, ring, ring, centre, ring, ring, ring, ring]
    );
    assert_eq!(found.stem, [1.0, 0.75]);
    // 1 channel with 1/8, 2 with 1/8 + 3/8, 4 with 3/8.
    assert_eq!(found.groups[0].channels, [1.0, 0.875, 0.375, 0.375]);
    // The first branch: 1/2 · 1 + 1/2 · 1/2; the second 1/2 · 1/2; the second block a quarter of both.
    assert_eq!(found.groups[0].branches, [0.75, 0.25, 0.1875, 0.0625]);
}
