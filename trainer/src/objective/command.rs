//! The objective that runs a program: it gets a JSON file, writes a JSON file, and is told to stop by SIGTERM.
//!
//! The contract is in `docs/any-trainer.md`. The files lie in a folder of their own on this machine's temporary
//! storage; what the program prints goes to the search's `logs/`.
//!
//! The program is in a process group of its own. The warning goes to the program alone, because helpers of its own
//! (those that load data, for example) must not end while it saves; what is left of the group when it has ended is
//! killed, so that nothing holds the device or writes into the checkpoints beside the next job. A guard does that if
//! this process is killed: it leads the group, so it is there before the program is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize};
use shared::{Budget, Configuration, CurvePoint, JobId};

use super::{Control, Ended, Evaluation, Task};
use crate::batch::to_u64;

/// A program's exit code for "this machine cannot do it": the attempt's fault, not the configuration's.
const RUN_ME_AGAIN: i32 = 75;
/// How often the program is looked after.
const POLL: Duration = Duration::from_millis(20);
/// How long a program has to end after SIGTERM, before SIGKILL. SLURM's own patience (`KillWait`) is 30 s.
const GRACE: Duration = Duration::from_secs(20);
/// How long a signal that ended the program may arrive here after it.
const SAME_WARNING: Duration = Duration::from_secs(1);
/// The guard of the group that it leads: when its input ends, whoever held the other end is no more. Signals for the
/// whole group are for the others.
const GUARD: &str = "trap '' HUP INT TERM USR1 USR2; read -r _; kill -s KILL 0";
/// The largest result file, in bytes: it becomes part of a record that every program reads.
const MAX_RESULT: u64 = 4 << 20;
/// The largest progress file, in bytes.
const MAX_PROGRESS: u64 = 64;
/// The most of what a program says about its failure that is kept in the result, in bytes.
const MAX_MESSAGE: usize = 1000;

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
        let log_start = std::fs::metadata(&place.log).map_or(0, |metadata| metadata.len()); // not there: 0
        let mut group = self.start(&job_file, place)?;
        let (end, is_told) = group.watch(&progress, control)?;
        let spent = read_progress(&progress);
        let has_result = result.exists();
        match end {
            End::Exited(status) if !is_told && status.code() == Some(RUN_ME_AGAIN) => {
                anyhow::bail!(
                    "the program asks to be run again (exit code {RUN_ME_AGAIN}): {}",
                    last_line(&place.log, log_start).unwrap_or_default()
                )
            }
            End::Exited(status) if !is_told || (status.success() && has_result) => {
                let spent = spent.unwrap_or(task.budget.amount);
                Ok(ended(status, &result, spent, &|| {
                    last_line(&place.log, log_start)
                }))
            }
            End::Exited(_) => {
                // It had time to save what it wanted to.
                control.kept(spent.unwrap_or(0.0));
                Ok(Ended::Interrupted)
            }
            End::Killed => Ok(Ended::Interrupted),
        }
    }

    fn start(&self, job_file: &Path, place: &Place) -> anyhow::Result<Group> {
        let log = shared::fs::open_log(&place.log)?;
        let (program, arguments) = self.command.split_first().context("the command is empty")?;
        let mut guard = guard()?;
        let leader = pid_of(&guard);
        // A program that is just being started holds the guard's input open, too, until it is in the group: however
        // early this process is killed, the guard finds it there.
        let started = Command::new(program)
            .args(arguments)
            .arg(job_file)
            .env(shared::env::JOB.name(), job_file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(leader.as_raw_nonzero().get())
            .spawn();
        match started {
            Ok(program) => Ok(Group {
                pid: pid_of(&program),
                program,
                guard,
                leader,
                has_been_waited_for: false,
            }),
            Err(error) => {
                // The error is what the caller hears of.
                let _ended = guard.kill().and_then(|()| guard.wait());
                Err(error).with_context(|| format!("cannot start `{program}`"))
            }
        }
    }
}

/// Starts what kills its process group when this process has been killed.
fn guard() -> anyhow::Result<Child> {
    Command::new("/bin/sh")
        .args(["-c", GUARD])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Signals of the terminal are for this process, which decides.
        .process_group(0)
        .spawn()
        .context("cannot start `/bin/sh`, which ends the program if the trainer is killed")
}

fn pid_of(child: &Child) -> Pid {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.expect("the system's process ids are positive")
}

/// How a program came to its end.
enum End {
    /// By itself, or by somebody else's signal.
    Exited(ExitStatus),
    /// Because it did not heed the warning.
    Killed,
}

/// A program and all that it has started; dropping it ends them.
struct Group {
    program: Child,
    pid: Pid,
    /// Holds the reading end of a pipe whose other end is here.
    guard: Child,
    /// The guard's id, which is the group's.
    leader: Pid,
    /// From then on the ids may be somebody else's.
    has_been_waited_for: bool,
}

impl Group {
    /// Waits for the program; how it ended, and whether it had been told to stop.
    fn watch(&mut self, progress: &Path, control: &mut dyn Control) -> anyhow::Result<(End, bool)> {
        let mut told: Option<Instant> = None;
        while !self.has_ended()? {
            if let Some(spent) = read_progress(progress) {
                control.progress(spent);
            }
            match told {
                None if control.stop_reason().is_some() => {
                    // A program that has just ended cannot be told, and need not be.
                    let _ended = rustix::process::kill_process(self.pid, Signal::TERM);
                    told = Some(Instant::now());
                }
                Some(since) if since.elapsed() > GRACE => {
                    self.end().context("cannot wait for the program")?;
                    return Ok((End::Killed, true));
                }
                _ => {}
            }
            std::thread::sleep(POLL);
        }
        let status = self.end().context("cannot wait for the program")?;
        // Who warns this process may warn the program too, and it may be the first to act on it.
        let start = Instant::now();
        while status.signal().is_some()
            && control.stop_reason().is_none()
            && start.elapsed() < SAME_WARNING
        {
            std::thread::sleep(POLL);
        }
        Ok((
            End::Exited(status),
            told.is_some() || control.stop_reason().is_some(),
        ))
    }

    /// Whether the program has ended. It is not waited for: until then its id is nobody else's.
    fn has_ended(&self) -> anyhow::Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = rustix::process::waitid(WaitId::Pid(self.pid), options);
        Ok(status.context("cannot look after the program")?.is_some())
    }

    /// Kills what is left of the group and waits for the program.
    fn end(&mut self) -> io::Result<ExitStatus> {
        if !self.has_been_waited_for {
            // The guard, and what else is left; the program itself even if it has left the group.
            let _gone = rustix::process::kill_process_group(self.leader, Signal::KILL);
            self.program.kill()?;
            self.guard.wait()?;
        }
        let status = self.program.wait()?;
        self.has_been_waited_for = true;
        Ok(status)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // After an error only, which is what the caller hears of.
        let _ended = self.end();
    }
}

fn read_progress(path: &Path) -> Option<f64> {
    let bytes = read_small(path, MAX_PROGRESS).ok()?; // not written yet, or nonsense
    let spent: f64 = std::str::from_utf8(&bytes).ok()?.trim().parse().ok()?; // half-written: next time
    (spent.is_finite() && spent >= 0.0).then_some(spent)
}

/// Reads a regular file of limited size.
fn read_small(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if to_u64(bytes.len()) > limit {
        let message = format!("it is larger than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// The last line that is not empty of what was printed since `start`, if anything was.
fn last_line(log: &Path, start: u64) -> Option<String> {
    let bytes = shared::fs::end_of_log(log, start, 4 * to_u64(MAX_MESSAGE))?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(line.to_owned())
}

/// What an ended program's exit status and result file mean.
fn ended(
    status: ExitStatus,
    result: &Path,
    spent: f64,
    last_line: &dyn Fn() -> Option<String>,
) -> Ended {
    let crashed = |message: String| Ended::Crashed {
        message: shortened(message),
    };
    let with_last_line = |message: String| {
        crashed(match last_line() {
            Some(line) => format!("{message}; the last it said: {line}"),
            None => message,
        })
    };
    if !status.success() {
        return with_last_line(format!("the program ended with {status}"));
    }
    let bytes = match read_small(result, MAX_RESULT) {
        Ok(bytes) => bytes,
        Err(error) => {
            let message = format!("the program left no readable result file: {error}");
            return with_last_line(message);
        }
    };
    outcome_in(&bytes, spent)
}

/// What a program's result file says; `spent` is how far the program was, in the budget's unit.
pub fn outcome_in(bytes: &[u8], spent: f64) -> Ended {
    let crashed = |message: String| Ended::Crashed {
        message: shortened(message),
    };
    // Through a map: a list of values would do for a structure otherwise.
    let parsed = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(bytes)
        .and_then(|map| serde_json::from_value(map.into()));
    let file: ResultFile = match parsed {
        Ok(file) => file,
        Err(error) => {
            let text = String::from_utf8_lossy(bytes);
            let hint = if text.contains("NaN") || text.contains("Infinity") {
                " (JSON has numbers that are finite only; write `diverged` instead of a `loss` that is none)"
            } else {
                ""
            };
            return crashed(format!("the program's result file is wrong: {error}{hint}"));
        }
    };
    match file {
        ResultFile {
            diverged: Some(message),
            ..
        } => Ended::Diverged {
            spent,
            message: shortened(message),
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

/// A message that a record can hold.
fn shortened(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        message.push('…');
    }
    message
}
