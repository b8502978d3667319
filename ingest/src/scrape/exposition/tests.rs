//! What the readers show, and that nothing hurts them.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

/// What was shown, a line each.
#[derive(Default)]
struct Lines(Vec<String>);

impl Visitor for Lines {
    fn about(&mut self, family: &str, about: About<'_>) {
        self.0.push(format!("{family}: {about:?}"));
    }

    fn sample(&mut self, sample: &Exposed<'_>) -> Result<(), String> {
        let mut labels = Vec::new();
        sample
            .labels
            .each(&mut |name, value| labels.push((name.to_owned(), value.to_owned())))?;
        let labels = model::LabelSet::from_pairs(labels);
        let value = match &sample.value {
            ExposedValue::Float(v) => v.to_string(),
            ExposedValue::Histogram(h) => format!(
                "schema {} count {} sum {} positive {:?}",
                h.schema, h.count, h.sum, h.positive.counts
            ),
        };
        let mut line = format!("{labels} {value}");
        for (what, t) in [("at", sample.t), ("from", sample.start)] {
            if let Some(t) = t {
                line.push_str(&format!(" {what} {t}"));
            }
        }
        for e in sample.exemplars {
            line.push_str(&format!(" # {:?} {} {:?}", e.labels, e.value, e.t));
        }
        self.0.push(line);
        Ok(())
    }
}

fn shown(body: &[u8], format: Format) -> Result<Vec<String>, String> {
    let mut lines = Lines::default();
    read(
        body,
        format,
        HistogramHabits {
            native: true,
            ..HistogramHabits::default()
        },
        &mut lines,
    )?;
    Ok(lines.0)
}

const TEXT: Format = Format::Text(Dialect::Prometheus);
const OPEN: Format = Format::Text(Dialect::OpenMetrics);

fn corpus(file: &str) -> Option<Vec<u8>> {
    let dir: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/ingest");
    if dir.is_dir() {
        return Some(std::fs::read(dir.join(file)).unwrap());
    }
    let needed = std::env::var("CORPUS_REQUIRED").is_ok_and(|v| v == "1");
    assert!(!needed, "{} is missing and CORPUS_REQUIRED=1", dir.display());
    eprintln!("skipped: {} is missing", dir.display());
    None
}

fn samples(lines: &[String]) -> Vec<&String> {
    lines.iter().filter(|l| l.starts_with('{')).collect()
}

#[test]
fn the_answers_of_the_corpus_are_read() {
    let Some(classic) = corpus("exposition_classic.txt") else {
        return;
    };
    let lines = shown(&classic, TEXT).unwrap();
    assert_eq!(samples(&lines).len(), 31);
    for line in [
        r#"{__name__="windows_path_info", note="say \"hi\"\nsecond line", path="C:\\data\\tasks.db"} 1"#,
        r#"{__name__="queue_depth", host="labvm", name="mail"} 17"#,
        r#"{__name__="gc_pause_seconds", quantile="1.0"} NaN"#,
        r#"{__name__="http_request_duration_seconds_bucket", endpoint="get_tasks", le="1.0"} 1039"#,
        r#"{__name__="batch_last_success"} 1761128000 at 1761128100000"#,
        r#"{__name__="dotted.metric.name", server.address="labvm", x="1"} 2.25"#,
        "windows_path_info: Help(",
        "queue_depth: Kind(Gauge)",
    ] {
        assert!(lines.iter().any(|l| l.starts_with(line)), "{line} in {lines:#?}");
    }
    let lines = shown(&corpus("exposition_openmetrics.txt").unwrap(), OPEN).unwrap();
    let with_exemplar = lines.iter().filter(|l| l.contains(" # ")).count();
    assert_eq!((samples(&lines).len(), with_exemplar), (27, 3));
    for line in [
        r#"{__name__="last_backup_seconds"} 1761128000.5 at 1761128100250"#,
        r#"{__name__="http_request_duration_seconds_bucket", le="1.0"} 1039 # [("trace_id", "4c7d1e90a2b35f6817d0c3e5a9f8b264")] 0.58 None"#,
        r#"memory_bytes: Unit("bytes")"#,
        "worker_state: Kind(StateSet)",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line} in {lines:#?}");
    }
    let why = shown(&corpus("exposition_bad.txt").unwrap(), TEXT).unwrap_err();
    assert!(why.starts_with("line 3: "), "{why}");
}

#[test]
fn what_prometheus_text_may_be() {
    for (text, want) in [
        ("a 1", &[r#"{__name__="a"} 1"#][..]),
        ("a 1\r\n", &[r#"{__name__="a"} 1"#]),
        ("\n  \n# what\n#\na{} 1\n", &[r#"{__name__="a"} 1"#]),
        (
            "a{b=\"1\" c=\"2\"} 1 -5\n",
            &[r#"{__name__="a", b="1", c="2"} 1 at -5"#],
        ),
        ("a{ b = \"x\ny\" ,} +Inf\n", &[r#"{__name__="a", b="x\ny"} inf"#]),
        ("a{b=\"\\q\\\\\"} 1\n", &[r#"{__name__="a", b="\\q\\"} 1"#]),
        (
            "# TYPE s summary\ns{quantile=\"0.50\"} 1\n",
            &["s: Kind(Summary)", r#"{__name__="s", quantile="0.5"} 1"#],
        ),
        ("s{le=\"1\"} 1\n", &[r#"{__name__="s", le="1"} 1"#]),
        ("# HELP a \n", &[r#"a: Help("")"#]),
        ("", &[]),
    ] {
        assert_eq!(shown(text.as_bytes(), TEXT).unwrap(), want, "{text:?}");
    }
}

#[test]
fn what_it_may_not_be() {
    for text in [
        "a",
        "a\n",
        "a one\n",
        "a 1 x\n",
        "a 1 1 1\n",
        "a{b} 1\n",
        "a{b=1} 1\n",
        "a{b=\"1\" 1\n",
        "{} 1\n",
        "{b=\"1\"} 1\n",
        "a{\"b\"} 1\n",
        "1a 1\n",
        "a{1b=\"x\"} 1\n",
        "# TYPE a what\n",
        "# TYPE 1 gauge\n",
        "a{b=\"\u{ff}\"} 1\n",
        "a 0x1p3\n",
        "a 1_0\n",
        "a 1 99999999999999999999\n",
        "a\u{e9} 1\n",
    ] {
        let text: Vec<u8> = text.chars().map(|c| c as u8).collect();
        assert!(shown(&text, TEXT).is_err(), "{}", String::from_utf8_lossy(&text));
    }
    let why = shown(b"a 1\n\nb{x=\"multi\nline\"} 1\nc one\n", TEXT).unwrap_err();
    assert_eq!(why, "line 5: invalid value \"one\" while parsing: \"c one\"");
}

#[test]
fn openmetrics_is_stricter() {
    let whole = "# TYPE a counter\n# HELP a Some \\\"help\\\".\na_total 1 2.5 # {t=\"x\"} 3 4.5\n# EOF\n";
    assert_eq!(
        shown(whole.as_bytes(), OPEN).unwrap(),
        [
            "a: Kind(Counter)",
            "a: Help(\"Some \\\"help\\\".\")",
            r#"{__name__="a_total"} 1 at 2500 # [("t", "x")] 3 Some(4500)"#
        ]
    );
    assert_eq!(shown(b"# EOF", OPEN).unwrap(), [""; 0]);
    for text in [
        "",
        "a 1\n",
        "a  1\n# EOF\n",
        "\n# EOF\n",
        "a 1 x\n# EOF\n",
        "a 1 NaN\n# EOF\n",
        "a 1\n# EOF\na 1\n",
        "# what\n# EOF\n",
        "# UNIT a_b c\n# EOF\n",
        "# TYPE a untyped\n# EOF\n",
        "a 1 # {t=\"x\"}\n# EOF\n",
        "a{b=\"1\"c=\"2\"} 1\n# EOF\n",
        "a 1 \n# EOF\n",
        "a 1 # {t=\"x\"} one\n# EOF\n",
        "# EOFX\n",
    ] {
        assert!(shown(text.as_bytes(), OPEN).is_err(), "{text:?}");
    }
}

proptest! {
    /// Targets may answer anything.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for format in [TEXT, OPEN, Format::Protobuf] {
            let _ = shown(&bytes, format);
        }
    }

    /// The same for what is nearly right.
    #[test]
    fn any_text_is_read_or_refused(text in "([a-z_:]{1,3}|[{}\" =,#\\\\\n]|\\{a=\"|# TYPE a |# EOF| 1|[0-9.]{1,3}){0,40}") {
        for format in [TEXT, OPEN] {
            let _ = shown(text.as_bytes(), format);
        }
    }

    /// What a client writes with any label value is read as it was meant.
    #[test]
    fn escaped_values_come_back(value in "\\PC{0,10}|[\\\\\"\n]{0,4}", v in any::<i32>()) {
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let want = model::LabelSet::from_pairs([("__name__", "m"), ("l", &value)]);
        let line = format!("m{{l=\"{escaped}\"}} {v}\n");
        prop_assert_eq!(shown(line.as_bytes(), TEXT).unwrap(), [format!("{want} {v}")]);
        prop_assert_eq!(shown(format!("{line}# EOF\n").as_bytes(), OPEN).unwrap(), [format!("{want} {v}")]);
    }
}
