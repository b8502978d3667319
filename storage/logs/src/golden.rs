//! Golden files: bytes written once by an earlier build, which every later build must read.

use std::path::PathBuf;

/// The bytes of a golden file. A missing one is made from `fresh` if `NEW_GOLDEN=1` is set; nothing overwrites one.
pub(crate) fn golden(name: &str, fresh: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    if !path.exists() && std::env::var_os("NEW_GOLDEN").is_some_and(|v| v == "1") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, fresh).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; NEW_GOLDEN=1 creates it", path.display()))
}
