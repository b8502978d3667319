//! `file_sd_configs`: lists in files, looked at every second and read when they have changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use prometheus_config::{FileDiscovery, TargetGroup, files_matching, parse_target_groups};
use tokio::time::Instant;

use super::TellTargets;

/// How often files are looked at. A rename over a file, as editors and config maps do it, is seen as any other change.
const LOOK: Duration = Duration::from_secs(1);
/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// What a file looked like when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
}

/// What is known of the files.
#[derive(Default)]
struct Known(BTreeMap<PathBuf, (Look, Vec<TargetGroup>)>);

pub(super) async fn run(config: &FileDiscovery, failures: &AtomicU64, tell: &TellTargets) {
    let mut known = Known::default();
    let mut read_all = Instant::now();
    loop {
        let all = Instant::now() >= read_all;
        if all {
            read_all = Instant::now() + config.refresh_interval.max(LOOK);
        }
        let files = config.files.clone();
        // Files may lie on a disk that is slow.
        let looked = tokio::task::spawn_blocking(move || {
            let (changed, faults) = known.look(&files, all);
            (known, changed, faults)
        });
        let Ok((now_known, changed, faults)) = looked.await else {
            return;
        };
        known = now_known;
        for why in faults {
            failures.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(why, "file discovery keeps what it knew");
        }
        if changed {
            tell(known.groups());
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Known {
    /// Reads what has changed, or everything. Says whether anything is different now, and what could not be read.
    fn look(&mut self, patterns: &[PathBuf], all: bool) -> (bool, Vec<String>) {
        let mut faults = Vec::new();
        let mut paths = Vec::new();
        for pattern in patterns {
            match files_matching(pattern) {
                Ok(found) => paths.extend(found),
                Err(e) => faults.push(format!("{}: {e}", pattern.display())),
            }
        }
        let mut changed = false;
        if faults.is_empty() {
            let before = self.0.len();
            self.0.retain(|path, _| paths.contains(path));
            changed = self.0.len() != before;
        }
        for path in paths {
            let Ok(look) = look_of(&path) else { continue };
            let known = self.0.get(&path);
            if known.is_some_and(|(before, _)| *before == look && !all) {
                continue;
            }
            match read(&path, look.len) {
                Ok(groups) => {
                    changed |= known.is_none_or(|(_, before)| *before != groups);
                    self.0.insert(path, (look, groups));
                }
                Err(why) => {
                    faults.push(format!("{}: {why}", path.display()));
                    // It is not tried each second until somebody has changed it.
                    let groups = known.map_or_else(Vec::new, |(_, groups)| groups.clone());
                    self.0.insert(path, (look, groups));
                }
            }
        }
        (changed, faults)
    }

    fn groups(&self) -> Vec<TargetGroup> {
        let mut all = Vec::new();
        for (path, (_, groups)) in &self.0 {
            for group in groups {
                let mut group = group.clone();
                let path = path.display().to_string();
                group.labels.push(("__meta_filepath".to_owned(), path));
                all.push(group);
            }
        }
        all
    }
}

fn look_of(path: &Path) -> std::io::Result<Look> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path)?;
    Ok(Look {
        modified: metadata.modified().ok(),
        len: metadata.len(),
        inode: metadata.ino(),
    })
}

fn read(path: &Path, len: u64) -> Result<Vec<TargetGroup>, String> {
    if len > FILE_BYTES_MAX {
        return Err(format!("the file has more than {FILE_BYTES_MAX} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    parse_target_groups(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_broken_keeps_its_targets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yml");
        let pattern = [dir.path().join("*.yml")];
        let mut known = Known::default();
        assert_eq!(known.look(&pattern, true), (false, vec![]));
        std::fs::write(&path, "- targets: [x]\n").unwrap();
        assert_eq!(known.look(&pattern, false), (true, vec![]));
        let groups = known.groups();
        assert_eq!(
            groups[0].labels,
            [("__meta_filepath".to_owned(), path.display().to_string())]
        );
        std::fs::write(&path, "- targets: [x, \n").unwrap();
        let (changed, faults) = known.look(&pattern, false);
        assert!(!changed && faults.len() == 1, "{faults:?}");
        assert_eq!(known.groups(), groups);
        assert_eq!(known.look(&pattern, false), (false, vec![]));
        std::fs::write(&path, "- targets: [x, y, z]\n").unwrap();
        assert_eq!(known.look(&pattern, false), (true, vec![]));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(known.look(&pattern, false), (true, vec![]));
        assert_eq!(known.groups(), []);
    }
}
