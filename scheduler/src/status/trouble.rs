//! What goes wrong in a search, for people: crashes that have paused it, jobs that take too long, attempts that ended
//! without a result, and open jobs that are left to few trainers or to none.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use shared::directory::JobsView;
use shared::record::Outcome;
use shared::wording::{about, count, one_line, shortened};
use shared::{BudgetUnit, Claim, Directory, JobId, JobResult, Result, fs, layout};

use super::{FileClock, MOST_SHOWN, RungStatus, TrainerStatus};
use crate::scan::Scanner;
use crate::state::State;

/// A job is overdue when it takes so many times as long as its rung's median.
const OVERDUE_TIMES: f64 = 3.0;
/// Results that a rung must have to say so.
const FEWEST_RESULTS: usize = 3;
/// Seconds that nobody worries about.
const SHORT_S: f64 = 10.0;
/// Ended attempts that are looked at for the newest of each host.
const MOST_ATTEMPTS: usize = 300;
/// Hosts that are shown.
const MOST_HOSTS: usize = 10;

/// The search began with failures alone, and no more jobs are offered.
#[derive(Debug, Clone, Serialize)]
pub struct Pause {
    /// How many attempts there were.
    pub attempts: usize,
    /// The options of `scheduler retry` that have their jobs done again.
    pub retried_by: BTreeSet<&'static str>,
    /// The last of them.
    pub job: String,
    /// What it said.
    pub message: String,
    /// Where it was.
    pub host: Option<String>,
    /// What it printed: a path in the directory.
    pub log: Option<String>,
}

impl Pause {
    /// The pause of a search, if it is paused.
    pub fn of(directory: &Directory, state: &State) -> Result<Option<Self>> {
        let pause_after = directory.search().trainers.pause_after();
        let Some(fruitless) = state.faults.pause(pause_after) else {
            return Ok(None);
        };
        let jobs: BTreeSet<JobId> = fruitless.iter().map(|attempt| attempt.job).collect();
        let mut last: Option<JobResult> = None;
        let mut retried_by = BTreeSet::new();
        for job in jobs {
            let result = directory.last_result(job)?;
            retried_by.extend(result.as_ref().and_then(retried_by_option));
            let is_later = |result: &JobResult| {
                last.as_ref()
                    .is_none_or(|last| last.finished_at <= result.finished_at)
            };
            if let Some(result) = result.filter(is_later) {
                last = Some(result);
            }
        }
        let Some(last) = last else {
            return Ok(None);
        };
        let host = last.notes.get("host").cloned();
        let (message, host, log) = match last.outcome {
            Outcome::Crashed { message, log, .. } => (message, host, log),
            // The trainer that gave it back last said why.
            _ => match directory.attempt_ends(last.attempt.job)?.pop() {
                Some(end) => {
                    let trainer = directory.read_heartbeat(&end.claim.owner)?;
                    (end.message, trainer.map(|trainer| trainer.host), None)
                }
                None => (last.outcome.as_str().to_owned(), host, None),
            },
        };
        Ok(Some(Self {
            attempts: fruitless.len(),
            retried_by,
            job: last.attempt.to_string(),
            message,
            host,
            log,
        }))
    }

    /// What has to be done about it.
    pub fn sentence(&self, directory: &Directory) -> String {
        let root = directory.layout().root();
        let host = self.host.as_ref();
        let host = host.map_or_else(String::new, |host| format!(" on {}", one_line(host)));
        let log = self.log.as_ref().map_or_else(String::new, |log| {
            format!("; its output is in `{}`", root.join(log).display())
        });
        format!(
            "somebody to mend what fails, then `scheduler retry {} {}`: the first {} ended without any progress, and no \
             more jobs are offered; {}{host} said: {}{log}",
            root.display(),
            self.retried_by
                .iter()
                .copied()
                .collect::<Vec<_>>()
                .join(" "),
            count(self.attempts, "attempt"),
            self.job,
            shortened(&one_line(&self.message), MOST_SHOWN)
        )
    }
}

fn retried_by_option(result: &JobResult) -> Option<&'static str> {
    match result.outcome {
        Outcome::Crashed { .. } => Some("--crashed"),
        Outcome::Lost { .. } => Some("--lost"),
        Outcome::Evaluated { .. }
        | Outcome::Stopped { .. }
        | Outcome::Diverged { .. }
        | Outcome::Infeasible { .. }
        | Outcome::OutOfMemory { .. } => None,
    }
}

/// A job in a trainer's hands for much longer than others of its rung took.
#[derive(Debug, Clone, Serialize)]
pub struct Overdue {
    /// The attempt.
    pub job: String,
    /// The trainer's host.
    pub host: String,
    /// For how long, in seconds.
    pub held_s: f64,
    /// How many times the median of its rung that is.
    pub times: f64,
}

impl Overdue {
    /// In words.
    pub(super) fn sentence(&self) -> String {
        format!(
            "{} on {}, which takes {:.1} times as long as others of its rung: {} so far",
            self.job,
            one_line(&self.host),
            self.times,
            about(self.held_s)
        )
    }
}

/// The jobs that are overdue.
pub(super) fn overdue(
    directory: &Directory,
    state: &State,
    view: &JobsView,
    trainers: &[TrainerStatus],
    files: FileClock,
) -> Vec<Overdue> {
    let mut overdue = Vec::new();
    for claim in &view.claimed {
        let held_by = |trainer: &&TrainerStatus| trainer.owner == claim.owner.as_str();
        let Some(trainer) = trainers.iter().find(held_by).filter(|t| !t.is_silent) else {
            continue;
        };
        let Some(median_s) = state.median_s(claim.attempt.job.rung, FEWEST_RESULTS) else {
            continue;
        };
        // The rename that claimed it changed it last.
        let changed_s = fs::changed_s(&directory.layout().claimed(claim));
        let Some(held_s) = changed_s.map(|changed_s| files.age_s(changed_s)) else {
            continue;
        };
        let times = held_s / median_s;
        if times >= OVERDUE_TIMES && held_s >= SHORT_S {
            overdue.push(Overdue {
                job: claim.attempt.to_string(),
                host: trainer.host.clone(),
                held_s,
                times,
            });
        }
    }
    overdue
}

/// How an attempt ended without a result.
#[derive(Debug, Clone, Serialize)]
pub struct Ended {
    /// The trainer's host.
    pub host: String,
    /// The attempt.
    pub attempt: String,
    /// Whose fault it was.
    pub fate: &'static str,
    /// More words.
    pub message: String,
    /// When, RFC 3339 in UTC.
    pub at: String,
}

impl Ended {
    /// In one line.
    pub(super) fn line(&self) -> String {
        let message = match &*self.message {
            "" => String::new(),
            message => format!(": {}", shortened(&one_line(message), MOST_SHOWN)),
        };
        let host = one_line(&self.host);
        format!("{host}: {} {}{message}", self.attempt, self.fate)
    }
}

/// The newest ended attempt of each host, as far as its trainer's heartbeat is there; the newest first.
pub(super) fn ended_attempts(scanner: &Scanner) -> Result<Vec<Ended>> {
    let directory = scanner.directory();
    let mut claims: Vec<Claim> = Vec::new();
    for shard in directory.shards(layout::ATTEMPTS)?.into_iter().rev() {
        let listed: Vec<Claim> = directory.list_shard(layout::ATTEMPTS, shard)?;
        claims.extend(listed.into_iter().rev());
        if claims.len() >= MOST_ATTEMPTS {
            break;
        }
    }
    claims.truncate(MOST_ATTEMPTS);
    let mut newest: BTreeMap<&str, (f64, Claim)> = BTreeMap::new();
    for claim in claims {
        let trainer = scanner.trainers().get(&claim.owner);
        let written_s = fs::written_s(&directory.layout().attempt(&claim))?;
        let Some((trainer, written_s)) = trainer.zip(written_s) else {
            continue;
        };
        let host = trainer.heartbeat.host.as_str();
        if newest
            .get(host)
            .is_none_or(|(known_s, _)| *known_s < written_s)
        {
            newest.insert(host, (written_s, claim));
        }
    }
    let mut newest: Vec<(&str, (f64, Claim))> = newest.into_iter().collect();
    newest.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    let mut ended = Vec::new();
    for (host, (_, claim)) in newest.into_iter().take(MOST_HOSTS) {
        let ends = directory.attempt_ends(claim.attempt.job)?;
        let end = ends.into_iter().find(|end| end.claim == claim);
        ended.extend(end.map(|end| Ended {
            host: host.to_owned(),
            attempt: claim.attempt.to_string(),
            fate: end.fate.as_str(),
            message: end.message,
            at: end.at,
        }));
    }
    Ok(ended)
}

/// Open jobs that are left to some trainers, or that no live trainer has the time for.
pub(super) fn left_open(
    state: &State,
    rungs: &[RungStatus],
    time_left_s: &[Option<f64>],
) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut left_to: BTreeMap<String, usize> = BTreeMap::new();
    for attempt in &state.open {
        let Some(restrictions) = state.faults.restrictions(attempt.job) else {
            continue;
        };
        let memory = restrictions.memory_mib;
        let memory = memory.map_or_else(String::new, |mib| format!(" with {mib:.0} MiB of memory"));
        let mut whom = format!("a trainer{memory}");
        if !restrictions.avoid_hosts.is_empty() {
            let hosts: Vec<String> = restrictions
                .avoid_hosts
                .iter()
                .map(|h| one_line(h))
                .collect();
            whom = format!("{whom} on another host than {}", hosts.join(", "));
        }
        *left_to.entry(whom).or_default() += 1;
    }
    for (whom, number) in left_to {
        sentences.push(format!("{whom}, for {}", count(number, "open job")));
    }
    // One without a limit has all the time there is.
    let longest_s = time_left_s
        .iter()
        .map(|left| left.unwrap_or(f64::INFINITY))
        .reduce(f64::max);
    for rung in rungs.iter().filter(|rung| rung.open > 0) {
        let needed_s = match rung.unit {
            BudgetUnit::Seconds | BudgetUnit::CpuSeconds => Some(rung.budget),
            BudgetUnit::Epochs | BudgetUnit::Steps => None,
        };
        if let (Some(needed_s), Some(longest_s)) = (needed_s, longest_s)
            && needed_s > longest_s
        {
            sentences.push(format!(
                "a trainer with more time, for {} of {}: the live ones have {} left at most",
                count(rung.open, "open job"),
                about(needed_s),
                about(longest_s)
            ));
        }
    }
    sentences
}
