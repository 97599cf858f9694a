//! `scheduler doctor`: whether a folder's filesystem does what the protocol needs.
//!
//! On one host it can ask what one host can know ([`mount`], [`race`]). What two hosts see of each other needs the same
//! command with `--peer` on both at the same time ([`peer`]). Times are measured on one clock each, there and back.

mod device;
mod mount;
mod peer;
mod race;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use shared::cli::{DIRECTORY, print};
use shared::exit::{Code, Failure, code_of};
use shared::fs::{self, Moved, Published};
use shared::system::FileKind;
use shared::{env, layout, owner};

/// What `scheduler doctor` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// The search directory, or the folder it will be created in
    #[arg(value_name = DIRECTORY)]
    directory: PathBuf,
    /// Also ask what two hosts see of each other: run this on both, at the same time
    #[arg(long)]
    peer: bool,
    /// Seconds to wait for the other host: until it appears, and for each answer
    #[arg(long, default_value_t = 120.0, value_name = "S", value_parser = shared::cli::seconds)]
    wait_s: f64,
    /// Also compare what a device of this host computes with what its CPU computes: `cuda`, `rocm` or `vulkan`
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// One of the processes that race for names
    #[arg(long, hide = true, value_name = "FOLDER")]
    racer: Option<PathBuf>,
}

/// Files published to see how long that takes.
const PUBLICATIONS: u32 = 30;
/// Free space below which a search should not be started, and below which it cannot.
const LITTLE_SPACE: u64 = 1 << 30;
const NO_SPACE: u64 = 16 << 20;
/// The lease on a network filesystem of which nothing else is known: names and attributes are believed for a minute.
const CAREFUL_LEASE_S: f64 = 240.0;

/// What was found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// As it should be.
    Good(String),
    /// To be known, or to be changed.
    Note(String),
    /// The protocol does not work here.
    Bad(String),
}

/// Asks everything and prints the answers.
pub(crate) fn run(args: &DoctorArgs) -> Result<Code> {
    if let Some(folder) = &args.racer {
        print(&race::run_racer(folder)?)?;
        return Ok(Code::Done);
    }
    let root = args.directory.canonicalize().map_err(|error| {
        let message = format!(
            "cannot examine `{}`: make it first",
            args.directory.display()
        );
        Failure::because(Code::BadInput, message, error)
    })?;
    let me = owner::new_owner();
    print(&format!(
        "`{}` as seen by host {}\n",
        root.display(),
        owner::host_name()
    ))?;
    let mut is_usable = true;
    let mut tell = |findings: Vec<Finding>| -> Result<()> {
        is_usable &= !findings
            .iter()
            .any(|finding| matches!(finding, Finding::Bad(_)));
        findings.iter().try_for_each(say)
    };
    let top = root.join(layout::DOCTOR);
    let folder = top.join(me.as_str());
    let mut lease_s = fs::is_network(&root).then_some(CAREFUL_LEASE_S);
    let mut is_shared = fs::is_network(&root);
    let mut has_met = false;
    let mut ask = || -> Result<()> {
        if fs::file_kind(&top)? == Some(FileKind::Link) {
            return Err(shared::Error::Link { path: top.clone() }.into());
        }
        fs::make_folder(&folder)?;
        tell(vec![mount::describe(&root)])?;
        tell(space(&root)?)?;
        tell(names(&folder)?)?;
        tell(race::run(&root, &folder.join("race"))?)?;
        tell(vec![speed(&folder)?])?;
        tell(caches())?;
        if let Some(device) = &args.device {
            tell(vec![device::test(device)?])?;
        }
        if args.peer {
            let met = peer::run(&top, &me, Duration::from_secs_f64(args.wait_s))?;
            tell(met.findings)?;
            // Two hosts that have met know better than the name of the filesystem.
            is_shared |= !met.is_same_host;
            has_met = !met.is_same_host;
            lease_s = lease_of(met.staleness).or(lease_s);
        } else {
            tell(vec![Finding::Note(
                "what two hosts see of each other was not asked: run this with --peer on two hosts at the same time".into(),
            )])?;
        }
        Ok(())
    };
    let asked = ask();
    if fs::file_kind(&top).is_ok_and(|what| what == Some(FileKind::Folder)) {
        clear(&root, &folder);
    }
    tell(unasked(asked)?)?;
    if is_usable {
        print(&format!("note  {}\n", lease_text(lease_s)))?;
    }
    print(verdict(is_usable, is_shared, has_met))?;
    Ok(if is_usable {
        Code::Done
    } else {
        Code::Directory
    })
}

/// What could not be asked, for a reason of the filesystem: it is full, or nothing can be written.
fn unasked(asked: Result<()>) -> Result<Vec<Finding>> {
    match asked {
        Ok(()) => Ok(Vec::new()),
        Err(error) if code_of(&error) == Code::Directory => {
            Ok(vec![Finding::Bad(format!("{error:#}"))])
        }
        Err(error) => Err(error),
    }
}

fn say(finding: &Finding) -> Result<()> {
    let (word, text) = match finding {
        Finding::Good(text) => ("good", text),
        Finding::Note(text) => ("note", text),
        Finding::Bad(text) => ("BAD ", text),
    };
    print(&format!("{word}  {text}\n"))
}

fn verdict(is_usable: bool, is_shared: bool, has_met: bool) -> &'static str {
    match (is_usable, is_shared, has_met) {
        (true, true, true) => "usable: searches may run here\n",
        (true, true, false) => "usable as far as one host can tell: ask two of them with --peer\n",
        (true, false, _) => "usable: searches may run here, on this host alone\n",
        (false, ..) => "NOT USABLE: see the lines marked BAD\n",
    }
}

/// A lease after which silence can only be death: four times the longest time for which an old heartbeat was seen
/// beside the time between two heartbeats, in whole half minutes, and at least the default of ten heartbeats.
fn lease_of(staleness: Option<Duration>) -> Option<f64> {
    let heartbeat_s = shared::search::TrainerSettings::default().heartbeat_s;
    let seen_s = staleness?.as_secs_f64();
    let lease_s = 4.0 * (heartbeat_s + seen_s);
    Some(
        (lease_s / 30.0)
            .ceil()
            .mul_add(30.0, 0.0)
            .max(10.0 * heartbeat_s),
    )
}

fn lease_text(lease_s: Option<f64>) -> String {
    match lease_s {
        Some(lease_s) => format!("recommended: `\"trainers\": {{\"lease_s\": {lease_s}}}`"),
        None => "recommended: the default lease (ten heartbeats)".into(),
    }
}

fn space(root: &Path) -> Result<Vec<Finding>> {
    let stat = rustix::fs::statvfs(root).context("cannot ask for the free space")?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let text = format!("{:.1} GiB are free", free as f64 / f64::from(1 << 30));
    let mut findings = vec![match free {
        ..NO_SPACE => Finding::Bad(text),
        NO_SPACE..LITTLE_SPACE => Finding::Note(format!("{text}: checkpoints may need more")),
        LITTLE_SPACE.. => Finding::Good(text),
    }];
    // Filesystems that do not count files say 0 of 0.
    if stat.f_files > 0 && stat.f_favail < 100_000 {
        findings.push(Finding::Note(format!(
            "only {} more files can be made: a search needs about 6 for each job",
            stat.f_favail
        )));
    }
    Ok(findings)
}

/// What one process can see of the rules for names.
fn names(folder: &Path) -> Result<Vec<Finding>> {
    let (first, second) = (folder.join("a.json"), folder.join("b.json"));
    let mut findings = Vec::new();
    let mut check = |is_so: bool, good: &str, bad: &str| {
        findings.push(if is_so {
            Finding::Good(good.to_owned())
        } else {
            Finding::Bad(bad.to_owned())
        });
    };
    let published = (
        fs::publish_new(&first, b"1")?,
        fs::publish_new(&first, b"2")?,
    );
    check(
        published == (Published::New, Published::AlreadyThere) && fs::read(&first)? == b"1",
        "a name that is taken cannot be taken again",
        "a name that is taken was taken again: results would be overwritten",
    );
    fs::replace(&first, b"3")?;
    check(
        fs::read(&first)? == b"3",
        "a replaced file is read back as it was written",
        "a replaced file is not read back as it was written",
    );
    let moved = (fs::move_to(&first, &second)?, fs::move_to(&first, &second)?);
    check(
        moved.0 == Moved::Done && fs::list(folder)? == ["b.json"],
        "a renamed file is listed under its new name alone",
        "a renamed file is not listed under its new name alone: two trainers would have one job",
    );
    fs::remove(&second)?;
    Ok(findings)
}

/// How long it takes to publish a record, synced to the disk.
fn speed(folder: &Path) -> Result<Finding> {
    let mut times = Vec::new();
    for number in 0..PUBLICATIONS {
        let start = Instant::now();
        fs::publish_new(&folder.join(format!("speed/{number}.json")), &[b'x'; 1000])?;
        times.push(start.elapsed());
    }
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    let text = format!(
        "publishing a record, synced, takes {:.1} ms, {:.1} ms at worst",
        1000.0 * median.as_secs_f64(),
        1000.0 * worst.as_secs_f64()
    );
    Ok(if median < Duration::from_millis(200) {
        Finding::Good(text)
    } else {
        Finding::Note(format!(
            "{text}: each job publishes about ten, so jobs should take minutes here"
        ))
    })
}

/// Whether caches of compiled kernels would be on a network filesystem too.
fn caches() -> Vec<Finding> {
    let Some(folder) = env::cache_folder() else {
        return vec![Finding::Note(
            "neither HOME nor XDG_CACHE_HOME is set: trainers on GPUs are tested anew each time, and keep their kernels in TMPDIR"
                .into(),
        )];
    };
    // The folder itself may not be there yet.
    let Some(existing) = folder.ancestors().find(|path| path.is_dir()) else {
        return Vec::new();
    };
    if fs::is_network(existing) {
        vec![Finding::Note(format!(
            "caches go to `{}`, on a network filesystem: trainers on GPUs keep their kernels in TMPDIR instead; \
             TANDEM_KERNEL_CACHE names a folder on the node's own disk that lasts longer",
            folder.display()
        ))]
    } else {
        Vec::new()
    }
}

/// Removes what was written; what cannot be removed does no harm.
fn clear(root: &Path, folder: &Path) {
    for path in [folder, &root.join(layout::DOCTOR)] {
        if path == folder || fs::list(path).is_ok_and(|names| names.is_empty()) {
            let _harmless = std::fs::remove_dir_all(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_grows_with_how_long_old_heartbeats_are_seen() {
        assert_eq!(lease_of(None), None);
        let of = |seconds| lease_of(Some(Duration::from_secs(seconds)));
        // Never below ten heartbeats of 10 s.
        assert_eq!(of(0), Some(100.0));
        assert_eq!(of(16), Some(120.0));
        assert_eq!(of(50), Some(240.0));
    }
}
