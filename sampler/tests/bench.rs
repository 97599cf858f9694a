//! `sampler bench` from outside: what it refuses, in which words, and what it prints where there is little to compare.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const SPACE: &str = r#"{"format":"space","version":[1,0],"hyperparameters":[
    {"name":"x","type":"float","lower":0,"upper":1},{"name":"y","type":"float","lower":0,"upper":1}]}"#;

fn bench(folder: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sampler"))
        .arg("bench")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A pool of 40 trainings, with its space beside it.
fn put_pool(folder: &Path, name: &str, budgets: [u32; 3], is_timed: bool) {
    let [low, middle, top] = budgets;
    let (head, time) = if is_timed {
        (",seconds", ",2")
    } else {
        ("", "")
    };
    let mut text = format!("x,y,loss_{low},loss_{middle},loss_{top}{head}\n");
    for i in 0..40 {
        let (x, y) = (f64::from(i % 8) / 7.0, f64::from(i / 8) / 4.0);
        let (first, second, last) = (x + y + 1.0, x + y + 0.5, x + y);
        writeln!(text, "{x},{y},{first},{second},{last}{time}").unwrap();
    }
    let space = folder.join(format!("{name}.space.json"));
    shared::fs::replace(&folder.join(format!("{name}.csv")), text.as_bytes()).unwrap();
    shared::fs::replace(&space, SPACE.as_bytes()).unwrap();
}

/// Arguments, exit code, and words that say what is wrong and what to write.
const REFUSED: [(&str, i32, &[&str]); 18] = [
    (
        "--pool a.csv --method random --max-budget 27",
        2,
        &["`--max-budget 27`", "`a.csv` is 9"],
    ),
    (
        "--pool late.csv --method random --min-budget 3",
        2,
        &["`late.csv` is 20", "`--min-budget 10` or more"],
    ),
    (
        "--benchmark branin --method random --min-budget 9 --max-budget 3",
        2,
        &[
            "`branin` is 9 and the largest 3",
            "`--min-budget 3` or less",
        ],
    ),
    // Two dimensions, as here, but others; and four.
    (
        "--benchmark branin --method tandem --learn-from counting-ones-1",
        2,
        &["`--learn-from counting-ones-1`", "`branin`", "`cat_0`"],
    ),
    (
        "--benchmark branin --method tandem --learn-from counting-ones-2",
        2,
        &["`--learn-from counting-ones-2`", "`branin`", "`cat_0`"],
    ),
    (
        "--benchmark branin --method tandem --learn-from a.csv",
        2,
        &["`--learn-from a.csv`", "`branin`", "`x1`"],
    ),
    (
        "--pool a.csv --method tandem --learn-from late.csv --max-budget 9",
        2,
        &["`late.csv` is 20", "`--max-budget 10` or more"],
    ),
    (
        "--benchmark branin --method random --total nan",
        2,
        &["a number above 0"],
    ),
    (
        "--benchmark branin --method random --total 0",
        2,
        &["a number above 0"],
    ),
    (
        "--benchmark branin --method random --total=-1",
        2,
        &["a number above 0"],
    ),
    (
        "--benchmark branin --method random --total inf",
        2,
        &["a number above 0"],
    ),
    (
        "--benchmark branin --method tandem --learn-from branin --learn-total nan",
        2,
        &["a number above 0"],
    ),
    (
        "--benchmark branin --method random --rivals nowhere",
        3,
        &["`--rivals`", "`nowhere`"],
    ),
    (
        "--pool timed.csv --method random,bohb --cost-aware",
        2,
        &["`tandem`", "`random,bohb`"],
    ),
    (
        "--pool timed.csv,a.csv --method tandem --cost-aware",
        2,
        &["`seconds`", "`a.csv`"],
    ),
    (
        "--benchmark branin --pool timed.csv --method tandem --cost-aware",
        2,
        &["`seconds`", "`branin`"],
    ),
    (
        "--benchmark branin --method tandem-faithful",
        2,
        &["`tandem-faithful`", "`tandem` or `bohb-faithful`"],
    ),
    (
        "--pool a.csv,other/a.csv --method random --out out",
        2,
        &["`a.csv` and `other/a.csv`"],
    ),
];

fn put_pools(folder: &Path) {
    put_pool(folder, "a", [1, 3, 9], false);
    put_pool(folder, "timed", [1, 3, 9], true);
    put_pool(folder, "late", [20, 30, 90], false);
    put_pool(&folder.join("other"), "a", [1, 3, 9], false);
}

#[test]
fn what_cannot_be_compared_is_refused_with_what_to_write() {
    let folder = tempfile::tempdir().unwrap();
    put_pools(folder.path());
    for (arguments, code, words) in REFUSED {
        let refused = bench(folder.path(), arguments);
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(code), "{arguments}: {text}");
        for part in words {
            assert!(text.contains(part), "{arguments}: {part}: {text}");
        }
    }
}

#[test]
fn what_is_like_it_is_run() {
    let folder = tempfile::tempdir().unwrap();
    put_pools(folder.path());
    for arguments in [
        "--pool a.csv --method tandem --learn-from other/a.csv --min-budget 3 --max-budget 9",
        "--pool timed.csv --method random,tandem --cost-aware",
        "--pool a.csv,other/a.csv --method bohb-faithful",
        "--pool late.csv --method hyperband",
    ] {
        let run = bench(
            folder.path(),
            &format!("{arguments} --seeds 0..2 --total 2"),
        );
        assert!(stdout(&run).contains("mean true regret"), "{arguments}");
    }
}

#[test]
fn where_nothing_is_asked_about_there_are_no_numbers() {
    let folder = tempfile::tempdir().unwrap();
    put_pools(folder.path());
    let arguments = "--pool a.csv --coverage 0.8 --ended 4,1000 --seeds 0..2";
    let text = stdout(&bench(folder.path(), arguments));
    let cells = |count: &str| -> Vec<String> {
        let mut lines = text.lines().map(|line| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<String>>()
        });
        let found = lines.find(|cells| cells.get(1).is_some_and(|cell| cell == count));
        found.unwrap()
    };
    assert_eq!(cells("1000"), ["a", "1000", "-", "-", "-", "-", "-"]);
    assert!(cells("4").contains(&"±".to_owned()), "{text}");
}

#[test]
fn ratios_to_a_rival_without_regret_are_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let curve = "eval,budget,loss,true_regret,cum_restart,cum_cont\n0,100,0.4,0,8,8\n";
    let path = folder.path().join("rivals/branin__tool__0.csv");
    shared::fs::replace(&path, curve.as_bytes()).unwrap();
    let arguments = "--benchmark branin --method random --seeds 0..2 --total 8 --rivals rivals";
    let text = stdout(&bench(folder.path(), arguments));
    assert!(text.contains("each from 0.01 to 100: 100.0"), "{text}");
    assert!(!text.contains("inf") && !text.contains("NaN"), "{text}");
}
