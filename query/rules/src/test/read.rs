//! The YAML of a test file, as strict as a rule file's: what is unknown is a fault.

use std::collections::HashSet;
use std::sync::Arc;

use model::LabelSet;
use yaml_tree::Node;

use super::input::{EntryLine, Input};
use super::{AlertTest, ExpressionTest, FiringAlert, Sample, SampleValue, TestCase, TestFile};
use crate::file::{Fields, Place};
use crate::notation::{self, Value as Place_};
use crate::{Dialect, Fault};

/// Between evaluations where the file does not say.
const INTERVAL_MS: i64 = 60_000;

impl TestFile {
    /// Reads `text`, the contents of the file at `path`.
    pub fn read(path: &str, text: &str) -> Result<TestFile, Vec<Fault>> {
        let place = Place::file(path);
        let mut faults = Vec::new();
        let file = match yaml_tree::parse(text) {
            Ok(node) => file(&node, &place, &mut faults),
            Err(e) => return Err(vec![place.at(e.line, e.column, e.what)]),
        };
        if faults.is_empty() { Ok(file) } else { Err(faults) }
    }
}

fn file(node: &Node, place: &Place, faults: &mut Vec<Fault>) -> TestFile {
    let mut fields = Fields::of(node, "a test file", place, faults);
    let rule_files = texts(&mut fields, "rule_files");
    let group_eval_order = texts(&mut fields, "group_eval_order");
    let evaluation_interval_ms = interval(&mut fields, "evaluation_interval").unwrap_or(INTERVAL_MS);
    let fuzzy_compare = truth(&mut fields, "fuzzy_compare");
    let tests = fields.items("tests");
    fields.finish();
    let mut seen = HashSet::new();
    for name in &group_eval_order {
        if !seen.insert(name) {
            faults.push(place.fault(node, format!("group name repeated in evaluation order: {name}")));
        }
    }
    let cases = (tests.iter().enumerate())
        .map(|(i, node)| case(i, node, evaluation_interval_ms, place, faults))
        .collect();
    TestFile {
        rule_files,
        cases,
        evaluation_interval_ms,
        group_eval_order,
        fuzzy_compare,
    }
}

fn case(index: usize, node: &Node, evaluation_interval_ms: i64, place: &Place, faults: &mut Vec<Fault>) -> TestCase {
    let mut fields = Fields::of(node, "a test", place, faults);
    let name = fields
        .text("name")
        .map(|(text, _)| text)
        .filter(|text| !text.is_empty());
    let name = name.map_or_else(|| format!("unnamed#{index}"), str::to_owned);
    let interval_ms = interval(&mut fields, "interval").unwrap_or(evaluation_interval_ms);
    let start_ms = start(&mut fields);
    let external_labels = pairs(&mut fields, "external_labels");
    let external_url = fields
        .text("external_url")
        .map_or_else(String::new, |(text, _)| text.to_owned());
    let series = fields.items("input_series");
    let streams = fields.items("input_streams");
    let alerts = fields.items("alert_rule_test");
    let promql = fields.items("promql_expr_test");
    let logql = fields.items("logql_expr_test");
    fields.finish();

    let mut input = Input::default();
    for node in series {
        one_series(node, &mut input, place, faults);
    }
    for node in streams {
        one_stream(node, interval_ms, &mut input, place, faults);
    }
    let alerts = alerts.iter().map(|node| alert_test(node, place, faults)).collect();
    let expressions = (promql.iter().map(|node| (node, Dialect::PromQl)))
        .chain(logql.iter().map(|node| (node, Dialect::LogQl)))
        .map(|(node, dialect)| expression_test(node, dialect, place, faults))
        .collect();
    TestCase {
        name,
        line: node.line,
        interval_ms,
        start_ms,
        external_labels,
        external_url,
        input,
        alerts,
        expressions,
    }
}

fn one_series(node: &Node, input: &mut Input, place: &Place, faults: &mut Vec<Fault>) {
    let mut fields = Fields::of(node, "an input series", place, faults);
    let series = fields.text("series").map_or("", |(text, _)| text);
    let values = fields.text("values").map_or("", |(text, _)| text);
    fields.finish();
    let read = notation::labels(series).and_then(|labels| Ok((labels, notation::values(values)?)));
    match read {
        Ok((labels, values)) => input.series(labels, values),
        Err(e) => faults.push(place.fault(node, e.to_string())),
    }
}

fn one_stream(node: &Node, interval_ms: i64, input: &mut Input, place: &Place, faults: &mut Vec<Fault>) {
    let mut fields = Fields::of(node, "an input stream", place, faults);
    let stream = fields.text("stream").map_or("", |(text, _)| text);
    let entries = fields.items("entries");
    fields.finish();
    let labels = match stream_labels(stream) {
        Ok(labels) => Arc::new(labels),
        Err(reason) => return faults.push(place.fault(node, reason)),
    };
    for node in entries {
        let mut fields = Fields::of(node, "a log entry", place, faults);
        if fields.node("line").is_none() {
            fields.fault(node, "line is missing");
        }
        let line = fields.text("line").map_or("", |(text, _)| text).to_owned();
        let at_ms = fields.duration_ms("at").unwrap_or(0);
        let every_ms = interval(&mut fields, "every").unwrap_or(interval_ms);
        let times = fields.count("times").unwrap_or(1);
        let metadata = pairs(&mut fields, "metadata");
        fields.finish();
        let entry = EntryLine {
            labels: labels.clone(),
            line,
            metadata,
            at_ms,
            every_ms,
            times,
        };
        if let Err(reason) = input.entries(entry) {
            faults.push(place.fault(node, reason));
        }
    }
}

fn stream_labels(text: &str) -> Result<LabelSet, String> {
    let matchers = query_logql::parse_matchers(text).map_err(|e| format!("stream {text:?}: {e}"))?;
    if matchers.iter().any(|m| m.op() != model::MatchOp::Equal) {
        return Err(format!("stream {text:?}: a stream has `=` labels only"));
    }
    Ok(matchers.iter().map(|m| (m.name(), m.value())).collect())
}

fn alert_test(node: &Node, place: &Place, faults: &mut Vec<Fault>) -> AlertTest {
    let mut fields = Fields::of(node, "an alert test", place, faults);
    let eval_time_ms = fields.duration_ms("eval_time").unwrap_or(0);
    let alertname = fields.text("alertname").map_or("", |(text, _)| text).to_owned();
    if alertname.is_empty() {
        fields.fault(
            node,
            "an item under alert_rule_test misses required attribute alertname",
        );
    }
    let alerts = fields.items("exp_alerts");
    fields.finish();
    let mut expected = Vec::new();
    for node in alerts {
        let mut fields = Fields::of(node, "an expected alert", place, faults);
        let mut labels = pairs(&mut fields, "exp_labels");
        let annotations = pairs(&mut fields, "exp_annotations");
        fields.finish();
        labels.retain(|(name, _)| name != "alertname");
        labels.push(("alertname".to_owned(), alertname.clone()));
        labels.sort();
        expected.push(FiringAlert { labels, annotations });
    }
    AlertTest {
        line: node.line,
        eval_time_ms,
        alertname,
        expected,
    }
}

fn expression_test(node: &Node, dialect: Dialect, place: &Place, faults: &mut Vec<Fault>) -> ExpressionTest {
    let mut fields = Fields::of(node, "an expression test", place, faults);
    let expr = fields.text("expr").map_or("", |(text, _)| text).to_owned();
    let eval_time_ms = fields.duration_ms("eval_time").unwrap_or(0);
    let samples = fields.items("exp_samples");
    fields.finish();
    let expected = samples.iter().filter_map(|node| sample(node, place, faults)).collect();
    ExpressionTest {
        line: node.line,
        dialect,
        expr,
        eval_time_ms,
        expected,
    }
}

fn sample(node: &Node, place: &Place, faults: &mut Vec<Fault>) -> Option<Sample> {
    let mut fields = Fields::of(node, "an expected sample", place, faults);
    let labels = fields.text("labels").map_or("", |(text, _)| text);
    let value = fields.text("value").map_or("0", |(text, _)| text);
    let histogram = fields.text("histogram").map_or("", |(text, _)| text);
    fields.finish();
    match sample_of(labels, value, histogram) {
        Ok(sample) => Some(sample),
        Err(reason) => {
            faults.push(place.fault(node, reason));
            None
        }
    }
}

fn sample_of(labels: &str, value: &str, histogram: &str) -> Result<Sample, String> {
    let set = notation::labels(labels).map_err(|e| format!("labels {labels:?}: {e}"))?;
    let value = if histogram.is_empty() {
        let text = value.trim_start_matches('.').replace('_', "");
        let read = if value.to_ascii_lowercase().trim_start_matches(['+', '-', '.']) == "inf" {
            let sign = if value.starts_with('-') { -1.0 } else { 1.0 };
            Some(sign * f64::INFINITY)
        } else if text.eq_ignore_ascii_case("nan") {
            Some(f64::NAN)
        } else {
            value.replace('_', "").parse::<f64>().ok()
        };
        SampleValue::Float(read.ok_or_else(|| format!("value {value:?} is no number"))?)
    } else {
        let values = notation::values(histogram).map_err(|e| format!("labels {labels:?}: {e}"))?;
        match &values[..] {
            [Place_::Histogram(h, _)] => SampleValue::Histogram(notation::histogram_text(h)),
            [_] => return Err(format!("labels {labels:?}: expected histogram, got {histogram:?}")),
            _ => return Err(format!("labels {labels:?}: expected 1 value, got {}", values.len())),
        }
    };
    Ok(Sample { labels: set, value })
}

fn texts(fields: &mut Fields<'_, '_>, key: &str) -> Vec<String> {
    let mut out = Vec::new();
    for node in fields.items(key) {
        match &node.value {
            yaml_tree::Value::Scalar { text, .. } => out.push(text.clone()),
            _ => fields.fault(node, format!("{key}: a text is expected, this is {}", node.kind())),
        }
    }
    out
}

/// Sorted by name.
fn pairs(fields: &mut Fields<'_, '_>, key: &str) -> Vec<(String, String)> {
    let read = fields.text_map(key).into_iter();
    let mut out: Vec<_> = read
        .map(|(name, value)| (name.text.clone(), value.to_owned()))
        .collect();
    out.sort();
    out
}

/// A duration that is not zero.
fn interval(fields: &mut Fields<'_, '_>, key: &str) -> Option<i64> {
    fields.duration_ms(key).filter(|ms| *ms > 0)
}

fn truth(fields: &mut Fields<'_, '_>, key: &str) -> bool {
    match fields.text(key) {
        None => false,
        Some((text, node)) => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => true,
            "false" | "no" | "off" | "n" => false,
            _ => {
                fields.fault(node, format!("{key}: {text:?} is neither true nor false"));
                false
            }
        },
    }
}

/// Unix seconds, or RFC 3339; ms.
fn start(fields: &mut Fields<'_, '_>) -> i64 {
    let Some((text, node)) = fields.text("start_timestamp") else {
        return 0;
    };
    let seconds = text.parse::<f64>().ok().filter(|s| s.abs() < 1e14);
    let ms = seconds.map(|s| (s * 1000.0).round() as i64);
    match ms.or_else(|| Some(text.parse::<jiff::Timestamp>().ok()?.as_millisecond())) {
        Some(ms) => ms,
        None => {
            fields.fault(node, format!("cannot parse {text:?} to a valid timestamp"));
            0
        }
    }
}
