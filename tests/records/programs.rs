//! What the programs do in a search directory that holds a record from anywhere: all that reads it, and then a few
//! turns of scheduler, sampler and trainer with the end of all leases in between.

use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args as _, FromArgMatches as _};
use scheduler::fix_from::FixArgs;
use scheduler::learn_from::LearnArgs;
use scheduler::run::{Scheduler, Turn};
use scheduler::scan::Scanner;
use scheduler::status::{self, FileClock};
use shared::cli::Format;
use shared::objective::Objective;
use shared::search::{Limit, Search};
use shared::signal::Warning;
use shared::{ConfigurationId, Directory, clock, format, owner};
use trainer::device::DeviceChoice;
use trainer::evaluator::{Compute, Evaluator};
use trainer::heartbeat::{Computer, HeartbeatWriter, JobStatus};
use trainer::run::Trainer;
use trainer::time_limit::TimeLimit;

use super::base;
use super::disk::{Disk, ROOT};

/// The longest pause of every program.
const POLL: Duration = Duration::from_secs(5);
/// Turns of one scheduler in a row in which it does something: many more than there can be something to do.
const MOST_TURNS: usize = 40;

/// What is done in a search directory.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    /// Turns of all programs.
    pub(crate) num_turns: usize,
    /// What is looked at.
    pub(crate) looks: Vec<Look>,
    /// Whether that is before the turns.
    pub(crate) looks_before: bool,
    /// Whether that is after them.
    pub(crate) looks_after: bool,
}

/// A command that only looks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Look {
    Status,
    Replay,
    Preview,
    Explain,
}

/// Runs everything that reads a search directory or works in it. Errors are answers; panics are not.
pub(crate) fn run_all(disk: &Rc<Disk>, work: &Work) {
    let before = drafts(disk);
    disk.with(|| {
        let root = Path::new(ROOT);
        let Ok(directory) = Directory::open(root) else {
            return;
        };
        let search = directory.search();
        if !is_modest(search) {
            return;
        }
        if work.looks_before {
            look(root, &work.looks);
        }
        // What is not offered, proposed or evaluated for want of a usable directory is not the matter here.
        let mut scheduler = Scheduler::new(directory.clone(), POLL);
        for _ in 0..work.num_turns {
            let _unusable = scheduler.as_mut().map(schedule);
            let _waits = sampler::run::answer(directory.clone(), true, POLL, &Warning::default());
            let _unusable = scheduler.as_mut().map(schedule);
            let _leaves = train(&directory);
            disk.pass(directory.lease().saturating_mul(2));
        }
        if work.looks_after {
            look(root, &work.looks);
        }
    });
    assert_all_is_in_place(disk, &before);
}

/// Whether a search may be run at all here: it starts no program, and asks for no more than a person would wait for.
pub(crate) fn is_modest(search: &Search) -> bool {
    // Seconds that its trainings sleep, slice by slice.
    let is_benchmark = match &search.objective {
        Objective::Benchmark(benchmark) => {
            let most = search.ladder.budget(search.ladder.top()).amount;
            benchmark.seconds_per_unit * most <= 20.0
        }
        Objective::Network(_) | Objective::Command(_) => false,
    };
    let is_small = match search.limit {
        Limit::Brackets(number) | Limit::Configurations(number) => number <= 10_000,
    };
    let num_first = (0..u32::from(search.ladder.num_rungs()) * 2)
        .flat_map(|bracket| search.bracket_sizes(bracket))
        .max();
    is_benchmark
        && is_small
        && num_first.is_none_or(|number| number <= 10_000)
        && search.space.num_dimensions() <= 64
        && search.trainers.ahead <= 20
        && search.bohb.num_samples <= 200
}

/// Looks; what changes nothing is an error at most.
fn look(root: &Path, looks: &[Look]) {
    let Ok(directory) = Directory::observe(root) else {
        return;
    };
    for look in looks {
        match look {
            Look::Status => {
                let _shown = show_status(root);
                let _weighed = directory.heartbeats();
                let _read = directory.all_results();
            }
            Look::Replay => {
                let _replayed = sampler::replay::replay(&directory);
            }
            Look::Preview => {
                let _proposed = sampler::preview::preview(&directory, 2);
            }
            Look::Explain => {
                for id in [0, 1, 4] {
                    let _explained = sampler::explain::explain(&directory, ConfigurationId(id));
                }
            }
        }
    }
}

fn show_status(root: &Path) -> anyhow::Result<()> {
    let (mut scanner, mut state) = Scanner::load(Directory::observe(root)?)?;
    scanner.scan(&mut state, clock::instant())?;
    let files = FileClock::ask(scanner.directory());
    state.num_trainers = status::num_heard(&scanner, &state, files);
    let mut status = status::look(&scanner, &state, None, files)?;
    status.crashes = status::crashes(scanner.directory(), &state.tally)?;
    for format in [Format::Table, Format::Json] {
        let text = status.text(format)?;
        let is_shown = |c: char| c == '\n' || !c.is_control();
        assert!(text.chars().all(is_shown), "raw in the status: {text:?}");
    }
    Ok(())
}

/// Makes a second search with what the first one found.
pub(crate) fn start_second(disk: &Rc<Disk>) {
    let from = FixArgs::augment_args(clap::Command::new("init"));
    let found = from.get_matches_from(["init", "--fix-from", ROOT, "--fix", "x1"]);
    let fix = FixArgs::from_arg_matches(&found).expect("these are its arguments");
    disk.put("second.json", format::to_bytes(&base::search(false)).into());
    disk.with(|| {
        let (file, folder) = (
            Path::new(ROOT).join("second.json"),
            Path::new(ROOT).join("second"),
        );
        if let Ok(directory) = scheduler::init::init(&file, &folder, &fix, &LearnArgs::default()) {
            scheduler::init::describe(&directory).expect("a new directory can be read");
        }
    });
}

fn schedule(scheduler: &mut Scheduler) -> anyhow::Result<()> {
    for _ in 0..MOST_TURNS {
        if scheduler.turn()? != Turn::Acted {
            scheduler.leave_word();
            return Ok(());
        }
    }
    panic!("a scheduler that is never done");
}

fn train(directory: &Directory) -> anyhow::Result<()> {
    let compute = Compute {
        device: DeviceChoice::Cpu,
        threads: 1,
    };
    let evaluator = Evaluator::new(directory, compute, &Warning::default())?;
    let owner = owner::new_owner();
    let status = Arc::new(JobStatus::waiting());
    let mut writer =
        HeartbeatWriter::first(directory, Arc::clone(&status), &owner, &Computer::default())?;
    let (warning, limit) = (Warning::default(), TimeLimit::none());
    let trainer = Trainer::new(directory, &evaluator, owner, status, warning, limit);
    let left = trainer.work(true, POLL);
    writer.next();
    writer.last();
    left?;
    Ok(())
}

/// Files that are named like drafts.
fn drafts(disk: &Rc<Disk>) -> BTreeSet<String> {
    let paths = disk.files().into_keys();
    paths.filter(|path| path.contains("/.draft-")).collect()
}

/// A record that programs set aside is still there, under another name; drafts are not, but what was there before is.
fn assert_all_is_in_place(disk: &Rc<Disk>, before: &BTreeSet<String>) {
    let left: Vec<String> = drafts(disk).difference(before).cloned().collect();
    assert!(left.is_empty(), "{left:?} are left");
}
