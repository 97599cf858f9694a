//! `scheduler local`: a whole search on this machine, in one command.
//!
//! Makes the directory, starts the sampler and the trainers as child processes, runs the scheduler's loop in this one,
//! and ends with the analyzer's tables. A child that dies is started again; what it had in hand is taken back at once.
//! Run on the same directory, it goes on where it was.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use shared::cli::{DIRECTORY, report};
use shared::env::{self, Variable};
use shared::exit::{Code, Failure};
use shared::signal::Warning;
use shared::{Directory, owner};
use tracing::{info, warn};

use crate::fix_from::FixArgs;
use crate::init;
use crate::learn_from::LearnArgs;
use crate::progress::Progress;
use crate::run::{Scheduler, Turn};
use crate::state::Tally;
use crate::{devices, sample, status, working_directory};

/// What `scheduler local` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct LocalArgs {
    /// The search file
    search: PathBuf,
    /// The search directory; made if it does not exist, continued if it does
    #[arg(value_name = DIRECTORY)]
    directory: PathBuf,
    /// How many trainers work at the same time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    trainers: u32,
    /// GPUs of each trainer's own; default: one, shared where there are fewer than trainers
    ///
    /// They are taken from those that this command may use (`CUDA_VISIBLE_DEVICES`, else all), and each trainer and its
    /// program see their own only. 0: none.
    #[arg(long, value_name = "G")]
    gpus_per_trainer: Option<u16>,
    /// What trainers compute on: `auto`, `cpu`, `cuda`, `rocm` or `vulkan`
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: String,
    /// Threads of each trainer
    #[arg(long, default_value_t = 1, value_name = "N")]
    threads: u32,
    #[command(flatten)]
    fixed: FixArgs,
    #[command(flatten)]
    learn: LearnArgs,
}

/// The longest pause of the loop: here nothing is far away.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long children may take to save a checkpoint and leave.
const PATIENCE: Duration = Duration::from_secs(30);
/// A child that ends sooner than this has failed to start.
const SHORT_LIFE: Duration = Duration::from_secs(10);
/// Short lives in a row before the search is given up.
const MOST_SHORT_LIVES: u32 = 3;
/// Lines of a log that an error quotes.
const QUOTED_LINES: usize = 15;
/// Bytes of it that these are looked for in.
const MOST_QUOTED: u64 = 64 << 10;

/// Runs the whole search.
pub(crate) fn run(args: &LocalArgs) -> Result<Code> {
    let warning = Warning::listen().context("cannot listen for signals")?;
    let trainers = args.trainers as usize;
    let gpus = devices::share(
        &devices::visible(),
        trainers,
        args.gpus_per_trainer.map(usize::from),
    )
    .map_err(|message| Failure::new(Code::Usage, message))?;
    init::init(&args.search, &args.directory, &args.fixed, &args.learn)?;
    // Trainers work elsewhere, and hand paths on.
    let directory = Directory::open(&fs_err::canonicalize(&args.directory)?)?;
    sample::refuse(&directory)?;
    working_directory::of(directory.search())?;
    let programs = Programs::beside_this_one()?;
    for line in init::describe(&directory)?.lines() {
        report(line);
    }
    if directory.unstop()? {
        report("the search was stopped; it goes on now");
    }
    let mut scheduler = Scheduler::new(directory.clone(), LONGEST_PAUSE)?;
    let mut children = Children::new(&directory, &programs, args, gpus.as_deref());
    let mut progress = Progress::new(&directory)?;
    let ended = drive(&mut scheduler, &mut children, &mut progress, &warning);
    progress.end(&scheduler);
    match ended {
        Ok(End::Finished) => {
            // They have seen `finished.json` and leave.
            children.leave(false)?;
            programs.conclude(&args.directory)?;
            let mut rungs = scheduler.state().tally.rungs.iter();
            if rungs.all(|rung| rung.evaluated == 0) {
                return Err(no_loss(&directory, &scheduler.state().tally)?.into());
            }
            Ok(Code::Done)
        }
        Ok(End::Stopped) => {
            children.leave(false)?;
            report("the search is stopped; the same command goes on with it");
            Ok(Code::Done)
        }
        Ok(End::Warned(signal)) => {
            report(&format!("{signal}: trainers save what they have and leave"));
            children.leave(true)?;
            report("the same command goes on from here");
            Ok(Code::Again)
        }
        Err(error) => {
            // The first error is the one to report.
            if let Err(second) = children.leave(true) {
                warn!("cannot end all children: {second:#}");
            }
            Err(error)
        }
    }
}

/// The failure of a search that has nothing but failures.
fn no_loss(directory: &Directory, tally: &Tally) -> Result<Failure> {
    let mut message = "no job gave a loss".to_owned();
    for crash in status::crashes(directory, tally)? {
        // Writing to a String cannot fail.
        let _infallible = write!(message, "\n  {crash}");
    }
    Ok(Failure::new(Code::BadInput, message))
}

/// Why the loop ended.
enum End {
    Finished,
    Stopped,
    Warned(&'static str),
}

fn drive(
    scheduler: &mut Scheduler,
    children: &mut Children<'_>,
    progress: &mut Progress,
    warning: &Warning,
) -> Result<End> {
    loop {
        if let Some(signal) = warning.received() {
            return Ok(End::Warned(signal));
        }
        let turn = scheduler.turn()?;
        progress.show(scheduler);
        match turn {
            Turn::Finished => return Ok(End::Finished),
            Turn::Stopped => return Ok(End::Stopped),
            Turn::Acted | Turn::Idle => {}
        }
        // What others have in hand may show that the search can go on.
        if let Some(paused) = scheduler.paused()
            && scheduler.scanner().directory().jobs()?.claimed.is_empty()
        {
            let sentence = paused.sentence(scheduler.scanner().directory());
            let message = format!("the search waits for {sentence}");
            return Err(Failure::new(Code::BadInput, message).into());
        }
        for process in children.look_after()? {
            scheduler.report_dead(process)?;
        }
        scheduler.wait(turn, &mut || warning.received().is_some())?;
    }
}

/// The other programs, built together with this one.
struct Programs {
    folder: PathBuf,
}

impl Programs {
    fn beside_this_one() -> Result<Self> {
        let this = std::env::current_exe().context("cannot find this program's own file")?;
        let folder = this.parent().unwrap_or(Path::new("")).to_path_buf();
        for name in ["sampler", "trainer", "analyzer"] {
            let path = folder.join(name);
            if !path.is_file() {
                let message = format!(
                    "cannot find `{}`: build all programs (`cargo build --release`)",
                    path.display()
                );
                return Err(Failure::new(Code::Unforeseen, message).into());
            }
        }
        Ok(Self { folder })
    }

    fn command(&self, name: &str) -> Command {
        Command::new(self.folder.join(name))
    }

    /// The tables at the end, on stdout, and where to look next.
    fn conclude(&self, root: &Path) -> Result<()> {
        let runs: [&[&str]; 2] = [&["correlation", "--format", "table"], &["incumbent"]];
        for arguments in runs {
            let [command, options @ ..] = arguments else {
                continue;
            };
            let status = self
                .command("analyzer")
                .arg(command)
                .arg(root)
                .args(options)
                .status()
                .with_context(|| format!("cannot run `analyzer {command}`"))?;
            if !status.success() {
                warn!(
                    "`analyzer {command} {}` ended with {status}",
                    root.display()
                );
            }
        }
        let root = root.display();
        report(&format!(
            "\nresults: {root}/results   logs: {root}/logs\nlook next: `scheduler status {root}`, `analyzer trajectory {root} --format csv`"
        ));
        Ok(())
    }
}

/// The sampler and the trainers.
struct Children<'a> {
    directory: &'a Directory,
    programs: &'a Programs,
    posts: Vec<Post>,
}

/// A place for one child, filled again when it dies.
struct Post {
    /// `sampler`, `trainer-1`, …: the log's name.
    name: String,
    program: &'static str,
    arguments: Vec<String>,
    environment: Vec<(Variable, String)>,
    child: Option<Child>,
    started: Instant,
    short_lives: u32,
    /// Not before this, so that a program that cannot start is not started in a circle.
    next_start: Instant,
}

impl<'a> Children<'a> {
    fn new(
        directory: &'a Directory,
        programs: &'a Programs,
        args: &LocalArgs,
        gpus: Option<&[Vec<String>]>,
    ) -> Self {
        let trainer = [
            "--device",
            &args.device,
            "--threads",
            &args.threads.to_string(),
        ]
        .map(str::to_owned)
        .to_vec();
        let mut posts = vec![Post::new("sampler".into(), "sampler", Vec::new())];
        posts.extend((0..args.trainers).map(|worker| {
            let name = format!("trainer-{}", worker + 1);
            let mut post = Post::new(name, "trainer", trainer.clone());
            post.environment.push((env::WORKER, worker.to_string()));
            let gpus = gpus.map(|gpus| gpus[worker as usize].join(","));
            post.environment
                .extend(gpus.map(|gpus| (env::CUDA_VISIBLE_DEVICES, gpus)));
            post
        }));
        Self {
            directory,
            programs,
            posts,
        }
    }

    /// Starts those that are not running; returns the process ids of those that have died since the last look.
    fn look_after(&mut self) -> Result<Vec<u32>> {
        let mut dead = Vec::new();
        for post in &mut self.posts {
            let log = self
                .directory
                .layout()
                .program_log(&post.name, &owner::host_name());
            if let Some(child) = &mut post.child {
                let Some(status) = child.try_wait().context("cannot wait for a child")? else {
                    continue;
                };
                dead.push(child.id());
                post.child = None;
                post.mourn(status, &log)?;
            }
            if Instant::now() >= post.next_start {
                post.start(self.programs, self.directory, &log)?;
            }
        }
        Ok(dead)
    }

    /// Waits until all have left; tells them to, if `tell`, and ends those that do not listen.
    fn leave(&mut self, tell: bool) -> Result<()> {
        use rustix::process::Signal;
        if tell {
            self.signal(Signal::TERM);
        }
        let start = Instant::now();
        let mut is_told = tell;
        loop {
            let mut is_any_left = false;
            for post in &mut self.posts {
                if let Some(child) = &mut post.child {
                    match child.try_wait().context("cannot wait for a child")? {
                        Some(_status) => post.child = None,
                        None => is_any_left = true,
                    }
                }
            }
            if !is_any_left {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                if is_told {
                    self.signal(Signal::KILL);
                } else {
                    // Without news of the end they are told as at a Ctrl-C.
                    self.signal(Signal::TERM);
                    is_told = true;
                }
                if start.elapsed() > 2 * PATIENCE {
                    self.signal(Signal::KILL);
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let running = self.posts.iter().filter_map(|post| post.child.as_ref());
        for child in running {
            let process = i32::try_from(child.id())
                .ok() // process ids are small
                .and_then(rustix::process::Pid::from_raw);
            if let Some(process) = process {
                // One that has just ended needs no signal.
                let _ended = rustix::process::kill_process(process, signal);
            }
        }
    }
}

impl Post {
    fn new(name: String, program: &'static str, arguments: Vec<String>) -> Self {
        let now = Instant::now();
        Self {
            name,
            program,
            arguments,
            environment: Vec::new(),
            child: None,
            started: now,
            short_lives: 0,
            next_start: now,
        }
    }

    fn start(&mut self, programs: &Programs, directory: &Directory, log: &Path) -> Result<()> {
        let file = shared::fs::open_log(log)?;
        let errors = file.try_clone().context("cannot share a log file")?;
        let mut command = programs.command(self.program);
        command
            .arg("run")
            .arg(directory.layout().root())
            .args(&self.arguments);
        for (variable, value) in &self.environment {
            command.env(variable.name(), value);
        }
        if let Some(folder) = &directory.search().working_directory {
            command.current_dir(folder);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start `{}`", self.program))?;
        info!(
            "started {} process={} log={}",
            self.name,
            child.id(),
            log.display()
        );
        self.started = Instant::now();
        self.child = Some(child);
        Ok(())
    }

    /// A child has ended although there is work: notes it, and gives up if starting again does not help.
    fn mourn(&mut self, status: ExitStatus, log: &Path) -> Result<()> {
        if status.success() {
            // It has seen the end of the search before this process did.
            self.next_start = Instant::now() + Duration::from_secs(1);
            return Ok(());
        }
        let is_short = self.started.elapsed() < SHORT_LIFE;
        self.short_lives = if is_short { self.short_lives + 1 } else { 0 };
        // A wrong input does not get better by trying again.
        let is_input = status.code() == Some(Code::BadInput as i32);
        if is_input || self.short_lives >= MOST_SHORT_LIVES {
            let code = [Code::BadInput, Code::NewerVersion, Code::Directory]
                .into_iter()
                .find(|code| status.code() == Some(*code as i32))
                .unwrap_or(Code::Unforeseen);
            let message = format!(
                "{} cannot work: it ended with {status}{}; the end of `{}`:\n{}",
                self.name,
                if is_input { "" } else { ", again and again" },
                log.display(),
                quote(log)
            );
            return Err(Failure::new(code, message).into());
        }
        warn!("{} ended with {status} and is started again", self.name);
        self.next_start = Instant::now() + Duration::from_secs(u64::from(self.short_lives));
        Ok(())
    }
}

/// The last lines of a log.
fn quote(log: &Path) -> String {
    let bytes = shared::fs::end_of_log(log, 0, MOST_QUOTED).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(QUOTED_LINES);
    let quoted: Vec<String> = lines[from..]
        .iter()
        .map(|line| format!("  {line}"))
        .collect();
    quoted.join("\n")
}
