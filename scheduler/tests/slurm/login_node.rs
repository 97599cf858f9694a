//! A login node of a SLURM cluster: programs that act as SLURM's commands, and a search to submit.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use shared::{Directory, fs};

use crate::fake::{create, executable};

/// What the scheduler prints, and how it ends.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code().unwrap(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

impl Said {
    /// What it prints if it ends well.
    #[track_caller]
    pub(crate) fn well(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }
}

/// The node's files: `bin` with all programs, `dir` with the search.
pub(crate) struct LoginNode {
    folder: tempfile::TempDir,
    pub(crate) directory: Directory,
}

impl LoginNode {
    pub(crate) fn new() -> Self {
        Self::with(json!({}))
    }

    /// With changes to the search.
    pub(crate) fn with(changes: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        let scheduler = env!("CARGO_BIN_EXE_scheduler");
        std::fs::copy(scheduler, bin.join("scheduler")).unwrap();
        let node = Self {
            directory: create(&folder.path().join("dir"), changes),
            folder,
        };
        for name in ["sampler", "trainer", "analyzer"] {
            node.program(name, "exit 0");
        }
        node.start_slurm();
        node
    }

    /// `sbatch` numbers jobs and remembers their tasks by name, `squeue` shows those, `scancel` ends them. As with SLURM's
    /// own, variables beat scripts, and filter the queue.
    fn start_slurm(&self) {
        let queue = self.file("queue").display().to_string();
        let heard = format!(
            "export -p | grep -E 'x S[A-Z]+_' >> '{queue}.heard'\numask >> '{queue}.umask'\n"
        );
        let sbatch = format!(
            "for last; do :; done\n\
             name=${{SBATCH_JOB_NAME-$(sed -n 's/^#SBATCH --job-name=//p' \"$last\")}}\n\
             tasks=$(sed -n 's/^#SBATCH --array=0-//p' \"$last\")\n\
             echo \"$*\" >> '{queue}.arguments'; id=$(wc -l < '{queue}.arguments')\n\
             for ((i = 0; i <= ${{tasks:-0}}; i++)); do echo \"$name|PENDING|$id|Priority|\" >> '{queue}'; done\n\
             echo \"$id;cluster\""
        );
        let squeue = format!(
            "[ \"$SQUEUE_PARTITION\" ] && exit\n\
             for word; do case $word in --name=*) names=${{word#--name=}} ;; esac; done\n\
             [ ! -e '{queue}' ] || grep -E \"^(${{names//,/|}})[|]\" '{queue}'; exit 0"
        );
        let scancel =
            format!("for id; do sed -i \"s/|[A-Z]*|$id|/|CANCELLED|$id|/\" '{queue}'; done");
        for (name, text) in [
            ("sbatch", sbatch.as_str()),
            ("squeue", &squeue),
            ("scancel", &scancel),
            ("scontrol", "echo 'MaxArraySize            = 4'"),
        ] {
            self.program(name, &format!("{heard}{text}"));
        }
    }

    /// Puts a program, as a script, in the place of another.
    pub(crate) fn program(&self, name: &str, text: &str) -> PathBuf {
        executable(&self.file("bin"), name, text)
    }

    /// Lets a program print more than it does: before and behind, on stdout and stderr.
    pub(crate) fn disturb(&self, name: &str, noise: &str) {
        let bin = self.file("bin");
        fs::move_to(&bin.join(name), &bin.join(format!("quiet-{name}"))).unwrap();
        fs::replace(&self.file("noise"), noise.as_bytes()).unwrap();
        let noise = self.file("noise").display().to_string();
        let text = format!(
            "cat '{noise}'; cat '{noise}' >&2; quiet-{name} \"$@\"; code=$?; cat '{noise}'; exit $code"
        );
        self.program(name, &text);
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.layout().root()
    }

    /// A program that finds SLURM's commands.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let path = format!("{}:/usr/bin:/bin", self.file("bin").display());
        command.env_clear().env("PATH", path);
        command
    }

    /// `scheduler slurm` on the search.
    pub(crate) fn slurm_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(self.file("bin/scheduler"));
        command.arg("slurm").arg(self.root()).args(arguments);
        command
    }

    pub(crate) fn slurm(&self, arguments: &[&str]) -> Said {
        self.slurm_command(arguments).output().unwrap().into()
    }

    pub(crate) fn scheduler(&self, command: &str, arguments: &[&str]) -> Said {
        let mut scheduler = self.command(self.file("bin/scheduler"));
        scheduler.arg(command).arg(self.root()).args(arguments);
        scheduler.output().unwrap().into()
    }

    /// What is in the queue: one line a task.
    pub(crate) fn queue(&self) -> String {
        std::fs::read_to_string(self.file("queue")).unwrap_or_default()
    }

    /// Lets something happen to the first task that matches.
    pub(crate) fn happens(&self, task: &str, becomes: &str) {
        let queue = self.queue();
        assert!(queue.contains(task), "{queue}");
        let queue = queue.replacen(task, becomes, 1);
        fs::replace(&self.file("queue"), queue.as_bytes()).unwrap();
    }

    /// Pending tasks of trainers and of coordinators.
    pub(crate) fn pending(&self) -> (usize, usize) {
        let queue = self.queue();
        let count = |kind: &str| {
            let is_so = |line: &&str| line.contains(kind) && line.contains("|PENDING|");
            queue.lines().filter(is_so).count()
        };
        (count("-trainers"), count("-coordinator"))
    }

    /// The arguments of all submissions, one line each.
    pub(crate) fn submissions(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.file("queue.arguments")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The names in the search's folder `slurm`.
    pub(crate) fn records(&self) -> Vec<String> {
        fs::list(&self.directory.layout().path("slurm")).unwrap()
    }
}
