//! Which open jobs a trainer claims: what it has time and memory for, and what has not just failed here.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Result;
use rand::RngExt as _;
use shared::Directory;
use shared::owner::host_name;
use shared::record::{Heartbeat, Job, TrainerState};
use shared::{AttemptId, BudgetUnit, Claim, JobId, OwnerId, clock, fs, layout};
use tracing::{info, warn};

use crate::evaluator::Evaluator;
use crate::time_limit::{MARGIN, TimeLimit};

/// How long a job is left to other trainers after this machine failed at it.
const REFUSAL: Duration = Duration::from_mins(5);
/// How long what is known of other trainers is used.
const KNOWN: Duration = Duration::from_secs(5);

/// Chooses jobs for one trainer.
#[derive(Debug)]
pub(crate) struct Selection<'a> {
    directory: &'a Directory,
    evaluator: &'a Evaluator,
    owner: OwnerId,
    limit: TimeLimit,
    me: Peer,
    /// Jobs that this trainer gave back because its machine failed, and when: others shall have them first.
    refused: RefCell<BTreeMap<JobId, Instant>>,
    /// Open jobs that are left to others for want of time or memory, as the log has said.
    left: RefCell<BTreeSet<AttemptId>>,
    others: RefCell<Option<(Instant, Vec<Peer>)>>,
}

impl<'a> Selection<'a> {
    pub(crate) fn new(
        directory: &'a Directory,
        evaluator: &'a Evaluator,
        owner: OwnerId,
        limit: TimeLimit,
    ) -> Self {
        let computer = evaluator.computer();
        Self {
            directory,
            evaluator,
            owner,
            limit,
            me: Peer {
                host: host_name(),
                memory_mib: computer.device_memory_mib.or(computer.memory_mib),
            },
            refused: RefCell::default(),
            left: RefCell::default(),
            others: RefCell::default(),
        }
    }

    /// Claims the first open job that can be had and that this trainer can do.
    pub(crate) fn claim_one(
        &self,
        mut open: Vec<AttemptId>,
        rng: &mut impl rand::Rng,
    ) -> Result<Option<(Claim, Job)>> {
        open.retain(|attempt| self.has_time_for(*attempt) && !self.has_refused(attempt.job));
        let mut index = 0;
        while !open.is_empty() {
            let attempt = open.remove(index);
            if self.suits(attempt)
                && let Some(claimed) = self.directory.claim(attempt, &self.owner)?
            {
                info!("claimed job={attempt} budget={}", claimed.1.budget);
                return Ok(Some(claimed));
            }
            // Somebody was faster; others go down the same list, so go on elsewhere.
            index = if open.is_empty() {
                0
            } else {
                rng.random_range(0..open.len())
            };
        }
        Ok(None)
    }

    /// This machine failed at a job: it is left to others for a while.
    pub(crate) fn refuse(&self, job: JobId) {
        self.refused.borrow_mut().insert(job, clock::instant());
    }

    /// Whether this machine failed at a job a short while ago.
    pub(crate) fn has_refused(&self, job: JobId) -> bool {
        self.refused
            .borrow()
            .get(&job)
            .is_some_and(|at| clock::since(*at) < REFUSAL)
    }

    /// A job that cannot be continued later must be able to end before the SLURM job does.
    fn has_time_for(&self, attempt: AttemptId) -> bool {
        let Some(left) = self.limit.left() else {
            return true;
        };
        if self.evaluator.can_continue() {
            return true;
        }
        let ladder = self.directory.search().ladder.up_to(attempt.job.rung);
        let Some(ladder) = ladder else {
            return true; // a foreign job: claiming it finds that out
        };
        match ladder.unit() {
            BudgetUnit::Seconds | BudgetUnit::CpuSeconds => {
                let needed = ladder.budget(attempt.job.rung).amount + MARGIN.as_secs_f64();
                let is_enough = left.as_secs_f64() > needed;
                if !is_enough && self.left.borrow_mut().insert(attempt) {
                    warn!(
                        "job={attempt} needs {needed} s and this SLURM job has {} s left: left to trainers with more time",
                        left.as_secs()
                    );
                }
                is_enough
            }
            // Nobody knows how long an epoch of somebody else's program takes.
            BudgetUnit::Epochs | BudgetUnit::Steps => true,
        }
    }

    /// Whether this host has what a job needs, or nobody else is nearer to that.
    fn suits(&self, attempt: AttemptId) -> bool {
        // Looking costs a read, so only where something may be said.
        if !self.evaluator.knows_needs() && attempt.attempt == 1 {
            return true;
        }
        // What cannot be read is found out about by claiming it.
        let Ok(job) = fs::read_record::<Job>(&self.directory.layout().open(attempt)) else {
            return true;
        };
        let predicted = self.evaluator.needed_mib(&job.configuration);
        let needs = Needs {
            memory_mib: job.memory_mib.into_iter().chain(predicted).reduce(f64::max),
            avoid_hosts: job.avoid_hosts,
        };
        if needs.are_met_by(&self.me)
            || !self
                .others()
                .iter()
                .any(|other| other.is_nearer(&needs, &self.me))
        {
            return true;
        }
        if self.left.borrow_mut().insert(attempt) {
            info!(
                "job={attempt} is left to other trainers: it has crashed here, or needs more memory"
            );
        }
        false
    }

    /// The other trainers that live; nobody, where that cannot be told.
    fn others(&self) -> Vec<Peer> {
        if let Some((at, others)) = &*self.others.borrow()
            && clock::since(*at) < KNOWN
        {
            return others.clone();
        }
        let others = self.read_others().unwrap_or_default();
        *self.others.borrow_mut() = Some((clock::instant(), others.clone()));
        others
    }

    fn read_others(&self) -> Result<Vec<Peer>> {
        let layout = self.directory.layout();
        let now_s = fs::now_s(&layout.path(layout::TRAINERS))?;
        let lease_s = self.directory.lease().as_secs_f64();
        let mut others = Vec::new();
        for (owner, heartbeat) in self.directory.heartbeats()? {
            let is_other = owner != self.owner && heartbeat.state != TrainerState::Gone;
            let written_s = fs::written_s(&layout.heartbeat(&owner))?;
            if is_other && written_s.is_some_and(|written_s| now_s - written_s <= lease_s) {
                others.push(Peer::from(&heartbeat));
            }
        }
        Ok(others)
    }
}

/// What a job needs of the host that does it.
#[derive(Debug, Clone, Default, PartialEq)]
struct Needs {
    /// MiB, as far as known.
    memory_mib: Option<f64>,
    /// Hosts on which it has crashed without any progress.
    avoid_hosts: Vec<String>,
}

impl Needs {
    fn are_met_by(&self, peer: &Peer) -> bool {
        !self.avoid_hosts.contains(&peer.host) && self.fit(peer)
    }

    fn fit(&self, peer: &Peer) -> bool {
        let (Some(needed), Some(there)) = (self.memory_mib, peer.memory_mib) else {
            return true; // nobody knows better
        };
        needed <= there
    }
}

/// A trainer, as far as jobs ask for it.
#[derive(Debug, Clone, PartialEq)]
struct Peer {
    host: String,
    /// MiB that its trainings have.
    memory_mib: Option<f64>,
}

impl From<&Heartbeat> for Peer {
    fn from(heartbeat: &Heartbeat) -> Self {
        Self {
            host: heartbeat.host.clone(),
            memory_mib: heartbeat.training_memory_mib(),
        }
    }
}

impl Peer {
    /// Whether this one shall have the job rather than `me`, whom it does not suit: because it suits this one, or because,
    /// where it fits nobody, this one has more memory.
    fn is_nearer(&self, needs: &Needs, me: &Self) -> bool {
        if needs.are_met_by(self) {
            return true;
        }
        let has_more = self.memory_mib.unwrap_or(0.0) > me.memory_mib.unwrap_or(0.0);
        !needs.fit(me) && has_more && !needs.avoid_hosts.contains(&self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(host: &str, memory_mib: f64) -> Peer {
        Peer {
            host: host.to_owned(),
            memory_mib: Some(memory_mib),
        }
    }

    fn takes(needs: &Needs, me: &Peer, others: &[Peer]) -> bool {
        needs.are_met_by(me) || !others.iter().any(|other| other.is_nearer(needs, me))
    }

    #[test]
    fn a_job_goes_to_whom_it_fits_and_else_to_the_largest() {
        let (small, large) = (peer("a", 1000.0), peer("b", 2000.0));
        let needs = |mib| Needs {
            memory_mib: Some(mib),
            ..Needs::default()
        };
        for (needed, of_small, of_large) in [
            (500.0, true, true),
            (1500.0, false, true),
            (9000.0, false, true),
        ] {
            let needs = needs(needed);
            assert_eq!(
                takes(&needs, &small, std::slice::from_ref(&large)),
                of_small,
                "{needed}"
            );
            assert_eq!(
                takes(&needs, &large, std::slice::from_ref(&small)),
                of_large,
                "{needed}"
            );
            assert!(
                takes(&needs, &small, std::slice::from_ref(&small)),
                "nobody is larger"
            );
        }
        let unknown = Peer {
            host: "c".to_owned(),
            memory_mib: None,
        };
        assert!(takes(&needs(9000.0), &unknown, &[large]));
    }

    #[test]
    fn a_job_that_crashed_on_a_host_goes_to_another_while_there_is_one() {
        let needs = Needs {
            memory_mib: None,
            avoid_hosts: vec!["a".to_owned()],
        };
        let (here, there) = (peer("a", 1000.0), peer("b", 500.0));
        assert!(!takes(&needs, &here, std::slice::from_ref(&there)));
        assert!(takes(&needs, &there, std::slice::from_ref(&here)));
        assert!(takes(&needs, &here, std::slice::from_ref(&here)));
        assert!(takes(&needs, &here, &[]));
        // Too large for the other one, too: it would only crash there in another way.
        let both = Needs {
            memory_mib: Some(800.0),
            ..needs
        };
        assert!(takes(&both, &here, &[there]));
    }
}
