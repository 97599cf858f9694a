//! Whose fault a failure is, as far as a scheduler decides it: when an outcome counts against its configuration, and when
//! the job is tried elsewhere first.
//!
//! | outcome | what else is known | decision |
//! |--|--|--|
//! | crashed, nothing of it ever progressed | a trainer lives on another host, and this was the first such crash, or no host of them has ever done better | once more, on a host where it has not crashed |
//! | crashed, nothing of it ever progressed | else | counts, until it turns out that others do better than those hosts ever did |
//! | out of memory | a trainer with more memory lives | once more, on the largest |
//! | out of memory | else | counts |
//! | any other | | counts |
//!
//! When a search begins with attempts that crash so, or that are lost, and with nothing else, jobs are offered no more until somebody has had a look.
#![warn(clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, BTreeSet};

use shared::record::{Retry, RetryReason};
use shared::{AttemptId, JobId, JobResult, Outcome, OwnerId, ResultId, Score, clock};

/// The field of a result's notes that names the host.
const HOST: &str = "host";

/// By how much a trainer's memory must be larger to be called larger.
const LARGER: f64 = 1.01;

/// What of a result matters here; the rest would fill the memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// Which.
    pub id: ResultId,
    /// The attempt that gave it.
    pub attempt: u32,
    /// How good it is; `None` if it says nothing about the configuration.
    pub score: Option<Score>,
    /// How long it took.
    pub elapsed_s: f64,
    /// Whether it has a message that people should see.
    pub has_crashed: bool,
    /// Why it may not be the configuration's fault.
    pub doubt: Option<Doubt>,
    /// How many attempts in a row, up to this one, ended without any progress.
    pub fruitless: u32,
    /// The host it comes from.
    pub host: Option<String>,
    /// Whether it was known to be infeasible before anything was tried: it says nothing of the host.
    pub is_untrained: bool,
    /// The rung at whose budget it was stopped, if it was.
    pub stopped_at: Option<u8>,
    /// Whether it was evaluated and no loss was seen at a lower rung's budget.
    pub is_unchecked: bool,
}

/// Why a failure may not be the configuration's fault.
#[derive(Debug, Clone, PartialEq)]
pub enum Doubt {
    /// Nothing of it ever progressed.
    NoProgress,
    /// It had so little memory.
    Memory {
        /// MiB that were free.
        available_mib: f64,
        /// Who trained it.
        owner: OwnerId,
    },
}

impl Known {
    /// A result with no doubt about it.
    pub fn certain(attempt: AttemptId, score: Option<Score>) -> Self {
        Self {
            id: attempt.job.into(),
            attempt: attempt.attempt,
            score,
            elapsed_s: 0.0,
            has_crashed: false,
            doubt: None,
            fruitless: 0,
            host: None,
            is_untrained: false,
            stopped_at: None,
            is_unchecked: false,
        }
    }

    /// The attempt that gave it.
    pub fn attempt(&self) -> AttemptId {
        self.id.job.attempt(self.attempt)
    }
}

impl Known {
    /// What matters of a result, by the objectives of its search.
    pub fn of(result: &JobResult, objectives: &[String]) -> Self {
        let doubt = match &result.outcome {
            Outcome::Crashed {
                progressed: Some(false),
                ..
            } => Some(Doubt::NoProgress),
            Outcome::OutOfMemory { available_mib, .. } => Some(Doubt::Memory {
                available_mib: *available_mib,
                owner: result.owner.clone(),
            }),
            Outcome::Evaluated { .. }
            | Outcome::Stopped { .. }
            | Outcome::Diverged { .. }
            | Outcome::Infeasible { .. }
            | Outcome::Crashed { .. }
            | Outcome::Lost { .. } => None,
        };
        let fruitless = match &result.outcome {
            Outcome::Crashed {
                progressed: Some(false),
                ..
            } => 1,
            Outcome::Lost { attempts, .. } => *attempts,
            Outcome::Evaluated { .. }
            | Outcome::Stopped { .. }
            | Outcome::Diverged { .. }
            | Outcome::Infeasible { .. }
            | Outcome::Crashed { .. }
            | Outcome::OutOfMemory { .. } => 0,
        };
        Self {
            id: result.id(),
            attempt: result.attempt.attempt,
            score: result.score(objectives),
            elapsed_s: result.elapsed_s,
            has_crashed: matches!(result.outcome, Outcome::Crashed { .. }),
            doubt,
            fruitless,
            host: result.notes.get(HOST).cloned(),
            is_untrained: matches!(
                result.outcome,
                Outcome::Infeasible {
                    trained_loss: None,
                    ..
                }
            ),
            stopped_at: match result.outcome {
                // There is one check a rung, up to there.
                Outcome::Stopped { .. } => {
                    let number = u8::try_from(result.checks.len()).unwrap_or(u8::MAX);
                    Some(number.saturating_sub(1).min(result.job().rung))
                }
                Outcome::Evaluated { .. }
                | Outcome::Diverged { .. }
                | Outcome::Infeasible { .. }
                | Outcome::Crashed { .. }
                | Outcome::OutOfMemory { .. }
                | Outcome::Lost { .. } => None,
            },
            is_unchecked: result.outcome.loss().is_some() && result.checks.is_empty(),
        }
    }
}

/// A living trainer, as far as it matters for who may do a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Living {
    /// Its host.
    pub host: String,
    /// MiB that a training has there, where it says so.
    pub memory_mib: Option<f64>,
}

/// A job is to be done again, by whom.
#[derive(Debug, Clone, PartialEq)]
pub struct Again {
    /// The attempt whose outcome does not count.
    pub supersedes: AttemptId,
    /// Why.
    pub reason: RetryReason,
    /// Hosts on which it crashed without any progress.
    pub avoid_hosts: Vec<String>,
    /// MiB that a trainer must have.
    pub memory_mib: Option<f64>,
}

impl Again {
    /// Because somebody asks for it.
    pub fn asked(supersedes: AttemptId) -> Self {
        Self {
            supersedes,
            reason: RetryReason::Asked,
            avoid_hosts: Vec::new(),
            memory_mib: None,
        }
    }

    /// The record that says so, written now.
    pub fn record(&self) -> Retry {
        Retry {
            supersedes: self.supersedes,
            reason: self.reason,
            avoid_hosts: self.avoid_hosts.clone(),
            memory_mib: self.memory_mib,
            at: clock::now(),
            program: concat!("scheduler ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// To whom a job should be left.
#[derive(Debug, Clone, PartialEq)]
pub struct Restrictions {
    /// To others than these hosts.
    pub avoid_hosts: Vec<String>,
    /// To trainers with so many MiB of memory.
    pub memory_mib: Option<f64>,
}

impl Restrictions {
    fn says_anything(&self) -> bool {
        !self.avoid_hosts.is_empty() || self.memory_mib.is_some()
    }
}

impl From<Retry> for Again {
    fn from(retry: Retry) -> Self {
        Self {
            supersedes: retry.supersedes,
            reason: retry.reason,
            avoid_hosts: retry.avoid_hosts,
            memory_mib: retry.memory_mib,
        }
    }
}

/// What is known of failures, and of those who could do better.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Trainers that live.
    pub living: BTreeMap<OwnerId, Living>,
    /// The last retry of each job.
    retries: BTreeMap<JobId, Again>,
    /// Hosts on which something has progressed.
    proven: BTreeSet<String>,
    /// Whether anything has, wherever it was.
    has_progressed: bool,
    /// Attempts that crashed or were lost without any progress, of jobs which nobody has asked to be retried.
    fruitless: BTreeSet<AttemptId>,
}

impl Faults {
    /// A result is known, whether it counts or not.
    pub(crate) fn see_result(&mut self, known: &Known) {
        if known.fruitless > 0 {
            let attempt = known.attempt();
            let is_asked = self.retries.get(&attempt.job).is_some_and(|again| {
                again.supersedes >= attempt && again.reason == RetryReason::Asked
            });
            if !is_asked {
                let first = attempt.attempt.saturating_sub(known.fruitless - 1);
                let attempts = first..=attempt.attempt;
                self.fruitless
                    .extend(attempts.map(|number| attempt.job.attempt(number)));
            }
        } else if (known.score.is_some() || known.stopped_at.is_some()) && !known.is_untrained {
            self.has_progressed = true;
            self.proven.extend(known.host.clone());
        }
    }

    /// A trainer says that its job progresses.
    pub(crate) fn see_progress(&mut self, host: &str) {
        self.has_progressed = true;
        if !self.proven.contains(host) {
            self.proven.insert(host.to_owned());
        }
    }

    /// A retry is known; false if it is not news.
    pub(crate) fn see_retry(&mut self, again: Again) -> bool {
        let job = again.supersedes.job;
        let known = self.retries.get(&job);
        if known.is_some_and(|known| known.supersedes >= again.supersedes) {
            return false;
        }
        if again.reason == RetryReason::Asked {
            // Whoever asks has had a look.
            self.fruitless
                .retain(|attempt| attempt.job != job || *attempt > again.supersedes);
        }
        self.retries.insert(job, again);
        true
    }

    /// The attempt of a job whose outcome was superseded last.
    pub fn superseded(&self, job: JobId) -> Option<AttemptId> {
        self.retries.get(&job).map(|again| again.supersedes)
    }

    /// Whether a result no longer counts.
    pub(crate) fn is_superseded(&self, known: &Known) -> bool {
        let superseded = self.superseded(known.id.job);
        superseded.is_some_and(|superseded| known.attempt() <= superseded)
    }

    /// The first attempts of a search that nothing has progressed in, if there are so many that jobs are not offered any
    /// more.
    pub fn pause(&self, after: u32) -> Option<&BTreeSet<AttemptId>> {
        let is_paused = after > 0 && !self.has_progressed && self.fruitless.len() >= after as usize;
        is_paused.then_some(&self.fruitless)
    }

    /// What to do about a failure that may not be the configuration's fault; `None`: it counts.
    pub fn decide(&self, known: &Known) -> Option<Again> {
        let before = self.retries.get(&known.id.job);
        let mut again = Again {
            avoid_hosts: before.map_or_else(Vec::new, |again| again.avoid_hosts.clone()),
            memory_mib: before.and_then(|again| again.memory_mib),
            ..Again::asked(known.attempt())
        };
        match known.doubt.as_ref()? {
            Doubt::NoProgress => {
                let is_first = again.avoid_hosts.is_empty();
                let host = known.host.clone()?;
                if !again.avoid_hosts.contains(&host) {
                    again.avoid_hosts.push(host);
                }
                let is_any_proven = again.avoid_hosts.iter().any(|h| self.proven.contains(h));
                let is_worth_it = is_first || !is_any_proven;
                again.reason = RetryReason::OtherHost;
                (is_worth_it && self.lives_elsewhere(&again.avoid_hosts)).then_some(again)
            }
            Doubt::Memory {
                available_mib,
                owner,
            } => {
                let had_mib = self.living.get(owner).and_then(|living| living.memory_mib);
                let had_mib = had_mib.unwrap_or(0.0).max(*available_mib);
                let largest_mib = self.largest_mib()?;
                again.reason = RetryReason::LargerTrainer;
                again.memory_mib = Some(largest_mib);
                (largest_mib > had_mib * LARGER).then_some(again)
            }
        }
    }

    /// What to do about a crash that counted: no host of it ever did better, and now one lives on which others do.
    pub(crate) fn reconsider(&self, known: &Known) -> Option<Again> {
        let again = self.decide(known)?;
        let tried = &again.avoid_hosts;
        let mut living = self.living.values().map(|living| &living.host);
        let is_any_better = living.any(|host| self.proven.contains(host) && !tried.contains(host));
        let is_any_proven = tried.iter().any(|host| self.proven.contains(host));
        (again.reason == RetryReason::OtherHost && is_any_better && !is_any_proven).then_some(again)
    }

    /// To whom a job should be left, whoever lives; `None`: to all.
    pub fn wanted(&self, job: JobId) -> Option<Restrictions> {
        let again = self.retries.get(&job)?;
        let is_any = !again.avoid_hosts.is_empty() || again.memory_mib.is_some();
        is_any.then(|| Restrictions {
            avoid_hosts: again.avoid_hosts.clone(),
            memory_mib: again.memory_mib,
        })
    }

    /// To whom a job should be left, as far as there is somebody who can do it then; `None`: to all.
    pub(crate) fn restrictions(&self, job: JobId) -> Option<Restrictions> {
        let wanted = self.wanted(job)?;
        let of_memory = Restrictions {
            avoid_hosts: Vec::new(),
            ..wanted.clone()
        };
        let of_hosts = Restrictions {
            memory_mib: None,
            ..wanted.clone()
        };
        [wanted, of_memory, of_hosts]
            .into_iter()
            .find(|restrictions| restrictions.says_anything() && self.lives_any(restrictions))
    }

    /// Whether a trainer lives that a job may be left to.
    pub(crate) fn lives_any(&self, restrictions: &Restrictions) -> bool {
        let is_large = |living: &Living| match (restrictions.memory_mib, living.memory_mib) {
            (Some(wanted), Some(mib)) => mib >= wanted,
            (wanted, _) => wanted.is_none(),
        };
        let mut living = self.living.values();
        living.any(|living| is_large(living) && !restrictions.avoid_hosts.contains(&living.host))
    }

    /// Whether a trainer lives on none of these hosts.
    fn lives_elsewhere(&self, hosts: &[String]) -> bool {
        self.living
            .values()
            .any(|living| !hosts.contains(&living.host))
    }

    /// MiB that the largest living trainer has, if any says so.
    pub(crate) fn largest_mib(&self) -> Option<f64> {
        let known = self.living.values().filter_map(|living| living.memory_mib);
        known.reduce(f64::max)
    }
}

#[cfg(test)]
mod tests {
    use shared::ConfigurationId;

    use super::*;

    fn faults(hosts: &[(&str, f64)]) -> Faults {
        let living = hosts.iter().map(|(host, memory_mib)| {
            let living = Living {
                host: (*host).to_owned(),
                memory_mib: Some(*memory_mib),
            };
            (host.parse().unwrap(), living)
        });
        Faults {
            living: living.collect(),
            ..Faults::default()
        }
    }

    fn failure(attempt: u32, host: &str, doubt: Doubt) -> Known {
        let attempt = ConfigurationId(0).job(0).attempt(attempt);
        Known {
            fruitless: u32::from(doubt == Doubt::NoProgress),
            doubt: Some(doubt),
            host: Some(host.to_owned()),
            ..Known::certain(attempt, Some(Score::Failed))
        }
    }

    /// The hosts to be avoided, if the crash is to be repeated.
    fn decided(faults: &mut Faults, attempt: u32, host: &str) -> Option<Vec<String>> {
        let known = failure(attempt, host, Doubt::NoProgress);
        faults.see_result(&known);
        let again = faults.decide(&known)?;
        assert_eq!(again.reason, RetryReason::OtherHost);
        assert!(faults.see_retry(again.clone()) && !faults.see_retry(again.clone()));
        assert!(faults.is_superseded(&known));
        Some(again.avoid_hosts)
    }

    #[test]
    fn a_crash_without_progress_is_repeated_once_where_another_host_lives() {
        let mut alone = faults(&[("a", 1.0)]);
        assert_eq!(decided(&mut alone, 1, "a"), None);
        let mut two = faults(&[("a", 1.0), ("b", 1.0)]);
        two.see_progress("a");
        assert_eq!(decided(&mut two, 1, "a"), Some(vec!["a".to_owned()]));
        assert_eq!(decided(&mut two, 2, "b"), None);
    }

    #[test]
    fn hosts_that_never_did_better_do_not_speak_against_a_configuration() {
        let mut four = faults(&[("a", 1.0), ("b", 1.0), ("c", 1.0), ("d", 1.0)]);
        assert!(decided(&mut four, 1, "a").is_some());
        let both = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(decided(&mut four, 2, "b"), Some(both));
        four.see_progress("c");
        assert_eq!(decided(&mut four, 3, "c"), None);
    }

    #[test]
    fn a_crash_that_counted_is_reconsidered_when_its_host_turns_out_to_be_bad() {
        let mut faults = faults(&[("bad", 1.0)]);
        let known = failure(1, "bad", Doubt::NoProgress);
        faults.see_result(&known);
        assert_eq!(faults.decide(&known), None);
        let living = Living {
            host: "good".to_owned(),
            memory_mib: None,
        };
        faults.living.insert("good".parse().unwrap(), living);
        assert_eq!(faults.reconsider(&known), None);
        faults.see_progress("good");
        assert!(faults.reconsider(&known).is_some());
        faults.see_progress("bad");
        assert_eq!(faults.reconsider(&known), None);
    }

    #[test]
    fn only_the_largest_trainer_speaks_on_memory() {
        let mut two = faults(&[("small", 8_000.0), ("large", 40_000.0)]);
        let out = |attempt, host: &str| {
            let doubt = Doubt::Memory {
                available_mib: 7_000.0,
                owner: host.parse().unwrap(),
            };
            failure(attempt, host, doubt)
        };
        let again = two.decide(&out(1, "small")).unwrap();
        assert_eq!(again.memory_mib, Some(40_000.0));
        two.see_retry(again);
        let job = ConfigurationId(0).job(0);
        let restrictions = two.restrictions(job).unwrap();
        assert_eq!(restrictions.memory_mib, Some(40_000.0));
        assert_eq!(two.decide(&out(2, "large")), None);
        // When it is gone, the others may try.
        two.living.remove(&"large".parse().unwrap());
        assert_eq!(two.restrictions(job), None);
        assert!(two.wanted(job).is_some());
    }

    #[test]
    fn a_search_that_begins_with_crashes_alone_is_paused_until_somebody_asks() {
        let mut faults = faults(&[("a", 1.0)]);
        for number in 0..5 {
            assert!(faults.pause(5).is_none());
            let attempt = ConfigurationId(number).job(0).attempt(1);
            faults.see_result(&Known {
                doubt: Some(Doubt::NoProgress),
                fruitless: 1,
                ..Known::certain(attempt, Some(Score::Failed))
            });
        }
        assert_eq!(faults.pause(5).map(BTreeSet::len), Some(5));
        assert!(faults.pause(6).is_none() && faults.pause(0).is_none());
        let mut asked = faults.clone();
        asked.see_retry(Again::asked(ConfigurationId(2).job(0).attempt(1)));
        assert!(asked.pause(5).is_none());
        // Whatever goes on shows that the search can.
        faults.see_progress("b");
        assert!(faults.pause(5).is_none());
    }

    #[test]
    fn a_search_whose_first_job_is_lost_after_so_many_attempts_is_paused() {
        let mut faults = faults(&[("a", 1.0)]);
        let last = ConfigurationId(0).job(0).attempt(7);
        faults.see_result(&Known {
            fruitless: 5,
            ..Known::certain(last, None)
        });
        assert_eq!(faults.pause(5).map(BTreeSet::len), Some(5));
        faults.see_retry(Again::asked(last));
        assert!(faults.pause(1).is_none());
    }
}
