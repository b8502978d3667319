//! Golden files: bytes written by an earlier build, which this build must still write and read.

use std::path::PathBuf;

/// Compares with `testdata/<name>`; with `NEW_GOLDEN=1` a missing file is created, and none is ever overwritten.
pub(crate) fn check(name: &str, bytes: &[u8]) {
    let path = path(name);
    if !path.exists() && std::env::var_os("NEW_GOLDEN").is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    assert_eq!(
        read(name),
        bytes,
        "{name} is written differently now: a new layout needs a new version"
    );
}

/// The bytes of `testdata/<name>`.
pub(crate) fn read(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).expect("the golden file is missing; NEW_GOLDEN=1 creates it")
}

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "testdata", name].iter().collect()
}
