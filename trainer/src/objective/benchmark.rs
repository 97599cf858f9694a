//! The objective that evaluates a benchmark function, so that the whole system can be tested without training.
//!
//! With `seconds_per_unit` it sleeps for its budget as a training would compute, keeps checkpoints of how far it has
//! slept, and can be interrupted and resumed.

use std::time::{Duration, Instant};

use data::benchmark::{Benchmark, BenchmarkError, Function};
use shared::objective::BenchmarkObjective;
use shared::{Configuration, CurvePoint, Seed, clock};

use super::{Control, Ended, Evaluation, Task};
use crate::checks::{Checks, Stop};

/// How long a wish to stop may go unnoticed.
const SLICE: Duration = Duration::from_millis(20);
/// What is left may be less than the clock can tell, and still has to pass.
const SHORTEST: Duration = Duration::from_micros(1);

/// Evaluates one function.
#[derive(Debug)]
pub struct BenchmarkRunner {
    benchmark: Benchmark,
    seconds_per_unit: f64,
    max_budget: f64,
    seed: Seed,
}

impl BenchmarkRunner {
    /// A runner of the search's function, whose full fidelity is at `max_budget`.
    ///
    /// # Errors
    /// There is no such function.
    pub fn new(
        objective: &BenchmarkObjective,
        max_budget: f64,
        seed: Seed,
    ) -> anyhow::Result<Self> {
        let mut benchmark = Benchmark::new(objective.name.parse::<Function>()?);
        benchmark.bias = objective.bias.unwrap_or(benchmark.bias);
        benchmark.noise = objective.noise.unwrap_or(benchmark.noise);
        Ok(Self {
            benchmark,
            seconds_per_unit: objective.seconds_per_unit,
            max_budget,
            seed,
        })
    }

    /// Whether the function knows the hyperparameters of a configuration.
    ///
    /// # Errors
    /// The one that is missing, unknown or out of its domain.
    pub fn check(&self, configuration: &Configuration) -> Result<(), BenchmarkError> {
        self.benchmark.true_value(configuration).map(|_value| ())
    }

    /// Evaluates the task's configuration.
    ///
    /// # Errors
    /// A checkpoint cannot be saved.
    pub fn evaluate(&self, task: &Task, control: &mut dyn Control) -> anyhow::Result<Ended> {
        let mut checks = Checks::new(&task.checks, task.budget.amount, &[]);
        let slept = self.slept(task);
        let start = clock::instant();
        let mut curve = Vec::new();
        // An interrupted one looks again at what it passed, and sees the same.
        while let Some(spent) = checks.next().filter(|spent| *spent < task.budget.amount) {
            if self.sleep(task, (slept, start), spent, control)? {
                return Ok(Ended::Interrupted);
            }
            let loss = match self.loss(&task.configuration, spent) {
                Ok(loss) => loss,
                Err(ended) => return Ok(ended),
            };
            if !loss.is_finite() {
                break;
            }
            curve.push(CurvePoint {
                spent,
                training_loss: None,
                loss: Some(loss),
            });
            let stop = checks.see(spent, loss);
            control.checked(checks.seen());
            if let Some(Stop { limit, .. }) = stop {
                return Ok(Ended::Stopped {
                    spent,
                    limit,
                    evaluation: self.evaluation(task, loss, curve),
                });
            }
        }
        if self.sleep(task, (slept, start), task.budget.amount, control)? {
            return Ok(Ended::Interrupted);
        }
        Ok(match self.loss(&task.configuration, task.budget.amount) {
            Ok(loss) => Ended::Evaluated(self.evaluation(task, loss, curve)),
            Err(ended) => ended,
        })
    }

    /// The loss when so much is spent.
    fn loss(&self, configuration: &Configuration, spent: f64) -> Result<f64, Ended> {
        // There is no more than full fidelity.
        let amount = spent.min(self.max_budget);
        let evaluated = self
            .benchmark
            .evaluate(configuration, amount, self.max_budget, self.seed);
        evaluated.map_err(|error| Ended::Crashed {
            message: error.to_string(),
        })
    }

    fn evaluation(&self, task: &Task, loss: f64, curve: Vec<CurvePoint>) -> Evaluation {
        let mut evaluation = Evaluation {
            loss,
            curve,
            ..Evaluation::default()
        };
        if let Ok(regret) = self.benchmark.regret(&task.configuration) {
            evaluation.measures.insert("true_regret".to_owned(), regret);
        }
        evaluation
    }

    /// What was slept before this attempt.
    fn slept(&self, task: &Task) -> f64 {
        let earlier = task
            .earlier_budgets
            .last()
            .map_or(0.0, |budget| budget.amount);
        if self.seconds_per_unit <= 0.0 {
            return earlier;
        }
        match &task.checkpoint {
            Some(bytes) => serde_json::from_slice(bytes).unwrap_or_else(|error| {
                tracing::warn!("starting anew: the checkpoint cannot be read: {error}");
                earlier
            }),
            None => earlier,
        }
    }

    /// Sleeps until so much is spent; whether it was interrupted.
    fn sleep(
        &self,
        task: &Task,
        (slept, start): (f64, Instant),
        until: f64,
        control: &mut dyn Control,
    ) -> anyhow::Result<bool> {
        if self.seconds_per_unit <= 0.0 {
            return Ok(false);
        }
        let amount = task.budget.amount;
        loop {
            let spent =
                (slept + clock::since(start).as_secs_f64() / self.seconds_per_unit).min(amount);
            control.progress(spent);
            let is_interrupted = control.stop_reason().is_some();
            let is_done = spent >= amount;
            if (is_interrupted && !is_done) || control.checkpoint_due(spent) {
                control.save_checkpoint(spent, &serde_json::to_vec(&spent)?)?;
            }
            if is_interrupted && !is_done {
                return Ok(true);
            }
            if spent >= until {
                return Ok(false);
            }
            let left = Duration::from_secs_f64((until - spent) * self.seconds_per_unit);
            clock::sleep(left.clamp(SHORTEST, SLICE));
        }
    }
}
