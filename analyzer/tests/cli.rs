//! The program as its users run it: help, exit codes, formats, bad input, and the report in a browser.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::format_push_string, reason = "short texts")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clap::CommandFactory as _;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

fn analyzer(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_analyzer"))
        .args(arguments)
        .env_clear()
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs it, expects success, and returns what it printed.
fn run(arguments: &[&str]) -> String {
    let output = analyzer(arguments);
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        stderr(&output)
    );
    stdout(&output)
}

fn write(path: &Path, text: &str) {
    shared::fs::replace(path, text.as_bytes()).unwrap();
}

/// A small HpBandSter log: 27 configurations, budgets 1, 3, 9, a NaN, a crash with a message, a crash without one.
struct Log {
    folder: TempDir,
}

impl Log {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mut configs, mut results) = (String::new(), String::new());
        for number in 0..27_u32 {
            let rate = 10_f64.powf(-f64::from(number) / 9.0);
            let kind = ["a", "b", "<i>c</i>"][number as usize % 3];
            let config = json!([[0, 0, number], {"rate": rate, "units": number % 7 + 1, "kind": kind},
                {"model_based_pick": number % 2 == 0}]);
            configs.push_str(&format!("{config}\n"));
            for (budget, every) in [(1.0, 1), (3.0, 3), (9.0, 9)] {
                if number % every != 0 {
                    continue;
                }
                let start = 1.5e9 + f64::from(number) * 10.0 + budget * 100.0;
                let loss = (f64::from(number) - 9.0).abs() / 27.0 + 0.1 / budget;
                let (result, exception) = match (number, every) {
                    (4, _) => (
                        "{\"loss\": NaN, \"info\": {\"cost\": Infinity}}".to_owned(),
                        Json::Null,
                    ),
                    (7, _) => (
                        "null".to_owned(),
                        json!("Traceback: <script>alert(1)</script>"),
                    ),
                    (8, _) => ("null".to_owned(), Json::Null),
                    _ => {
                        let info = json!({"cost": budget, "test_loss": loss + 0.01});
                        (json!({"loss": loss, "info": info}).to_string(), Json::Null)
                    }
                };
                let times =
                    json!({"submitted": start, "started": start, "finished": start + budget});
                results.push_str(&format!(
                    "[[0, 0, {number}], {budget:?}, {times}, {result}, {exception}]\n"
                ));
            }
        }
        write(&folder.path().join("configs.json"), &configs);
        write(&folder.path().join("results.json"), &results);
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().to_path_buf()
    }

    fn text(&self) -> String {
        self.path().display().to_string()
    }

    /// Replaces the text of one of its files.
    fn change(&self, name: &str, change: impl Fn(&str) -> String) {
        let path = self.path().join(name);
        let text = String::from_utf8(shared::fs::read(&path).unwrap()).unwrap();
        write(&path, &change(&text));
    }
}

/// Compares the help of a command, and of those below it, with what was reviewed.
fn check_help(command: &clap::Command, path: &[&str]) {
    let name = ["help"]
        .iter()
        .chain(path)
        .copied()
        .collect::<Vec<_>>()
        .join("-");
    insta::assert_snapshot!(name, run(&[path, &["--help"]].concat()));
    for below in command.get_subcommands() {
        check_help(below, &[path, &[below.get_name()]].concat());
    }
}

#[test]
fn help_says_what_each_argument_means() {
    check_help(&analyzer::Args::command(), &[]);
}

#[test]
fn exit_codes_are_the_documented_ones() {
    let log = Log::new();
    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().display().to_string();
    let code = |arguments: &[&str]| analyzer(arguments).status.code();
    assert_eq!(code(&["correlation", &log.text()]), Some(0));
    assert_eq!(code(&[]), Some(2));
    assert_eq!(code(&["correlation"]), Some(2));
    assert_eq!(code(&["report", &log.text()]), Some(2), "no output named");
    assert_eq!(code(&["correlation", &log.text(), "--extra", "3"]), Some(2));
    assert_eq!(code(&["importance", &log.text(), "--budget", "2"]), Some(2));
    assert_eq!(code(&["correlation", &empty]), Some(3));
    assert_eq!(code(&["correlation", "/nonexistent"]), Some(3));
    assert_eq!(
        code(&["import", "hpbandster", &empty, &format!("{empty}/out")]),
        Some(3)
    );
    let missing = format!("{empty}/missing.json");
    for verb in ["import", "export"] {
        let arguments = [
            verb,
            "configspace",
            &missing,
            "--out",
            &format!("{empty}/out"),
        ];
        assert_eq!(code(&arguments), Some(3), "{verb}");
    }
    assert_eq!(
        code(&["correlation", &log.text(), "--among", &missing]),
        Some(3)
    );
}

#[test]
fn a_log_gives_the_same_tables_read_directly_and_imported() {
    let log = Log::new();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("imported").display().to_string();
    run(&[
        "import",
        "hpbandster",
        &log.text(),
        &out,
        "--unit",
        "epochs",
    ]);
    for command in ["correlation", "trajectory", "incumbent", "importance"] {
        let direct = run(&[command, &log.text(), "--format", "csv"]);
        let imported = run(&[command, &out, "--format", "csv"]);
        // Verdicts name the unit, which only the import knows.
        let imported = imported
            .replace("1 epoch ", "budget 1 ")
            .replace("3 epochs", "budget 3");
        let imported = imported.replace("9 epochs", "budget 9");
        if command == "correlation" || command == "importance" {
            assert_eq!(direct, imported, "{command}");
        }
        assert_eq!(
            direct.lines().count(),
            imported.lines().count(),
            "{command}"
        );
    }
    let correlation = run(&["correlation", &out, "--format", "csv"]);
    let rows: Vec<Vec<&str>> = correlation
        .lines()
        .map(|line| line.split(',').collect())
        .collect();
    assert_eq!(rows[0][..4], ["lower", "upper", "n", "rho"]);
    let counts: Vec<[&str; 3]> = rows[1..]
        .iter()
        .map(|row| [row[0], row[1], row[2]])
        .collect();
    assert_eq!(
        counts,
        [
            ["1.0", "3.0", "9"],
            ["1.0", "9.0", "3"],
            ["3.0", "9.0", "3"]
        ]
    );
    let again = analyzer(&["import", "hpbandster", &log.text(), &out]);
    assert_eq!(
        again.status.code(),
        Some(2),
        "an import never writes over another"
    );
}

#[test]
fn an_exported_log_is_the_same_log() {
    let log = Log::new();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    run(&["export", "hpbandster", &log.text(), "--out", &out]);
    let first = run(&["export", "csv", &log.text()]);
    let second = run(&["export", "csv", &out]);
    // A loss that was NaN is exported as a crash, so that strict parsers can read it.
    let second = second
        .replace("crashed,,,0.0,", "?")
        .replace("diverged: loss NaN", "loss NaN");
    let first = first.replace("crashed,,,0.0,", "?");
    let differing: Vec<(&str, &str)> = first
        .lines()
        .zip(second.lines())
        .filter(|(a, b)| a != b)
        .collect();
    assert_eq!(differing.len(), 1, "{differing:?}");
    assert!(differing[0].0.contains("diverged"), "{differing:?}");
    assert!(
        shared::fs::list(folder.path())
            .unwrap()
            .contains(&"configspace.json".to_owned())
    );
}

#[test]
fn the_flat_table_has_a_row_for_each_result_and_documented_columns() {
    let log = Log::new();
    let csv = run(&["export", "csv", &log.text()]);
    let mut lines = csv.lines();
    assert_eq!(
        lines.next().unwrap(),
        "job,configuration,foreign_id,bracket,rung,budget,unit,outcome,loss,test_loss,spent,started_s,\
         finished_s,elapsed_s,owner,origin,message,values.kind,values.rate,values.units,measures.cost,\
         measures.test_loss"
    );
    assert_eq!(lines.count(), 27 + 9 + 3);
    assert!(csv.contains(
        "c000007-r0,c000007,\"0,0,7\",0,0,1.0,,crashed,,,0.0,1500000170.0,1500000171.0,1.0,\
        hpbandster,prior,Traceback: <script>alert(1)</script>,b,"
    ));
}

#[test]
fn lines_that_cannot_be_used_are_named_and_skipped() {
    let log = Log::new();
    log.change("results.json", |text| {
        let (first, rest) = text.split_once('\n').unwrap();
        let first_again = first.replace("0.433", "0.9");
        let more = [
            "[[9, 9, 9], 1.0, {}, {\"loss\": 1}, null]", // an unknown configuration
            "[[0, 0, 1], \"x\", {}, {\"loss\": 1}, null]", // no budget
            "[[0, 0, 1], -1.0, {}, {\"loss\": 1}, null]",
            "[[0, 0, 1], 1.0]",
            "[\"x\", 1.0, {}, null, null]",
            "{\"not\": \"an array\"}",
            "[[0, 0, 1], 2.0, {}, {\"loss\": 0.25}, null]", // a budget that nothing else has
            first_again.as_str(),                           // twice
            "[[0, 0, 1], 1.0, {\"started\": 1, \"fini",     // truncated
        ];
        format!("{first}\n{rest}{}", more.join("\n"))
    });
    log.change("configs.json", |text| {
        let first = text.lines().next().unwrap();
        format!("{text}{first}\n[[0, 0, 99], 5]\n")
    });
    let output = analyzer(&["correlation", &log.text(), "--format", "csv"]);
    assert!(output.status.success());
    let told = stderr(&output).replace(&log.text(), "DIR");
    let told: Vec<&str> = told
        .lines()
        .map(|line| line.split_once("WARN ").unwrap().1)
        .collect();
    insta::assert_snapshot!(told.join("\n"));
    assert!(
        stdout(&output).contains("\n1.0,2.0,1,-,"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn a_byte_order_mark_and_foreign_line_ends_change_nothing() {
    let log = Log::new();
    let before = run(&["export", "csv", &log.text()]);
    for name in ["configs.json", "results.json"] {
        log.change(name, |text| {
            format!("\u{feff}{}", text.replace('\n', "\r\n"))
        });
    }
    let output = analyzer(&["export", "csv", &log.text()]);
    assert_eq!(stdout(&output), before);
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_record_of_a_newer_program_is_refused_and_not_left_out() {
    let log = Log::new();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("imported");
    let text = out.display().to_string();
    run(&["import", "hpbandster", &log.text(), &text]);
    let path = out.join("results/000/c000003-r0.json");
    let result = String::from_utf8(shared::fs::read(&path).unwrap()).unwrap();
    let newer = |version: &str| {
        let mut json: Json = serde_json::from_str(&result).unwrap();
        json["version"] = serde_json::from_str(version).unwrap();
        json["colour"] = "red".into();
        write(&path, &json.to_string());
        analyzer(&["correlation", &text])
    };
    let minor = newer("[1, 9]");
    assert_eq!(minor.status.code(), Some(0), "{}", stderr(&minor));
    assert_eq!(stderr(&minor), "");
    let major = newer("[4, 0]");
    assert_eq!(major.status.code(), Some(4));
    assert_eq!(stdout(&major), "");
    assert!(
        stderr(&major).contains("c000003-r0.json` is a result file of version [4,0]"),
        "{}",
        stderr(&major)
    );
}

#[test]
fn extreme_budgets_times_and_losses_give_a_report() {
    let log = Log::new();
    let mut results = String::new();
    for number in 0..12_u32 {
        let finished = if number % 2 == 0 { "1e308" } else { "-1e308" };
        let times =
            format!("{{\"submitted\": -1e300, \"started\": 1e300, \"finished\": {finished}}}");
        for budget in ["1e-300", "1e300"] {
            let loss = ["1e308", "-1e308", "1e-308"][number as usize % 3];
            results.push_str(&format!(
                "[[0, 0, {number}], {budget}, {times}, {{\"loss\": {loss}, \"info\": 0.5}}, null]\n"
            ));
        }
    }
    log.change("results.json", |_| results.clone());
    let report = log.path().join("report.html");
    run(&[
        "report",
        &log.text(),
        "--out",
        &report.display().to_string(),
    ]);
    let page = String::from_utf8(shared::fs::read(&report).unwrap()).unwrap();
    assert!(page.contains("<svg") && !page.contains("NaN"), "{page}");
    for command in ["correlation", "incumbent", "trajectory", "learning-curves"] {
        run(&[command, &log.text()]);
    }
}

#[test]
fn files_that_are_something_else_are_refused() {
    let log = Log::new();
    log.change("results.json", |_| "not\njson at all\n".into());
    let output = analyzer(&["correlation", &log.text()]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        stderr(&output).contains("no line of"),
        "{}",
        stderr(&output)
    );
    // Two hundred and fifty-seven budgets are no ladder.
    log.change("results.json", |_| {
        let lines = (1..=257).map(|budget| format!("[[0, 0, 1], {budget}, {{}}, null, null]\n"));
        lines.collect()
    });
    let output = analyzer(&["correlation", &log.text()]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        stderr(&output).contains("257 different budgets"),
        "{}",
        stderr(&output)
    );
    // Nothing at all is a log without results.
    log.change("results.json", |_| String::new());
    assert!(run(&["correlation", &log.text()]).contains("No results yet"));
    assert!(run(&["incumbent", &log.text()]).contains("No incumbent yet"));
    assert_eq!(
        run(&["incumbent", &log.text(), "--format", "json"]),
        "null\n"
    );
}

#[test]
fn a_million_hyperparameters_are_survived() {
    let log = Log::new();
    let mut wide = String::from("[[0, 0, 0], {");
    for number in 0..1_000_000 {
        let comma = if number > 0 { "," } else { "" };
        wide.push_str(&format!("{comma}\"x{number}\": {number}"));
    }
    wide.push_str("}, {}]\n");
    log.change("configs.json", |text| {
        let (_, rest) = text.split_once('\n').unwrap();
        format!("{wide}{rest}")
    });
    let csv = run(&["correlation", &log.text(), "--format", "csv"]);
    assert!(csv.contains("\n1.0,3.0,9,"), "{csv}");
    let importance = analyzer(&["importance", &log.text()]);
    assert!(importance.status.success());
    assert!(
        stderr(&importance).contains("no search space"),
        "{}",
        stderr(&importance)
    );
    let report = log.path().join("report.html");
    run(&[
        "report",
        &log.text(),
        "--out",
        &report.display().to_string(),
    ]);
    assert!(shared::fs::read(&report).unwrap().len() < 5_000_000);
}

#[test]
fn spaces_are_translated_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let theirs = json!({"hyperparameters": [
        {"name": "x", "type": "uniform_float", "lower": 0.5, "upper": 2.0, "log": true, "default": 1.0, "q": null},
        {"name": "k", "type": "ordinal", "sequence": [1, 2, 4], "default": 1}],
        "conditions": [{"child": "k", "parent": "x", "type": "EQ", "value": 1.0}], "forbiddens": []});
    write(Path::new(&path("configspace.json")), &theirs.to_string());
    run(&[
        "import",
        "configspace",
        &path("configspace.json"),
        "--out",
        &path("space.json"),
    ]);
    run(&[
        "export",
        "configspace",
        &path("space.json"),
        "--out",
        &path("again.json"),
    ]);
    let again: Json =
        serde_json::from_slice(&shared::fs::read(Path::new(&path("again.json"))).unwrap()).unwrap();
    assert_eq!(again["hyperparameters"][0]["upper"], 2.0);
    assert_eq!(again["conditions"], theirs["conditions"]);
    // The space of a search, which needs not say that it is one.
    let space: Json =
        serde_json::from_slice(&shared::fs::read(Path::new(&path("space.json"))).unwrap()).unwrap();
    let mut search = json!({"name": "x", "space": {"hyperparameters": space["hyperparameters"]}, "fix": {"k": 4},
        "objective": {"benchmark": "branin"}, "budget": {"unit": "steps", "min": 1, "max": 9}, "limit": {"brackets": 1}});
    write(Path::new(&path("search.json")), &search.to_string());
    let (from, out) = (path("search.json"), path("of-search.json"));
    let export = ["export", "configspace", &from, "--out", &out];
    run(&export);
    let of_search: Json =
        serde_json::from_slice(&shared::fs::read(Path::new(&out)).unwrap()).unwrap();
    assert_eq!(of_search["hyperparameters"][0], again["hyperparameters"][0]);
    assert_eq!(of_search["hyperparameters"][1]["value"], 4);
    search["space_file"] = json!("space.json");
    search.as_object_mut().unwrap().remove("space");
    write(Path::new(&from), &search.to_string());
    let without = analyzer(&export);
    assert_eq!(without.status.code(), Some(3));
    assert!(stderr(&without).contains("export its `space_file`, `space.json`"));
    let wrong = analyzer(&[
        "export",
        "configspace",
        &path("again.json"),
        "--out",
        &path("x"),
    ]);
    assert_eq!(wrong.status.code(), Some(3), "{}", stderr(&wrong));
}

#[test]
fn every_format_of_every_table_is_written() {
    let log = Log::new();
    for command in [
        "correlation",
        "incumbent",
        "trajectory",
        "importance",
        "learning-curves",
    ] {
        for format in ["table", "csv", "json", "markdown", "latex"] {
            let text = run(&[command, &log.text(), "--format", format]);
            match format {
                "json" => assert!(serde_json::from_str::<Json>(&text).is_ok(), "{text}"),
                "latex" => assert!(text.starts_with("\\begin{tabular}"), "{command}: {text}"),
                "markdown" => assert!(text.starts_with("| "), "{command}: {text}"),
                _ => assert!(!text.is_empty(), "{command} {format}"),
            }
        }
    }
    let svg = log.path().join("compare.svg");
    let svg = svg.display().to_string();
    let table = run(&[
        "compare",
        &log.text(),
        &log.text(),
        "--by",
        "name",
        "--along",
        "jobs",
        "--svg",
        &svg,
    ]);
    assert!(table.starts_with("group"), "{table}");
    assert!(
        shared::fs::read(Path::new(&svg))
            .unwrap()
            .starts_with(b"<svg")
    );
}

#[test]
fn a_read_only_copy_can_be_analysed() {
    use std::os::unix::fs::PermissionsExt as _;
    let log = Log::new();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("copy");
    run(&[
        "import",
        "hpbandster",
        &log.text(),
        &out.display().to_string(),
    ]);
    let mut folders = vec![out.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.metadata().unwrap().is_dir() {
                folders.push(entry.path());
            }
        }
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o555)).unwrap();
    }
    let text = out.display().to_string();
    for command in ["correlation", "incumbent", "trajectory", "learning-curves"] {
        run(&[command, &text]);
    }
    let report = log.path().join("report.html").display().to_string();
    run(&["report", &text, "--out", &report]);
    let mut folders = vec![out];
    while let Some(folder) = folders.pop() {
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.metadata().unwrap().is_dir() {
                folders.push(entry.path());
            }
        }
    }
}

/// Opens the report in Chromium, which says on stderr what a console or a blocked request would say.
#[test]
fn a_browser_opens_the_report_without_a_request_or_an_error() {
    let browsers = [
        "/usr/bin/chromium",
        "/usr/bin/chromium-browser",
        "/usr/bin/google-chrome",
    ];
    let Some(browser) = browsers.iter().find(|path| Path::new(path).exists()) else {
        eprintln!("SKIPPED: no Chromium on this machine, the report was not opened in a browser");
        return;
    };
    let log = Log::new();
    let report = log.path().join("report.html");
    run(&[
        "report",
        &log.text(),
        "--out",
        &report.display().to_string(),
    ]);
    let page = open(browser, &log.path(), &report);
    assert!(
        page.dom.contains("Do rankings agree between budgets?"),
        "the page was shown"
    );
    assert_eq!(page.complaints, Vec::<String>::new());
    assert_eq!(
        page.requests,
        ["file"],
        "nothing but the file itself is asked for"
    );

    // The test can fail: a page that asks for something is seen to do so.
    let bad = log.path().join("bad.html");
    write(
        &bad,
        "<!doctype html><img src=\"http://127.0.0.1:9/x.png\"><script>console.error('oh')</script>",
    );
    let page = open(browser, &log.path(), &bad);
    assert!(
        page.requests.contains(&"http".to_owned()),
        "{:?}",
        page.requests
    );
    assert!(
        page.complaints.iter().any(|line| line.contains("oh")),
        "{:?}",
        page.complaints
    );
}

struct Page {
    dom: String,
    complaints: Vec<String>,
    /// Schemes of what was asked for, `data` aside, in alphabetical order.
    requests: Vec<String>,
}

fn open(browser: &str, folder: &Path, file: &Path) -> Page {
    let net_log = folder.join("net.json");
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .args([
            "--enable-logging=stderr",
            "--v=0",
            "--window-size=1280,900",
            "--dump-dom",
        ])
        .arg(format!(
            "--user-data-dir={}",
            folder.join("profile").display()
        ))
        .arg(format!("--log-net-log={}", net_log.display()))
        .arg(format!("file://{}", file.display()))
        .output()
        .unwrap();
    let complaints = stderr(&output);
    let complaints = complaints.lines().filter(|line| line.contains("CONSOLE"));
    let log: Json = serde_json::from_slice(&shared::fs::read(&net_log).unwrap()).unwrap();
    let kind = &log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"];
    let events = log["events"].as_array().unwrap().iter();
    let urls = events
        .filter(|event| &event["type"] == kind)
        .filter_map(|event| event["params"]["url"].as_str().map(str::to_owned));
    let mut requests: Vec<String> = urls
        // The browser's own pages and start-up are no requests of the page.
        .filter(|url| url.contains("127.0.0.1") || !is_of_the_browser(url))
        .map(|url| url.split_once(':').unwrap().0.to_owned())
        .filter(|scheme| scheme != "data")
        .collect();
    requests.push("file".into());
    requests.sort();
    requests.dedup();
    Page {
        dom: stdout(&output),
        complaints: complaints.map(str::to_owned).collect(),
        requests,
    }
}

fn is_of_the_browser(url: &str) -> bool {
    ["chrome", "devtools", "about"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
        || url.contains(".googleapis.com")
        || url.contains(".google.com")
        || url.contains(".gvt1.com")
}

/// A search of the counting-ones kind with a job's checkpoint, as programs leave it.
fn small_search(root: &Path) -> shared::Directory {
    let file = json!({"format": "search", "version": [1, 0], "name": "small",
        "space": {"hyperparameters": [{"name": "x", "type": "float", "lower": 0, "upper": 1}]},
        "objective": {"benchmark": "counting-ones"}, "budget": {"unit": "epochs", "min": 1, "max": 9},
        "method": "hyperband", "limit": {"brackets": 1}});
    let path = root.with_extension("json");
    write(&path, &file.to_string());
    let file: shared::SearchFile = shared::fs::read_record(&path).unwrap();
    let directory = shared::Directory::create(root, &file, &path).unwrap();
    for number in 0..18_u32 {
        for rung in 0..3_u8 {
            let x = f64::from(number * 7 % 18) / 18.0;
            let result = json!({"format": "result", "version": [1, 0],
                "attempt": format!("c{number:06}-r{rung}-a1"), "owner": "host-1-x", "bracket": 0,
                "budget": {"amount": 3_f64.powi(rung.into()), "unit": "epochs"}, "configuration": {"x": x},
                "outcome": {"kind": "evaluated", "loss": x + 1.0 / f64::from(rung + 1)},
                "started_at": "2026-01-01T00:00:00Z", "finished_at": "2026-01-01T00:00:10Z", "elapsed_s": 10.0,
                "program": "0.1.0"});
            let name = format!("results/000/c{number:06}-r{rung}.json");
            write(&directory.layout().root().join(name), &result.to_string());
        }
    }
    directory
}

#[test]
fn the_incumbent_says_where_its_checkpoint_is_and_how_it_is_trained_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("my search");
    let directory = small_search(&root);
    let dir = root.display().to_string();
    let before = run(&["incumbent", &dir]);
    assert!(before.contains("checkpoint: none is kept"), "{before}");
    let checkpoint = root.join("checkpoints/000/c000000/c000000-r2-a1.host-1-x.checkpoint");
    write(&checkpoint, "weights");
    let job = folder.path().join("job.json").display().to_string();
    let after = run(&["incumbent", &dir, "--job", &job]);
    assert!(
        after.contains(&format!("checkpoint: {}\n", checkpoint.display())),
        "{after}"
    );
    let command = format!("train it again: trainer job {job} --directory '{dir}'\n");
    assert!(after.contains(&command), "{after}");
    let written: shared::record::Job = shared::fs::read_record(Path::new(&job)).unwrap();
    assert_eq!(written.job.to_string(), "c000000-r2");
    assert_eq!(written.search, directory.search().digest);
    let any: Json = serde_json::from_str(&run(&[
        "incumbent",
        &dir,
        "--at",
        "any",
        "--format",
        "json",
    ]))
    .unwrap();
    assert_eq!(
        (&any["job"], &any["checkpoint"]),
        (&json!("c000000-r2"), &json!(checkpoint))
    );
    assert_eq!(
        any["train_again"][0],
        format!("analyzer incumbent '{dir}' --at any --job incumbent.json")
    );
}

#[test]
fn what_other_budgets_would_have_cost_is_told_and_exports_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("search");
    small_search(&root);
    let dir = root.display().to_string();
    let text = run(&["whatif", &dir]);
    assert!(
        text.contains("1 epoch (own)") && text.contains("9 epochs"),
        "{text}"
    );
    let rows: Json =
        serde_json::from_str(&run(&["whatif", &dir, "--eta", "3", "--format", "json"])).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 3);
    assert_eq!(
        (&rows[0]["is_own"], &rows[0]["cost"]),
        (&json!("yes"), &json!(1.0))
    );
    let log = Log::new();
    let none = analyzer(&["whatif", &log.text()]);
    assert_eq!(none.status.code(), Some(3), "{}", stderr(&none));
    for path in [dir, log.text()] {
        let out = folder.path().join("out");
        let out = out.display().to_string();
        run(&["export", "optuna", &path, "--out", &format!("{out}.log")]);
        run(&["export", "tensorboard", &path, "--out", &out]);
        assert!(
            shared::fs::read(Path::new(&format!("{out}.log")))
                .unwrap()
                .len()
                > 100
        );
        assert!(
            shared::fs::read(Path::new(&format!("{out}/events.out.tfevents.0.tandem"))).is_ok()
        );
    }
}
