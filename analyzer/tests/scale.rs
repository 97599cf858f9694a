//! A search of 100,000 results over 17 hyperparameters: every command can do it, says how long it took, and the report is small.
//!
//! Run by hand, in release: `cargo test --release -p analyzer --test scale -- --ignored --nocapture`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use rayon::prelude::*;
use serde_json::json;
use shared::budget::BudgetUnit;
use shared::layout::Layout;
use shared::record::JobResult;
use shared::{
    Budget, ConfigurationId, CurvePoint, Directory, Outcome, OwnerId, SearchFile, Seed, Value,
};

/// Configurations; one in three is promoted, five rungs in all.
const CONFIGURATIONS: u32 = 66_942;
const HYPERPARAMETERS: usize = 17;

fn search_file() -> SearchFile {
    let hyperparameter = |number: usize| match number % 3 {
        0 => {
            json!({"name": format!("rate_{number}"), "type": "float", "lower": 1e-4, "upper": 1.0, "log": true})
        }
        1 => {
            json!({"name": format!("share_{number}"), "type": "float", "lower": 0.0, "upper": 1.0})
        }
        _ => {
            json!({"name": format!("blocks_{number}"), "type": "integer", "lower": 1, "upper": 16})
        }
    };
    let hyperparameters: Vec<_> = (0..HYPERPARAMETERS).map(hyperparameter).collect();
    serde_json::from_value(json!({
        "name": "a large search",
        "space": {"hyperparameters": hyperparameters},
        "objective": {"benchmark": "counting-ones"},
        "budget": {"unit": "epochs", "min": 1, "max": 81, "eta": 3},
        "limit": {"brackets": 1000},
        // All rungs are used.
        "method": "hyperband",
    }))
    .unwrap()
}

#[expect(
    clippy::disallowed_methods,
    reason = "100,000 files that need not outlive a power cut"
)]
fn make(root: &Path) -> usize {
    let search = Directory::create(root, &search_file(), Path::new("search.json")).unwrap();
    let space = &search.search().space;
    let layout = Layout::new(root);
    for shard in 0..=CONFIGURATIONS / ConfigurationId::SHARD {
        shared::fs::make_folder(&layout.shard(shared::layout::RESULTS, shard)).unwrap();
    }
    (0..CONFIGURATIONS)
        .into_par_iter()
        .map(|number| {
            let mut rng = Seed::new(1).child("point", number).rng();
            let point = space.sample(&mut rng);
            let configuration = space.decode(&point);
            let noise = f64::from(number % 97) / 97.0;
            let mut written = 0;
            for rung in (0..5_u8).filter(|rung| number % 3_u32.pow(u32::from(*rung)) == 0) {
                let amount = 3_f64.powi(i32::from(rung));
                let loss = 0.5 * point[0] + 0.3 * (point[1] - 0.5).powi(2) + 0.1 * noise / amount;
                let id = ConfigurationId(number).job(rung);
                let start = 1.6e9 + f64::from(number) + amount;
                let result = JobResult {
                    attempt: id.attempt(1),
                    owner: OwnerId::from_parts(&["node", &(number % 64).to_string()]),
                    bracket: number / 81,
                    budget: Budget {
                        amount,
                        unit: BudgetUnit::Epochs,
                    },
                    configuration: configuration.clone(),
                    outcome: if number % 50 == 49 {
                        Outcome::Diverged {
                            spent: 0.5,
                            message: "loss NaN".into(),
                        }
                    } else {
                        Outcome::Evaluated { loss }
                    },
                    measures: [
                        ("test_error", loss + 0.01),
                        ("parameters", 1e6),
                        ("training_s", amount),
                    ]
                    .map(|(name, x)| (name.to_owned(), x))
                    .into(),
                    curve: (1..=10)
                        .map(|step| CurvePoint {
                            spent: amount * f64::from(step) / 10.0,
                            training_loss: Some(loss * 2.0),
                            loss: Some(loss + 1.0 / f64::from(step)),
                        })
                        .collect(),
                    notes: [("device".to_owned(), "cpu".to_owned())].into(),
                    started_at: shared::clock::stamp(start).unwrap(),
                    finished_at: shared::clock::stamp(start + 60.0).unwrap(),
                    elapsed_s: 60.0,
                    program: "0.1.0".into(),
                    supersedes: None,
                    checks: Vec::new(),
                };
                std::fs::write(layout.result(id), shared::format::to_bytes(&result)).unwrap();
                written += 1;
            }
            assert!(matches!(
                configuration.get("share_1"),
                Some(Value::Float(_))
            ));
            written
        })
        .sum()
}

#[test]
#[ignore = "writes 100,000 files; run by hand in release"]
fn commands_can_do_a_hundred_thousand_results() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("search");
    let written = make(&root);
    assert!((99_000..101_000).contains(&written), "{written}");
    let report = folder.path().join("report.html");
    let (root, report) = (root.display().to_string(), report.display().to_string());
    let commands = [
        vec!["correlation", &root],
        vec!["incumbent", &root],
        vec!["trajectory", &root],
        vec!["whatif", &root],
        vec!["importance", &root],
        vec!["report", &root, "--out", &report],
    ];
    for arguments in commands {
        let start = Instant::now();
        let status = Command::new(env!("CARGO_BIN_EXE_analyzer"))
            .args(&arguments)
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        let elapsed_s = start.elapsed().as_secs_f64();
        eprintln!("{}: {elapsed_s:.2} s", arguments[0]);
        assert!(status.success(), "{arguments:?}");
    }
    let size = shared::fs::read(Path::new(&report)).unwrap().len();
    eprintln!("report: {size} bytes");
    assert!(size < 5_000_000);
}
