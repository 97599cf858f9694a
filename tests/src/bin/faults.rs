//! The long fault campaign: `faults [--seconds 600] [--seed 0]`, after `cargo test --release --workspace --no-run`, which
//! builds the programs so that faults can be injected. Ends with code 1 at the first violation.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use harness::faults::{Tally, search_with_faults};
use shared::cli::{print, report};

/// How long one search may take on a machine that is busy with other work.
const LONGEST: Duration = Duration::from_mins(30);

fn main() -> ExitCode {
    match campaign() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&format!("violation: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn campaign() -> Result<()> {
    let (mut seconds, mut seed) = (600, 0);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().context("an argument without its value")?;
        match name.as_str() {
            "--seconds" => seconds = value.parse()?,
            "--seed" => seed = value.parse()?,
            _ => bail!("`{name}` is no argument: --seconds S, --seed N"),
        }
    }
    let start = Instant::now();
    let mut all = Tally::default();
    while start.elapsed() < Duration::from_secs(seconds) {
        all.add(&search_with_faults(seed, LONGEST)?);
        seed += 1;
        report(&format!(
            "{:.0} s: {} searches, {} faults",
            start.elapsed().as_secs_f64(),
            all.searches,
            all.num_faults()
        ));
        if all.num_faults() == 0 {
            bail!(
                "no fault came: the programs were not built by `cargo test`, or for too little work"
            );
        }
    }
    print(&format!(
        "{} searches, {} jobs, {} starts of programs, {} faults, 0 violations, {:.0} s\n",
        all.searches,
        all.jobs,
        all.starts,
        all.num_faults(),
        start.elapsed().as_secs_f64()
    ))?;
    for (name, count) in &all.faults {
        print(&format!("{name:>8} {count}\n"))?;
    }
    Ok(())
}
