//! The program as people and scripts see it: help, exit codes, complaints, and a whole search on this machine.
#![expect(
    clippy::unwrap_used,
    clippy::format_push_string,
    reason = "all of this file is tests and what they share"
)]

#[cfg(test)]
mod fake;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use fake::{check_finished, create, run_all};
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
fn help_is_complete() {
    for arguments in [
        &["--help"][..],
        &["init", "--help"],
        &["run", "--help"],
        &["plan", "--help"],
        &["status", "--help"],
        &["stop", "--help"],
        &["local", "--help"],
        &["slurm", "--help"],
        &["doctor", "--help"],
    ] {
        let output = run(arguments);
        assert!(output.status.success());
        insta::assert_snapshot!(
            format!("help_{}", arguments[0].trim_start_matches('-')),
            text(&output.stdout)
        );
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
        (&json!("status"), &json!(shared::store::host_name()))
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

/// The result with the smallest loss at the full budget.
fn incumbent(directory: &Directory) -> shared::JobResult {
    let top = directory.search().ladder.top();
    let results = directory.all_results().unwrap().into_iter();
    let loss = |result: &shared::JobResult| result.outcome.loss();
    results
        .filter(|result| result.job().rung == top && loss(result).is_some())
        .min_by(|a, b| loss(a).unwrap().total_cmp(&loss(b).unwrap()))
        .unwrap()
}

#[test]
fn the_second_of_two_searches_fixes_what_the_first_one_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let first = Directory::open(&{
        create(&folder.path().join("first"), json!({}));
        folder.path().join("first")
    })
    .unwrap();
    let second = with(
        "/space/hyperparameters",
        json!([{"name": "x", "type": "float", "lower": 0, "upper": 1},
               {"name": "y", "type": "integer", "lower": 1, "upper": 64},
               {"name": "z", "type": "float", "lower": 0, "upper": 1}]),
    );
    fs::replace(
        &folder.path().join("second.json"),
        second.to_string().as_bytes(),
    )
    .unwrap();
    let init = |name: &str, more: &[&str]| {
        let (file, directory, from) = (path("second.json"), path(name), path("first"));
        let mut arguments = vec!["init", &file, &directory, "--fix-from", &from];
        arguments.extend(more);
        run(&arguments)
    };
    // Nothing is known yet.
    let early = init("early", &[]);
    assert_eq!(early.status.code(), Some(3));
    assert!(
        text(&early.stderr).contains("has a loss"),
        "{}",
        text(&early.stderr)
    );

    run_all(&folder.path().join("first"), 1, 1, &|_, _, _| false);
    let best = incumbent(&first);
    let expected: Vec<&str> = best.configuration.iter().map(|(name, _)| name).collect();
    let output = init("second", &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(
        said.contains(&format!("fixed ({} of", best.job().configuration)),
        "{said}"
    );
    let directory = Directory::open(&folder.path().join("second")).unwrap();
    let space = &directory.search().space;
    assert_eq!(space.num_dimensions(), 3 - expected.len());
    let drawn = space.decode(&vec![0.5; space.num_dimensions()]);
    for (name, value) in best.configuration.iter() {
        assert_eq!(drawn.get(name), Some(value));
    }
    // Repeated, it is the same search.
    assert!(init("second", &[]).status.success());
    let unknown = init("other", &["--fix", "depth"]);
    assert_eq!(unknown.status.code(), Some(3));
    assert!(text(&unknown.stderr).contains("has no value of `depth`"));
    // Where the second search has no room for a value, the first one is named.
    let mut narrow = second.clone();
    narrow["space"]["hyperparameters"][0]["upper"] = json!(1e-9);
    fs::replace(
        &folder.path().join("second.json"),
        narrow.to_string().as_bytes(),
    )
    .unwrap();
    let output = init("narrow", &[]);
    assert_eq!(output.status.code(), Some(3));
    let expected =
        "first` does not fit this search: at `x`: expected a number from 0 to 0.000000001, found";
    assert!(
        text(&output.stderr).contains(expected),
        "{}",
        text(&output.stderr)
    );
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < fake::DEADLINE,
            "waited in vain for {what}"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// A script that can be run.
fn executable(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::replace(&path, format!("#!/bin/bash\n{text}\n").as_bytes()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A folder with the scheduler and other programs beside it: scripts.
struct Programs {
    folder: tempfile::TempDir,
}

impl Programs {
    fn new(sampler: &str, trainer: &str) -> Self {
        let programs = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::copy(
            env!("CARGO_BIN_EXE_scheduler"),
            programs.folder.path().join("scheduler"),
        )
        .unwrap();
        programs.script("sampler", sampler);
        programs.script("trainer", trainer);
        programs.script("analyzer", "echo \"analyzer $*\"");
        let file = serde_json::to_vec(&search()).unwrap();
        fs::publish_new(&programs.folder.path().join("search.json"), &file).unwrap();
        programs
    }

    /// A script that runs a test of this file, which then acts as that program.
    fn acting(test: &str) -> String {
        let this = std::env::current_exe().unwrap();
        format!(
            "exec '{}' --exact {test} --nocapture \"$2\"",
            this.display()
        )
    }

    fn script(&self, name: &str, text: &str) {
        executable(self.folder.path(), name, text);
    }

    fn directory(&self) -> PathBuf {
        self.folder.path().join("dir")
    }

    fn local(&self) -> Command {
        let mut command = Command::new(self.folder.path().join("scheduler"));
        command.env_clear().arg("local");
        command
            .arg(self.folder.path().join("search.json"))
            .arg(self.directory());
        command.args(["--trainers", "2"]);
        command
    }
}

/// The search directory that a script was started on; none when this is an ordinary test run.
fn acted_directory() -> Option<PathBuf> {
    std::env::args()
        .skip(1)
        .map(PathBuf::from)
        .find(|path| path.join("search.json").is_file())
}

/// Acts as a program until the search is finished.
fn act(as_program: impl FnOnce(&Path, &AtomicBool) + Send) {
    let Some(root) = acted_directory() else {
        return;
    };
    let directory = Directory::open(&root).unwrap();
    let leave = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| as_program(&root, &leave));
        wait_until("the end of the search", || {
            directory.signs().unwrap().is_finished
        });
        leave.store(true, Ordering::Relaxed);
    });
}

#[test]
fn act_as_sampler() {
    act(fake::sample);
}

#[test]
fn act_as_trainer() {
    act(|root, leave| {
        let name = format!("p{}", std::process::id());
        fake::Trainer::new(root, &name, &|directory, claim, _| {
            // The first process to get this job dies with it in hand.
            let marker = directory.layout().root().join("died");
            let is_first = || fs::publish_new(&marker, b"").unwrap() == fs::Published::New;
            if claim.attempt.job.configuration.0 == 5 && is_first() {
                std::process::abort();
            }
            false
        })
        .run(leave);
    });
}

#[test]
fn local_runs_a_whole_search_and_replaces_a_dead_trainer() {
    let programs = Programs::new(
        &Programs::acting("act_as_sampler"),
        &Programs::acting("act_as_trainer"),
    );
    let output = programs.local().output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    assert_eq!(check_finished(&programs.directory()).len(), 20);
    let root = programs.directory();
    let root = root.display();
    assert_eq!(
        text(&output.stdout),
        format!("analyzer correlation {root} --format table\nanalyzer incumbent {root}\n")
    );
    assert!(error.contains("started again"), "{error}");
    // The lease of half a second plays no part: the process is known to be dead.
    let directory = Directory::open(&programs.directory()).unwrap();
    let ends = directory
        .attempt_ends(shared::ConfigurationId(5).job(0))
        .unwrap();
    assert_eq!(ends.len(), 1);
    // Once more: there is nothing left to do.
    assert_eq!(programs.local().output().unwrap().status.code(), Some(0));
}

#[test]
fn local_gives_up_on_a_trainer_that_cannot_start_and_quotes_its_log() {
    let programs = Programs::new("sleep 100", "echo no such device >&2\nexit 1");
    let output = programs.local().output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("again and again"), "{error}");
    assert!(error.contains("no such device"), "{error}");
    let programs = Programs::new("sleep 100", "echo bad data >&2\nexit 3");
    let output = programs.local().output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
}

#[test]
fn local_stops_its_children_on_a_signal_and_ends_with_75() {
    let programs = Programs::new(
        "exec sleep 100",
        "trap 'echo saved >> \"$2/saved\"; exit 75' TERM\necho up >> \"$2/up\"\nwhile :; do sleep 0.1; done",
    );
    let mut child = programs
        .local()
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let lines = |name: &str| {
        std::fs::read_to_string(programs.directory().join(name)).map_or(0, |t| t.lines().count())
    };
    wait_until("both trainers", || lines("up") == 2);
    let process = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert_eq!(lines("saved"), 2);
}

#[test]
fn the_doctor_finds_a_local_disk_usable_and_a_read_only_folder_not() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    let output = run(&["doctor", root]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for line in [
        "good  200 races of 4 processes of this host for one rename: 200 winners",
        "good  200 races of 4 processes of this host for one new name: 200 winners",
        "good  a name that is taken cannot be taken again",
        "usable: searches may run here",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(!said.contains("BAD"), "{said}");
    // It cleans up.
    assert_eq!(fs::list(folder.path()).unwrap(), [""; 0]);
    let output = run(&["doctor", root, "--peer", "--wait-s", "0.1"]);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(
        text(&output.stdout).contains("BAD   no other host"),
        "{output:?}"
    );
    let output = run(&["doctor", "/proc"]);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
}

#[test]
fn two_doctors_on_one_machine_find_each_other_and_both_call_it_usable() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    let start = || {
        let mut doctor = scheduler();
        doctor.args(["doctor", root, "--peer", "--wait-s", "100"]);
        doctor.stdout(Stdio::piped()).spawn().unwrap()
    };
    let both = [start(), start()];
    let outputs = both.map(|doctor| doctor.wait_with_output().unwrap());
    for output in &outputs {
        let said = text(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        for line in [
            "good  the other process is ",
            "good  a file that is being replaced was always whole",
            "good  200 races of the two hosts for one new name: 200 winners",
            "note  both processes ran on this host, which says nothing about two",
            "usable: searches may run here",
        ] {
            assert!(said.contains(line), "{line}: {said}");
        }
        assert!(!said.contains("BAD"), "{said}");
    }
    let leaders = outputs
        .iter()
        .filter(|output| text(&output.stdout).contains("; this one leads"));
    assert_eq!(leaders.count(), 1);
}

/// Shows itself to a doctor that waits for another host, comes to their common folder or not, and is not heard of again.
fn show_up_as(name: &str, doctor: &Path, comes: bool) {
    let mut beat = 0;
    wait_until("the doctor has met the other host", || {
        beat += 1;
        let shown = format!("{beat}");
        fs::replace(&doctor.join("meeting").join(name), shown.as_bytes()).unwrap();
        let tables = fs::list(doctor).unwrap();
        let Some(table) = tables.iter().find(|table| table.contains('+')) else {
            return false;
        };
        let here = doctor.join(table).join(format!("here.{name}"));
        !comes || fs::publish_new(&here, b"").is_ok()
    });
}

#[test]
fn the_doctor_calls_a_filesystem_unusable_when_the_other_host_falls_silent() {
    for (name, comes, awaited) in [
        ("0", true, "`list-answer-1`"),
        ("zzz", true, "`list-answer-1`"),
        ("zzz", false, "`here.zzz`"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut doctor = scheduler();
        doctor.args(["doctor", folder.path().to_str().unwrap()]);
        doctor.args(["--peer", "--wait-s", "2"]);
        let doctor = doctor.stdout(Stdio::piped()).spawn().unwrap();
        show_up_as(name, &folder.path().join("doctor"), comes);
        let output = doctor.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        let said = text(&output.stdout);
        let complaint = format!(
            "BAD   the other host ({name}) has shown itself, and then nothing more for 2 s ({awaited} was awaited)"
        );
        assert!(said.contains(&complaint), "{said}");
        assert!(said.contains("NOT USABLE"), "{said}");
        // Only what the other host would have removed itself is left.
        let left = folder.path().join("doctor/meeting");
        assert_eq!(fs::list(folder.path()).unwrap(), ["doctor"]);
        assert_eq!(
            fs::list(&folder.path().join("doctor")).unwrap(),
            ["meeting"]
        );
        assert_eq!(fs::list(&left).unwrap(), [name]);
    }
}

#[test]
fn the_doctor_calls_a_filesystem_unusable_on_which_operations_fail() {
    for (faults, complaint) in [
        ("eio=1", "Input/output error"),
        ("enospc=1", "No space left on device"),
        ("estale=1", "Stale file handle"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = scheduler()
            .args(["doctor", folder.path().to_str().unwrap()])
            .env("TANDEM_FAULTS", faults)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(5), "{faults}: {output:?}");
        let said = text(&output.stdout);
        assert!(
            said.contains("BAD ") && said.contains(complaint),
            "{faults}: {said}"
        );
        assert!(
            said.ends_with("NOT USABLE: see the lines marked BAD\n"),
            "{said}"
        );
        assert!(
            fs::list(folder.path()).unwrap().is_empty(),
            "nothing is left"
        );
    }
}

#[test]
fn the_doctor_writes_nothing_behind_a_link() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("doctor")).unwrap();
    fs::replace(&elsewhere.path().join("precious"), b"").unwrap();
    let output = scheduler()
        .args(["doctor", folder.path().to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(text(&output.stdout).contains("link"), "{output:?}");
    assert_eq!(fs::list(elsewhere.path()).unwrap(), ["precious"]);
    assert_eq!(fs::list(folder.path()).unwrap(), ["doctor"]);
}

/// Commands of SLURM: `sbatch` numbers jobs and remembers their names, `squeue` shows those. As with SLURM's own, variables
/// beat scripts, and filter the queue.
fn fake_slurm(folder: &Path) {
    let queue = folder.join("queue").display().to_string();
    let scripts = [
        ("scontrol", "echo 'MaxArraySize            = 4'".to_owned()),
        (
            "sbatch",
            format!(
                "for last; do :; done\nname=${{SBATCH_JOB_NAME-$(sed -n 's/^#SBATCH --job-name=//p' \"$last\")}}\n\
                 tasks=$(sed -n 's/^#SBATCH --array=0-//p' \"$last\")\n\
                 i=0; while [ $i -le ${{tasks:-0}} ]; do echo \"$name|PENDING|7|Priority\" >> '{queue}'; i=$((i+1)); done\n\
                 echo \"$*\" >> '{queue}.arguments'\necho \"$(wc -l < '{queue}.arguments');cluster\""
            ),
        ),
        (
            "squeue",
            format!("[ \"$SQUEUE_PARTITION\" ] || cat '{queue}' 2>/dev/null; exit 0"),
        ),
    ];
    for (name, text) in scripts {
        let heard = format!(
            "export -p | grep -E 'x S[A-Z]+_' >> '{queue}.heard'\numask >> '{queue}.umask'\n"
        );
        executable(folder, name, &format!("{heard}{text}"));
    }
}

#[test]
fn slurm_gets_what_is_missing_and_never_twice_the_array() {
    let folder = tempfile::tempdir().unwrap();
    let bin = tempfile::tempdir().unwrap();
    let directory = create(&folder.path().join("dir"), json!({}));
    fake_slurm(bin.path());
    let path = format!("{}:/usr/bin:/bin", bin.path().display());
    let submit = |arguments: &[&str]| {
        let output = scheduler()
            .env("PATH", &path)
            .arg("slurm")
            .arg(directory.layout().root())
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout)
    };
    let mut said = String::new();
    for arguments in [
        &["--trainers", "9", "--", "--account=me"][..],
        &["--trainers", "9"],
        &["--trainers", "11"],
    ] {
        said += &format!("{}:\n{}", arguments.join(" "), submit(arguments));
    }
    // A node fails, and its task is not queued again.
    let queue = bin.path().join("queue");
    let queued = std::fs::read_to_string(&queue).unwrap();
    let failed = queued.replacen(
        "trainers|PENDING|7|Priority",
        "trainers|NODE_FAIL|7|None",
        1,
    );
    fs::replace(&queue, failed.as_bytes()).unwrap();
    said += &format!("a task lost:\n{}", submit(&["--trainers", "11"]));
    insta::assert_snapshot!(said);
    let arguments = std::fs::read_to_string(bin.path().join("queue.arguments")).unwrap();
    assert!(
        arguments.starts_with("--parsable --account=me "),
        "{arguments}"
    );
    // Behind what the user has said.
    let lines: Vec<&str> = arguments.lines().collect();
    assert!(
        lines[0].contains("=me --job-name=tandem-dir-"),
        "{arguments}"
    );
    assert!(!lines[0].contains("--array"), "{arguments}");
    assert!(lines[1].contains("-trainers --array=0-3 /"), "{arguments}");
    assert!(lines[3].contains("-trainers --array=0-0 /"), "{arguments}");
    let records = fs::list(&directory.layout().path("slurm")).unwrap();
    assert_eq!(
        records[..2],
        ["0001-coordinator.json", "0001-coordinator.sh"]
    );
    let status = scheduler()
        .env("PATH", &path)
        .arg("status")
        .arg(directory.layout().root())
        .output()
        .unwrap();
    assert!(
        text(&status.stdout).contains("trainers PENDING (Priority)"),
        "{status:?}"
    );
}

#[test]
fn slurms_commands_hear_no_variables_that_stand_for_options_and_make_nothing_for_everybody_to_write()
 {
    let folder = tempfile::tempdir().unwrap();
    let bin = tempfile::tempdir().unwrap();
    let directory = create(&folder.path().join("dir"), json!({}));
    fake_slurm(bin.path());
    let path = format!("{}:/usr/bin:/bin", bin.path().display());
    let submit = || {
        Command::new("/bin/sh")
            .args(["-c", "umask 000; exec \"$0\" \"$@\""])
            .arg(env!("CARGO_BIN_EXE_scheduler"))
            .arg("slurm")
            .arg(directory.layout().root())
            .args(["--trainers", "2"])
            .env_clear()
            .env("PATH", &path)
            .env("SLURM_CONF", "/etc/slurm.conf")
            .env("SLURM_JWT", "token")
            .env("SLURM_CLUSTERS", "other")
            .env("SBATCH_ACCOUNT", "physics")
            .env("SBATCH_JOB_NAME", "mine")
            .env("SBATCH_ARRAY_INX", "0-7")
            .env("SQUEUE_PARTITION", "urgent")
            .env("SCONTROL_FEDERATION", "1")
            .env("SACCT_FEDERATION", "1")
            .env("SCANCEL_NAME", "mine")
            .output()
            .unwrap()
    };
    let first = submit();
    let said = text(&first.stdout);
    assert!(said.contains("submitted: 2 trainers"), "{first:?}");
    // Who relies on them is told.
    let said = text(&first.stderr);
    for name in ["SBATCH_ARRAY_INX", "SBATCH_JOB_NAME"] {
        assert!(said.contains(name), "{said}");
    }
    let again = text(&submit().stdout);
    assert!(again.contains("nothing to submit"), "{again}");
    let read = |name: &str| std::fs::read_to_string(bin.path().join(name)).unwrap();
    let heard = read("queue.heard");
    let stays = ["SLURM_CONF=", "SLURM_JWT=", "SBATCH_ACCOUNT="];
    let has_stayed = |line: &str| stays.iter().any(|name| line.contains(name));
    assert!(heard.lines().all(has_stayed), "{heard}");
    // squeue, scontrol, sbatch twice, squeue.
    assert_eq!(heard.lines().count(), 15, "{heard}");
    assert_eq!(read("queue.umask"), "0002\n".repeat(5));
}

#[test]
fn arguments_that_hide_what_was_submitted_are_refused_and_so_are_bad_time_limits() {
    let folder = tempfile::tempdir().unwrap();
    let bin = tempfile::tempdir().unwrap();
    let directory = create(&folder.path().join("dir"), json!({}));
    fake_slurm(bin.path());
    for (arguments, complaint) in [
        (
            &["--", "--job-name=mine"][..],
            "`--job-name=mine` cannot be handed to sbatch",
        ),
        (&["--", "-Jmine"], "-J (--job-name)"),
        (&["--", "--arr=0-1"], "--array"),
        (&["--", "--test-only"], "--dry-run"),
        (&["--", "mine.sh"], "in place of the script"),
        (&["--", "--time=2"], "at least 5 minutes"),
        (&["--time=2"], "at least 5 minutes"),
        (&["--time=4h"], "days-hours:minutes:seconds"),
        (&["--keep=3"], "different numbers"),
    ] {
        for more in [&["--dry-run"][..], &[]] {
            let output = scheduler()
                .env("PATH", format!("{}:/usr/bin:/bin", bin.path().display()))
                .arg("slurm")
                .arg(directory.layout().root())
                .args(["--trainers", "2"])
                .args(more)
                .args(arguments)
                .output()
                .unwrap();
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
            assert!(said.contains(complaint), "{arguments:?}: {said}");
        }
    }
    assert!(!bin.path().join("queue").exists());
}

#[test]
fn directories_that_no_batch_script_can_name_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a\"b", "a\\b", "a\nb", "a\tb", "a\u{85}b"] {
        let root = folder.path().join(name);
        create(&root, json!({}));
        for more in [&["--dry-run"][..], &[]] {
            let output = scheduler()
                .env("PATH", folder.path())
                .arg("slurm")
                .arg(&root)
                .args(["--trainers", "2"])
                .args(more)
                .output()
                .unwrap();
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{name:?}: {said}");
            assert!(
                said.contains("cannot be used with SLURM"),
                "{name:?}: {said}"
            );
            assert_eq!(text(&output.stdout), "");
        }
    }
}

#[test]
fn the_number_of_trainers_may_stand_after_keep() {
    let folder = tempfile::tempdir().unwrap();
    create(folder.path(), json!({}));
    let root = folder.path().to_str().unwrap();
    for (arguments, tasks) in [
        (&["--keep=3", root][..], Some("0-2")),
        (&[root, "--keep=3", "--trainers", "3"], Some("0-2")),
        (&["--trainers=2", "--keep", root], Some("0-1")),
        (&["--keep", root], None),
        (&["--keep=0", root], None),
        (&[root], None),
    ] {
        let output = run(&[&["slurm", "--dry-run"][..], arguments].concat());
        let said = text(&output.stdout);
        match tasks {
            Some(tasks) => {
                assert!(
                    said.contains(&format!("--array={tasks}\n")),
                    "{arguments:?}: {output:?}"
                );
                assert!(
                    said.contains("'--keep' '--trainers="),
                    "{arguments:?}: {said}"
                );
            }
            None => assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}"),
        }
    }
}

#[test]
fn what_is_no_id_of_a_slurm_job_is_not_recorded_as_one() {
    for answer in ["", "Submitted batch job 7", ";cluster", "7x"] {
        let folder = tempfile::tempdir().unwrap();
        let bin = tempfile::tempdir().unwrap();
        let directory = create(&folder.path().join("dir"), json!({}));
        fake_slurm(bin.path());
        executable(bin.path(), "sbatch", &format!("echo '{answer}'"));
        let output = scheduler()
            .env("PATH", format!("{}:/usr/bin:/bin", bin.path().display()))
            .arg("slurm")
            .arg(directory.layout().root())
            .args(["--trainers", "2"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{answer}: {output:?}");
        let said = text(&output.stderr);
        assert!(said.contains("no id of a SLURM job"), "{answer}: {said}");
        assert_eq!(
            fs::list(&directory.layout().path("slurm")).unwrap(),
            [""; 0]
        );
    }
}

#[test]
fn two_commands_at_the_same_time_do_not_double_the_array() {
    for delay_ms in [0, 150, 450, 900] {
        let folder = tempfile::tempdir().unwrap();
        let bin = tempfile::tempdir().unwrap();
        let directory = create(&folder.path().join("dir"), json!({}));
        fake_slurm(bin.path());
        // SLURM takes its time.
        let sbatch = bin.path().join("sbatch");
        fs::move_to(&sbatch, &bin.path().join("sbatch-at-once")).unwrap();
        executable(
            bin.path(),
            "sbatch",
            "sleep 0.3; exec sbatch-at-once \"$@\"",
        );
        let path = format!("{}:/usr/bin:/bin", bin.path().display());
        let submit = || {
            let mut command = scheduler();
            command
                .env("PATH", &path)
                .arg("slurm")
                .arg(directory.layout().root())
                .args(["--trainers", "6"])
                .stdout(Stdio::null())
                .stderr(Stdio::piped());
            command.spawn().unwrap()
        };
        let first = submit();
        std::thread::sleep(std::time::Duration::from_millis(delay_ms));
        for child in [first, submit()] {
            let output = child.wait_with_output().unwrap();
            let said = text(&output.stderr);
            let is_refused = said.contains("another `scheduler slurm` is submitting");
            assert!(output.status.success() || is_refused, "{said}");
        }
        assert!(submit().wait().unwrap().success());
        let queue = std::fs::read_to_string(bin.path().join("queue")).unwrap();
        let count = |kind: &str| queue.matches(&format!("{kind}|PENDING")).count();
        let tasks = (count("trainers"), count("coordinator"));
        assert_eq!(tasks, (6, 1), "after {delay_ms} ms: {queue}");
    }
}

#[test]
fn a_submission_that_slurm_refuses_leaves_nothing_that_others_would_wait_for() {
    let folder = tempfile::tempdir().unwrap();
    let bin = tempfile::tempdir().unwrap();
    let directory = create(&folder.path().join("dir"), json!({}));
    fake_slurm(bin.path());
    executable(bin.path(), "sbatch", "echo 'invalid partition' >&2; exit 1");
    let output = scheduler()
        .env("PATH", format!("{}:/usr/bin:/bin", bin.path().display()))
        .arg("slurm")
        .arg(directory.layout().root())
        .args(["--trainers", "2"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("invalid partition"), "{said}");
    assert_eq!(
        fs::list(&directory.layout().path("slurm")).unwrap(),
        [""; 0]
    );
}

#[test]
fn trainers_that_do_not_start_are_not_asked_for_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let bin = tempfile::tempdir().unwrap();
    let directory = create(&folder.path().join("dir"), json!({}));
    fake_slurm(bin.path());
    // Whatever is submitted is over at once.
    executable(bin.path(), "squeue", "exit 0");
    let path = format!("{}:/usr/bin:/bin", bin.path().display());
    let slurm = |arguments: &[&str]| {
        let mut command = scheduler();
        command
            .env("PATH", &path)
            .arg("slurm")
            .arg(directory.layout().root())
            .args(["--trainers", "2"])
            .args(arguments);
        command
    };
    let log = folder.path().join("log");
    let mut keeper = slurm(&["--keep", "--poll-s", "0.05"])
        .stdout(Stdio::null())
        .stderr(
            fs_err::File::options()
                .create(true)
                .append(true)
                .open(&log)
                .unwrap()
                .into_parts()
                .0,
        )
        .spawn()
        .unwrap();
    let said = || std::fs::read_to_string(&log).unwrap();
    let arrays = || {
        let names = fs::list(&directory.layout().path("slurm")).unwrap();
        names
            .iter()
            .filter(|name| name.ends_with("-trainers.json"))
            .count()
    };
    wait_until("the breaker", || said().contains("no more are submitted"));
    assert_eq!(arrays(), 3);
    // By hand it still goes; that came to nothing too, so it stays open.
    assert!(slurm(&[]).output().unwrap().status.success());
    assert_eq!(arrays(), 4);
    directory.stop("enough").unwrap();
    assert!(keeper.wait().unwrap().success());
    assert_eq!(arrays(), 4);
    assert_eq!(
        said().matches("no more are submitted").count(),
        1,
        "{}",
        said()
    );
}

#[test]
fn without_slurm_its_command_says_so_but_still_shows_the_scripts() {
    let folder = tempfile::tempdir().unwrap();
    create(folder.path(), json!({}));
    let root = folder.path().to_str().unwrap();
    // This machine may have SLURM's commands in a usual place.
    let slurm = ["slurm", root, "--trainers", "2"];
    let output = scheduler()
        .args(slurm)
        .env("PATH", folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("cannot run `squeue`"),
        "{output:?}"
    );
    let output = run(&[
        "slurm",
        root,
        "--trainers",
        "2",
        "--dry-run",
        "--",
        "--qos=a",
    ]);
    assert!(output.status.success());
    for part in [
        "--array=0-1",
        "# ---- trainers, submitted with --qos=a ----",
    ] {
        assert!(text(&output.stdout).contains(part), "{output:?}");
    }
    assert_eq!(fs::list(&folder.path().join("slurm")).unwrap(), [""; 0]);
}

#[test]
fn scripts_hand_signals_on_and_queue_themselves_again_after_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let bin = tempfile::tempdir().unwrap();
    create(folder.path(), json!({}));
    let script = |name: &str, text: &str| executable(bin.path(), name, text);
    std::fs::copy(
        env!("CARGO_BIN_EXE_scheduler"),
        bin.path().join("scheduler"),
    )
    .unwrap();
    let output = Command::new(bin.path().join("scheduler"))
        .arg("slurm")
        .arg(folder.path())
        .args(["--trainers", "1", "--dry-run"])
        .output()
        .unwrap();
    let scripts = text(&output.stdout);
    let coordinator = script(
        "coordinator.sh",
        scripts.split("# ---- trainers").next().unwrap(),
    );
    let program = "trap 'exit 75' USR1; trap 'exit 75' TERM; touch \"$2/up-${0##*/}\"; while :; do sleep 0.01; done";
    script("scheduler", program);
    script("sampler", program);
    script(
        "scontrol",
        &format!(
            "echo \"$*\" >> '{}'",
            folder.path().join("requeued").display()
        ),
    );
    let path = format!("{}:/usr/bin:/bin", bin.path().display());
    for (signal, requeued) in [
        (rustix::process::Signal::TERM, false),
        (rustix::process::Signal::USR1, true),
    ] {
        for name in ["up-scheduler", "up-sampler"] {
            fs::remove(&folder.path().join(name)).unwrap();
        }
        let mut child = Command::new("bash")
            .arg(&coordinator)
            .env("PATH", &path)
            .env("SLURM_JOB_ID", "17")
            .spawn()
            .unwrap();
        wait_until("both programs", || {
            ["up-scheduler", "up-sampler"]
                .iter()
                .all(|name| folder.path().join(name).exists())
        });
        let process = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(process, signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(75));
        let asked = std::fs::read_to_string(folder.path().join("requeued")).unwrap_or_default();
        assert_eq!(asked, if requeued { "requeue 17\n" } else { "" });
    }
    // The scheduler is of no use without the sampler.
    // It fails once the scheduler heeds signals: before that a signal just ends it.
    fs::remove(&folder.path().join("up-scheduler")).unwrap();
    script(
        "sampler",
        "until [ -e \"$2/up-scheduler\" ]; do sleep 0.01; done; exit 3",
    );
    let status = Command::new("bash")
        .arg(&coordinator)
        .env("PATH", &path)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(75));
    assert_eq!(
        std::fs::read_to_string(folder.path().join("requeued")).unwrap(),
        "requeue 17\n"
    );
}
