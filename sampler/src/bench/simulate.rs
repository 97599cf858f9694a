//! A search without files: Hyperband's brackets over a problem, with any number of simulated workers.

use std::collections::BTreeSet;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use shared::budget::BracketSizes;
use shared::hyperband::{Schedule, Table, stopping};
use shared::objective::ObjectiveFile;
use shared::score::Ranked;
use shared::search::{BohbSettings, Limit, MethodName, Promotion, REVISION, TrainerSettings};
use shared::{Configuration, ConfigurationId, JobId, Ladder, Score, Search, SearchFile, Seed};

use crate::bench::problem::Problem;
use crate::history::{Earlier, EarlierSearch, History};
use crate::learning_curve::{self, Point, Threshold};
use crate::method::{self, Ask, Method};
use crate::normal;

/// Standard deviation of the logarithm of durations.
const DURATION_SPREAD: f64 = 0.3;

/// One evaluation, in the order of their starts.
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
    /// When it began, of several workers; the unit is the time that the largest budget takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<f64>,
    /// When it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<f64>,
}

/// The share of the workers' time until `until` in which they evaluated something; `None` where a row says no times.
pub fn utilisation(rows: &[Row], num_workers: usize, until: f64) -> Option<f64> {
    let busy = |row: &Row| Some((row.ended_at?.min(until) - row.started_at?).max(0.0));
    let busy: Option<f64> = rows.iter().map(busy).sum();
    Some(busy? / (num_workers as f64 * until))
}

/// The search that a run makes.
pub fn search(problem: &Problem, method: MethodName, faithful: bool, seed: u64) -> Result<Search> {
    let budget = problem.budget();
    // Those that may be stopped are to be trained to the end.
    let first_rungs = if problem.stopping {
        Some(vec![Ladder::new(budget, true)?.top()])
    } else {
        problem.first_rungs.clone()
    };
    let file = SearchFile {
        name: problem.name.clone(),
        revision: Some(REVISION),
        space: Some(problem.space.clone()),
        space_file: None,
        objective: ObjectiveFile {
            command: Some(vec!["none".into()]),
            ..ObjectiveFile::default()
        },
        budget,
        limit: Limit::Brackets(u32::MAX),
        constraints: Vec::new(),
        repetitions: 1,
        objectives: Vec::new(),
        method,
        bohb: BohbSettings {
            faithful,
            ..BohbSettings::default()
        },
        cost_aware: problem.cost_aware && method == MethodName::Tandem,
        scheduling: problem.scheduling,
        bracket_sizes: BracketSizes::default(),
        first_rungs: first_rungs.filter(|_| !method.has_one_budget()),
        promotion: Promotion::default(),
        fix: Configuration::default(),
        fixed_from: None,
        working_directory: None,
        seed,
        start_with: Vec::new(),
        learn_from: Vec::new(),
        trainers: TrainerSettings::default(),
    };
    Ok(Search::new(&file)?)
}

/// A job that is evaluated somewhere.
struct Running {
    ends_at: f64,
    job: JobId,
    /// Where it ends: below the job's own rung if it is stopped.
    rung: u8,
    loss: f64,
    /// Losses at the rungs below, where jobs may be stopped.
    passed: Vec<f64>,
    /// What is learnt in place of the loss of a job that was ended on its way.
    ended: Option<f64>,
    /// What all of its budget costs, in largest budgets.
    whole_cost: f64,
}

/// Where on its way a training may be ended, in shares of its budget.
const CHECKED_AT: [f64; 2] = [1.0 / 3.0, 2.0 / 3.0];

/// Whether a job goes no further than a rung: it diverged there, or is not among the best 1/eta of those that got there.
fn is_stopped(loss: f64, seen: &[Ranked], eta: f64) -> bool {
    !loss.is_finite() || stopping::limit(seen, eta).is_some_and(|limit| loss > limit)
}

/// Runs a search on one simulated worker until `total` largest budgets are spent, or on many until each has had the time
/// of so many. The durations of many are the budget with log-normal spread; a free worker gets a job at once, and what it
/// is given is decided by all that has ended by then.
pub fn run(problem: &Problem, search: &Search, total: f64, num_workers: usize) -> Result<Vec<Row>> {
    let history = History::new(&search.space);
    Ok(played(problem, search, total, num_workers, history)?.rows)
}

/// As [`run`], after an earlier search on one worker whose results it learns from.
pub fn run_after(
    problem: &Problem,
    search: &Search,
    total: f64,
    num_workers: usize,
    earlier: EarlierSearch,
) -> Result<Vec<Row>> {
    let mut history = History::new(&search.space);
    history.learn_from(earlier);
    Ok(played(problem, search, total, num_workers, history)?.rows)
}

/// What another search can learn from one that has spent `total` largest budgets; its losses are multiplied by `factor`.
pub fn earlier(
    problem: &Problem,
    search: &Search,
    total: f64,
    factor: f64,
) -> Result<EarlierSearch> {
    let history = played(problem, search, total, 1, History::new(&search.space))?.history;
    let result = |ranked: &Ranked| Earlier {
        vector: history.vector(ranked.job.configuration).to_vec(),
        rung: ranked.job.rung,
        score: ranked
            .score
            .loss()
            .map_or(Score::Failed, |loss| Score::Loss(factor * loss)),
    };
    Ok(EarlierSearch {
        source: problem.name.clone(),
        results: history.arrivals().iter().map(result).collect(),
    })
}

fn played<'a>(
    problem: &'a Problem,
    search: &'a Search,
    total: f64,
    num_workers: usize,
    history: History,
) -> Result<Simulation<'a>> {
    let table = Table::endless(search);
    let mut simulation = Simulation {
        problem,
        search,
        noise: search.seed.child("noise", &problem.name),
        is_parallel: num_workers > 1,
        history,
        method: method::of_search(search),
        schedule: Schedule::new(&table),
        table,
        running: Vec::new(),
        configurations: Vec::new(),
        pool_rows: Vec::new(),
        taken: BTreeSet::new(),
        spent_on: Vec::new(),
        known_on: Vec::new(),
        rows: Vec::new(),
        now: 0.0,
    };
    loop {
        while simulation.running.len() < num_workers && simulation.used() < total {
            simulation.start()?;
        }
        if !simulation.end() {
            return Ok(simulation);
        }
    }
}

struct Simulation<'a> {
    problem: &'a Problem,
    search: &'a Search,
    noise: Seed,
    is_parallel: bool,
    history: History,
    method: Box<dyn Method>,
    table: Table,
    schedule: Schedule,
    running: Vec<Running>,
    configurations: Vec<Configuration>,
    /// Of a pool, the row that stands for each configuration.
    pool_rows: Vec<usize>,
    taken: BTreeSet<usize>,
    /// The largest budget spent on each configuration.
    spent_on: Vec<f64>,
    /// The largest budget that each configuration has had to its end.
    known_on: Vec<f64>,
    rows: Vec<Row>,
    now: f64,
}

impl Simulation<'_> {
    /// Largest budgets spent so far.
    fn spent(&self) -> f64 {
        self.rows.last().map_or(0.0, |row| row.cum_restart)
    }

    /// What a run's total is compared with.
    fn used(&self) -> f64 {
        if self.is_parallel {
            self.now
        } else {
            self.spent()
        }
    }

    /// Starts the next job.
    fn start(&mut self) -> Result<()> {
        let job = self.next_job();
        let index = usize::try_from(job.configuration.0)?;
        let passed = self.passed(job, index)?;
        let rung = if self.problem.stopping {
            u8::try_from(passed.len())? // one for each rung below
        } else {
            job.rung
        };
        let whole = self.search.ladder.budget(rung).amount;
        let max_budget = self.search.ladder.budget(self.search.ladder.top()).amount;
        let ended = self.ended(job, index)?;
        let budget = ended.map_or(whole, |ended| ended.at);
        let (loss, true_regret) = self.evaluate(index, budget)?;
        let before = self.rows.last().map_or(0.0, |row| row.cum_cont);
        let factor = if self.is_parallel {
            let mut rng = self.noise.child("duration", job).rng();
            libm::exp(DURATION_SPREAD * normal::draw(&mut rng))
        } else {
            1.0
        };
        let price = self.price(index);
        let cost = budget / max_budget * price;
        let ends_at = self.now + cost * factor;
        self.rows.push(Row {
            eval: self.rows.len() as u64,
            budget,
            loss,
            true_regret,
            cum_restart: self.spent() + cost,
            cum_cont: before + (budget - self.spent_on[index]).max(0.0) / max_budget * price,
            started_at: self.is_parallel.then_some(self.now),
            ended_at: self.is_parallel.then_some(ends_at),
        });
        self.spent_on[index] = self.spent_on[index].max(budget);
        self.running.push(Running {
            ends_at,
            job,
            rung,
            loss,
            passed,
            ended: ended.map(|ended| ended.forecast),
            whole_cost: whole / max_budget * price,
        });
        Ok(())
    }

    /// Where a job is ended on its way, if it is, by the curves of all jobs that have had as much as it is to have.
    fn ended(&self, job: JobId, index: usize) -> Result<Option<Threshold>> {
        let Some(least) = self.problem.hopeless else {
            return Ok(None);
        };
        let until = self.search.ladder.budget(job.rung).amount;
        let Some(target) = self.target(job.rung) else {
            return Ok(None);
        };
        let curves: Vec<Vec<Point>> = (0..self.known_on.len())
            .filter(|other| self.known_on[*other] >= until)
            .map(|other| self.curve(other, until))
            .collect::<Result<_>>()?;
        let budgets = CHECKED_AT.map(|share| share * until);
        let curves = curves.iter().map(Vec::as_slice);
        let thresholds = learning_curve::hopeless(curves, &budgets, until, target, least);
        let curve = self.curve(index, until)?;
        Ok(thresholds.into_iter().find(|threshold| {
            let so_far = curve.iter().take_while(|p| p.budget <= threshold.at);
            so_far.last().is_some_and(|p| p.loss >= threshold.loss)
        }))
    }

    /// The loss that a job of a rung must end below: of the top rung the best there, of others what is promoted.
    fn target(&self, rung: u8) -> Option<f64> {
        let seen = self.history.rung(rung);
        let place = if rung == self.search.ladder.top() {
            0
        } else {
            let here = self.search.ladder.budget(rung).amount;
            let above = self.search.ladder.budget(rung + 1).amount;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "fewer than there are results"
            )]
            let place = (seen.len() as f64 * here / above) as usize;
            place
        };
        seen.get(place)?.score.loss()
    }

    /// The curve of a configuration up to a budget.
    fn curve(&self, index: usize, until: f64) -> Result<Vec<Point>> {
        if let Some(pool) = self.problem.as_pool() {
            return Ok(pool.curve_until(self.pool_rows[index], until));
        }
        let shares = CHECKED_AT.iter().copied().chain([1.0]);
        let point = |share: f64| {
            let budget = share * until;
            let loss = self.evaluate(index, budget)?.0;
            Ok(Point { budget, loss })
        };
        shares.map(point).collect()
    }

    /// The losses of a job at the rungs below its own that it passes without being stopped; none where no job is.
    fn passed(&self, job: JobId, index: usize) -> Result<Vec<f64>> {
        let mut passed = Vec::new();
        if self.problem.stopping {
            for rung in 0..job.rung {
                let (loss, _) = self.evaluate(index, self.search.ladder.budget(rung).amount)?;
                if is_stopped(loss, self.history.rung(rung), self.search.ladder.eta()) {
                    break;
                }
                passed.push(loss);
            }
        }
        Ok(passed)
    }

    /// What a configuration's training with the largest budget costs, in means of all.
    fn price(&self, index: usize) -> f64 {
        let pool = self.problem.as_pool();
        pool.map_or(1.0, |pool| pool.price(self.pool_rows[index]))
    }

    /// Loss and true regret of a configuration.
    fn evaluate(&self, index: usize, budget: f64) -> Result<(f64, f64)> {
        if let Some(pool) = self.problem.as_pool() {
            let row = self.pool_rows[index];
            return Ok((pool.loss(row, budget), pool.regret(row)));
        }
        let values = &self.configurations[index];
        let loss = self.problem.evaluate(values, budget, self.noise)?;
        Ok((loss, self.problem.regret(values)?))
    }

    /// Ends the job that is done first; whether there was one.
    fn end(&mut self) -> bool {
        let first = (0..self.running.len()).min_by(|a, b| {
            self.running[*a]
                .ends_at
                .total_cmp(&self.running[*b].ends_at)
        });
        let Some(first) = first else { return false };
        let done = self.running.swap_remove(first);
        self.now = done.ends_at;
        let learnt = done.ended.unwrap_or(done.loss);
        let score = if learnt.is_finite() {
            Score::Loss(learnt)
        } else {
            Score::Failed
        };
        let vector = self.history.vector(done.job.configuration).to_vec();
        let id = done.job.configuration;
        for (rung, loss) in (0..).zip(done.passed) {
            self.history
                .learn(id.job(rung), Some(Score::Loss(loss)), vector.clone());
        }
        self.history.learn(id.job(done.rung), Some(score), vector);
        self.history.took(id.job(done.rung), done.whole_cost);
        // One that was stopped is not promoted.
        let is_whole = done.rung == done.job.rung && done.ended.is_none();
        if done.ended.is_none() {
            let budget = self.search.ladder.budget(done.rung).amount;
            let known = &mut self.known_on[id.0 as usize];
            *known = known.max(budget);
        }
        let score = is_whole.then_some(score);
        self.schedule.record(done.job, score);
        true
    }

    /// The next job: a promoted configuration's, else a new one's.
    fn next_job(&mut self) -> JobId {
        let promoted = self.schedule.promotions().next();
        if let Some(job) = promoted {
            self.schedule.offered(job);
            return job;
        }
        let id = ConfigurationId(u32::try_from(self.configurations.len()).unwrap_or(u32::MAX)); // no run gets there
        let rung = self.table.place(id).rung;
        self.propose(id, rung);
        id.job(rung)
    }

    fn propose(&mut self, id: ConfigurationId, rung: u8) {
        let pending: Vec<JobId> = self.running.iter().map(|running| running.job).collect();
        let ask = Ask {
            configuration: id,
            rung,
            pending: &pending,
            seed: self.search.seed.child("proposal", id),
        };
        let vector = self.method.propose(&self.history, &ask).vector;
        let values = self.search.space.decode(&vector);
        self.history.ask(id);
        let vector = self.search.space.encode(&values);
        if let Some(pool) = self.problem.as_pool() {
            self.pool_rows.push(pool.place(&vector, &mut self.taken));
        }
        self.history.know(id, vector);
        self.configurations.push(values);
        self.spent_on.push(0.0);
        self.known_on.push(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_stopped_that_are_not_among_the_best_third() {
        let losses = [0.1, 0.2, 0.3, 0.4, 0.5];
        let mut seen: Vec<Ranked> = Vec::new();
        for (number, loss) in (0..).zip(losses) {
            let (score, job) = (Score::Loss(loss), ConfigurationId(number).job(0));
            seen.push(Ranked { score, job });
        }
        // Two of six are a third.
        assert!(!is_stopped(0.15, &seen, 3.0) && is_stopped(0.25, &seen, 3.0));
        assert!(!is_stopped(0.2, &seen, 3.0), "equals are no better");
        assert!(!is_stopped(7.0, &[], 3.0), "nothing to compare with");
        assert!(is_stopped(f64::INFINITY, &[], 3.0), "diverged");
    }

    #[test]
    fn stopped_jobs_cost_what_they_had_and_others_all() {
        let mut problem = Problem::function("mf-hartmann3-good", None, None).unwrap();
        problem.stopping = true;
        let search = search(&problem, MethodName::Hyperband, false, 3).unwrap();
        let rows = run(&problem, &search, 10.0, 1).unwrap();
        let max = problem.max_budget as f64;
        let count = |rung: u8| {
            let budget = search.ladder.budget(rung).amount;
            let same = |row: &&Row| (row.budget - budget).abs() < 1e-9;
            rows.iter().filter(same).count()
        };
        let counts: Vec<usize> = (0..search.ladder.num_rungs()).map(count).collect();
        assert!(counts[3] > 3 && counts[0] > counts[3], "{counts:?}");
        assert_eq!(counts.iter().sum::<usize>(), rows.len());
        let spent: f64 = rows.iter().map(|row| row.budget / max).sum();
        assert!((spent - rows.last().unwrap().cum_restart).abs() < 1e-9);
    }

    #[test]
    fn workers_are_never_idle_and_never_more_than_there_are() {
        let problem = Problem::function("mf-hartmann3-good", None, None).unwrap();
        for (num_workers, total) in [(2, 6.0), (8, 6.0), (64, 3.0)] {
            let search = search(&problem, MethodName::Hyperband, false, 3).unwrap();
            let rows = run(&problem, &search, total, num_workers).unwrap();
            let mut times: Vec<(f64, i32)> = Vec::new();
            for row in &rows {
                let (start, end) = (row.started_at.unwrap(), row.ended_at.unwrap());
                assert!(start < total && start < end);
                times.extend([(start, 1), (end, -1)]);
            }
            // Ends before starts: a free worker goes on at once.
            times.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let mut num_busy = 0;
            for (_, change) in times {
                num_busy += change;
                assert!(usize::try_from(num_busy).unwrap() <= num_workers);
            }
            let share = utilisation(&rows, num_workers, total).unwrap();
            assert!((share - 1.0).abs() < 1e-9, "{num_workers}: {share}");
        }
    }
}
