//! What evaluates a search's jobs: a benchmark function in this process, everything else in a worker process.

pub mod contract;
mod output;
mod process;
mod temporary;
mod verdict;
pub mod worker;

pub(crate) use self::process::READY;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use shared::exit::{Code, Failure};
use shared::objective::{BenchmarkObjective, Objective};
use shared::record::Checked;
use shared::signal::Warning;
use shared::{Claim, Configuration, Directory, Search};

use self::worker::Worker;
use crate::device::DeviceChoice;
use crate::heartbeat::Computer;
use crate::objective::benchmark::BenchmarkRunner;
use crate::objective::{Control, Ended, Task};
use crate::resume;
use crate::watchdog::TRAINING_GRACE;

/// How and where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct Compute {
    /// Device to compute on; `auto` takes a GPU if there is one that works, else the CPU
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// Threads to compute with on the CPU; several single-threaded trainers are faster than one with several threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: u16,
}

/// A job to be evaluated, and its places.
#[derive(Debug)]
pub struct Assignment<'a> {
    /// What is to be done.
    pub task: Task,
    /// Whose it is; nobody's where it is done by hand.
    pub claim: Option<&'a Claim>,
    /// Checkpoints of trainings built in that it may go on from, the best first.
    pub resume: Vec<Claim>,
    /// What earlier attempts of somebody's program have seen at the task's checks.
    pub seen: Vec<Checked>,
    /// Its places.
    pub place: Place,
}

/// Where a worker finds things and leaves things.
#[derive(Debug, Clone)]
pub struct Place {
    /// Receives what it prints.
    pub log: PathBuf,
    /// A program's own folder, kept from attempt to attempt.
    pub checkpoints: PathBuf,
}

/// What evaluates jobs.
#[derive(Debug)]
pub enum Evaluator {
    /// Evaluates a function, in this process.
    Benchmark(BenchmarkRunner),
    /// Has a process train networks, or run somebody's program.
    Worker(Box<Worker>),
}

impl Evaluator {
    /// Makes sure that jobs of this search can be evaluated here: of networks, loads the data and finds the device.
    ///
    /// # Errors
    /// The data set is missing or damaged, the device cannot be had, or the space does not fit: exit code 3.
    pub fn new(directory: &Directory, compute: Compute, warning: &Warning) -> Result<Self> {
        let search = directory.search();
        match &search.objective {
            Objective::Network(_) => {
                let worker = Worker::of_network(directory, compute, warning)?;
                Ok(Self::Worker(Box::new(worker)))
            }
            Objective::Command(command) => {
                let worker = Worker::of_command(directory, command)?;
                Ok(Self::Worker(Box::new(worker)))
            }
            Objective::Benchmark(objective) => benchmark(search, objective).map(Self::Benchmark),
        }
    }

    /// The device that it computes on, for results.
    pub fn device(&self) -> &str {
        self.ready().map_or(Computer::CPU, |ready| &ready.device)
    }

    /// What it computes with, for heartbeats: asks the system for its memory.
    pub(crate) fn computer(&self) -> Computer {
        Computer {
            device: self.device().to_owned(),
            device_memory_mib: self.ready().and_then(|ready| ready.device_memory_mib),
            ..Computer::cpu()
        }
    }

    /// What the results are made from, by name, for people.
    pub fn notes(&self) -> BTreeMap<String, String> {
        self.ready()
            .map(|ready| ready.notes.clone())
            .unwrap_or_default()
    }

    fn ready(&self) -> Option<&contract::Ready> {
        match self {
            Self::Benchmark(_) => None,
            Self::Worker(worker) => worker.ready(),
        }
    }

    /// Whether a job that is interrupted can go on from where it was; of somebody's program only that program knows.
    pub(crate) fn can_continue(&self) -> bool {
        matches!(self, Self::Benchmark(_)) || self.ready().is_some()
    }

    /// Whether what evaluates jobs can be started at all, as far as that can be told.
    pub(crate) fn can_start(&self) -> bool {
        match self {
            Self::Benchmark(_) => true,
            Self::Worker(worker) => worker.can_start(),
        }
    }

    /// Whether a job's need of memory can be told before it is claimed.
    pub(crate) fn knows_needs(&self) -> bool {
        self.ready().is_some()
    }

    /// MiB that evaluating a configuration takes, where that can be told beforehand.
    pub fn needed_mib(&self, configuration: &Configuration) -> Option<f64> {
        match self {
            Self::Benchmark(_) => None,
            // What is not going to be trained needs none.
            Self::Worker(worker) => worker
                .infeasible(configuration)
                .is_none()
                .then(|| worker.needed_mib(configuration))?,
        }
    }

    /// How long a job may go on after it was told to stop.
    pub fn grace(&self) -> std::time::Duration {
        match self {
            Self::Benchmark(_) => TRAINING_GRACE,
            Self::Worker(worker) => worker.grace(),
        }
    }

    /// Evaluates one job.
    ///
    /// # Errors
    /// This machine or its files fail; whatever the configuration itself does wrong is an [`Ended`].
    pub fn evaluate(
        &self,
        directory: &Directory,
        assignment: &Assignment<'_>,
        control: &mut dyn Control,
    ) -> Result<Ended> {
        match self {
            Self::Benchmark(runner) => {
                let task = Task {
                    checkpoint: resume::read_first(directory, &assignment.resume),
                    ..assignment.task.clone()
                };
                runner.evaluate(&task, control)
            }
            Self::Worker(worker) => {
                let configuration = &assignment.task.configuration;
                match worker.infeasible(configuration) {
                    Some(measures) => Ok(Ended::Untrained { measures }),
                    None => worker.evaluate(assignment, control),
                }
            }
        }
    }
}

fn benchmark(search: &Search, objective: &BenchmarkObjective) -> Result<BenchmarkRunner> {
    // A function stays what it is when the search gets a larger largest budget.
    let ladder = search.ladder.original();
    let max_budget = ladder.budget(ladder.top()).amount;
    let seed = search.seed.child("benchmark", &objective.name);
    let runner = BenchmarkRunner::new(objective, max_budget, seed)?;
    let lowest = search
        .space
        .decode(&vec![0.0; search.space.num_dimensions()]);
    runner.check(&lowest).map_err(|error| {
        let message = "the search space does not fit the benchmark function";
        Failure::because(Code::BadInput, message, error)
    })?;
    Ok(runner)
}
