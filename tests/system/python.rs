//! A search as somebody runs it who has a script in Python: without a change to it, with the module, and what the module
//! reads of it afterwards.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use harness::{program, repository, skip};
use serde_json::{Value, json};
use shared::fs;

/// A script as there are many; the loss is a function, so that nothing but Python is needed.
const SCRIPT: &str = r#"
import argparse, math
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int)
parser.add_argument("--lr", type=float)
parser.add_argument("--momentum", type=float, default=0.5)
args = parser.parse_args()
for epoch in range(1, args.epochs + 1):
    distance = abs(math.log10(args.lr) + 2) + abs(args.momentum - 0.9)
    print(f"epoch {epoch}: accuracy: {math.exp(-distance) * (1 - 0.5 ** epoch):.6f}")
"#;

fn search(command: &Value) -> Value {
    json!({
        "name": "python",
        "space": { "hyperparameters": [
            { "name": "learning_rate", "type": "float", "lower": 1e-4, "upper": 1, "log": true },
            { "name": "optimizer", "type": "categorical", "choices": ["sgd", "adam"] },
            { "name": "momentum", "type": "float", "lower": 0, "upper": 0.99,
              "active_when": { "hyperparameter": "optimizer", "in": ["sgd"] } },
        ] },
        "objective": { "command": command },
        "budget": { "unit": "epochs", "min": 1, "max": 9 },
        "limit": { "brackets": 2 },
        "method": "random",
        "trainers": { "heartbeat_s": 0.2, "lease_s": 5.0 },
    })
}

fn adapted() -> Value {
    json!([
        "tandem-run",
        "--metric",
        r"accuracy: (\d+\.\d+)",
        "--maximise",
        "python3",
        "train.py",
        "--epochs",
        "{budget}",
        "--lr",
        "{learning_rate}",
        "--momentum",
        "{momentum}",
    ])
}

fn scheduler(folder: &Path, words: &[&str]) -> Result<Output> {
    let mut command = Command::new(program("scheduler"));
    Ok(command.args(words).current_dir(folder).output()?)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder with the script and a search of it; `None` without Python.
fn folder(command: &Value, script: &str) -> Result<Option<tempfile::TempDir>> {
    if !Command::new("python3")
        .arg("-V")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        skip("no python3");
        return Ok(None);
    }
    let folder = tempfile::tempdir()?;
    fs::replace(&folder.path().join("train.py"), script.as_bytes())?;
    fs::replace(
        &folder.path().join("search.json"),
        search(command).to_string().as_bytes(),
    )?;
    Ok(Some(folder))
}

/// What the module says, as JSON.
fn module(folder: &Path, expression: &str) -> Result<Value> {
    let script = format!("import json, tandem; print(json.dumps({expression}))");
    let output = Command::new("python3")
        .args(["-W", "error", "-c", &script])
        .env("PYTHONPATH", repository("trainer/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(folder)
        .output()?;
    ensure!(output.status.success(), "{}", said(&output));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn analyzer(folder: &Path, words: &[&str]) -> Result<String> {
    let output = Command::new(program("analyzer"))
        .args(words)
        .current_dir(folder)
        .output()?;
    ensure!(output.status.success(), "{}", said(&output));
    Ok(String::from_utf8(output.stdout)?)
}

/// The rows of `analyzer export csv` by job, without empty fields.
fn exported(folder: &Path) -> Result<BTreeMap<String, BTreeMap<String, String>>> {
    let text = analyzer(folder, &["export", "csv", "dir"])?;
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().context("no header")?.split(',').collect();
    let row = |line: &str| {
        let fields = header.iter().zip(line.split(','));
        let fields = fields.filter(|(_, value)| !value.is_empty());
        fields
            .map(|(name, value)| ((*name).to_owned(), value.to_owned()))
            .collect::<BTreeMap<_, _>>()
    };
    Ok(lines
        .map(|line| {
            (
                line.split(',').next().unwrap_or_default().to_owned(),
                row(line),
            )
        })
        .collect())
}

/// Compares what the module reads with what the analyzer exports, field by field.
fn check_rows(folder: &Path) -> Result<usize> {
    let rows = module(folder, "tandem.results('dir')")?;
    let exported = exported(folder)?;
    let rows = rows.as_array().context("no list")?;
    ensure!(
        rows.len() == exported.len(),
        "{} rows, {} exported",
        rows.len(),
        exported.len()
    );
    for row in rows {
        let row = row.as_object().context("no object")?;
        let job = row["job"].as_str().context("no job")?;
        let other = &exported[job];
        for (name, value) in row.iter().filter(|(_, value)| !value.is_null()) {
            let expected = other
                .get(name)
                .with_context(|| format!("{job}: no `{name}` in {other:?}"))?;
            let is_same = match value {
                Value::Number(number) => {
                    let (a, b): (f64, f64) =
                        (number.as_f64().unwrap_or(f64::NAN), expected.parse()?);
                    (a - b).abs() <= 1e-6 * b.abs().max(1.0)
                }
                Value::String(text) => text == expected,
                other => other.as_bool().is_some_and(|b| *expected == b.to_string()),
            };
            ensure!(is_same, "{job}, {name}: {value}, exported {expected}");
        }
        for name in other
            .keys()
            .filter(|name| name.starts_with("values.") || *name == "loss")
        {
            ensure!(
                row.get(name).is_some_and(|value| !value.is_null()),
                "{job} has no {name}: {row:?}"
            );
        }
    }
    Ok(rows.len())
}

#[test]
fn a_script_that_was_not_changed_is_searched_and_its_results_are_read_in_python() -> Result<()> {
    let Some(folder) = folder(&adapted(), SCRIPT)? else {
        return Ok(());
    };
    let folder = folder.path();
    let ran = scheduler(folder, &["local", "search.json", "dir", "--trainers", "2"])?;
    ensure!(ran.status.success(), "{}", said(&ran));
    ensure!(
        said(&ran).contains("`optimizer` stands nowhere in the command"),
        "{}",
        said(&ran)
    );
    ensure!(check_rows(folder)? > 10, "too few results");
    let best = module(folder, "tandem.incumbent('dir')")?;
    let json = analyzer(folder, &["incumbent", "dir", "--format", "json"])?;
    let other: Value = serde_json::from_str(&json)?;
    for name in [
        "configuration",
        "job",
        "budget",
        "unit",
        "loss",
        "bracket",
        "values",
        "measures",
    ] {
        ensure!(best[name] == other[name], "{name}: {best}, {other}");
    }
    ensure!(
        best["budget"] == 9.0 && best["curve"].as_array().map(Vec::len) == Some(9),
        "{best}"
    );
    // The loss is what the script has printed last, turned.
    let rows = module(folder, "tandem.results('dir')")?;
    for row in rows.as_array().context("no list")? {
        let (rate, momentum) = (
            row["values.learning_rate"].as_f64(),
            row["values.momentum"].as_f64(),
        );
        let rate = rate.context("no rate")?;
        let distance = (rate.log10() + 2.0).abs() + (momentum.unwrap_or(0.5) - 0.9).abs();
        let budget = row["budget"].as_f64().context("no budget")?;
        let accuracy = (-distance).exp() * (1.0 - 0.5_f64.powf(budget));
        let loss = row["loss"].as_f64().context("no loss")?;
        ensure!((loss + accuracy).abs() < 1e-6, "{row}");
    }
    Ok(())
}

#[test]
fn rows_in_python_are_those_of_the_last_outcome_where_jobs_were_done_again() -> Result<()> {
    let broken = format!(
        "import os, sys\nif not os.path.exists('mended') and os.environ['TANDEM_JOB'].count('c000001'): sys.exit(1)\n{SCRIPT}"
    );
    let Some(folder) = folder(&adapted(), &broken)? else {
        return Ok(());
    };
    let folder = folder.path();
    let ran = scheduler(folder, &["local", "search.json", "dir", "--trainers", "1"])?;
    ensure!(ran.status.success(), "{}", said(&ran));
    let outcome =
        "[r['outcome'] for r in tandem.results('dir') if r['configuration'] == 'c000001']";
    ensure!(
        module(folder, outcome)? == json!(["crashed"]),
        "{}",
        module(folder, outcome)?
    );
    check_rows(folder)?;
    fs::replace(&folder.join("mended"), b"")?;
    let again = scheduler(folder, &["retry", "dir", "--crashed"])?;
    ensure!(again.status.success(), "{}", said(&again));
    let ran = scheduler(folder, &["local", "search.json", "dir", "--trainers", "1"])?;
    ensure!(ran.status.success(), "{}", said(&ran));
    let outcomes = module(folder, outcome)?;
    ensure!(outcomes[0] == "evaluated", "{outcomes}");
    check_rows(folder)?;
    Ok(())
}

/// What `scheduler init` says of a command for `tandem-run` with these arguments: exit code, words, whether it made the
/// directory; `None` without Python.
fn init(arguments: &[&str]) -> Result<Option<(Option<i32>, String, bool)>> {
    let command = [&["tandem-run", "--metric"], arguments].concat();
    let Some(folder) = folder(&json!(command), SCRIPT)? else {
        return Ok(None);
    };
    let output = scheduler(folder.path(), &["init", "search.json", "dir"])?;
    let is_there = folder.path().join("dir").exists();
    Ok(Some((output.status.code(), said(&output), is_there)))
}

#[test]
fn a_command_with_mistakes_is_refused_before_anything_runs() -> Result<()> {
    let no_number = ["accuracy: .*", "python3", "train.py"];
    let unknown = [
        "a: (.*)",
        "python3",
        "train.py",
        "{budgte}",
        "{learning_rat}",
    ];
    let places = [
        "search.json",
        "objective.command[5]",
        "`budget` meant",
        "objective.command[6]",
        "`learning_rate` meant",
    ];
    for (arguments, complaints) in [(&no_number[..], &["parentheses"][..]), (&unknown, &places)] {
        let Some((code, words, is_there)) = init(arguments)? else {
            return Ok(());
        };
        ensure!(code == Some(3) && !is_there, "{code:?}, {words}");
        for complaint in complaints {
            ensure!(words.contains(complaint), "{complaint}: {words}");
        }
    }
    let Some((code, words, is_there)) = init(&["a: (.*)", "python3", "no.py", "{learning_rate}"])?
    else {
        return Ok(());
    };
    ensure!(code == Some(0) && is_there, "{code:?}, {words}");
    for doubt in [
        "script `no.py`",
        "`momentum` stands nowhere",
        "`optimizer` stands nowhere",
    ] {
        ensure!(words.contains(doubt), "{doubt}: {words}");
    }
    ensure!(
        !words.contains("in no folder"),
        "tandem-run lies beside: {words}"
    );
    Ok(())
}

#[test]
fn a_folder_that_is_no_search_and_records_that_are_none_are_named_in_python() -> Result<()> {
    let Some(folder) = folder(&adapted(), SCRIPT)? else {
        return Ok(());
    };
    let folder = folder.path();
    let error = module(folder, "tandem.results('nowhere')").map(|value| value.to_string());
    let error = error.err().context("it was read")?.to_string();
    ensure!(
        error.contains("`nowhere` is no search directory"),
        "{error}"
    );
    let made = scheduler(folder, &["init", "search.json", "dir"])?;
    ensure!(made.status.success(), "{}", said(&made));
    ensure!(
        module(folder, "tandem.results('dir')")? == json!([]),
        "no results yet"
    );
    ensure!(
        module(folder, "tandem.incumbent('dir')")? == Value::Null,
        "no incumbent yet"
    );
    let shard = folder.join("dir/results/000");
    fs::make_folder(&shard)?;
    fs::replace(&shard.join("c000001-r0.json"), b"{\"format\": \"result\"")?;
    let error = module(folder, "tandem.results('dir')").map(|value| value.to_string());
    let error = error.err().context("it was read")?.to_string();
    ensure!(error.contains("c000001-r0.json` is left out"), "{error}");
    fs::replace(
        &shard.join("c000001-r0.json"),
        b"{\"format\": \"result\", \"version\": [4, 0]}",
    )?;
    let error = module(folder, "tandem.results('dir')").map(|value| value.to_string());
    let error = error.err().context("it was read")?.to_string();
    ensure!(error.contains("newer version"), "{error}");
    Ok(())
}
