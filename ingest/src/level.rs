//! `detected_level`: the severity that Grafana colours a log line by, found the way Loki 3 finds it.
//!
//! Looked at in this order, first hit wins: the entry's own `detected_level`; a level-like stream label; a level-like
//! key of structured metadata; OTLP's `severity_number`; a level-like field of a JSON or logfmt line; a level-like word
//! in the line; else `unknown`. One pass over the line per step, no allocation.

/// The name under which the level is kept in structured metadata.
pub const DETECTED_LEVEL: &str = "detected_level";

/// Level-like names, most trusted first.
const FIELDS: [&str; 14] = [
    "level",
    "LEVEL",
    "Level",
    "log.level",
    "severity",
    "SEVERITY",
    "Severity",
    "SeverityText",
    "lvl",
    "LVL",
    "Lvl",
    "severity_text",
    "Severity_Text",
    "SEVERITY_TEXT",
];

/// How each level is spelled; the first spelling is its name.
const SPELLINGS: [&[&str]; 7] = [
    &["trace", "trc"],
    &["debug", "dbg"],
    &["info", "inf", "information"],
    &["warn", "wrn", "warning"],
    &["error", "err"],
    &["critical"],
    &["fatal"],
];

/// Words that tell the level of a plain line.
const WORDS: [(&str, &str); 9] = [
    ("trace", "trace"),
    ("debug", "debug"),
    ("fatal", "fatal"),
    ("critical", "critical"),
    ("error", "error"),
    ("err", "error"),
    ("warning", "warn"),
    ("warn", "warn"),
    ("info", "info"),
];

const UNKNOWN: &str = "unknown";

/// The level of an entry, from its stream labels, its structured metadata and its line. Never empty.
pub fn detect_level<'a>(labels: &[(&'a str, &'a str)], metadata: &[(&'a str, &'a str)], line: &str) -> &'a str {
    LevelDetector::DEFAULT.detect(labels, metadata, line)
}

/// The level that a plain line tells by its words alone, without looking for JSON or logfmt fields.
pub fn level_of_words(line: &str) -> &'static str {
    let bytes = line.as_bytes();
    let mut before = None;
    for (at, &byte) in bytes.iter().enumerate() {
        let here = before.is_none_or(opens_word);
        before = Some(byte);
        if !here || !matches!(byte | 0x20, b't' | b'd' | b'f' | b'c' | b'e' | b'w' | b'i') {
            continue;
        }
        for (word, level) in WORDS {
            let Some(candidate) = bytes.get(at..at + word.len()) else {
                continue;
            };
            if candidate.eq_ignore_ascii_case(word.as_bytes())
                && bytes.get(at + word.len()).copied().is_none_or(closes_word)
            {
                return level;
            }
        }
    }
    UNKNOWN
}

/// The level of an OTLP severity number as text.
pub fn level_of_severity_number(number: &str) -> &'static str {
    match number.parse::<i64>() {
        Ok(1..=4) => "trace",
        Ok(5..=8) => "debug",
        Ok(9..=12) => "info",
        Ok(13..=16) => "warn",
        Ok(17..=20) => "error",
        Ok(21..=24) => "fatal",
        Ok(_) => UNKNOWN,
        Err(_) => "info",
    }
}

/// Detection with a list of level-like names.
#[derive(Clone, Copy, Debug)]
pub struct LevelDetector<'f> {
    fields: &'f [&'f str],
}

impl LevelDetector<'static> {
    /// With Loki's own list.
    pub const DEFAULT: LevelDetector<'static> = LevelDetector { fields: &FIELDS };
}

impl<'f> LevelDetector<'f> {
    /// With a list of names, most trusted first.
    pub fn with_fields(fields: &'f [&'f str]) -> LevelDetector<'f> {
        LevelDetector { fields }
    }

    /// As [`detect_level`].
    pub fn detect<'a>(&self, labels: &[(&'a str, &'a str)], metadata: &[(&'a str, &'a str)], line: &str) -> &'a str {
        let of_labels = self.among(labels.iter().copied());
        self.of_entry(of_labels, metadata.iter().copied(), line)
    }

    /// The value of the most trusted level-like name, by its usual spelling if it has one.
    pub(crate) fn among<'a>(&self, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Option<&'a str> {
        let mut best: Option<(usize, &str)> = None;
        for (name, value) in pairs {
            // Hardly any name begins like these.
            if value.is_empty()
                || !self
                    .fields
                    .iter()
                    .any(|f| f.as_bytes().first() == name.as_bytes().first())
            {
                continue;
            }
            if let Some(rank) = self.fields.iter().position(|f| *f == name)
                && best.is_none_or(|(better, _)| rank < better)
            {
                best = Some((rank, value));
            }
        }
        best.map(|(_, level)| named(level).unwrap_or(level))
    }

    /// The level of an entry whose stream labels have been looked at already.
    pub(crate) fn of_entry<'a>(
        &self,
        of_labels: Option<&'a str>,
        metadata: impl Iterator<Item = (&'a str, &'a str)> + Clone,
        line: &str,
    ) -> &'a str {
        let value_of = |wanted: &str| {
            metadata
                .clone()
                .find(|(n, v)| *n == wanted && !v.is_empty())
                .map(|(_, v)| v)
        };
        if let Some(level) = value_of(DETECTED_LEVEL) {
            return named(level).unwrap_or(level);
        }
        if let Some(level) = of_labels.or_else(|| self.among(metadata.clone())) {
            return level;
        }
        match value_of("severity_number") {
            Some(number) => level_of_severity_number(number),
            None => self.level_of_line(line),
        }
    }

    /// The level that a line tells: by a field if it is JSON or logfmt, else by its words.
    pub fn level_of_line(&self, line: &str) -> &'static str {
        let trimmed = line.trim_ascii();
        let field = if trimmed.starts_with('{') && trimmed.ends_with('}') {
            self.json_field(trimmed.as_bytes())
        } else if line.as_bytes().contains(&b'=') {
            self.logfmt_field(line.as_bytes())
        } else {
            None
        };
        field.and_then(named_bytes).unwrap_or_else(|| level_of_words(line))
    }

    /// The first string member with a level-like name, in document order, at most two objects deep.
    fn json_field<'l>(&self, line: &'l [u8]) -> Option<&'l [u8]> {
        let mut at = 0;
        let mut depth = 0;
        let mut arrays = 0;
        let mut key: Option<&[u8]> = None;
        while let Some(&byte) = line.get(at) {
            at += 1;
            match byte {
                b'{' => {
                    depth += 1;
                    key = None;
                }
                b'}' => {
                    depth -= 1;
                    key = None;
                }
                b'[' => arrays += 1,
                b']' => arrays -= 1,
                b',' => key = None,
                b'"' => {
                    let end = string_end(line, at)?;
                    let text = &line[at..end];
                    at = end + 1;
                    if arrays > 0 || depth > JSON_DEPTH_MAX {
                        continue;
                    }
                    match key {
                        None if next_is_colon(line, at) => key = Some(text),
                        Some(key) if self.fields.iter().any(|f| f.as_bytes() == key) => return Some(text),
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// The value of the logfmt key that comes first in the list of names, in any case.
    fn logfmt_field<'l>(&self, line: &'l [u8]) -> Option<&'l [u8]> {
        let mut best: Option<(usize, &[u8])> = None;
        let mut at = 0;
        while at < line.len() {
            let key_start = at;
            while line.get(at).is_some_and(|b| *b > b' ' && *b != b'=' && *b != b'"') {
                at += 1;
            }
            let key = &line[key_start..at];
            if line.get(at) != Some(&b'=') {
                at += 1;
                continue;
            }
            at += 1;
            let value = if line.get(at) == Some(&b'"') {
                let end = string_end(line, at + 1).unwrap_or(line.len());
                let value = &line[(at + 1).min(end)..end];
                at = end + 1;
                value
            } else {
                let start = at;
                while line.get(at).is_some_and(|b| *b > b' ') {
                    at += 1;
                }
                &line[start..at]
            };
            let rank = self.fields.iter().position(|f| f.as_bytes().eq_ignore_ascii_case(key));
            if let Some(rank) = rank
                && best.is_none_or(|(better, _)| rank < better)
            {
                best = Some((rank, value));
            }
        }
        best.map(|(_, value)| value)
    }
}

/// Members of objects inside objects inside objects are somebody else's level.
const JSON_DEPTH_MAX: i32 = 2;

fn named(spelling: &str) -> Option<&'static str> {
    named_bytes(spelling.as_bytes())
}

fn named_bytes(spelling: &[u8]) -> Option<&'static str> {
    SPELLINGS
        .iter()
        .find(|all| all.iter().any(|s| s.as_bytes().eq_ignore_ascii_case(spelling)))
        .map(|all| all[0])
}

fn string_end(line: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match line.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn next_is_colon(line: &[u8], at: usize) -> bool {
    line[at.min(line.len())..].iter().find(|b| !b.is_ascii_whitespace()) == Some(&b':')
}

fn opens_word(before: u8) -> bool {
    matches!(
        before,
        b' ' | b'\t' | b'\n' | b'[' | b'(' | b'{' | b'"' | b'\'' | b'|' | b'='
    )
}

fn closes_word(after: u8) -> bool {
    opens_word(after) || matches!(after, b']' | b')' | b'}' | b':' | b',' | b'!')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn order_of_trust() {
        let check = |labels: &[(&str, &str)], metadata: &[(&str, &str)], line: &str, want: &str| {
            assert_eq!(
                detect_level(labels, metadata, line),
                want,
                "{labels:?} {metadata:?} {line}"
            );
        };
        check(&[("level", "WARN")], &[("detected_level", "ERR")], "info", "error");
        check(&[("level", "WARN")], &[("level", "debug")], "info", "warn");
        check(
            &[("app", "x")],
            &[("severity_text", "INFO"), ("severity_number", "17")],
            "",
            "info",
        );
        check(&[("level", "notice")], &[], "error", "notice");
        check(&[], &[("severity_number", "0")], "error", "unknown");
        check(&[], &[], r#"{"a":{"level":"debug"},"level":"error"}"#, "debug");
        check(&[], &[], r#"{"a":{"b":{"level":"debug"}},"level":"error"}"#, "error");
        check(&[], &[], r#"{"a":["level","x"],"level":"err"}"#, "error");
        check(&[], &[], r#"{"level":"no\"tice","msg":"fatal"}"#, "fatal");
        check(&[], &[], "lvl=debug severity=error", "error");
        check(&[], &[], "level=notice a warning here", "warn");
        check(&[], &[], "misc:error", "unknown");
        check(&[], &[], "", "unknown");
    }

    /// The corpus of Loki's own cases; it lies beside the project, not in it.
    #[test]
    fn corpus_of_levels() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../shared/corpus/logql/level_detection.json"
        );
        let Ok(text) = std::fs::read_to_string(path) else {
            return;
        };
        for case in serde_json::from_str::<Vec<Value>>(&text).unwrap() {
            let strings = |v: &Value| -> Vec<String> {
                let all = v.as_array().into_iter().flatten();
                all.map(|s| s.as_str().unwrap_or_default().to_owned()).collect()
            };
            let line = case["line"].as_str().unwrap_or_default();
            let metadata: Vec<(&str, &str)> = case["structured_metadata"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(n, v)| (n.as_str(), v.as_str().unwrap_or_default()))
                .collect();
            let got = match case["suite"].as_str().unwrap() {
                "entry" => detect_level(&[], &metadata, line).to_owned(),
                "entry-custom-fields" => {
                    let fields = strings(&case["log_level_fields"]);
                    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
                    LevelDetector::with_fields(&fields)
                        .detect(&[], &metadata, line)
                        .to_owned()
                }
                "plain-line" => level_of_words(line).to_owned(),
                "otlp-severity-number" => {
                    let number = &case["severity_number"];
                    let number = number.as_str().map_or_else(|| number.to_string(), str::to_owned);
                    level_of_severity_number(&number).to_owned()
                }
                other => panic!("unknown suite {other}"),
            };
            assert_eq!(got, case["want"].as_str().unwrap(), "{case}");
        }
    }

    proptest! {
        /// Lines are anybody's text.
        #[test]
        fn any_line_has_a_level(line in "[ -~{}\"=\\\\]{0,80}") {
            prop_assert!(!detect_level(&[], &[], &line).is_empty());
        }
    }
}
