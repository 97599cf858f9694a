//! What two hosts see of each other's files.
//!
//! Both run the same code and find each other by a file each that changes all the time. The one whose name is lower
//! leads. All delays are there and back, on the clock of the one who asks: `lead` publishes, `follow` answers.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use shared::exit::{Code, Failure};
use shared::{OwnerId, fs, owner};

use super::{Finding, race};

/// Questions of each kind.
const ROUNDS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(20);

/// What came of it.
#[derive(Debug)]
pub(super) struct Met {
    pub(super) findings: Vec<Finding>,
    /// The longest time after which the other host saw that a file was replaced.
    pub(super) staleness: Option<Duration>,
    /// The other process ran on this very host, or none was met.
    pub(super) is_same_host: bool,
}

/// The two hosts' common folder, as one of them uses it.
#[derive(Debug)]
struct Table {
    folder: PathBuf,
    me: String,
    other: String,
    leads: bool,
    /// A host that shows nothing for this long has ended, or cannot be seen.
    wait: Duration,
}

/// Waits for the other host and asks everything; for each of its answers it waits as long.
pub(super) fn run(folder: &Path, me: &OwnerId, wait: Duration) -> Result<Met> {
    let meeting = folder.join("meeting");
    let mine = meeting.join(me.as_str());
    let other = find_other(&meeting, me.as_str(), wait);
    let Some(other) = other? else {
        fs::remove(&mine)?;
        fs::remove_empty_folder(&meeting);
        return Ok(Met {
            findings: vec![Finding::Bad(format!(
                "no other host showed itself within {} s: was `scheduler doctor --peer` running there, on the same folder?",
                wait.as_secs_f64()
            ))],
            staleness: None,
            is_same_host: true,
        });
    };
    let mut pair = [me.as_str(), &other];
    pair.sort_unstable();
    let table = Table {
        folder: folder.join(format!("{}+{}", pair[0], pair[1])),
        leads: pair[0] == me.as_str(),
        me: me.to_string(),
        other,
        wait,
    };
    let mut findings = Vec::new();
    let (staleness, is_same_host) = match table.ask_everything(&mut findings) {
        Ok(answers) => answers,
        Err(error) => {
            // Anything else is no answer to the question.
            findings.push(Finding::Bad(error.downcast::<Failure>()?.message));
            let _harmless = std::fs::remove_dir_all(&table.folder);
            (None, true)
        }
    };
    fs::remove(&mine)?;
    fs::remove_empty_folder(&meeting);
    Ok(Met {
        findings,
        staleness,
        is_same_host,
    })
}

/// A file that changes while we look belongs to somebody who is there; so does one that names us. Whoever has found somebody
/// changes its own file no more, and one that sees it only then could not tell.
fn find_other(meeting: &Path, me: &str, wait: Duration) -> Result<Option<String>> {
    let mut before = std::collections::BTreeMap::new();
    let start = Instant::now();
    let mut beat = 0_u64;
    while start.elapsed() < wait {
        beat += 1;
        fs::replace(&meeting.join(me), beat.to_string().as_bytes())?;
        for name in fs::list(meeting)?.into_iter().filter(|name| name != me) {
            let Some(now) = fs::read_if_there(&meeting.join(&name))? else {
                continue;
            };
            let names_me = now.ends_with(format!(" {me}").as_bytes());
            let earlier = before.entry(name.clone()).or_insert_with(|| now.clone());
            if *earlier != now || names_me {
                let found = format!("{beat} {name}");
                fs::replace(&meeting.join(me), found.as_bytes())?;
                return Ok(Some(name));
            }
        }
        std::thread::sleep(5 * PAUSE);
    }
    Ok(None)
}

impl Table {
    /// The longest time after which the other host saw that a file was replaced, and whether it is this very host.
    fn ask_everything(&self, findings: &mut Vec<Finding>) -> Result<(Option<Duration>, bool)> {
        findings.push(Finding::Good(format!(
            "the other process is {}{}",
            self.other,
            if self.leads { "; this one leads" } else { "" }
        )));
        // The other may be waiting for our file to change still.
        self.keep_showing_until_met()?;
        let listed = self.delays("list", |number| {
            Ok(self.names()?.contains(&format!("list-ask-{number}")))
        })?;
        findings.push(delay("a new file was listed", &listed));
        let beat = self.folder.join("beat");
        let mut torn = 0_u32;
        let replaced = self.delays("beat", |number| {
            let Some(bytes) = fs::read_if_there(&beat)? else {
                return Ok(false);
            };
            torn += u32::from(bytes.len() != 4096 || bytes.iter().any(|byte| *byte != bytes[0]));
            Ok(bytes.first().is_some_and(|byte| u32::from(*byte) >= number))
        })?;
        findings.push(delay("a replaced file was read", &replaced));
        findings.push(if torn == 0 {
            Finding::Good("a file that is being replaced was always whole".into())
        } else {
            Finding::Bad(format!(
                "a file that is being replaced was torn {torn} times"
            ))
        });
        findings.extend(self.race()?);
        let host = fs::read_if_there(&self.folder.join(format!("here.{}", self.other)))?;
        self.clear()?;
        let is_same_host = host.is_some_and(|host| host == owner::host_name().as_bytes());
        if is_same_host {
            findings.push(Finding::Note(
                "both processes ran on this host, which says nothing about two: run one of them elsewhere".into(),
            ));
        }
        Ok((replaced.into_iter().max(), is_same_host))
    }

    fn keep_showing_until_met(&self) -> Result<()> {
        let meeting = self
            .folder
            .parent()
            .context("the table has a folder above it")?
            .join("meeting");
        let here = self.folder.join(format!("here.{}", self.me));
        fs::publish_new(&here, owner::host_name().as_bytes())?;
        let mut beat = 1_000_000_u64;
        self.wait(&format!("here.{}", self.other), || {
            beat += 1;
            fs::replace(&meeting.join(&self.me), beat.to_string().as_bytes())?;
            Ok(self.names()?.contains(&format!("here.{}", self.other)))
        })
    }

    /// Asks `ROUNDS` times and answers as often; how long the answers to our own questions took. Both hosts do both,
    /// the leader first.
    fn delays(
        &self,
        what: &str,
        mut sees: impl FnMut(u32) -> Result<bool>,
    ) -> Result<Vec<Duration>> {
        let mut delays = Vec::new();
        for number in 1..=2 * ROUNDS {
            let is_mine = (number <= ROUNDS) == self.leads;
            let answer = format!("{what}-answer-{number}");
            if is_mine {
                let start = Instant::now();
                if what == "beat" {
                    let byte = u8::try_from(number).context("few rounds")?;
                    fs::replace(&self.folder.join("beat"), &[byte; 4096])?;
                } else {
                    fs::publish_new(&self.folder.join(format!("{what}-ask-{number}")), b"")?;
                }
                self.wait(&answer, || Ok(self.names()?.contains(&answer)))?;
                delays.push(start.elapsed());
            } else {
                self.wait(&answer, || sees(number))?;
                fs::publish_new(&self.folder.join(&answer), b"")?;
            }
        }
        Ok(delays)
    }

    fn race(&self) -> Result<Vec<Finding>> {
        let folder = self.folder.join("race");
        if self.leads {
            race::lay_out(&folder)?;
        }
        self.meet("ready")?;
        let wins = race::race(&folder, &self.me)?;
        let text = format!("{} {}", wins.published, wins.moved);
        fs::publish_new(
            &self.folder.join(format!("wins.{}", self.me)),
            text.as_bytes(),
        )?;
        let theirs = format!("wins.{}", self.other);
        self.wait(&theirs, || Ok(self.names()?.contains(&theirs)))?;
        let theirs = fs::read(&self.folder.join(&theirs))?;
        let theirs = race::parse(&String::from_utf8_lossy(&theirs))?;
        self.meet("counted")?;
        race::judge(&folder, &[wins, theirs], "the two hosts")
    }

    /// The leader removes all, when the other needs nothing more.
    fn clear(&self) -> Result<()> {
        let end = "end";
        if !self.leads {
            fs::publish_new(&self.folder.join(end), b"")?;
            return Ok(());
        }
        self.wait(end, || Ok(self.names()?.iter().any(|name| name == end)))?;
        let _harmless = std::fs::remove_dir_all(&self.folder);
        Ok(())
    }

    /// Waits until the other is here too.
    fn meet(&self, point: &str) -> Result<()> {
        fs::publish_new(&self.folder.join(format!("{point}.{}", self.me)), b"")?;
        let theirs = format!("{point}.{}", self.other);
        self.wait(&theirs, || Ok(self.names()?.contains(&theirs)))
    }

    fn names(&self) -> Result<Vec<String>> {
        Ok(fs::list(&self.folder)?)
    }

    fn wait(&self, what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        while !is_so()? {
            if start.elapsed() > self.wait {
                let message = format!(
                    "the other host ({}) has shown itself, and then nothing more for {} s (`{what}` was awaited): its \
                     `scheduler doctor` has ended, or the two hosts do not see each other's files",
                    self.other,
                    self.wait.as_secs_f64()
                );
                return Err(Failure::new(Code::Directory, message).into());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

fn delay(what: &str, delays: &[Duration]) -> Finding {
    let mut sorted = delays.to_vec();
    sorted.sort();
    let (median, worst) = (sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    Finding::Good(format!(
        "{what} by the other host, and its answer here, after {:.2} s, {:.2} s at worst",
        median.as_secs_f64(),
        worst.as_secs_f64()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_that_run_at_once_find_each_other_and_agree() {
        let folder = tempfile::tempdir().unwrap();
        // Left by a run that was killed: it never changes.
        fs::publish_new(&folder.path().join("meeting/0-dead"), b"7").unwrap();
        let met: Vec<Met> = std::thread::scope(|scope| {
            let start = |name: &'static str| {
                let folder = folder.path();
                scope.spawn(move || {
                    run(
                        folder,
                        &OwnerId::from_parts(&[name]),
                        Duration::from_mins(1),
                    )
                    .unwrap()
                })
            };
            let both = [start("a"), start("b")];
            both.map(|handle| handle.join().unwrap()).into()
        });
        for met in &met {
            let (last, others) = met.findings.split_last().unwrap();
            let is_good = |finding: &Finding| matches!(finding, Finding::Good(_));
            assert!(others.iter().all(is_good), "{met:?}");
            assert!(
                matches!(last, Finding::Note(text) if text.contains("on this host")),
                "{met:?}"
            );
            assert!(met.staleness.unwrap() < Duration::from_secs(5), "{met:?}");
        }
    }

    #[test]
    fn one_that_has_been_found_finds_who_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let meeting = folder.path();
        // It has seen us before we could see it, and changes no more.
        fs::publish_new(&meeting.join("b"), b"3 a").unwrap();
        let found = find_other(meeting, "a", Duration::from_mins(1)).unwrap();
        assert_eq!(found.as_deref(), Some("b"));
        let mine = fs::read_if_there(&meeting.join("a")).unwrap().unwrap();
        assert!(mine.ends_with(b" b"));
    }

    #[test]
    fn one_alone_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let met = run(folder.path(), &OwnerId::from_parts(&["a"]), PAUSE).unwrap();
        assert!(
            matches!(&met.findings[..], [Finding::Bad(text)] if text.contains("no other host"))
        );
    }
}
