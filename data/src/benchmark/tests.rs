use std::f64::consts::PI;

use proptest::prelude::*;

use super::*;

fn point(prefix: &str, start: usize, x: &[f64]) -> Configuration {
    let value = |(i, &x): (usize, &f64)| (format!("{prefix}{}", start + i), Value::Float(x));
    x.iter().enumerate().map(value).collect()
}

/// Counting ones: the categories, then the numbers.
fn ones(categories: &[i64], numbers: &[f64]) -> Configuration {
    let mut configuration = point("cont_", 0, numbers);
    for (i, &category) in categories.iter().enumerate() {
        configuration.set(format!("cat_{i}"), Value::Integer(category));
    }
    configuration
}

fn assert_near(found: f64, expected: f64) {
    let scale = expected.abs().max(1.0);
    assert!(
        (found - expected).abs() < 1e-14 * scale,
        "{found:?} is not {expected:?}"
    );
}

fn noiseless(function: Function, bias: f64) -> Benchmark {
    Benchmark {
        function,
        bias,
        noise: 0.0,
    }
}

fn value(benchmark: Benchmark, configuration: &Configuration, budget: f64) -> f64 {
    benchmark
        .evaluate(configuration, budget, 100.0, Seed::new(0))
        .unwrap()
}

/// Printed by Python 3.11 with numpy 2.4.6:
/// `-sum((alpha - bias * (1 - log(z) / log(100))) * exp(-sum(A * (x - P) ** 2, axis=1)))`
/// with bias 0.5 in three dimensions and 3.5 in six, for z = 100, 10 and 1.
#[test]
fn hartmann_has_the_values_of_an_independent_computation_at_every_fidelity() {
    let three = noiseless(Function::MfHartmann3, 0.5);
    let x = point("x_", 0, &[0.2, 0.5, 0.8]);
    assert_near(value(three, &x, 100.0), -3.535_387_635_404_504);
    assert_near(value(three, &x, 10.0), -3.123_149_153_002_498);
    assert_near(value(three, &x, 1.0), -2.710_910_670_600_491_7);
    let six = noiseless(Function::MfHartmann6, 3.5);
    let x = point("x_", 0, &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]);
    assert_near(value(six, &x, 100.0), -1.406_910_576_138_529_7);
    assert_near(value(six, &x, 10.0), -0.401_606_108_398_676_94);
    assert_near(value(six, &x, 1.0), 0.603_698_359_341_175_8);
    // Below z = 1 the fidelity does not fall further.
    assert_near(value(six, &x, 0.1), 0.603_698_359_341_175_8);
}

/// Printed by Python 3.11 with numpy 2.4.6:
/// `(x2 - b*x1**2 + 5/pi*x1 - 6)**2 + 10*(1 - 1/(8*pi))*cos(x1) + 10`
/// with b = 5.1/(4*pi**2) - 0.1*(1 - s), for s = 1, 0.5 and 0.1.
#[test]
fn branin_has_the_values_of_an_independent_computation_at_every_fidelity() {
    let branin = noiseless(Function::Branin, 0.1);
    let x = point("x", 1, &[2.5, 7.5]);
    assert_near(value(branin, &x, 100.0), 24.129_964_413_622_268);
    assert_near(value(branin, &x, 50.0), 27.147_289_660_589_458);
    assert_near(value(branin, &x, 10.0), 29.701_774_858_163_212);
}

#[test]
fn searches_may_name_every_function() {
    assert_eq!(
        Function::ALL.map(Function::as_str),
        shared::objective::BENCHMARKS
    );
}

#[test]
fn the_published_minimisers_reach_the_optimum() {
    let branin = Benchmark::new(Function::Branin);
    for x in [[-PI, 12.275], [PI, 2.275], [9.424_78, 2.475]] {
        assert!(branin.regret(&point("x", 1, &x)).unwrap().abs() < 1e-10);
    }
    let three = point("x_", 0, &[0.114_588_881, 0.555_648_895, 0.852_546_984]);
    let regret = Benchmark::new(Function::MfHartmann3)
        .regret(&three)
        .unwrap();
    assert!((0.0..1e-14).contains(&regret), "{regret}");
    let six = point(
        "x_",
        0,
        &[0.20169, 0.150_011, 0.476_874, 0.275_332, 0.311_652, 0.6573],
    );
    let regret = Benchmark::new(Function::MfHartmann6).regret(&six).unwrap();
    assert!((0.0..1e-10).contains(&regret), "{regret}");
}

#[test]
fn counting_ones_counts_ones() {
    let benchmark = Benchmark::new(Function::CountingOnes);
    let x = ones(&[1, 0, 1], &[0.5, 0.25, 1.0]);
    assert_near(benchmark.true_value(&x).unwrap(), -3.75);
    assert_near(benchmark.regret(&x).unwrap(), 2.25 / 6.0);
    assert_near(benchmark.optimum(6), -6.0);
    // Certain tosses are exact at any budget, and a budget below 1 still tosses once.
    assert_near(
        value(benchmark, &ones(&[1, 1, 0], &[0.0, 1.0, 1.0]), 0.5),
        -4.0,
    );
}

#[test]
fn counting_ones_tosses_as_often_as_the_budget_says() {
    let benchmark = Benchmark::new(Function::CountingOnes);
    let x = ones(&[0], &[0.3]);
    for seed in 0..50 {
        let loss = benchmark.evaluate(&x, 9.7, 729.0, Seed::new(seed)).unwrap();
        let heads = -loss * 9.0;
        assert!((heads - heads.round()).abs() < 1e-12, "{heads} of 9 tosses");
    }
    // 729,000 tosses in all: the standard error is 5.4e-4.
    let losses = (0..1000).map(|seed| {
        benchmark
            .evaluate(&x, 729.0, 729.0, Seed::new(seed))
            .unwrap()
    });
    let mean = losses.sum::<f64>() / 1000.0;
    assert!((mean + 0.3).abs() < 2.5e-3, "{mean}");
}

#[test]
fn a_category_may_be_a_number_a_word_or_a_truth() {
    let benchmark = Benchmark::new(Function::CountingOnes);
    for one in [
        Value::Integer(1),
        Value::Float(1.0),
        Value::Text("1".into()),
        Value::Boolean(true),
    ] {
        let x: Configuration = [("cat_0", one)].into_iter().collect();
        assert_near(benchmark.true_value(&x).unwrap(), -1.0);
    }
}

#[test]
fn noise_has_the_deviation_of_its_fidelity_and_never_helps_in_hartmann() {
    let x = point("x_", 0, &[0.2, 0.5, 0.8]);
    let benchmark = Benchmark {
        function: Function::MfHartmann3,
        bias: 0.0,
        noise: 2.0,
    };
    let clean = benchmark.true_value(&x).unwrap();
    let noise: Vec<f64> = (0..4000)
        .map(|seed| {
            benchmark
                .evaluate(&x, 10.0, 100.0, Seed::new(seed))
                .unwrap()
                - clean
        })
        .collect();
    assert!(noise.iter().all(|&noise| noise >= 0.0));
    // At z = 10, u is 1/2: the deviation is 1, and |N(0, 1)| has mean √(2/π) and mean square 1.
    let mean = noise.iter().sum::<f64>() / 4000.0;
    let square = noise.iter().map(|noise| noise * noise).sum::<f64>() / 4000.0;
    assert!((mean - (2.0 / PI).sqrt()).abs() < 0.04, "{mean}");
    assert!((square - 1.0).abs() < 0.1, "{square}");
    assert_near(value(benchmark, &x, 100.0), clean);
}

#[test]
fn noise_in_branin_falls_on_both_sides_and_ends_at_the_largest_budget() {
    let x = point("x", 1, &[2.5, 7.5]);
    let benchmark = Benchmark {
        function: Function::Branin,
        bias: 0.0,
        noise: 4.0,
    };
    let clean = benchmark.true_value(&x).unwrap();
    let noise: Vec<f64> = (0..4000)
        .map(|seed| {
            benchmark
                .evaluate(&x, 50.0, 100.0, Seed::new(seed))
                .unwrap()
                - clean
        })
        .collect();
    let mean = noise.iter().sum::<f64>() / 4000.0;
    let square = noise.iter().map(|noise| noise * noise).sum::<f64>() / 4000.0;
    assert!(
        mean.abs() < 0.13 && (square - 4.0).abs() < 0.4,
        "{mean} {square}"
    );
    assert_near(value(benchmark, &x, 100.0), clean);
}

#[test]
fn the_noise_is_that_of_every_earlier_version() {
    let x = point("x_", 0, &[0.2, 0.5, 0.8]);
    let loss = value(Benchmark::new(Function::MfHartmann3), &x, 10.0);
    assert_near(loss, GOLDEN_HARTMANN);
    let loss = value(
        Benchmark::new(Function::CountingOnes),
        &ones(&[1], &[0.5, 0.5]),
        9.0,
    );
    assert_near(loss, GOLDEN_ONES);
}

const GOLDEN_HARTMANN: f64 = -2.996_973_241_071_813_3;
const GOLDEN_ONES: f64 = -2.333_333_333_333_333;

proptest! {
    #[test]
    fn an_evaluation_depends_on_configuration_budget_and_seed_alone(
        x in prop::array::uniform6(0.0..=1.0), budget in 1.0..99.0, seed: u64,
    ) {
        let function = Function::MfHartmann6;
        let benchmark = Benchmark { function, bias: 3.5, noise: 4.0 };
        let x = point("x_", 0, &x);
        let of = |budget: f64, seed| benchmark.evaluate(&x, budget, 100.0, Seed::new(seed)).unwrap();
        prop_assert_eq!(of(budget, seed).to_bits(), of(budget, seed).to_bits());
        prop_assert_ne!(of(budget, seed).to_bits(), of(budget, seed ^ 1).to_bits());
        prop_assert!(of(100.0, seed) >= benchmark.optimum(6));
    }
}

#[test]
fn every_name_leads_back_to_its_function() {
    for function in Function::ALL {
        assert_eq!(function.to_string().parse(), Ok(function));
    }
    let error = "rosenbrock".parse::<Function>().unwrap_err().to_string();
    assert_eq!(
        error,
        "unknown benchmark `rosenbrock`; known are counting-ones, branin, mf-hartmann3, mf-hartmann6, joint-resnet"
    );
}

#[test]
fn a_configuration_outside_the_domain_is_refused_by_name() {
    let three = Benchmark::new(Function::MfHartmann3);
    let text =
        |benchmark: Benchmark, x: &Configuration| benchmark.true_value(x).unwrap_err().to_string();
    assert_eq!(
        text(three, &point("x_", 0, &[0.5, 0.5])),
        "benchmark `mf-hartmann3` needs the hyperparameter `x_2`"
    );
    assert_eq!(
        text(three, &point("x_", 0, &[0.5; 4])),
        "benchmark `mf-hartmann3` has no hyperparameter `x_3`"
    );
    assert_eq!(
        text(three, &point("x_", 0, &[0.5, 1.5, 0.5])),
        "benchmark `mf-hartmann3`: expected a number in [0, 1] for `x_1`, found 1.5"
    );
    let counting = Benchmark::new(Function::CountingOnes);
    assert_eq!(
        text(counting, &ones(&[2], &[])),
        "benchmark `counting-ones`: expected 0 or 1 for `cat_0`, found 2"
    );
    assert_eq!(
        text(counting, &point("x", 1, &[0.5])),
        "benchmark `counting-ones` has no hyperparameter `x1`"
    );
    assert!(matches!(
        counting.true_value(&Configuration::default()),
        Err(BenchmarkError::Missing { .. })
    ));
}

#[test]
fn a_budget_beyond_the_largest_is_refused() {
    let benchmark = Benchmark::new(Function::Branin);
    let x = point("x", 1, &[0.0, 0.0]);
    for budget in [0.0, -1.0, 101.0, f64::NAN, f64::INFINITY] {
        let result = benchmark.evaluate(&x, budget, 100.0, Seed::new(0));
        assert!(
            matches!(result, Err(BenchmarkError::Budget { .. })),
            "{budget}"
        );
    }
}

#[test]
fn costs_are_the_published_ones() {
    assert_near(
        Benchmark::new(Function::MfHartmann3).cost(100.0, 100.0),
        1.0,
    );
    assert_near(
        Benchmark::new(Function::MfHartmann3).cost(10.0, 100.0),
        0.05 + 0.0095,
    );
    assert_near(
        Benchmark::new(Function::CountingOnes).cost(81.0, 729.0),
        1.0 / 9.0,
    );
}
