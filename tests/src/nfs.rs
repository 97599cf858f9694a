//! A Linux NFS server with two clients on this machine, each with a kernel of its own: `tests/cluster/nfs`, from Rust.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use shared::cli::report;

use crate::cluster::{finish, first_missing};
use crate::repository;

/// Programs it is made of.
const PROGRAMS: [&str; 10] = [
    "linux.uml",
    "rpc.nfsd",
    "rpcbind",
    "insmod",
    "mkfs.ext4",
    "ip",
    "nsenter",
    "unshare",
    "setsid",
    "mount.nfs4",
];

/// Which NFS the clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// NFS 3.
    Three,
    /// NFS 4.2.
    FourTwo,
}

/// A server and the clients `a` and `b`; dropped, they are gone.
#[derive(Debug)]
pub struct Nfs {
    folder: tempfile::TempDir,
    version: Version,
}

impl Nfs {
    /// Starts them; `None`, with the reason printed, where that cannot be.
    ///
    /// # Errors
    /// They do not come up.
    pub fn start(version: Version) -> Result<Option<Self>> {
        if let Some(reason) = obstacle() {
            report(&format!(
                "SKIPPED: no NFS without {reason}; `.ci/install` installs all"
            ));
            return Ok(None);
        }
        let nfs = Self {
            folder: tempfile::Builder::new().prefix("tandem-").tempdir()?,
            version,
        };
        let mut command = nfs.command("start");
        command.arg(std::process::id().to_string());
        finish(command)?;
        Ok(Some(nfs))
    }

    /// The share, as the clients see it; to this machine it is an empty folder.
    pub fn shared(&self) -> PathBuf {
        self.folder.path().join("shared")
    }

    /// A folder of this machine's disk, which the clients see too.
    pub fn local(&self) -> &Path {
        self.folder.path()
    }

    /// Lets something happen to a client: `crash`, `boot`, `cut` or `mend`.
    ///
    /// # Errors
    /// It cannot be done.
    pub fn event(&self, event: &str, client: &str) -> Result<()> {
        let mut command = self.command(event);
        command.arg(client);
        finish(command).map(|_printed| ())
    }

    /// Runs a command on a client to its end; what it prints.
    ///
    /// # Errors
    /// It fails.
    pub fn run(&self, client: &str, program: &Path, arguments: &[&str]) -> Result<String> {
        finish(self.on(client, program, arguments))
    }

    /// How many calls of each kind a client has made since it mounted the share, without those that keep its own lease
    /// at the server, which it makes whatever runs there.
    ///
    /// # Errors
    /// It does not say.
    pub fn calls(&self, client: &str) -> Result<BTreeMap<String, u64>> {
        let mut command = self.command("calls");
        command.arg(client);
        let printed = finish(command)?;
        let mut calls = BTreeMap::new();
        for line in printed.lines() {
            let (name, count) = line.split_once(' ').context("a name and a count")?;
            if !matches!(name, "SEQUENCE" | "RENEW") {
                calls.insert(name.to_owned(), count.parse()?);
            }
        }
        Ok(calls)
    }

    /// Starts a command on a client, with what it prints in a file. It ends with the client.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(
        &self,
        client: &str,
        program: &Path,
        arguments: &[&str],
        log: &str,
    ) -> Result<Child> {
        let log = self.folder.path().join("log").join(log);
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)?;
        let mut command = self.on(client, program, arguments);
        command.stdin(Stdio::null());
        Ok(command.stdout(file.try_clone()?).stderr(file).spawn()?)
    }

    /// What the commands that were spawned have printed when they ended, and the kernels too.
    ///
    /// # Errors
    /// A log cannot be read.
    pub fn logs(&self) -> Result<String> {
        let folder = self.folder.path().join("log");
        let read = |name: String| {
            let log = std::fs::read(folder.join(&name))?;
            Ok(format!("--- {name}\n{}", String::from_utf8_lossy(&log)))
        };
        shared::fs::list(&folder)?.into_iter().map(read).collect()
    }

    fn on(&self, client: &str, program: &Path, arguments: &[&str]) -> Command {
        let mut command = self.command("exec");
        command.arg(client).arg(program).args(arguments);
        command
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(repository("tests/cluster/nfs"));
        command.arg(what).arg(self.folder.path());
        let version = match self.version {
            Version::Three => "3",
            Version::FourTwo => "4.2",
        };
        command.env("VERSION", version);
        command
    }
}

impl Drop for Nfs {
    fn drop(&mut self) {
        if let Err(error) = finish(self.command("stop")) {
            report(&format!("the NFS server is not gone: {error:#}"));
        }
    }
}

/// What stands in the way.
fn obstacle() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("root".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("`/dev/net/tun`".to_owned());
    }
    first_missing(&PROGRAMS)
}
