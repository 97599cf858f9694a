//! Densities and acquisition values against statsmodels' `KDEMultivariate`, computed once by `golden/kde.py`; and what searches of
//! an earlier revision did.

use sampler::bench::problem::Problem;
use sampler::bench::{curve, simulate};
use sampler::history::History;
use sampler::kde::{Density, Dimension, normal_reference};
use sampler::method::Ask;
use sampler::method::bohb::Bohb;
use serde::Deserialize;
use shared::search::{BohbSettings, MethodName};
use shared::{ConfigurationId, Score, SearchSpace, Seed};

#[derive(Deserialize)]
struct Golden {
    levels: Vec<usize>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    results: Vec<Vec<f64>>,
    losses: Vec<f64>,
    good: Vec<Vec<f64>>,
    bad: Vec<Vec<f64>>,
    points: Vec<Vec<f64>>,
    good_normal_reference: Vec<f64>,
    bad_normal_reference: Vec<f64>,
    good_bandwidths: Vec<f64>,
    bad_bandwidths: Vec<f64>,
    good_pdf: Vec<f64>,
    bad_pdf: Vec<f64>,
    log_acquisition: Vec<f64>,
    best: usize,
}

/// Both sides round once an operation; five dimensions and 200 rows leave less than this of it.
const RELATIVE: f64 = 1e-13;

fn assert_close(found: f64, expected: f64, tolerance: f64, what: &str) {
    assert!(
        (found - expected).abs() <= tolerance,
        "{what}: found {found:?}, statsmodels has {expected:?}"
    );
}

#[test]
fn densities_and_acquisition_values_are_those_of_statsmodels() {
    let golden: Golden = serde_json::from_str(include_str!("golden/kde.json")).unwrap();
    let dimensions: Vec<Dimension> = golden
        .levels
        .iter()
        .map(|levels| match levels {
            0 => Dimension::Continuous,
            3 => Dimension::Unordered { levels: 3 },
            levels => Dimension::Ordered { levels: *levels },
        })
        .collect();
    assert_eq!(golden.cases.len(), 3);
    for case in &golden.cases {
        let sets = [
            (
                &case.good,
                &case.good_normal_reference,
                &case.good_bandwidths,
                &case.good_pdf,
            ),
            (
                &case.bad,
                &case.bad_normal_reference,
                &case.bad_bandwidths,
                &case.bad_pdf,
            ),
        ];
        let mut logs = Vec::new();
        for (rows, reference, bandwidths, pdf) in sets {
            for (found, expected) in normal_reference(dimensions.len(), rows)
                .iter()
                .zip(reference)
            {
                assert_close(
                    *found,
                    *expected,
                    expected * RELATIVE,
                    "bandwidth by the rule",
                );
            }
            let density = Density::fit(&dimensions, rows, 1e-3).unwrap();
            for (found, expected) in density.bandwidths().iter().zip(bandwidths) {
                assert_close(*found, *expected, expected * RELATIVE, "bandwidth");
            }
            let found: Vec<f64> = case.points.iter().map(|p| density.ln_pdf(p)).collect();
            assert_eq!(found.len(), 64);
            for (found, expected) in found.iter().zip(pdf) {
                // In log space a relative error is an absolute one; the exponent's own rounding grows with its size.
                assert_close(
                    *found,
                    expected.ln(),
                    RELATIVE * (1.0 + found.abs()),
                    "density",
                );
            }
            logs.push(found);
        }
        let ratios: Vec<f64> = logs[0].iter().zip(&logs[1]).map(|(l, g)| l - g).collect();
        for ((found, expected), l) in ratios.iter().zip(&case.log_acquisition).zip(&logs[0]) {
            assert_close(
                *found,
                *expected,
                2.0 * RELATIVE * (1.0 + l.abs()),
                "acquisition",
            );
        }
        let best = (0..64).max_by(|a, b| ratios[*a].total_cmp(&ratios[*b]));
        assert_eq!(best, Some(case.best));
    }
}

const SPACE: &str = r#"{"hyperparameters":[
    {"name":"x","type":"float","lower":0,"upper":1},
    {"name":"y","type":"float","lower":0,"upper":1},
    {"name":"i","type":"integer","lower":1,"upper":5},
    {"name":"k","type":"categorical","choices":["a","b","c"]},
    {"name":"o","type":"ordinal","sequence":[1,2,3,4]}]}"#;

#[test]
fn the_method_splits_fits_and_values_candidates_as_hpbandster_with_statsmodels_does() {
    let golden: Golden = serde_json::from_str(include_str!("golden/kde.json")).unwrap();
    let space = SearchSpace::new(&serde_json::from_str(SPACE).unwrap()).unwrap();
    for case in &golden.cases {
        let mut history = History::new(&space);
        for (number, (row, loss)) in (0_u32..).zip(case.results.iter().zip(&case.losses)) {
            let job = ConfigurationId(number).job(1);
            history.learn(job, Some(Score::Loss(*loss)), row.clone());
        }
        let ask = Ask {
            configuration: ConfigurationId(1000),
            rung: 0,
            pending: &[],
            seed: Seed::new(0),
        };
        for faithful in [false, true] {
            let settings = BohbSettings {
                faithful,
                ..BohbSettings::default()
            };
            let method = Bohb::new(&space, settings, Seed::new(0));
            let found = method
                .log_acquisition(&history, &ask, &case.points)
                .unwrap();
            let mut num_compared = 0;
            for ((found, expected), l) in
                found.iter().zip(&case.log_acquisition).zip(&case.good_pdf)
            {
                // HpBandSter's densities end at 1e-32, those of the reference values do not; `faithful` bounds a
                // category's bandwidth by 1, as statsmodels' kernel allows, and not by (c-1)/c.
                let is_bounded = case.good_bandwidths[3] < 0.666 && case.bad_bandwidths[3] < 0.666;
                if faithful && (!is_bounded || *l < 1e-32) {
                    continue;
                }
                num_compared += 1;
                assert_close(
                    *found,
                    *expected,
                    2.0 * RELATIVE * (1.0 + l.ln().abs()),
                    "acquisition",
                );
            }
            assert!(faithful || num_compared == 64);
        }
    }
}

/// `golden/revision-4.csv` was written by a program of revision 4: `sampler bench --benchmark joint-resnet --method tandem
/// --seeds 3..4 --total 16`.
#[test]
fn searches_of_revision_4_go_on_as_they_began_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("revision-4.csv");
    let text = include_str!("golden/revision-4.csv");
    shared::fs::replace(&path, text.as_bytes()).unwrap();
    let expected = curve::read(&path).unwrap();
    assert_eq!(expected.len(), text.lines().count() - 1);
    let problem = Problem::function("joint-resnet", None, None).unwrap();
    let mut search = simulate::search(&problem, MethodName::Tandem, false, 3).unwrap();
    search.revision = 4;
    let found = simulate::run(&problem, &search, 16.0, 1).unwrap();
    assert_eq!(found, expected);
    search.revision = 5;
    let newer = simulate::run(&problem, &search, 16.0, 1).unwrap();
    assert_ne!(newer, expected);
}
