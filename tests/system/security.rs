//! On a shared machine: links, names, commands, words for terminals, permissions, and what only looks like a file.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use harness::{TestSearch, counting_ones, losses, program};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use shared::{ConfigurationId, JobId, fs, layout};

/// The losses of a search that nobody has disturbed.
fn undisturbed(search: &Value) -> Result<BTreeMap<JobId, Option<f64>>> {
    let mut clean = TestSearch::new(search)?;
    clean.run_to_end(1)?;
    Ok(losses(&clean.check_finished()?))
}

/// What a program said on stderr, after checking its exit code.
fn refused(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

/// All files below a folder with their bytes, links not followed.
fn tree(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(tree(&path)?);
        } else {
            found.insert(path.clone(), std::fs::read(&path)?);
        }
    }
    Ok(found)
}

/// A search that somebody else has run, and a file of theirs.
fn somebody_else(search: &Value) -> Result<(TestSearch, PathBuf)> {
    let mut other = TestSearch::new(search)?;
    other.run_to_end(1)?;
    let secret = other.beside("secret");
    fs::replace(&secret, b"nobody's business")?;
    Ok((other, secret))
}

#[test]
fn links_in_place_of_records_are_neither_read_nor_written_through() -> Result<()> {
    let search = counting_ones("hyperband", 4);
    let expected = undisturbed(&search)?;
    let (other, secret) = somebody_else(&search)?;
    let before = tree(&other.beside(""))?;
    let theirs = other.directory()?.layout().clone();
    let mut test = TestSearch::new(&search)?;
    let ours = test.directory()?.layout().clone();
    // A better result than any, in a file of theirs.
    let mut best: Value =
        serde_json::from_slice(&fs::read(&theirs.result(ConfigurationId(2).job(0)))?)?;
    best["outcome"]["loss"] = json!(-1e6);
    let lie = test.beside("lie.json");
    fs::replace(&lie, &serde_json::to_vec(&best)?)?;
    fs::make_folder(&ours.path("results/000"))?;
    for (link, target) in [
        ("results/000/c000002-r0.json", &lie),
        ("results/000/c000003-r0.json", &secret),
        ("jobs/open/c000000-r0-a1.json", &secret),
        ("jobs/claimed/c000001-r0-a3.host-1-x.json", &secret),
        ("trainers/host-1-x.json", &secret),
        ("late/c000000-r0-a1.host-1-x.json", &secret),
    ] {
        symlink(target, ours.path(link))?;
    }
    test.run_to_end(1)?;
    assert_eq!(losses(&test.check_finished()?), expected);
    assert_eq!(tree(&other.beside(""))?, before);
    Ok(())
}

#[test]
fn links_in_place_of_folders_end_every_program_before_it_touches_what_is_behind() -> Result<()> {
    let search = counting_ones("hyperband", 4);
    let (other, _) = somebody_else(&search)?;
    let before = tree(&other.beside(""))?;
    let theirs = other.directory()?.layout().clone();
    for folder in [
        "jobs/open",
        "jobs/claimed",
        "results",
        "trainers",
        "aside",
        "jobs",
    ] {
        let test = TestSearch::new(&search)?;
        let ours = test.root().join(folder);
        std::fs::remove_dir_all(&ours)?;
        symlink(theirs.path(folder), &ours)?;
        for (name, verb) in [
            ("scheduler", "run"),
            ("scheduler", "status"),
            ("sampler", "run"),
            ("trainer", "run"),
            ("analyzer", "incumbent"),
        ] {
            let said = refused(&test.on(name, verb, &[])?, 5);
            let is_named =
                said.contains(&*ours.to_string_lossy()) && said.contains("symbolic link");
            assert!(is_named, "{folder}: {said}");
        }
    }
    // Folders that come later are looked at when they are first needed.
    for folder in [
        "requests/000",
        "configurations/000",
        "results/000",
        "checkpoints/000",
    ] {
        let mut test = TestSearch::new(&search)?;
        let ours = test.root().join(folder);
        symlink(theirs.path(folder), &ours)?;
        for name in ["scheduler", "sampler", "trainer"] {
            let index = test.start(name, None)?;
            if folder.starts_with("results") && name == "scheduler" {
                let status = test.running()[index].child.wait()?;
                assert_eq!(status.code(), Some(5), "{folder}");
                test.forget(index);
            }
        }
        test.wait_until("a program names the link", |_| {
            Ok(test.all_logs()?.contains("symbolic link"))
        })?;
        for index in 0..test.running().len() {
            test.kill(index)?;
        }
    }
    assert_eq!(tree(&other.beside(""))?, before);
    Ok(())
}

#[test]
fn a_directory_and_a_search_file_that_are_links_themselves_work() -> Result<()> {
    let search = counting_ones("hyperband", 2);
    let expected = undisturbed(&search)?;
    let test = TestSearch::new(&search)?;
    let (real, link) = (test.beside("real"), test.beside("link"));
    fs::make_folder(&real)?;
    symlink("real", &link)?;
    let (file, linked) = (test.beside("search.json"), test.beside("linked.json"));
    symlink(&file, &linked)?;
    let [linked, link] = [linked, link].map(|path| path.to_string_lossy().into_owned());
    let output = test.output("scheduler", &["local", &linked, &link, "--trainers", "1"])?;
    refused(&output, 0);
    for arguments in [
        ["scheduler", "status", &link],
        ["sampler", "replay", &link],
        ["analyzer", "correlation", &link],
    ] {
        refused(&test.output(arguments[0], &arguments[1..])?, 0);
    }
    let results = shared::Directory::open(&real)?.all_results()?;
    let results = results.into_iter().map(|result| (result.job(), result));
    assert_eq!(losses(&results.collect()), expected);
    Ok(())
}

#[test]
fn logs_are_not_written_through_links_and_pipes() -> Result<()> {
    let test = TestSearch::new(&counting_ones("hyperband", 1))?;
    let victim = test.beside("victim");
    fs::replace(&victim, b"as it was")?;
    let host = shared::owner::host_name().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let log = test.root().join(format!("logs/scheduler.{host}.log"));
    let search = test.beside("search.json").to_string_lossy().into_owned();
    let root = test.root().to_string_lossy().into_owned();
    symlink(&victim, &log)?;
    let local = ["local", &search, &root, "--trainers", "1"];
    let said = refused(&test.output("scheduler", &local)?, 3);
    assert!(said.contains(".log` is not a file"), "{said}");
    fs::remove(&log)?;
    mknodat(CWD, &log, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
    refused(&test.output("scheduler", &local)?, 5);
    assert_eq!(fs::read(&victim)?, b"as it was");
    Ok(())
}

/// Files whose names, or the ids in them, would lead out of the search directory.
fn plant_names(ours: &layout::Layout) -> Result<()> {
    let long = "x".repeat(240);
    let ids = [
        "../../victim",
        "/etc/passwd",
        "c000001-r0-a1/../../../victim",
        "c000001-r0-a1.../../victim",
        "c000001-r0-a1\0.x",
        "c4294967295-r255-a4294967295",
        &long,
    ];
    for (number, id) in ids.iter().enumerate() {
        let records = [
            (
                "jobs/open",
                "job",
                json!({ "job": id, "bracket": 0, "budget": { "amount": 1.0, "unit": "steps" },
                "configuration": {}, "continues": id, "search": id }),
            ),
            ("jobs/claimed", "job", json!({ "job": id })),
            (
                "trainers",
                "heartbeat",
                json!({ "owner": id, "beat": 1, "state": { "kind": "working", "claim": id,
                "spent": 1.0 }, "host": id, "pid": 1, "device": id, "at": id, "program": id }),
            ),
            (
                "results/000",
                "result",
                json!({ "attempt": id, "owner": id }),
            ),
            (
                "requests/000",
                "request",
                json!({ "configuration": id, "bracket": 0, "rung": 0, "finished": [id],
                "pending": [id] }),
            ),
            (
                "attempts/000",
                "attempt",
                json!({ "claim": id, "fate": "preempted", "spent": 0.0, "at": id }),
            ),
            (
                "observations",
                "observation",
                json!({ "host": id, "trainers": [], "claims": [] }),
            ),
        ];
        for (folder, format, mut record) in records {
            record["format"] = format.into();
            record["version"] = json!([1, 0]);
            let name = match (folder, number) {
                ("jobs/claimed", _) => format!("c000001-r0-a{}.host-1-x.json", number + 2),
                ("trainers", _) => format!("host-{number}-x.json"),
                ("results/000", _) => format!("c00000{number}-r0.json"),
                (_, 0) => "..json".to_owned(),
                (_, 1) => "a\u{1b}[2J\n.json".to_owned(),
                (_, 2) => format!("{long}.json"),
                _ => format!("c00000{number}-r0-a1.json"),
            };
            fs::replace(&ours.path(folder).join(name), &serde_json::to_vec(&record)?)?;
        }
    }
    Ok(())
}

#[test]
fn names_that_lead_elsewhere_and_records_that_name_them_change_nothing() -> Result<()> {
    let search = counting_ones("hyperband", 4);
    let expected = undisturbed(&search)?;
    let mut test = TestSearch::new(&search)?;
    let ours = test.directory()?.layout().clone();
    fs::replace(&test.beside("victim.json"), b"as it was")?;
    plant_names(&ours)?;
    test.run_to_end(1)?;
    assert_eq!(losses(&test.check_finished()?), expected);
    assert_eq!(fs::read(&test.beside("victim.json"))?, b"as it was");
    // Nothing beside the directory but what the test itself has put there.
    let mut beside = fs::list(&test.beside(""))?;
    beside.retain(|name| !name.contains(".log"));
    assert_eq!(beside, ["directory", "search.json", "victim.json"]);
    Ok(())
}

#[test]
fn a_command_that_was_put_into_the_search_afterwards_never_runs() -> Result<()> {
    let mut search = counting_ones("hyperband", 1);
    let test = {
        search["objective"] = json!({ "command": ["/bin/true"] });
        TestSearch::new(&search)?
    };
    let ours = test.directory()?.layout().clone();
    let mark = test.beside("mark");
    // One turn, so that a job is open that was offered before.
    for name in ["scheduler", "sampler", "scheduler"] {
        refused(&test.on(name, "run", &["--once"])?, 0);
    }
    ensure!(!test.directory()?.jobs()?.open.is_empty(), "no job is open");
    let path = ours.path(layout::SEARCH);
    let whole = fs::read(&path)?;
    let mut changed: Value = serde_json::from_slice(&whole)?;
    changed["objective"]["command"] = json!(["/usr/bin/touch", mark]);
    fs::replace(&path, &serde_json::to_vec_pretty(&changed)?)?;
    let programs = [
        ("trainer", "run", vec!["--once"]),
        ("scheduler", "run", vec!["--once"]),
        ("sampler", "run", vec!["--once"]),
        ("scheduler", "status", vec![]),
        ("analyzer", "incumbent", vec![]),
    ];
    for (name, verb, arguments) in &programs {
        let said = refused(&test.on(name, verb, arguments)?, 3);
        assert!(said.contains("search.json` was changed"), "{name}: {said}");
    }
    let job = fs::list(&ours.path(layout::OPEN))?;
    let job = ours.path(layout::OPEN).join(&job[0]);
    refused(
        &test.output("trainer", &["job", &job.to_string_lossy()])?,
        3,
    );
    // The record of `init` taken away does not help.
    let created = ours.path(layout::CREATED);
    let record = fs::read(&created)?;
    fs::remove(&created)?;
    for (name, verb, arguments) in &programs {
        let said = refused(&test.on(name, verb, arguments)?, 3);
        assert!(said.contains("created.json"), "{name}: {said}");
    }
    assert!(!fs::is_there(&mark)?, "the command has run");
    // Put back, all is well.
    fs::replace(&path, &whole)?;
    fs::replace(&created, &record)?;
    refused(&test.on("trainer", "run", &["--once"])?, 0);
    Ok(())
}

#[test]
fn a_directory_without_the_record_of_init_gets_it_by_another_init() -> Result<()> {
    let mut search = counting_ones("hyperband", 1);
    search["objective"] = json!({ "command": ["/bin/true"] });
    let test = TestSearch::new(&search)?;
    fs::remove(&test.root().join(layout::CREATED))?;
    refused(&test.on("scheduler", "status", &[])?, 3);
    let file = test.beside("search.json").to_string_lossy().into_owned();
    let root = test.root().to_string_lossy().into_owned();
    refused(&test.output("scheduler", &["init", &file, &root])?, 0);
    refused(&test.on("scheduler", "status", &[])?, 0);
    // Another search does not become this directory's in this way.
    fs::remove(&test.root().join(layout::CREATED))?;
    search["objective"] = json!({ "command": ["/bin/false"] });
    fs::replace(Path::new(&file), &serde_json::to_vec(&search)?)?;
    let said = refused(&test.output("scheduler", &["init", &file, &root])?, 3);
    assert!(said.contains("another search"), "{said}");
    Ok(())
}

#[test]
fn what_records_say_moves_no_cursor() -> Result<()> {
    const EVIL: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\r";
    let mut search = counting_ones("bohb", 2);
    search["name"] = EVIL.into();
    search["trainers"]["max_attempts"] = json!(2);
    let mut test = TestSearch::new(&search)?;
    test.run_to_end(1)?;
    let ours = test.directory()?.layout().clone();
    let change = |path: &Path, change: &dyn Fn(&mut Value)| -> Result<()> {
        let mut record: Value = serde_json::from_slice(&fs::read(path)?)?;
        change(&mut record);
        Ok(fs::replace(path, &serde_json::to_vec(&record)?)?)
    };
    let crashed = ours.result(ConfigurationId(0).job(0));
    change(&crashed, &|record| {
        record["outcome"] = json!({ "kind": "crashed", "message": EVIL });
        record["notes"]["foreign_id"] = EVIL.into();
        record["measures"] = json!({ EVIL: 1.0 });
    })?;
    for name in fs::list(&ours.path(layout::TRAINERS))? {
        change(&ours.path(layout::TRAINERS).join(name), &|record| {
            record["host"] = EVIL.into();
            record["device"] = EVIL.into();
            record["slurm_job"] = EVIL.into();
            record["state"] = json!({ "kind": "waiting" });
        })?;
    }
    change(&ours.configuration(ConfigurationId(1)), &|record| {
        record["origin"]["reason"] = EVIL.into();
        record["origin"]["method"] = EVIL.into();
        record["origin"]["source"] = EVIL.into();
    })?;
    // These are set aside, and the log says why.
    fs::replace(
        &ours.result(ConfigurationId(2).job(0)),
        format!("{{\"format\": \"{EVIL}\"}}").as_bytes(),
    )?;
    fs::replace(&ours.path("results/000").join(format!("{EVIL}.json")), b"x")?;
    fs::remove(&ours.path(layout::FINISHED))?;
    let report = test.beside("report.html").to_string_lossy().into_owned();
    for (name, verb, arguments) in [
        ("scheduler", "status", vec![]),
        ("scheduler", "plan", vec![]),
        ("sampler", "explain", vec!["c000001"]),
        ("sampler", "replay", vec![]),
        ("sampler", "propose", vec![]),
        ("analyzer", "incumbent", vec![]),
        ("analyzer", "correlation", vec![]),
        ("analyzer", "trajectory", vec![]),
        ("analyzer", "importance", vec![]),
        ("analyzer", "report", vec!["--out", &report]),
        ("scheduler", "run", vec!["--once"]),
    ] {
        let output = test.on(name, verb, &arguments)?;
        for bytes in [&output.stdout, &output.stderr] {
            let text = String::from_utf8_lossy(bytes);
            let is_plain = |c: char| matches!(c, '\n' | '\t') || !c.is_control();
            assert!(text.chars().all(is_plain), "{name} {verb}: {text:?}");
        }
    }
    let report = String::from_utf8(fs::read(Path::new(&report))?)?;
    assert!(!report.contains('\u{1b}'), "raw in the report");
    Ok(())
}

/// Whether each file and folder below has no permission that the umask takes, and none for everybody to write.
fn check_permissions(folder: &Path, umask: u32) -> Result<usize> {
    let mut num = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let metadata = path.symlink_metadata()?;
        let mode = metadata.permissions().mode() & 0o777;
        let all = if metadata.is_dir() { 0o775 } else { 0o664 };
        // A folder for this user alone may be stricter, as temporary ones are.
        ensure!(
            mode & umask == 0 && mode & 0o002 == 0,
            "`{}` has mode {mode:o} with umask {umask:o}",
            path.display()
        );
        ensure!(
            mode == all & !umask,
            "`{}` has mode {mode:o}, not {:o}, with umask {umask:o}",
            path.display(),
            all & !umask
        );
        num += 1;
        if metadata.is_dir() {
            num += check_permissions(&path, umask)?;
        }
    }
    Ok(num)
}

#[test]
fn everything_follows_the_umask_and_nothing_is_for_everybody_to_write() -> Result<()> {
    let script = "import json, os, sys\njob = json.load(open(sys.argv[-1]))\nprint('said')\n\
                  json.dump({'loss': 0.5}, open(job['result'], 'w'))\n";
    for umask in [0o077, 0o027, 0o022, 0o002, 0o000] {
        for is_command in [false, true] {
            let folder = tempfile::tempdir()?;
            let mut search = counting_ones("bohb", 1);
            if is_command {
                let path = folder.path().join("train.py");
                fs::replace(&path, script.as_bytes())?;
                search["objective"] = json!({ "command": ["python3", path] });
            } else {
                search["objective"]["seconds_per_unit"] = json!(0.01);
                search["trainers"]["checkpoint_s"] = json!(0.01);
            }
            let file = folder.path().join("search.json");
            fs::replace(&file, &serde_json::to_vec(&search)?)?;
            let directory = folder.path().join("directory");
            let report = directory.join("report.html");
            let script = format!(
                "umask {umask:03o} && {scheduler} local {file} {directory} --trainers 2 && \
                 {analyzer} report {directory} --out {report}",
                scheduler = program("scheduler").display(),
                analyzer = program("analyzer").display(),
                file = file.display(),
                directory = directory.display(),
                report = report.display(),
            );
            let output = Command::new("sh").args(["-c", &script]).output()?;
            refused(&output, 0);
            let num = check_permissions(&directory, umask)?;
            ensure!(num > 100, "only {num} files and folders");
        }
    }
    Ok(())
}

#[test]
fn pipes_devices_and_huge_files_in_place_of_records_stop_nobody() -> Result<()> {
    let search = counting_ones("hyperband", 4);
    let expected = undisturbed(&search)?;
    let mut test = TestSearch::new(&search)?;
    let ours = test.directory()?.layout().clone();
    fs::make_folder(&ours.path("results/000"))?;
    fs::make_folder(&ours.path("requests/000"))?;
    fs::make_folder(&ours.path("configurations/000"))?;
    for name in [
        "jobs/open/c000000-r0-a1.json",
        "jobs/claimed/c000001-r0-a3.host-1-x.json",
        "results/000/c000002-r0.json",
        "configurations/000/c000003.json",
        "trainers/host-1-x.json",
        "late/pipe",
    ] {
        mknodat(
            CWD,
            ours.path(name),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )?;
    }
    // As large as a file may be, and without a byte on the disk.
    for name in [
        "jobs/open/c000004-r0-a2.json",
        "results/000/c000005-r0.json",
        "trainers/host-2-x.json",
    ] {
        let file = fs::open_log(&ours.path(name))?;
        file.set_len(1 << 42)?;
    }
    for id in 0..3 {
        // A folder is no file either.
        fs::make_folder(&ours.path(&format!("trainers/host-{id}-y.json")))?;
    }
    test.run_to_end(1)?;
    assert_eq!(losses(&test.check_finished()?), expected);
    let aside = fs::list(&ours.path(layout::ASIDE))?;
    let pipes = aside.iter().filter(|name| {
        let metadata = ours.path(layout::ASIDE).join(name).symlink_metadata();
        metadata.is_ok_and(|metadata| metadata.file_type().is_fifo())
    });
    assert!(pipes.count() >= 3, "{aside:?}");
    Ok(())
}

#[test]
fn a_checkpoint_larger_than_memory_is_left_alone() -> Result<()> {
    let mut search = counting_ones("hyperband", 1);
    search["objective"]["seconds_per_unit"] = json!(0.001);
    let expected = undisturbed(&search)?;
    let mut test = TestSearch::new(&search)?;
    let ours = test.directory()?.layout().clone();
    for id in 0..9 {
        let name = format!("checkpoints/000/c00000{id}/c00000{id}-r0-a1.host-1-x.checkpoint");
        fs::open_log(&ours.path(&name))?.set_len(1 << 42)?;
    }
    test.run_to_end(1)?;
    assert_eq!(losses(&test.check_finished()?), expected);
    assert!(test.all_logs()?.contains("cannot use checkpoint"));
    Ok(())
}
