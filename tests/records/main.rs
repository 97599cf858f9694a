//! What stands in any file of a search directory cannot harm a program: every kind of record, whole, from the corpus of
//! the fuzzer, and damaged in thousands of ways that are the same at each run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

// By its path, so that its own modules are beside it for this program and for the fuzzer.
#[path = "targets.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand_chacha::ChaCha12Rng;
use shared::{Seed, fs};
use targets::{ALL, Target, corpus, mutate};

/// Memory for all of it: what needs more has believed a number in a record.
const MEMORY: u64 = 6 << 30;

/// Seeds, and what the fuzzer found worth keeping.
fn inputs(target: &Target) -> Vec<Vec<u8>> {
    let mut inputs = (target.seeds)();
    let folder = corpus(target);
    for name in fs::list(&folder).unwrap() {
        inputs.push(fs::read(&folder.join(name)).unwrap());
    }
    inputs
}

fn run(target: &Target, bytes: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(bytes))).is_err() {
        let text = String::from_utf8_lossy(bytes);
        panic!("{}: {text}", target.name);
    }
}

fn harmless(name: &str) {
    let limit = rustix::process::Rlimit {
        current: Some(MEMORY),
        maximum: Some(MEMORY),
    };
    rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();
    let target = targets::of_name(name);
    let inputs = inputs(target);
    for input in &inputs {
        run(target, input);
    }
    let others: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    for number in 0..target.num_damaged {
        let mut rng: ChaCha12Rng = Seed::new(0).child("damage", number).rng();
        let input = others[number as usize % others.len()];
        run(target, &mutate::mutated(input, &others, &mut rng));
    }
}

#[test]
fn every_check_gets_its_share_of_inputs() {
    let chosen = |input: u8| (0..4).filter(move |n| targets::is_chosen(&[input], "purpose", *n, 4));
    assert!((0..100).all(|input| chosen(input).eq(0..4)));
    // In a thread of its own, since the tests are about whole checks.
    let shared = std::thread::spawn(move || {
        targets::check_in_parts();
        let mut shares = [0; 4];
        for input in 0..100 {
            let one: Vec<usize> = chosen(input).collect();
            assert_eq!(one.len(), 1);
            shares[one[0]] += 1;
        }
        shares
    });
    let shares = shared.join().unwrap();
    assert!(shares.iter().all(|share| *share > 10), "{shares:?}");
}

macro_rules! tests {
    ($($name:ident)*) => {
        mod no_program_is_harmed_by_a {
            $(
                #[test]
                fn $name() {
                    super::harmless(stringify!($name));
                }
            )*
        }

        #[test]
        fn no_target_is_left_out() {
            let tested = [$(stringify!($name)),*];
            assert_eq!(ALL.map(|target| target.name), tested);
        }
    };
}

tests! {
    job
    request
    configuration
    result
    attempt
    heartbeat
    observation
    checks
    submission
    directory
    name
    search
    space
    checkpoint
    outcome
    imported
    log
    configspace
    describe
    created
    table
    idx
    cifar
    picture
    decoded
}
