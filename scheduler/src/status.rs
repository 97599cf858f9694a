//! `scheduler status`: what the search is waiting for, for people and (as JSON) for scripts. Changes nothing.

use std::fmt::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use shared::budget::short;
use shared::cli::print;
use shared::exit::Code;
use shared::record::{Outcome, TrainerState};
use shared::search::Scheduling;
use shared::signal::Warning;
use shared::store::JobsView;
use shared::{Directory, clock};

use crate::plan::{Action, plan};
use crate::scan::Scanner;
use crate::slurm::{self, Queued};
use crate::state::State;

/// Seconds between two questions to SLURM.
const SLURM_INTERVAL: Duration = Duration::from_secs(30);

/// Crashes that are shown.
const MOST_CRASHES: usize = 3;

/// Characters of a message that are shown.
const MOST_SHOWN: usize = 200;

/// How the status is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For scripts: one object.
    Json,
}

/// What a look at a search shows.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The search's name.
    pub search: String,
    /// `running`, `stopped` or `finished`.
    pub phase: &'static str,
    /// Configurations requested so far.
    pub requested: u32,
    /// Configurations that there will be.
    pub configurations: u32,
    /// Requests that the sampler has not answered.
    pub awaited: usize,
    /// One entry a rung, lowest first.
    pub rungs: Vec<RungStatus>,
    /// Every trainer that has not left.
    pub trainers: Vec<TrainerStatus>,
    /// SLURM's queue, where trainers were submitted by `scheduler slurm`.
    pub slurm: Vec<Queued>,
    /// Trainers that left in good order.
    pub trainers_gone: usize,
    /// The best configuration at the highest budget that has one.
    pub incumbent: Option<Incumbent>,
    /// What the first jobs that crashed said, and only if one look was asked for.
    pub crashes: Vec<Crash>,
    /// What comes next, one sentence each.
    pub waiting_for: Vec<String>,
    /// Seconds until the end, estimated from mean durations; absent without results or trainers.
    pub remaining_s: Option<f64>,
}

/// Jobs of one rung.
#[derive(Debug, Serialize)]
pub struct RungStatus {
    /// The rung.
    pub rung: u8,
    /// Its budget.
    pub budget: f64,
    /// The budget's unit.
    pub unit: &'static str,
    /// Jobs it will have if no configuration fails; without barrier about.
    pub expected: u64,
    /// Free to claim.
    pub open: usize,
    /// In a trainer's hands.
    pub claimed: usize,
    /// Evaluated.
    pub evaluated: u64,
    /// Diverged, out of memory or crashed.
    pub failed: u64,
    /// Lost.
    pub lost: u64,
    /// The smallest loss.
    pub best_loss: Option<f64>,
    /// Mean seconds of a job.
    pub mean_s: Option<f64>,
}

/// A trainer.
#[derive(Debug, Serialize)]
pub struct TrainerStatus {
    /// Its owner name.
    pub owner: String,
    /// Its host.
    pub host: String,
    /// What it computes on.
    pub device: String,
    /// The SLURM job it runs in.
    pub slurm_job: Option<String>,
    /// The attempt in hand.
    pub job: Option<String>,
    /// Budget spent on it so far.
    pub spent: Option<f64>,
    /// Seconds since its heartbeat, by its own time stamp or, while watched, by this program's clock.
    pub heard_s: Option<f64>,
    /// Silent for longer than the lease.
    pub is_silent: bool,
}

/// A job that crashed.
#[derive(Debug, Serialize)]
pub struct Crash {
    /// Which.
    pub job: String,
    /// What happened.
    pub message: String,
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.job, one_line(&self.message))
    }
}

/// The best configuration so far.
#[derive(Debug, Serialize)]
pub struct Incumbent {
    /// Which.
    pub configuration: String,
    /// The rung it was evaluated at.
    pub rung: u8,
    /// Its loss there.
    pub loss: f64,
}

/// Shows the status once, or again and again.
pub fn run(root: &Path, watch: bool, format: Format) -> Result<Code> {
    let (mut scanner, mut state) = Scanner::load(Directory::observe(root)?)?;
    if !watch {
        scanner.scan(&mut state, Instant::now())?;
        state.num_trainers = num_heard(&scanner);
        let mut status = look(&scanner, &state, None)?;
        status.slurm = slurm::queue_if_any(scanner.directory());
        if status.rungs.iter().any(|rung| rung.failed > 0) {
            status.crashes = crashes(scanner.directory())?;
        }
        print(&status.text(format)?)?;
        return Ok(Code::Done);
    }
    let warning = Warning::listen()?;
    let start = Instant::now();
    let mut slurm = Vec::new();
    let mut asked: Option<Instant> = None;
    loop {
        // The whole cluster shares the controller that answers this.
        if asked.is_none_or(|asked| asked.elapsed() > SLURM_INTERVAL) {
            slurm = slurm::queue_if_any(scanner.directory());
            asked = Some(Instant::now());
        }
        scanner.scan(&mut state, Instant::now())?;
        let mut status = look(&scanner, &state, Some(start))?;
        status.slurm.clone_from(&slurm);
        let clear = match format {
            // Home, and clear what is below: no flicker.
            Format::Table => "\x1b[H\x1b[J",
            Format::Json => "",
        };
        print(&format!("{clear}{}", status.text(format)?))?;
        if status.phase == "finished" {
            return Ok(Code::Done);
        }
        let next = Instant::now() + Duration::from_secs(2);
        while Instant::now() < next {
            if warning.received().is_some() {
                return Ok(Code::Done);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Trainers that live as far as one look can tell: by their time stamps. A scheduler that watches them knows better.
pub fn num_heard(scanner: &Scanner) -> u32 {
    let trainers = trainers(scanner, None);
    let heard = trainers.iter().filter(|trainer| !trainer.is_silent);
    u32::try_from(heard.count()).unwrap_or(u32::MAX) // fewer by far
}

/// Describes what a scanner has seen; `watched_since` is when this program's clock began to time the trainers.
pub fn look(scanner: &Scanner, state: &State, watched_since: Option<Instant>) -> Result<Status> {
    let directory = scanner.directory();
    let view = directory.jobs()?;
    let rungs = rungs(directory, state, &view);
    let trainers = trainers(scanner, watched_since);
    let phase = match (state.signs.is_finished, state.signs.is_stopped) {
        (true, _) => "finished",
        (false, true) => "stopped",
        (false, false) => "running",
    };
    let num_live = trainers.iter().filter(|trainer| !trainer.is_silent).count();
    Ok(Status {
        search: directory.search().name.clone(),
        phase,
        requested: state.num_requested,
        configurations: state.table().total(),
        awaited: state.awaited.len(),
        remaining_s: remaining_s(&rungs, num_live),
        waiting_for: waiting_for(directory, state, &view, num_live),
        slurm: Vec::new(),
        crashes: Vec::new(),
        trainers_gone: scanner.trainers().values().filter(|t| t.is_gone()).count(),
        incumbent: incumbent(state),
        rungs,
        trainers,
    })
}

fn rungs(directory: &Directory, state: &State, view: &JobsView) -> Vec<RungStatus> {
    let ladder = directory.search().ladder;
    let expected = state.table().expected_jobs();
    let of = |rung: u8| {
        let tally = state.tally.rungs[usize::from(rung)];
        let timed = tally.evaluated + tally.failed;
        RungStatus {
            rung,
            budget: ladder.budget(rung).amount,
            unit: ladder.unit().symbol(),
            expected: expected[usize::from(rung)],
            open: view.open.iter().filter(|a| a.job.rung == rung).count(),
            claimed: view
                .claimed
                .iter()
                .filter(|c| c.attempt.job.rung == rung)
                .count(),
            evaluated: tally.evaluated,
            failed: tally.failed,
            lost: tally.lost,
            best_loss: tally.best.map(|best| best.loss),
            mean_s: (timed > 0).then(|| tally.elapsed_s / timed as f64),
        }
    };
    (0..ladder.num_rungs()).map(of).collect()
}

fn trainers(scanner: &Scanner, watched_since: Option<Instant>) -> Vec<TrainerStatus> {
    let lease = scanner.directory().lease();
    let now = Instant::now();
    let mut trainers = Vec::new();
    for (owner, trainer) in scanner.trainers() {
        if trainer.is_gone() {
            continue;
        }
        let beat = &trainer.heartbeat;
        // Time stamps may be of another machine's clock: good enough for people, and nothing is decided from it.
        let stamped = clock::parse(&beat.at).map(|at| (clock::unix_s() - at).max(0.0));
        let watched = trainer.silent(now);
        let is_longer = watched_since.is_some_and(|start| watched < start.elapsed());
        let heard_s = if is_longer {
            Some(watched.as_secs_f64())
        } else {
            stamped
        };
        let (job, spent) = match &beat.state {
            TrainerState::Working { claim, spent } => {
                (Some(claim.attempt.to_string()), Some(*spent))
            }
            TrainerState::Waiting | TrainerState::Gone => (None, None),
        };
        trainers.push(TrainerStatus {
            owner: owner.to_string(),
            host: beat.host.clone(),
            device: beat.device.clone(),
            slurm_job: beat.slurm_job.clone(),
            job,
            spent,
            heard_s,
            is_silent: heard_s.is_some_and(|seconds| seconds > lease.as_secs_f64()),
        });
    }
    trainers
}

/// The first crashes among results; no more of these are read than it takes to find them.
pub fn crashes(directory: &Directory) -> Result<Vec<Crash>> {
    let mut crashes = Vec::new();
    for job in directory.finished_jobs()? {
        let outcome = directory.read_result(job)?.map(|result| result.outcome);
        if let Some(Outcome::Crashed { message }) = outcome {
            let job = job.to_string();
            crashes.push(Crash { job, message });
            if crashes.len() == MOST_CRASHES {
                break;
            }
        }
    }
    Ok(crashes)
}

/// A message as a terminal may show it: without line breaks and control sequences, and not endless.
fn one_line(message: &str) -> String {
    let mut line: String = message
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MOST_SHOWN)
        .collect();
    if message.chars().count() > MOST_SHOWN {
        line.push('…');
    }
    line
}

fn incumbent(state: &State) -> Option<Incumbent> {
    let rungs = (0u8..).zip(&state.tally.rungs);
    let (rung, best) = rungs
        .filter_map(|(rung, tally)| Some((rung, tally.best?)))
        .last()?;
    Some(Incumbent {
        configuration: best.configuration.to_string(),
        rung,
        loss: best.loss,
    })
}

/// One sentence for everything that must happen before the search is finished, the nearest first.
fn waiting_for(
    directory: &Directory,
    state: &State,
    view: &JobsView,
    num_live: usize,
) -> Vec<String> {
    if state.signs.is_finished {
        return vec!["nothing: the search is finished".into()];
    }
    if state.signs.is_stopped {
        return vec!["`scheduler stop --undo`: the search is stopped".into()];
    }
    let mut sentences = Vec::new();
    let settings = directory.search().trainers;
    let due: Vec<Action> = plan(state, &settings);
    if let Some(first) = due.first() {
        let more = if due.len() > 1 { ", and more" } else { "" };
        sentences.push(format!("a scheduler, which would {first}{more}"));
    }
    if let Some(first) = state.awaited.first() {
        sentences.push(format!(
            "the sampler, for {} configurations from {first} on",
            state.awaited.len()
        ));
    }
    if !view.open.is_empty() {
        let who = if num_live == 0 { "; none is alive" } else { "" };
        sentences.push(format!(
            "trainers to claim {} open jobs{who}",
            view.open.len()
        ));
    }
    if !view.claimed.is_empty() {
        sentences.push(format!(
            "trainers to finish {} claimed jobs",
            view.claimed.len()
        ));
    }
    match (directory.search().scheduling, state.next_barrier()) {
        (Scheduling::Synchronous, Some((bracket, rung, missing))) => sentences.push(format!(
            "{missing} more results at rung {rung}, for the next promotions of bracket {bracket}"
        )),
        (Scheduling::Asynchronous, _) | (_, None) => {}
    }
    sentences
}

/// Seconds until the end: the jobs that remain on each rung times its mean duration, shared by the live trainers.
fn remaining_s(rungs: &[RungStatus], num_live: usize) -> Option<f64> {
    // Durations of rungs without results follow from the nearest rung that has some, in proportion to the budget.
    let known: Vec<(f64, f64)> = rungs
        .iter()
        .filter_map(|r| Some((r.budget, r.mean_s?)))
        .collect();
    let mean_s = |rung: &RungStatus| {
        rung.mean_s.or_else(|| {
            let (budget, mean_s) = known.iter().min_by(|a, b| {
                let distance = |known: &(f64, f64)| (known.0 / rung.budget).ln().abs();
                distance(a).total_cmp(&distance(b))
            })?;
            Some(mean_s * rung.budget / budget)
        })
    };
    let mut sum = 0.0;
    for rung in rungs {
        let done = rung.evaluated + rung.failed + rung.lost;
        sum += rung.expected.saturating_sub(done) as f64 * mean_s(rung)?;
    }
    (num_live > 0).then(|| sum / num_live as f64)
}

impl Status {
    /// The text in a format.
    pub fn text(&self, format: Format) -> Result<String> {
        match format {
            Format::Table => self.table(),
            Format::Json => Ok(format!("{}\n", serde_json::to_string_pretty(self)?)),
        }
    }

    fn table(&self) -> Result<String> {
        let mut text = String::new();
        writeln!(
            text,
            "search `{}`: {}; {} of {} configurations requested, {} not proposed yet\n",
            self.search, self.phase, self.requested, self.configurations, self.awaited
        )?;
        writeln!(
            text,
            "rung            budget  expected    open  claimed  evaluated  failed  lost   best loss    mean"
        )?;
        for rung in &self.rungs {
            writeln!(
                text,
                "{:>4}  {:>16}  {:>8}  {:>6}  {:>7}  {:>9}  {:>6}  {:>4}  {:>10}  {:>6}",
                rung.rung,
                format!("{} {}", short(rung.budget), rung.unit),
                rung.expected,
                rung.open,
                rung.claimed,
                rung.evaluated,
                rung.failed,
                rung.lost,
                rung.best_loss
                    .map_or_else(|| "-".into(), |loss| format!("{loss:.5}")),
                rung.mean_s.map_or_else(|| "-".into(), duration),
            )?;
        }
        self.trainer_lines(&mut text)?;
        if !self.slurm.is_empty() {
            writeln!(text, "\nSLURM's queue:")?;
        }
        for queued in &self.slurm {
            writeln!(text, "  {}", slurm::describe(queued))?;
        }
        match &self.incumbent {
            Some(best) => writeln!(
                text,
                "\nincumbent: {} with loss {:.5} at rung {}",
                best.configuration, best.loss, best.rung
            )?,
            None => writeln!(text, "\nincumbent: none yet")?,
        }
        if !self.crashes.is_empty() {
            writeln!(text, "the first that crashed:")?;
        }
        for crash in &self.crashes {
            writeln!(text, "  {crash}")?;
        }
        writeln!(text, "waiting for:")?;
        for sentence in &self.waiting_for {
            writeln!(text, "  {sentence}")?;
        }
        if self.phase == "running" {
            let remaining = self.remaining_s.map_or_else(|| "unknown".into(), duration);
            writeln!(text, "estimated time left: {remaining}")?;
        }
        Ok(text)
    }

    fn trainer_lines(&self, text: &mut String) -> Result<()> {
        let silent = self.trainers.iter().filter(|t| t.is_silent).count();
        writeln!(
            text,
            "\ntrainers: {} live, {silent} silent, {} gone",
            self.trainers.len() - silent,
            self.trainers_gone
        )?;
        for trainer in &self.trainers {
            let state = if trainer.is_silent { "silent" } else { "live" };
            let job = match (&trainer.job, trainer.spent) {
                (Some(job), Some(spent)) => format!("{job} spent {}", short(spent)),
                _ => "waits for a job".into(),
            };
            writeln!(
                text,
                "  {state:<6}  {}  {}  {job}  heard {} ago{}",
                trainer.host,
                trainer.device,
                trainer.heard_s.map_or_else(|| "?".into(), duration),
                trainer
                    .slurm_job
                    .as_ref()
                    .map_or_else(String::new, |job| format!("  SLURM job {job}")),
            )?;
        }
        Ok(())
    }
}

/// A duration for people: `0.5 s`, `3 min`, `2.5 h`.
pub fn duration(seconds: f64) -> String {
    if seconds < 9.95 {
        format!("{seconds:.1} s")
    } else if seconds < 99.5 {
        format!("{seconds:.0} s")
    } else if seconds < 5970.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{:.1} h", seconds / 3600.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rung(rung: u8, expected: u64, evaluated: u64, mean_s: Option<f64>) -> RungStatus {
        RungStatus {
            rung,
            budget: 3f64.powi(i32::from(rung)),
            unit: "epochs",
            expected,
            open: 0,
            claimed: 0,
            evaluated,
            failed: 0,
            lost: 0,
            best_loss: None,
            mean_s,
        }
    }

    #[test]
    fn time_left_follows_from_the_mean_durations_and_the_budgets() {
        let rungs = [
            rung(0, 9, 5, Some(2.0)),
            rung(1, 3, 0, None),
            rung(2, 1, 0, None),
        ];
        // 4 of 2 s, 3 of 6 s, 1 of 18 s, on two trainers.
        assert_eq!(remaining_s(&rungs, 2), Some((8.0 + 18.0 + 18.0) / 2.0));
        assert_eq!(remaining_s(&rungs, 0), None);
        assert_eq!(remaining_s(&[rung(0, 9, 0, None)], 1), None);
    }

    #[test]
    fn durations_are_short() {
        let texts: Vec<String> = [0.04, 9.96, 99.6, 5400.0, 9000.0].map(duration).into();
        assert_eq!(texts, ["0.0 s", "10 s", "2 min", "90 min", "2.5 h"]);
    }
}
