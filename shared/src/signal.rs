//! Warning signals: SLURM's SIGUSR1, SIGUSR2 and SIGTERM, a person's Ctrl-C, and a terminal that is closed, become a flag that programs look at.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

/// Whether a warning signal has come.
#[derive(Debug, Clone, Default)]
pub struct Warning {
    received: Arc<AtomicUsize>,
}

impl Warning {
    /// Starts listening. A second Ctrl-C ends the process at once.
    pub fn listen() -> io::Result<Self> {
        let received = Arc::new(AtomicUsize::new(0));
        let interrupted_before = Arc::new(AtomicBool::new(false));
        // Order matters: the first Ctrl-C finds the flag still down.
        signal_hook::flag::register_conditional_default(SIGINT, Arc::clone(&interrupted_before))?;
        signal_hook::flag::register(SIGINT, interrupted_before)?;
        for signal in [SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2] {
            let number = usize::try_from(signal).unwrap_or_default(); // signal numbers are small and positive
            signal_hook::flag::register_usize(signal, Arc::clone(&received), number)?;
        }
        Ok(Self { received })
    }

    /// From now on the process ends, as the signal would have ended it uncaught, where it has not done so by itself within
    /// `grace` after a warning: for programs that a terminal or a pipe which nobody reads may hold up. `release` is
    /// called before, after half of that time.
    pub fn insist(&self, grace: Duration, release: impl Fn() + Send + 'static) {
        let received = Arc::clone(&self.received);
        // Not waited for: it ends with the process.
        std::thread::spawn(move || {
            let number = loop {
                match received.load(Ordering::Relaxed) {
                    0 => std::thread::sleep(Duration::from_millis(100)),
                    number => break number,
                }
            };
            std::thread::sleep(grace / 2);
            release();
            std::thread::sleep(grace / 2);
            let number = i32::try_from(number).unwrap_or(SIGTERM); // see listen
            // What cannot be ended so, nobody can end but by SIGKILL.
            let _not_ended = signal_hook::low_level::emulate_default_handler(number);
        });
    }

    /// The name of the signal that came last, if one has come.
    pub fn received(&self) -> Option<&'static str> {
        let number = i32::try_from(self.received.load(Ordering::Relaxed)).unwrap_or_default(); // see listen
        match number {
            SIGHUP => Some("SIGHUP"),
            SIGINT => Some("SIGINT"),
            SIGTERM => Some("SIGTERM"),
            SIGUSR1 => Some("SIGUSR1"),
            SIGUSR2 => Some("SIGUSR2"),
            _ => None,
        }
    }
}
