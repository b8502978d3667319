//! Paths with a pattern in their last part: `rules/*.yml`, `targets-[ab]?.json`.

use std::io;
use std::path::{Path, PathBuf};

/// The files that `pattern` names, sorted; the last part may hold `*`, `?` and `[..]`. A path without a pattern is given back if
/// something is there. A folder that is missing holds nothing.
pub fn files_matching(pattern: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(last) = pattern.file_name().and_then(|n| n.to_str()) else {
        return Ok(Vec::new());
    };
    if !last.contains(['*', '?', '[']) {
        return Ok(if pattern.exists() {
            vec![pattern.to_owned()]
        } else {
            Vec::new()
        });
    }
    let dir = pattern.parent().unwrap_or(Path::new(""));
    let listed = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    let entries = match std::fs::read_dir(listed) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        if name
            .to_str()
            .is_some_and(|name| matches(last.as_bytes(), name.as_bytes()))
        {
            found.push(dir.join(name));
        }
    }
    found.sort();
    Ok(found)
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
        assert!(files_matching(&dir.path().join("none/*.yml")).unwrap().is_empty());
        assert!(files_matching(&dir.path().join("x.yml")).unwrap().is_empty());
    }
}
