use shared::{Directory, OwnerId};

use super::*;
use crate::extra;
use crate::load::{self, Wanted};
use crate::testing::{evaluated, history, result, write_search};

fn first(losses: &[&[f64]]) -> (History, Pair) {
    let history = history(losses);
    let pair = pairs(&history, &Settings::default()).remove(0);
    (history, pair)
}

#[test]
fn only_configurations_with_a_loss_at_both_budgets_are_compared() {
    let nan = f64::NAN;
    let (_, pair) = first(&[
        &[1.0, 1.0],
        &[2.0],
        &[nan],
        &[3.0, nan],
        &[4.0, 2.0],
        &[5.0, 3.0],
    ]);
    assert_eq!(pair.losses, [(1.0, 1.0), (4.0, 2.0), (5.0, 3.0)]);
    assert!((pair.agreement.unwrap().rho - 1.0).abs() < 1e-12);
}

#[test]
fn every_pair_of_budgets_has_a_row_even_without_results() {
    let history = history(&[&[1.0], &[2.0]]);
    let pairs = pairs(&history, &Settings::default());
    let rows: Vec<_> = pairs.iter().map(|p| (p.lower, p.upper, p.n())).collect();
    assert_eq!(rows, [(0, 1, 0), (0, 2, 0), (1, 2, 0)]);
    let csv = full_table(&history, &pairs).csv().unwrap();
    assert!(csv.starts_with("lower,upper,n,rho,"), "{csv}");
    assert!(csv.contains("\n1.0,3.0,0,-,-,-,-,-,-,-,-,-,-,-,"), "{csv}");
    let json = full_table(&history, &pairs).json();
    assert!(json[0]["rho"].is_null() && json[0]["n"] == 0, "{json}");
}

#[test]
fn overlap_shares_out_ties_at_the_border() {
    // Best two of six: {a, b} at the first side; at the second a is best and b, c, d are tied for one place.
    let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let y = [1.0, 2.0, 2.0, 2.0, 5.0, 6.0];
    let overlap = overlap(&x, &y).unwrap();
    assert_eq!(overlap.k, 2);
    assert!((overlap.in_both - (1.0 + 1.0 / 3.0)).abs() < 1e-12);
    // All equal: chance overlap k²/n.
    let even = super::overlap(&[1.0; 6], &[1.0; 6]).unwrap();
    assert!((even.in_both - 4.0 / 6.0).abs() < 1e-12);
    assert_eq!(super::overlap(&[], &[]), None);
}

#[test]
fn regret_is_what_the_pick_gives_up() {
    assert_eq!(regret(&[(0.1, 0.5), (0.2, 0.3), (0.3, 0.4)]), Some(0.2));
    // Two equal picks: their mean, 0.4, less 0.3.
    let tied = regret(&[(0.1, 0.5), (0.1, 0.3), (0.3, 0.4)]).unwrap();
    assert!((tied - 0.1).abs() < 1e-12);
    assert_eq!(regret(&[]), None);
}

#[test]
fn verdicts_say_what_to_do() {
    let rows = |pairs: &[(f64, f64)]| -> String {
        let rows: Vec<Vec<f64>> = pairs.iter().map(|(a, b)| vec![*a, *b]).collect();
        let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        let (history, pair) = first(&rows);
        verdict(&history, &pair)
    };
    let number = |i: usize| i as f64;
    let strong: Vec<_> = (0..12).map(|i| (number(i), number(i))).collect();
    let reversed: Vec<_> = (0..12).map(|i| (number(i), -number(i))).collect();
    let chance: Vec<_> = (0..12).map(|i| (number(i), number(i * 5 % 12))).collect();
    let moderate: Vec<_> = (0..12).map(|i| (number(i), number(i ^ 3))).collect();
    let weak: Vec<_> = (0..30)
        .map(|i| (number(i), number(i * 11 % 31) + number(i) / 3.0))
        .collect();
    let few = &strong[..2];
    let constant: Vec<_> = (0..5).map(|i| (number(i), 1.0)).collect();
    let small: Vec<_> = [(0.0, 1.0), (1.0, 0.0), (2.0, 2.0), (3.0, 3.0)].into();
    let all = [
        &strong[..],
        &reversed,
        &chance,
        &moderate,
        &weak,
        few,
        &constant,
        &small,
    ];
    insta::assert_snapshot!(all.map(rows).join("\n"));
}

#[test]
fn the_table_for_people_fits_into_80_columns() {
    let nan = f64::NAN;
    let rows: Vec<Vec<f64>> = (0..40_u32)
        .map(|i| {
            let x = f64::from(i * 17 % 40) / 40.0;
            vec![
                x + 1234.567,
                f64::from(i * 7 % 11) / 9.0 + x + 1234.0,
                if i % 5 == 0 {
                    nan
                } else {
                    -x * x + f64::from(i % 3) - 0.5
                },
            ]
        })
        .collect();
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let history = history(&rows);
    let pairs = pairs(&history, &Settings::default());
    let text = short_table(&history, &pairs).aligned();
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    insta::assert_snapshot!(format!(
        "{}\n{text}{}",
        summary(&history),
        caveat(&history, &pairs, &Settings::default())
    ));
}

#[test]
fn extra_jobs_complete_a_uniform_sample() {
    let nan = f64::NAN;
    let history = history(&[
        &[1.0, 1.0, 1.0],
        &[2.0],
        &[3.0],
        &[4.0, 2.0],
        &[5.0],
        &[nan],
        &[6.0],
    ]);
    let seed = Seed::new(5);
    let extra = extra::draw(&history, 3, seed).unwrap();
    assert_eq!(extra, extra::draw(&history, 3, seed).unwrap());
    assert_ne!(
        extra.sample,
        extra::draw(&history, 3, Seed::new(6)).unwrap().sample
    );
    let done: Vec<_> = history.results.iter().map(|result| result.job).collect();
    let mut lacking = BTreeSet::new();
    for job in &extra.jobs {
        assert!(!done.contains(&job.job), "{} is done already", job.job);
        assert!(extra.sample.contains(&job.job.configuration));
        assert_ne!(
            job.job.configuration.0, 5,
            "a failed configuration cannot be ranked"
        );
        let search = history.search.as_ref().unwrap();
        assert_eq!(job.search, search.digest);
        assert_eq!(job.budget, search.ladder.budget(job.job.rung));
        lacking.insert(job.job.configuration);
    }
    assert_eq!(lacking.len(), 3);
    // More than there are: all of them.
    let all = extra::draw(&history, 100, seed).unwrap();
    assert_eq!(all.sample.len(), 6);
    assert_eq!(all.jobs.len(), 2 * 4 + 1);
}

#[test]
fn a_sample_becomes_a_search_directory_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    let results = [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (3, 0), (3, 1)];
    let results = results.map(|(number, rung)| {
        let loss = f64::from(number) + f64::from(rung) / 10.0;
        result(number, rung, evaluated(loss))
    });
    write_search(&source, &results);
    let history = load::open(&source, Wanted::default()).unwrap();
    let extra = extra::draw(&history, 2, Seed::new(1)).unwrap();
    let out = folder.path().join("sample");
    extra::write(&history, &extra, &out).unwrap();
    // A trainer finds the jobs and may claim them: they are of this very search.
    let sample = Directory::open(&out).unwrap();
    let open = sample.open_jobs().unwrap();
    assert_eq!(open.len(), extra.jobs.len());
    let owner = OwnerId::from_parts(&["test"]);
    assert!(sample.claim(open[0], &owner).unwrap().is_some());
    // What the sample has is there already, and nothing else is.
    let found = load::open(&out, Wanted::ALL).unwrap();
    let ids: Vec<_> = found.configurations.iter().map(|tried| tried.id).collect();
    assert_eq!(ids, extra.sample);
    assert!(
        found
            .configurations
            .iter()
            .all(|tried| tried.origin.is_some())
    );
    assert!(
        extra::write(&history, &extra, &out).is_err(),
        "never into a directory in use"
    );

    let list = folder.path().join("list.txt");
    crate::testing::write(&list, "c000000 c000003\n");
    let among = extra::read_sample(&list).unwrap();
    let among = Settings {
        among: Some(&among),
        ..Settings::default()
    };
    assert_eq!(pairs(&history, &among)[0].losses, [(0.0, 0.1), (3.0, 3.1)]);
    crate::testing::write(&list, "c0 c000003\n");
    assert!(extra::read_sample(&list).is_err());
}

#[test]
fn a_search_without_selection_is_told_from_one_with_it() {
    let all = history(&[&[1.0, 1.0, 2.0], &[2.0, 3.0, 1.0], &[3.0, 2.0, 3.0]]);
    let some = history(&[&[1.0, 1.0, 2.0], &[2.0, 3.0, 1.0], &[3.0]]);
    let mut stopping = some.clone();
    stopping.results[0].checks.push((0, 1.0));
    let text = |history: &History| {
        let settings = Settings::default();
        caveat(history, &pairs(history, &settings), &settings)
    };
    assert!(
        text(&all).contains("nothing was selected"),
        "{}",
        text(&all)
    );
    assert!(text(&some).contains("to be promoted"), "{}", text(&some));
    let told = text(&stopping);
    assert!(told.contains("not to be stopped"), "{told}");
}
