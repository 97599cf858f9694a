//! The spaces in `data/spaces/` are what their names promise.

use std::path::Path;

use data::benchmark::{Benchmark, Function};
use shared::space::SpaceFile;
use shared::{Kind, SearchSpace, Seed};

fn space(name: &str) -> SearchSpace {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("spaces")
        .join(name);
    let file: SpaceFile = shared::fs::read_record(&path).expect("the file is a space");
    SearchSpace::new(&file).expect("the space is valid")
}

/// Each hyperparameter as `name type lower..upper`, with `log` where it is.
fn table(space: &SearchSpace) -> String {
    let row = |hyperparameter: &shared::Hyperparameter| {
        let name = &hyperparameter.name;
        let scale = |log: bool| if log { " log" } else { "" };
        match &hyperparameter.kind {
            Kind::Float { lower, upper, log } => {
                format!("{name} float {lower}..{upper}{}\n", scale(*log))
            }
            Kind::Integer { lower, upper, log } => {
                format!("{name} int {lower}..{upper}{}\n", scale(*log))
            }
            kind => panic!("{name} is {kind:?}"),
        }
    };
    space.hyperparameters().iter().map(row).collect()
}

/// The poster's 17 hyperparameters, with these upper bounds, and for filters both.
fn joint(blocks: u8, filters: &str, widen: [u8; 2], branches: u8) -> String {
    let [first, others] = widen;
    format!(
        "\
nr_residual_blocks_1 int 1..{blocks} log
nr_residual_blocks_2 int 1..{blocks} log
nr_residual_blocks_3 int 1..{blocks} log
initial_filters int {filters} log
widen_factor_1 float 0.5..{first} log
widen_factor_2 float 0.5..{others} log
widen_factor_3 float 0.5..{others} log
res_branches_1 int 1..{branches}
res_branches_2 int 1..{branches}
res_branches_3 int 1..{branches}
learning_rate float 0.001..1 log
batch_size int 32..128 log
weight_decay float 0.00001..0.001 log
momentum float 0.001..0.99
mixup_alpha float 0..1
cutout_length int 0..20
death_rate float 0..1
"
    )
}

#[test]
fn the_reference_space_has_the_17_dimensions_of_the_poster() {
    let expected = joint(16, "8..32", [8, 4], 5);
    assert_eq!(table(&space("joint-resnet.json")), expected);
}

#[test]
fn the_space_for_digits_varies_the_same_hyperparameters_within_narrower_bounds() {
    let expected = joint(3, "4..12", [2, 2], 3);
    assert_eq!(table(&space("joint-resnet-digits.json")), expected);
}

#[test]
fn the_space_for_small_photographs_varies_the_same_hyperparameters_between_the_other_two() {
    let expected = joint(4, "4..16", [3, 3], 3);
    assert_eq!(table(&space("joint-resnet-cifar16.json")), expected);
}

#[test]
fn every_point_of_a_benchmark_space_has_a_value() {
    for (name, function, num_dimensions) in [
        ("counting-ones-8.json", Function::CountingOnes, 16),
        ("branin.json", Function::Branin, 2),
        ("mf-hartmann3.json", Function::MfHartmann3, 3),
        ("mf-hartmann6.json", Function::MfHartmann6, 6),
        ("joint-resnet.json", Function::JointResnet, 17),
    ] {
        let space = space(name);
        assert_eq!(space.num_dimensions(), num_dimensions, "{name}");
        let benchmark = Benchmark::new(function);
        for number in 0..100 {
            let seed = Seed::new(number);
            let configuration = space.decode(&space.sample(&mut seed.rng()));
            let loss = benchmark.evaluate(&configuration, 3.0, 81.0, seed).unwrap();
            assert!(loss.is_finite(), "{name}: {loss}");
            assert!(benchmark.regret(&configuration).unwrap() >= 0.0, "{name}");
        }
    }
}
