//! What `sampler bench` simulates is what the programs do: the scheduler's own plans and the sampler's own proposals,
//! without files, start the same jobs at the same times.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use sampler::bench::problem::Problem;
use sampler::bench::simulate::{self, Row};
use sampler::proposer::Proposer;
use scheduler::bracket::Verdict;
use scheduler::fault::Known;
use scheduler::plan::{Action, plan};
use scheduler::state::State;
use shared::record::JobResult;
use shared::search::{Limit, MethodName};
use shared::{Configuration, JobId, Outcome, Search};

/// The programs' decisions, on as many workers as there are trainers.
struct Programs<'a> {
    search: &'a Search,
    /// What the simulation started: gives losses and durations, by the order of starts.
    rows: &'a [Row],
    state: State,
    proposer: Proposer,
    values: Vec<Configuration>,
    results: Vec<JobResult>,
    started: Vec<JobId>,
}

impl Programs<'_> {
    /// Plans and acts until there is nothing to do.
    fn act(&mut self) {
        loop {
            let actions = plan(&self.state, &self.search.trainers);
            if actions.is_empty() {
                return;
            }
            for action in actions {
                action.apply(&mut self.state);
                match action {
                    Action::Request(request) => {
                        let is_named =
                            |result: &&JobResult| request.finished.contains(&result.job());
                        let named: Vec<JobResult> =
                            self.results.iter().filter(is_named).cloned().collect();
                        self.proposer.learn(&named);
                        let proposal = self.proposer.propose(&request);
                        let id = request.configuration;
                        self.proposer.ask(id.job(request.rung));
                        self.proposer.know(id, &proposal.values);
                        self.values.push(proposal.values.clone());
                        self.state.see_proposal(id, proposal.values);
                    }
                    Action::Offer { job, .. } => self.started.push(job),
                    Action::TakeBack { .. }
                    | Action::GiveUp { .. }
                    | Action::Accept(_)
                    | Action::Retry(_)
                    | Action::Withdraw(_)
                    | Action::DropClaim(_)
                    | Action::DropTicket(_)
                    | Action::DropCheckpoints { .. }
                    | Action::Finish(_) => {}
                }
            }
        }
    }

    /// Ends a job, by its number in the order of starts.
    fn end(&mut self, number: usize) -> Result<()> {
        let (job, loss) = (self.started[number], self.rows[number].loss);
        self.results.push(JobResult {
            attempt: job.attempt(1),
            owner: "tester".parse()?,
            bracket: self.state.table().place(job.configuration).bracket,
            budget: self.search.ladder.budget(job.rung),
            configuration: self.values[usize::try_from(job.configuration.0)?].clone(),
            outcome: Outcome::Evaluated { loss },
            measures: BTreeMap::new(),
            curve: Vec::new(),
            notes: BTreeMap::new(),
            started_at: String::new(),
            finished_at: String::new(),
            elapsed_s: 1.0,
            program: "test".into(),
            supersedes: None,
        });
        let verdict = Verdict::Evaluated(loss);
        self.state
            .see_result(Known::certain(job.attempt(1), verdict));
        Ok(())
    }
}

#[test]
fn benchmarks_with_many_workers_start_the_jobs_that_scheduler_and_sampler_would() -> Result<()> {
    let problem = Problem::function("mf-hartmann6-moderate", None, None)?;
    for (method, faithful, num_workers, total) in [
        (MethodName::Bohb, false, 8, 8.0),
        (MethodName::Bohb, true, 3, 12.0),
        (MethodName::Evolution, false, 64, 2.0),
    ] {
        let mut search = simulate::search(&problem, method, faithful, 4)?;
        let rows = simulate::run(&problem, &search, total, num_workers)?;
        search.limit = Limit::Brackets(1000);
        let mut programs = Programs {
            search: &search,
            rows: &rows,
            state: State::new(&search)?,
            proposer: Proposer::new(&search),
            values: Vec::new(),
            results: Vec::new(),
            started: Vec::new(),
        };
        programs.state.num_trainers = u32::try_from(num_workers)?;
        programs.act();
        let ended_at = |number: &usize| rows[*number].ended_at.context("many workers have times");
        let mut ends: Vec<usize> = (0..rows.len()).collect();
        ends.sort_by(|a, b| {
            let (a, b) = (rows[*a].ended_at, rows[*b].ended_at);
            a.unwrap_or(f64::NAN).total_cmp(&b.unwrap_or(f64::NAN))
        });
        for number in ends {
            if ended_at(&number)? >= total {
                break;
            }
            programs.end(number)?;
            programs.act();
        }
        assert!(rows.len() > 100 && programs.started.len() >= rows.len());
        for (number, (row, job)) in rows.iter().zip(&programs.started).enumerate() {
            let values = &programs.values[usize::try_from(job.configuration.0)?];
            let is_same = row
                .budget
                .total_cmp(&search.ladder.budget(job.rung).amount)
                .is_eq()
                && row.true_regret.total_cmp(&problem.regret(values)?).is_eq();
            assert!(
                is_same,
                "{method:?}, start {number}: {row:?} and {job} of {values:?}"
            );
        }
    }
    Ok(())
}
