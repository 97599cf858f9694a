//! Densities and acquisition values against statsmodels' `KDEMultivariate`, computed once by `golden/kde.py`.

use sampler::kde::{Density, Kernel, normal_reference};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    levels: Vec<usize>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
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
    let kernels: Vec<Kernel> = golden
        .levels
        .iter()
        .map(|levels| match levels {
            0 => Kernel::Continuous,
            3 => Kernel::Unordered { levels: 3 },
            levels => Kernel::Ordered { levels: *levels },
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
            for (found, expected) in normal_reference(kernels.len(), rows).iter().zip(reference) {
                assert_close(
                    *found,
                    *expected,
                    expected * RELATIVE,
                    "bandwidth by the rule",
                );
            }
            let density = Density::fit(&kernels, rows, 1e-3).unwrap();
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
