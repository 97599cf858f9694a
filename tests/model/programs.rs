//! The programs as they are, each in a process of the model.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use scheduler::blame::Again;
use scheduler::run::{Scheduler, Turn};
use shared::exit::{Code, code_of};
use shared::format;
use shared::hyperband::Table;
use shared::record::{Extension, Given};
use shared::search::{Limit, SearchFile};
use shared::signal::Warning;
use shared::{ConfigurationId, Directory, clock, error, owner};
use trainer::device::DeviceChoice;
use trainer::evaluator::{Compute, Evaluator};
use trainer::heartbeat::{Computer, HeartbeatWriter, JobStatus};
use trainer::run::{Leave, Trainer};
use trainer::time_limit::TimeLimit;

use crate::world::{Coroutine, World};

/// Where the search is.
pub(crate) const ROOT: &str = "/search";
/// The longest pause of every program.
const POLL: Duration = Duration::from_millis(500);
/// Of the searches here.
const LEASE: Duration = Duration::from_secs(4);

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Scheduler,
    Sampler,
    Trainer,
    /// Two turns, with the end of all leases in between.
    TwoTurns,
    /// A pass over what can be answered.
    OnePass,
    /// Job after job as long as some are open, without a heart.
    JobsThatAreOpen,
    /// Somebody who asks for the first job to be done again as soon as it has a result.
    Retry,
    /// Somebody who extends the search by a bracket at that moment, unless that is done.
    Extend,
    /// The same with a larger largest budget.
    Raise,
    /// Somebody who gives a configuration when all others are requested, unless that is done.
    Give,
}

impl Role {
    /// Whether it is a part of a program's life, in which every order of calls can be had.
    pub(crate) fn is_short(self) -> bool {
        matches!(self, Self::TwoTurns | Self::OnePass | Self::JobsThatAreOpen)
    }

    /// Whether it asks once for more than the search file does.
    pub(crate) fn is_wish(self) -> bool {
        matches!(self, Self::Retry | Self::Extend | Self::Raise | Self::Give)
    }
}

/// Two of each that may be doubled by accident, and three trainers.
pub(crate) const ALL: [Role; 7] = [
    Role::Scheduler,
    Role::Scheduler,
    Role::Sampler,
    Role::Sampler,
    Role::Trainer,
    Role::Trainer,
    Role::Trainer,
];

/// A search on `branin`: heartbeats each second, a lease of four; `seconds` for one step of budget.
pub(crate) fn search(brackets: u32, max: u32, seconds: f64) -> SearchFile {
    let json = serde_json::json!({
        "format": "search",
        "version": [1, 0],
        "name": "model",
        "space": { "hyperparameters": [
            { "name": "x1", "type": "float", "lower": -5.0, "upper": 10.0 },
            { "name": "x2", "type": "float", "lower": 0.0, "upper": 15.0 },
        ] },
        "objective": { "benchmark": "branin", "seconds_per_unit": seconds },
        "budget": { "unit": "steps", "min": 1, "max": max, "eta": 2 },
        "limit": { "brackets": brackets },
        "method": "hyperband",
        "trainers": { "heartbeat_s": 1.0, "lease_s": 4.0, "max_attempts": 1000 },
    });
    let bytes = serde_json::to_vec(&json).expect("a JSON value can be written");
    format::from_bytes(Path::new("search.json"), &bytes).expect("a valid search")
}

/// Starts a program on a host of its own: its threads.
pub(crate) fn start(world: &Arc<World>, role: Role) -> Vec<Coroutine> {
    let host = world.new_host();
    match role {
        Role::Scheduler => vec![Coroutine::new(
            world,
            host,
            format!("scheduler-{host}"),
            schedule,
        )],
        Role::Sampler => vec![Coroutine::new(
            world,
            host,
            format!("sampler-{host}"),
            || sample(false),
        )],
        Role::TwoTurns => vec![Coroutine::new(
            world,
            host,
            format!("turns-{host}"),
            two_turns,
        )],
        Role::OnePass => vec![Coroutine::new(world, host, format!("pass-{host}"), || {
            sample(true)
        })],
        Role::Retry => vec![Coroutine::new(world, host, format!("retry-{host}"), retry)],
        Role::Extend | Role::Raise => {
            // Of searches with budgets 1 and 2.
            let max_budget = (role == Role::Raise).then_some(4.0);
            let name = format!("extend-{host}");
            vec![Coroutine::new(world, host, name, move || {
                extend(max_budget)
            })]
        }
        Role::Give => vec![Coroutine::new(world, host, format!("give-{host}"), give)],
        Role::JobsThatAreOpen => vec![Coroutine::new(world, host, format!("jobs-{host}"), || {
            train(
                Arc::new(JobStatus::waiting()),
                &AtomicBool::new(false),
                true,
            )
        })],
        Role::Trainer => {
            let status = Arc::new(JobStatus::waiting());
            let has_left = Arc::new(AtomicBool::new(false));
            let of_heartbeat = (Arc::clone(&status), Arc::clone(&has_left));
            let name = format!("trainer-{host}");
            vec![
                Coroutine::new(world, host, format!("{name}-heartbeat"), move || {
                    beat(of_heartbeat.0, &of_heartbeat.1)
                }),
                Coroutine::new(world, host, name, move || train(status, &has_left, false)),
            ]
        }
    }
}

fn open() -> Result<Directory, String> {
    Directory::open(Path::new(ROOT)).map_err(|error| error::chain(&error))
}

fn schedule() -> Result<(), String> {
    let run = || {
        let mut scheduler = Scheduler::new(Directory::open(Path::new(ROOT))?, POLL)?;
        loop {
            match scheduler.turn()? {
                Turn::Finished | Turn::Stopped => return Ok(Code::Done),
                turn @ (Turn::Acted | Turn::Idle) => scheduler.wait(turn, &mut || false)?,
            }
        }
    };
    ended(run())
}

/// As `scheduler retry` does, whatever the outcome was; a second time changes nothing.
fn retry() -> Result<(), String> {
    let run = || {
        let directory = Directory::open(Path::new(ROOT))?;
        let job = ConfigurationId(0).job(0);
        loop {
            if let Some(result) = directory.read_result(job)? {
                directory.retry(&Again::asked(result.attempt).record())?;
                directory.reopen(0)?;
                return Ok(Code::Done);
            }
            clock::sleep(POLL);
        }
    };
    ended(run())
}

/// As `scheduler extend` does; not twice, as one who is started again would.
fn extend(max_budget: Option<f64>) -> Result<(), String> {
    let run = || {
        let directory = Directory::open(Path::new(ROOT))?;
        loop {
            let has_begun = directory.has_result(ConfigurationId(0).job(0))?;
            if has_begun || directory.flags()?.is_finished {
                if directory.extensions()?.is_empty() {
                    directory.extend(&Extension {
                        limit: Some(Limit::Brackets(1)),
                        max_budget,
                        at: clock::now(),
                        program: "model".to_owned(),
                    })?;
                }
                directory.reopen(scheduler::extend::table(&directory)?.total())?;
                return Ok(Code::Done);
            }
            clock::sleep(POLL);
        }
    };
    ended(run())
}

/// As `scheduler propose` does; not twice, as one who is started again would.
fn give() -> Result<(), String> {
    let run = || {
        let directory = Directory::open(Path::new(ROOT))?;
        let total = Table::new(directory.search())?.total();
        let last = ConfigurationId(total - 1);
        while directory.read_request(last)?.is_none() {
            clock::sleep(POLL);
        }
        if directory.given()?.is_empty() {
            let space = &directory.search().space;
            directory.give(&Given {
                configuration: space.decode(&vec![0.5; space.num_dimensions()]),
                rung: 0,
                at: clock::now(),
                program: "model".to_owned(),
            })?;
        }
        directory.reopen(total + 1)?;
        Ok(Code::Done)
    };
    ended(run())
}

fn two_turns() -> Result<(), String> {
    let run = || {
        let mut scheduler = Scheduler::new(Directory::open(Path::new(ROOT))?, POLL)?;
        scheduler.turn()?;
        clock::sleep(LEASE);
        scheduler.turn()?;
        Ok(Code::Done)
    };
    ended(run())
}

fn sample(is_once: bool) -> Result<(), String> {
    ended(sampler::run::answer(
        open()?,
        is_once,
        POLL,
        &Warning::default(),
    ))
}

fn train(status: Arc<JobStatus>, has_left: &AtomicBool, is_once: bool) -> Result<(), String> {
    let run = || {
        let directory = Directory::open(Path::new(ROOT))?;
        let evaluator = Evaluator::new(&directory, CPU, &Warning::default())?;
        let owner = owner::new_owner();
        let limit = TimeLimit::none();
        let trainer = Trainer::new(
            &directory,
            &evaluator,
            owner,
            status,
            Warning::default(),
            limit,
        );
        Ok(match trainer.work(is_once, POLL)? {
            Leave::Failures(_) => Code::Directory,
            _ => Code::Done,
        })
    };
    let result = run();
    has_left.store(true, Ordering::Relaxed);
    ended(result)
}

const CPU: Compute = Compute {
    device: DeviceChoice::Cpu,
    threads: 1,
};

/// As `HeartbeatThread` does.
fn beat(status: Arc<JobStatus>, has_left: &AtomicBool) -> Result<(), String> {
    let directory = open()?;
    let interval = Duration::from_secs_f64(directory.search().trainers.heartbeat_s);
    let first = HeartbeatWriter::first(
        &directory,
        status,
        &owner::new_owner(),
        &Computer::default(),
    );
    let mut writer = first.map_err(|error| error::chain(&error))?;
    loop {
        clock::sleep(interval);
        if has_left.load(Ordering::Relaxed) {
            writer.last();
            return Ok(());
        }
        writer.next();
    }
}

/// Only what helps when tried again may end a program before the search is finished.
fn ended(result: anyhow::Result<Code>) -> Result<(), String> {
    match result {
        Ok(Code::Done) => Ok(()),
        Ok(code) => Err(format!("{code:?}")),
        Err(error) if code_of(&error) == Code::Directory => Err(format!("{error:#}")),
        Err(error) => panic!("ended with {:?}: {error:#}", code_of(&error)),
    }
}
