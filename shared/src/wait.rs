//! Sleeping until something may have changed: polling decides, file events only shorten the wait.
//!
//! Events of another host's changes never come on a network filesystem, so every wait ends by itself after the poll
//! interval. It grows from [`FIRST`] to the maximum while nothing happens, with jitter, so that many programs started
//! together do not ask the file server together.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use notify::event::{CreateKind, EventKind, ModifyKind, RenameMode};
use notify::{EventKindMask, RecommendedWatcher};
use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;
use tracing::debug;

use crate::clock;
use crate::seed::Seed;
use crate::system::with_system;

/// The first poll interval after something has happened.
pub(crate) const FIRST: Duration = Duration::from_millis(50);
/// The longest poll interval, unless the user says otherwise.
pub const LONGEST: Duration = Duration::from_secs(30);
/// How long a signal may go unnoticed while sleeping.
const SLICE: Duration = Duration::from_millis(100);

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// A file event: something changed on this host.
    Event,
    /// The interval is over: something may have changed.
    Poll,
    /// The caller's condition came true.
    Interrupted,
}

/// What about a folder's files is worth waking up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// That one has come.
    Arrivals,
    /// That one has gone.
    Departures,
}

/// Waits on some folders.
pub struct Waiter {
    // Kept alive: dropping it ends the events.
    _watcher: Option<RecommendedWatcher>,
    events: Receiver<()>,
    interval: Duration,
    longest: Duration,
    rng: ChaCha12Rng,
}

impl Waiter {
    /// Watches `folders` (not what is below them). Where that cannot be, polling alone does it.
    pub fn new(folders: &[(PathBuf, News)], longest: Duration) -> Self {
        let (sender, events) = channel();
        let paths: Vec<PathBuf> = folders.iter().map(|(folder, _)| folder.clone()).collect();
        let watched = folders.to_vec();
        let on_event = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| is_news(&event, &watched)) {
                // The receiver is gone only when the waiter is dropped.
                let _nobody_waits = sender.send(());
            }
        };
        // Without what others read and write: else each look of one program would wake all that watch that folder.
        let mut kinds = EventKindMask::CREATE | EventKindMask::MODIFY_NAME;
        if folders.iter().any(|(_, news)| *news == News::Departures) {
            kinds |= EventKindMask::REMOVE;
        }
        let watcher = with_system(|system| system.watch(&paths, kinds, Box::new(on_event)));
        if let Err(error) = &watcher {
            debug!("no file events, polling only: {error}");
        }
        // Jitter must differ between processes, so it is the one use of chance that is not seeded by the search.
        let rng = Seed::new(0).child("jitter", crate::fs::unique_text()).rng();
        Self {
            _watcher: watcher.ok(),
            events,
            interval: FIRST.min(longest),
            longest,
            rng,
        }
    }

    /// Sleeps until an event, the end of the poll interval, or `interrupted`.
    pub fn wait(&mut self, interrupted: &mut dyn FnMut() -> bool) -> Woken {
        let jittered = self.interval.mul_f64(self.rng.random_range(0.75..1.25));
        self.interval = self.interval.mul_f64(1.5).min(self.longest);
        self.wait_at_most(jittered, interrupted)
    }

    /// As [`wait`](Self::wait), for at most `limit`, without changing the poll interval.
    pub fn wait_at_most(
        &mut self,
        limit: Duration,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Woken {
        let deadline = clock::instant() + limit;
        loop {
            if interrupted() {
                return Woken::Interrupted;
            }
            let left = deadline.saturating_duration_since(clock::instant());
            if left.is_zero() {
                return Woken::Poll;
            }
            let slice = left.min(SLICE);
            match with_system(|system| system.wait(&self.events, slice)) {
                Ok(()) => {
                    // One look serves all events so far.
                    while self.events.try_recv().is_ok() {}
                    return Woken::Event;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => clock::sleep(slice),
            }
        }
    }

    /// Something happened: poll at short intervals again.
    pub fn progress(&mut self) {
        self.interval = FIRST.min(self.longest);
    }
}

impl std::fmt::Debug for Waiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiter")
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

/// Whether an event means that a record has come or gone in a folder where that matters. Reading and drafting are no
/// news.
fn is_news(event: &notify::Event, watched: &[(PathBuf, News)]) -> bool {
    let (comes, goes) = match event.kind {
        EventKind::Create(CreateKind::File | CreateKind::Any | CreateKind::Folder)
        | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => (true, false),
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
            (false, true)
        }
        EventKind::Modify(ModifyKind::Name(RenameMode::Any | RenameMode::Other)) => (true, true),
        // `Both` repeats what `From` and `To` have said.
        _ => return false,
    };
    event.paths.iter().any(|path| {
        let is_draft = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let matters = watched.iter().any(|(folder, news)| {
            let is_kind = match news {
                News::Arrivals => comes,
                News::Departures => goes,
            };
            is_kind && path.parent() == Some(folder)
        });
        !is_draft && matters
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs;

    #[test]
    fn a_published_record_ends_the_wait_long_before_the_poll() {
        let folder = tempfile::tempdir().unwrap();
        let watched = (folder.path().to_path_buf(), News::Arrivals);
        let mut waiter = Waiter::new(&[watched], Duration::from_mins(1));
        std::thread::scope(|scope| {
            scope.spawn(|| fs::publish_new(&folder.path().join("x.json"), b"x").unwrap());
            let woken = waiter.wait_at_most(Duration::from_mins(1), &mut || false);
            assert_eq!(woken, Woken::Event);
        });
    }

    #[test]
    fn only_the_news_asked_for_end_the_wait() {
        let folder = tempfile::tempdir().unwrap();
        let [claimed, elsewhere] = ["claimed", "elsewhere"].map(|name| folder.path().join(name));
        for folder in [&claimed, &elsewhere] {
            fs::make_folder(folder).unwrap();
        }
        fs::publish_new(&claimed.join("old.json"), b"x").unwrap();
        let mut waiter = Waiter::new(
            &[(claimed.clone(), News::Departures)],
            Duration::from_mins(1),
        );
        // All of these are over before the first look.
        fs::publish_new(&claimed.join("new.json"), b"x").unwrap();
        fs::replace(&claimed.join("new.json"), b"y").unwrap();
        fs::read(&claimed.join("old.json")).unwrap();
        fs::list(&claimed).unwrap();
        fs::publish_new(&elsewhere.join("new.json"), b"x").unwrap();
        let pause = Duration::from_millis(200);
        assert_eq!(waiter.wait_at_most(pause, &mut || false), Woken::Poll);
        fs::move_to(&claimed.join("old.json"), &elsewhere.join("old.json")).unwrap();
        let woken = waiter.wait_at_most(Duration::from_mins(1), &mut || false);
        assert_eq!(woken, Woken::Event);
    }

    #[test]
    fn without_events_the_poll_decides() {
        let nowhere = (PathBuf::from("/nonexistent"), News::Arrivals);
        let mut waiter = Waiter::new(&[nowhere], Duration::from_millis(20));
        assert_eq!(waiter.wait(&mut || false), Woken::Poll);
        assert_eq!(waiter.wait(&mut || true), Woken::Interrupted);
    }

    #[test]
    fn intervals_grow_to_the_longest_and_start_again_on_progress() {
        let mut waiter = Waiter::new(&[], Duration::from_millis(80));
        for _ in 0..4 {
            waiter.wait(&mut || false);
        }
        assert_eq!(waiter.interval, Duration::from_millis(80));
        waiter.progress();
        assert_eq!(waiter.interval, FIRST);
    }
}
