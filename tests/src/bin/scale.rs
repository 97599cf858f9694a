//! Measures a long search with the real programs: `scale [--jobs 100000] [--trainers 8] [--method bohb] [--window 10000]
//! [--stop-at N] [--directory DIR]`. A directory that exists is continued; without one, a temporary one is used.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use harness::scale::{Measured, Run, search_of};
use shared::cli::{print, report};
use shared::{Directory, fs, layout};

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<()> {
    let (mut num_jobs, mut num_trainers, mut window, mut stop_at) = (100_000, 8, 10_000, None);
    let mut method = "bohb".to_owned();
    let folder = tempfile::tempdir()?;
    let mut root = folder.path().join("directory");
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().context("an argument without its value")?;
        match name.as_str() {
            "--jobs" => num_jobs = value.parse()?,
            "--trainers" => num_trainers = value.parse()?,
            "--window" => window = value.parse()?,
            "--method" => method = value,
            "--stop-at" => stop_at = Some(value.parse()?),
            "--directory" => root = PathBuf::from(value),
            _ => bail!("`{name}` is no argument"),
        }
    }
    if fs::is_there(&root.join(layout::SEARCH))? {
        Directory::open(&root)?.unstop()?;
    } else {
        let file = search_of(&method, num_jobs)?;
        Directory::create(&root, &file, &root.join(layout::SEARCH))?;
    }
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let mut run = Run::start(&root, &root.join(layout::LOGS), num_trainers)?;
    run.wait(stop_at)?;
    print(&format!(
        "{num_trainers} trainers, load before the start {}\n{}",
        load.split(' ').next().unwrap_or("unknown"),
        table(&run.measured(window)?)
    ))?;
    Ok(())
}

fn table(measured: &Measured) -> String {
    let head = "jobs from     to  jobs/s  CPU ms a job: scheduler  sampler  trainers\n".to_owned();
    let windows = measured.windows.iter().map(|window| {
        format!(
            "{:9} {:6} {:7.0} {:24.2} {:8.2} {:9.2}\n",
            window.first,
            window.first + window.jobs,
            window.rate(),
            window.cpu_ms("scheduler"),
            window.cpu_ms("sampler"),
            window.cpu_ms("trainer")
        )
    });
    let memory = measured.memory_mib.iter();
    let memory = memory.map(|(program, mib)| format!("{program}: at most {mib:.0} MiB\n"));
    [head].into_iter().chain(windows).chain(memory).collect()
}
