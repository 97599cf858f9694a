//! What holds for every proposal of every method, whatever the space and the results.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use sampler::proposer::Proposer;
use shared::constraint::Violation;
use shared::record::{Fate, JobResult, Proposal, Request};
use shared::search::{MethodName, REVISION};
use shared::{Configuration, ConfigurationId, JobId, Outcome, Search, SearchFile, Value};

fn methods() -> [&'static str; MethodName::ALL.len()] {
    MethodName::ALL.map(MethodName::as_str)
}

fn search(space: &str, method: &str, more: &str) -> Search {
    forbidding(space, "", method, more)
}

fn forbidding(space: &str, forbidden: &str, method: &str, more: &str) -> Search {
    Search::new(&search_file(space, forbidden, method, more)).unwrap()
}

fn search_file(space: &str, forbidden: &str, method: &str, more: &str) -> SearchFile {
    let json = format!(
        r#"{{"name":"test","space":{{"hyperparameters":[{space}],"forbidden":[{forbidden}]}},"objective":{{"command":["true"]}},
            "budget":{{"unit":"epochs","min":1,"max":9}},"limit":{{"brackets":3}},"seed":5,"revision":{REVISION},"method":"{method}"{more}}}"#
    );
    serde_json::from_str(&json).unwrap()
}

const MIXED: &str = r#"{"name":"rate","type":"float","lower":0.001,"upper":1,"log":true},
    {"name":"kind","type":"categorical","choices":["a","b","c"]},
    {"name":"one","type":"categorical","choices":["only"]},
    {"name":"version","type":"constant","value":3},
    {"name":"depth","type":"integer","lower":1,"upper":9,"active_when":{"hyperparameter":"kind","in":["b","c"]}},
    {"name":"size","type":"ordinal","sequence":[8,16,32],"active_when":{"hyperparameter":"depth","in":[1,2,3,4,5]}},
    {"name":"share","type":"float","lower":0,"upper":1,"active_when":{"hyperparameter":"size","in":[16]}}"#;

/// Spaces without floats, and how many configurations they have; conditions and forbidden combinations among them.
const SMALL: [(&str, &str, u32); 4] = [
    (
        r#"{"name":"a","type":"categorical","choices":["x","y","z"]},{"name":"b","type":"categorical","choices":[1,2,3]}"#,
        "",
        9,
    ),
    (
        r#"{"name":"n","type":"integer","lower":1,"upper":64,"log":true,"prior":8}"#,
        r#"{"n":{"min":40}}"#,
        39,
    ),
    (
        r#"{"name":"k","type":"categorical","choices":["a","b"]},
           {"name":"s","type":"ordinal","sequence":[2,4,8],"active_when":{"hyperparameter":"k","in":["b"]}},
           {"name":"n","type":"integer","lower":0,"upper":4,"active_when":{"hyperparameter":"s","in":[4,8]}}"#,
        r#"{"s":8,"n":{"min":1,"max":3}}"#,
        1 + 1 + 5 + 2,
    ),
    (r#"{"name":"only","type":"constant","value":7}"#, "", 1),
];

#[test]
fn small_spaces_are_tried_without_repetition_by_every_method() {
    for method in methods() {
        for (space, forbidden, number) in SMALL {
            for delay in [0, 3] {
                let search = forbidding(space, forbidden, method, "");
                assert_eq!(search.most_configurations(), Some(u64::from(number)));
                // More than there are: the rest repeats something, and nothing fails.
                let proposals = drive(&search, number + 3, delay, |job, _| {
                    evaluated(f64::from(job.configuration.0 % 5))
                });
                assert_valid(&search, &proposals);
                let mut seen: Vec<&Configuration> = Vec::new();
                for proposal in proposals.iter().take(number as usize) {
                    assert!(!seen.contains(&&proposal.values), "{method}: {proposal:?}");
                    seen.push(&proposal.values);
                }
            }
        }
    }
}

#[test]
fn draws_of_every_method_are_spread_over_the_little_that_is_allowed() {
    let space = r#"{"name":"i","type":"integer","lower":1,"upper":1000},{"name":"j","type":"integer","lower":1,"upper":1000},
        {"name":"x","type":"float","lower":0,"upper":1}"#;
    for method in methods() {
        let search = forbidding(space, r#"{"i":{"min":11}},{"j":{"min":11}}"#, method, "");
        let proposals = drive(&search, 60, 0, |_, _| evaluated(1.0));
        assert_valid(&search, &proposals);
        let corner =
            |p: &&Proposal| p.values.integer("i") == Some(10) && p.values.integer("j") == Some(10);
        // One in a hundred, if all are alike.
        let count = proposals.iter().filter(corner).count();
        assert!(count <= 6, "{method}: {count} of 60 in the corner");
    }
}

#[test]
fn any_finite_losses_and_ranges_lead_to_proposals_that_can_be_written() {
    let space = r#"{"name":"x","type":"float","lower":-1e308,"upper":1e308},{"name":"y","type":"float","lower":1e-300,"upper":1e300,"log":true},
        {"name":"n","type":"integer","lower":-4503599627370496,"upper":4503599627370496}"#;
    let losses = [1e308, -1e308, f64::MAX, f64::MIN, 5e-324, 0.0, -0.0, 8e307];
    for method in methods() {
        let search = search(space, method, "");
        let proposals = drive(&search, 60, 2, |job, _| {
            evaluated(losses[job.configuration.0 as usize % losses.len()])
        });
        assert_valid(&search, &proposals);
        for proposal in &proposals {
            let path = std::path::Path::new("proposal");
            assert!(
                shared::format::to_publish(path, proposal).is_ok(),
                "{proposal:?}"
            );
        }
        let low = proposals
            .iter()
            .filter(|p| p.values.float("x").unwrap() < 0.0);
        let at_ends = proposals
            .iter()
            .filter(|p| p.values.float("x").unwrap().abs() >= 1e308);
        assert!((5..56).contains(&low.count()), "{method}");
        assert!(at_ends.count() < 30, "{method}");
    }
}

#[test]
fn searches_of_the_first_revision_and_hpbandsters_repeat_what_they_like() {
    let (space, forbidden, _) = SMALL[0];
    for (method, more) in [
        ("bohb", r#","bohb":{"faithful":true}"#),
        ("tandem", r#","revision":1"#),
    ] {
        let mut file = search_file(space, forbidden, method, "");
        let more: serde_json::Value = serde_json::from_str(&format!("{{{}}}", &more[1..])).unwrap();
        for (key, value) in more.as_object().unwrap() {
            let mut json = serde_json::to_value(&file).unwrap();
            json[key] = value.clone();
            file = serde_json::from_value(json).unwrap();
        }
        let search = Search::new(&file).unwrap();
        assert_eq!(search.most_configurations(), None);
        let proposals = drive(&search, 9, 0, |job, _| {
            evaluated(f64::from(job.configuration.0 % 5))
        });
        let distinct: std::collections::BTreeSet<String> = proposals
            .iter()
            .map(|p| format!("{:?}", p.values))
            .collect();
        assert!(distinct.len() < 9, "{method}");
    }
}

/// A belief about everything, wrong and forbidden in parts.
fn believing(space: &str) -> String {
    let with = |text: String, name: &str, belief: &str| {
        let name = format!(r#""name":"{name}","#);
        text.replacen(&name, &format!("{name}{belief},"), 1)
    };
    let beliefs = [
        ("rate", r#""prior":0.001,"confidence":"high""#),
        ("kind", r#""prior":"b","confidence":30"#),
        ("depth", r#""prior":5"#),
        ("size", r#""prior":32,"confidence":"low""#),
    ];
    let text = space.to_owned();
    beliefs
        .iter()
        .fold(text, |text, (name, belief)| with(text, name, belief))
}

/// About half of the space, and what methods like: numbers in the middle and at the ends, a category, an ordinal that is
/// seldom active.
const FORBIDDEN: &str = r#"{"rate":{"max":0.002}},{"rate":{"min":0.5},"kind":["a","b"]},{"kind":"b","depth":{"min":4,"max":6}},
    {"kind":"c","version":3,"depth":[1,2,8]},{"size":16,"share":{"min":0.25,"max":0.75}},{"one":"only","size":32}"#;

fn result(search: &Search, job: JobId, values: &Configuration, outcome: Outcome) -> JobResult {
    JobResult {
        attempt: job.attempt(1),
        owner: "tester".parse().unwrap(),
        bracket: 0,
        budget: search.ladder.budget(job.rung),
        configuration: values.clone(),
        outcome,
        measures: BTreeMap::new(),
        curve: Vec::new(),
        notes: BTreeMap::new(),
        started_at: String::new(),
        finished_at: String::new(),
        elapsed_s: 0.0,
        program: "test".into(),
        supersedes: None,
        checks: Vec::new(),
    }
}

fn evaluated(loss: f64) -> Outcome {
    Outcome::Evaluated { loss }
}

fn crashed() -> Outcome {
    Outcome::crashed("no")
}

/// Proposes `count` configurations, `delay` of them always under way; each is evaluated on rung 0, every third one on
/// rung 1 too.
fn drive(
    search: &Search,
    count: u32,
    delay: u32,
    mut evaluate: impl FnMut(JobId, &Configuration) -> Outcome,
) -> Vec<Proposal> {
    let mut proposer = Proposer::new(search);
    let mut proposals: Vec<Proposal> = Vec::new();
    for number in 0..count {
        let mut results = Vec::new();
        if let Some(done) = number.checked_sub(delay + 1) {
            let id = ConfigurationId(done);
            let values = proposals[done as usize].values.clone();
            for rung in 0..=u8::from(done % 3 == 0) {
                let outcome = evaluate(id.job(rung), &values);
                results.push(result(search, id.job(rung), &values, outcome));
            }
        }
        let id = ConfigurationId(number);
        let request = Request {
            configuration: id,
            bracket: 0,
            rung: 0,
            finished: results.iter().map(JobResult::job).collect(),
            pending: Vec::new(),
            superseding: Vec::new(),
            given: None,
            top: None,
        };
        proposer.learn(&results);
        let proposal = proposer.propose(&request);
        proposer.ask(id.job(0));
        proposer.know(id, &proposal.values);
        proposals.push(proposal);
    }
    proposals
}

fn assert_valid(search: &Search, proposals: &[Proposal]) {
    for proposal in proposals {
        assert_eq!(
            search.space.check_configuration(&proposal.values).as_ref(),
            Ok(&proposal.values)
        );
    }
}

fn values(proposals: &[Proposal]) -> Vec<&Configuration> {
    proposals.iter().map(|p| &p.values).collect()
}

fn num_from_model(proposals: &[Proposal]) -> usize {
    proposals
        .iter()
        .filter(|p| p.origin.source == "model")
        .count()
}

fn number(values: &Configuration) -> f64 {
    values.float("rate").unwrap() + f64::from(u8::from(values.text("kind") == Some("a")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn proposals_lie_in_the_space_and_keep_its_conditions(
        seed in 0u64..1000, delay in 0u32..9, faithful: bool,
        losses in prop::collection::vec(prop_oneof![Just(None), (-1e3..1e3_f64).prop_map(Some), Just(Some(0.0))], 60)
    ) {
        for method in methods() {
            let more = format!(r#","bohb":{{"faithful":{faithful}}}"#);
            let mut search = search(MIXED, method, &more);
            search.seed = shared::Seed::new(seed);
            let proposals = drive(&search, 60, delay, |job, _| {
                losses[job.configuration.0 as usize].map_or_else(crashed, evaluated)
            });
            assert_valid(&search, &proposals);
            let any_loss = losses.iter().any(Option::is_some);
            let has_model = match method {
                "bohb" => true,
                "tandem" => any_loss,
                "hyperband" | "random" => false,
                // Whether the others have enough results depends on the delay.
                _ => continue,
            };
            prop_assert_eq!(num_from_model(&proposals) > 0, has_model);
        }
    }

    #[test]
    fn nothing_forbidden_is_proposed_by_any_method(
        seed: u64,
        delay in 0u32..6,
        outcomes in prop::collection::vec(prop::option::of(0.0..1.0_f64), 60),
        kind in 0u8..3,
        has_belief: bool,
    ) {
        for method in methods() {
            let space = if has_belief { believing(MIXED) } else { MIXED.to_owned() };
            let mut search = forbidding(&space, FORBIDDEN, method, "");
            search.seed = shared::Seed::new(seed);
            let proposals = drive(&search, 60, delay, |job, _| match kind {
                0 => outcomes[job.configuration.0 as usize].map_or_else(crashed, evaluated),
                1 => crashed(),
                _ => evaluated(0.5),
            });
            assert_valid(&search, &proposals);
        }
    }

    #[test]
    fn monotone_transformations_of_the_loss_change_nothing(seed in 0u64..1000, scale in 0.01..100.0_f64) {
        for faithful in [false, true] {
            let mut search = search(MIXED, "bohb", &format!(r#","bohb":{{"faithful":{faithful}}}"#));
            search.seed = shared::Seed::new(seed);
            let plain = drive(&search, 50, 2, |_, values| evaluated(number(values)));
            let other = drive(&search, 50, 2, |_, values| evaluated(scale * number(values).powi(3) - 7.0));
            prop_assert_eq!(plain, other);
        }
    }

    #[test]
    fn factors_of_the_loss_change_nothing_for_the_default_method(seed in 0u64..1000, exponent in -20..20_i32) {
        let mut search = search(MIXED, "tandem", "");
        search.seed = shared::Seed::new(seed);
        let plain = drive(&search, 40, 2, |_, values| evaluated(number(values)));
        // Powers of two: without rounding.
        let other = drive(&search, 40, 2, |_, values| evaluated(2.0_f64.powi(exponent) * number(values)));
        prop_assert_eq!(plain, other);
    }

    #[test]
    fn the_order_in_which_equal_results_arrive_changes_nothing(seed: u64) {
        for method in ["bohb", "tandem"] {
        let search = search(MIXED, method, "");
        let start = drive(&search, 40, 0, |_, _| evaluated(0.0));
        let mut results: Vec<JobResult> = start
            .iter()
            .map(|p| result(&search, p.configuration.job(0), &p.values, evaluated(f64::from(p.configuration.0 % 4))))
            .collect();
        let request = Request {
            configuration: ConfigurationId(40),
            bracket: 0,
            rung: 0,
            finished: Vec::new(),
            pending: Vec::new(),
            superseding: Vec::new(),
            given: None,
            top: None,
        };
        let answer = |results: &[JobResult]| {
            let mut proposer = Proposer::new(&search);
            proposer.learn(results);
            proposer.propose(&request)
        };
        let sorted = answer(&results);
        shuffle(&mut results, seed);
        prop_assert_eq!(sorted, answer(&results));
        }
    }
}

fn shuffle(results: &mut [JobResult], seed: u64) {
    use rand::RngExt as _;
    let mut rng = shared::Seed::new(seed).rng();
    for i in (1..results.len()).rev() {
        results.swap(i, rng.random_range(0..=i));
    }
}

#[test]
fn all_crashed_and_all_equal_results_still_give_valid_proposals() {
    let tandem = search(MIXED, "tandem", "");
    for outcome in [crashed(), evaluated(0.0), evaluated(-0.0)] {
        let proposals = drive(&tandem, 60, 3, |_, _| outcome.clone());
        assert_valid(&tandem, &proposals);
        // Nothing tells points apart, so the model often suggests one that has been tried.
        let expected = outcome.loss().map_or(0, |_| 10);
        assert!(num_from_model(&proposals) >= expected);
    }
    for faithful in [false, true] {
        let search = search(
            MIXED,
            "bohb",
            &format!(r#","bohb":{{"faithful":{faithful}}}"#),
        );
        for outcome in [crashed(), evaluated(0.0), evaluated(-0.0)] {
            let proposals = drive(&search, 60, 3, |_, _| outcome.clone());
            assert_valid(&search, &proposals);
            assert!(num_from_model(&proposals) > 10);
        }
    }
}

#[test]
fn one_and_two_hundred_dimensions_get_a_model() {
    let dimensions: Vec<String> = (0..200)
        .map(|i| match i % 3 {
            0 => format!(r#"{{"name":"h{i}","type":"float","lower":0,"upper":1}}"#),
            1 => format!(r#"{{"name":"h{i}","type":"integer","lower":1,"upper":5}}"#),
            _ => format!(r#"{{"name":"h{i}","type":"categorical","choices":[1,2]}}"#),
        })
        .collect();
    for (method, most) in [("bohb", 420), ("tandem", 40)] {
        let one = search(
            r#"{"name":"x","type":"float","lower":0,"upper":1}"#,
            method,
            "",
        );
        let proposals = drive(&one, 40, 0, |_, v| {
            evaluated((v.float("x").unwrap() - 0.3).abs())
        });
        assert_valid(&one, &proposals);
        let near = proposals[20..].iter().filter(|p| {
            p.origin.source == "model" && (p.values.float("x").unwrap() - 0.3).abs() < 0.2
        });
        assert!(near.count() >= 8, "{method}: {:?}", values(&proposals));

        let many = search(&dimensions.join(","), method, "");
        let proposals = drive(&many, most, 0, |_, v| evaluated(v.float("h0").unwrap()));
        assert_valid(&many, &proposals);
        let models: Vec<f64> = proposals
            .iter()
            .filter_map(|p| p.origin.model.as_ref().map(|m| m.log_acquisition))
            .collect();
        assert!(
            models.len() > 5 && models.iter().all(|x| x.is_finite() && x.abs() < 1e6),
            "{method}: {models:?}"
        );
    }
}

#[test]
fn what_is_fixed_stays_and_conditions_follow_it_in_every_method() {
    for method in methods() {
        let space = believing(MIXED);
        let fix = r#","fix":{"kind":"b","size":16}"#;
        let fixed = forbidding(&space, FORBIDDEN, method, fix);
        let whole = forbidding(&space, FORBIDDEN, method, "");
        assert_eq!(fixed.space.num_dimensions(), 4);
        let proposals = drive(&fixed, 60, 2, |_, v| evaluated(number(v)));
        assert_valid(&fixed, &proposals);
        assert_valid(&whole, &proposals);
        for proposal in &proposals {
            assert_eq!(proposal.values.get("kind"), Some(&Value::Text("b".into())));
            let has_size = proposal.values.integer("depth").unwrap() <= 5;
            assert_eq!(proposal.values.integer("size"), has_size.then_some(16));
        }
    }
}

#[test]
fn beliefs_are_followed_while_results_bear_them_out_and_ignored_by_those_who_say_so() {
    let space = r#"{"name":"x","type":"float","lower":0,"upper":1,"prior":0.2,"confidence":"high"},
        {"name":"y","type":"float","lower":0,"upper":1}"#;
    let near = |method: &str, more: &str, optimum: f64| {
        let search = search(space, method, more);
        let proposals = drive(&search, 90, 0, |_, v| {
            evaluated((v.float("x").unwrap() - optimum).abs())
        });
        assert_valid(&search, &proposals);
        let believed = proposals.iter().filter(|p| p.origin.source == "belief");
        (believed.count(), proposals)
    };
    for method in ["bohb", "tandem", "tpe", "evolution", "reinforce", "smbo"] {
        let (good, proposals) = near(method, "", 0.2);
        let first = proposals[0].values.float("x").unwrap();
        assert!((first - 0.2).abs() < 1e-12, "{method}: {first}");
        let (wrong, _) = near(method, "", 0.9);
        assert!(wrong <= 12, "{method}: {wrong}");
        // The policy has left the prior after the first result.
        let goes_on = method != "reinforce";
        assert!(!goes_on || good > wrong, "{method}: {good} and {wrong}");
    }
    for (method, more) in [
        ("random", ""),
        ("hyperband", ""),
        ("bohb", r#","bohb":{"faithful":true}"#),
    ] {
        let without = space.replace(r#","prior":0.2,"confidence":"high""#, "");
        let (count, proposals) = near(method, more, 0.2);
        assert_eq!(count, 0);
        let plain = search(&without, method, more);
        let expected = drive(&plain, 90, 0, |_, v| {
            evaluated((v.float("x").unwrap() - 0.2).abs())
        });
        assert_eq!(proposals, expected);
    }
}

#[test]
fn an_optimum_beside_a_forbidden_region_is_found_and_the_region_never_entered() {
    // The loss falls towards x = 0.3, which is forbidden with all its surroundings, for one category of two.
    let space = r#"{"name":"x","type":"float","lower":0,"upper":1},{"name":"k","type":"categorical","choices":["a","b"]}"#;
    for method in ["bohb", "tandem", "smbo"] {
        let search = forbidding(
            space,
            r#"{"x":{"min":0.2,"max":0.4}},{"x":{"max":0.2},"k":"b"}"#,
            method,
            "",
        );
        let proposals = drive(&search, 120, 0, |_, v| {
            let is_b = matches!(v.get("k"), Some(Value::Text(k)) if k == "b");
            evaluated((v.float("x").unwrap() - 0.3).abs() + f64::from(u8::from(is_b)))
        });
        assert_valid(&search, &proposals);
        let near = proposals[60..].iter().filter(|p| {
            let x = p.values.float("x").unwrap();
            x < 0.5 && x > 0.1
        });
        // A fifth of the allowed space.
        assert!(near.count() > 20, "{method}: {:?}", values(&proposals));
    }
}

#[test]
fn two_hundred_dimensions_with_forbidden_neighbours_are_answered_by_every_method() {
    let dimensions: Vec<String> = (0..200)
        .map(|i| match i % 2 {
            0 => format!(r#"{{"name":"h{i}","type":"float","lower":0,"upper":1}}"#),
            _ => format!(r#"{{"name":"h{i}","type":"categorical","choices":[1,2,3]}}"#),
        })
        .collect();
    // Nearly every draw from the prior is forbidden.
    let forbidden: Vec<String> = (0..199)
        .map(|i| match i % 2 {
            0 => format!(r#"{{"h{i}":{{"min":0.7}},"h{}":1}}"#, i + 1),
            _ => format!(r#"{{"h{i}":1,"h{}":{{"max":0.3}}}}"#, i + 1),
        })
        .collect();
    for method in methods() {
        let search = forbidding(&dimensions.join(","), &forbidden.join(","), method, "");
        let most = if method == "bohb" { 404 } else { 24 };
        let proposals = drive(&search, most, 0, |_, v| {
            evaluated(v.float("h0").unwrap() + v.float("h2").unwrap())
        });
        assert_valid(&search, &proposals);
    }
}

#[test]
fn a_space_without_dimensions_is_answered_with_its_constants() {
    let search = search(
        r#"{"name":"version","type":"constant","value":3}"#,
        "bohb",
        "",
    );
    let proposals = drive(&search, 20, 1, |_, _| evaluated(1.0));
    assert_valid(&search, &proposals);
    assert_eq!(num_from_model(&proposals), 0);
}

#[test]
fn crashed_configurations_steer_away_and_lost_jobs_do_not() {
    let space = r#"{"name":"x","type":"float","lower":0,"upper":1}"#;
    let bohb = search(space, "bohb", r#","bohb":{"random_fraction":0}"#);
    let tandem = search(space, "tandem", "");
    let low = |proposals: &[Proposal]| {
        let late = proposals[40..]
            .iter()
            .filter(|p| p.origin.source != "prior");
        let late: Vec<f64> = late.map(|p| p.values.float("x").unwrap()).collect();
        assert!(late.len() >= 20);
        late.iter().filter(|x| **x < 0.5).count() as f64 / late.len() as f64
    };
    let smbo = search(space, "smbo", "");
    let evolution = search(space, "evolution", "");
    // Everything below 0.5 crashes or diverges, everything above is as good as the next.
    for search in [&bohb, &tandem, &smbo, &evolution] {
        // The share of one seed has a standard deviation of 0.05.
        let shares = (5..13).map(|seed| {
            let mut search = search.clone();
            search.seed = shared::Seed::new(seed);
            let failing = drive(&search, 100, 0, |job, v| {
                if v.float("x").unwrap() >= 0.5 {
                    evaluated(1.0)
                } else if job.configuration.0 % 2 == 0 {
                    crashed()
                } else {
                    Outcome::Diverged {
                        spent: 0.5,
                        message: "NaN".into(),
                    }
                }
            });
            low(&failing)
        });
        let share = shares.sum::<f64>() / 8.0;
        assert!(share < 0.25, "{}: {share}", search.method.as_str());
    }
    let losing = drive(&bohb, 100, 0, |_, v| {
        if v.float("x").unwrap() < 0.5 {
            Outcome::Lost {
                attempts: 3,
                fate: Fate::NodeLost,
            }
        } else {
            evaluated(1.0 - v.float("x").unwrap())
        }
    });
    // Lost jobs are no results at all: only those above 0.5 are in the model.
    let models: Vec<_> = losing
        .iter()
        .filter_map(|p| p.origin.model.as_ref())
        .collect();
    assert!(!models.is_empty());
    assert!(models.iter().all(|m| m.num_good + m.num_bad < 100));
}

#[test]
fn methods_that_learn_find_the_best_of_what_keeps_the_constraints() {
    let space = r#"{"name":"x","type":"float","lower":0,"upper":1},{"name":"y","type":"float","lower":0,"upper":1}"#;
    for method in ["tandem", "bohb", "tpe", "smbo", "evolution"] {
        let search = search(space, method, "");
        let of = |values: &Configuration| ["x", "y"].map(|name| values.float(name).unwrap());
        // The loss falls to where the constraint x + y <= 1/2 is broken most; an eighth of the space keeps it.
        let proposals = drive(&search, 90, 0, |_, values| {
            let [x, y] = of(values);
            let excess = x + y - 0.5;
            if excess <= 0.0 {
                return evaluated((x - 0.3).powi(2) + (y - 0.4).powi(2));
            }
            Outcome::Infeasible {
                violations: vec![Violation {
                    measure: "sum".into(),
                    value: x + y,
                    min: None,
                    max: Some(0.5),
                }],
                trained_loss: None,
            }
        });
        let late = &proposals[30..];
        let is_feasible = |p: &&Proposal| of(&p.values).iter().sum::<f64>() <= 0.5;
        let feasible: Vec<[f64; 2]> = late
            .iter()
            .filter(is_feasible)
            .map(|p| of(&p.values))
            .collect();
        let share = feasible.len() as f64 / late.len() as f64;
        let best = feasible
            .iter()
            .map(|[x, y]| (x - 0.3).powi(2) + (y - 0.4).powi(2));
        let best = best.fold(f64::INFINITY, f64::min);
        // An eighth by chance, of 60 with a standard error of 0.043; the best is at (0.2, 0.3), with 0.02.
        assert!(share > 0.22 && best < 0.1, "{method}: {share}, {best}");
    }
}

#[test]
fn a_proposal_depends_on_the_results_known_and_not_on_how_they_were_learnt() {
    // One process answers all requests; another one only the last, having learnt everything at once.
    for method in ["bohb", "tandem"] {
        let search = search(MIXED, method, "");
        let proposals = drive(&search, 60, 0, |_, values| evaluated(number(values)));
        let last = &proposals[59];
        let mut proposer = Proposer::new(&search);
        let mut results = Vec::new();
        for p in &proposals[..59] {
            proposer.ask(p.configuration.job(0));
            for rung in 0..=u8::from(p.configuration.0 % 3 == 0) {
                let job = p.configuration.job(rung);
                results.push(result(
                    &search,
                    job,
                    &p.values,
                    evaluated(number(&p.values)),
                ));
            }
        }
        if method == "bohb" {
            results.reverse();
            proposer.learn(&results);
        } else {
            // What is fitted depends on which results were named first.
            for result in &results {
                proposer.learn(std::slice::from_ref(result));
            }
        }
        let request = Request {
            configuration: last.configuration,
            bracket: 0,
            rung: 0,
            finished: Vec::new(),
            pending: Vec::new(),
            superseding: Vec::new(),
            given: None,
            top: None,
        };
        assert_eq!(proposer.propose(&request), *last);
    }
}

#[test]
fn every_method_that_learns_beats_chance() {
    use sampler::bench::{curve, problem::Problem, simulate};
    use shared::search::MethodName;
    let problem = Problem::function("counting-ones-4", None, None).unwrap();
    // At 32 largest budgets, or at 128 for methods that need many cheap steps.
    let regret = |method: MethodName, point: usize| -> f64 {
        let runs = (0..6).map(|seed| {
            let search = simulate::search(&problem, method, false, seed).unwrap();
            let rows = simulate::run(&problem, &search, curve::POINTS[point], 1).unwrap();
            curve::at_points(&rows, &curve::POINTS)[point].unwrap()
        });
        runs.sum::<f64>() / 6.0
    };
    for (method, point) in [
        (MethodName::Bohb, 2),
        (MethodName::Tandem, 2),
        (MethodName::Smbo, 4),
        (MethodName::Tpe, 4),
        (MethodName::Evolution, 4),
        (MethodName::Tournament, 4),
        (MethodName::Progressive, 4),
        (MethodName::Reinforce, 4),
    ] {
        let (found, chance) = (regret(method, point), regret(MethodName::Random, point));
        assert!(
            found < 0.75 * chance,
            "{}: {found} against {chance}",
            method.as_str()
        );
    }
}

#[test]
fn a_superseded_outcome_leaves_no_trace_in_any_method() {
    let mut num_different = 0;
    for method in methods() {
        let search = search(MIXED, method, "");
        let start = drive(&search, 40, 0, |_, _| evaluated(0.0));
        let results: Vec<JobResult> = start
            .iter()
            .map(|p| {
                let loss = f64::from(p.configuration.0 * 7 % 11);
                result(&search, p.configuration.job(0), &p.values, evaluated(loss))
            })
            .collect();
        let again = |outcome: Outcome| {
            let first = &results[3];
            let attempt = first.attempt.next();
            JobResult {
                attempt,
                supersedes: Some(first.attempt),
                outcome,
                ..first.clone()
            }
        };
        let propose = |first: Outcome, then: Outcome| {
            let mut proposer = Proposer::new(&search);
            let mut results = results.clone();
            results[3].outcome = first;
            proposer.learn(&results);
            let request = Request {
                configuration: ConfigurationId(40),
                bracket: 0,
                rung: 0,
                finished: Vec::new(),
                pending: Vec::new(),
                superseding: vec![again(then.clone()).id()],
                given: None,
                top: None,
            };
            // A model that was fitted before it was known.
            let before = proposer.propose(&request);
            proposer.learn(&[again(then)]);
            (before.values, proposer.propose(&request))
        };
        let (crashed_before, after_crash) = propose(crashed(), evaluated(0.5));
        let (best_before, after_best) = propose(evaluated(-9.0), evaluated(0.5));
        assert_eq!(after_crash, after_best, "{method}");
        assert_eq!(after_crash.origin.num_results, 40);
        num_different += usize::from(crashed_before != best_before);
    }
    // By chance some draw from the prior.
    assert!(num_different > 0);
}
