//! The fault campaign: whole searches by programs whose file operations fail, lie, and kill them, and which stand still
//! now and then. Whatever happens, the search must come out as if nothing had.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::RngExt as _;
use shared::{Seed, fs, layout};

use crate::{TestSearch, counting_ones, losses};

/// Probabilities at every step of every file operation.
const FAULTS: &str = "kill=0.004,eio=0.02,enospc=0.015,estale=0.03,lie=0.02";
/// The programs of each search; of some two, as somebody may start them by accident.
const PROGRAMS: [&str; 6] = [
    "scheduler",
    "scheduler",
    "sampler",
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
    let mut chance = Seed::new(seed).child("faults", "freezes").rng();
    let mut frozen: Option<(usize, Instant)> = None;
    let start = Instant::now();
    let mut done = [false; PROGRAMS.len()];
    while done.contains(&false) {
        ensure!(start.elapsed() < longest, "not finished after {longest:?}");
        std::thread::sleep(Duration::from_millis(5));
        if let Some((index, until)) = frozen
            && until <= Instant::now()
        {
            signal(test, index, rustix::process::Signal::CONT)?;
            frozen = None;
        }
        for index in 0..PROGRAMS.len() {
            if done[index] {
                continue;
            }
            let Some(status) = test.running()[index].child.try_wait()? else {
                continue;
            };
            if frozen.is_some_and(|(which, _)| which == index) {
                frozen = None;
            }
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
                *tally.faults.entry("kill".into()).or_default() += 1;
            }
            test.restart(index, Some(&faults()))?;
            tally.starts += 1;
        }
        if frozen.is_none() && chance.random_bool(0.005) {
            let index = chance.random_range(0..PROGRAMS.len());
            if !done[index] {
                signal(test, index, rustix::process::Signal::STOP)?;
                let pause = Duration::from_millis(chance.random_range(0..1500));
                frozen = Some((index, Instant::now() + pause));
                *tally.faults.entry("freeze".into()).or_default() += 1;
            }
        }
    }
    for line in test.all_logs()?.lines() {
        if let Some(name) = line.strip_prefix(MARK) {
            *tally.faults.entry(name.to_owned()).or_default() += 1;
        }
    }
    tally.jobs = test.directory()?.finished_jobs()?.len() as u64;
    Ok(tally)
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
