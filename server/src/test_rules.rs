//! `trilobite test-rules FILE...`: unit tests of rules, in the form of Prometheus' tool, over series and over log lines.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use prometheus_config::files_matching;
use query_rules::test::{Failure, TestFile};
use query_rules::{Group, dialect_of, read_groups};

/// What to test.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tests {
    /// Files of tests.
    pub files: Vec<PathBuf>,
    /// Expressions; only tests are run of whose names one is found in. None: all are.
    pub run: Vec<String>,
    /// Where a report for machines is written, as JUnit's XML.
    pub junit: Option<PathBuf>,
}

/// How the tests of one file went.
struct Suite {
    file: String,
    /// Why the file could not be tested at all.
    error: Option<String>,
    cases: Vec<Case>,
}

struct Case {
    name: String,
    took: Duration,
    failures: Vec<Failure>,
}

/// Runs them and says on stdout how each file went. `Ok(true)`: all is as it should be.
#[allow(clippy::print_stdout)] // the answer of a command
pub fn run(tests: &Tests) -> Result<bool, String> {
    let wanted = tests.run.iter().map(|pattern| {
        // Found anywhere in the name, as Prometheus' tool looks for it.
        model::anchored_regex(&format!("(?s:.*)(?:{pattern})(?s:.*)")).map_err(|e| format!("--run {pattern:?}: {e}"))
    });
    let wanted = wanted.collect::<Result<Vec<_>, _>>()?;
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|re| re.is_match(name));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| e.to_string())?;
    let mut suites = Vec::new();
    for file in &tests.files {
        let suite = runtime.block_on(run_file(file, &is_wanted));
        print!("{}", suite.report());
        suites.push(suite);
    }
    if let Some(path) = &tests.junit {
        std::fs::write(path, junit(&suites)).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(suites.iter().all(Suite::is_good))
}

async fn run_file(path: &Path, is_wanted: &dyn Fn(&str) -> bool) -> Suite {
    let mut suite = Suite {
        file: path.display().to_string(),
        error: None,
        cases: Vec::new(),
    };
    let read = read_all(path);
    let (file, groups) = match read {
        Ok(read) => read,
        Err(why) => {
            suite.error = Some(why);
            return suite;
        }
    };
    for case in file.cases.iter().filter(|case| is_wanted(&case.name)) {
        let began = Instant::now();
        let failures = match tempfile::tempdir() {
            Ok(scratch) => file.run(case, &groups, scratch.path()).await,
            Err(e) => vec![Failure {
                line: case.line,
                what: format!("no temporary folder for the test: {e}"),
            }],
        };
        suite.cases.push(Case {
            name: case.name.clone(),
            took: began.elapsed(),
            failures,
        });
    }
    suite
}

/// The tests and the groups that they are of; an error has a line for each fault.
fn read_all(path: &Path) -> Result<(TestFile, Vec<Group>), String> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| format!("{name}: {e}"))?;
    let joined = |faults: Vec<query_rules::Fault>| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        lines.join("\n")
    };
    let file = TestFile::read(&name, &text).map_err(joined)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut groups = Vec::new();
    let mut read: Vec<PathBuf> = Vec::new();
    for pattern in &file.rule_files {
        let found =
            files_matching(&folder.join(pattern)).map_err(|e| format!("{name}: rule_files {pattern:?}: {e}"))?;
        if found.is_empty() {
            tracing::warn!("{name}: no file matches {pattern:?} of rule_files");
        }
        for path in found {
            if read.contains(&path) {
                continue;
            }
            let rules = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let (of_file, mut faults) = read_groups(&path.display().to_string(), &rules, dialect_of(&path));
            faults.retain(|fault| !fault.is_warning);
            if !faults.is_empty() {
                return Err(joined(faults));
            }
            groups.extend(of_file);
            read.push(path);
        }
    }
    Ok((file, groups))
}

impl Suite {
    fn is_good(&self) -> bool {
        self.error.is_none() && self.cases.iter().all(|case| case.failures.is_empty())
    }

    fn report(&self) -> String {
        let mut out = String::new();
        if let Some(error) = &self.error {
            // Faults name their file themselves.
            let _ = writeln!(out, "{}: FAILED\n  {}", self.file, error.replace('\n', "\n  "));
            return out;
        }
        let failed = self.cases.iter().filter(|case| !case.failures.is_empty()).count();
        let passed = self.cases.len() - failed;
        if failed == 0 {
            let _ = writeln!(out, "{}: {passed} passed", self.file);
            return out;
        }
        let _ = writeln!(out, "{}: {failed} FAILED, {passed} passed", self.file);
        for case in &self.cases {
            for failure in &case.failures {
                let _ = writeln!(out, "  {}:{}: {}: {}", self.file, failure.line, case.name, failure.what);
            }
        }
        out
    }
}

fn junit(suites: &[Suite]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for suite in suites {
        let failed = suite.cases.iter().filter(|case| !case.failures.is_empty()).count();
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" errors=\"{}\">",
            escaped(&suite.file),
            suite.cases.len(),
            usize::from(suite.error.is_some())
        );
        if let Some(error) = &suite.error {
            let _ = writeln!(
                out,
                "    <testcase name=\"reading the file\" time=\"0\"><error>{}</error></testcase>",
                escaped(error)
            );
        }
        for case in &suite.cases {
            let _ = write!(
                out,
                "    <testcase name=\"{}\" time=\"{:.3}\">",
                escaped(&case.name),
                case.took.as_secs_f64()
            );
            for failure in &case.failures {
                let _ = write!(
                    out,
                    "<failure>{}</failure>",
                    escaped(&format!("line {}: {}", failure.line, failure.what))
                );
            }
            out.push_str("</testcase>\n");
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            // XML 1.0 has no way to write them.
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "groups: [{name: g, rules: [{record: x, expr: up * 2}]}]";

    fn test_of(value: &str) -> String {
        format!(
            "rule_files: [r*.yaml]\ntests:\n- name: twice\n  input_series: [{{series: up, values: 1x5}}]\n  \
             promql_expr_test: [{{expr: x, eval_time: 1m, exp_samples: [{{labels: x, value: {value}}}]}}]\n"
        )
    }

    #[test]
    fn the_ready_rules_pass_their_tests() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/rules/tests");
        let files = files_matching(&folder.join("*.test.yaml")).unwrap();
        assert!(files.len() >= 5, "{files:?}");
        let tests = Tests {
            files,
            ..Tests::default()
        };
        assert_eq!(run(&tests), Ok(true));
    }

    #[test]
    fn what_fails_is_reported_for_people_and_for_machines() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        write("r1.yaml", RULES);
        let good = write("good.yaml", &test_of("2"));
        let bad = write("bad.yaml", &test_of("3"));
        let broken = write("broken.yaml", "tests: [{nam: x}]");
        let junit = dir.path().join("junit.xml");
        let tests = |files: &[&PathBuf], run: &[&str]| Tests {
            files: files.iter().map(|path| (*path).clone()).collect(),
            run: run.iter().map(|text| (*text).to_owned()).collect(),
            junit: Some(junit.clone()),
        };
        assert_eq!(run(&tests(&[&good], &[])), Ok(true));
        assert_eq!(run(&tests(&[&good, &bad, &broken], &[])), Ok(false));
        let xml = std::fs::read_to_string(&junit).unwrap();
        assert!(xml.contains("tests=\"1\" failures=\"1\" errors=\"0\""), "{xml}");
        assert!(xml.contains("tests=\"0\" failures=\"0\" errors=\"1\""), "{xml}");
        assert!(xml.contains("- {__name__=&quot;x&quot;} 3"), "{xml}");
        // What is not asked for cannot fail.
        assert_eq!(run(&tests(&[&bad], &["thrice|once"])), Ok(true));
        assert_eq!(run(&tests(&[&bad], &["thrice", "wice"])), Ok(false));
        assert!(run(&tests(&[&bad], &["("])).unwrap_err().contains("--run"));
    }
}
