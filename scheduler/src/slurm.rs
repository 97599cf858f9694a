//! `scheduler slurm`: fills SLURM's queue with trainers and one coordinator.
//!
//! Everything that is SLURM's is in this folder: [`System`](crate::batch::System) is what the rest knows of it.

mod answer;
mod args;
mod limits;
mod options;
mod script;
mod state;
mod system;
mod time;
mod writer;

pub(crate) use args::SlurmArgs;
pub(crate) use system::Slurm;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::Mode;
use shared::cli::{print, report};
use shared::exit::{Code, Failure};
use shared::fs;
use shared::objective::Objective;
use shared::{Directory, env};
use tracing::warn;

use crate::batch::fill::Queue;
use crate::batch::{self, System as _, keep, submission};
use crate::{programs, working_directory};

use writer::Writer;

/// The user's own lines of shell in `slurm/`, for all scripts that are submitted from then on.
const PRELUDE: &str = "prelude.sh";
/// A prelude is not larger, in bytes.
const LARGEST_PRELUDE: usize = 64 << 10;

/// Submits what is missing.
pub(crate) fn run(args: &SlurmArgs) -> Result<Code> {
    // With the name that the user gave, if it is none.
    Directory::open(&args.directory)?;
    let root = fs_err::canonicalize(&args.directory)?;
    check_path(&root).map_err(usage)?;
    let directory = Directory::open(&root)?;
    if args.cancel {
        return cancel(&directory);
    }
    let groups = args.groups().map_err(usage)?;
    if directory.flags()?.is_finished {
        report("the search is finished: nothing to submit");
        return Ok(Code::Done);
    }
    let this = std::env::current_exe().context("cannot find this program's own file")?;
    let programs = this.parent().unwrap_or(Path::new("")).to_path_buf();
    let working_directory = working_directory(&directory)?;
    check(args, &directory, &programs, &working_directory)?;
    let writer = Writer {
        prelude: prelude(args, &directory)?,
        args: args.clone(),
        root: root.clone(),
        programs,
        working_directory,
    };
    let groups: Vec<batch::Group> = groups.iter().map(args::TrainerGroup::group).collect();
    let queue = Queue {
        system: &Slurm,
        directory: &directory,
        groups: &groups,
        write: &|order, path| writer.batch(order, path),
    };
    if args.dry_run {
        return dry_run(&queue);
    }
    if directory.flags()?.is_stopped {
        warn!(
            "the search is stopped: programs that start will leave at once (`scheduler stop --undo`)"
        );
    }
    if Slurm.own_job().is_none() {
        let unheard = env::unheard_by_sbatch();
        if !unheard.is_empty() {
            warn!(
                "{} not heard by sbatch: give arguments after `--`",
                unheard.join(", ")
            );
        }
    }
    let_nobody_write();
    if args.prelude.is_some() {
        let path = submission::folder(&Slurm, &directory).join(PRELUDE);
        fs::replace(&path, writer.prelude.as_bytes())?;
    }
    if args.keep.is_some() {
        return keep::keep(&queue, args.poll_s);
    }
    let last = submission::last_number(&Slurm, &directory)?;
    let tasks = queue.tasks()?;
    for queued in batch::count(&root, &tasks) {
        print(&format!("in the queue: {}\n", batch::describe(&queued)))?;
    }
    let orders = queue.missing(&tasks, &[]);
    if orders.is_empty() {
        print("nothing to submit: all that was asked for is queued or running\n")?;
    }
    queue.submit(&orders, &tasks, last)?;
    Ok(Code::Done)
}

/// What a state means, by its name.
#[cfg(test)]
pub(crate) fn meaning(state: &str) -> batch::Meaning {
    state::JobState::parse(state).meaning()
}

fn usage(message: String) -> Failure {
    Failure::new(Code::Usage, message)
}

/// Whether a batch script and SLURM can name this directory. SLURM knows no way to write these characters in an
/// `#SBATCH` line.
fn check_path(root: &Path) -> Result<(), String> {
    let is_bad = |c: char| c == '"' || c == '\\' || c.is_control();
    match root.to_str() {
        Some(text) if !text.contains(is_bad) => Ok(()),
        _ => Err(format!(
            "the search directory `{}` cannot be used with SLURM: no double quote, backslash or control character \
             may be in its path, nor what is not UTF-8",
            root.to_string_lossy().escape_debug()
        )),
    }
}

/// The folder in which trainers start: the one that was recorded, if the search depends on it.
fn working_directory(directory: &Directory) -> Result<PathBuf> {
    let search = directory.search();
    if let Some(recorded) = working_directory::of(search)? {
        return Ok(recorded.to_path_buf());
    }
    match search.objective {
        Objective::Benchmark(_) => Ok(directory.layout().root().to_path_buf()),
        // Made by a version that recorded none, or nothing depends on it.
        Objective::Command(_) | Objective::Network(_) => {
            std::env::current_dir().context("cannot find the working directory")
        }
    }
}

/// What can be known to go wrong before anything is submitted.
fn check(
    args: &SlurmArgs,
    directory: &Directory,
    programs: &Path,
    working_directory: &Path,
) -> Result<()> {
    let is_forced = args.force || args.dry_run;
    if let Err(failure) = programs::check_all(programs) {
        if !is_forced {
            return Err(failure.into());
        }
        warn!("{failure}");
    }
    if let Objective::Command(command) = &directory.search().objective {
        for warning in programs::doubts(&command.command, working_directory) {
            warn!("{warning}");
        }
    }
    match limits::check(directory.search(), &args.time_limits_s()) {
        limits::Fit::All => {}
        limits::Fit::Some(message) => warn!("{message}"),
        limits::Fit::None(message) if is_forced => warn!("{message}"),
        limits::Fit::None(message) => {
            return Err(usage(format!("{message}; --force submits all the same")).into());
        }
    }
    Ok(())
}

/// The prelude that is given, or the one that was given before.
fn prelude(args: &SlurmArgs, directory: &Directory) -> Result<String> {
    let bad = |path: &Path, why: &str| {
        let message = format!("the prelude `{}` {why}", path.display());
        Failure::new(Code::BadInput, message)
    };
    let stored = submission::folder(&Slurm, directory).join(PRELUDE);
    let (path, bytes) = if let Some(path) = &args.prelude {
        (path, fs::read_named(path)?)
    } else {
        (&stored, fs::read_if_there(&stored)?.unwrap_or_default())
    };
    if bytes.len() > LARGEST_PRELUDE {
        return Err(bad(path, "is too large: 64 KiB at most").into());
    }
    let text = String::from_utf8(bytes).map_err(|_not| bad(path, "is not text in UTF-8"))?;
    if text.contains('\0') {
        return Err(bad(path, "is no text: it has a zero byte").into());
    }
    let text = text.replace("\r\n", "\n");
    if args.prelude.is_some() && text.lines().any(|line| line.starts_with("#SBATCH")) {
        warn!(
            "sbatch does not hear the #SBATCH lines of `{}`: give them after `--`",
            path.display()
        );
    }
    Ok(text)
}

/// The scripts and commands that would be submitted if the queue were empty.
fn dry_run(queue: &Queue<'_>) -> Result<Code> {
    let (script, record) = submission::numbers(&Slurm, queue.directory)?;
    let mut text = String::new();
    for (number, order) in (script.max(record) + 1..).zip(queue.missing(&[], &[])) {
        let batch = (queue.write)(&order, &queue.script_path(&order, number));
        let group = order
            .role
            .group
            .map_or_else(String::new, |group| format!(" of group {group}"));
        writeln!(
            text,
            "# ---- {}{group} ----\n# {}\n{}",
            order.role.kind.as_str(),
            script::in_shell(&batch.command),
            batch.script
        )?;
    }
    print(&text)?;
    Ok(Code::Done)
}

/// Takes all jobs of a search out of the queue.
fn cancel(directory: &Directory) -> Result<Code> {
    let root = directory.layout().root();
    let mut live = Slurm.tasks(&submission::names(&Slurm, directory, root)?)?;
    live.retain(|task| task.meaning.is_live());
    if live.is_empty() {
        print("nothing to cancel: nothing of this search is queued or running\n")?;
        return Ok(Code::Done);
    }
    let mut jobs: Vec<String> = live.iter().map(|task| task.job.clone()).collect();
    jobs.sort_unstable();
    jobs.dedup();
    Slurm.cancel(&jobs)?;
    for queued in batch::count(root, &live) {
        print(&format!("cancelled: {}\n", batch::describe(&queued)))?;
    }
    Ok(Code::Done)
}

/// sbatch takes the umask along, with which SLURM makes the logs.
fn let_nobody_write() {
    let all = Mode::RWXU | Mode::RWXG | Mode::RWXO;
    // It can only be read by being set.
    let umask = rustix::process::umask(all);
    rustix::process::umask(umask | Mode::WOTH);
}
