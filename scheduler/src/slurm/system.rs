//! SLURM's commands, run.

use std::process::{Output, Stdio};

use anyhow::Result;
use shared::exit::{Code, Failure};
use shared::{env, layout, owner};

use super::answer;
use crate::batch::{Answer, System, Task};

/// SLURM's own default, for clusters that do not say.
const DEFAULT_MAX_ARRAY_SIZE: u32 = 1001;

/// The SLURM that this machine's commands speak to.
pub(crate) struct Slurm;

impl System for Slurm {
    fn name(&self) -> &'static str {
        "SLURM"
    }

    fn command(&self) -> &'static str {
        "scheduler slurm"
    }

    fn folder(&self) -> &'static str {
        layout::SLURM
    }

    fn own_job(&self) -> Option<String> {
        owner::slurm_job()
    }

    fn array_of<'a>(&self, job: &'a str) -> &'a str {
        job.split_once('_').map_or(job, |(array, _task)| array) // `123_4`
    }

    fn submit(&self, command: &[String]) -> Answer {
        let Some((program, arguments)) = command.split_first() else {
            return Answer::Unclear(String::new());
        };
        match run(program, arguments).and_then(|output| succeeded(program, &output)) {
            Ok(said) => match answer::job_id(&said) {
                Some(id) => Answer::Job(id),
                None => Answer::Unclear(said),
            },
            Err(error) => Answer::Refused(error),
        }
    }

    fn tasks(&self, names: &[String]) -> Result<Vec<Task>> {
        // `-a`: in hidden partitions too; `-r`: one line for each task of an array; `-t all`: those that have just ended too.
        let name = format!("--name={}", names.join(","));
        let said = ask(
            "squeue",
            &[
                "-h",
                "-a",
                "-r",
                "-t",
                "all",
                &name,
                "-o",
                answer::TASK_FORMAT,
            ],
        )?;
        Ok(answer::tasks(&said, names))
    }

    fn cancel(&self, jobs: &[String]) -> Result<()> {
        let jobs: Vec<&str> = jobs.iter().map(String::as_str).collect();
        ask("scancel", &jobs).map(|_said| ())
    }

    fn largest_array(&self) -> u32 {
        let asked = ask("scontrol", &["show", "config"]);
        let said = asked.unwrap_or_default(); // as if it had not said
        answer::setting(&said, "MaxArraySize").unwrap_or(DEFAULT_MAX_ARRAY_SIZE)
    }
}

/// Runs one of SLURM's commands and returns what it prints.
fn ask(program: &str, arguments: &[&str]) -> Result<String> {
    succeeded(program, &run(program, arguments)?)
}

fn run(program: &str, arguments: &[impl AsRef<std::ffi::OsStr>]) -> Result<Output> {
    let mut command = env::slurm_command(program);
    command.args(arguments).stdin(Stdio::null());
    command.output().map_err(|error| {
        let message = format!("cannot run `{program}`: is this a machine of a SLURM cluster?");
        Failure::because(Code::Unforeseen, message, error).into()
    })
}

fn succeeded(program: &str, output: &Output) -> Result<String> {
    if !output.status.success() {
        let message = format!(
            "`{program}` ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        return Err(Failure::new(Code::Unforeseen, message).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
