//! What the programs do in a search directory that holds a record from anywhere: all that reads it, and then a few
//! turns of scheduler, sampler and trainer with the end of all leases in between.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use scheduler::run::{Scheduler, Turn};
use scheduler::scan::Scanner;
use scheduler::status::{self, FileClock, Format};
use shared::objective::Objective;
use shared::search::{Limit, Search};
use shared::signal::Warning;
use shared::{ConfigurationId, Directory, clock, store};
use trainer::device::DeviceChoice;
use trainer::heart::{Beat, Pulse};
use trainer::run::{Settings, Trainer};
use trainer::runner::Runner;
use trainer::time_limit::TimeLimit;

use super::disk::{Disk, ROOT};

/// The longest pause of every program.
const POLL: Duration = Duration::from_secs(5);
/// Turns of one scheduler in a row in which it does something: many more than there can be something to do.
const MOST_TURNS: usize = 40;

/// Runs everything that reads a search directory or works in it, with so many turns of all programs. Errors are answers;
/// panics are not.
pub(crate) fn run_all(disk: &Rc<Disk>, num_turns: usize) {
    disk.with(|| {
        let root = Path::new(ROOT);
        let Ok(directory) = Directory::open(root) else {
            return;
        };
        let search = directory.search();
        if !is_modest(search) {
            return;
        }
        look(root);
        // What is not offered, proposed or evaluated for want of a usable directory is not the matter here.
        let mut scheduler = Scheduler::new(directory.clone(), POLL);
        for _ in 0..num_turns {
            let _unusable = scheduler.as_mut().map(schedule);
            let _waits = sampler::run::answer(directory.clone(), true, POLL, &Warning::default());
            let _unusable = scheduler.as_mut().map(schedule);
            let _leaves = train(&directory);
            disk.pass(directory.lease().saturating_mul(2));
        }
        look(root);
    });
    assert_all_is_in_place(disk);
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

/// Everything that only looks.
fn look(root: &Path) {
    let _shown = show_status(root);
    let Ok(directory) = Directory::observe(root) else {
        return;
    };
    let _replayed = sampler::replay::replay(&directory);
    let _proposed = sampler::preview::preview(&directory, 2);
    for id in [0, 1, 4] {
        let _explained = sampler::explain::explain(&directory, ConfigurationId(id));
    }
    let _weighed = directory.heartbeats();
    let _read = directory.all_results();
}

fn show_status(root: &Path) -> anyhow::Result<()> {
    let (mut scanner, mut state) = Scanner::load(Directory::observe(root)?)?;
    scanner.scan(&mut state, clock::instant())?;
    let files = FileClock::ask(scanner.directory());
    state.num_trainers = status::num_heard(&scanner, files);
    let mut status = status::look(&scanner, &state, None, files)?;
    status.crashes = status::crashes(scanner.directory(), &state.tally)?;
    for format in [Format::Table, Format::Json] {
        let text = status.text(format)?;
        let is_shown = |c: char| c == '\n' || !c.is_control();
        assert!(text.chars().all(is_shown), "raw in the status: {text:?}");
    }
    Ok(())
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
    let runner = Runner::new(directory.search(), DeviceChoice::Cpu)?;
    let owner = store::new_owner();
    let pulse = Arc::new(Pulse::waiting());
    let mut beat = Beat::first(directory, Arc::clone(&pulse), &owner, "cpu", 0)?;
    let (warning, limit) = (Warning::default(), TimeLimit::none());
    let trainer = Trainer::new(directory, &runner, owner, pulse, warning, limit);
    let settings = Settings {
        device: DeviceChoice::Cpu,
        is_once: true,
        longest_poll: POLL,
        exhausted: None,
    };
    let left = trainer.work(&settings);
    beat.next();
    beat.last();
    left?;
    Ok(())
}

/// A record that programs set aside is still there, under another name; drafts are not.
fn assert_all_is_in_place(disk: &Rc<Disk>) {
    for path in disk.files().into_keys() {
        assert!(!path.contains("/.draft-"), "`{path}` is left");
    }
}
