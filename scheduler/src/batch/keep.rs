//! Keeps trainers in the queue in place of those that have ended, until the search is finished.
//!
//! A trainer that is warned, preempted, or on a node that fails is queued again by its script or by the batch system. What
//! that leaves out is done here: tasks that were cancelled, ended at their limit without having heard the warning, or
//! failed. All it decides by is in files and in the queue, so it may be ended and started again anywhere.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use shared::Directory;
use shared::cli::report;
use shared::exit::Code;
use shared::signal::Warning;
use tracing::{error, info, warn};

use super::fill::Queue;
use super::submission::{self, Submission, UNKNOWN};
use super::{Kind, Meaning, Role, Task};

/// Arrays that ended without one good start, and none with one since, after which no more are submitted.
const MOST_FAILED: usize = 3;
/// Heartbeats of a trainer whose start was a good one.
const GOOD_BEATS: u64 = 3;
/// The longest pause after the batch system has refused something or not answered.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// How often it is looked whether the search is over.
const LOOK: Duration = Duration::from_secs(5);

/// Looks at the queue every `poll_s` seconds and submits what is missing.
pub(crate) fn keep(queue: &Queue<'_>, poll_s: f64) -> Result<Code> {
    let (system, directory) = (queue.system, queue.directory);
    let warning = Warning::listen().context("cannot listen for signals")?;
    if system.own_job().is_none() {
        let number: u32 = queue.groups.iter().map(|group| group.number).sum();
        report(&format!(
            "keeping {number} trainers in {}'s queue; where compute nodes may submit, the coordinator does so too, and \
             this may be ended",
            system.name()
        ));
    }
    let mut refusals = 0_u32;
    let mut was_broken = false;
    loop {
        let refused = turn(queue, &mut was_broken).err();
        refusals = refused.as_ref().map_or(0, |_error| refusals + 1);
        let pause = Duration::from_secs_f64(poll_s)
            .saturating_mul(1 << refusals.min(10))
            .min(LONGEST_PAUSE);
        if let Some(error) = refused {
            warn!(
                "cannot keep trainers in the queue, next try in {} s: {error:#}; if other arguments are needed, end this \
                 and the coordinator (`{} --cancel`), and start anew",
                pause.as_secs_f64(),
                system.command()
            );
        }
        let start = Instant::now();
        let mut looked = start;
        while start.elapsed() < pause {
            if let Some(signal) = warning.received() {
                info!(
                    "{signal}: leaving; {}'s queue stays as it is",
                    system.name()
                );
                return Ok(Code::Again);
            }
            std::thread::sleep(Duration::from_millis(200).min(pause));
            if looked.elapsed() < LOOK.min(pause) {
                continue;
            }
            looked = Instant::now();
            if is_over(directory) {
                report("the search is finished or stopped: no more trainers are needed");
                return Ok(Code::Done);
            }
        }
    }
}

/// Whether no program of the search is needed any more; what cannot be read now may be later.
fn is_over(directory: &Directory) -> bool {
    let flags = directory.flags().unwrap_or_default();
    flags.is_finished || flags.is_stopped
}

fn turn(queue: &Queue<'_>, was_broken: &mut bool) -> Result<()> {
    let (system, command) = (queue.system.name(), queue.system.command());
    let last = submission::last_number(queue.system, queue.directory)?;
    let tasks = queue.tasks()?;
    let live: BTreeSet<&str> = tasks
        .iter()
        .filter(|task| task.meaning.is_live())
        .map(|task| task.job.as_str())
        .collect();
    let mut arrays = submission::all(queue.system, queue.directory)?;
    let num_unknown = arrays.iter().rev().take_while(|it| it.job == UNKNOWN);
    let num_unknown = num_unknown.count();
    arrays.retain(|submission| submission.kind == Kind::Trainers);
    let num_failed = failed_starts(&arrays, &live, &started_well(queue)?);
    let is_broken = num_failed >= MOST_FAILED || num_unknown >= MOST_FAILED;
    if num_unknown >= MOST_FAILED && !*was_broken {
        error!(
            "of {num_unknown} submissions, one after the other, {system} has neither named the job nor shown it in its queue: no \
             more are submitted. When `{command}` without --keep is understood again, this goes on"
        );
    } else if is_broken && !*was_broken {
        error!(
            "{num_failed} arrays of trainers have ended, one after the other, before any of them had run for \
             {GOOD_BEATS} heartbeats: no more are submitted. See the logs in `{}`; when the cause is gone, `{command}` \
             without --keep submits once more, and if those run, this goes on",
            submission::folder(queue.system, queue.directory).display()
        );
    }
    *was_broken = is_broken;
    if is_broken {
        return Ok(());
    }
    let excluded_before = arrays.last().map_or(&[][..], |array| &array.excluded);
    let mut trainers: Vec<&Task> = tasks.iter().collect();
    trainers.retain(|task| {
        let role = Role::named(queue.root(), &task.name);
        role.is_some_and(|role| role.kind == Kind::Trainers)
    });
    let excluded = nodes_to_avoid(&trainers, excluded_before);
    let orders = queue.missing(&tasks, &excluded);
    if orders.iter().any(|order| !order.excluded.is_empty()) && excluded != excluded_before {
        warn!(
            "trainers have failed on {} while others run: no more are submitted for those nodes; `{command}` \
             without --keep takes that back",
            excluded.join(", ")
        );
    }
    queue.submit(&orders, &tasks, last)
}

/// Nodes on which trainers have failed, now or before, and none runs, while trainers run elsewhere: the fault is the
/// node's. Where none runs anywhere it may be anything's.
fn nodes_to_avoid(trainers: &[&Task], before: &[String]) -> Vec<String> {
    let nodes = |meaning: Meaning| {
        let with_it = trainers.iter().filter(move |task| task.meaning == meaning);
        with_it.filter_map(|task| task.node.clone())
    };
    let running: BTreeSet<String> = nodes(Meaning::Living).collect();
    if running.is_empty() {
        return Vec::new();
    }
    let mut avoided: BTreeSet<String> = nodes(Meaning::Failed).collect();
    avoided.extend(before.iter().cloned());
    avoided.difference(&running).cloned().collect()
}

/// The arrays of which a trainer has run for some time.
fn started_well(queue: &Queue<'_>) -> Result<BTreeSet<String>> {
    let heartbeats = queue.directory.heartbeats()?;
    let good = heartbeats
        .into_values()
        .filter(|heartbeat| heartbeat.beat >= GOOD_BEATS)
        .filter_map(|heartbeat| heartbeat.slurm_job);
    Ok(good
        .map(|job| queue.system.array_of(&job).to_owned())
        .collect())
}

/// How many arrays are over without a good start since the last one that had one.
///
/// Those that are queued or running, and may still have one, neither count nor excuse the others: where few tasks run at a
/// time, the newest array is always queued.
fn failed_starts(arrays: &[Submission], live: &BTreeSet<&str>, good: &BTreeSet<String>) -> usize {
    debug_assert!(arrays.iter().all(|array| array.kind == Kind::Trainers));
    let jobs = arrays.iter().rev().map(|array| array.job.as_str());
    jobs.take_while(|job| !good.contains(*job))
        .filter(|job| !live.contains(job))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::submission::tests::array;

    fn task(meaning: Meaning, node: &str) -> Task {
        Task {
            name: "tandem".into(),
            job: "1".into(),
            state: "X".into(),
            meaning,
            reason: String::new(),
            node: Some(node.to_owned()).filter(|node| !node.is_empty()),
        }
    }

    #[test]
    fn nodes_whose_trainers_fail_are_avoided_while_others_run() {
        let avoided = |tasks: &[Task], before: &[&str]| {
            let before: Vec<String> = before.iter().map(|&node| node.to_owned()).collect();
            nodes_to_avoid(&tasks.iter().collect::<Vec<_>>(), &before)
        };
        let failed = |node| task(Meaning::Failed, node);
        let running = |node| task(Meaning::Living, node);
        let lost = |node| task(Meaning::Ended(shared::Fate::NodeLost), node);
        assert_eq!(
            avoided(&[failed("b"), failed("a"), running("c")], &[]),
            ["a", "b"]
        );
        // The queue forgets what has ended.
        assert_eq!(avoided(&[failed("a"), running("c")], &["b"]), ["a", "b"]);
        // One fails there, another one runs: it is not the node.
        assert_eq!(avoided(&[failed("a"), running("a")], &[]), [""; 0]);
        // All fail, or have failed: it is not the nodes, and avoiding all would leave none.
        assert_eq!(
            avoided(
                &[failed("a"), failed("b"), task(Meaning::Waiting, "")],
                &["c"]
            ),
            [""; 0]
        );
        // The batch system itself sees to nodes that are down.
        assert_eq!(avoided(&[lost("a"), running("c")], &[]), [""; 0]);
    }

    #[test]
    fn arrays_that_came_to_nothing_count_since_the_last_good_one() {
        let arrays: Vec<Submission> = (1..=5).map(array).collect();
        let good: BTreeSet<String> = ["2".to_owned()].into();
        assert_eq!(failed_starts(&arrays, &[].into(), &good), 3);
        // One that is queued or running may still come to something, which it has when it is good.
        assert_eq!(failed_starts(&arrays, &["5"].into(), &good), 2);
        assert_eq!(failed_starts(&arrays, &["3", "4"].into(), &good), 1);
        assert_eq!(
            failed_starts(&arrays, &["5"].into(), &["5".to_owned()].into()),
            0
        );
        assert_eq!(failed_starts(&[], &[].into(), &good), 0);
    }
}
