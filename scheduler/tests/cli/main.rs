//! The program as people and scripts see it: help, exit codes, complaints, and a whole search on this machine.
#![expect(
    clippy::unwrap_used,
    clippy::format_push_string,
    reason = "all of this file is tests and what they share"
)]

mod doctor;
#[cfg(test)]
#[path = "../fake/mod.rs"]
mod fake;
mod fix_from;
mod local;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::CommandFactory as _;
use fake::{check_finished, create, executable, run_all, wait_until};
use serde_json::{Value, json};
use shared::{Directory, fs};

fn scheduler() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scheduler"));
    command.env_clear().env("COLUMNS", "100");
    command
}

fn run(arguments: &[&str]) -> Output {
    scheduler().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What `init` says about a search file, with the exit code; the folder's name is left out.
fn init(folder: &Path, search: &Value) -> String {
    let path = folder.join("search.json");
    fs::replace(&path, search.to_string().as_bytes()).unwrap();
    let directory = folder.join("dir");
    let output = run(&["init", path.to_str().unwrap(), directory.to_str().unwrap()]);
    let said = if output.status.success() {
        text(&output.stdout)
    } else {
        text(&output.stderr)
    };
    let said = said.replace(folder.to_str().unwrap(), "FOLDER");
    format!("exit {}: {said}", output.status.code().unwrap())
}

fn search() -> Value {
    let mut json = serde_json::to_value(fake::search_file(&json!({}))).unwrap();
    json["format"] = "search".into();
    json["version"] = json!([1, 0]);
    json
}

/// The search with one value changed.
fn with(pointer: &str, value: Value) -> Value {
    let mut json = search();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match json.pointer_mut(parent).unwrap() {
        Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
        other => other[key] = value,
    }
    json
}

#[test]
fn help_says_what_each_argument_means() {
    insta::assert_snapshot!("help", text(&run(&["--help"]).stdout));
    for subcommand in scheduler::Args::command().get_subcommands() {
        let name = subcommand.get_name();
        let output = run(&[name, "--help"]);
        assert!(output.status.success());
        insta::assert_snapshot!(format!("help_{name}"), text(&output.stdout));
    }
}

#[test]
fn init_says_what_will_be_done() {
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(init(folder.path(), &with("/budget/max", 20.into())));
    // Again is harmless; another search is refused.
    let again = init(folder.path(), &with("/budget/max", 20.into()));
    assert!(again.starts_with("exit 0"), "{again}");
    insta::assert_snapshot!(init(folder.path(), &search()));
}

#[test]
fn init_says_which_rungs_tandem_uses() {
    let folder = tempfile::tempdir().unwrap();
    let mut search = with("/method", "tandem".into());
    insta::assert_snapshot!(init(folder.path(), &search));
    search["first_rungs"] = json!([0, 2]);
    let all = init(&folder.path().join("all"), &search);
    assert!(all.contains("\n   1           3 steps"), "{all}");
}

#[test]
fn a_space_file_lies_beside_the_search_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut space = search()["space"].clone();
    space["format"] = "space".into();
    space["version"] = json!([1, 0]);
    let mut file = with("/space_file", "space.json".into());
    file.as_object_mut().unwrap().remove("space");
    let missing = init(folder.path(), &file);
    fs::replace(
        &folder.path().join("space.json"),
        space.to_string().as_bytes(),
    )
    .unwrap();
    let good = init(folder.path(), &file);
    assert!(good.starts_with("exit 0"), "{good}");
    let written = std::fs::read_to_string(folder.path().join("dir/search.json")).unwrap();
    assert!(written.contains("hyperparameters") && !written.contains("space_file"));
    space["hyperparameters"][0]["upper"] = (-1).into();
    fs::replace(
        &folder.path().join("space.json"),
        space.to_string().as_bytes(),
    )
    .unwrap();
    insta::assert_snapshot!(format!("{missing}{}", init(folder.path(), &file)));
}

#[test]
fn bad_search_files_are_refused_with_place_expectation_and_finding() {
    let network = |data: Value| json!({"network": {"data": data}});
    let cases = [
        with("/colour", "red".into()),
        with("/space/hyperparameters/0/upper", (-1).into()),
        with("/space/hyperparameters/1/lower", 0.into()),
        with("/space/hyperparameters/1/type", "whole".into()),
        with("/budget/min", 10.into()),
        with("/budget/eta", 1.into()),
        with("/limit", json!({"configurations": 3})),
        with("/limit", json!({"brackets": 4_000_000_000_u32})),
        with("/objective", json!({"benchmark": "branch"})),
        with("/objective", network(json!({"name": "cifar-10"}))),
        with(
            "/objective",
            network(json!({"name": "folder", "path": "/nonexistent/images"})),
        ),
        with("/trainers/lease_s", 0.1.into()),
        with("/version", json!([2, 0])),
        with("/format", "job".into()),
    ];
    let folder = tempfile::tempdir().unwrap();
    let said: Vec<String> = cases.iter().map(|case| init(folder.path(), case)).collect();
    insta::assert_snapshot!(said.join(""));
    // None of them has left anything.
    assert!(!folder.path().join("dir").exists());
}

/// `init` of a command's search from a folder; what it says, and the working directory that it records.
fn init_from(from: &Path, arguments: &[&str]) -> (String, Value) {
    let output = scheduler()
        .env("PATH", "/usr/bin:/bin")
        .current_dir(from)
        .arg("init")
        .args(arguments)
        .output()
        .unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let directory = from.join(arguments[1]).join("search.json");
    let written: Value = serde_json::from_slice(&std::fs::read(directory).unwrap()).unwrap();
    (said, written["working_directory"].clone())
}

#[test]
fn init_records_where_commands_run_and_says_if_they_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let put =
        |name: &str, json: &Value| fs::replace(&path(name), json.to_string().as_bytes()).unwrap();
    for name in ["code", "elsewhere"] {
        std::fs::create_dir(path(name)).unwrap();
    }
    let mut search = with("/objective", json!({"command": ["sh", "train.sh"]}));
    put("search.json", &search);
    let (said, recorded) = init_from(&path("code"), &["../search.json", "../dir"]);
    assert_eq!(recorded, path("code").to_str().unwrap());
    assert!(
        said.contains("script `train.sh` of the command is not in"),
        "{said}"
    );
    assert!(
        said.contains(&format!("trainers work in `{}`", path("code").display())),
        "{said}"
    );
    // Again, from elsewhere: it stays.
    let (_, recorded) = init_from(&path("elsewhere"), &["../search.json", "../dir"]);
    assert_eq!(recorded, path("code").to_str().unwrap());
    // A directory of a version that recorded none is this search's, too, and stays as it is.
    let old = path("dir/search.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&old).unwrap()).unwrap();
    json.as_object_mut().unwrap().remove("working_directory");
    json["version"] = json!([1, 1]);
    fs::replace(&old, json.to_string().as_bytes()).unwrap();
    fs::remove(&path("dir/created.json")).unwrap();
    let (_, recorded) = init_from(&path("code"), &["../search.json", "../dir"]);
    assert_eq!(recorded, Value::Null);
    // Named in the file, relative to it.
    fs::replace(&path("code/train.sh"), b"").unwrap();
    search["working_directory"] = "code".into();
    put("search.json", &search);
    let (said, recorded) = init_from(&path("elsewhere"), &["../search.json", "../named"]);
    assert_eq!(recorded, path("code").to_str().unwrap());
    assert!(!said.contains("WARN"), "{said}");
    search["working_directory"] = "none".into();
    let said = init(folder.path(), &search);
    assert!(said.starts_with("exit 3"), "{said}");
    assert!(
        said.contains("at `working_directory`: expected an existing folder, found `FOLDER/none`"),
        "{said}"
    );
    // Relative paths of data begin there, too; what depends on nothing has none.
    let data = json!({"network": {"data": {"name": "folder", "path": "images"}}});
    std::fs::create_dir(path("code/images")).unwrap();
    put("search.json", &with("/objective", data));
    let (_, recorded) = init_from(&path("code"), &["../search.json", "../data"]);
    assert_eq!(recorded, path("code").to_str().unwrap());
    put("search.json", &self::search());
    let (_, recorded) = init_from(&path("code"), &["../search.json", "../plain"]);
    assert_eq!(recorded, Value::Null);
}

/// What a subcommand says, with its exit code.
fn say(arguments: &[&str]) -> String {
    let output = run(arguments);
    let said = text(if output.status.success() {
        &output.stdout
    } else {
        &output.stderr
    });
    format!("exit {}: {said}", output.status.code().unwrap())
}

#[test]
fn a_finished_search_goes_on_when_it_is_extended() {
    let whole = tempfile::tempdir().unwrap();
    create(whole.path(), json!({"limit": {"brackets": 5}}));
    run_all(whole.path(), 1, 2, &|_, _, _| false);
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    let directory = create(folder.path(), json!({"limit": {"brackets": 2}}));
    run_all(folder.path(), 1, 2, &|_, _, _| false);
    let before = check_finished(folder.path());
    let said = say(&["extend", root, "--configurations", "3"]);
    assert!(
        said.starts_with("exit 3") && said.contains("brackets"),
        "{said}"
    );
    assert!(say(&["extend", root]).starts_with("exit 2"));
    // Twice at the same time.
    let both = std::thread::scope(|scope| {
        let one = scope.spawn(|| say(&["extend", root, "--brackets", "1"]));
        let two = scope.spawn(|| say(&["extend", root, "--brackets", "2"]));
        [one.join().unwrap(), two.join().unwrap()].concat()
    });
    assert!(both.contains("start its programs again"), "{both}");
    assert!(!directory.flags().unwrap().is_finished);
    run_all(folder.path(), 2, 2, &|_, _, _| false);
    let after = check_finished(folder.path());
    assert_eq!(after, check_finished(whole.path()));
    assert!(before.iter().all(|job| after.contains(job)));
}

#[test]
fn failures_of_a_finished_search_are_done_again_when_somebody_asks() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    let directory = create(folder.path(), json!({}));
    let is_mended = AtomicBool::new(false);
    let crash = |directory: &Directory, claim: &shared::Claim, job: &shared::record::Job| {
        let crashes = job.job.configuration.0 % 4 == 1 && !is_mended.load(Ordering::Relaxed);
        if crashes {
            let mut result = fake::result(claim, job);
            result.outcome = shared::Outcome::crashed("no such module");
            directory.finish(claim, &result).unwrap();
        }
        crashes
    };
    run_all(folder.path(), 1, 2, &crash);
    let crashed = |directory: &Directory| {
        let results = directory.all_results().unwrap();
        let number = results.iter().filter(|r| r.outcome.as_str() == "crashed");
        number.count()
    };
    assert_eq!(crashed(&directory), 4);
    let said = say(&["retry", root, "--job", "c000000-r0"]);
    assert!(
        said.starts_with("exit 3") && said.contains("has a loss"),
        "{said}"
    );
    let said = say(&["retry", root, "--job", "c000099-r0"]);
    assert!(
        said.starts_with("exit 3") && said.contains("no result"),
        "{said}"
    );
    assert!(say(&["retry", root]).starts_with("exit 2"));
    assert!(say(&["retry", root, "--lost"]).contains("nothing to do again"));
    assert!(directory.flags().unwrap().is_finished);
    let first = directory
        .read_result(shared::ConfigurationId(1).job(0))
        .unwrap();
    let said = say(&["retry", root, "--crashed"]);
    assert!(said.contains("4 jobs will be done again"), "{said}");
    assert!(said.contains("start its programs again"), "{said}");
    assert!(say(&["retry", root, "--crashed"]).contains("asked for already"));
    is_mended.store(true, Ordering::Relaxed);
    run_all(folder.path(), 2, 3, &crash);
    check_finished(folder.path());
    assert_eq!(crashed(&directory), 0);
    // What was said first stays.
    let job = shared::ConfigurationId(1).job(0);
    assert_eq!(directory.read_result(job).unwrap(), first);
}

#[test]
fn files_that_are_not_there_or_no_json_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::replace(Path::new(&path("cut.json")), b"{ \"format\": \"sea").unwrap();
    let mut said = String::new();
    for arguments in [
        vec!["init".to_owned(), path("none.json"), path("dir")],
        vec!["init".to_owned(), path("cut.json"), path("dir")],
        vec!["run".to_owned(), path("dir")],
        vec!["status".to_owned(), path("dir")],
        vec!["status".to_owned(), path("cut.json")],
        vec!["slurm".to_owned(), path("dir"), "--trainers=1".into()],
        vec!["doctor".to_owned(), path("dir")],
        vec![
            "run".to_owned(),
            path("dir"),
            "--poll-s".into(),
            "-3".into(),
        ],
    ] {
        let output = scheduler().args(&arguments).output().unwrap();
        let code = output.status.code().unwrap();
        let error = text(&output.stderr).replace(folder.path().to_str().unwrap(), "FOLDER");
        said += &format!("exit {code}: {error}");
    }
    insta::assert_snapshot!(said);
}

#[test]
fn once_does_all_that_can_be_done_and_plan_says_it_without_doing_it() {
    let folder = tempfile::tempdir().unwrap();
    let directory = create(folder.path(), json!({}));
    let root = folder.path().to_str().unwrap();
    let mut said = String::new();
    let mut plan = || said += &text(&run(&["plan", root]).stdout);
    plan();
    assert_eq!(
        directory.read_request(shared::ConfigurationId(0)).unwrap(),
        None
    );
    assert!(run(&["run", root, "--once"]).status.success());
    plan();
    let id = shared::ConfigurationId(0);
    directory.propose(&fake::proposal(&directory, id)).unwrap();
    plan();
    assert!(run(&["run", root, "--once"]).status.success());
    assert_eq!(directory.open_jobs().unwrap(), [id.job(0).attempt(1)]);
    plan();
    insta::assert_snapshot!(said);
}

#[test]
fn plan_says_what_a_search_will_cost_before_it_starts() {
    let searches = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../data/searches"));
    let poster = searches.join("joint-cifar10.json"); // whose data need not be there
    let poster = poster.to_str().unwrap();
    let cost = |more: &[&str]| run(&[&["plan", poster, "--cost"], more].concat());
    let mut said = text(&cost(&["--trainers", "16", "--checkpoint-mib", "40"]).stdout);
    said += "\n";
    said += &text(&cost(&["--trainers", "16", "--deaths", "0.5", "--preemptions", "4"]).stdout);
    insta::assert_snapshot!(said);

    let epochs = searches.join("quickstart.json");
    let epochs = epochs.to_str().unwrap();
    for (arguments, code, words) in [
        (
            &["plan", epochs, "--cost"][..],
            2,
            "say with --unit-s how many seconds one takes",
        ),
        (
            &["plan", poster, "--cost", "--unit-s", "2"],
            2,
            "--unit-s is for epochs and steps",
        ),
        (
            &["plan", poster, "--cost", "--deaths=-1"],
            2,
            "a number of at least 0",
        ),
        (&["plan", poster, "--trainers", "2"], 2, "--cost"),
        (
            &["plan", "no-such-file.json", "--cost"],
            3,
            "no-such-file.json",
        ),
    ] {
        let output = run(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}

#[test]
fn the_status_says_what_the_first_crashed_jobs_said() {
    let folder = tempfile::tempdir().unwrap();
    let directory = create(folder.path(), json!({}));
    let root = folder.path().to_str().unwrap();
    assert!(run(&["run", root, "--once"]).status.success());
    for number in 0..5 {
        let id = shared::ConfigurationId(number);
        directory.propose(&fake::proposal(&directory, id)).unwrap();
    }
    assert!(run(&["run", root, "--once"]).status.success());
    let shown = || text(&run(&["status", root]).stdout);
    assert!(!shown().contains("crashed"), "{}", shown());
    let mut open = directory.open_jobs().unwrap();
    open.sort_by_key(|attempt| attempt.job);
    for (number, attempt) in open.iter().enumerate().take(4) {
        let owner = "host-1-1".parse().unwrap();
        let (claim, job) = directory.claim(*attempt, &owner).unwrap().unwrap();
        let mut result = fake::result(&claim, &job);
        let message = format!("no data {number}\n\u{1b}[2J{}", "x".repeat(300));
        result.outcome = shared::Outcome::crashed(message);
        directory.finish(&claim, &result).unwrap();
    }
    let shown = shown();
    for (number, attempt) in open.iter().enumerate().take(3) {
        let line = format!("  {}: no data {number} \u{fffd}[2Jxxx", attempt.job);
        assert!(shown.contains(&line), "{shown}");
    }
    assert!(!shown.contains("no data 3"), "{shown}");
    assert!(
        !shown.contains('\u{1b}') && !shown.contains(&"x".repeat(201)),
        "{shown}"
    );
}

#[test]
fn the_page_of_formats_names_every_field_of_the_status() {
    fn keys(json: &Value, found: &mut std::collections::BTreeSet<String>) {
        match json {
            Value::Object(fields) => {
                for (key, value) in fields {
                    found.insert(key.clone());
                    keys(value, found);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
            _ => {}
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let directory = create(folder.path(), json!({}));
    run_all(folder.path(), 1, 1, &|_, _, _| false);
    let mut trainer = fake::Trainer::new(folder.path(), "late", &|_, _, _| false);
    trainer.heartbeat(shared::record::TrainerState::Waiting);
    let root = directory.layout().root().to_str().unwrap();
    let output = run(&["status", root, "--format", "json"]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&status["format"], &status["trainers"][0]["host"]),
        (&json!("status"), &json!(shared::owner::host_name()))
    );
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/formats.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section = page
        .split("\n## ")
        .find(|section| section.starts_with("`status`"))
        .unwrap();
    let mut found = std::collections::BTreeSet::new();
    keys(&status, &mut found);
    for key in found {
        let is_envelope = ["format", "version"].contains(&key.as_str());
        assert!(
            is_envelope || section.contains(&format!("`{key}`")),
            "{key}"
        );
    }
}

#[test]
fn a_stopped_search_stays_as_it_is_until_that_is_undone() {
    let folder = tempfile::tempdir().unwrap();
    let directory = create(folder.path(), json!({}));
    let root = folder.path().to_str().unwrap();
    assert!(run(&["stop", root]).status.success());
    let output = run(&["run", root]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("stopped"), "{output:?}");
    assert_eq!(
        directory.read_request(shared::ConfigurationId(0)).unwrap(),
        None
    );
    let status: Value =
        serde_json::from_slice(&run(&["status", root, "--format", "json"]).stdout).unwrap();
    assert_eq!(status["phase"], "stopped");
    assert!(run(&["stop", root, "--undo"]).status.success());
    assert!(run(&["run", root, "--once"]).status.success());
    assert!(
        directory
            .read_request(shared::ConfigurationId(0))
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_signal_ends_the_scheduler_with_75() {
    let folder = tempfile::tempdir().unwrap();
    let directory = create(folder.path(), json!({}));
    let mut child = scheduler()
        .arg("run")
        .arg(folder.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the first request", || {
        directory
            .read_request(shared::ConfigurationId(0))
            .unwrap()
            .is_some()
    });
    let process = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::USR1).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(75));
}

#[test]
fn a_directory_that_cannot_be_written_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    create(folder.path(), json!({}));
    let requests = folder.path().join("requests");
    // A file where the folder should be: root, which tests may run as, is stopped by no permission.
    std::fs::remove_dir(&requests).unwrap();
    fs::publish_new(&requests, b"").unwrap();
    let output = run(&["run", folder.path().to_str().unwrap(), "--once"]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{error}");
    assert!(error.contains("requests"), "{error}");
}

#[test]
fn one_run_on_a_full_disk_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    create(folder.path(), json!({}));
    let mut command = scheduler();
    command.env("TANDEM_FAULTS", "seed=1,enospc=1");
    command.arg("run").arg(folder.path()).arg("--once");
    let output = command.output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{error}");
    assert!(error.contains("No space left"), "{error}");
}

#[test]
fn status_of_a_finished_search() {
    let folder = tempfile::tempdir().unwrap();
    create(folder.path(), json!({}));
    run_all(folder.path(), 1, 1, &|_, _, _| false);
    let root = folder.path().to_str().unwrap();
    insta::assert_snapshot!(text(&run(&["status", root]).stdout));
    // Watching ends with the search.
    assert!(run(&["status", root, "--watch"]).status.success());
    let output = run(&["run", root]);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_sample_without_scheduler_gets_the_jobs_of_dead_trainers_back() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    // As `analyzer correlation --extra` makes it: configurations and jobs, no requests.
    let directory = create(folder.path(), json!({}));
    let proposal = fake::proposal(&directory, shared::ConfigurationId(7));
    directory.propose(&proposal).unwrap();
    let search = directory.search();
    for rung in [1, 2] {
        let job = shared::record::Job {
            job: proposal.configuration.job(rung),
            bracket: 0,
            budget: search.ladder.budget(rung),
            configuration: proposal.values.clone(),
            continues: None,
            search: search.digest.clone(),
            supersedes: None,
            checks: Vec::new(),
            avoid_hosts: Vec::new(),
            memory_mib: None,
            seed: None,
            first_rung: None,
        };
        directory.offer(&job, 1).unwrap();
    }
    let said = say(&["status", root]);
    assert!(said.contains("trainers to claim 2 open jobs"), "{said}");
    assert!(!said.contains("c000000"), "{said}");
    // No search is begun there.
    let file = folder.path().join("search.json");
    let file = file.to_str().unwrap();
    for arguments in [
        &["run", root][..],
        &["local", file, root, "--trainers", "1"],
    ] {
        let said = say(arguments);
        assert!(said.starts_with("exit 3"), "{said}");
        assert!(
            said.contains(&format!("`trainer run {root} --once`")),
            "{said}"
        );
    }
    assert!(
        directory
            .shards(shared::layout::REQUESTS)
            .unwrap()
            .is_empty()
    );
    let attempt = proposal.configuration.job(2).attempt(1);
    let mut dead = fake::Trainer::new(folder.path(), "dead", &|_, _, _| true);
    dead.heartbeat(shared::record::TrainerState::Waiting);
    directory.claim(attempt, &dead.owner).unwrap().unwrap();
    wait_until("silence", || {
        say(&["status", root]).contains("take back 1 claimed job")
    });
    let said = say(&["retry", root, "--lost"]);
    assert!(
        said.contains("took back 1 job of silent trainers"),
        "{said}"
    );
    let view = directory.jobs().unwrap();
    assert!(
        view.claimed.is_empty() && view.open.contains(&attempt.next()),
        "{view:?}"
    );
}
