//! A search without files: Hyperband's brackets over a problem, with any number of simulated workers.

use anyhow::Result;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use shared::search::{Limit, MethodName};
use shared::{BudgetUnit, Configuration, ConfigurationId, JobId, Search, SearchFile, Seed};

use crate::bench::problem::Problem;
use crate::history::{History, Ranked, Standing};
use crate::method::{self, Ask};
use crate::normal;

/// One evaluation, in the order of their ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its number.
    pub eval: u64,
    /// What was spent on it.
    pub budget: f64,
    /// What it saw.
    pub loss: f64,
    /// The noiseless regret of its configuration.
    pub true_regret: f64,
    /// Spent so far, in largest budgets; each rung starts from scratch.
    pub cum_restart: f64,
    /// Spent so far, in largest budgets; each rung continues the one below.
    pub cum_cont: f64,
}

/// The search that a run makes.
pub fn search(problem: &Problem, method: MethodName, faithful: bool, seed: u64) -> Result<Search> {
    let budget = shared::budget::BudgetSettings {
        unit: BudgetUnit::Steps,
        min: problem.min_budget,
        max: problem.max_budget,
        eta: 3,
    };
    let file = SearchFile {
        name: problem.name.clone(),
        space: Some(problem.space.clone()),
        space_file: None,
        objective: shared::objective::ObjectiveFile {
            command: Some(vec!["none".into()]),
            ..Default::default()
        },
        budget,
        limit: Limit::Brackets(u32::MAX),
        method,
        bohb: shared::search::BohbSettings {
            faithful,
            ..Default::default()
        },
        scheduling: Default::default(),
        bracket_sizes: Default::default(),
        promotion: Default::default(),
        seed,
        start_with: Vec::new(),
        trainers: Default::default(),
    };
    Ok(Search::new(&file)?)
}

/// A job that is evaluated somewhere.
struct Running {
    ends_at: f64,
    bracket: usize,
    job: JobId,
    loss: f64,
}

/// A bracket under way.
struct Bracket {
    sizes: Vec<u32>,
    first_rung: u8,
    /// Which of its rungs is being filled.
    stage: usize,
    /// Configurations still to be evaluated on that rung, last first; on the first rung they are not yet asked for.
    queue: Vec<ConfigurationId>,
    num_started: u32,
    results: Vec<Ranked>,
}

impl Bracket {
    fn size(&self) -> usize {
        usize::try_from(self.sizes[self.stage]).unwrap_or(usize::MAX) // a usize holds a u32
    }

    fn rung(&self) -> u8 {
        self.first_rung + u8::try_from(self.stage).unwrap_or(u8::MAX) // a ladder has at most 54 rungs
    }

    /// When the rung is complete, the best go on: in the order of their ids, as HpBandSter does.
    fn promote(&mut self) {
        if self.results.len() < self.size() || self.stage + 1 >= self.sizes.len() {
            return;
        }
        self.results.sort_unstable();
        self.stage += 1;
        let mut best: Vec<ConfigurationId> = self.results[..self.size()]
            .iter()
            .map(|r| r.job.configuration)
            .collect();
        best.sort_unstable();
        best.reverse();
        self.queue = best;
        self.num_started = 0;
        self.results.clear();
    }
}

/// Runs a search until `total` largest budgets are spent; one simulated worker for `num_workers` of 1, else that many,
/// whose durations are the budget with log-normal spread.
pub fn run(problem: &Problem, search: &Search, total: f64, num_workers: usize) -> Result<Vec<Row>> {
    let mut history = History::new(&search.space);
    let mut method = method::of_search(search);
    let mut brackets: Vec<Bracket> = Vec::new();
    let mut running: Vec<Running> = Vec::new();
    let mut configurations: Vec<Configuration> = Vec::new();
    let mut rows: Vec<Row> = Vec::new();
    let mut spent_on: Vec<f64> = Vec::new();
    let (mut restart, mut continued, mut now) = (0.0, 0.0, 0.0);
    let max_budget = search.ladder.budget(search.ladder.top()).amount;
    let noise = Seed::new(search.seed.number()).child("noise", &problem.name);
    loop {
        while running.len() < num_workers && restart < total {
            let (bracket, job) =
                next_job(search, &mut brackets, &mut configurations, |id, rung| {
                    let pending: Vec<JobId> = running.iter().map(|r| r.job).collect();
                    let ask = Ask {
                        configuration: id,
                        rung,
                        pending: &pending,
                        seed: search.seed.child("proposal", id),
                    };
                    let vector = method.propose(&history, &ask).vector;
                    let values = search.space.decode(&vector);
                    history.ask(id);
                    history.know(id, search.space.encode(&values));
                    values
                });
            let index = usize::try_from(job.configuration.0)?;
            let budget = search.ladder.budget(job.rung).amount;
            spent_on.resize(configurations.len(), 0.0);
            restart += budget / max_budget;
            continued += (budget - spent_on[index]).max(0.0) / max_budget;
            spent_on[index] = spent_on[index].max(budget);
            let loss = problem.evaluate(&configurations[index], budget, noise)?;
            rows.push(Row {
                eval: rows.len() as u64,
                budget,
                loss,
                true_regret: problem.regret(&configurations[index])?,
                cum_restart: restart,
                cum_cont: continued,
            });
            let mut spread = noise.child("duration", job).rng();
            let factor = if num_workers > 1 {
                libm::exp(0.3 * normal::quantile(spread.random_range(1e-12..1.0)))
            } else {
                1.0
            };
            running.push(Running {
                ends_at: now + budget * factor,
                bracket,
                job,
                loss,
            });
        }
        let Some(first) =
            (0..running.len()).min_by(|a, b| running[*a].ends_at.total_cmp(&running[*b].ends_at))
        else {
            return Ok(rows);
        };
        let done = running.swap_remove(first);
        now = done.ends_at;
        let standing = Standing::Loss(done.loss);
        let vector = history.vector(done.job.configuration).to_vec();
        history.learn(done.job, Some(standing), vector);
        let bracket = &mut brackets[done.bracket];
        bracket.results.push(Ranked {
            standing,
            job: done.job,
        });
        bracket.promote();
    }
}

/// The next job: of the oldest bracket that has one, else of a new bracket.
fn next_job(
    search: &Search,
    brackets: &mut Vec<Bracket>,
    configurations: &mut Vec<Configuration>,
    mut propose: impl FnMut(ConfigurationId, u8) -> Configuration,
) -> (usize, JobId) {
    let mut index = 0;
    loop {
        if index == brackets.len() {
            let sizes = search.bracket_sizes(u32::try_from(index).unwrap_or(u32::MAX)); // capped: no run gets there
            let top = search.ladder.num_rungs();
            let first_rung = match search.method {
                MethodName::Random => search.ladder.top(),
                _ => top - u8::try_from(sizes.len()).unwrap_or(top),
            };
            brackets.push(Bracket {
                sizes,
                first_rung,
                stage: 0,
                queue: Vec::new(),
                num_started: 0,
                results: Vec::new(),
            });
        }
        let bracket = &mut brackets[index];
        let rung = bracket.rung();
        if bracket.stage == 0 && bracket.num_started < bracket.sizes[0] {
            bracket.num_started += 1;
            let id = ConfigurationId(u32::try_from(configurations.len()).unwrap_or(u32::MAX)); // see above
            let values = propose(id, rung);
            configurations.push(values);
            return (index, id.job(rung));
        }
        if let Some(id) = bracket.queue.pop() {
            return (index, id.job(rung));
        }
        index += 1;
    }
}
