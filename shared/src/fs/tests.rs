use std::os::unix::fs::PermissionsExt as _;
use std::sync::Barrier;

use super::*;

#[test]
fn of_many_publishers_exactly_one_wins_and_its_content_stays() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..50 {
        let path = folder.path().join(format!("shard/{round}.json"));
        let barrier = Barrier::new(8);
        let wins: Vec<Option<u8>> = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..8u8)
                .map(|i| {
                    let (path, barrier) = (&path, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        (publish_new(path, &[i; 1000]).unwrap() == Published::New).then_some(i)
                    })
                })
                .collect();
            handles
                .into_iter()
                .map(|handle| handle.join().unwrap())
                .collect()
        });
        let winners: Vec<u8> = wins.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1);
        assert_eq!(read(&path).unwrap(), [winners[0]; 1000]);
    }
    assert_eq!(drafts(&folder.path().join("shard")).unwrap(), []);
}

#[test]
fn of_many_movers_exactly_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..50 {
        let from = folder.path().join(format!("{round}"));
        publish_new(&from, b"x").unwrap();
        let barrier = Barrier::new(8);
        let wins: usize = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..8)
                .map(|i| {
                    let (from, barrier) = (&from, &barrier);
                    let to = folder.path().join(format!("{round}.{i}"));
                    scope.spawn(move || {
                        barrier.wait();
                        usize::from(move_to(from, &to).unwrap() == Moved::Done)
                    })
                })
                .collect();
            handles
                .into_iter()
                .map(|handle| handle.join().unwrap())
                .sum()
        });
        assert_eq!(wins, 1);
    }
}

#[test]
fn readers_of_a_replaced_file_see_whole_versions_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("beat.json");
    replace(&path, &[0; 5000]).unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            for _ in 0..2000 {
                let bytes = read(&path).unwrap();
                assert_eq!(bytes.len(), 5000);
                assert!(bytes.iter().all(|byte| *byte == bytes[0]));
            }
        });
        for version in 1..=100 {
            replace(&path, &[version; 5000]).unwrap();
        }
        reader.join().unwrap();
    });
}

#[test]
fn files_and_folders_are_never_world_writable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/c.json");
    publish_new(&path, b"x").unwrap();
    for path in [path.as_path(), path.parent().unwrap()] {
        assert_eq!(
            std::fs::metadata(path).unwrap().permissions().mode() & 0o002,
            0
        );
    }
}

#[test]
fn what_is_no_file_is_said_to_be_none_and_never_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    make_folder(&path("folder")).unwrap();
    std::os::unix::fs::symlink("loop", path("loop")).unwrap();
    let pipe = path("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert!(list(&pipe).is_err());
    for name in ["folder", "loop", "pipe"] {
        assert!(is_there(&path(name)).unwrap(), "{name}");
        let error = read_if_there(&path(name)).unwrap_err();
        assert!(error.is_bad_file(), "{name}: {error}");
    }
}

#[test]
fn the_time_of_a_folder_is_that_of_its_newest_file_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    publish_new(&path, b"x").unwrap();
    let written = written_s(&path).unwrap().unwrap();
    let now = now_s(folder.path()).unwrap();
    assert!((0.0..600.0).contains(&(now - written)), "{now} {written}");
    assert_eq!(drafts(folder.path()).unwrap(), []);
    assert!(now_s(&folder.path().join("gone")).is_err());
}

#[test]
fn what_is_gone_is_a_normal_answer() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone");
    assert_eq!(
        move_to(&gone, &folder.path().join("there")).unwrap(),
        Moved::Gone
    );
    assert!(!remove(&gone).unwrap());
    assert!(!is_there(&gone).unwrap());
    assert_eq!(read_if_there(&gone).unwrap(), None);
    assert_eq!(list(&gone).unwrap(), Vec::<String>::new());
    assert!(read(&gone).unwrap_err().to_string().contains("gone"));
}

#[test]
fn listings_leave_out_drafts_and_nfs_leftovers() {
    let folder = tempfile::tempdir().unwrap();
    for name in [".draft-x-1", ".nfs000", "b.json", "a.json"] {
        File::create_new(folder.path().join(name)).unwrap();
    }
    assert_eq!(list(folder.path()).unwrap(), ["a.json", "b.json"]);
}

#[test]
fn what_is_stale_for_a_while_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("beat");
    let start = std::time::Instant::now();
    let read = retried(&path, || {
        if start.elapsed() < Duration::from_secs(1) {
            return Err(Errno::STALE.into());
        }
        Ok(7)
    });
    assert_eq!(read.unwrap(), 7);
}

#[test]
fn only_what_may_pass_is_tried_again_and_not_for_ever() {
    let pause = |errno: Errno, waited| pause_before_retry(&errno.into(), waited);
    let mut waited = Duration::ZERO;
    let mut tries = 0;
    while let Some(pause) = pause(Errno::STALE, waited) {
        waited += pause;
        tries += 1;
    }
    assert!(
        waited >= LONGEST_STALENESS && waited < 2 * LONGEST_STALENESS,
        "{waited:?}"
    );
    assert!(tries < 100, "{tries}");
    assert!(pause(Errno::INTR, Duration::ZERO).is_some());
    for errno in [Errno::IO, Errno::NOSPC, Errno::NOENT, Errno::EXIST] {
        assert_eq!(pause(errno, Duration::ZERO), None, "{errno}");
    }
}
