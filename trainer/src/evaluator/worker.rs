//! Jobs done by a process of their own: the built-in network's, or anybody's program, by the same contract.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use shared::constraint::{self, Constraint};
use shared::exit::{Code, Failure};
use shared::objective::CommandObjective;
use shared::signal::Warning;
use shared::{Configuration, Directory, SearchSpace, fs};

use super::contract::{JobFile, JobFiles, Progress, Ready};
use super::output::Log;
use super::process::{Answer, POLL, Process, READY, Start};
use super::verdict::{End, MemorySeen, Seen, judge};
use super::{Assignment, Compute, temporary};
use crate::checks::{Checks, Stop};
use crate::memory;
use crate::objective::{Control, Ended, StopReason};
use crate::watchdog::{PROGRAM_GRACE, TRAINING_GRACE};

/// The largest result file, in bytes: it becomes part of a record that every program reads.
const MAX_RESULT: u64 = 4 << 20;
/// The largest progress file, in bytes.
const MAX_PROGRESS: u64 = 4096;
/// How long a program that was warned beside this one may be the first to act on it.
const SAME_WARNING: Duration = Duration::from_secs(1);
/// A look at the worker's memory comes with every so manyth look at the worker.
const MEMORY_LOOKS: u32 = 10;

/// A worker process, started when it is needed.
#[derive(Debug)]
pub struct Worker {
    start: Start,
    /// Whether it is this program's own training.
    is_built_in: bool,
    /// How long it has to end after SIGTERM.
    grace: Duration,
    /// Bytes of output kept from an attempt's beginning, and as many from its end.
    output_bytes: usize,
    /// The names of all hyperparameters.
    hyperparameters: Vec<String>,
    /// The limits of measures.
    constraints: Vec<Constraint>,
    folder: temporary::Folder,
    running: RefCell<Option<Process>>,
    /// What the built-in worker has said of itself.
    ready: Option<Ready>,
}

impl Worker {
    /// A worker of somebody's program, not yet started.
    ///
    /// # Errors
    /// There is no temporary folder.
    pub(crate) fn of_command(
        directory: &Directory,
        objective: &CommandObjective,
    ) -> anyhow::Result<Self> {
        let start = Start {
            command: objective.command.iter().map(OsString::from).collect(),
            keep_alive: objective.keep_alive,
            working_directory: directory.search().working_directory.clone(),
        };
        Self::new(directory, start, None)
    }

    /// The worker of the built-in network: loads the data and finds the device.
    ///
    /// # Errors
    /// With the worker's own exit code, if it cannot get ready.
    pub(crate) fn of_network(
        directory: &Directory,
        compute: Compute,
        warning: &Warning,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let root = std::path::absolute(directory.layout().root())?;
        let device = compute.device.to_string();
        let start = Start {
            command: vec![
                program.into(),
                "worker".into(),
                root.into(),
                "--device".into(),
                device.into(),
                "--threads".into(),
                compute.threads.to_string().into(),
            ],
            keep_alive: true,
            working_directory: None,
        };
        let Some((process, ready)) = get_ready(&start, &mut || warning.received().is_some())?
        else {
            return Err(Failure::new(Code::Again, "warned before the first job").into());
        };
        let worker = Self::new(directory, start, Some(ready))?;
        worker.running.replace(Some(process));
        Ok(worker)
    }

    fn new(directory: &Directory, start: Start, ready: Option<Ready>) -> anyhow::Result<Self> {
        temporary::sweep();
        Ok(Self {
            start,
            is_built_in: ready.is_some(),
            grace: if ready.is_some() {
                TRAINING_GRACE
            } else {
                PROGRAM_GRACE
            },
            output_bytes: directory.search().trainers.output_bytes(),
            hyperparameters: names_of(&directory.search().space),
            constraints: directory.search().constraints.clone(),
            folder: temporary::Folder::new()?,
            running: RefCell::new(None),
            ready,
        })
    }

    /// What the built-in worker has said of itself.
    pub(crate) fn ready(&self) -> Option<&Ready> {
        self.ready.as_ref()
    }

    /// How long it has to end after SIGTERM.
    pub(crate) fn grace(&self) -> Duration {
        self.grace
    }

    /// MiB that training a configuration takes, where that can be told beforehand.
    pub(crate) fn needed_mib(&self, configuration: &Configuration) -> Option<f64> {
        let bytes = self.ready.as_ref()?.data.needed(configuration)?;
        Some(memory::mib(bytes))
    }

    /// What breaks a constraint of a configuration, where that is known before training: all its measures of that kind.
    pub(crate) fn infeasible(
        &self,
        configuration: &Configuration,
    ) -> Option<BTreeMap<String, f64>> {
        if self.constraints.is_empty() {
            return None;
        }
        let measures = self.ready.as_ref()?.data.measures(configuration)?;
        let is_broken = !constraint::violations(&self.constraints, &measures).is_empty();
        is_broken.then_some(measures)
    }

    /// Whether the program can be started at all from here, as far as that can be told without starting it.
    pub(crate) fn can_start(&self) -> bool {
        let Some(name) = self.start.command.first() else {
            return false;
        };
        let path = Path::new(name);
        let is_program = |path: &Path| fs::is_executable(path) == Some(true);
        if path.components().count() > 1 {
            let folder = self.start.working_directory.clone().unwrap_or_default();
            return is_program(&folder.join(path));
        }
        shared::env::program_folders()
            .iter()
            .any(|folder| is_program(&folder.join(path)))
    }

    /// Has one job done.
    ///
    /// # Errors
    /// The program cannot be started at all, or its folders cannot be made: this machine's fault.
    pub(crate) fn evaluate(
        &self,
        assignment: &Assignment<'_>,
        control: &mut dyn Control,
    ) -> anyhow::Result<Ended> {
        let folder = self.folder.job(assignment.task.job)?;
        let files = JobFiles::new(folder.path());
        let checkpoints = assignment.place.checkpoints.clone();
        if !self.is_built_in {
            fs::make_folder(&checkpoints)?;
        }
        let file = JobFile {
            job: assignment.task.job,
            attempt: assignment.claim.cloned(),
            configuration: assignment.task.configuration.clone(),
            inactive: self.inactive(&assignment.task.configuration),
            budget: assignment.task.budget,
            earlier_budgets: assignment.task.earlier_budgets.clone(),
            resume: assignment.resume.clone(),
            checks: assignment.task.checks.clone(),
            seed: assignment.task.seed,
            worker: shared::env::WORKER
                .get()
                .and_then(|number| number.parse().ok()), // not ours: not a number
            result: files.result.clone(),
            progress: files.progress.clone(),
            checkpoints,
        };
        fs::hand_over(&files.job, &serde_json::to_vec_pretty(&file)?)?;
        let had_one = self.running.borrow().is_some();
        let (ended, is_untouched) = self.have_done(assignment, &files, control)?;
        if had_one && is_untouched {
            // The process was at its end when it got the job, which is no job's fault.
            return Ok(self.have_done(assignment, &files, control)?.0);
        }
        Ok(ended)
    }

    fn inactive(&self, configuration: &Configuration) -> Vec<String> {
        let is_inactive = |name: &&String| configuration.get(name).is_none();
        self.hyperparameters
            .iter()
            .filter(is_inactive)
            .cloned()
            .collect()
    }

    /// Hands the job to a process and waits for its end; also whether the process ended without having done anything for it.
    fn have_done(
        &self,
        assignment: &Assignment<'_>,
        files: &JobFiles,
        control: &mut dyn Control,
    ) -> anyhow::Result<(Ended, bool)> {
        let before = memory::oom_kills();
        let free = memory::available();
        let Some(mut process) = self.hand_over(&files.job, &assignment.place.log, control)? else {
            return Ok((Ended::Interrupted, false));
        };
        let task = &assignment.task;
        let mut checks = Checks::new(&task.checks, task.budget.amount, &assignment.seen);
        control.checked(checks.seen());
        let mut looking = Looking {
            checks: &mut checks,
            // A training of this program stops by itself.
            stops: !self.is_built_in,
        };
        let watched = watch(&mut process, files, self.grace, &mut looking, control)?;
        let (printed, has_log) = process.end_log();
        control.printed(has_log);
        let progress = read_progress(&files.progress);
        let result = read_small(&files.result, MAX_RESULT);
        let is_untouched = matches!(watched.end, End::Exited(_))
            && watched.told.is_none()
            && progress.is_none()
            && result.is_err();
        if let Some(progress) = progress.as_ref().filter(|_| watched.stop.is_none()) {
            // What the last look has missed; it is too late to stop.
            progress.check(&mut checks);
        }
        let ended = judge(&Seen {
            end: watched.end,
            told: watched.told,
            stop: watched.stop,
            checked: checks.curve(),
            result: result.map_err(|error| error.to_string()),
            progress: progress.clone(),
            budget: assignment.task.budget.amount,
            printed,
            is_built_in: self.is_built_in,
            memory: MemorySeen {
                has_killed: memory::oom_kills() > before,
                peak: watched.peak,
                free,
            },
        });
        if let Ended::Evaluated(evaluation) = &ended {
            for point in &evaluation.curve {
                point.loss.map(|loss| checks.see(point.spent, loss));
            }
        }
        control.checked(checks.seen());
        // Nothing that a process does can be trusted whose device has failed.
        let can_stay =
            watched.end == End::Answered && watched.told.is_none() && !ended.is_devices();
        self.running.replace(can_stay.then_some(process));
        if ended == Ended::Interrupted && watched.end != End::Killed {
            // It had time to save what it wanted to.
            control.kept(progress.as_ref().map_or(0.0, Progress::kept));
        } else if let Some(saved) = progress.and_then(|progress| progress.saved) {
            control.kept(saved);
        }
        Ok((ended, is_untouched))
    }

    /// The process that has the job now: the one that waits, if it still does, or a new one; `None` if there is no time for
    /// one to get ready.
    fn hand_over(
        &self,
        job: &Path,
        log: &Path,
        control: &mut dyn Control,
    ) -> anyhow::Result<Option<Process>> {
        let log = || Log::new(log, self.output_bytes, !self.is_built_in);
        if !self.start.keep_alive {
            return Process::start(&self.start, Some(job), Some(log())).map(Some);
        }
        let line = job.display().to_string();
        if let Some(mut process) = self.running.take()
            && matches!(process.has_ended(), Ok(false))
        {
            process.begin_log(log());
            process.expect(Answer::Path(line.clone()));
            if process.say(&line).is_ok() {
                return Ok(Some(process));
            }
            // It has ended between two jobs, which is no job's fault.
        }
        let mut process = if self.is_built_in {
            let mut is_over = || control.stop_reason().is_some();
            let Some((process, _same)) = get_ready(&self.start, &mut is_over)? else {
                return Ok(None);
            };
            process.begin_log(log());
            process
        } else {
            Process::start(&self.start, None, Some(log()))?
        };
        process.expect(Answer::Path(line.clone()));
        // A program that has ended already is seen to have.
        let _said = process.say(&line);
        Ok(Some(process))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(process) = self.running.take() {
            process.dismiss();
        }
    }
}

fn names_of(space: &SearchSpace) -> Vec<String> {
    space
        .hyperparameters()
        .iter()
        .map(|h| h.name.clone())
        .collect()
}

/// Starts the built-in worker and waits until it has loaded its data; `None` where that `is_over` before.
fn get_ready(
    start: &Start,
    is_over: &mut dyn FnMut() -> bool,
) -> anyhow::Result<Option<(Process, Ready)>> {
    let mut process = Process::start(start, None, None)?;
    process.expect(Answer::Ready);
    loop {
        if let Some(line) = process.answer() {
            let json = line.strip_prefix(READY).unwrap_or_default();
            let ready = serde_json::from_str(json).context("the worker does not say what it is")?;
            return Ok(Some((process, ready)));
        }
        if process.has_ended()? {
            let status = process.end()?;
            let code = match status.code() {
                Some(3) => Code::BadInput,
                Some(4) => Code::NewerVersion,
                Some(5) => Code::Directory,
                Some(75) => Code::Again,
                _ => Code::Unforeseen,
            };
            let message = format!("the worker could not get ready ({status}); see above");
            return Err(Failure::new(code, message).into());
        }
        if is_over() {
            return Ok(None);
        }
    }
}

/// What was seen of a process while it had a job.
struct Watched {
    end: End,
    told: Option<StopReason>,
    /// The check that it was told to stop for, if it was.
    stop: Option<Stop>,
    peak: Option<u64>,
}

/// How the losses that a process tells are looked at.
struct Looking<'a, 'b> {
    checks: &'a mut Checks<'b>,
    /// Whether a loss that is too large ends the process.
    stops: bool,
}

/// Waits until the job is done, or the process is at its end, whichever it is.
fn watch(
    process: &mut Process,
    files: &JobFiles,
    grace: Duration,
    looking: &mut Looking<'_, '_>,
    control: &mut dyn Control,
) -> anyhow::Result<Watched> {
    let mut told = None;
    let mut stop = None;
    let mut kill_at: Option<Instant> = None;
    let mut peak = None;
    let mut num_looks: u32 = 0;
    loop {
        if process.answer().is_some() {
            return Ok(Watched {
                end: End::Answered,
                told,
                stop,
                peak,
            });
        }
        if num_looks.is_multiple_of(MEMORY_LOOKS) {
            peak = memory::peak_of(process.id()).or(peak);
        }
        num_looks = num_looks.wrapping_add(1);
        let has_ended = process.has_ended()?;
        let progress = read_progress(&files.progress);
        if let Some(progress) = &progress {
            control.progress(progress.spent);
            control.saving(progress.saving);
            if told.is_none() {
                stop = progress.check(looking.checks).filter(|_| looking.stops);
                control.checked(looking.checks.seen());
            }
        }
        if has_ended {
            let status = process.end()?;
            let told = told.or_else(|| same_warning(status, control));
            return Ok(Watched {
                end: End::Exited(status),
                told,
                // It has ended by itself, and what came out counts.
                stop: stop.filter(|_| told == Some(StopReason::Check)),
                peak,
            });
        }
        let of_check = stop.map(|_| StopReason::Check);
        match (told, of_check.or_else(|| control.stop_reason())) {
            (None, Some(reason)) => {
                process.terminate();
                told = Some(reason);
                kill_at = Instant::now().checked_add(control.patience(grace));
            }
            (Some(reason), _)
                if kill_at.is_some_and(|at| Instant::now() >= at)
                    && (reason.limit().is_some()
                        || reason == StopReason::Check
                        || !progress.is_some_and(|progress| progress.saving)) =>
            {
                process.end()?;
                return Ok(Watched {
                    end: End::Killed,
                    told,
                    stop,
                    peak,
                });
            }
            _ => {}
        }
    }
}

/// Who warns this process may warn the program too, and it may be the first to act on it.
fn same_warning(status: std::process::ExitStatus, control: &mut dyn Control) -> Option<StopReason> {
    use std::os::unix::process::ExitStatusExt as _;
    let start = Instant::now();
    while (status.signal().is_some() || status.code() == Some(75))
        && control.stop_reason().is_none()
        && start.elapsed() < SAME_WARNING
    {
        std::thread::sleep(POLL);
    }
    control.stop_reason()
}

fn read_progress(path: &Path) -> Option<Progress> {
    let bytes = read_small(path, MAX_PROGRESS).ok()?; // not written yet, or nonsense
    Progress::parse(std::str::from_utf8(&bytes).ok()?)
}

/// Reads a regular file of limited size.
fn read_small(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    use std::io::{Error, ErrorKind, Read as _};
    // Opening a pipe would wait for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(limit + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let message = format!("it is larger than {limit} bytes");
        return Err(Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}
