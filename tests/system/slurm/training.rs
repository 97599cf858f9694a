//! Real trainings on four nodes that share a network filesystem, with one event of each kind.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::TestSearch;
use harness::cluster::{Cluster, Filesystem};
use harness::repeated::{Repeated, Watch, is_as_in_one_go};
use serde_json::{Value, json};
use shared::cli::print;
use shared::record::{JobResult, TrainerState};
use shared::{Directory, Fate, JobId, clock, fs};

use super::{
    Queued, coordinator_and_other_nodes, fates, has_lost, logs, submit_with, wait_for_queue,
    wait_for_successors,
};

/// Trainings of minutes, on a busy machine.
const LONG: Duration = Duration::from_mins(15);
/// Seconds between two heartbeats, which is how exactly it is known how far a trainer that died had come.
const HEARTBEAT_S: f64 = 0.25;
/// Seconds between two checkpoints.
const CHECKPOINT_S: f64 = 3.0;
/// What of the programs' logs makes the story of the search.
const STORY: [&str; 11] = [
    " ready for search",
    "scheduling the search",
    "claimed job",
    "goes on from checkpoint",
    "finished job",
    "gave back job",
    "leaving",
    "took back claim",
    "somebody else has",
    "had a result already",
    "finished: configurations",
];

/// Networks of seconds to half a minute; five dimensions, so that the model has enough results after three brackets.
fn search() -> Value {
    let constant = |name: &str| json!({ "name": name, "type": "constant", "value": 1 });
    json!({
        "format": "search",
        "version": [1, 0],
        "name": "cluster",
        "space": { "hyperparameters": [
            { "name": "initial_filters", "type": "integer", "lower": 6, "upper": 12, "log": true },
            { "name": "res_branches_1", "type": "integer", "lower": 1, "upper": 2 },
            { "name": "learning_rate", "type": "float", "lower": 0.003, "upper": 0.5, "log": true },
            { "name": "batch_size", "type": "integer", "lower": 32, "upper": 96, "log": true },
            { "name": "momentum", "type": "float", "lower": 0.001, "upper": 0.95 },
            constant("nr_residual_blocks_1"),
            constant("nr_residual_blocks_2"),
            constant("nr_residual_blocks_3"),
        ] },
        "objective": { "network": {
            "data": { "name": "digits", "validation": 0.2, "stratified": true },
            "training": { "flip": false },
        } },
        "budget": { "unit": "steps", "min": 600, "max": 5400, "eta": 3 },
        "limit": { "brackets": 6 },
        "method": "bohb",
        "seed": 5,
        "trainers": {
            "heartbeat_s": HEARTBEAT_S,
            "checkpoint_s": CHECKPOINT_S,
            // Longer than the clients of the filesystem believe what they have seen.
            "lease_s": 10.0,
        },
    })
}

/// The time since the start, and what happened.
struct Story {
    start_s: f64,
    lines: Vec<(f64, String)>,
}

impl Story {
    fn new() -> Self {
        Self {
            start_s: clock::unix_s(),
            lines: Vec::new(),
        }
    }

    fn text(&self) -> String {
        let lines = self
            .lines
            .iter()
            .map(|(at, line)| format!("{at:7.1}  {line}\n"));
        lines.collect()
    }

    fn tell(&mut self, what: &str) {
        let at = clock::unix_s() - self.start_s;
        shared::cli::report(&format!("{at:7.1} s  {what}"));
        self.lines.push((at, format!("===== {what}")));
    }

    /// Adds what the programs of the search have logged, without what is long and without meaning.
    fn add_logs(&mut self, test: &TestSearch) -> Result<()> {
        let folder = test.root().join("slurm");
        let root = test.root().to_string_lossy().into_owned();
        for name in fs::list(&folder)? {
            let Some(job) = name.strip_suffix(".log") else {
                continue;
            };
            for line in std::fs::read_to_string(folder.join(&name))?.lines() {
                let Some((stamp, said)) = line.split_once(' ') else {
                    continue;
                };
                let Some(at) = clock::parse(stamp) else {
                    continue;
                };
                if STORY.iter().any(|part| said.contains(part)) {
                    let said = said
                        .trim()
                        .trim_start_matches("INFO ")
                        .replace(&root, "DIR");
                    let said = without_chance(&said);
                    self.lines
                        .push((at - self.start_s, format!("{job:13} {said}")));
                }
            }
        }
        self.lines.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(())
    }
}

/// Without the random end of owners: `tandem2-141-s3_1-r0-18a9b2c3d4e5` is `tandem2-141-s3_1-r0`.
fn without_chance(said: &str) -> String {
    let word = |word: &str| match word.rsplit_once('-') {
        Some((owner, chance)) if chance.len() == 12 && owner.contains("-s") => owner.to_owned(),
        _ => word.to_owned(),
    };
    let words: Vec<String> = said.split(' ').map(word).collect();
    words.join(" ")
}

/// A search at work on the cluster.
struct Run {
    cluster: Cluster,
    test: TestSearch,
    story: Story,
}

impl Run {
    fn crash_and_boot(&mut self, node: &str) -> Result<()> {
        wait_for_checkpoint(&self.test, node)?;
        self.story.tell(&format!("{node} loses power"));
        self.cluster.event("crash", node)?;
        // As SLURM finds a node that has been started anew; these share a kernel, which has not.
        let down = format!("update nodename={node} state=down reason=power");
        let down: Vec<&str> = down.split(' ').collect();
        self.cluster.run(Path::new("scontrol"), &down)?;
        wait_for_successors(&self.test, node)?;
        self.cluster.event("boot", node)?;
        self.story.tell(&format!("{node} is switched on again"));
        Ok(())
    }

    fn freeze_and_thaw(&mut self, node: &str) -> Result<()> {
        wait_for_checkpoint(&self.test, node)?;
        self.story.tell(&format!("{node} stands still"));
        self.cluster.event("freeze", node)?;
        wait_for_successors(&self.test, node)?;
        self.cluster.event("thaw", node)?;
        self.story.tell(&format!("{node} goes on"));
        Ok(())
    }

    fn cut_and_mend(&mut self, node: &str) -> Result<()> {
        wait_for_checkpoint(&self.test, node)?;
        let what = format!("{node} is cut off from SLURM and the filesystem, and runs on");
        self.story.tell(&what);
        self.cluster.event("cut", node)?;
        wait_for_successors(&self.test, node)?;
        let running_on = self.cluster.run_on(node, "pgrep", &["-x", "trainer"])?;
        assert!(!running_on.is_empty());
        self.cluster.event("mend", node)?;
        self.story.tell(&format!("{node} is mended"));
        Ok(())
    }

    fn preempt(&mut self, node: &str) -> Result<()> {
        wait_for_checkpoint(&self.test, node)?;
        let what = format!("an urgent SLURM job wants {node}");
        self.story.tell(&what);
        let urgent = "-p urgent --exclusive -J urgent -o /dev/null -w";
        let mut urgent: Vec<&str> = urgent.split(' ').collect();
        urgent.extend([node, "--wrap", "sleep 2"]);
        self.cluster.run(Path::new("sbatch"), &urgent)?;
        let what = "a preempted trainer has given its job back";
        self.test
            .wait_until(what, |_directory| {
                let fates = fates(&self.test)?;
                Ok(fates.iter().any(|(fate, _owner)| *fate == Fate::Preempted))
            })
            .with_context(|| logs(&self.test))?;
        let is_done = |task: &Queued| task.name == "urgent" && task.state == "COMPLETED";
        let what = "the urgent job is done";
        wait_for_queue(&self.cluster, &self.test, what, |queue| {
            queue.iter().any(is_done)
        })?;
        self.story.tell("the urgent SLURM job is done");
        Ok(())
    }

    fn requeue(&mut self, coordinator: &Queued) -> Result<()> {
        self.story.tell("the coordinator is requeued");
        let arguments = ["requeue", &coordinator.id];
        self.cluster.run(Path::new("scontrol"), &arguments)?;
        self.test
            .wait_until("a second coordinator is at work", |_directory| {
                let starts = logs(&self.test).matches("scheduling the search").count();
                Ok(starts == 2)
            })
            .with_context(|| logs(&self.test))
    }
}

#[test]
#[ignore = "trains for minutes: cargo nextest run --workspace --run-ignored only slurm::training --no-capture"]
fn slurm_repeats_less_training_than_a_checkpoint_interval_whatever_happens() -> Result<()> {
    // SLURM lets the jobs of silent nodes run on, so that they come back beside their successors.
    let Some(cluster) = Cluster::start(Filesystem::MooseFs)? else {
        return Ok(());
    };
    let test = TestSearch::within(&cluster.shared(), &search())?;
    let watch = Watch::start(&test.root())?;
    let mut run = Run {
        cluster,
        test,
        story: Story::new(),
    };
    // One task a node, so that what happens to a node happens to one training.
    let arguments = ["--time", "60", "--", "--exclusive"];
    submit_with(&run.cluster, &run.test, 3, &arguments)?;
    run.story
        .tell("scheduler slurm DIR --trainers 3 --time 60 -- --exclusive");
    run.test
        .wait_until("three jobs are claimed", |directory| {
            Ok(directory.jobs()?.claimed.len() == 3)
        })
        .with_context(|| logs(&run.test))?;
    let (coordinator, nodes) = coordinator_and_other_nodes(&run.cluster)?;
    let place = format!(
        "trainers are on {}, the coordinator is on {}",
        nodes.join(", "),
        coordinator.node
    );
    run.story.tell(&place);

    run.crash_and_boot(&nodes[0])?;
    run.freeze_and_thaw(&nodes[1])?;
    run.cut_and_mend(&nodes[2])?;
    run.preempt(&nodes[1])?;
    run.requeue(&coordinator)?;
    ensure!(
        !run.test.directory()?.flags()?.is_finished,
        "the search was over before all had happened"
    );
    let is_finished = |directory: &Directory| Ok(directory.flags()?.is_finished);
    run.test
        .wait_at_most(LONG, "the search is finished", is_finished)
        .with_context(|| logs(&run.test))?;

    let results = run.test.check_finished()?;
    for node in &nodes {
        assert!(has_lost(node, &fates(&run.test)?), "{node}");
    }
    let replayed = run.test.on("sampler", "replay", &[])?;
    assert!(replayed.status.success());
    let repeated = watch.repeated(&run.test.root())?;
    run.story.add_logs(&run.test)?;
    print(&run.story.text())?;
    print(&table(&results, &repeated))?;
    print(&String::from_utf8_lossy(&replayed.stdout))?;
    for attempt in &repeated {
        assert!(attempt.seconds < CHECKPOINT_S, "{attempt:?}");
        let result = results.get(&attempt.claim.attempt.job);
        is_as_in_one_go(&run.test, result.context("a job without a result")?)?;
    }
    Ok(())
}

/// Waits until the trainer of a node has saved a checkpoint of a job that it is not half through.
fn wait_for_checkpoint(test: &TestSearch, node: &str) -> Result<()> {
    let is_so = |directory: &Directory| {
        let claimed = directory.jobs()?.claimed;
        for heartbeat in directory.heartbeats()?.into_values() {
            let TrainerState::Working { claim, spent } = heartbeat.state else {
                continue;
            };
            let budget = directory.search().ladder.budget(claim.attempt.job.rung);
            if heartbeat.host == node
                && claimed.contains(&claim)
                && spent < budget.amount / 2.0
                && directory
                    .checkpoints(claim.attempt.job.configuration)?
                    .contains(&claim)
            {
                return Ok(true);
            }
        }
        Ok(false)
    };
    test.wait_until(&format!("a checkpoint of {node}"), is_so)
        .with_context(|| logs(test))
}

/// What each event cost.
fn table(results: &BTreeMap<JobId, JobResult>, repeated: &[Repeated]) -> String {
    let mut lines = vec![
        "| attempt | of node | ended | at step | last checkpoint | trained again |".to_owned(),
        "|--|--|--|--|--|--|".to_owned(),
    ];
    for attempt in repeated {
        let owner = attempt.claim.owner.to_string();
        let node = owner.split('-').next().unwrap_or_default();
        lines.push(format!(
            "| {} | {node} | {} | {} | {} | {:.2} s |",
            attempt.claim.attempt,
            attempt.fate.as_str(),
            attempt.spent,
            attempt.saved,
            attempt.seconds
        ));
    }
    let training_s = results
        .values()
        .filter_map(|result| result.measures.get("training_s"));
    let again_s = repeated.iter().map(|attempt| attempt.seconds);
    lines.push(format!(
        "\n{} results, {:.1} s of training; {:.1} s beyond that were done again\n",
        results.len(),
        training_s.sum::<f64>(),
        again_s.sum::<f64>()
    ));
    lines.join("\n")
}
