//! Trainers that are ended at a limit of their SLURM job without having heard a warning: SLURM's of time, the kernel's of
//! memory. That costs attempts, and no configuration its result.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use harness::cluster::{Cluster, Queued};
use harness::{TestSearch, counting_ones, program};
use shared::Outcome;

use super::{fates, has_lost, logs, wait_for_end, wait_for_queue};

/// Lets the memory of a trainer's SLURM job run full; the kernel ends the trainer first.
const FILL_MEMORY: &str = "
trainer=$(pgrep -x trainer)
echo 1000 >/proc/$trainer/oom_score_adj
echo $$ >/sys/fs/cgroup/memory$(sed -n 's/.*:memory://p' /proc/$trainer/cgroup)/cgroup.procs
tail /dev/zero
";

/// Submits two trainers, and lets the coordinator keep them; each has a node of its own.
fn keep_two_trainers(cluster: &Cluster, test: &TestSearch) -> Result<()> {
    let (scheduler, root) = (program("scheduler"), test.root());
    let (scheduler, root) = (scheduler.to_string_lossy(), root.to_string_lossy());
    // By hand, but not for long: the coordinator does the same.
    let mut arguments = vec!["-s", "TERM", "10", &*scheduler, "slurm", &*root];
    arguments.extend(["--trainers", "2", "--time", "20", "--keep", "--poll-s", "1"]);
    // A user's `--signal` takes the place of the warning.
    arguments.extend(["--", "--exclusive", "--mem=200", "--signal=B:CONT@1"]);
    let _ended_by_the_signal = cluster.run(Path::new("timeout"), &arguments);
    test.wait_until("two jobs are claimed", |directory| {
        Ok(directory.jobs()?.claimed.len() == 2)
    })
    .with_context(|| logs(test))
}

fn wait_for_state(cluster: &Cluster, test: &TestSearch, id: &str, state: &str) -> Result<()> {
    let is_so = |task: &Queued| task.id == id && task.state == state;
    let what = format!("SLURM job {id} is {state}");
    wait_for_queue(cluster, test, &what, |queue| queue.iter().any(is_so)).map(|_queue| ())
}

/// Stops the trainer on this node, as before a file server that does not answer, while it has a job in hand.
fn stop_with_a_job(cluster: &Cluster, test: &TestSearch, node: &str) -> Result<()> {
    test.wait_until("the trainer stands still with a job", |directory| {
        let _none_for_a_moment = cluster.run_on(node, "pkill", &["-STOP", "-x", "trainer"]);
        for claim in directory.jobs()?.claimed {
            let is_here = claim.owner.as_str().starts_with(node);
            if is_here && directory.read_result(claim.attempt.job)?.is_none() {
                return Ok(true);
            }
        }
        let _none_for_a_moment = cluster.run_on(node, "pkill", &["-CONT", "-x", "trainer"]);
        Ok(false)
    })
    .with_context(|| logs(test))
}

fn wait_until_lost(test: &TestSearch, node: &str) -> Result<()> {
    let what = format!("the job of the trainer on {node} was taken back, and is finished");
    test.wait_until(&what, |_directory| Ok(has_lost(node, &fates(test)?)))
        .with_context(|| logs(test))
}

#[test]
fn slurm_jobs_over_their_time_or_memory_cost_attempts_and_no_configuration_its_result() -> Result<()>
{
    let Some(cluster) = Cluster::start_with_extras()? else {
        return Ok(());
    };
    let mut search = counting_ones("bohb", 6);
    search["objective"]["seconds_per_unit"] = 0.2.into();
    let test = TestSearch::within(&cluster.shared(), &search)?;
    keep_two_trainers(&cluster, &test)?;
    let queue = cluster.queue()?;
    let is_trainer = |task: &&Queued| task.name.ends_with("trainers") && task.state == "RUNNING";
    let trainers: Vec<&Queued> = queue.iter().filter(is_trainer).collect();
    let [in_time, in_memory] = trainers[..] else {
        anyhow::bail!("not two trainers: {queue:?}");
    };

    let mut ended = vec!["TIMEOUT"];
    if cluster.limits_memory() {
        ended.push("OUT_OF_MEMORY");
        stop_with_a_job(&cluster, &test, &in_memory.node)?;
        cluster
            .run_on(&in_memory.node, "bash", &["-c", FILL_MEMORY])
            .expect_err("the kernel ends it too");
        wait_for_state(&cluster, &test, &in_memory.id, "OUT_OF_MEMORY")?;
        wait_until_lost(&test, &in_memory.node)?;
    } else {
        harness::skip("the half with memory: no memory cgroups of version 1");
    }
    stop_with_a_job(&cluster, &test, &in_time.node)?;
    wait_until_lost(&test, &in_time.node)?;
    let end = ["update", &format!("jobid={}", in_time.id), "endtime=now+1"];
    cluster.run(Path::new("scontrol"), &end)?;
    wait_for_state(&cluster, &test, &in_time.id, "TIMEOUT")?;

    wait_for_end(&test)?;
    for (job, result) in test.check_finished()? {
        let is_evaluated = matches!(result.outcome, Outcome::Evaluated { .. });
        ensure!(is_evaluated, "{job}: {:?}", result.outcome);
    }
    assert!(test.on("sampler", "replay", &[])?.status.success());
    // All others have ended well: the coordinator, and whoever has done the jobs that were taken back.
    ended.sort_unstable();
    let what = format!("one SLURM job is in each state of {ended:?}, and all others are done");
    wait_for_queue(&cluster, &test, &what, |queue| {
        let states = queue.iter().map(|task| &*task.state);
        let (done, mut others): (Vec<&str>, Vec<&str>) =
            states.partition(|state| *state == "COMPLETED");
        others.sort_unstable();
        done.len() >= 2 && others == ended
    })?;
    Ok(())
}
