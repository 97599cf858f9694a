//! `scheduler doctor` on this machine.

use super::*;

#[test]
fn the_doctor_finds_a_local_disk_usable_and_a_read_only_folder_not() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    let output = run(&["doctor", root]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for line in [
        "good  200 races of 4 processes of this host for one rename: 200 winners",
        "good  200 races of 4 processes of this host for one new name: 200 winners",
        "good  a name that is taken cannot be taken again",
        "usable: searches may run here",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(!said.contains("BAD"), "{said}");
    // It cleans up.
    assert_eq!(fs::list(folder.path()).unwrap(), [""; 0]);
    let output = run(&["doctor", root, "--peer", "--wait-s", "0.1"]);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(
        text(&output.stdout).contains("BAD   no other host"),
        "{output:?}"
    );
    let output = run(&["doctor", "/proc"]);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    // A device is asked for by the trainer's name of it.
    let output = run(&["doctor", root, "--device", "abacus"]);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let said = text(&output.stdout);
    let expected = "BAD   no trainer computes on this device: ";
    assert!(said.contains(expected) && said.contains("abacus"), "{said}");
    let output = run(&["doctor", root, "--device", "cpu"]);
    let said = text(&output.stdout);
    assert!(
        output.status.success() && said.contains("good  cpu: "),
        "{said}"
    );
}

#[test]
fn two_doctors_on_one_machine_find_each_other_and_both_call_it_usable() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    let start = || {
        let mut doctor = scheduler();
        doctor.args(["doctor", root, "--peer", "--wait-s", "100"]);
        doctor.stdout(Stdio::piped()).spawn().unwrap()
    };
    let both = [start(), start()];
    let outputs = both.map(|doctor| doctor.wait_with_output().unwrap());
    for output in &outputs {
        let said = text(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        for line in [
            "good  the other process is ",
            "good  a file that is being replaced was always whole",
            "good  200 races of the two hosts for one new name: 200 winners",
            "note  both processes ran on this host, which says nothing about two",
            "usable: searches may run here",
        ] {
            assert!(said.contains(line), "{line}: {said}");
        }
        assert!(!said.contains("BAD"), "{said}");
    }
    let leaders = outputs
        .iter()
        .filter(|output| text(&output.stdout).contains("; this one leads"));
    assert_eq!(leaders.count(), 1);
}

/// Shows itself to a doctor that waits for another host, comes to their common folder or not, and is not heard of again.
fn show_up_as(name: &str, doctor: &Path, comes: bool) {
    let mut beat = 0;
    wait_until("the doctor has met the other host", || {
        beat += 1;
        let shown = format!("{beat}");
        fs::replace(&doctor.join("meeting").join(name), shown.as_bytes()).unwrap();
        let tables = fs::list(doctor).unwrap();
        let Some(table) = tables.iter().find(|table| table.contains('+')) else {
            return false;
        };
        let here = doctor.join(table).join(format!("here.{name}"));
        !comes || fs::publish_new(&here, b"").is_ok()
    });
}

#[test]
fn the_doctor_calls_a_filesystem_unusable_when_the_other_host_falls_silent() {
    for (name, comes, awaited) in [
        ("0", true, "`list-answer-1`"),
        ("zzz", true, "`list-answer-1`"),
        ("zzz", false, "`here.zzz`"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut doctor = scheduler();
        doctor.args(["doctor", folder.path().to_str().unwrap()]);
        doctor.args(["--peer", "--wait-s", "8"]);
        let doctor = doctor.stdout(Stdio::piped()).spawn().unwrap();
        show_up_as(name, &folder.path().join("doctor"), comes);
        let output = doctor.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        let said = text(&output.stdout);
        let complaint = format!(
            "BAD   the other host ({name}) has shown itself, and then nothing more for 8 s ({awaited} was awaited)"
        );
        assert!(said.contains(&complaint), "{said}");
        assert!(said.contains("NOT USABLE"), "{said}");
        // Only what the other host would have removed itself is left.
        let left = folder.path().join("doctor/meeting");
        assert_eq!(fs::list(folder.path()).unwrap(), ["doctor"]);
        assert_eq!(
            fs::list(&folder.path().join("doctor")).unwrap(),
            ["meeting"]
        );
        assert_eq!(fs::list(&left).unwrap(), [name]);
    }
}

#[test]
fn the_doctor_calls_a_filesystem_unusable_on_which_operations_fail() {
    for (faults, complaint) in [
        ("eio=1", "Input/output error"),
        ("enospc=1", "No space left on device"),
        ("estale=1", "Stale file handle"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = scheduler()
            .args(["doctor", folder.path().to_str().unwrap()])
            .env("TANDEM_FAULTS", faults)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(5), "{faults}: {output:?}");
        let said = text(&output.stdout);
        assert!(
            said.contains("BAD ") && said.contains(complaint),
            "{faults}: {said}"
        );
        assert!(
            said.ends_with("NOT USABLE: see the lines marked BAD\n"),
            "{said}"
        );
        assert!(
            fs::list(folder.path()).unwrap().is_empty(),
            "nothing is left"
        );
    }
}

#[test]
fn the_doctor_writes_nothing_behind_a_link() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("doctor")).unwrap();
    fs::replace(&elsewhere.path().join("precious"), b"").unwrap();
    let output = scheduler()
        .args(["doctor", folder.path().to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(text(&output.stdout).contains("link"), "{output:?}");
    assert_eq!(fs::list(elsewhere.path()).unwrap(), ["precious"]);
    assert_eq!(fs::list(folder.path()).unwrap(), ["doctor"]);
}
