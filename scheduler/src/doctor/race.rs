//! Several processes of this host that race for the same names.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use shared::fs::{self, Moved, Published};

use super::Finding;

const RACERS: u32 = 4;
/// Names of each kind.
pub(super) const NAMES: u32 = 200;
const LONGEST: Duration = Duration::from_mins(2);

/// How often one racer was first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wins {
    pub(super) published: u32,
    pub(super) moved: u32,
}

/// Lets processes race in a new folder.
pub(super) fn run(root: &Path, folder: &Path) -> Result<Vec<Finding>> {
    lay_out(folder)?;
    let this = std::env::current_exe().context("cannot find this program's own file")?;
    let racers: Vec<_> = (0..RACERS)
        .map(|_| {
            Command::new(&this)
                .arg("doctor")
                .arg(root)
                .arg("--racer")
                .arg(folder)
                .stdout(Stdio::piped())
                .spawn()
                .context("cannot start a process that races")
        })
        .collect::<Result<_>>()?;
    fs::publish_new(&folder.join("go"), b"")?;
    let mut all = Vec::new();
    for racer in racers {
        let output = racer.wait_with_output()?;
        ensure!(
            output.status.success(),
            "a process that races ended with {}",
            output.status
        );
        all.push(parse(&String::from_utf8_lossy(&output.stdout))?);
    }
    judge(folder, &all, &format!("{RACERS} processes of this host"))
}

/// Makes the files that are raced for.
pub(super) fn lay_out(folder: &Path) -> Result<()> {
    for number in 0..NAMES {
        fs::publish_new(&folder.join(format!("open/{number}")), b"")?;
    }
    fs::make_folder(&folder.join("new"))?;
    fs::make_folder(&folder.join("taken"))?;
    Ok(())
}

/// One process that races, as soon as there is a file `go`.
pub(super) fn run_racer(folder: &Path) -> Result<String> {
    let start = Instant::now();
    while !fs::list(folder)?.iter().any(|name| name == "go") {
        ensure!(start.elapsed() < LONGEST, "nobody started the race");
        std::thread::sleep(Duration::from_millis(1));
    }
    let wins = race(folder, &std::process::id().to_string())?;
    Ok(format!("{} {}\n", wins.published, wins.moved))
}

/// Tries to be first at every name.
pub(super) fn race(folder: &Path, name: &str) -> Result<Wins> {
    let mut wins = Wins {
        published: 0,
        moved: 0,
    };
    for number in 0..NAMES {
        let new = folder.join(format!("new/{number}"));
        wins.published += u32::from(fs::publish_new(&new, name.as_bytes())? == Published::New);
        let open = folder.join(format!("open/{number}"));
        let taken = folder.join(format!("taken/{number}.{name}"));
        wins.moved += u32::from(fs::move_to(&open, &taken)? == Moved::Done);
    }
    Ok(wins)
}

pub(super) fn parse(text: &str) -> Result<Wins> {
    let (published, moved) = text
        .trim()
        .split_once(' ')
        .with_context(|| format!("a process that races said `{text}`"))?;
    Ok(Wins {
        published: published.parse()?,
        moved: moved.parse()?,
    })
}

/// Every name must have exactly one winner.
pub(super) fn judge(folder: &Path, all: &[Wins], who: &str) -> Result<Vec<Finding>> {
    let published = all
        .iter()
        .fold(0u32, |sum, wins| sum.saturating_add(wins.published));
    let moved = all
        .iter()
        .fold(0u32, |sum, wins| sum.saturating_add(wins.moved));
    let finding = |is_exact: bool, what: &str, sum: u32| {
        let shares: Vec<String> = all
            .iter()
            .map(|wins| {
                if what == "rename" {
                    wins.moved
                } else {
                    wins.published
                }
                .to_string()
            })
            .collect();
        let text = format!(
            "{NAMES} races of {who} for one {what}: {sum} winners ({})",
            shares.join(" + ")
        );
        if is_exact {
            Finding::Good(text)
        } else {
            Finding::Bad(format!("{text}, where every race must have exactly one"))
        }
    };
    let taken = fs::list(&folder.join("taken"))?.len();
    Ok(vec![
        finding(published == NAMES, "new name", published),
        finding(
            moved == NAMES && u32::try_from(taken) == Ok(NAMES),
            "rename",
            moved,
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_two_winners_or_none_is_bad() {
        let folder = tempfile::tempdir().unwrap();
        lay_out(folder.path()).unwrap();
        let first = race(folder.path(), "a").unwrap();
        let second = race(folder.path(), "b").unwrap();
        assert_eq!((first.published, first.moved), (NAMES, NAMES));
        assert_eq!((second.published, second.moved), (0, 0));
        let judged = |all: &[Wins]| judge(folder.path(), all, "us").unwrap();
        let is_good = |finding: &Finding| matches!(finding, Finding::Good(_));
        assert!(judged(&[first, second]).iter().all(is_good));
        assert!(!judged(&[first, first]).iter().any(is_good));
        assert!(!judged(&[second]).iter().any(is_good));
    }

    #[test]
    fn what_a_racer_says_is_understood_or_refused() {
        let wins = Wins {
            published: 3,
            moved: 4,
        };
        assert_eq!(parse("3 4\n").unwrap(), wins);
        assert!(parse("3").is_err());
        assert!(parse("3 x").is_err());
    }
}
