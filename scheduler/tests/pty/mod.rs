//! A pseudo-terminal with a program on it.
#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(
    clippy::allow_attributes,
    reason = "in some test files all of it is used"
)]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Action, LocalModes, Termios, Winsize, tcflow, tcgetattr, tcsetwinsize};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_mins(2);

/// A program that believes to be on a terminal.
pub(crate) struct OnTerminal {
    pub(crate) child: Child,
    /// The end of the terminal that a person would sit at.
    outer: File,
    /// The program's end.
    inner: File,
    said: Arc<Mutex<Vec<u8>>>,
    before: Termios,
}

impl OnTerminal {
    /// Starts a program, with the terminal as its controlling one, on 24 lines of 80 columns.
    pub(crate) fn start(program: &Path, arguments: &[&str]) -> Self {
        let outer = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&outer).unwrap();
        unlockpt(&outer).unwrap();
        let name = ptsname(&outer, Vec::new()).unwrap();
        let inner = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        let mut terminal = Self {
            before: tcgetattr(&inner).unwrap(),
            child: Command::new("/usr/bin/setsid")
                .arg("--ctty")
                .arg(program)
                .args(arguments)
                .env_clear()
                .env("TERM", "xterm")
                .stdin(Stdio::from(inner.try_clone().unwrap()))
                .stdout(Stdio::from(inner.try_clone().unwrap()))
                .stderr(Stdio::from(inner.try_clone().unwrap()))
                .spawn()
                .unwrap(),
            outer: outer.into(),
            inner,
            said: Arc::default(),
        };
        terminal.resize(80, 24);
        let (mut reader, said) = (
            terminal.outer.try_clone().unwrap(),
            Arc::clone(&terminal.said),
        );
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(number @ 1..) = reader.read(&mut bytes) {
                said.lock().unwrap().extend(&bytes[..number]);
            }
        });
        terminal
    }

    /// Changes the size; the system tells the program.
    pub(crate) fn resize(&mut self, columns: u16, rows: u16) {
        let size = Winsize {
            ws_col: columns,
            ws_row: rows,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.outer, size).unwrap();
    }

    /// All that was written to the terminal so far.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }

    pub(crate) fn wait_for(&self, what: &str) {
        let start = Instant::now();
        while !self.said().contains(what) {
            assert!(
                start.elapsed() < DEADLINE,
                "no `{what}` in {:?}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops what is written to it, as Ctrl-S does.
    pub(crate) fn stop(&self) {
        tcflow(&self.inner, Action::OOff).unwrap();
    }

    /// Presses keys.
    pub(crate) fn press(&mut self, keys: &str) {
        self.outer.write_all(keys.as_bytes()).unwrap();
    }

    /// Whether keys reach the program one by one and unseen.
    pub(crate) fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.inner).unwrap().local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Waits for the program's end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Fails unless the terminal is as the program found it.
    pub(crate) fn check_restored(&self) {
        self.wait_for("\u{1b}[?1049l");
        self.wait_for("\u{1b}[?25h");
        let now = tcgetattr(&self.inner).unwrap();
        assert_eq!(now.local_modes, self.before.local_modes);
        assert_eq!(now.input_modes, self.before.input_modes);
        assert_eq!(now.output_modes, self.before.output_modes);
    }
}
