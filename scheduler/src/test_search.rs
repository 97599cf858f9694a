//! Searches for the tests of this crate.

use shared::budget::{BudgetSettings, BudgetUnit};
use shared::objective::ObjectiveFile;
use shared::search::{BohbSettings, Limit, MethodName, Promotion, Scheduling, TrainerSettings};
use shared::space::{HyperparameterFile, KindName, SpaceFile};
use shared::value::Value;
use shared::{Search, SearchFile};

/// One hyperparameter, budgets from `min` to `max`, one cycle of brackets.
pub(crate) fn search_file(min: u64, max: u64, eta: u64) -> SearchFile {
    let x = HyperparameterFile {
        lower: Some(Value::Float(0.0)),
        upper: Some(Value::Float(1.0)),
        ..HyperparameterFile::new("x", KindName::Float)
    };
    let mut file = SearchFile {
        name: "test".into(),
        revision: None,
        space: Some(SpaceFile {
            hyperparameters: vec![x],
            ..SpaceFile::default()
        }),
        space_file: None,
        objective: ObjectiveFile {
            benchmark: Some("branin".into()),
            ..ObjectiveFile::default()
        },
        budget: BudgetSettings {
            unit: BudgetUnit::Steps,
            min: min as f64,
            max: max as f64,
            eta: eta as f64,
        },
        objectives: Vec::new(),
        constraints: Vec::new(),
        repetitions: 1,
        limit: Limit::Brackets(1),
        method: MethodName::Hyperband,
        bohb: BohbSettings::default(),
        cost_aware: false,
        scheduling: Scheduling::Synchronous,
        bracket_sizes: shared::budget::BracketSizes::Floor,
        first_rungs: None,
        promotion: Promotion::Scratch,
        fix: shared::Configuration::default(),
        fixed_from: None,
        working_directory: None,
        seed: 1,
        start_with: Vec::new(),
        learn_from: Vec::new(),
        trainers: TrainerSettings::default(),
    };
    let num_rungs = Search::new(&file).unwrap().ladder.num_rungs();
    file.limit = Limit::Brackets(u32::from(num_rungs));
    file
}

/// A space of so many configurations, of which none is tried twice.
pub(crate) fn of_whole_numbers(file: &mut SearchFile, number: i64) {
    let n = HyperparameterFile {
        lower: Some(Value::Integer(1)),
        upper: Some(Value::Integer(number)),
        ..HyperparameterFile::new("n", KindName::Integer)
    };
    file.revision = Some(2);
    file.space = Some(SpaceFile {
        hyperparameters: vec![n],
        ..SpaceFile::default()
    });
}

/// [`search_file`] with changes, checked.
pub(crate) fn search_with(
    min: u64,
    max: u64,
    eta: u64,
    change: impl FnOnce(&mut SearchFile),
) -> Search {
    let mut file = search_file(min, max, eta);
    change(&mut file);
    Search::new(&file).unwrap()
}

/// [`search_file`], checked.
pub(crate) fn search(min: u64, max: u64, eta: u64) -> Search {
    search_with(min, max, eta, |_| {})
}
