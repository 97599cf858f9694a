//! HpBandSter's logs: `configs.json`, `results.json` and, where there is one, `configspace.json`.

use std::path::Path;

use anyhow::Result;
use shared::exit::{Code, Failure};
use shared::hpbandster::{Log, Logged, Run};
use shared::{BudgetUnit, ConfigurationId, SearchSpace, fs};

use crate::configspace;
use crate::history::{
    Evaluation, History, Names, Problems, Source, State, Tried, distinct_budgets, position_of,
    test_loss,
};
use crate::infer::infer_space;

mod write;

pub use write::{export, import};

pub use shared::hpbandster::{CONFIGS, RESULTS};

/// More budgets than this are no ladder of rungs.
const MOST_BUDGETS: usize = 256;

/// Reads a log. HpBandSter does not say what its budgets are amounts of; `unit` does, where the user knows.
pub fn read(path: &Path, unit: Option<BudgetUnit>) -> Result<History> {
    let mut problems = Problems::default();
    let log = shared::hpbandster::read(path)?;
    log.notes.iter().for_each(|note| problems.add(note));
    let configurations = tried(path, &log)?;
    let budgets = distinct_budgets(log.runs.iter().map(|run| run.budget).collect());
    if budgets.len() > MOST_BUDGETS {
        let message = format!(
            "`{}` has {} different budgets, at most {MOST_BUDGETS} expected",
            path.join(RESULTS).display(),
            budgets.len()
        );
        return Err(Failure::new(Code::BadInput, message).into());
    }
    let (space, space_is_inferred) = space(path, &configurations, &mut problems)?;
    let mut measures = Names::default();
    let results = evaluations(log.runs, &configurations, &budgets, &mut measures);
    let name = path.file_name().unwrap_or(path.as_os_str());
    let mut history = History {
        name: name.to_string_lossy().into_owned(),
        path: path.to_path_buf(),
        unit,
        budgets,
        space,
        space_is_inferred,
        search: None,
        configurations,
        results,
        owners: vec!["hpbandster".into()],
        measures: measures.into_names(),
        problems,
        state: State {
            is_finished: true,
            ..State::default()
        },
    };
    history.count_spent(false);
    Ok(history)
}

/// The configurations of a log, in the order of the file.
fn tried(path: &Path, log: &Log) -> Result<Vec<Tried>> {
    let too_many = || {
        let message = format!("`{}` has too many lines", path.join(CONFIGS).display());
        Failure::new(Code::BadInput, message)
    };
    let tried = |(number, logged): (usize, &Logged)| {
        let origin = logged.is_model_based;
        Ok(Tried {
            id: ConfigurationId(u32::try_from(number).map_err(|_large| too_many())?),
            foreign_id: Some(logged.id_text()),
            bracket: u32::try_from(logged.id[0]).unwrap_or(0), // none there has a negative number
            values: logged.values.clone(),
            origin: origin.map(|is| if is { Source::Model } else { Source::Prior }),
        })
    };
    log.configurations.iter().enumerate().map(tried).collect()
}

fn space(
    path: &Path,
    configurations: &[Tried],
    problems: &mut Problems,
) -> Result<(Option<SearchSpace>, bool)> {
    let path = path.join(configspace::CONFIGSPACE);
    if path.exists() {
        let bytes = fs::read_named(&path)?;
        match configspace::from_json(&path, &bytes) {
            Ok(read) => {
                for note in read.notes {
                    problems.add(format!("`{}`: {note}", path.display()));
                }
                return Ok((SearchSpace::new(&read.space).ok(), false)); // checked by its reader
            }
            Err(error) => problems.add(format!("{error:#}; the space is inferred from the values")),
        }
    }
    let inferred = infer_space(configurations.iter().map(|tried| &tried.values));
    let space = inferred.and_then(|file| SearchSpace::new(&file).ok()); // cannot be described: no space
    if space.is_none() && !configurations.is_empty() {
        problems
            .add("no search space can be inferred from the values: no importance, no marginals");
    }
    Ok((space, true))
}

fn evaluations(
    runs: Vec<Run>,
    configurations: &[Tried],
    budgets: &[f64],
    measures: &mut Names,
) -> Vec<Evaluation> {
    let evaluation = |run: Run| {
        let bracket = configurations[run.configuration].bracket;
        let budget = position_of(budgets, run.budget).expect("every budget was collected");
        let rung = u8::try_from(budget).expect("there are at most 256");
        let elapsed_s = match (run.started_s, run.finished_s) {
            (Some(started), Some(finished)) => finished - started,
            _ => 0.0,
        };
        Evaluation {
            repetition: 0,
            mean: None,
            job: ConfigurationId(u32::try_from(run.configuration).expect("checked with the ids"))
                .job(rung),
            configuration: run.configuration,
            budget,
            bracket,
            outcome: run.outcome,
            test_loss: test_loss(&run.measures),
            started_s: run.started_s,
            finished_s: run.finished_s,
            elapsed_s,
            spent: 0.0, // set when all results are there
            owner: 0,
            measures: run
                .measures
                .iter()
                .map(|(name, x)| (measures.index_of(name), *x))
                .collect(),
            curve: Vec::new(),
            checks: Vec::new(),
        }
    };
    runs.into_iter().map(evaluation).collect()
}
