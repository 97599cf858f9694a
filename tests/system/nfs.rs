//! A search on Linux NFS, with programs on two clients that have a kernel each.

use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::nfs::Nfs;
use harness::{DEADLINE, TestSearch, counting_ones, program};
use shared::{Fate, fs, layout};

/// Paths of records below the search directory that hold all of `parts`, as client `a` sees them.
fn names(nfs: &Nfs, folder: &str, parts: &[&str]) -> Result<Vec<String>> {
    let root = nfs.shared().join("search").join(folder);
    let arguments = [&*root.to_string_lossy(), "-name", "*.json"];
    let found = nfs.run("a", Path::new("find"), &arguments)?;
    let has_all = |line: &&str| parts.iter().all(|part| line.contains(part));
    Ok(found.lines().filter(has_all).map(str::to_owned).collect())
}

fn wait_until(nfs: &Nfs, what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is_so()? {
        ensure!(
            start.elapsed() < DEADLINE,
            "after {DEADLINE:?} still not: {what}\n{}",
            nfs.logs()?
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// Starts a program on the search; what it prints is in a log of its own.
fn start(nfs: &Nfs, client: &str, name: &str, number: u32) -> Result<Child> {
    let root = nfs.shared().join("search");
    let root = root.to_string_lossy();
    let arguments = ["run", &*root, "--poll-s", "1"];
    let log = format!("{name}-{client}-{number}.log");
    nfs.spawn(client, &program(name), &arguments, &log)
}

/// `scheduler doctor --peer` on both clients at the same time: what each says.
fn consult_doctors(nfs: &Nfs) -> Result<Vec<String>> {
    let folder = nfs.shared();
    let folder = folder.to_string_lossy();
    let ask = |client: &'static str| {
        let scheduler = program("scheduler");
        nfs.run(client, &scheduler, &["doctor", &folder, "--peer"])
    };
    std::thread::scope(|scope| {
        let doctors = ["a", "b"].map(|client| scope.spawn(move || ask(client)));
        let said = doctors.map(|doctor| doctor.join().expect("it reports its errors"));
        said.into_iter().collect()
    })
}

#[test]
fn nfs_finishes_a_search_exactly_with_a_client_cut_off_and_mended_and_then_killed() -> Result<()> {
    let Some(nfs) = Nfs::start()? else {
        return Ok(());
    };
    for said in consult_doctors(&nfs)? {
        shared::cli::report(&said);
        assert!(said.contains("usable: searches may run here"), "{said}");
        assert!(!said.contains("BAD"), "{said}");
    }

    let mut search = counting_ones("bohb", 4);
    search["objective"]["seconds_per_unit"] = 0.3.into();
    // A heartbeat may be seen late, so that a job is given to two: the first result counts.
    search["trainers"] =
        serde_json::json!({ "heartbeat_s": 0.5, "lease_s": 10.0, "max_attempts": 1000 });
    let file = nfs.local().join("search.json");
    fs::replace(&file, &serde_json::to_vec_pretty(&search)?)?;
    let root = nfs.shared().join("search");
    let (file, root) = (file.to_string_lossy(), root.to_string_lossy());
    nfs.run("a", &program("scheduler"), &["init", &file, &root])?;

    let mut on_a = Vec::new();
    for (name, number) in [("scheduler", 1), ("sampler", 1), ("trainer", 1)] {
        on_a.push(start(&nfs, "a", name, number)?);
    }
    let mut on_b = vec![
        start(&nfs, "b", "trainer", 1)?,
        start(&nfs, "b", "trainer", 2)?,
    ];
    let claims_of_b = || names(&nfs, layout::CLAIMED, &["nfs-b"]);
    let lost_by_b = || names(&nfs, layout::ATTEMPTS, &["nfs-b"]);
    // One that lasts for longer than it takes to cut a client off: 2.7 s or 8.1 s.
    let is_long = |claim: &String| claim.contains("-r2-") || claim.contains("-r3-");
    wait_until(&nfs, "client b has a long job", || {
        Ok(claims_of_b()?.iter().any(is_long))
    })?;

    nfs.event("cut", "b")?;
    wait_until(&nfs, "the job of client b was taken back", || {
        Ok(!lost_by_b()?.is_empty())
    })?;
    nfs.event("mend", "b")?;
    let before: Vec<String> = claims_of_b()?;
    let is_back = || Ok(claims_of_b()?.iter().any(|claim| !before.contains(claim)));
    wait_until(&nfs, "client b has another job", is_back)?;
    let is_finished = || names(&nfs, "", &["/search/finished.json"]);
    ensure!(is_finished()?.is_empty(), "the search was over too early");

    nfs.event("crash", "b")?;
    for child in &mut on_b {
        child.wait()?;
    }
    for child in &mut on_a {
        let status = child.wait()?;
        ensure!(status.success(), "{status}: {}", nfs.logs()?);
    }
    check(&nfs)
}

/// The finished search, copied from the share to this machine's disk.
fn check(nfs: &Nfs) -> Result<()> {
    let copy = tempfile::tempdir_in(nfs.local())?;
    let (from, to) = (nfs.shared().join("search"), copy.path().join("directory"));
    let arguments = ["-r", &*from.to_string_lossy(), &*to.to_string_lossy()];
    nfs.run("a", Path::new("cp"), &arguments)?;
    let test = TestSearch::found(copy);
    test.check_finished()
        .with_context(|| nfs.logs().unwrap_or_default())?;
    assert!(test.on("sampler", "replay", &[])?.status.success());
    let directory = test.directory()?;
    let mut lost = Vec::new();
    for job in directory.finished_jobs()? {
        let ends = directory.attempt_ends(job)?;
        lost.extend(ends.into_iter().filter(|end| end.fate == Fate::NodeLost));
    }
    let is_of_b =
        |end: &shared::record::AttemptEnd| end.claim.owner.to_string().starts_with("nfs-b");
    assert!(lost.iter().any(is_of_b), "{lost:?}");
    Ok(())
}
