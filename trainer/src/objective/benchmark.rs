//! The objective that evaluates a benchmark function, so that the whole system can be tested without training.
//!
//! With `seconds_per_unit` it sleeps for its budget as a training would compute, keeps checkpoints of how far it has
//! slept, and can be interrupted and resumed.

use std::time::Duration;

use data::benchmark::{Benchmark, BenchmarkError, Function};
use shared::objective::BenchmarkObjective;
use shared::{Configuration, Seed, clock};

use super::{Control, Ended, Evaluation, Task};

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
        if self.sleep(task, control)? {
            return Ok(Ended::Interrupted);
        }
        // There is no more than full fidelity.
        let amount = task.budget.amount.min(self.max_budget);
        let evaluated =
            self.benchmark
                .evaluate(&task.configuration, amount, self.max_budget, self.seed);
        let loss = match evaluated {
            Ok(loss) => loss,
            Err(error) => {
                return Ok(Ended::Crashed {
                    message: error.to_string(),
                });
            }
        };
        let mut evaluation = Evaluation {
            loss,
            ..Evaluation::default()
        };
        if let Ok(regret) = self.benchmark.regret(&task.configuration) {
            evaluation.measures.insert("true_regret".to_owned(), regret);
        }
        Ok(Ended::Evaluated(evaluation))
    }

    /// Sleeps what the budget stands for; whether it was interrupted.
    fn sleep(&self, task: &Task, control: &mut dyn Control) -> anyhow::Result<bool> {
        let amount = task.budget.amount;
        if self.seconds_per_unit <= 0.0 {
            return Ok(false);
        }
        let earlier = task
            .earlier_budgets
            .last()
            .map_or(0.0, |budget| budget.amount);
        let resumed = match &task.checkpoint {
            Some(bytes) => serde_json::from_slice(bytes).unwrap_or_else(|error| {
                tracing::warn!("starting anew: the checkpoint cannot be read: {error}");
                earlier
            }),
            None => earlier,
        };
        let start = clock::instant();
        loop {
            let spent =
                (resumed + clock::since(start).as_secs_f64() / self.seconds_per_unit).min(amount);
            control.progress(spent);
            let is_interrupted = control.stop_reason().is_some();
            let is_done = spent >= amount;
            if (is_interrupted && !is_done) || control.checkpoint_due(spent) {
                control.save_checkpoint(spent, &serde_json::to_vec(&spent)?)?;
            }
            if is_done || is_interrupted {
                return Ok(!is_done);
            }
            let left = Duration::from_secs_f64((amount - spent) * self.seconds_per_unit);
            clock::sleep(left.clamp(SHORTEST, SLICE));
        }
    }
}
