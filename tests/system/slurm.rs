//! `scheduler slurm` on a real SLURM cluster.

mod limits;
mod queue;
mod training;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::cluster::{Cluster, Filesystem, Queued};
use harness::{DEADLINE, TestSearch, counting_ones, program};
use shared::record::JobResult;
use shared::{Fate, JobId};

/// `scheduler slurm` on the search: what it prints.
fn submit(cluster: &Cluster, test: &TestSearch, trainers: u32) -> Result<String> {
    submit_with(cluster, test, trainers, &["--time", "20"])
}

/// As [`submit`], with more arguments.
fn submit_with(
    cluster: &Cluster,
    test: &TestSearch,
    trainers: u32,
    more: &[&str],
) -> Result<String> {
    let (root, trainers) = (test.root(), trainers.to_string());
    let root = root.to_string_lossy();
    let arguments = [&["slurm", &root, "--trainers", &trainers], more].concat();
    cluster.run(&program("scheduler"), &arguments)
}

/// Waits for a state of SLURM's queue.
fn wait_for_queue(
    cluster: &Cluster,
    test: &TestSearch,
    what: &str,
    is_so: impl Fn(&[Queued]) -> bool,
) -> Result<Vec<Queued>> {
    let start = Instant::now();
    loop {
        let queue = cluster.queue()?;
        if is_so(&queue) {
            return Ok(queue);
        }
        ensure!(
            start.elapsed() < DEADLINE,
            "after {DEADLINE:?} still not: {what}: {queue:?}\n{}",
            logs(test)
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What the SLURM jobs of a search have printed.
fn logs(test: &TestSearch) -> String {
    let folder = test.root().join("slurm");
    let names = shared::fs::list(&folder).unwrap_or_default(); // the message is about something else
    let read = |name: &String| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    let logs = names
        .iter()
        .filter(|name| Path::new(name).extension() == Some("log".as_ref()))
        .map(|name| format!("--- {name}\n{}", read(name)));
    logs.collect()
}

fn wait_for_end(test: &TestSearch) -> Result<()> {
    test.wait_until("the search is finished", |directory| {
        Ok(directory.flags()?.is_finished)
    })
    .with_context(|| logs(test))
}

/// Every ending of an attempt, from the files.
fn fates(test: &TestSearch) -> Result<Vec<(Fate, String)>> {
    let directory = test.directory()?;
    let mut fates = Vec::new();
    for job in directory.finished_jobs()? {
        for end in directory.attempt_ends(job)? {
            fates.push((end.fate, end.claim.owner.to_string()));
        }
    }
    Ok(fates)
}

/// Whether a trainer of this node was given up.
fn has_lost(node: &str, fates: &[(Fate, String)]) -> bool {
    let is_of_node = |owner: &String| owner.starts_with(node);
    let mut fates = fates.iter();
    fates.any(|(fate, owner)| *fate == Fate::NodeLost && is_of_node(owner))
}

/// Whether a trainer of this node has a job of the rung or a higher one, as the files show.
fn has_job(test: &TestSearch, node: &str, rung: u8) -> Result<bool> {
    let claimed = test.directory()?.jobs()?.claimed;
    let mut of_rung = claimed
        .iter()
        .filter(|claim| claim.attempt.job.rung >= rung);
    Ok(of_rung.any(|claim| claim.owner.to_string().starts_with(node)))
}

/// Waits until a trainer of one of these nodes has a job of the rung or a higher one, and returns the node.
fn wait_for_job(test: &TestSearch, nodes: &[String], rung: u8) -> Result<String> {
    let mut at_work = None;
    test.wait_until("a node has a long job", |_directory| {
        for node in nodes {
            if has_job(test, node, rung)? {
                at_work = Some(node.clone());
            }
        }
        Ok(at_work.is_some())
    })
    .with_context(|| logs(test))?;
    at_work.context("no node")
}

fn is_coordinator(task: &Queued) -> bool {
    task.name.ends_with("coordinator")
}

/// The coordinator, and the other nodes that have tasks, in order.
fn coordinator_and_other_nodes(cluster: &Cluster) -> Result<(Queued, Vec<String>)> {
    let queue = cluster.queue()?;
    let coordinator = queue
        .iter()
        .find(|task| is_coordinator(task))
        .context("no coordinator")?;
    let nodes: BTreeSet<&String> = queue.iter().map(|task| &task.node).collect();
    let is_other = |node: &&String| !node.is_empty() && **node != coordinator.node;
    let nodes = nodes.into_iter().filter(is_other).cloned().collect();
    Ok((coordinator.clone(), nodes))
}

fn a_search_in_the_queue_finishes_exactly(filesystem: Filesystem) -> Result<()> {
    let Some(cluster) = Cluster::start(filesystem)? else {
        return Ok(());
    };
    let mut search = counting_ones("bohb", 2);
    search["objective"]["seconds_per_unit"] = 0.04.into();
    // Longer than MooseFS's clients believe what they have seen, and than a busy disk holds a heartbeat up.
    search["trainers"]["lease_s"] = 30.0.into();
    let test = TestSearch::within(&cluster.shared(), &search)?;

    let said = submit(&cluster, &test, 3)?;
    assert!(
        said.contains("submitted: 1 coordinator as SLURM job"),
        "{said}"
    );
    assert!(
        said.contains("submitted: 3 trainers as SLURM job"),
        "{said}"
    );
    let said = submit(&cluster, &test, 3)?;
    assert!(said.contains("nothing to submit"), "{said}");
    let said = submit(&cluster, &test, 4)?;
    assert!(said.contains("submitted: 1 trainer as SLURM job"), "{said}");

    wait_for_end(&test)?;
    // Nobody has to clean up: the programs see the end and leave.
    // Jobs of SLURM before 23.02 are not told when they end: trainers have asked `squeue`. 20 min were asked for.
    let printed = logs(&test);
    let knows = |line: &&str| line.contains(" has 1") && line.ends_with("s left");
    assert_eq!(printed.lines().filter(knows).count(), 4, "{printed}");
    let over = "all SLURM jobs have ended well";
    let is_over = |queue: &[Queued]| queue.iter().all(|task| task.state == "COMPLETED");
    let queue = wait_for_queue(&cluster, &test, over, is_over)?;
    assert_eq!(queue.len(), 5, "{queue:?}");
    test.check_finished()?;
    assert_eq!(fates(&test)?, [], "{}", logs(&test));
    assert!(test.on("sampler", "replay", &[])?.status.success());
    Ok(())
}

#[test]
fn slurm_finishes_a_search_exactly_and_repeating_the_command_doubles_nothing() -> Result<()> {
    a_search_in_the_queue_finishes_exactly(Filesystem::Local)
}

#[test]
fn slurm_finishes_a_search_exactly_on_a_network_filesystem() -> Result<()> {
    a_search_in_the_queue_finishes_exactly(Filesystem::MooseFs)
}

#[test]
fn slurm_loses_nothing_with_a_crashed_node_a_preempted_task_and_a_requeued_coordinator()
-> Result<()> {
    let Some(cluster) = Cluster::start_impatient(Filesystem::Local)? else {
        return Ok(());
    };
    let mut search = counting_ones("bohb", 5);
    search["objective"]["seconds_per_unit"] = 0.15.into();
    let test = TestSearch::within(&cluster.shared(), &search)?;
    submit(&cluster, &test, 5)?;
    test.wait_until("five jobs are claimed", |directory| {
        Ok(directory.jobs()?.claimed.len() == 5)
    })
    .with_context(|| logs(&test))?;

    let (coordinator, nodes) = coordinator_and_other_nodes(&cluster)?;
    ensure!(
        nodes.len() == 2,
        "not on three nodes: {coordinator:?} and {nodes:?}"
    );
    let crashed = &wait_for_job(&test, &nodes, 2)?;
    cluster.event("crash", crashed)?;
    let preempted = nodes.iter().find(|node| *node != crashed);
    let preempted = preempted.context("no other node")?;
    let urgent = [
        "-p",
        "urgent",
        "-w",
        preempted,
        "-J",
        "urgent",
        "-o",
        "/dev/null",
        "--wrap",
        "sleep 2",
    ];
    cluster.run(Path::new("sbatch"), &urgent)?;
    cluster.run(Path::new("scontrol"), &["requeue", &coordinator.id])?;

    wait_for_end(&test)?;
    test.check_finished()?;
    assert!(test.on("sampler", "replay", &[])?.status.success());
    // All that was to happen has happened.
    let fates = fates(&test)?;
    // The preempted trainer had its warning, and started again, as those of the crashed node did.
    test.wait_until(
        "all trainers that were ended have started again",
        |_directory| Ok(logs(&test).matches(" ready for search").count() >= 8),
    )
    .with_context(|| logs(&test))?;
    assert!(
        logs(&test).contains("leaving on SIGUSR1"),
        "{}",
        logs(&test)
    );
    assert!(has_lost(crashed, &fates), "{fates:?}\n{}", logs(&test));
    let starts = logs(&test).matches("scheduling the search").count();
    assert_eq!(starts, 2, "{}", logs(&test));
    let is_done = |task: &Queued| task.name == "urgent" && task.state == "COMPLETED";
    wait_for_queue(&cluster, &test, "the urgent job is done", |queue| {
        queue.iter().any(is_done)
    })?;
    Ok(())
}

/// A search whose trainers are on four nodes, and the nodes that have trainers only.
fn on_separate_mounts(cluster: &Cluster) -> Result<(TestSearch, Vec<String>)> {
    let mut search = counting_ones("bohb", 5);
    search["objective"]["seconds_per_unit"] = 0.3.into();
    // Longer than the clients believe what they have seen.
    search["trainers"]["lease_s"] = 10.0.into();
    let test = TestSearch::within(&cluster.shared(), &search)?;
    // It begins when all trainers are there: SLURM may start one a minute late.
    let held = ["--time", "20", "--coordinator-args=--hold"];
    let said = submit_with(cluster, &test, 7, &held)?;
    // The cluster's `MaxArraySize` is 4.
    for array in ["submitted: 4 trainers", "submitted: 3 trainers"] {
        ensure!(said.contains(array), "{said}");
    }
    test.wait_until("seven trainers are there", |directory| {
        Ok(directory.heartbeats()?.len() >= 7)
    })
    .with_context(|| logs(&test))?;
    let (held, _) = coordinator_and_other_nodes(cluster)?;
    cluster.run(Path::new("scontrol"), &["release", &held.id])?;
    wait_for_queue(cluster, &test, "the coordinator runs", |queue| {
        let mut tasks = queue.iter();
        tasks.any(|task| is_coordinator(task) && task.state == "RUNNING")
    })?;
    let (coordinator, nodes) = coordinator_and_other_nodes(cluster)?;
    ensure!(
        nodes.len() == 3,
        "not on four nodes: {coordinator:?} and {nodes:?}"
    );
    Ok((test, nodes))
}

/// Has an event happen to one of the nodes while its trainers have jobs, and returns the node; an event that came between two
/// jobs is undone.
fn strike(
    cluster: &Cluster,
    test: &TestSearch,
    nodes: &[String],
    (event, undo): (&str, &str),
) -> Result<String> {
    loop {
        let node = wait_for_job(test, nodes, 1)?;
        cluster.event(event, &node)?;
        // Longer than the login node believes what it has seen.
        std::thread::sleep(Duration::from_secs(4));
        if has_job(test, &node, 0)? {
            return Ok(node);
        }
        cluster.event(undo, &node)?;
    }
}

/// Waits until jobs of a node's trainers were taken back from them, and others have finished them.
fn wait_for_successors(test: &TestSearch, node: &str) -> Result<()> {
    let what = format!("the jobs of {node} were taken back, and one is finished");
    test.wait_until(&what, |_directory| Ok(has_lost(node, &fates(test)?)))
        .with_context(|| logs(test))
}

/// Waits for the end of a search, and checks it; results that were there earlier are as they were.
fn ends_exactly_and_keeps(test: &TestSearch, first: BTreeMap<JobId, JobResult>) -> Result<()> {
    wait_for_end(test)?;
    let last = test.check_finished()?;
    for (job, result) in first {
        assert_eq!(last.get(&job), Some(&result), "the result of {job} changed");
    }
    assert!(test.on("sampler", "replay", &[])?.status.success());
    Ok(())
}

/// The names of the second results of jobs.
fn late(test: &TestSearch) -> Result<Vec<String>> {
    Ok(shared::fs::list(&test.root().join(shared::layout::LATE))?)
}

#[test]
fn slurm_keeps_the_first_result_when_a_node_thaws_after_its_jobs_were_done_by_others() -> Result<()>
{
    // SLURM lets the jobs of the frozen node run on, so that they come back beside their successors.
    let Some(cluster) = Cluster::start(Filesystem::MooseFs)? else {
        return Ok(());
    };
    let (test, nodes) = on_separate_mounts(&cluster)?;
    let frozen = strike(&cluster, &test, &nodes, ("freeze", "thaw"))?;
    wait_for_successors(&test, &frozen)?;
    let first = test.results()?;
    cluster.event("thaw", &frozen)?;
    ends_exactly_and_keeps(&test, first)?;
    test.wait_until("a second result is put aside", |_directory| {
        Ok(late(&test)?.iter().any(|name| name.contains(&frozen)))
    })
    .with_context(|| logs(&test))
}

#[test]
fn slurm_finishes_exactly_with_a_node_cut_off_that_runs_on_and_is_mended() -> Result<()> {
    let Some(cluster) = Cluster::start_impatient(Filesystem::MooseFs)? else {
        return Ok(());
    };
    let (test, nodes) = on_separate_mounts(&cluster)?;
    // From SLURM and from the filesystem.
    let cut_off = strike(&cluster, &test, &nodes, ("cut", "mend"))?;
    wait_for_successors(&test, &cut_off)?;
    let first = test.results()?;
    // Its trainers still run beside their successors.
    let running_on = cluster.run_on(&cut_off, "pgrep", &["-x", "trainer"])?;
    assert!(!running_on.is_empty());
    cluster.event("mend", &cut_off)?;
    ends_exactly_and_keeps(&test, first)
}

#[test]
fn slurm_keeps_trainers_in_the_queue_when_some_are_cancelled() -> Result<()> {
    let Some(cluster) = Cluster::start(Filesystem::Local)? else {
        return Ok(());
    };
    let mut search = counting_ones("bohb", 3);
    search["objective"]["seconds_per_unit"] = 0.1.into();
    let test = TestSearch::within(&cluster.shared(), &search)?;
    let root = test.root();
    let root = root.to_string_lossy();
    let arguments = [
        "slurm",
        &root,
        "--trainers",
        "2",
        "--time",
        "20",
        "--keep",
        "--poll-s",
        "1",
    ];
    // By hand, but not for long: the coordinator does the same.
    let scheduler = program("scheduler");
    let scheduler = scheduler.to_string_lossy();
    let mut by_hand = vec!["-s", "TERM", "--preserve-status", "3", &scheduler];
    by_hand.extend(arguments);
    let ended = cluster.run(Path::new("timeout"), &by_hand);
    assert!(
        format!("{ended:?}").contains("exit status: 75"),
        "{ended:?}"
    );
    test.wait_until("two jobs are claimed", |directory| {
        Ok(directory.jobs()?.claimed.len() == 2)
    })
    .with_context(|| logs(&test))?;
    let queue = cluster.queue()?;
    assert_eq!(queue.len(), 3, "{queue:?}");
    for task in queue.iter().filter(|task| task.name.ends_with("trainers")) {
        cluster.run(Path::new("scancel"), &[&task.id])?;
    }
    wait_for_end(&test)?;
    test.check_finished()?;
    let over = "all SLURM jobs have ended";
    let has_ended = |task: &Queued| ["COMPLETED", "CANCELLED"].contains(&task.state.as_str());
    let is_over = |queue: &[Queued]| queue.iter().all(has_ended);
    let queue = wait_for_queue(&cluster, &test, over, is_over)?;
    let num_done = queue
        .iter()
        .filter(|task| task.state == "COMPLETED")
        .count();
    assert_eq!(
        (queue.len(), num_done),
        (5, 3),
        "{queue:?}\n{}",
        logs(&test)
    );
    Ok(())
}
