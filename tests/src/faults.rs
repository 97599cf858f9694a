//! The fault campaign: whole searches by programs whose file operations fail, lie, and kill them, and which are killed or
//! stand still at any moment. Of some there are two, as somebody may start them by accident. Whatever happens, the search
//! must come out as if nothing had.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;
use shared::{Seed, fs, layout};

use crate::{TestSearch, counting_ones, losses};

/// Probabilities at every step of every file operation.
const FAULTS: &str = "kill=0.004,eio=0.02,enospc=0.015,estale=0.03,lie=0.02";
/// The programs of each search.
const PROGRAMS: [&str; 8] = [
    "scheduler",
    "scheduler",
    "sampler",
    "sampler",
    "trainer",
    "trainer",
    "trainer",
    "trainer",
];
/// How a fault that was injected shows in a log.
const MARK: &str = "fault: ";

/// What a campaign did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Searches finished.
    pub searches: u64,
    /// Jobs with a result.
    pub jobs: u64,
    /// Starts of programs.
    pub starts: u64,
    /// Faults by name.
    pub faults: BTreeMap<String, u64>,
}

impl Tally {
    /// All faults.
    pub fn num_faults(&self) -> u64 {
        self.faults.values().sum()
    }

    fn count(&mut self, fault: &str) {
        *self.faults.entry(fault.to_owned()).or_default() += 1;
    }

    /// With what another campaign did.
    pub fn add(&mut self, other: &Self) {
        self.searches += other.searches;
        self.jobs += other.jobs;
        self.starts += other.starts;
        for (name, count) in &other.faults {
            *self.faults.entry(name.clone()).or_default() += count;
        }
    }
}

/// One search with faults, then checked. `longest` is how long it may take: four seconds on a quiet machine.
///
/// # Errors
/// An invariant does not hold, or the search does not end. The directory is kept and named in the message.
pub fn search_with_faults(seed: u64, longest: Duration) -> Result<Tally> {
    // Proposals of `hyperband` do not depend on the order of results, so that search must equal an undisturbed one.
    let method = if seed.is_multiple_of(2) {
        "hyperband"
    } else {
        "bohb"
    };
    let mut search = counting_ones(method, 3);
    search["seed"] = seed.into();
    search["trainers"] =
        serde_json::json!({ "heartbeat_s": 0.1, "lease_s": 0.6, "max_attempts": 1_000_000 });
    let mut test = TestSearch::new(&search)?;
    let tally = disturb(&mut test, seed, longest).and_then(|tally| {
        check(&test, &search, method)?;
        Ok(tally)
    });
    tally.with_context(|| {
        let logs = test.logs();
        format!("seed {seed}, directory {}\n{logs}", test.keep().display())
    })
}

fn disturb(test: &mut TestSearch, seed: u64, longest: Duration) -> Result<Tally> {
    let mut rng = Seed::new(seed).child("faults", "campaign").rng();
    let mut faults = || format!("seed={},{FAULTS}", rng.random_range(0..u32::MAX));
    for program in PROGRAMS {
        test.start(program, Some(&faults()))?;
    }
    let mut tally = Tally {
        starts: PROGRAMS.len() as u64,
        searches: 1,
        ..Tally::default()
    };
    let mut signals = Signals::new(seed);
    let start = Instant::now();
    let mut done = [false; PROGRAMS.len()];
    while done.contains(&false) {
        ensure!(start.elapsed() < longest, "not finished after {longest:?}");
        std::thread::sleep(Duration::from_millis(5));
        for index in 0..PROGRAMS.len() {
            if done[index] {
                continue;
            }
            let Some(status) = test.running()[index].child.try_wait()? else {
                continue;
            };
            let was_killed = signals.forget(index);
            if status.success() {
                done[index] = true;
                continue;
            }
            // The programs' own codes: 1 is for what nobody foresaw, 101 for a panic.
            let code = status.code();
            ensure!(
                status.signal() == Some(9) || matches!(code, Some(5 | 75)),
                "{} ended with {status}",
                PROGRAMS[index]
            );
            if status.signal() == Some(9) {
                tally.count(if was_killed { "signal" } else { "kill" });
            }
            test.restart(index, Some(&faults()))?;
            tally.starts += 1;
        }
        signals.send(test, &done, &mut tally)?;
    }
    for line in test.all_logs()?.lines() {
        if let Some(name) = line.strip_prefix(MARK) {
            tally.count(name);
        }
    }
    tally.jobs = test.directory()?.finished_jobs()?.len() as u64;
    Ok(tally)
}

/// Stops and kills programs at any moment, not only at file operations.
struct Signals {
    chance: ChaCha12Rng,
    frozen: Option<(usize, Instant)>,
    killed: BTreeSet<usize>,
}

impl Signals {
    fn new(seed: u64) -> Self {
        Self {
            chance: Seed::new(seed).child("faults", "freezes").rng(),
            frozen: None,
            killed: BTreeSet::new(),
        }
    }

    /// A program has ended; whether it was killed by a signal from here.
    fn forget(&mut self, index: usize) -> bool {
        self.frozen.take_if(|(which, _)| *which == index);
        self.killed.remove(&index)
    }

    fn send(&mut self, test: &mut TestSearch, done: &[bool], tally: &mut Tally) -> Result<()> {
        use rustix::process::Signal;
        if let Some((index, _)) = self.frozen.take_if(|(_, until)| *until <= Instant::now()) {
            signal(test, index, Signal::CONT)?;
        }
        let index = self.chance.random_range(0..done.len());
        if done[index] {
            return Ok(());
        }
        if self.chance.random_bool(0.02) {
            signal(test, index, Signal::KILL)?;
            self.killed.insert(index);
        } else if self.frozen.is_none() && self.chance.random_bool(0.005) {
            signal(test, index, Signal::STOP)?;
            let pause = Duration::from_millis(self.chance.random_range(0..1500));
            self.frozen = Some((index, Instant::now() + pause));
            tally.count("freeze");
        }
        Ok(())
    }
}

fn signal(test: &mut TestSearch, index: usize, signal: rustix::process::Signal) -> Result<()> {
    let id = test.running()[index].child.id();
    let process =
        rustix::process::Pid::from_raw(i32::try_from(id)?).context("a process has an id")?;
    // It is our child and not yet waited for, so the number is still its own.
    Ok(rustix::process::kill_process(process, signal)?)
}

fn check(test: &TestSearch, search: &serde_json::Value, method: &str) -> Result<()> {
    let results = test.check_finished()?;
    let aside = fs::list(&test.root().join(layout::ASIDE))?;
    ensure!(aside.is_empty(), "files were set aside: {aside:?}");
    let replay = test.on("sampler", "replay", &[])?;
    ensure!(
        replay.status.success(),
        "the replay does not agree: {}",
        String::from_utf8_lossy(&replay.stderr)
    );
    if method == "hyperband" {
        let mut undisturbed = TestSearch::new(search)?;
        undisturbed.run_to_end(2)?;
        ensure!(
            losses(&results) == losses(&undisturbed.check_finished()?),
            "the results are not those of an undisturbed search"
        );
    }
    Ok(())
}
