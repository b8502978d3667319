//! What the three corpus runners share: where the cases are, how each is judged and named, and the floor.
//!
//! `make corpus` runs `corpus-promql`, `corpus-logql` and `corpus-traceql`. Cases come from the shared corpus beside the
//! checkout and from every folder named in `PROMQL_CORPUS`, `LOGQL_CORPUS`, `TRACEQL_CORPUS` (`:`-separated). The number of
//! passing cases of the shared corpus may only rise: `tests/corpus/floors.txt` holds it.

// A runner reports on standard output; that is its job.
#![allow(clippy::print_stdout)]

pub mod oracle;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

/// Folders of cases for `language` (`promql`, `logql`, `traceql`), each once. A missing shared corpus is an error where
/// `CORPUS_REQUIRED=1` is set, else it is said and left out.
pub fn folders(language: &str) -> anyhow::Result<Vec<PathBuf>> {
    let shared = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/corpus")
        .join(language);
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    let extra = std::env::var(format!("{}_CORPUS", language.to_uppercase())).unwrap_or_default();
    let named = extra
        .split(':')
        .filter(|s| !s.is_empty())
        .map(|s| (PathBuf::from(s), true));
    for (folder, named) in std::iter::once((shared, false)).chain(named) {
        match folder.canonicalize() {
            Ok(real) => {
                if seen.insert(real.clone()) {
                    out.push(real);
                }
            }
            Err(e) if named || std::env::var("CORPUS_REQUIRED").as_deref() == Ok("1") => {
                anyhow::bail!("{}: {e}", folder.display())
            }
            Err(_) => eprintln!(
                "{}: not there, left out (CORPUS_REQUIRED=1 makes this an error)",
                folder.display()
            ),
        }
    }
    Ok(out)
}

/// Counts cases and names the failing ones.
pub struct Report {
    language: &'static str,
    passed: usize,
    failed: usize,
}

impl Report {
    /// Nothing counted yet.
    pub fn new(language: &'static str) -> Report {
        Report {
            language,
            passed: 0,
            failed: 0,
        }
    }

    /// Runs one case; an error or a panic is a failure, named with its reason on one line.
    pub fn case(&mut self, name: &str, run: impl FnOnce() -> anyhow::Result<()>) {
        let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            Err(anyhow::anyhow!(
                "panicked: {}",
                text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?")
            ))
        });
        match result {
            Ok(()) => self.passed += 1,
            Err(e) => {
                self.failed += 1;
                let reason = format!("{e:#}").replace('\n', " ");
                println!(
                    "FAIL {} {name}: {}",
                    self.language,
                    reason.chars().take(300).collect::<String>()
                );
            }
        }
    }

    /// Prints the closing line; fails if fewer cases pass than the floor says. With no case at all it fails only where
    /// `CORPUS_REQUIRED=1` is set.
    pub fn finish(self) -> ExitCode {
        println!("{}: {} passed, {} failed", self.language, self.passed, self.failed);
        let required = std::env::var("CORPUS_REQUIRED").as_deref() == Ok("1");
        if self.passed + self.failed == 0 && !required {
            return ExitCode::SUCCESS;
        }
        let floor = floor(self.language);
        if self.passed < floor {
            eprintln!(
                "{}: {} cases passed, the floor in tests/corpus/floors.txt is {floor}",
                self.language, self.passed
            );
            return ExitCode::FAILURE;
        }
        ExitCode::SUCCESS
    }
}

fn floor(language: &str) -> usize {
    include_str!("../floors.txt")
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == language)
        .and_then(|(_, n)| n.trim().parse().ok())
        .unwrap_or(0)
}
