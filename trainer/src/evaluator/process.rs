//! A worker's process: started, handed jobs, watched, ended.
//!
//! The program is in a process group of its own. SIGTERM goes to the program alone, because helpers of its own (those that
//! load data, for example) must not end while it saves; what is left of the group when it has ended is killed, so that
//! nothing holds the device or writes into the checkpoints beside the next job. A guard does that if this process is
//! killed: it leads the group, so it is there before the program is.

use std::ffi::OsString;
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::output::{Log, Recent};

/// How often a program is looked after.
pub(crate) const POLL: Duration = Duration::from_millis(20);
/// How long what a program has printed may take to arrive after its end.
const LAST_OUTPUT: Duration = Duration::from_secs(1);
/// How long a program that is not needed any more has to end by itself.
const DISMISSAL: Duration = Duration::from_secs(5);
/// The longest line of standard output that may be an answer.
const MAX_LINE: usize = 64 << 10;
/// The guard of the group that it leads: when its input ends, whoever held the other end is no more. Signals for the
/// whole group are for the others.
const GUARD: &str = "trap '' HUP INT TERM USR1 USR2; read -r _; kill -s KILL 0";

/// How a program is started.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    /// The program and its arguments.
    pub(crate) command: Vec<OsString>,
    /// Whether it reads jobs from standard input, one path a line, and answers each with the same line.
    pub(crate) keep_alive: bool,
    /// Where it runs; default: where this process does.
    pub(crate) working_directory: Option<PathBuf>,
}

/// In the place of a job file's path: the paths come on standard input.
const FROM_INPUT: &str = "-";

/// What a worker's line that says it is ready begins with.
pub(crate) const READY: &str = "ready ";

/// A line on a program's standard output that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The path of a job file: its result is written.
    Path(String),
    /// What begins with [`READY`].
    Ready,
}

/// A program and all that it has started; dropping it ends them.
#[derive(Debug)]
pub(crate) struct Process {
    program: Child,
    pid: Pid,
    /// Holds the reading end of a pipe whose other end is here.
    guard: Child,
    /// The guard's id, which is the group's.
    leader: Pid,
    /// From then on the ids may be somebody else's.
    has_been_waited_for: bool,
    /// Where jobs are handed over, if it is kept alive.
    input: Option<ChildStdin>,
    /// Where it prints what is no answer.
    stderr: PipeReader,
    output: Arc<Mutex<Output>>,
    /// Lines that answer; ends when nobody can print any more.
    answers: Receiver<String>,
}

/// Where what is printed goes.
#[derive(Debug, Default)]
struct Output {
    /// The log of the job in hand.
    log: Option<Log>,
    recent: Recent,
    /// The line that is waited for.
    expected: Option<Answer>,
}

impl Process {
    /// Starts a program; `log` takes what it prints. With `job`, the path of its only job is its last argument.
    pub(crate) fn start(
        start: &Start,
        job: Option<&Path>,
        log: Option<Log>,
    ) -> anyhow::Result<Self> {
        let (name, arguments) = start
            .command
            .split_first()
            .context("the command is empty")?;
        let (stdout, stdout_writer) = io::pipe()?;
        let (stderr, stderr_writer) = io::pipe()?;
        let mut guard = guard()?;
        let leader = pid_of(&guard);
        // A program that is just being started holds the guard's input open, too, until it is in the group: however
        // early this process is killed, the guard finds it there.
        let mut command = Command::new(name);
        command
            .args(arguments)
            .stdin(if start.keep_alive {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .process_group(leader.as_raw_nonzero().get());
        if let Some(folder) = &start.working_directory {
            command.current_dir(folder);
        }
        match job {
            Some(job) => command.arg(job).env(shared::env::JOB.name(), job),
            None => command.env(shared::env::JOB.name(), FROM_INPUT),
        };
        if let Ok(path) = std::env::join_paths(shared::env::program_folders()) {
            command.env("PATH", path);
        }
        if start.keep_alive {
            command.stdout(stdout_writer).stderr(stderr_writer);
        } else {
            // In the order in which it was printed.
            command
                .stdout(stdout_writer.try_clone()?)
                .stderr(stdout_writer);
            drop(stderr_writer);
        }
        let started = command.spawn();
        // This process's copies of the writing ends, without which the pipes end with the program.
        drop(command);
        let mut program = match started {
            Ok(program) => program,
            Err(error) => {
                // The error is what the caller hears of.
                let _ended = guard.kill().and_then(|()| guard.wait());
                return Err(error)
                    .with_context(|| cannot_start(name, start.working_directory.as_deref()));
            }
        };
        let output = Arc::new(Mutex::new(Output {
            log,
            ..Output::default()
        }));
        let (answer, answers) = channel();
        let stderr_pump = stderr.try_clone()?;
        pump(stderr_pump, &output, answer.clone(), false);
        pump(stdout, &output, answer, true);
        prefer_for_killing(program.id());
        Ok(Self {
            pid: pid_of(&program),
            input: program.stdin.take(),
            program,
            guard,
            leader,
            has_been_waited_for: false,
            stderr,
            output,
            answers,
        })
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.program.id()
    }

    /// From now on such a line on standard output is an answer; everything else goes to the log.
    pub(crate) fn expect(&self, answer: Answer) {
        self.lock().expected = Some(answer);
    }

    /// What is printed from now on goes to `log`.
    pub(crate) fn begin_log(&self, log: Log) {
        let mut output = self.lock();
        output.log = Some(log);
        output.recent = Recent::default();
    }

    /// The last of what was printed, and whether there is a log of it; what is printed later goes nowhere.
    pub(crate) fn end_log(&self) -> (String, bool) {
        self.wait_for_output();
        let mut output = self.lock();
        let is_there = output.log.take().is_some_and(|mut log| {
            log.finish();
            log.is_there()
        });
        (output.recent.text(), is_there)
    }

    /// Waits for what has been printed to the other pipe than the answer, and is still on its way.
    fn wait_for_output(&self) {
        let is_waiting = || rustix::io::ioctl_fionread(&self.stderr).is_ok_and(|bytes| bytes > 0);
        let start = Instant::now();
        while is_waiting() && start.elapsed() < LAST_OUTPUT {
            std::thread::sleep(Duration::from_millis(1));
            if !is_waiting() {
                // Read, and about to be written.
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// Hands over a line; an error if the program does not read any more.
    pub(crate) fn say(&mut self, line: &str) -> io::Result<()> {
        let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        input.write_all(format!("{line}\n").as_bytes())?;
        input.flush()
    }

    /// Waits a moment for an answer.
    pub(crate) fn answer(&self) -> Option<String> {
        match self.answers.recv_timeout(POLL) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                // Nobody prints any more, but it may go on.
                std::thread::sleep(Duration::from_millis(2));
                None
            }
        }
    }

    /// Asks the program to end.
    pub(crate) fn terminate(&self) {
        // A program that has just ended cannot be told, and need not be.
        let _ended = rustix::process::kill_process(self.pid, Signal::TERM);
    }

    /// Whether the program has ended. It is not waited for: until then its id is nobody else's.
    pub(crate) fn has_ended(&self) -> anyhow::Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = rustix::process::waitid(WaitId::Pid(self.pid), options);
        Ok(status.context("cannot look after the program")?.is_some())
    }

    /// Kills what is left of the group, waits for the program, and a moment for what it has printed.
    pub(crate) fn end(&mut self) -> anyhow::Result<ExitStatus> {
        let status = self.kill().context("cannot wait for the program")?;
        let start = Instant::now();
        while start.elapsed() < LAST_OUTPUT {
            match self.answers.recv_timeout(LAST_OUTPUT) {
                Ok(_late) => {}
                Err(_over) => break,
            }
        }
        Ok(status)
    }

    fn kill(&mut self) -> io::Result<ExitStatus> {
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

    /// Lets a program go that has no job in hand: its input ends, and it has some seconds to do the same.
    pub(crate) fn dismiss(mut self) {
        drop(self.input.take());
        let start = Instant::now();
        while start.elapsed() < DISMISSAL && matches!(self.has_ended(), Ok(false)) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Output> {
        lock(&self.output)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // After an error only, which is what the caller hears of.
        let _ended = self.kill();
    }
}

fn lock(output: &Mutex<Output>) -> MutexGuard<'_, Output> {
    output.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cannot_start(name: &std::ffi::OsStr, folder: Option<&Path>) -> String {
    let name = name.display();
    match folder {
        Some(folder) => format!("cannot start `{name}` in `{}`", folder.display()),
        None => format!("cannot start `{name}`"),
    }
}

/// Where memory runs out, the kernel is to end a worker rather than the trainer that knows what to make of it.
fn prefer_for_killing(process: u32) {
    let path = format!("/proc/{process}/oom_score_adj");
    if let Ok(mut file) = std::fs::OpenOptions::new().write(true).open(path) {
        // Of no use where it cannot be said.
        let _unheard = file.write_all(b"500");
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

/// Reads what a program prints until nobody can print any more, and holds `answer` until then; `has_answers`: looks for
/// them, line by line.
fn pump(
    mut from: PipeReader,
    output: &Arc<Mutex<Output>>,
    answer: Sender<String>,
    has_answers: bool,
) {
    let output = Arc::clone(output);
    let pump = move || {
        let mut buffer = vec![0; 64 << 10];
        let mut line = Vec::new();
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_gone) => break,
            };
            if !has_answers {
                lock(&output).print(&buffer[..read]);
                continue;
            }
            for piece in buffer[..read].split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(piece);
                if line.ends_with(b"\n")
                    || line.len() >= MAX_LINE
                    || !lock(&output).may_answer(&line)
                {
                    lock(&output).take(&mut line, &answer);
                }
            }
        }
        lock(&output).print(&line);
    };
    // It ends with the program's output.
    let _thread = std::thread::spawn(pump);
}

impl Output {
    fn print(&mut self, bytes: &[u8]) {
        self.recent.print(bytes);
        match &mut self.log {
            Some(log) => log.print(bytes),
            // Before the first job, or between two.
            None => shared::cli::report(String::from_utf8_lossy(bytes).trim_end()),
        }
    }

    /// Whether a line that has begun so may become an answer.
    fn may_answer(&self, line: &[u8]) -> bool {
        match &self.expected {
            None => false,
            Some(Answer::Path(path)) => path.as_bytes().starts_with(line),
            Some(Answer::Ready) => {
                READY.as_bytes().starts_with(line) || line.starts_with(READY.as_bytes())
            }
        }
    }

    fn is_answer(&self, line: &[u8]) -> bool {
        match &self.expected {
            None => false,
            // A program may have printed something without an end of line before.
            Some(Answer::Path(path)) => {
                line.ends_with(b"\n") && line.trim_ascii_end().ends_with(path.as_bytes())
            }
            Some(Answer::Ready) => line.starts_with(READY.as_bytes()) && line.ends_with(b"\n"),
        }
    }

    /// Passes an answer on; whatever else it is, is printed.
    fn take(&mut self, line: &mut Vec<u8>, answer: &Sender<String>) {
        if self.is_answer(line) {
            if let Some(Answer::Path(path)) = self.expected.take() {
                self.print(&line[..line.trim_ascii_end().len() - path.len()]);
            }
            let text = String::from_utf8_lossy(line).trim_end().to_owned();
            // Nobody waits any more where the process is being ended.
            let _unheard = answer.send(text);
        } else {
            self.print(line);
        }
        line.clear();
    }
}
