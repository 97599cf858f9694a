//! `trainer worker DIR`: the process that trains the networks of a search, job after job, by the contract of
//! `docs/any-trainer.md`; started by `trainer run`, which survives whatever happens here.

use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use data::{Dataset, Splits};
use serde_json::json;
use shared::exit::{Code, Failure};
use shared::objective::{NetworkObjective, Objective, Precision};
use shared::record::Checked;
use shared::signal::Warning;
use shared::{BudgetUnit, Claim, Directory, Search, Seed, cli, fs};
use tracing::warn;

use crate::control::CheckpointTimes;
use crate::device::{self, Device};
use crate::evaluator::contract::{JobFile, Progress, Ready, result_of};
use crate::evaluator::{Compute, READY};
use crate::hyperparameters;
use crate::minibatch::TrainingData;
use crate::objective::network::NetworkTrainer;
use crate::objective::{Control, Ended, StopReason, Task};
use crate::resume;

/// How often progress is told.
const TELL: Duration = Duration::from_millis(100);

/// Arguments of `trainer worker`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Search directory
    #[arg(value_name = cli::DIRECTORY)]
    directory: PathBuf,
    /// How and where to compute
    #[command(flatten)]
    compute: Compute,
}

/// Trains until its input ends, or a warning comes.
///
/// # Errors
/// The search trains no network, its data set is missing or damaged, or the device cannot be had: exit code 3.
pub(crate) fn run(args: &Args) -> Result<Code> {
    let choice = args.compute.device;
    device::set_threads(usize::from(args.compute.threads)).context("cannot start the threads")?;
    let warning = Warning::listen().context("cannot listen for signals")?;
    let directory = Directory::open(&args.directory)?;
    let Objective::Network(objective) = &directory.search().objective else {
        return Err(Failure::new(Code::BadInput, "this search trains no network").into());
    };
    let device = choice
        .resolve()
        .map_err(|error| Failure::because(Code::BadInput, format!("--device {choice}"), error))?;
    if directory.search().ladder.unit() == BudgetUnit::CpuSeconds && device != Device::Cpu {
        let message = format!(
            "the budgets of this search are CPU seconds, which say nothing of a training on `{device}`: use `--device \
             cpu`, or budgets in `seconds`"
        );
        return Err(Failure::new(Code::BadInput, message).into());
    }
    check_precision(objective.training.precision, device)?;
    crate::self_test::ensure_passed(device)?;
    let splits = Dataset::load(&objective.data)
        .map_err(|error| Failure::because(Code::BadInput, "cannot load the data set", error))?;
    check_space(directory.search(), &splits)?;
    let trainer = trainer_of(objective, &splits, device);
    let ready = Ready {
        device: device.to_string(),
        device_memory_mib: device.total_memory().map(crate::memory::mib),
        notes: [
            ("data_digest".to_owned(), splits.digest.to_string()),
            (
                "precision".to_owned(),
                objective.training.precision.to_string(),
            ),
        ]
        .into(),
        data: trainer.data_size(),
    };
    say(&format!("{READY}{}", serde_json::to_string(&ready)?))?;
    for line in std::io::stdin().lock().lines() {
        let line = line.context("cannot read the next job's path")?;
        let job: JobFile = serde_json::from_slice(&fs::read_named(Path::new(&line))?)
            .with_context(|| format!("`{line}` is no job"))?;
        let ended = evaluate(&directory, &trainer, &job, &warning);
        match result_of(&ended) {
            Some(result) => fs::hand_over(&job.result, &serde_json::to_vec(&result)?)?,
            None => return Ok(Code::Again),
        }
        say(&line)?;
    }
    Ok(Code::Done)
}

/// A device that cannot multiply as the search asks for is not used.
fn check_precision(precision: Precision, device: Device) -> Result<(), Failure> {
    if precision == Precision::Fp32 || device.has_tf32() {
        return Ok(());
    }
    let message = format!(
        "this search trains with `\"precision\": \"{precision}\"`, for which `{device}` has no tensor cores: use an NVIDIA GPU of \
         compute capability 8.0 or later with `--device cuda`, or `\"fp32\"` in a search of its own"
    );
    Err(Failure::new(Code::BadInput, message))
}

/// One line on standard output, at once.
fn say(line: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}").and_then(|()| output.flush())?;
    Ok(())
}

fn evaluate(
    directory: &Directory,
    trainer: &NetworkTrainer<'_>,
    job: &JobFile,
    warning: &Warning,
) -> Ended {
    let mut control = WorkerControl::new(directory, job, warning);
    let evaluated = trainer.evaluate(&task_of(directory, job), &mut control);
    evaluated.unwrap_or_else(|error| Ended::MachineFailed {
        message: format!("{error:#}"),
    })
}

fn task_of(directory: &Directory, job: &JobFile) -> Task {
    Task {
        job: job.job,
        configuration: job.configuration.clone(),
        budget: job.budget,
        earlier_budgets: job.earlier_budgets.clone(),
        checks: job.checks.clone(),
        seed: job.seed,
        checkpoint: resume::read_first(directory, &job.resume),
    }
}

/// The [`Control`] inside a worker: warnings, a progress file, checkpoints.
struct WorkerControl<'a> {
    directory: &'a Directory,
    /// Whose checkpoints are saved; nobody's where a job is done by hand.
    claim: Option<&'a Claim>,
    warning: &'a Warning,
    times: CheckpointTimes,
    file: &'a PathBuf,
    progress: Progress,
    told_at: Option<Instant>,
}

impl<'a> WorkerControl<'a> {
    fn new(directory: &'a Directory, job: &'a JobFile, warning: &'a Warning) -> Self {
        Self {
            times: CheckpointTimes::new(directory.search(), job.job.rung, job.budget),
            directory,
            claim: job.attempt.as_ref(),
            warning,
            file: &job.progress,
            progress: Progress {
                saved: Some(0.0),
                ..Progress::default()
            },
            told_at: None,
        }
    }

    fn tell(&mut self) {
        self.told_at = Some(Instant::now());
        let text = json!(self.progress).to_string();
        if let Err(error) = fs::hand_over(self.file, text.as_bytes()) {
            // The next one may get through.
            warn!("cannot tell the progress: {}", shared::error::chain(&error));
        }
    }
}

impl Control for WorkerControl<'_> {
    fn stop_reason(&mut self) -> Option<StopReason> {
        let reason = self.warning.received().map(|_signal| StopReason::Signal);
        if reason.is_some() && !self.progress.saving {
            self.progress.saving = true;
            self.tell();
        }
        reason
    }

    fn progress(&mut self, spent: f64) {
        self.progress.spent = spent;
        if self.told_at.is_none_or(|at| at.elapsed() >= TELL) {
            self.tell();
        }
    }

    fn checkpoint_due(&mut self, spent: f64) -> bool {
        self.claim.is_some() && self.times.is_due(spent)
    }

    fn checked(&mut self, seen: &[Checked]) {
        self.progress.checks = seen.to_vec();
        self.tell();
    }

    fn save_checkpoint(&mut self, spent: f64, bytes: &[u8]) -> Result<()> {
        if let Some(claim) = self.claim {
            self.directory.save_checkpoint(claim, bytes)?;
            self.times.saved(spent);
            self.progress.saved = Some(spent);
            self.tell();
        }
        Ok(())
    }
}

fn trainer_of<'a>(
    objective: &NetworkObjective,
    splits: &'a Splits,
    device: Device,
) -> NetworkTrainer<'a> {
    NetworkTrainer {
        data: TrainingData::new(splits),
        data_digest: splits.digest.to_string(),
        settings: objective.training.clone(),
        device,
    }
}

/// Finds out before the first job whether the network knows every hyperparameter of the space, with all its values.
pub(crate) fn check_space(search: &Search, splits: &Splits) -> Result<()> {
    /// Draws from the space, so that conditional hyperparameters are seen too.
    const NUM_DRAWS: usize = 64;
    let space = &search.space;
    let mut rng = Seed::new(0).child("space check", "").rng();
    let corners = [0.0, 1.0].map(|coordinate| vec![coordinate; space.num_dimensions()]);
    let draws = (0..NUM_DRAWS).map(|_| space.sample(&mut rng));
    for vector in corners.into_iter().chain(draws) {
        let configuration = space.decode(&vector);
        let read = hyperparameters::read(&configuration, splits.shape, splits.num_classes());
        // Too many channels is one point's fault; a name or range is the space's.
        if let Err(invalid) = read
            && !invalid.at.starts_with("widen_factor")
        {
            let message = "the search space does not fit the network";
            return Err(Failure::because(Code::BadInput, message, invalid).into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_precision_that_a_device_has_not_is_refused() {
        assert!(check_precision(Precision::Fp32, Device::Cpu).is_ok());
        let refusal = check_precision(Precision::Tf32, Device::Cpu).unwrap_err();
        assert_eq!(refusal.code, Code::BadInput);
        assert!(refusal.to_string().contains("\"precision\": \"tf32\""));
    }
}
