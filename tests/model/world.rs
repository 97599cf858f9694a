//! Several hosts on one file server: processes that stop at every call, a clock that goes on when all of them wait, and
//! somebody who chooses what happens at each call.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use generator::{Generator, Gn};
use rustix::io::Errno;
use shared::system::{Concurrency, FileKind, Identity, OnEvent, System, model};

use crate::tree::{Mutant, Number, Tree, is_draft};

/// Words of stack for each process.
const STACK: usize = 1 << 16;

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Order {
    /// It is done.
    Go,
    /// Others go first, as long as there is something for them to do.
    Behind,
    /// That process goes first.
    Switch(usize),
    /// The time of all who sleep goes on first.
    Time,
    /// The whole host stands still, for longer than a lease.
    Freeze,
    /// The host is gone; another one is started in its place.
    Crash,
    /// It is not done and reports an error.
    Fail,
    /// It is done and reports an error.
    Lie,
    /// It gives what this host knew before.
    Stale,
    /// Nothing new can come of this run.
    Abandon,
}

/// A call that a process is about to make.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Call {
    pub(crate) kind: &'static str,
    pub(crate) path: PathBuf,
    /// Whether it changes something.
    pub(crate) is_act: bool,
    /// Whether the host knows something else from before.
    pub(crate) is_stale: bool,
    /// Whether nobody else can notice when it is made.
    pub(crate) is_private: bool,
}

/// Why a process has stopped.
#[derive(Debug, Clone)]
enum Pause {
    Call(Call),
    Sleep(Duration),
    End(Ended),
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    Well,
    /// It gave up, as a program that is to be started again.
    Failed(String),
    Panicked(String),
    Crashed,
}

/// The unwinding of a process that is gone.
struct Gone;

/// What the processes find.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Setting {
    /// How long a host of a network filesystem may believe what it saw; `None`: the filesystem shows everything at once.
    pub(crate) belief: Option<Duration>,
    /// Whether what a program does with several threads is done from the last to the first.
    pub(crate) is_last_first: bool,
}

/// All that the processes share.
pub(crate) struct World {
    shared: Mutex<Shared>,
    base: Instant,
    setting: Setting,
}

struct Shared {
    tree: Tree,
    now: Duration,
    hosts: Vec<Host>,
    pause: Option<Pause>,
    order: Order,
    calls: u64,
    /// Of each process, a digest of all that it has seen.
    seen: Vec<u64>,
    trace: Option<Vec<String>>,
}

#[derive(Default)]
struct Host {
    names: BTreeMap<PathBuf, (Duration, Option<Number>)>,
    listings: BTreeMap<PathBuf, (Duration, Option<Vec<String>>)>,
    is_gone: bool,
}

impl World {
    pub(crate) fn new(tree: Tree, setting: Setting, is_traced: bool) -> Arc<Self> {
        Arc::new(Self {
            shared: Mutex::new(Shared {
                tree,
                now: Duration::ZERO,
                hosts: vec![Host::default()],
                pause: None,
                order: Order::Go,
                calls: 0,
                seen: Vec::new(),
                trace: is_traced.then(Vec::new),
            }),
            base: Instant::now(),
            setting,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tree(&self) -> Tree {
        self.lock().tree.clone()
    }

    pub(crate) fn digest(&self) -> u64 {
        self.lock().tree.digest()
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.lock().tree.violations.clone()
    }

    pub(crate) fn now(&self) -> Duration {
        self.lock().now
    }

    pub(crate) fn set_now(&self, now: Duration) {
        self.lock().now = now;
    }

    pub(crate) fn calls(&self) -> u64 {
        self.lock().calls
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.lock().trace.clone().unwrap_or_default()
    }

    pub(crate) fn note(&self, text: impl FnOnce() -> String) {
        let mut shared = self.lock();
        let now = shared.now;
        if let Some(trace) = &mut shared.trace {
            trace.push(format!("{:7.3} {}", now.as_secs_f64(), text()));
        }
    }

    /// What each process has seen, what the server holds, and who is about to make which call.
    pub(crate) fn key(
        &self,
        threads: &[(usize, Duration, Option<Call>)],
        bounds: impl Hash,
    ) -> u64 {
        let shared = self.lock();
        let mut hasher = DefaultHasher::new();
        (shared.tree.digest(), shared.now, bounds).hash(&mut hasher);
        for thread in threads {
            (shared.seen[thread.0], thread).hash(&mut hasher);
        }
        hasher.finish()
    }

    pub(crate) fn new_host(&self) -> usize {
        let mut shared = self.lock();
        shared.hosts.push(Host::default());
        shared.hosts.len() - 1
    }

    pub(crate) fn kill(&self, host: usize) {
        self.lock().hosts[host].is_gone = true;
    }

    /// Does something on the server without being seen or disturbed.
    pub(crate) fn quietly<T>(self: &Arc<Self>, act: impl FnOnce() -> T) -> T {
        let before = model::set(Some(Rc::new(Process {
            world: Arc::clone(self),
            host: 0,
            index: 0,
            is_quiet: true,
        })));
        let done = act();
        model::set(before);
        done
    }
}

/// A thread of a program, stopped at its next call.
pub(crate) struct Coroutine {
    pub(crate) name: String,
    pub(crate) host: usize,
    system: Rc<Process>,
    body: Generator<'static, (), ()>,
    /// The call it is about to make.
    pub(crate) call: Option<Call>,
    /// When it goes on.
    pub(crate) wake: Duration,
    pub(crate) ended: Option<Ended>,
    /// Whether its last call changed something.
    pub(crate) has_acted: bool,
}

impl Coroutine {
    pub(crate) fn new(
        world: &Arc<World>,
        host: usize,
        name: String,
        body: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) -> Self {
        let index = {
            let mut shared = world.lock();
            shared.seen.push(0);
            shared.seen.len() - 1
        };
        let of_body = Arc::clone(world);
        let wake = world.now();
        let body = Gn::<()>::new_opt(STACK, move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            let ended = match result {
                Ok(Ok(())) => Ended::Well,
                Ok(Err(complaint)) => Ended::Failed(complaint),
                Err(panic) if panic.is::<Gone>() => Ended::Crashed,
                Err(panic) => Ended::Panicked(
                    panic
                        .downcast_ref::<String>()
                        .cloned()
                        .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                        .unwrap_or_default(),
                ),
            };
            of_body.lock().pause = Some(Pause::End(ended));
        });
        Self {
            name,
            host,
            system: Rc::new(Process {
                world: Arc::clone(world),
                host,
                index,
                is_quiet: false,
            }),
            body,
            call: None,
            wake,
            ended: None,
            has_acted: false,
        }
    }

    /// Goes on to the next call, with that for the one at hand.
    pub(crate) fn resume(&mut self, order: Order) {
        if self.ended.is_some() {
            return;
        }
        let world = &self.system.world;
        self.has_acted = self.call.as_ref().is_some_and(|call| call.is_act);
        world.lock().order = order;
        let before = model::set(Some(Rc::clone(&self.system) as Rc<dyn System>));
        self.body.resume();
        model::set(before);
        let mut shared = world.lock();
        self.call = None;
        match shared.pause.take() {
            Some(Pause::Call(call)) => self.call = Some(call),
            Some(Pause::Sleep(duration)) => self.wake = shared.now + duration,
            Some(Pause::End(ended)) => self.ended = Some(ended),
            None => unreachable!("a process stops for a reason"),
        }
    }
}

/// One process's view of the world.
struct Process {
    world: Arc<World>,
    host: usize,
    index: usize,
    is_quiet: bool,
}

impl Process {
    fn pause(&self, pause: Pause) -> Order {
        if self.is_quiet {
            return Order::Go;
        }
        self.leave_if_gone();
        self.world.lock().pause = Some(pause);
        #[expect(deprecated, reason = "calls are made far below the generator's scope")]
        generator::yield_with(());
        self.leave_if_gone();
        let mut shared = self.world.lock();
        shared.calls += 1;
        shared.order
    }

    fn leave_if_gone(&self) {
        let is_gone = self.world.lock().hosts[self.host].is_gone;
        if is_gone && !std::thread::panicking() {
            std::panic::resume_unwind(Box::new(Gone));
        }
    }

    fn is_dying(&self) -> bool {
        std::thread::panicking() && !self.is_quiet
    }

    /// A call that changes something: these names are this host's own knowledge afterwards.
    fn act<T: Hash>(
        &self,
        kind: &'static str,
        path: &Path,
        touched: &[&Path],
        act: impl FnOnce(&mut Tree) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.is_dying() {
            return Err(Errno::IO.into());
        }
        let order = self.pause(Pause::Call(Call {
            kind,
            path: path.to_owned(),
            is_act: true,
            is_stale: false,
            is_private: is_draft(path),
        }));
        let mut shared = self.world.lock();
        let shared = &mut *shared;
        let answer = match order {
            Order::Fail => Err(Errno::IO.into()),
            Order::Lie => act(&mut shared.tree).and(Err(Errno::IO.into())),
            _ => act(&mut shared.tree),
        };
        if answer.is_ok() && self.world.setting.belief.is_some() {
            let host = &mut shared.hosts[self.host];
            for path in touched {
                let known = (shared.now, shared.tree.lookup(path));
                host.names.insert((*path).to_owned(), known);
                if let Some(folder) = path.parent() {
                    host.listings.remove(folder);
                }
            }
        }
        if !self.is_quiet {
            // Names of drafts are of no meaning.
            let path = if is_draft(path) { Path::new("") } else { path };
            let told = answer.as_ref().map(|_| ()).map_err(io::Error::kind);
            see(&mut shared.seen[self.index], kind, path, &told);
        }
        answer
    }

    /// A call that changes nothing, before it is answered.
    fn look(
        &self,
        kind: &'static str,
        path: &Path,
        is_stale: impl FnOnce(&Shared) -> bool,
    ) -> io::Result<Order> {
        if self.is_dying() {
            return Err(Errno::IO.into());
        }
        let is_stale = is_stale(&self.world.lock());
        let order = self.pause(Pause::Call(Call {
            kind,
            path: path.to_owned(),
            is_act: false,
            is_stale,
            is_private: false,
        }));
        match order {
            Order::Fail => Err(Errno::IO.into()),
            order => Ok(order),
        }
    }

    /// Which file a name leads to, as this host sees it.
    fn find(&self, kind: &'static str, path: &Path) -> io::Result<Number> {
        let known = |shared: &Shared| {
            let belief = self.world.setting.belief?;
            let (at, number) = shared.hosts[self.host].names.get(path)?;
            (*at + belief >= shared.now && *number != shared.tree.lookup(path)).then_some(*number)
        };
        let order = self.look(kind, path, |shared| known(shared).is_some())?;
        let mut shared = self.world.lock();
        let shared = &mut *shared;
        let is_beat = path
            .parent()
            .is_some_and(|folder| folder.ends_with("trainers"));
        let is_result = path.components().any(|c| c.as_os_str() == "results");
        let number = match known(shared) {
            Some(number) if order == Order::Stale => number,
            _ => {
                let number = shared.tree.lookup(path);
                let names = &mut shared.hosts[self.host].names;
                let first = names.get(path).and_then(|(_, number)| *number);
                names.insert(path.to_owned(), (shared.now, number));
                match shared.tree.mutant {
                    Some(Mutant::HeartbeatsUnseen) if is_beat && first.is_some() => {
                        names.insert(path.to_owned(), (shared.now, first));
                        first
                    }
                    Some(Mutant::ResultsUnseen) if is_result && kind == "open" => None,
                    _ => number,
                }
            }
        };
        if is_draft(path) && !self.is_quiet {
            let violation = format!("the draft `{}` was read", path.display());
            shared.tree.violations.push(violation);
        }
        if !self.is_quiet {
            let content = number.map(|number| shared.tree.content(number));
            let content = content.filter(|_| kind == "read");
            see(
                &mut shared.seen[self.index],
                kind,
                path,
                &(number.is_some(), content),
            );
        }
        number.ok_or_else(|| Errno::NOENT.into())
    }
}

fn see(seen: &mut u64, kind: &str, path: &Path, answer: &impl Hash) {
    let mut hasher = DefaultHasher::new();
    (*seen, kind, path).hash(&mut hasher);
    answer.hash(&mut hasher);
    *seen = hasher.finish();
}

impl System for Process {
    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<Identity> {
        self.act("create", path, &[], |tree| tree.create(path, bytes))
            .map(|number| (0, number))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.act("link", to, &[to], |tree| tree.link(from, to))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.act("rename", to, &[from, to], |tree| tree.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.act("remove", path, &[path], |tree| tree.remove(path))
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        if self.world.lock().tree.list(path).is_some() {
            return Ok(());
        }
        self.act("make folder", path, &[], |tree| {
            tree.make_folder(path);
            Ok(())
        })
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.act("remove folder", path, &[path], |tree| {
            tree.remove_folder(path)
        })
    }

    fn sync_folder(&self, _path: &Path) -> io::Result<()> {
        // The server has written what it has answered.
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<Identity> {
        self.find("open", path).map(|number| (0, number))
    }

    fn read(&self, path: &Path, _largest: u64) -> io::Result<Option<Vec<u8>>> {
        let number = self.find("read", path)?;
        Ok(Some(self.world.lock().tree.content(number).to_vec()))
    }

    fn file_kind(&self, _path: &Path) -> io::Result<FileKind> {
        Ok(FileKind::Folder) // nobody here plants links
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let known = |shared: &Shared| {
            let belief = self.world.setting.belief?;
            let (at, names) = shared.hosts[self.host].listings.get(folder)?;
            (*at + belief >= shared.now && *names != shared.tree.list(folder))
                .then(|| names.clone())
        };
        let order = self.look("list", folder, |shared| known(shared).is_some())?;
        let mut shared = self.world.lock();
        let shared = &mut *shared;
        let names = match known(shared) {
            Some(names) if order == Order::Stale => names,
            _ => {
                let names = shared.tree.list(folder);
                let host = &mut shared.hosts[self.host];
                host.listings
                    .insert(folder.to_owned(), (shared.now, names.clone()));
                // Names that were missing are looked up anew.
                host.names
                    .retain(|path, (_, number)| number.is_some() || path.parent() != Some(folder));
                names
            }
        };
        if !self.is_quiet {
            let seen: Option<Vec<&String>> = names
                .as_ref()
                .map(|names| names.iter().filter(|name| !name.starts_with('.')).collect());
            see(&mut shared.seen[self.index], "list", folder, &seen);
        }
        let names = names.ok_or(Errno::NOENT)?;
        Ok(names.into_iter().map(OsString::from).collect())
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        let shared = self.world.lock();
        let number = shared.tree.lookup(path).ok_or(Errno::NOENT)?;
        Ok(shared.tree.content(number).len() as u64)
    }

    fn written_s(&self, path: &Path) -> io::Result<f64> {
        // By the clock that `stamp` tells.
        let shared = self.world.lock();
        shared
            .tree
            .lookup(path)
            .map(|_| 0.0)
            .ok_or_else(|| Errno::NOENT.into())
    }

    fn concurrency(&self) -> Concurrency {
        if self.world.setting.is_last_first {
            Concurrency::LastToFirst
        } else {
            Concurrency::FirstToLast
        }
    }

    fn is_network(&self, _path: &Path) -> bool {
        self.world.setting.belief.is_some()
    }

    fn instant(&self) -> Instant {
        self.world.base + self.world.now()
    }

    fn stamp(&self) -> String {
        "1970-01-01T00:00:00Z".to_owned()
    }

    fn sleep(&self, duration: Duration) {
        if !self.is_dying() {
            self.pause(Pause::Sleep(duration));
        }
    }

    fn watch(
        &self,
        _folders: &[PathBuf],
        _kinds: notify::EventKindMask,
        _on_event: OnEvent,
    ) -> notify::Result<notify::RecommendedWatcher> {
        Err(notify::Error::generic("a network filesystem tells nothing"))
    }

    fn wait(&self, _news: &Receiver<()>, limit: Duration) -> Result<(), RecvTimeoutError> {
        self.sleep(limit);
        Err(RecvTimeoutError::Timeout)
    }

    fn number(&self) -> u64 {
        self.host as u64
    }
}
