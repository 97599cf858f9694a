//! The files that people write: started by `new`, described by `schema`, judged by `init`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

fn scheduler(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scheduler"));
    command.args(arguments).env("TANDEM_LOG", "warn");
    command.stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What `init` says on stdout and stderr about a search file, and its exit code.
fn init(folder: &Path, name: &str, search: &Value) -> (Option<i32>, String, String) {
    let path = folder.join(format!("{name}.json"));
    shared::fs::replace(&path, search.to_string().as_bytes()).unwrap();
    let directory = folder.join(name);
    let output = scheduler(&["init", path.to_str().unwrap(), directory.to_str().unwrap()]);
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn search(space: &Value) -> Value {
    json!({
        "name": "a search", "space": space, "objective": { "benchmark": "branin" },
        "budget": { "unit": "epochs", "min": 1, "max": 27 }, "limit": { "brackets": 4 },
    })
}

fn pairs(upper: u32) -> Value {
    json!({
        "hyperparameters": [
            { "name": "i", "type": "integer", "lower": 1, "upper": upper },
            { "name": "j", "type": "integer", "lower": 1, "upper": upper },
        ],
        "forbidden": [{ "i": { "min": 11 } }, { "j": { "min": 11 } }],
    })
}

#[test]
fn all_mistakes_are_said_at_once_with_what_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, said) = init(
        folder.path(),
        "wrong",
        &json!({
            "name": "a search", "colour": "red",
            "space": { "hyperparameters": [
                { "name": "rate", "type": "float", "lower": "1e-4", "upper": 1, "log": true },
                { "name": "units", "type": "integer", "lower": 64, "upper": 8, "log": true },
                { "name": "act", "type": "categorical", "choices": ["relu", "tanh", "relu"] },
                { "name": "drop", "type": "float", "lower": 0, "upper": 1, "active_when": { "hyperparameter": "act", "in": ["relu"] } },
                { "name": "size", "type": "ordinal", "sequence": [8, 16], "prior": 12 },
            ], "forbidden": [{ "size": "8" }, { "units": 70 }, { "sizes": 8 }] },
            "objective": { "benchmark": "brannin" },
            "budget": { "unit": "epochs", "min": 10, "max": 9, "eta": 3 },
            "limit": { "configurations": 5 }, "start_with": [{ "size": 8 }],
            "trainers": { "heartbeat_s": 0 }, "bohb": { "top_n_percent": 0 },
        }),
    );
    assert_eq!(code, Some(3));
    insta::assert_snapshot!(said.replace(folder.path().to_str().unwrap(), "FOLDER"));
    assert!(!folder.path().join("wrong").exists());
}

#[test]
fn constraints_that_nothing_can_keep_or_break_are_refused_with_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let space = json!({ "hyperparameters": [{ "name": "initial_filters", "type": "integer", "lower": 1, "upper": 8 }] });
    let mut file = search(&space);
    file["objective"] = json!({ "network": { "data": { "name": "digits" } } });
    file["constraints"] = json!([
        { "measure": "parametres", "max": 5e6 },
        { "measure": "parameters", "min": 5e6, "max": 1e6 },
        { "measure": "multiply_adds" },
        { "measure": "test_error", "max": 0.1 },
        { "measure": "loss", "max": 0.1 },
        { "measure": "parameters", "max": "5e6" },
        { "measure": "parameters", "mx": 5e6, "max": 1 },
    ]);
    let (code, _, said) = init(folder.path(), "wrong", &file);
    assert_eq!(code, Some(3));
    file["constraints"] = json!([
        { "measure": "parametres", "max": 5e6 },
        { "measure": "parameters", "min": 5e6, "max": 1e6 },
        { "measure": "multiply_adds" },
        { "measure": "test_error", "max": 0.1 },
        { "measure": "loss", "max": 0.1 },
        { "measure": "parameters", "max": 1 },
    ]);
    let (code, _, more) = init(folder.path(), "wrong", &file);
    assert_eq!(code, Some(3));
    insta::assert_snapshot!(
        format!("{said}\n{more}").replace(folder.path().to_str().unwrap(), "FOLDER")
    );
    let path = folder.path().join("nan.json");
    let text = file.to_string().replace("0.1", "NaN");
    shared::fs::replace(&path, text.as_bytes()).unwrap();
    let output = scheduler(&[
        "init",
        path.to_str().unwrap(),
        folder.path().join("nan").to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(3));
    // What HpBandSter does not have, its double does not.
    file["constraints"] = json!([{ "measure": "parameters", "max": 5e6 }]);
    file["method"] = json!("bohb");
    let (code, _, said) = init(folder.path(), "right", &file);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    file["bohb"] = json!({ "faithful": true });
    let (code, _, said) = init(folder.path(), "faithful", &file);
    assert_eq!(code, Some(3));
    assert!(said.contains("at `constraints`"), "{said}");
    let schema = text_of_schema();
    assert!(schema["properties"]["constraints"].is_object(), "{schema}");
}

#[test]
fn objectives_that_nobody_measures_are_refused_with_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let space = json!({ "hyperparameters": [{ "name": "initial_filters", "type": "integer", "lower": 1, "upper": 8 }] });
    let mut file = search(&space);
    file["objective"] = json!({ "network": { "data": { "name": "digits" } } });
    let mut said = Vec::new();
    for objectives in [
        json!(["parameters", "loss"]),
        json!(["loss"]),
        json!([
            "loss",
            "parametres",
            "parameters",
            "parameters",
            "test_error"
        ]),
        json!(["loss", 5]),
    ] {
        file["objectives"] = objectives;
        let (code, _, complaint) = init(folder.path(), "wrong", &file);
        assert_eq!(code, Some(3));
        said.push(complaint);
    }
    insta::assert_snapshot!(
        said.join("\n")
            .replace(folder.path().to_str().unwrap(), "FOLDER")
    );
    file["objectives"] = json!(["loss", "parameters"]);
    let (code, _, said) = init(folder.path(), "right", &file);
    assert_eq!((code, said.as_str()), (Some(0), ""));
}

#[test]
fn repetitions_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let space = json!({ "hyperparameters": [
        { "name": "x1", "type": "float", "lower": -5, "upper": 10 },
        { "name": "x2", "type": "float", "lower": 0, "upper": 15 },
    ] });
    for (change, expected) in [
        (json!({ "repetitions": 0 }), "expected 1 to 100, found 0"),
        (
            json!({ "repetitions": 101 }),
            "expected 1 to 100, found 101",
        ),
        (json!({ "repetitions": 2.5 }), "at `repetitions`"),
        (
            json!({ "repetitions": 3, "objectives": ["loss", "true_regret"] }),
            "expected 1, because with several `objectives` there is no one mean to compare, found 3",
        ),
        (
            json!({ "repetitions": 3, "method": "bohb", "bohb": { "faithful": true } }),
            "expected 1, because HpBandSter",
        ),
    ] {
        let mut file = search(&space);
        for (name, value) in change.as_object().unwrap() {
            file[name] = value.clone();
        }
        let (code, _, said) = init(folder.path(), "wrong", &file);
        assert_eq!(code, Some(3), "{change}");
        assert!(
            said.contains("`repetitions`") && said.contains(expected),
            "{said}"
        );
    }
    let mut file = search(&space);
    file["repetitions"] = json!(3);
    let (code, said, _) = init(folder.path(), "right", &file);
    // The top rung, and two repetitions above it.
    assert_eq!(code, Some(0));
    assert_eq!(said.matches("27 epochs").count(), 3, "{said}");
}

#[test]
fn what_does_not_go_with_stopping_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let space = json!({ "hyperparameters": [
        { "name": "x1", "type": "float", "lower": -5, "upper": 10 },
        { "name": "x2", "type": "float", "lower": 0, "upper": 15 },
    ] });
    for (change, at, why) in [
        (
            json!({ "first_rungs": [0, 3] }),
            "first_rungs",
            "towards the largest budget",
        ),
        (
            json!({ "method": "tpe" }),
            "promotion",
            "because method `tpe` trains on the largest budget only",
        ),
        (
            json!({ "objectives": ["loss", "true_regret"] }),
            "promotion",
            "because with several `objectives` there is no one loss to compare",
        ),
        (
            json!({ "method": "bohb", "bohb": { "faithful": true } }),
            "promotion",
            "because HpBandSter",
        ),
        (
            json!({ "budget": { "unit": "epochs", "min": 10, "max": 27 } }),
            "promotion",
            "there is one rung",
        ),
    ] {
        let mut file = search(&space);
        file["promotion"] = json!("stopping");
        for (name, value) in change.as_object().unwrap() {
            file[name] = value.clone();
        }
        let (code, _, said) = init(folder.path(), "wrong", &file);
        assert_eq!(code, Some(3), "{change}");
        assert!(
            said.contains(&format!("`{at}`")) && said.contains(why),
            "{said}"
        );
    }
    let mut file = search(&space);
    file["promotion"] = json!("stopping");
    for method in ["tandem", "bohb", "hyperband"] {
        file["method"] = json!(method);
        let (code, said, _) = init(folder.path(), method, &file);
        assert_eq!(code, Some(0));
        assert!(said.contains("the most that it can be"), "{said}");
        let written = std::fs::read(folder.path().join(method).join("search.json")).unwrap();
        let written: Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(written["version"], json!([1, 5]));
    }
    let schema = text_of_schema().to_string();
    assert!(schema.contains("\"stopping\""), "{schema}");
}

#[test]
fn costs_count_where_they_differ_and_the_method_can() {
    let folder = tempfile::tempdir().unwrap();
    let space =
        json!({ "hyperparameters": [{ "name": "x", "type": "float", "lower": 0, "upper": 1 }] });
    let mut file = search(&space);
    file["cost_aware"] = json!(true);
    file["budget"] = json!({ "unit": "epochs", "min": 1, "max": 9 });
    for (method, unit, why) in [
        (
            "bohb",
            "epochs",
            "because method `bohb` does not count costs",
        ),
        (
            "tandem",
            "seconds",
            "because trainings whose budget is a time all take as long",
        ),
        (
            "tandem",
            "cpu_seconds",
            "because trainings whose budget is a time all take as long",
        ),
    ] {
        (file["method"], file["budget"]["unit"]) = (json!(method), json!(unit));
        let (code, _, said) = init(folder.path(), "wrong", &file);
        assert_eq!(code, Some(3), "{method} {unit}");
        assert!(
            said.contains("`cost_aware`") && said.contains(why),
            "{said}"
        );
    }
    file["budget"]["unit"] = json!("epochs");
    for (is_on, version) in [(true, [1, 6]), (false, [1, 4])] {
        file["cost_aware"] = json!(is_on);
        let name = format!("cost-aware-{is_on}");
        assert_eq!(init(folder.path(), &name, &file).0, Some(0));
        let written = std::fs::read(folder.path().join(name).join("search.json")).unwrap();
        let written: Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(written["version"], json!(version));
        assert_eq!(written.get("cost_aware").is_some(), is_on);
    }
}

fn text_of_schema() -> Value {
    let output = scheduler(&["schema", "search"]);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn numbers_are_read_as_people_write_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = search(&json!({ "hyperparameters": [
        { "name": "n", "type": "integer", "lower": 1.0, "upper": 8.0 },
        { "name": "mode", "type": "categorical", "choices": [null, "a"] } ] }));
    file["budget"] = json!({ "unit": "seconds", "min": 0.5, "max": 7.8125, "eta": 2.5 });
    file["limit"] = json!({ "brackets": 2.0 });
    file["seed"] = json!(3.0);
    file["first_rungs"] = json!([0.0]);
    file["trainers"] = json!({ "ahead": 1.0, "max_attempts": 4.0 });
    let (code, said, error) = init(folder.path(), "as-written", &file);
    assert_eq!(code, Some(0), "{error}");
    let budgets = ["0.5 s", "1.25 s", "3.125 s", "7.812 s"];
    assert!(budgets.iter().all(|b| said.contains(b)), "{said}");
    let wrong = |pointer: &str, value: Value| {
        let mut file = file.clone();
        *file.pointer_mut(pointer).unwrap() = value;
        let (code, _, error) = init(folder.path(), "wrong", &file);
        assert_eq!(code, Some(3), "{error}");
        let rust = ["u8", "u32", "u64", "f64", "struct", "usize", "invalid type"];
        assert!(!rust.iter().any(|word| error.contains(word)), "{error}");
        error
    };
    let said = wrong("/budget/min", "3".into());
    assert!(
        said.contains(r#"at `budget.min`: expected a number, found "3""#),
        "{said}"
    );
    let said = wrong("/budget/eta", 1.0.into());
    assert!(
        said.contains("at `budget.eta`: expected a number above 1"),
        "{said}"
    );
    let said = wrong("/seed", 2.5.into());
    assert!(
        said.contains("at `seed`: expected a whole number from 0"),
        "{said}"
    );
    let said = wrong("/space/hyperparameters/0/lower", "1".into());
    assert!(
        said.contains(r#"expected a whole number, found "1""#),
        "{said}"
    );
    let said = wrong("/trainers", "fast".into());
    assert!(
        said.contains(r#"at `trainers`: expected an object, found "fast""#),
        "{said}"
    );
    let said = wrong("/budget/unit", "epoch".into());
    assert!(
        said.contains(r#"found "epoch" (is "epochs" meant?)"#),
        "{said}"
    );
}

#[test]
fn init_says_how_much_of_a_space_is_allowed_and_when_all_of_it_is_tried() {
    let folder = tempfile::tempdir().unwrap();
    let (code, said, _) = init(folder.path(), "pairs", &search(&pairs(100)));
    assert_eq!(code, Some(0));
    assert!(
        said.contains("forbidden combinations leave 1 % of the space\n"),
        "{said}"
    );
    assert!(
        said.contains("the space has 100 configurations\n"),
        "{said}"
    );
    let nine = json!({ "hyperparameters": [
        { "name": "a", "type": "categorical", "choices": ["x", "y", "z"] },
        { "name": "b", "type": "categorical", "choices": ["x", "y", "z"] } ] });
    let (code, said, _) = init(folder.path(), "nine", &search(&nine));
    assert_eq!(code, Some(0));
    assert!(
        said.contains("9 configurations: each is tried once, and then the search ends"),
        "{said}"
    );
    assert!(
        said.contains("until all is tried: 9 configurations"),
        "{said}"
    );
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let space = json!({ "hyperparameters": [
        { "name": "size", "type": "ordinal", "sequence": [1, 10, 2] },
        { "name": "rate", "type": "float", "lower": 0, "upper": 1 },
        { "name": "Rate", "type": "float", "lower": 0, "upper": 1, "active_when": { "hyperparameter": "rate", "in": [0.5] } } ] });
    let (code, _, said) = init(folder.path(), "doubtful", &search(&space));
    assert_eq!(code, Some(0));
    let expected = [
        "write [1, 2, 10]",
        "nearly the name of `rate`",
        "single values of the float `rate`",
    ];
    assert!(expected.iter().all(|words| said.contains(words)), "{said}");
}

#[test]
fn a_directory_of_the_first_revision_stays_one_and_a_new_one_gets_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let file = search(&pairs(20));
    assert_eq!(init(folder.path(), "dir", &file).0, Some(0));
    let path = folder.path().join("dir/search.json");
    let read = || -> Value { serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap() };
    let mut old = read();
    assert_eq!(old["revision"], shared::search::REVISION);
    // As version 0.1 wrote it; its digest is another one.
    old.as_object_mut().unwrap().remove("revision");
    old["version"] = json!([1, 1]);
    shared::fs::replace(&path, old.to_string().as_bytes()).unwrap();
    shared::fs::remove(&folder.path().join("dir/created.json")).unwrap();
    let (code, _, error) = init(folder.path(), "dir", &file);
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(read(), old);
    let mut newer = file.clone();
    let newest = shared::search::REVISION;
    newer["revision"] = (newest + 1).into();
    let (code, _, error) = init(folder.path(), "newer", &newer);
    assert_eq!(code, Some(3));
    let expected = format!("at `revision`: expected 1 to {newest}, or a newer program");
    assert!(error.contains(&expected), "{error}");
}

#[test]
fn new_writes_files_that_init_takes_and_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let program = ["--max", "50", "--", "python3", "train.py", "--fast"];
    let varied = [
        "--vary",
        "rate=1e-5..0.1:log",
        "--vary",
        "mode=a,b",
        "--unit",
        "steps",
        "--max",
        "900",
        "--",
        "./train",
    ];
    let network = ["--data", "digits", "--max", "9"];
    for (name, more) in [
        ("program", &program[..]),
        ("varied", &varied),
        ("network", &network),
        ("default", &[]),
    ] {
        let written = path(name);
        let mut arguments = vec!["new", &written];
        arguments.extend(more);
        let output = scheduler(&arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let again = scheduler(&arguments);
        assert_eq!(again.status.code(), Some(3));
        assert!(text(&again.stderr).contains("is there already"));
        let (file, directory) = (
            format!("{written}/search.json"),
            path(&format!("{name}-dir")),
        );
        let output = scheduler(&["init", &file, &directory]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        // There is no `train.py` here.
        let said = text(&output.stderr);
        let mut doubts = said.lines().filter(|line| !line.contains("of the command"));
        assert_eq!(doubts.find(|line| line.contains("WARN")), None);
    }
    let search: Value =
        serde_json::from_slice(&std::fs::read(path("program/search.json")).unwrap()).unwrap();
    assert_eq!(
        search["objective"]["command"],
        json!(["python3", "train.py", "--fast"])
    );
    assert_eq!(search["$schema"], "search.schema.json");
    assert!(
        search["// objective"]
            .as_str()
            .unwrap()
            .contains("maximise")
    );
    let wrong = scheduler(&["new", &path("wrong"), "--min", "9", "--max", "3"]);
    assert_eq!(wrong.status.code(), Some(3));
    assert!(!folder.path().join("wrong").exists());
}

#[test]
fn schemas_are_printed() {
    for (format, field) in [("search", "budget"), ("space", "hyperparameters")] {
        let output = scheduler(&["schema", format]);
        assert!(output.status.success());
        let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(schema["properties"]["format"]["const"], format);
        assert!(schema["properties"][field].is_object());
    }
}
