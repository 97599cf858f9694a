//! The program from outside: help, exit codes, and a search answered, previewed and replayed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use clap::CommandFactory as _;
use shared::record::{Finished, JobResult, Proposal, Request};
use shared::{ConfigurationId, Directory, JobId, Outcome, SearchFile};

fn sampler(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sampler"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    sampler(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn search_file(json: &str) -> SearchFile {
    let text = r#"{"name":"test","space":{"hyperparameters":[
            {"name":"rate","type":"float","lower":0.001,"upper":1,"log":true},
            {"name":"kind","type":"categorical","choices":["a","b"]},
            {"name":"depth","type":"integer","lower":1,"upper":9,"active_when":{"hyperparameter":"kind","in":["b"]}}]},
        "objective":{"command":["true"]},"budget":{"unit":"epochs","min":1,"max":9},"limit":{"brackets":3},"method":"bohb",
        "seed":5}"#;
    let mut file: serde_json::Value = serde_json::from_str(text).unwrap();
    let more: serde_json::Value = serde_json::from_str(json).unwrap();
    for (key, value) in more.as_object().unwrap() {
        file[key] = value.clone();
    }
    serde_json::from_value(file).unwrap()
}

fn directory(root: &Path, more: &str) -> Directory {
    Directory::create(root, &search_file(more), Path::new("search.json")).unwrap()
}

fn request(id: u32, finished: Vec<JobId>, pending: Vec<JobId>) -> Request {
    Request {
        configuration: ConfigurationId(id),
        bracket: 0,
        rung: 0,
        finished,
        pending,
        superseding: Vec::new(),
        given: None,
        top: None,
    }
}

/// Publishes a result of a proposed configuration: better with a smaller rate, worse than everything for some.
fn evaluate(directory: &Directory, id: u32) -> JobId {
    let proposal = directory
        .read_proposal(ConfigurationId(id))
        .unwrap()
        .unwrap();
    let job = ConfigurationId(id).job(0);
    let outcome = if id % 7 == 6 {
        Outcome::crashed("no")
    } else {
        Outcome::Evaluated {
            loss: proposal.values.float("rate").unwrap(),
        }
    };
    let result = JobResult {
        attempt: job.attempt(1),
        owner: "tester".parse().unwrap(),
        bracket: 0,
        budget: directory.search().ladder.budget(0),
        configuration: proposal.values,
        outcome,
        measures: BTreeMap::new(),
        curve: Vec::new(),
        notes: BTreeMap::new(),
        started_at: String::new(),
        finished_at: String::new(),
        elapsed_s: 0.0,
        program: "test".into(),
        supersedes: None,
        checks: Vec::new(),
    };
    directory.publish_result(&result).unwrap();
    job
}

/// Sixteen configurations, two at a time, each pair knowing the results of the pairs before.
fn answered_search(root: &Path, more: &str) -> Directory {
    answered_search_of(16, root, more)
}

fn answered_search_of(count: u32, root: &Path, more: &str) -> Directory {
    let directory = directory(root, more);
    let path = root.to_str().unwrap();
    let mut finished = Vec::new();
    for id in (0..count).step_by(2) {
        directory
            .request(&request(id, std::mem::take(&mut finished), Vec::new()))
            .unwrap();
        let pending = vec![ConfigurationId(id).job(0)];
        directory
            .request(&request(id + 1, Vec::new(), pending))
            .unwrap();
        stdout(&output(&["run", path, "--once"]));
        finished = vec![evaluate(&directory, id), evaluate(&directory, id + 1)];
    }
    directory
}

fn proposals(directory: &Directory) -> Vec<Proposal> {
    let ids = (0..).map(ConfigurationId);
    ids.map_while(|id| directory.read_proposal(id).unwrap())
        .collect()
}

#[test]
fn help_says_what_each_argument_means() {
    insta::assert_snapshot!("help", stdout(&output(&["--help"])));
    for subcommand in sampler::Args::command().get_subcommands() {
        let name = subcommand.get_name();
        insta::assert_snapshot!(format!("help_{name}"), stdout(&output(&[name, "--help"])));
    }
}

#[test]
fn exit_codes_are_those_documented() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    assert_eq!(output(&["run"]).status.code(), Some(2));
    assert_eq!(
        output(&["propose", path, "--count", "0"]).status.code(),
        Some(2)
    );
    assert_eq!(
        output(&["run", path, "--poll-s", "-1"]).status.code(),
        Some(2)
    );
    for program in ["run", "propose", "replay"] {
        let refused = output(&[program, path]);
        assert_eq!(refused.status.code(), Some(3), "{program}");
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(text.contains("is not a search directory"), "{text}");
    }
}

#[test]
fn a_search_is_answered_with_a_model_and_replays_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let directory = answered_search(folder.path(), r#"{"start_with":[{"rate":0.5,"kind":"a"}]}"#);
    let proposals = proposals(&directory);
    assert_eq!(proposals.len(), 16);
    assert_eq!(proposals[0].origin.source, "given");
    assert_eq!(proposals[0].values.float("rate"), Some(0.5));
    assert_eq!(proposals[1].origin.source, "prior");
    let with_model: Vec<&Proposal> = proposals
        .iter()
        .filter(|p| p.origin.source == "model")
        .collect();
    assert!(!with_model.is_empty(), "{proposals:#?}");
    for proposal in with_model {
        let model = proposal.origin.model.as_ref().unwrap();
        assert_eq!((model.rung, model.num_candidates), (0, 64));
        assert!(proposal.origin.num_results >= 8 && proposal.origin.num_results % 2 == 0);
    }
    let path = folder.path().to_str().unwrap();
    assert_eq!(
        stdout(&output(&["replay", path])),
        "16 of 16 proposals are equal bit for bit; 0 requests have no proposal\n"
    );
    // The model is written down for people.
    let models = shared::fs::list(&folder.path().join("models")).unwrap();
    assert!(!models.is_empty());
}

#[test]
fn replay_names_what_is_not_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let directory = answered_search(folder.path(), "{}");
    let id = ConfigurationId(13);
    let mut proposal = directory.read_proposal(id).unwrap().unwrap();
    proposal.origin.num_results += 1;
    shared::fs::replace_record(&directory.layout().configuration(id), &proposal).unwrap();
    let path = folder.path().to_str().unwrap();
    let report = |arguments: &[&str]| -> serde_json::Value {
        let replayed = output(arguments);
        assert_eq!(replayed.status.code(), Some(1));
        serde_json::from_slice(&replayed.stdout).unwrap()
    };
    let first = report(&["replay", path, "--format", "json"]);
    assert_eq!(first["num_equal"], 15);
    assert_eq!(first["differences"][0]["configuration"], "c000013");
    assert_eq!(first["differences"][0]["field"], "origin.num_results");
    // What is missing is named, all of it, and the rest is still compared.
    let layout = directory.layout();
    for id in [3, 6] {
        shared::fs::remove(&layout.configuration(ConfigurationId(id))).unwrap();
    }
    let report = report(&["replay", path, "--format", "json"]);
    assert_eq!(
        report["missing_proposals"],
        serde_json::json!(["c000003", "c000006"])
    );
    assert_eq!(report["num_equal"], 13);
    assert_eq!(report["differences"].as_array().unwrap().len(), 1);
    for id in [5, 7] {
        shared::fs::remove(&layout.result(ConfigurationId(id).job(0))).unwrap();
    }
    let replayed = output(&["replay", path]);
    assert_eq!(replayed.status.code(), Some(1));
    let text = String::from_utf8(replayed.stdout).unwrap();
    for words in [
        "c000003: the proposal is not there",
        "c000006: the proposal is not there",
        "c000005-r0: the result is not there",
        "c000007-r0: the result is not there",
        "cannot be compared: ",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn a_proposal_is_explained_in_plain_words() {
    let folder = tempfile::tempdir().unwrap();
    let directory = answered_search(folder.path(), "{}");
    let path = folder.path().to_str().unwrap();
    let with_model = proposals(&directory)
        .into_iter()
        .rfind(|p| p.origin.source == "model");
    let id = with_model.unwrap().configuration.to_string();
    let text = stdout(&output(&["explain", path, &id]));
    for words in [
        "; under way were ",
        "A model chose it (method bohb)",
        "ln l/g",
        "incumbent c0000",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(
        text.ends_with("it comes out the same, bit for bit.\n"),
        "{text}"
    );
    assert_eq!(output(&["explain", path, "c000099"]).status.code(), Some(3));
    assert_eq!(output(&["explain", path, "99"]).status.code(), Some(2));
}

const BELIEVING: &str = r#"{"method":"tandem","start_with":[{"rate":0.5}],"space":{"hyperparameters":[
    {"name":"rate","type":"float","lower":0.001,"upper":1,"log":true,"prior":0.002,"confidence":"high"}]}}"#;

/// What is searched, how many proposals are made, the source of one of them, and words that explain it.
const EXPLAINED: [(&str, u32, &str, &str); 13] = [
    (BELIEVING, 16, "given", "The user gave it (method tandem)"),
    (BELIEVING, 16, "belief", "It follows what the user believes"),
    (
        r#"{"method":"tandem"}"#,
        16,
        "model",
        "logarithm of the expected improvement",
    ),
    (
        r#"{"method":"bohb"}"#,
        16,
        "model",
        "under the good density",
    ),
    (r#"{"method":"tpe"}"#, 26, "model", "the largest l/g"),
    (r#"{"method":"smbo"}"#, 16, "model", "by a forest of"),
    (
        r#"{"method":"reinforce"}"#,
        8,
        "policy",
        "drawn by the controller, one hyperparameter after the other",
    ),
    (
        r#"{"method":"evolution"}"#,
        28,
        "mutation",
        "It is a mutation of an earlier configuration",
    ),
    (
        r#"{"method":"tournament"}"#,
        28,
        "mutation",
        "one hyperparameter goes one step",
    ),
    (
        r#"{"method":"progressive"}"#,
        20,
        "model",
        "by the mean of 5 trees",
    ),
    (
        r#"{"method":"reinforce","revision":2}"#,
        6,
        "policy",
        "It is a draw from a policy",
    ),
    (
        r#"{"method":"hyperband"}"#,
        2,
        "prior",
        "It is a draw from the prior (method hyperband)",
    ),
    (
        r#"{"method":"random"}"#,
        2,
        "prior",
        "It is a draw from the prior (method random)",
    ),
];

#[test]
fn every_method_and_origin_is_explained_in_words_of_its_own() {
    for (more, count, source, words) in EXPLAINED {
        let folder = tempfile::tempdir().unwrap();
        let directory = answered_search_of(count, folder.path(), more);
        let found = proposals(&directory);
        let found = found.iter().rfind(|p| p.origin.source == source);
        let id = found
            .unwrap_or_else(|| panic!("no {source}: {more}"))
            .configuration;
        let path = folder.path().to_str().unwrap();
        let text = stdout(&output(&["explain", path, &id.to_string()]));
        assert!(text.contains(words), "{words}: {text}");
        // Densities are for methods that have some.
        assert_eq!(text.contains("ln l/g"), more.contains("bohb"), "{text}");
        assert!(
            text.ends_with("it comes out the same, bit for bit.\n"),
            "{text}"
        );
    }
}

#[test]
fn a_search_with_the_gaussian_process_replays_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let directory = answered_search(folder.path(), r#"{"method":"tandem"}"#);
    assert!(
        proposals(&directory)
            .iter()
            .any(|p| p.origin.source == "model")
    );
    let path = folder.path().to_str().unwrap();
    let replayed = stdout(&output(&["replay", path]));
    assert!(
        replayed.starts_with("16 of 16 proposals are equal"),
        "{replayed}"
    );
    let explained = stdout(&output(&["explain", path, "c000015"]));
    assert!(explained.contains("method tandem"), "{explained}");
}

/// `golden/revision-3.json` holds the files of a search that programs of revision 3 made: `scheduler local` with one
/// trainer, method `tandem` and the function `mf-hartmann3`.
#[test]
fn a_search_begun_with_revision_3_keeps_its_rungs_and_replays_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let files: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(include_str!("golden/revision-3.json")).unwrap();
    for (path, content) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        shared::fs::replace(&path, content.to_string().as_bytes()).unwrap();
    }
    let directory = Directory::open(folder.path()).unwrap();
    let search = directory.search();
    assert_eq!(search.revision, 3);
    assert_eq!(search.ladder.num_rungs(), 3);
    assert_eq!(search.first_rungs, [0, 2, 2]);
    let is_from_model = |proposal: &Proposal| proposal.origin.source == "model";
    let modelled = proposals(&directory)
        .iter()
        .filter(|p| is_from_model(p))
        .count();
    assert_eq!(modelled, 18);
    let replayed = stdout(&output(&["replay", folder.path().to_str().unwrap()]));
    assert!(
        replayed.starts_with("30 of 30 proposals are equal"),
        "{replayed}"
    );
}

#[test]
fn pools_of_learning_curves_are_compared_together() {
    let folder = tempfile::tempdir().unwrap();
    let space = r#"{"format":"space","version":[1,1],"hyperparameters":[
        {"name":"x","type":"float","lower":0,"upper":1},{"name":"y","type":"float","lower":0,"upper":1}]}"#;
    let mut pools = Vec::new();
    for (name, sign) in [("rising", 1.0), ("falling", -1.0)] {
        let mut text = "x,y,loss_1,loss_3,loss_9\n".to_owned();
        for i in 0..40 {
            let (x, y) = (f64::from(i % 8) / 7.0, f64::from(i / 8) / 4.0);
            let last = 1.0 + sign * x + y;
            let low = if i == 3 { f64::INFINITY } else { last + 1.0 };
            writeln!(text, "{x},{y},{low},{},{last}", last + 0.5).unwrap();
        }
        let path = folder.path().join(format!("{name}.csv"));
        shared::fs::replace(&path, text.as_bytes()).unwrap();
        shared::fs::replace(
            &folder.path().join(format!("{name}.space.json")),
            space.as_bytes(),
        )
        .unwrap();
        pools.push(path.to_str().unwrap().to_owned());
    }
    let run = |more: &[&str]| {
        let pools = pools.join(",");
        let head = ["bench", "--pool", &pools, "--method", "tandem,random"];
        output(&[&head[..], &["--seeds", "0..3", "--total", "8"], more].concat())
    };
    let table = stdout(&run(&[]));
    for part in [
        "rising: mean true regret",
        "falling: mean true regret",
        "geometric mean over 2 problems",
        "tandem / best of the others",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert_eq!(stdout(&run(&[])), table, "seeds decide everything");
    let other = stdout(&run(&["--without-replacement"]));
    assert_ne!(other, table);
    assert_ne!(
        stdout(&run(&[
            "--scheduling",
            "asynchronous",
            "--first-rungs",
            "0",
            "--max-budget",
            "9",
            "--eta",
            "3"
        ])),
        ""
    );
    // A space too few.
    let space = folder.path().join("rising.space.json");
    let refused = run(&["--space", space.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("one --space for each"));
}

#[test]
fn benchmarks_write_curves_and_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let run = |method: &str| {
        let text = output(&[
            "bench",
            "--benchmark",
            "counting-ones-2",
            "--method",
            method,
            "--seeds",
            "0..3",
            "--total",
            "8",
            "--out",
            out,
        ]);
        stdout(&text)
    };
    let table = run("bohb,random");
    assert!(
        table.contains("counting-ones-2: mean true regret") && table.contains("(3)"),
        "{table}"
    );
    let curve =
        std::fs::read_to_string(folder.path().join("counting-ones-2__bohb__1.csv")).unwrap();
    assert!(
        curve.starts_with("eval,budget,loss,true_regret,cum_restart,cum_cont\n0,9.0,"),
        "{curve}"
    );
    let random =
        std::fs::read_to_string(folder.path().join("counting-ones-2__random__1.csv")).unwrap();
    assert_eq!(random.lines().count(), 9);
    // Seeds decide everything.
    assert_eq!(run("bohb,random"), table);
    // With several workers the times are there, too.
    let text = stdout(&output(&[
        "bench",
        "--benchmark",
        "branin",
        "--method",
        "bohb",
        "--seeds",
        "0..2",
        "--total",
        "4",
        "--workers",
        "4",
        "--out",
        out,
    ]));
    assert!(
        text.contains("workers' time used") && text.contains("1.0000 ± 0.0000 (2)"),
        "{text}"
    );
    let curve = std::fs::read_to_string(folder.path().join("branin__bohb__1.csv")).unwrap();
    let header = "eval,budget,loss,true_regret,cum_restart,cum_cont,started_at,ended_at\n";
    assert!(curve.starts_with(header), "{curve}");
    assert_eq!(
        output(&["bench", "--benchmark", "nothing", "--method", "bohb"])
            .status
            .code(),
        Some(2)
    );
    assert_eq!(
        output(&["bench", "--benchmark", "branin", "--method", "magic"])
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn a_table_of_losses_is_a_benchmark() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        shared::fs::publish_new(&path, text.as_bytes()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let space = file(
        "space.json",
        r#"{"format":"space","version":[1,0],"hyperparameters":[
            {"name":"kind","type":"categorical","choices":["a","b"]},{"name":"size","type":"ordinal","sequence":[8,16]}]}"#,
    );
    let table = file(
        "grid.csv",
        "kind,size,loss0,loss1\na,8,1,3\na,16,0,0\nb,8,5,5\nb,16,4,4\n",
    );
    let run = |table: &str| {
        output(&[
            "bench", "--table", table, "--space", &space, "--method", "random", "--seeds", "0..4",
            "--total", "16",
        ])
    };
    // Sixteen draws of four find the best.
    let text = stdout(&run(&table));
    assert!(
        text.contains("grid: mean") && text.contains("0.0000 ± 0.0000 (4)"),
        "{text}"
    );
    let bad = file("bad.csv", "kind,loss\na,1\n");
    let refused = run(&bad);
    assert_eq!(refused.status.code(), Some(3));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("no column `size`"), "{text}");
}

#[test]
fn proposing_by_hand_writes_nothing_and_is_what_a_run_would_write() {
    let folder = tempfile::tempdir().unwrap();
    let directory = answered_search(folder.path(), "{}");
    let path = folder.path().to_str().unwrap();
    // The scheduler's next request would name the last two results.
    let last = vec![ConfigurationId(14).job(0), ConfigurationId(15).job(0)];
    let before = tree(folder.path());
    let shown = output(&["propose", path, "--count", "2", "--format", "json"]);
    let shown: serde_json::Value = serde_json::from_str(&stdout(&shown)).unwrap();
    assert_eq!(tree(folder.path()), before);
    assert_eq!(shown["num_results"], 16);
    directory.request(&request(16, last, Vec::new())).unwrap();
    directory
        .request(&request(17, Vec::new(), Vec::new()))
        .unwrap();
    stdout(&output(&["run", path, "--once"]));
    for (index, id) in [(0, 16), (1, 17)] {
        let written = directory
            .read_proposal(ConfigurationId(id))
            .unwrap()
            .unwrap();
        assert_eq!(
            shown["proposals"][index],
            serde_json::to_value(written).unwrap()
        );
    }
    let table = stdout(&output(&["propose", path]));
    assert!(
        table.starts_with("read `") && table.contains("rate "),
        "{table}"
    );
}

#[test]
fn a_named_result_is_waited_for_and_a_vanished_proposal_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let directory = directory(folder.path(), "{}");
    let path = folder.path().to_str().unwrap();
    directory
        .request(&request(0, Vec::new(), Vec::new()))
        .unwrap();
    directory
        .request(&request(1, vec![ConfigurationId(0).job(0)], Vec::new()))
        .unwrap();
    let mut program = sampler(&["run", path, "--poll-s", "0.05"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let answered = |id| {
        wait_for(&format!("configuration {id}"), || {
            directory.read_proposal(ConfigurationId(id)).unwrap()
        })
    };
    let first = answered(0);
    assert_eq!(directory.read_proposal(ConfigurationId(1)).unwrap(), None);
    evaluate(&directory, 0);
    let second = answered(1);
    assert_eq!(second.origin.num_results, 1);
    // As if found corrupt by the scheduler.
    directory
        .quarantine(
            &directory.layout().configuration(ConfigurationId(1)),
            &"test",
        )
        .unwrap();
    assert_eq!(answered(1), second);
    assert_eq!(answered(0), first);
    directory
        .finish_search(&Finished {
            configurations: 2,
            jobs: 1,
            retries: 0,
            top: None,
        })
        .unwrap();
    let status = wait_for("the end", || program.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn it_leaves_on_a_signal_to_be_run_again_and_on_a_stop_for_good() {
    for (signal, code) in [("-TERM", 75), ("-USR1", 75)] {
        let folder = tempfile::tempdir().unwrap();
        let directory = directory(folder.path(), "{}");
        directory
            .request(&request(0, Vec::new(), Vec::new()))
            .unwrap();
        let path = folder.path().to_str().unwrap();
        let mut program = sampler(&["run", path])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("the first answer", || {
            directory.read_proposal(ConfigurationId(0)).unwrap()
        });
        let id = program.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
        let status = wait_for("the end", || program.try_wait().unwrap());
        assert_eq!(status.code(), Some(code), "{signal}");
        directory.stop("test").unwrap();
        let started = Instant::now();
        assert_eq!(output(&["run", path]).status.code(), Some(0));
        assert!(started.elapsed() < Duration::from_mins(1));
    }
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come within 30 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn tree(root: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            paths.push(format!("{}", path.display()));
        }
    }
    paths.sort_unstable();
    paths
}
