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
fn a_terminal_that_is_stopped_keeps_nobody_from_ending() {
    let folder = tempfile::tempdir().unwrap();
    fake::create(folder.path(), json!({}));
    let mut terminal = watch(folder.path());
    terminal.wait_for("q quit");
    // As Ctrl-S does: whoever writes waits.
    terminal.stop();
    terminal.resize(50, 8);
    let process = rustix::process::Pid::from_child(&terminal.child);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    assert_eq!(terminal.end().code(), Some(0));
    terminal.check_restored();
}

#[test]
fn a_pipe_that_nobody_reads_keeps_nobody_from_ending() {
    let folder = tempfile::tempdir().unwrap();
    fake::create(folder.path(), json!({}));
    let (reader, writer) = std::io::pipe().unwrap();
    // Full already.
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    while rustix::io::write(&writer, &[b'x'; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, flags).unwrap();
    let scheduler = std::process::Command::new(env!("CARGO_BIN_EXE_scheduler"))
        .args(["status", folder.path().to_str().unwrap(), "--watch"])
        .env_clear()
        .stdout(writer)
        .spawn();
    let mut scheduler = scheduler.unwrap();
    let process = rustix::process::Pid::from_child(&scheduler);
    // A signal that comes before it listens would end it anyway.
    let listens = || {
        let text = std::fs::read_to_string(format!("/proc/{}/status", scheduler.id())).unwrap();
        let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
        caught >> (rustix::process::Signal::TERM.as_raw() - 1) & 1 == 1
    };
    while !listens() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    scheduler.wait().unwrap();
    drop(reader);
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
        said.contains("15 of 15 configurations requested"),
        "{said:?}"
    );
    assert!(
        said.rfind("incumbent: ") > said.find("\u{1b}[?1049l"),
        "{said:?}"
    );
    drop(directory);
}
