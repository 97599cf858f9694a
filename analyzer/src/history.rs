//! What a search has found so far, as tables in memory, wherever it was read from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use shared::budget::is_same_budget;
use shared::{
    BudgetUnit, Configuration, ConfigurationId, CurvePoint, JobId, Ladder, Outcome, Search,
    SearchSpace,
};

use shared::score::Mean;

use crate::wording::{one_line, thousands};

/// At most this many problems are told one by one.
const MOST_PROBLEMS: usize = 10;

/// Everything that a search has found so far.
#[derive(Debug, Clone)]
pub struct History {
    /// A name for people.
    pub name: String,
    /// Where it was read from.
    pub path: PathBuf,
    /// What budgets are amounts of, if known.
    pub unit: Option<BudgetUnit>,
    /// Every budget of the search, and any other that occurs; ascending.
    pub budgets: Vec<f64>,
    /// What varies; `None` where a log had too much of it to tell.
    pub space: Option<SearchSpace>,
    /// Whether the space was guessed from the values.
    pub space_is_inferred: bool,
    /// The search, unless this is another program's log.
    pub search: Option<Search>,
    /// Every configuration that has a result, in the order of ids.
    pub configurations: Vec<Tried>,
    /// Every result, in the order of ids.
    pub results: Vec<Evaluation>,
    /// Names of the processes that evaluated.
    pub owners: Vec<String>,
    /// Names of the measures.
    pub measures: Vec<String>,
    /// What was left out, and why.
    pub problems: Problems,
    /// Where the search stands.
    pub state: State,
}

/// A configuration that was tried.
#[derive(Debug, Clone)]
pub struct Tried {
    /// Its id.
    pub id: ConfigurationId,
    /// Its id in another program's log.
    pub foreign_id: Option<String>,
    /// The bracket it came in.
    pub bracket: u32,
    /// The value of every active hyperparameter.
    pub values: Configuration,
    /// How it was found, if that was read and is known.
    pub origin: Option<Source>,
}

/// How a configuration was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Proposed by a model.
    Model,
    /// Drawn from the prior.
    Prior,
    /// Given by the user, or another way.
    Other,
}

impl Source {
    /// The word in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Prior => "prior",
            Self::Other => "other",
        }
    }
}

/// One result.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The job.
    pub job: JobId,
    /// Index of its configuration.
    pub configuration: usize,
    /// Index of its budget.
    pub budget: usize,
    /// The bracket of the job.
    pub bracket: u32,
    /// Which training with the largest budget it is, counted from 0; of others 0.
    pub repetition: u8,
    /// Of a repetition, the mean loss of all up to it, where each of them has a loss.
    pub mean: Option<Mean>,
    /// What came out.
    pub outcome: Outcome,
    /// Loss on the test set, if it was measured.
    pub test_loss: Option<f64>,
    /// Seconds since 1970 when the attempt started, by the trainer's clock.
    pub started_s: Option<f64>,
    /// Seconds since 1970 when the result was published, by the trainer's clock.
    pub finished_s: Option<f64>,
    /// Wall seconds of the attempt.
    pub elapsed_s: f64,
    /// Budget this job spent, without what a lower rung's checkpoint had spent before; in the budgets' unit. One that
    /// diverged or was stopped spent what it says, one that did not fit, crashed or was not trained nothing that is known: 0.
    pub spent: f64,
    /// Index of the process that evaluated it.
    pub owner: usize,
    /// Measures by their index.
    pub measures: Vec<(usize, f64)>,
    /// The learning curve.
    pub curve: Vec<CurvePoint>,
    /// Where trainings are stopped: the losses seen at lower budgets, by their index.
    pub checks: Vec<(usize, f64)>,
}

impl Evaluation {
    /// The loss, if it was evaluated.
    pub fn loss(&self) -> Option<f64> {
        self.outcome.loss()
    }

    /// Whether it was ended on its way, because its loss at a lower budget was too large.
    pub(crate) fn was_stopped(&self) -> bool {
        matches!(self.outcome, Outcome::Stopped { .. })
    }

    /// Whether it has no loss, and for another reason than that it was stopped.
    pub(crate) fn has_failed(&self) -> bool {
        self.loss().is_none() && !self.was_stopped()
    }

    /// Its losses by budget: what was seen on its way, then its own.
    pub(crate) fn all_losses(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        let own = self.loss().map(|loss| (self.budget, loss));
        self.checks.iter().copied().chain(own)
    }

    /// What it is compared by: its loss or, of a repetition, the mean of all up to it.
    pub(crate) fn standing(&self) -> Option<f64> {
        if self.repetition > 0 {
            self.mean.map(|mean| mean.loss)
        } else {
            self.loss()
        }
    }

    /// How far it has come: larger budgets, and then more repetitions, replace others as the incumbent.
    pub fn level(&self) -> (usize, u8) {
        (self.budget, self.repetition)
    }
}

/// Where a search stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// Whether the scheduler has said that nothing is left to do.
    pub is_finished: bool,
    /// Whether somebody has asked it to stop.
    pub is_stopped: bool,
    /// Jobs free to claim.
    pub num_open: usize,
    /// Jobs in trainers' hands.
    pub num_claimed: usize,
}

/// What was left out of a history, and why.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    told: Vec<String>,
    num: usize,
}

impl Problems {
    /// Notes that something was left out, and why.
    pub fn left_out(&mut self, why: impl std::fmt::Display) {
        self.add(format!("left out {why}"));
    }

    /// Notes a problem; of very many only the number is kept.
    pub fn add(&mut self, problem: impl std::fmt::Display) {
        self.num += 1;
        if self.told.len() < MOST_PROBLEMS {
            self.told.push(problem.to_string());
        }
    }

    /// How many there were.
    pub fn num(&self) -> usize {
        self.num
    }

    /// The first of them, and how many more there were.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.told.clone();
        if self.num > lines.len() {
            lines.push(format!(
                "and {} more problems",
                thousands(self.num - lines.len())
            ));
        }
        lines
    }
}

impl History {
    /// Loss by configuration and budget.
    ///
    /// # Shapes
    /// `[configurations][budgets]`
    pub fn losses(&self) -> Vec<Vec<Option<f64>>> {
        let mut losses = vec![vec![None; self.budgets.len()]; self.configurations.len()];
        for result in &self.results {
            for (budget, loss) in &result.checks {
                losses[result.configuration][*budget].get_or_insert(*loss);
            }
            // Of several seeds, the mean of as many as have a loss.
            let loss = &mut losses[result.configuration][result.budget];
            *loss = result.standing().or(*loss);
        }
        losses
    }

    /// Indices of the results in the order in which they were published: by the trainers' clocks, equal times by id;
    /// those without a time last.
    pub(crate) fn by_time(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.results.len()).collect();
        let time = |index: usize| self.results[index].finished_s.unwrap_or(f64::INFINITY);
        order.sort_by(|&a, &b| time(a).total_cmp(&time(b)).then(a.cmp(&b)));
        order
    }

    /// Seconds since 1970 when the first attempt started (or, where no start is known, the first result came).
    pub fn start_s(&self) -> Option<f64> {
        let times = |result: &Evaluation| result.started_s.or(result.finished_s);
        self.results.iter().filter_map(times).min_by(f64::total_cmp)
    }

    /// How many results had each outcome, by its word.
    pub fn outcomes(&self) -> BTreeMap<&'static str, usize> {
        let mut outcomes = BTreeMap::new();
        for result in &self.results {
            *outcomes.entry(result.outcome.as_str()).or_insert(0) += 1;
        }
        outcomes
    }

    /// The largest budget that has a loss.
    pub fn reached(&self) -> Option<usize> {
        let evaluated = self.results.iter().filter(|result| result.loss().is_some());
        evaluated.map(|result| result.budget).max()
    }

    /// The best result at the largest budget that has any: lowest loss, equal losses by id.
    pub fn incumbent(&self) -> Option<&Evaluation> {
        self.best_at(self.reached()?)
    }

    /// The best result at any budget: lowest loss, equal losses by id.
    pub(crate) fn best_at_any(&self) -> Option<&Evaluation> {
        best(self.results.iter())
    }

    /// The best result at one budget: lowest loss, equal losses by id.
    pub(crate) fn best_at(&self, budget: usize) -> Option<&Evaluation> {
        let of_budget = || self.results.iter().filter(|result| result.budget == budget);
        let compared = of_budget().filter(|result| result.standing().is_some());
        let furthest = compared.map(|result| result.repetition).max()?;
        best(of_budget().filter(|result| result.repetition == furthest))
    }

    /// A budget's name with its unit.
    pub(crate) fn budget_name(&self, budget: usize) -> String {
        crate::wording::budget(self.budgets[budget], self.unit)
    }

    /// A budget's name in a sentence: where the unit is not known, a bare number would not be taken for a budget.
    pub(crate) fn budget_phrase(&self, budget: usize) -> String {
        match self.unit {
            Some(_) => self.budget_name(budget),
            None => format!("budget {}", self.budget_name(budget)),
        }
    }

    /// An amount of budget with its unit, in a sentence.
    pub(crate) fn amount_phrase(&self, amount: f64) -> String {
        match self.unit {
            Some(unit) => crate::wording::budget(amount, Some(unit)),
            None => format!("a budget of {}", crate::wording::significant(amount, 5)),
        }
    }

    /// The unit as it stands behind numbers; `budget` where it is not known.
    pub(crate) fn unit_name(&self) -> &'static str {
        self.unit.map_or("budget", BudgetUnit::symbol)
    }

    /// The name of a configuration: another program's where it has one.
    pub(crate) fn configuration_name(&self, configuration: usize) -> String {
        let tried = &self.configurations[configuration];
        match &tried.foreign_id {
            Some(foreign) => format!("{} ({})", tried.id, one_line(foreign)),
            None => tried.id.to_string(),
        }
    }
}

fn best<'a>(results: impl Iterator<Item = &'a Evaluation>) -> Option<&'a Evaluation> {
    results
        .filter_map(|result| Some((result.standing()?, result)))
        .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.job.cmp(&b.1.job)))
        .map(|(_, result)| result)
}

/// The note in which an imported result keeps its configuration's own name.
pub(crate) const FOREIGN_ID: &str = "foreign_id";

/// The position of a budget among ascending ones, up to rounding.
pub(crate) fn position_of(budgets: &[f64], amount: f64) -> Option<usize> {
    budgets
        .iter()
        .position(|budget| is_same_budget(*budget, amount))
}

/// Ascending budgets, each once, up to rounding.
pub(crate) fn distinct_budgets(mut amounts: Vec<f64>) -> Vec<f64> {
    amounts.sort_by(f64::total_cmp);
    amounts.dedup_by(|next, kept| is_same_budget(*next, *kept));
    amounts
}

/// Names that get numbers in the order in which they are first seen.
#[derive(Debug, Default)]
pub(crate) struct Names {
    index: BTreeMap<String, usize>,
    names: Vec<String>,
}

impl Names {
    pub(crate) fn index_of(&mut self, name: &str) -> usize {
        if let Some(&index) = self.index.get(name) {
            return index;
        }
        let index = self.names.len();
        self.index.insert(name.to_owned(), index);
        self.names.push(name.to_owned());
        index
    }

    pub(crate) fn into_names(self) -> Vec<String> {
        self.names
    }
}

/// The test loss among measures: `test_loss`, else `test_error`.
pub(crate) fn test_loss(measures: &BTreeMap<String, f64>) -> Option<f64> {
    let named = |name: &str| measures.get(name).copied();
    named("test_loss").or_else(|| named("test_error"))
}

impl History {
    /// Sets which results are repetitions, and their means. Results of one configuration stand together, lower rungs first.
    pub(crate) fn count_repetitions(&mut self, ladder: &Ladder) {
        let mut losses: Vec<Option<f64>> = Vec::new();
        for result in &mut self.results {
            if result.job.rung <= ladder.top() {
                losses.clear();
            }
            if result.job.rung >= ladder.top() {
                result.repetition = ladder.repetition(result.job.rung);
                losses.push(result.loss());
                let all: Option<Vec<f64>> = losses.iter().copied().collect();
                let is_whole = losses.len() == usize::from(result.repetition) + 1;
                result.mean = all.filter(|_| is_whole).and_then(|all| Mean::of(&all));
            }
        }
    }

    /// Sets what every result spent; where promotions continue, a lower rung's result has paid for its part.
    pub(crate) fn count_spent(&mut self, continues: bool) {
        let mut paid: (Option<usize>, f64) = (None, 0.0);
        for result in &mut self.results {
            // Results of one configuration stand together, lower rungs first.
            let before = match paid {
                (Some(configuration), amount)
                    if continues
                        && configuration == result.configuration
                        && result.repetition == 0 =>
                {
                    amount
                }
                _ => 0.0,
            };
            let budget = self.budgets[result.budget];
            result.spent = match &result.outcome {
                Outcome::Evaluated { .. } => {
                    paid = (Some(result.configuration), budget);
                    (budget - before).max(0.0)
                }
                // It was trained all the same, and may be gone on from by nobody.
                Outcome::Infeasible {
                    trained_loss: Some(_),
                    ..
                } => (budget - before).max(0.0),
                Outcome::Diverged { spent, .. } | Outcome::Stopped { spent, .. } => {
                    (spent - before).max(0.0)
                }
                Outcome::OutOfMemory { .. }
                | Outcome::Infeasible {
                    trained_loss: None, ..
                }
                | Outcome::Crashed { .. }
                | Outcome::Lost { .. } => 0.0,
            };
        }
    }
}
