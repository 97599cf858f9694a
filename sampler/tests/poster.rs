//! The finished search of `docs/poster.md`, kept in `data/examples`: its proposals can be computed again.

use std::path::Path;
use std::process::Command;

#[test]
fn proposals_of_a_search_of_days_ago_are_computed_again_bit_for_bit() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let archive = shared::fs::read(&root.join("data/examples/poster.tar.gz")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let archive = flate2::read::GzDecoder::new(archive.as_slice());
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path_bytes().starts_with(b"poster/cifar16/") {
            entry.unpack_in(folder.path()).unwrap();
        }
    }
    let output = Command::new(env!("CARGO_BIN_EXE_sampler"))
        .arg("replay")
        .arg(folder.path().join("poster/cifar16"))
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "245 of 245 proposals are equal bit for bit; 0 requests have no proposal\n"
    );
}
