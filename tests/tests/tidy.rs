//! The house's rules, executed: which crate may import which, what is named only in one place, how files begin, and
//! whether the paths that documents name exist. `ARCHITECTURE.md` gives the reasons.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use trilobite_tests::repository;

/// Who may import whom, by package name. A crate that is not here is a finding.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("storage-codec", &[]),
    ("storage-disk", &[]),
    ("storage-budget", &[]),
    ("storage-wal", &["storage-codec", "storage-disk"]),
    ("storage-catalogue", &["model", "storage-codec", "storage-disk"]),
    ("storage-metrics", ENGINE),
    ("storage-logs", ENGINE),
    ("storage-traces", ENGINE),
    (
        "storage",
        &[
            "model",
            "storage-budget",
            "storage-catalogue",
            "storage-codec",
            "storage-disk",
            "storage-logs",
            "storage-metrics",
            "storage-traces",
            "storage-wal",
        ],
    ),
    ("query-exec", &["model", "storage-budget"]),
    ("query-promql", &["model", "query-exec", "storage-metrics"]),
    ("query-template", &[]),
    (
        "query-logql",
        &["model", "query-exec", "query-template", "storage-logs"],
    ),
    ("query-traceql", &["model", "query-exec", "storage-traces"]),
    (
        "query",
        &[
            "model",
            "query-exec",
            "query-promql",
            "query-logql",
            "query-traceql",
            "storage",
        ],
    ),
    (
        "query-rules",
        &[
            "model",
            "query-exec",
            "query-promql",
            "query-logql",
            "storage",
            "query-template",
            "storage-metrics",
            "yaml-tree",
        ],
    ),
    ("yaml-tree", &[]),
    ("prometheus-config", &["model", "yaml-tree"]),
    ("ingest", &["model", "prometheus-config", "storage"]),
    (
        "ui-api",
        &[
            "model",
            "query",
            "query-exec",
            "query-promql",
            "query-logql",
            "query-traceql",
            "query-rules",
            "storage",
            "storage-metrics",
            "storage-logs",
            "storage-traces",
            "yaml-tree",
        ],
    ),
    ("notifier", &["model", "ingest", "prometheus-config", "query-rules"]),
    (
        "trilobite",
        &[
            "model",
            "ingest",
            "notifier",
            "prometheus-config",
            "query",
            "query-rules",
            "storage",
            "ui-api",
        ],
    ),
    ("trilobite-tests", &["model"]),
    ("trilobite-corpus", &["*"]),
    ("benches", &["*"]),
];

const ENGINE: &[&str] = &[
    "model",
    "storage-budget",
    "storage-catalogue",
    "storage-codec",
    "storage-disk",
    "storage-wal",
];

/// External crates that only these packages may depend on.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("rocksdb", &["storage-catalogue"]),
    ("parquet", &["storage-traces"]),
    ("arrow-array", &["storage-traces"]),
    ("arrow-schema", &["storage-traces"]),
    (
        "axum",
        &["ingest", "ui-api", "trilobite", "trilobite-corpus", "benches"],
    ),
    ("tonic", &["ingest", "trilobite", "trilobite-tests", "ui-api"]),
    ("prost", &["ingest", "ui-api", "trilobite-tests", "benches"]),
    ("snap", &["ingest", "trilobite-tests", "benches", "ui-api"]),
    ("clap", &["trilobite"]),
];

/// Text that may stand only under these folders, tests excepted.
const WORDS_ONLY_IN: &[(&str, &[&str])] = &[
    ("SystemTime::now", &["server", "tests", "benches"]),
    ("env::var", &["server", "tests", "benches"]),
    (".sync_all(", &["storage/disk", "tests", "benches"]),
    (".sync_data(", &["storage/disk", "tests", "benches"]),
    ("fs::rename(", &["storage/disk", "tests", "benches"]),
    ("fs::remove_", &["storage/disk", "tests", "benches"]),
    ("unsafe {", &["storage/codec"]),
];

const DRAWERS: &[&str] = &[
    "utils", "util", "common", "helpers", "helper", "misc", "types", "shared",
];

fn files(dir: &Path, extension: &str, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "trilobite-data" && name != "node_modules" {
                files(&path, extension, out);
            }
        } else if path.extension().is_some_and(|e| e == extension) {
            out.push(path);
        }
    }
}

fn all(extension: &str) -> Vec<(String, String)> {
    let root = repository().canonicalize().unwrap();
    let mut paths = Vec::new();
    files(&root, extension, &mut paths);
    paths.sort();
    paths
        .into_iter()
        .map(|p| {
            (
                p.strip_prefix(&root).unwrap().to_string_lossy().into_owned(),
                fs::read_to_string(&p).unwrap(),
            )
        })
        .collect()
}

/// Package name and its `[dependencies]` of every member.
fn manifests() -> BTreeMap<String, Vec<String>> {
    let mut out = BTreeMap::new();
    for (path, text) in all("toml")
        .into_iter()
        .filter(|(p, _)| p.ends_with("/Cargo.toml") && !p.contains("fuzz"))
    {
        let name = text
            .lines()
            .find_map(|l| l.strip_prefix("name = "))
            .unwrap_or(&path)
            .trim_matches('"')
            .to_owned();
        let mut dependencies = Vec::new();
        let mut inside = false;
        for line in text.lines() {
            if line.starts_with('[') {
                inside = line == "[dependencies]";
            } else if let (true, Some((key, _))) = (inside, line.split_once(['.', '='])) {
                dependencies.push(key.trim().to_owned());
            }
        }
        out.insert(name, dependencies);
    }
    out
}

fn report(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn imports_run_downhill() {
    let manifests = manifests();
    let mut findings = Vec::new();
    for (package, dependencies) in &manifests {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| name == package) else {
            findings.push(format!("{package}: not in the table of imports; give it a place"));
            continue;
        };
        for d in dependencies.iter().filter(|d| manifests.contains_key(*d)) {
            if *allowed != ["*"] && !allowed.contains(&d.as_str()) {
                findings.push(format!("{package} imports {d}, which is not below it"));
            }
        }
    }
    report(findings);
}

#[test]
fn some_crates_are_named_in_one_place_only() {
    let mut findings = Vec::new();
    for (package, dependencies) in manifests() {
        for (external, allowed) in ONLY_IN {
            if dependencies.iter().any(|d| d == external) && !allowed.contains(&package.as_str()) {
                findings.push(format!("{package} depends on {external}; only {allowed:?} may"));
            }
        }
    }
    report(findings);
}

/// Files of the modules that `text`, the file at `path`, declares for tests only.
fn test_only_files(path: &str, text: &str) -> Vec<String> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    text.split("#[cfg(test)]\n")
        .skip(1)
        .filter_map(|rest| rest.lines().next()?.trim().strip_suffix(';')?.rsplit_once("mod "))
        .map(|(_, name)| format!("{folder}/{name}.rs"))
        .collect()
}

#[test]
fn clock_environment_and_disk_are_touched_in_one_place_only() {
    let mut findings = Vec::new();
    let files = all("rs");
    let test_only: Vec<String> = files
        .iter()
        .flat_map(|(path, text)| test_only_files(path, text))
        .collect();
    for (path, text) in &files {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        if ["/tests/", "/benches/", "/examples/"].iter().any(|f| path.contains(f)) || test_only.contains(path) {
            continue;
        }
        for (word, allowed) in WORDS_ONLY_IN {
            if !allowed.iter().any(|a| path.starts_with(a)) {
                for (i, _) in code.lines().enumerate().filter(|(_, l)| l.contains(word)) {
                    findings.push(format!("{path}:{}: `{word}` belongs in {allowed:?}", i + 1));
                }
            }
        }
    }
    report(findings);
}

#[test]
fn files_tell_their_story_and_no_drawer_is_opened() {
    let mut findings = Vec::new();
    for (path, text) in all("rs") {
        if !text.starts_with("//!") {
            findings.push(format!("{path}: does not open with //!"));
        }
        let stem = Path::new(&path)
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if DRAWERS.contains(&stem.as_str()) {
            findings.push(format!("{path}: a drawer; name the file for what it is about"));
        }
        for (i, line) in text.lines().enumerate() {
            let is_left = ["todo!(", "unimplemented!(", "#[ignore"]
                .iter()
                .any(|w| line.contains(w));
            if is_left && !path.ends_with("tidy.rs") {
                findings.push(format!("{path}:{}: unfinished or skipped", i + 1));
            }
        }
    }
    report(findings);
}

#[test]
fn paths_named_in_documents_exist() {
    let root = repository();
    let mut findings = Vec::new();
    for (document, text) in all("md") {
        for word in text.split('`').skip(1).step_by(2) {
            let path = word.trim_end_matches('/');
            let ours = [
                "server/", "storage/", "query/", "ingest/", "ui-api/", "tests/", "benches/", "deploy/", "docs/",
            ];
            let plain = !path.contains([' ', '*', '<', '{', '(', ':', '=', '|']);
            if plain && ours.iter().any(|o| path.starts_with(o)) && !root.join(path).exists() {
                findings.push(format!("{document}: `{path}` does not exist"));
            }
        }
    }
    report(findings);
}

/// The rows that a lab's acceptance list has.
const ACCEPTANCE: &[(&str, &[u32])] = &[
    ("O", &[1, 2, 3, 4, 5, 6]),
    ("M", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12]),
    ("L", &[1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ("T", &[1, 2, 3, 4, 5, 6, 7, 8]),
    ("G", &[1, 2, 3, 4]),
    ("A", &[1, 2]),
];

#[test]
fn the_acceptance_table_has_every_row_and_names_tests_that_exist() {
    let root = repository();
    let text = fs::read_to_string(root.join("docs/acceptance.md")).unwrap();
    let mut findings = Vec::new();
    for (letter, numbers) in ACCEPTANCE {
        for n in *numbers {
            if !text.contains(&format!("\n| {letter}{n} |")) {
                findings.push(format!("docs/acceptance.md: no row {letter}{n}"));
            }
        }
    }
    let named = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|word| word.split_once("::"));
    for (file, test) in named.filter(|(file, _)| *file != "file") {
        let path = if file.ends_with(".rs") {
            file.to_owned()
        } else {
            format!("tests/tests/e2e/{file}.rs")
        };
        let code = fs::read_to_string(root.join(&path)).unwrap_or_default();
        if !code.contains(&format!("fn {test}(")) {
            findings.push(format!("docs/acceptance.md: {path} has no test {test}"));
        }
    }
    report(findings);
}

#[test]
fn the_settings_table_in_the_readme_is_the_one_in_the_code() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let settings = fs::read_to_string(repository().join("server/src/settings.rs")).unwrap();
    let table = settings
        .split("pub const SETTINGS")
        .nth(1)
        .unwrap()
        .split("];")
        .next()
        .unwrap();
    let mut findings = Vec::new();
    for name in table
        .split("setting(")
        .skip(1)
        .filter_map(|s| s.trim().strip_prefix('"')?.split('"').next())
    {
        if !readme.contains(&format!("`--{name}`")) {
            findings.push(format!("README.md does not list --{name}"));
        }
    }
    report(findings);
}
