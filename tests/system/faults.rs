//! Everything that can go wrong with files, all at once; the long form is the program `faults`.

use anyhow::Result;
use harness::faults::{Tally, search_with_faults};

#[test]
fn searches_come_out_the_same_whatever_file_operations_do() -> Result<()> {
    let mut all = Tally::default();
    for seed in [1_000, 1_001] {
        all.add(&search_with_faults(seed, harness::DEADLINE)?);
    }
    // Enough of each kind to show something.
    for name in ["kill", "signal", "eio", "enospc", "estale", "lie"] {
        let count = all.faults.get(name).copied().unwrap_or_default();
        assert!(count >= 5, "{name}: {all:?}");
    }
    Ok(())
}
