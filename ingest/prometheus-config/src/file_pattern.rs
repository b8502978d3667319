//! Paths with patterns: `rules/*.yml`, `team-*/rules.yml`, `targets-[ab]?.json`.

use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Most files that a pattern may name.
const FILES_MAX: usize = 100_000;

/// The files that `pattern` names, sorted; any part of the path may hold `*`, `?` and `[..]`. A path without a pattern is given
/// back if something is there. A folder that is missing holds nothing.
pub fn files_matching(pattern: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    let parts: Vec<Component<'_>> = pattern.components().collect();
    for (i, part) in parts.iter().enumerate() {
        let is_last = i + 1 == parts.len();
        match part {
            Component::Normal(name) if is_pattern(name) => {
                let mut next = Vec::new();
                for folder in &found {
                    entries_matching(folder, name, is_last, &mut next)?;
                }
                found = next;
            }
            _ => found.iter_mut().for_each(|path| path.push(part)),
        }
    }
    found.retain(|path| path.exists() && path.file_name().is_some());
    found.sort();
    Ok(found)
}

fn is_pattern(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.contains(['*', '?', '[']))
}

/// Adds what in `folder` fits the pattern; only folders, if more parts follow.
fn entries_matching(folder: &Path, pattern: &OsStr, is_last: bool, out: &mut Vec<PathBuf>) -> io::Result<()> {
    let listed = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let entries = match std::fs::read_dir(listed) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let name = entry?.file_name();
        if !matches(pattern.as_encoded_bytes(), name.as_encoded_bytes()) {
            continue;
        }
        let path = folder.join(name);
        if is_last || path.is_dir() {
            if out.len() == FILES_MAX {
                return Err(io::Error::other(format!(
                    "the pattern names more than {FILES_MAX} files"
                )));
            }
            out.push(path);
        }
    }
    Ok(())
}

/// Whether a name fits a pattern; a broken class fits nothing.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // Where to go on when what follows the last `*` does not fit.
    let mut retry: Option<(usize, usize)> = None;
    let (mut p, mut n) = (0, 0);
    loop {
        let one = match pattern.get(p) {
            None if n == name.len() => return true,
            None => None,
            Some(b'*') => {
                retry = Some((p, n));
                p += 1;
                continue;
            }
            Some(c) => name.get(n).and_then(|b| match c {
                b'?' => Some(1),
                b'[' => class(&pattern[p..], *b),
                b'\\' => (pattern.get(p + 1) == Some(b)).then_some(2),
                c => (c == b).then_some(1),
            }),
        };
        match (one, &mut retry) {
            (Some(len), _) => {
                p += len;
                n += 1;
            }
            (None, Some((star, from))) if *from < name.len() => {
                *from += 1;
                (p, n) = (*star + 1, *from);
            }
            _ => return false,
        }
    }
}

/// The length of the class that `pattern` begins with, if `b` is in it.
fn class(pattern: &[u8], b: u8) -> Option<usize> {
    let end = 1 + pattern.iter().skip(1).position(|c| *c == b']')?;
    let inside = &pattern[1..end];
    let (negated, inside) = match inside.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, inside),
    };
    let mut is_in = false;
    let mut i = 0;
    while i < inside.len() {
        let (low, high) = (
            inside[i],
            if i + 2 < inside.len() && inside[i + 1] == b'-' {
                inside[i + 2]
            } else {
                inside[i]
            },
        );
        i += if low == high && !(i + 2 < inside.len() && inside[i + 1] == b'-') {
            1
        } else {
            3
        };
        is_in |= (low..=high).contains(&b);
    }
    (is_in != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_names() {
        for (pattern, name, fits) in [
            ("*.yml", "a.yml", true),
            ("*.yml", ".yml", true),
            ("*.yml", "a.yaml", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("t-[ab]*.json", "t-b12.json", true),
            ("t-[^ab]*.json", "t-b12.json", false),
            ("[0-9]x", "5x", true),
            ("*a*b", "xxaxxaab", true),
            ("*a*b", "xxaxxaabc", false),
            ("[ab", "a", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn only_what_is_there_is_found() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yml", "a.yml", "c.txt"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let found = files_matching(&dir.path().join("*.yml")).unwrap();
        assert_eq!(found, [dir.path().join("a.yml"), dir.path().join("b.yml")]);
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/d.yml"), "").unwrap();
        let deeper = files_matching(&dir.path().join("s*/[a-d].yml")).unwrap();
        assert_eq!(deeper, [dir.path().join("sub/d.yml")]);
        assert!(files_matching(&dir.path().join("none/*.yml")).unwrap().is_empty());
        assert!(files_matching(&dir.path().join("x.yml")).unwrap().is_empty());
    }
}
