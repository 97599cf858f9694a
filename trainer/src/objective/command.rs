//! The objective that runs a program: it gets a JSON file, writes a JSON file, and is told to stop by SIGTERM.
//!
//! The contract is in `docs/any-trainer.md`. The program runs in a folder of its own on this machine's temporary
//! storage; what it prints goes to the search's `logs/`.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use shared::{Budget, Configuration, CurvePoint, JobId};

use super::{Control, Ended, Evaluation, Task};

/// How often the program is looked after.
const POLL: Duration = Duration::from_millis(20);
/// How long a program has to end after SIGTERM, before SIGKILL. SLURM's own patience (`KillWait`) is 30 s.
const GRACE: Duration = Duration::from_secs(20);

/// Runs one command.
#[derive(Debug)]
pub struct CommandRunner {
    command: Vec<String>,
}

/// Where a task's program finds things and leaves things.
#[derive(Debug, Clone)]
pub struct Place {
    /// The job.
    pub job: JobId,
    /// Receives what the program prints.
    pub log: PathBuf,
    /// Kept from attempt to attempt of this configuration; the program's own.
    pub checkpoints: PathBuf,
}

/// What the program is given: the file `job.json`.
#[derive(Debug, Serialize)]
struct JobFile<'a> {
    job: JobId,
    configuration: &'a Configuration,
    budget: Budget,
    /// Budgets that this training has finished, when it continues a lower rung.
    earlier_budgets: &'a [Budget],
    seed: u64,
    /// The file to write at the end.
    result: &'a Path,
    /// The file to write how far it is, if it likes: one number, budget spent.
    progress: &'a Path,
    /// A folder for checkpoints, the same in every attempt and rung of this configuration.
    checkpoints: &'a Path,
}

/// What the program writes: the file `result.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResultFile {
    /// What is minimised; absent if the training diverged or failed.
    #[serde(default)]
    loss: Option<f64>,
    /// Set to say that the configuration failed: what happened.
    #[serde(default)]
    crashed: Option<String>,
    /// Set to say that the training diverged: what was seen.
    #[serde(default)]
    diverged: Option<String>,
    #[serde(default)]
    measures: BTreeMap<String, f64>,
    #[serde(default)]
    curve: Vec<CurvePoint>,
}

impl CommandRunner {
    /// A runner of a program with arguments; the job file's path is appended as the last one.
    pub fn new(command: Vec<String>) -> Self {
        Self { command }
    }

    /// Runs the program for one task.
    ///
    /// # Errors
    /// The program cannot be started at all, or its folders cannot be made: this machine's fault.
    pub fn evaluate(
        &self,
        task: &Task,
        place: &Place,
        control: &mut dyn Control,
    ) -> anyhow::Result<Ended> {
        let folder = tempfile::Builder::new()
            .prefix("tandem-")
            .tempdir()
            .context("cannot make a folder")?;
        let (result, progress) = (
            folder.path().join("result.json"),
            folder.path().join("progress"),
        );
        shared::fs::make_folder(&place.checkpoints)?;
        let file = JobFile {
            job: place.job,
            configuration: &task.configuration,
            budget: task.budget,
            earlier_budgets: &task.earlier_budgets,
            seed: task.seed,
            result: &result,
            progress: &progress,
            checkpoints: &place.checkpoints,
        };
        let job_file = folder.path().join("job.json");
        shared::fs::replace(&job_file, &serde_json::to_vec_pretty(&file)?)?;
        let mut child = self.start(&job_file, place)?;
        let Some(status) = watch(&mut child, &progress, control)? else {
            return Ok(Ended::Interrupted);
        };
        Ok(ended(status, &result, task.budget.amount))
    }

    fn start(&self, job_file: &Path, place: &Place) -> anyhow::Result<Child> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&place.log)
            .with_context(|| format!("cannot open the log `{}`", place.log.display()))?;
        let (program, arguments) = self.command.split_first().context("the command is empty")?;
        Command::new(program)
            .args(arguments)
            .arg(job_file)
            .env(shared::env::JOB.name(), job_file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start `{program}`"))
    }
}

/// Waits for the program; `None` if it was told to stop before it had finished.
fn watch(
    child: &mut Child,
    progress: &Path,
    control: &mut dyn Control,
) -> anyhow::Result<Option<ExitStatus>> {
    let mut told: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for the program")? {
            return Ok(if told.is_some() && !status.success() {
                None
            } else {
                Some(status)
            });
        }
        if let Some(spent) = read_progress(progress) {
            control.progress(spent);
        }
        match told {
            None if control.stop_reason().is_some() => {
                terminate(child);
                told = Some(Instant::now());
            }
            Some(since) if since.elapsed() > GRACE => {
                child.kill().context("cannot kill the program")?;
            }
            _ => {}
        }
        std::thread::sleep(POLL);
    }
}

fn terminate(child: &Child) {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw); // ids are positive
    if let Some(pid) = pid {
        // A program that has just ended cannot be told, and need not be.
        let _ended = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

fn read_progress(path: &Path) -> Option<f64> {
    let bytes = std::fs::read(path).ok()?; // not written yet
    let spent: f64 = std::str::from_utf8(&bytes).ok()?.trim().parse().ok()?; // half-written: next time
    (spent.is_finite() && spent >= 0.0).then_some(spent)
}

/// What an ended program's exit status and result file mean.
fn ended(status: ExitStatus, result: &Path, budget: f64) -> Ended {
    let crashed = |message: String| Ended::Crashed { message };
    if !status.success() {
        return crashed(format!("the program ended with {status}"));
    }
    let bytes = match std::fs::read(result) {
        Ok(bytes) => bytes,
        Err(error) => return crashed(format!("the program left no readable result file: {error}")),
    };
    let file: ResultFile = match serde_json::from_slice(&bytes) {
        Ok(file) => file,
        Err(error) => return crashed(format!("the program's result file is wrong: {error}")),
    };
    match file {
        ResultFile {
            diverged: Some(message),
            ..
        } => Ended::Diverged {
            spent: budget,
            message,
        },
        ResultFile {
            crashed: Some(message),
            ..
        } => crashed(message),
        ResultFile {
            loss: Some(loss),
            measures,
            curve,
            ..
        } if loss.is_finite() => Ended::Evaluated(Evaluation {
            loss,
            measures,
            curve,
        }),
        _ => crashed("the program's result file has no `loss`".to_owned()),
    }
}
