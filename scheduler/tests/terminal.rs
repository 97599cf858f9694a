//! `scheduler status --watch` on a real terminal, a pseudo one.
#![expect(
    clippy::unwrap_used,
    reason = "all of this file is tests and what they share"
)]

#[cfg(test)]
mod fake;
#[cfg(test)]
mod pty;

use std::path::Path;

use pty::OnTerminal;
use serde_json::json;

const ENTERED: &str = "\u{1b}[?1049h";

fn watch(root: &Path) -> OnTerminal {
    let scheduler = Path::new(env!("CARGO_BIN_EXE_scheduler"));
    OnTerminal::start(scheduler, &["status", root.to_str().unwrap(), "--watch"])
}

#[test]
fn keys_end_the_screen_and_leave_the_terminal_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    fake::create(folder.path(), json!({}));
    // Escape, and what Ctrl-C sends where it is no signal.
    for key in ["q", "\u{1b}", "\u{3}"] {
        let mut terminal = watch(folder.path());
        terminal.wait_for("q quit");
        assert!(terminal.said().contains(ENTERED) && terminal.is_raw());
        terminal.press(key);
        assert_eq!(terminal.end().code(), Some(0), "{key:?}");
        terminal.check_restored();
    }
}

#[test]
fn a_signal_ends_the_screen_and_leaves_the_terminal_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    fake::create(folder.path(), json!({}));
    let mut terminal = watch(folder.path());
    terminal.wait_for("q quit");
    let process = rustix::process::Pid::from_child(&terminal.child);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    assert_eq!(terminal.end().code(), Some(0));
    terminal.check_restored();
}

#[test]
fn the_screen_follows_the_size_of_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    fake::create(folder.path(), json!({}));
    let mut terminal = watch(folder.path());
    terminal.wait_for("q quit");
    assert!(!terminal.said().contains("scroll"));
    terminal.resize(50, 8);
    terminal.wait_for("scroll");
    terminal.press("q");
    assert!(terminal.end().success());
    terminal.check_restored();
}

#[test]
fn at_the_end_of_the_search_its_status_stays_on_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let directory = fake::create(folder.path(), json!({}));
    let mut terminal = watch(folder.path());
    terminal.wait_for("q quit");
    fake::run_all(folder.path(), 1, 1, &|_, _, _| false);
    assert!(terminal.end().success());
    terminal.check_restored();
    terminal.wait_for("nothing: the search is finished");
    let said = terminal.said();
    assert!(
        said.rfind("incumbent: ") > said.find("\u{1b}[?1049l"),
        "{said:?}"
    );
    drop(directory);
}
