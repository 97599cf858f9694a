//! `scheduler local`: a whole search on this machine.

use super::*;

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
        // Processes here are known to be dead: the lease plays no part.
        let file = serde_json::to_vec(&with("/trainers/lease_s", json!(60.0))).unwrap();
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
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .arg("local");
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
            directory.flags().unwrap().is_finished
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
        &Programs::acting("local::act_as_sampler"),
        &Programs::acting("local::act_as_trainer"),
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
    let directory = Directory::open(&programs.directory()).unwrap();
    let ends = directory
        .attempt_ends(shared::ConfigurationId(5).job(0))
        .unwrap();
    assert_eq!(ends.len(), 1);
    // Once more: there is nothing left to do.
    assert_eq!(programs.local().output().unwrap().status.code(), Some(0));
}

#[test]
fn local_shares_gpus_among_its_trainers_and_lets_them_work_where_the_search_was_made() {
    let trainer = "echo \"$TANDEM_WORKER: gpu $CUDA_VISIBLE_DEVICES in $PWD for $2\" >> \"$2/seen\"; \
        until [ $(wc -l < \"$2/seen\") -ge 2 ]; do sleep 0.05; done; exit 3";
    let seen = |visible: Option<&str>, more: &[&str]| {
        let programs = Programs::new("sleep 100", trainer);
        let mut search = search();
        search["objective"] = json!({"command": ["true"]});
        let file = programs.folder.path().join("search.json");
        fs::replace(&file, search.to_string().as_bytes()).unwrap();
        let mut command = programs.local();
        command.current_dir(programs.folder.path()).args(more);
        // Relative: trainers are told the whole path.
        command.args(["--device", "cpu"]);
        if let Some(visible) = visible {
            command.env("CUDA_VISIBLE_DEVICES", visible);
        }
        let output = command.output().unwrap();
        let seen = std::fs::read_to_string(programs.directory().join("seen")).unwrap_or_default();
        let mut seen: Vec<String> = seen.lines().map(str::to_owned).collect();
        seen.sort();
        let seen = seen.join("\n") + &text(&output.stderr);
        seen.replace(programs.folder.path().to_str().unwrap(), "FOLDER")
    };
    let said = seen(Some("3,7"), &[]);
    let expected = "0: gpu 3 in FOLDER for FOLDER/dir\n1: gpu 7 in FOLDER for FOLDER/dir";
    assert!(said.starts_with(expected), "{said}");
    let said = seen(
        Some("GPU-a,GPU-b,GPU-c,GPU-d"),
        &["--gpus-per-trainer", "2"],
    );
    assert!(said.starts_with("0: gpu GPU-a,GPU-b in FOLDER"), "{said}");
    let said = seen(Some("0,1"), &["--gpus-per-trainer", "2"]);
    assert!(
        said.contains("need 4 GPUs, and 2 of them are visible here (0, 1)"),
        "{said}"
    );
    let said = seen(Some("0,1"), &["--gpus-per-trainer", "0"]);
    assert!(said.starts_with("0: gpu  in FOLDER"), "{said}");
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
