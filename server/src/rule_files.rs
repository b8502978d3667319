//! Rule files where they lie: what `rule_files` of a prometheus.yml and the folder of `--rules-dir` name, read and checked.
//! A fault in one file or group takes nothing else down.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use prometheus_config::files_matching;
use query_rules::{Dialect, Fault, Group, dialect_of, read_groups};

/// Deepest folder below `--rules-dir`.
const DEPTH_MAX: usize = 16;
/// Most rule files.
const FILES_MAX: usize = 10_000;
/// Largest rule file.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A rule file, to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFile {
    /// Where it lies.
    pub path: PathBuf,
    /// The language of its groups that do not say.
    pub dialect: Dialect,
}

/// What rule files say.
#[derive(Clone, Debug, Default)]
pub struct RuleFiles {
    /// Files that were read.
    pub files: usize,
    /// The groups that can be used.
    pub groups: Vec<Group>,
    /// What is wrong and what is to be warned of.
    pub faults: Vec<Fault>,
}

impl RuleFiles {
    /// What is wrong, a line each; `None`: nothing.
    pub fn errors(&self) -> Option<String> {
        let errors: Vec<String> = (self.faults.iter())
            .filter(|fault| !fault.is_warning)
            .map(ToString::to_string)
            .collect();
        (!errors.is_empty()).then(|| errors.join("\n"))
    }
}

/// Reads what the patterns name and what is in the folder, each file once.
pub fn read_all(patterns: &[PathBuf], dir: Option<&Path>) -> RuleFiles {
    let mut out = RuleFiles::default();
    let mut files: Vec<RuleFile> = Vec::new();
    for pattern in patterns {
        match files_matching(pattern) {
            Ok(found) => {
                if found.is_empty() {
                    out.faults.push(Fault {
                        is_warning: true,
                        ..fault(pattern, "no file is there that rule_files names so".to_owned())
                    });
                }
                let found = found.into_iter().map(|path| RuleFile {
                    path,
                    dialect: Dialect::PromQl,
                });
                files.extend(found);
            }
            Err(e) => out.faults.push(fault(pattern, e.to_string())),
        }
    }
    if let Some(dir) = dir {
        match files_below(dir) {
            Ok(found) => files.extend(found),
            Err(e) => out.faults.push(fault(dir, format!("--rules-dir: {e}"))),
        }
    }
    let mut known = HashSet::new();
    files.retain(|file| known.insert(fs::canonicalize(&file.path).unwrap_or_else(|_| file.path.clone())));
    read(&files, &mut out);
    out
}

/// Reads these files and all in these folders, as `check-rules` is told.
pub fn read_named(paths: &[PathBuf]) -> RuleFiles {
    let mut out = RuleFiles::default();
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            match files_below(path) {
                Ok(found) => files.extend(found),
                Err(e) => out.faults.push(fault(path, e.to_string())),
            }
        } else {
            files.push(RuleFile {
                path: path.clone(),
                dialect: dialect_of(path),
            });
        }
    }
    read(&files, &mut out);
    out
}

fn read(files: &[RuleFile], out: &mut RuleFiles) {
    for file in files {
        match text_of(&file.path) {
            Ok(text) => {
                let (groups, faults) = read_groups(&file.path.display().to_string(), &text, file.dialect);
                out.files += 1;
                out.groups.extend(groups);
                out.faults.extend(faults);
            }
            Err(e) => out.faults.push(fault(&file.path, e.to_string())),
        }
    }
}

/// The files `*.yaml` and `*.yml` in a folder and those below it, sorted, but for `*.test.yaml` and `*.test.yml`: these are
/// tests of rules. The folder's own name counts for their dialect. Hidden ones are skipped: Kubernetes keeps the versions of
/// a mounted map in them.
fn files_below(dir: &Path) -> io::Result<Vec<RuleFile>> {
    let mut found = Vec::new();
    let mut folders = vec![(dir.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let path = entry.path();
            let text = name.to_string_lossy();
            if text.starts_with('.') || text.ends_with(".test.yaml") || text.ends_with(".test.yml") {
                continue;
            }
            // Links to folders are not followed: they may lead in a circle.
            if entry.file_type()?.is_dir() {
                if depth < DEPTH_MAX {
                    folders.push((path, depth + 1));
                }
            } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") && path.is_file() {
                if found.len() == FILES_MAX {
                    let why = format!("more than {FILES_MAX} rule files");
                    return Err(io::Error::other(why));
                }
                let within = dir.parent().and_then(|above| path.strip_prefix(above).ok());
                let dialect = dialect_of(within.unwrap_or(&path));
                found.push(RuleFile { path, dialect });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn text_of(path: &Path) -> io::Result<String> {
    let bytes = fs::metadata(path)?.len();
    if bytes > FILE_BYTES_MAX {
        let why = format!("the file has {bytes} bytes, a rule file may have {FILE_BYTES_MAX}");
        return Err(io::Error::other(why));
    }
    fs::read_to_string(path)
}

fn fault(path: &Path, reason: String) -> Fault {
    Fault {
        file: path.display().to_string().into(),
        line: 0,
        column: 0,
        group: None,
        rule: None,
        is_warning: false,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_and_a_bad_one_takes_no_other_down() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let group =
            |name: &str, expr: &str| format!("groups: [{{name: {name}, rules: [{{record: r, expr: '{expr}'}}]}}]");
        put("rules/a.yml", &group("a", "up"));
        put("rules/bad.yaml", "groups: [");
        put("rules/notes.txt", "no rules");
        put("rules/.hidden/b.yml", &group("b", "up"));
        put("rules/loki/fake/c.yml", &group("c", "rate({a=\"b\"}[1m])"));
        put("rules/d.logql.yml", &group("d", "rate({a=\"b\"}[1m])"));
        put("other/e.yml", &group("e", "up"));
        let all = read_all(
            &[
                dir.path().join("*/e.yml"),
                dir.path().join("rules/a.yml"),
                dir.path().join("none/*.yml"),
            ],
            Some(&dir.path().join("rules")),
        );
        let names: Vec<(&str, Dialect)> = all.groups.iter().map(|g| (g.name.as_str(), g.dialect)).collect();
        use Dialect::{LogQl, PromQl};
        assert_eq!(names, [("e", PromQl), ("a", PromQl), ("d", LogQl), ("c", LogQl)]);
        let faults: Vec<String> = all
            .faults
            .iter()
            .map(|f| f.to_string().replace(&dir.path().display().to_string(), ""))
            .collect();
        assert_eq!(
            faults,
            [
                "/none/*.yml: no file is there that rule_files names so",
                "/rules/bad.yaml:1:9: unclosed bracket '['"
            ]
        );
        assert_eq!((all.files, all.errors().unwrap().lines().count()), (5, 1));
        assert!(read_all(&[], Some(&dir.path().join("nowhere"))).errors().is_some());
        let named = read_named(&[dir.path().join("rules/loki"), dir.path().join("rules/a.yml")]);
        let dialects: Vec<Dialect> = named.groups.iter().map(|g| g.dialect).collect();
        assert_eq!(dialects, [LogQl, PromQl]);
    }
}
