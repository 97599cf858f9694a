//! Looks for a record that harms a program. Which kind of record it is, this program's name says: the targets and their
//! seeds are those of the test in `tests/records`.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use rand::RngExt as _;
use shared::Seed;

#[path = "../../records/targets.rs"]
#[allow(dead_code, reason = "each target uses some of it")]
mod targets;

fuzz_target!(|bytes: &[u8]| {
    (targets::of_name(env!("CARGO_BIN_NAME")).run)(bytes);
});

// libFuzzer's own changes half of the time, changes of JSON values the other half.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut rng = Seed::new(u64::from(seed)).rng();
    if rng.random_bool(0.5) {
        return fuzzer_mutate(data, size, max_size);
    }
    let seeds = (targets::of_name(env!("CARGO_BIN_NAME")).seeds)();
    let others: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    let mutated = targets::mutate::mutated(&data[..size], &others, &mut rng);
    let size = mutated.len().min(max_size).min(data.len());
    data[..size].copy_from_slice(&mutated[..size]);
    size
});
