//! Golden files for this crate's tests: written once, opened forever.

use std::path::Path;

/// Compares `bytes` with `testdata/<file>` and returns what is stored there. `NEW_GOLDEN=1` creates a missing file;
/// nothing overwrites one.
#[track_caller]
pub(crate) fn golden(file: &str, bytes: &[u8]) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(file);
    if !path.exists() && std::env::var_os("NEW_GOLDEN").is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    let stored = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; NEW_GOLDEN=1 creates it", path.display()));
    assert_eq!(
        stored, bytes,
        "{file}: the format changed; it needs a new version and a new file"
    );
    stored
}
