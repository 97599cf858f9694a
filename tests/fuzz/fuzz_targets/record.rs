//! Looks for a record that harms a program. Which kind of record it is, the name says by which this program is called: the
//! targets and their seeds are those of the test in `tests/records`.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;
use shared::Seed;
use targets::Target;

#[path = "../../records/targets.rs"]
#[allow(dead_code, reason = "the test uses all of it")]
mod targets;

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let this = std::env::args_os()
        .next()
        .expect("a program is called by a name");
    let name = Path::new(&this).file_stem().expect("a program has a name");
    targets::of_name(&name.to_string_lossy())
});
static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| (TARGET.seeds)());

fuzz_target!(
    init: targets::check_in_parts(),
    |bytes: &[u8]| (TARGET.run)(bytes)
);

// Mostly changes of JSON values: what libFuzzer changes is rarely JSON afterwards. Now and then a seed.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut rng = Seed::new(u64::from(seed)).rng();
    let mutated = match rng.random_range(0..100) {
        0..2 => SEEDS.choose(&mut rng).cloned().unwrap_or_default(),
        2..30 => return fuzzer_mutate(data, size, max_size),
        _ => {
            let others: Vec<&[u8]> = SEEDS.iter().map(Vec::as_slice).collect();
            targets::mutate::mutated(&data[..size], &others, &mut rng)
        }
    };
    let size = mutated.len().min(max_size).min(data.len());
    data[..size].copy_from_slice(&mutated[..size]);
    size
});
