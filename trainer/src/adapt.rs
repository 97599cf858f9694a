//! `tandem-run`: an unchanged script as the worker of a job. It is started with the job's values among its arguments; what
//! it prints goes through, and is searched for the metric.

mod readings;

use std::io::{PipeReader, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser as _;
use rustix::process::{Pid, Signal};
use serde_json::json;
use shared::adapter::{Adapter, PLACES, Values, amount};
use shared::cli::{report, without_colours};
use shared::exit::{Code, Failure, code_of};
use shared::signal::Warning;
use shared::{env, fs};

use self::readings::Readings;
use crate::checks::Checks;
use crate::evaluator::contract::{JobFile, Progress};

/// How often the script is looked after while it prints nothing.
const POLL: Duration = Duration::from_millis(20);
/// How long what it has printed may take to arrive after its end.
const LAST_OUTPUT: Duration = Duration::from_secs(1);
/// How often progress is told.
const TELL: Duration = Duration::from_millis(100);
/// The longest line that is searched; what is longer is searched in pieces.
const MAX_LINE: usize = 64 << 10;

/// The program: its exit code is the script's, or 75 after a warning.
pub fn main() -> ExitCode {
    let adapter = Adapter::parse_from(arguments());
    match run(&adapter) {
        Ok(code) => code,
        Err(error) => {
            report(&format!("tandem-run: error: {error:#}"));
            code_of(&error).into()
        }
    }
}

/// The command line without the job's path, which the trainer puts behind the script's arguments.
fn arguments() -> Vec<String> {
    let mut arguments: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    if arguments.len() > 1 && env::JOB.get() == arguments.last().cloned() {
        arguments.pop();
    }
    arguments
}

fn run(adapter: &Adapter) -> Result<ExitCode> {
    if let Some(found) = adapter.unknown_option() {
        let message = format!("expected a program after the options, found {found}");
        return Err(Failure::new(Code::Usage, message).into());
    }
    let warning = Warning::listen().context("cannot listen for signals")?;
    let path = match env::JOB.get() {
        Some(path) if path != "-" => PathBuf::from(path),
        Some(_) => {
            let message =
                "a script is started once a job: leave `keep_alive` out of the search file";
            return Err(Failure::new(Code::BadInput, message).into());
        }
        None => {
            let message = "TANDEM_JOB is not set: a trainer starts this; by hand: `trainer job DIR/jobs/open/FILE.json`";
            return Err(Failure::new(Code::Usage, message).into());
        }
    };
    let job: JobFile = serde_json::from_slice(&fs::read_named(&path)?)
        .with_context(|| format!("`{}` is no job", path.display()))?;
    let command = adapter
        .command_for(&values_of(&job))
        .map_err(|message| Failure::new(Code::BadInput, format!("in the command: {message}")))?;
    let (mut script, lines) = match start(&command) {
        Ok(started) => started,
        // As where the trainer cannot start a program: not installed on this node.
        Err(error) => {
            return Err(Failure::because(Code::Again, cannot_start(&command), error).into());
        }
    };
    let keeps_checkpoints = adapter
        .command
        .iter()
        .any(|word| word.contains("{checkpoints}"));
    let mut readings = Readings::new(adapter, amount(job.budget), job.budget);
    let mut checks = Checks::new(&job.checks, job.budget.amount, &[]);
    let mut tell = Tell::new(&job.progress, keeps_checkpoints);
    let status = watch(&mut script, &lines, &warning, |line| {
        if readings.read(&without_colours(line)) {
            let spent = readings.spent(tell.since.elapsed());
            let is_check = checks.is_due(spent);
            if let Some(loss) = readings.last_loss() {
                // The trainer decides what comes of it.
                let _stop = checks.see(spent, loss);
            }
            tell.tell(spent, &checks, is_check);
        }
    })?;
    if warning.received().is_some() {
        return Ok(Code::Again.into());
    }
    if status.success() {
        fs::hand_over(&job.result, &serde_json::to_vec(&readings.result())?)?;
    }
    Ok(exit_code(status))
}

fn cannot_start(command: &[String]) -> String {
    format!(
        "cannot start `{}`",
        command.first().map_or("", String::as_str)
    )
}

/// What stands at the places of the script's arguments.
fn values_of(job: &JobFile) -> Values<'_> {
    let seed = job.seed % (1 << 32);
    let places = PLACES.map(|name| {
        let value = match name {
            "budget" => amount(job.budget).to_string(),
            "seed" => seed.to_string(),
            "checkpoints" => job.checkpoints.display().to_string(),
            _ => job.job.to_string(),
        };
        (name, value)
    });
    let own = job.configuration.iter();
    Values {
        named: own
            .map(|(name, value)| (name, value.to_string()))
            .chain(places)
            .collect(),
        inactive: job.inactive.iter().map(String::as_str).collect(),
    }
}

/// Starts the script; what it prints, to stdout or stderr, arrives as lines and has been passed on.
fn start(command: &[String]) -> Result<(Child, Receiver<String>)> {
    let (name, arguments) = command.split_first().context("the command is empty")?;
    let (output, writer) = std::io::pipe()?;
    let mut command = Command::new(name);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    if env::PYTHONUNBUFFERED.get().is_none() {
        // Else Python keeps what it prints until there is a block of it.
        command.env(env::PYTHONUNBUFFERED.name(), "1");
    }
    let script = command.spawn()?;
    let (sender, lines) = channel();
    // It ends with the script's output.
    let _thread = std::thread::spawn(move || pass_on(output, |line| sender.send(line).is_ok()));
    Ok((script, lines))
}

/// Passes on what is printed, and hands it over line by line. A carriage return ends a line, too: progress bars use it.
fn pass_on(mut output: PipeReader, mut hand_over: impl FnMut(String) -> bool) {
    let mut buffer = vec![0; 64 << 10];
    let mut line: Vec<u8> = Vec::new();
    loop {
        let read = match output.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_gone) => break,
        };
        let mut stdout = std::io::stdout().lock();
        // A log that cannot be written is no reason to stop.
        let _unseen = stdout
            .write_all(&buffer[..read])
            .and_then(|()| stdout.flush());
        for piece in buffer[..read].split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            line.extend_from_slice(piece);
            if line.ends_with(b"\n") || line.ends_with(b"\r") || line.len() >= MAX_LINE {
                let text = String::from_utf8_lossy(&line).into_owned();
                line.clear();
                if !hand_over(text) {
                    return;
                }
            }
        }
    }
    hand_over(String::from_utf8_lossy(&line).into_owned());
}

/// Waits for the script's end, and tells it of a warning.
fn watch(
    script: &mut Child,
    lines: &Receiver<String>,
    warning: &Warning,
    mut read: impl FnMut(&str),
) -> Result<ExitStatus> {
    let mut is_told = false;
    let mut ended: Option<(ExitStatus, Instant)> = None;
    loop {
        match lines.recv_timeout(POLL) {
            Ok(line) => read(&line),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => match ended {
                Some((status, _)) => return Ok(status),
                None => std::thread::sleep(POLL),
            },
        }
        if warning.received().is_some() && !is_told {
            is_told = true;
            let pid = i32::try_from(script.id()).ok().and_then(Pid::from_raw);
            // One that has just ended cannot be told, and need not be.
            let _ended = pid.map(|pid| rustix::process::kill_process(pid, Signal::TERM));
        }
        match ended {
            // Something that it has started still holds its output.
            Some((status, at)) if at.elapsed() >= LAST_OUTPUT => return Ok(status),
            Some(_) => {}
            None => ended = script.try_wait()?.map(|status| (status, Instant::now())),
        }
    }
}

/// As shells say it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    let code = code.and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Writes how far the script is.
struct Tell<'a> {
    path: &'a Path,
    keeps_checkpoints: bool,
    since: Instant,
    told_at: Option<Instant>,
}

impl<'a> Tell<'a> {
    fn new(path: &'a Path, keeps_checkpoints: bool) -> Self {
        Self {
            path,
            keeps_checkpoints,
            since: Instant::now(),
            told_at: None,
        }
    }

    fn tell(&mut self, spent: f64, checks: &Checks<'_>, is_check: bool) {
        if !is_check && self.told_at.is_some_and(|at| at.elapsed() < TELL) {
            return;
        }
        self.told_at = Some(Instant::now());
        let progress = Progress {
            spent,
            // What a script has done is lost with it, unless it was told where to keep it.
            saved: (!self.keeps_checkpoints).then_some(0.0),
            checks: checks.seen().to_vec(),
            ..Progress::default()
        };
        let written = fs::hand_over(self.path, json!(progress).to_string().as_bytes());
        if let Err(error) = written {
            report(&format!("tandem-run: {error}"));
        }
    }
}
