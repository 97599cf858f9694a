//! A search on Linux NFS, with programs on two clients that have a kernel each.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::nfs::{Nfs, Version};
use harness::repeated::is_as_in_one_go;
use harness::{DEADLINE, TestSearch, counting_ones, program, repository_search};
use shared::record::{AttemptEnd, JobResult};
use shared::{Fate, JobId, fs, layout};

/// A heartbeat may be seen late, so that a job is given to two: the first result counts.
const TRAINERS: &str =
    r#"{ "heartbeat_s": 0.5, "lease_s": 10.0, "checkpoint_s": 1.0, "max_attempts": 1000 }"#;

/// Paths of files below the search directory that hold all of `parts`, as client `a` sees them.
fn names(nfs: &Nfs, folder: &str, parts: &[&str]) -> Result<Vec<String>> {
    let root = nfs.shared().join("search").join(folder);
    let root = root.to_string_lossy();
    // The top folder alone, not what is below it: folders of checkpoints go meanwhile.
    let depth = if folder.is_empty() { "1" } else { "9" };
    let arguments = [&*root, "-maxdepth", depth, "-type", "f"];
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

/// Starts NFS and makes a directory for the search on it.
fn start_with(version: Version, search: &serde_json::Value) -> Result<Option<Nfs>> {
    let Some(nfs) = Nfs::start(version)? else {
        return Ok(None);
    };
    for said in consult_doctors(&nfs)? {
        shared::cli::report(&said);
        assert!(said.contains("usable: searches may run here"), "{said}");
        assert!(!said.contains("BAD"), "{said}");
    }
    make_directory(&nfs, search)?;
    Ok(Some(nfs))
}

/// Makes a directory for the search on the share.
fn make_directory(nfs: &Nfs, search: &serde_json::Value) -> Result<()> {
    let file = nfs.local().join("search.json");
    fs::replace(&file, &serde_json::to_vec_pretty(search)?)?;
    let root = nfs.shared().join("search");
    let (file, root) = (file.to_string_lossy(), root.to_string_lossy());
    nfs.run("a", &program("scheduler"), &["init", &file, &root])?;
    Ok(())
}

/// Runs the search: client `b` is cut off when `has_long_job` says so, comes back beside the successors of its trainers,
/// and loses power in its next job. The finished search, copied from the share to this machine's disk.
fn run_with_a_client_cut_off_and_killed(
    nfs: &Nfs,
    has_long_job: impl Fn() -> Result<bool>,
) -> Result<TestSearch> {
    let mut on_a = Vec::new();
    for (name, number) in [("scheduler", 1), ("sampler", 1), ("trainer", 1)] {
        on_a.push(start(nfs, "a", name, number)?);
    }
    let mut on_b = vec![
        start(nfs, "b", "trainer", 1)?,
        start(nfs, "b", "trainer", 2)?,
    ];
    let claims_of_b = || names(nfs, layout::CLAIMED, &["nfs-b", ".json"]);
    let lost_by_b = || names(nfs, layout::ATTEMPTS, &["nfs-b", ".json"]);
    loop {
        wait_until(nfs, "client b has a long job", &has_long_job)?;
        nfs.event("cut", "b")?;
        if !claims_of_b()?.is_empty() {
            break;
        }
        // On a busy machine its jobs were over before the cut.
        nfs.event("mend", "b")?;
    }
    wait_until(nfs, "the job of client b was taken back", || {
        Ok(!lost_by_b()?.is_empty())
    })?;
    nfs.event("mend", "b")?;
    let before: Vec<String> = claims_of_b()?;
    let is_back = || Ok(claims_of_b()?.iter().any(|claim| !before.contains(claim)));
    wait_until(nfs, "client b has another job", is_back)?;
    let is_finished = || names(nfs, "", &["/search/finished.json"]);
    ensure!(is_finished()?.is_empty(), "the search was over too early");

    nfs.event("crash", "b")?;
    for child in &mut on_b {
        child.wait()?;
    }
    for child in &mut on_a {
        let status = child.wait()?;
        ensure!(status.success(), "{status}: {}", nfs.logs()?);
    }
    let copy = tempfile::tempdir_in(nfs.local())?;
    let (from, to) = (nfs.shared().join("search"), copy.path().join("directory"));
    let arguments = ["-r", &*from.to_string_lossy(), &*to.to_string_lossy()];
    nfs.run("a", Path::new("cp"), &arguments)?;
    Ok(TestSearch::found(copy))
}

/// One result for each job, brackets and proposals as they must be; the jobs that trainers on `b` have lost.
fn check(nfs: &Nfs, test: &TestSearch) -> Result<BTreeMap<JobId, JobResult>> {
    let mut results = test
        .check_finished()
        .with_context(|| nfs.logs().unwrap_or_default())?;
    assert!(test.on("sampler", "replay", &[])?.status.success());
    let directory = test.directory()?;
    let is_lost_by_b = |end: &AttemptEnd| {
        end.fate == Fate::NodeLost && end.claim.owner.to_string().starts_with("nfs-b")
    };
    for job in directory.finished_jobs()? {
        if !directory.attempt_ends(job)?.iter().any(is_lost_by_b) {
            results.remove(&job);
        }
    }
    assert!(!results.is_empty());
    Ok(results)
}

/// Settings are a tenth of the defaults on a network filesystem, so that everything happens ten times as often.
fn is_asked_little_by_a_trainer_that_waits(version: Version) -> Result<()> {
    const FASTER: f64 = 10.0;
    /// With the default settings.
    const MOST_CALLS_A_SECOND: f64 = 0.5;
    let Some(nfs) = Nfs::start(version)? else {
        return Ok(());
    };
    let mut search = counting_ones("random", 1);
    search["trainers"] = serde_json::json!({ "heartbeat_s": 1.0, "lease_s": 24.0 });
    make_directory(&nfs, &search)?;
    let root = nfs.shared().join("search");
    let arguments = ["run", &*root.to_string_lossy(), "--poll-s", "3"];
    let mut trainer = nfs.spawn("a", &program("trainer"), &arguments, "trainer.log")?;
    // What the kernel counts costs no calls. Only heartbeats are renamed there.
    let beats = |calls: &BTreeMap<String, u64>| calls.get("RENAME").copied().unwrap_or(0);
    // By then the time between two looks has come to the longest.
    wait_until(&nfs, "six heartbeats", || Ok(beats(&nfs.calls("a")?) >= 6))?;
    let before = nfs.calls("a")?;
    let start = Instant::now();
    let are_more = |calls: &BTreeMap<String, u64>| beats(calls) >= beats(&before) + 5;
    wait_until(&nfs, "five more", || Ok(are_more(&nfs.calls("a")?)))?;
    let elapsed_s = start.elapsed().as_secs_f64();
    let mut calls = nfs.calls("a")?;
    for (name, count) in &mut calls {
        *count -= before.get(name).copied().unwrap_or(0);
    }
    let count = |name: &str| calls.get(name).copied().unwrap_or(0);
    assert!(count("READDIR") + count("READDIRPLUS") >= 5, "{calls:?}");
    let rate = calls.values().sum::<u64>() as f64 / elapsed_s;
    shared::cli::report(&format!("{rate:.1} calls a second: {calls:?}"));
    assert!(rate <= FASTER * MOST_CALLS_A_SECOND, "{rate}: {calls:?}");
    // That it was a trainer that waits, and not one that had ended.
    assert!(trainer.try_wait()?.is_none(), "{}", nfs.logs()?);
    nfs.event("crash", "a")?;
    trainer.wait()?;
    Ok(())
}

#[test]
fn nfs_is_asked_little_by_a_trainer_that_waits() -> Result<()> {
    is_asked_little_by_a_trainer_that_waits(Version::FourTwo)
}

#[test]
fn nfs_three_is_asked_little_by_a_trainer_that_waits() -> Result<()> {
    is_asked_little_by_a_trainer_that_waits(Version::Three)
}

#[test]
fn nfs_finishes_a_search_exactly_with_a_client_cut_off_and_mended_and_then_killed() -> Result<()> {
    let mut search = counting_ones("bohb", 4);
    search["objective"]["seconds_per_unit"] = 0.3.into();
    search["trainers"] = TRAINERS.parse()?;
    let Some(nfs) = start_with(Version::FourTwo, &search)? else {
        return Ok(());
    };
    // One that lasts for longer than it takes to cut a client off: 2.7 s or 8.1 s.
    let is_long = |claim: &String| claim.contains("-r2-") || claim.contains("-r3-");
    let has_long_job = || {
        let claims = names(&nfs, layout::CLAIMED, &["nfs-b", ".json"])?;
        Ok(claims.iter().any(is_long))
    };
    let test = run_with_a_client_cut_off_and_killed(&nfs, has_long_job)?;
    check(&nfs, &test)?;
    Ok(())
}

#[test]
#[ignore = "trains for minutes: cargo nextest run --workspace --run-ignored only nfs::nfs_three --no-capture"]
fn nfs_three_finishes_real_trainings_exactly_with_a_client_cut_off_and_mended_and_then_killed()
-> Result<()> {
    let mut search = repository_search("smoke.json")?;
    search["budget"] = serde_json::json!({ "unit": "steps", "min": 200, "max": 1800, "eta": 3 });
    search["limit"] = serde_json::json!({ "brackets": 2 });
    search["trainers"] = TRAINERS.parse()?;
    let Some(nfs) = start_with(Version::Three, &search)? else {
        return Ok(());
    };
    let has_long_job = || {
        let saved = names(&nfs, layout::CHECKPOINTS, &["nfs-b", ".checkpoint"])?;
        let claims = names(&nfs, layout::CLAIMED, &["nfs-b", ".json"])?;
        let is_saved = |claim: &String| {
            let claim = Path::new(claim).file_stem().unwrap_or_default();
            saved
                .iter()
                .any(|path| path.contains(&*claim.to_string_lossy()))
        };
        Ok(claims.iter().any(is_saved))
    };
    let test = run_with_a_client_cut_off_and_killed(&nfs, has_long_job)?;
    for result in check(&nfs, &test)?.values() {
        is_as_in_one_go(&test, result)?;
    }
    Ok(())
}
