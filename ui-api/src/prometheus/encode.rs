//! Results as the Prometheus API writes them. Written straight into one string: a range query may hold millions of
//! points.

use axum::response::{IntoResponse, Response};
use http::header;
use model::{Exemplar, LabelSet, MetricMetadata};
use query_promql::{Output, Series, Value};

use crate::number::{push_json, push_scalar, push_seconds, push_value};

/// At most this many warnings, and as many infos, are listed.
const ANNOTATIONS_MAX: usize = 10;

/// `{"status":"success","data":...}` around `data`, which is JSON already.
pub(crate) fn success(data: &str, warnings: &[String], infos: &[String]) -> Response {
    let mut body = String::with_capacity(data.len() + 64);
    body.push_str(r#"{"status":"success","data":"#);
    body.push_str(data);
    annotations(&mut body, "warnings", "warning", warnings);
    annotations(&mut body, "infos", "info", infos);
    body.push('}');
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn annotations(body: &mut String, key: &str, kind: &str, all: &[String]) {
    if all.is_empty() {
        return;
    }
    body.push_str(&format!(",\"{key}\":["));
    for (i, text) in all.iter().take(ANNOTATIONS_MAX).enumerate() {
        if i > 0 {
            body.push(',');
        }
        push_json(body, text);
    }
    if all.len() > ANNOTATIONS_MAX {
        body.push_str(&format!(
            ",\"{} more {kind} annotations omitted\"",
            all.len() - ANNOTATIONS_MAX
        ));
    }
    body.push(']');
}

/// The `data` of `query` and `query_range`; `stats` is JSON already.
pub(crate) fn query_data(output: &Output, stats: Option<&str>) -> String {
    let mut out = String::with_capacity(4096);
    match &output.value {
        Value::Scalar(t, v) => {
            out.push_str(r#"{"resultType":"scalar","result":"#);
            out.push('[');
            push_seconds(&mut out, t.0);
            out.push_str(",\"");
            push_scalar(&mut out, *v);
            out.push_str("\"]");
        }
        Value::String(t, s) => {
            out.push_str(r#"{"resultType":"string","result":["#);
            push_seconds(&mut out, t.0);
            out.push(',');
            push_json(&mut out, s);
            out.push(']');
        }
        Value::Vector(series) => {
            out.push_str(r#"{"resultType":"vector","result":["#);
            join(&mut out, series.iter().filter(|s| !s.points.is_empty()), |out, s| {
                metric(out, &s.labels);
                out.push_str(",\"value\":");
                let (t, v) = s.points[0];
                point(out, t.0, v);
                out.push('}');
            });
            out.push(']');
        }
        Value::Matrix(series) => {
            out.push_str(r#"{"resultType":"matrix","result":["#);
            join(&mut out, series.iter(), matrix_row);
            out.push(']');
        }
    }
    if let Some(stats) = stats {
        out.push_str(",\"stats\":");
        out.push_str(stats);
    }
    out.push('}');
    out
}

fn matrix_row(out: &mut String, s: &Series) {
    metric(out, &s.labels);
    out.push_str(",\"values\":[");
    join(out, s.points.iter(), |out, (t, v)| point(out, t.0, *v));
    out.push_str("]}");
}

/// `{"metric":{...}`, left open.
fn metric(out: &mut String, labels: &LabelSet) {
    out.push_str("{\"metric\":");
    label_set(out, labels);
}

/// A label set as an object.
pub(crate) fn label_set(out: &mut String, labels: &LabelSet) {
    out.push('{');
    join(out, labels.iter(), |out, (n, v)| {
        push_json(out, n);
        out.push(':');
        push_json(out, v);
    });
    out.push('}');
}

fn point(out: &mut String, t_ms: i64, v: f64) {
    out.push('[');
    push_seconds(out, t_ms);
    out.push_str(",\"");
    push_value(out, v);
    out.push_str("\"]");
}

/// An array of strings.
pub(crate) fn strings(all: &[String]) -> String {
    array(all.iter(), |out, s| push_json(out, s))
}

/// An array of label sets.
pub(crate) fn label_sets(all: &[LabelSet]) -> String {
    array(all.iter(), label_set)
}

/// Metric families with what is known of each.
pub(crate) fn metadata<'a>(families: impl Iterator<Item = &'a (String, MetricMetadata)>) -> String {
    let mut out = String::from("{");
    join(&mut out, families, |out, (name, m)| {
        push_json(out, name);
        out.push_str(&format!(":[{{\"type\":\"{}\",\"unit\":", m.kind.as_str()));
        push_json(out, &m.unit);
        out.push_str(",\"help\":");
        push_json(out, &m.help);
        out.push_str("}]");
    });
    out.push('}');
    out
}

/// Exemplars by series.
pub(crate) fn exemplars(all: &[(LabelSet, Vec<Exemplar>)]) -> String {
    array(all.iter(), |out, (labels, exemplars)| {
        out.push_str("{\"seriesLabels\":");
        label_set(out, labels);
        out.push_str(",\"exemplars\":[");
        join(out, exemplars.iter(), |out, e| {
            out.push_str("{\"labels\":");
            label_set(out, &e.labels);
            out.push_str(",\"value\":\"");
            push_value(out, e.value);
            out.push_str("\",\"timestamp\":");
            push_seconds(out, e.t.0);
            out.push('}');
        });
        out.push_str("]}");
    })
}

fn array<T>(items: impl Iterator<Item = T>, each: impl Fn(&mut String, T)) -> String {
    let mut out = String::from("[");
    join(&mut out, items, each);
    out.push(']');
    out
}

fn join<T>(out: &mut String, items: impl Iterator<Item = T>, each: impl Fn(&mut String, T)) {
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push(',');
        }
        each(out, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::TimestampMs;

    fn check(value: Value, json: &str) {
        let output = Output {
            value,
            warnings: Vec::new(),
            infos: Vec::new(),
        };
        assert_eq!(query_data(&output, None), json);
    }

    #[test]
    fn results_have_the_shapes_of_the_api() {
        let t = TimestampMs(1_500);
        let labels = LabelSet::from_pairs([("__name__", "up"), ("job", "a\"b")]);
        check(Value::Scalar(t, 1.0), r#"{"resultType":"scalar","result":[1.500,"1"]}"#);
        check(
            Value::String(t, "x".to_owned()),
            r#"{"resultType":"string","result":[1.500,"x"]}"#,
        );
        check(Value::Vector(Vec::new()), r#"{"resultType":"vector","result":[]}"#);
        let series = Series {
            labels,
            points: vec![(t, f64::NAN), (TimestampMs(2000), 2.5)],
        };
        check(
            Value::Matrix(vec![series.clone()]),
            r#"{"resultType":"matrix","result":[{"metric":{"__name__":"up","job":"a\"b"},"values":[[1.500,"NaN"],[2,"2.5"]]}]}"#,
        );
        check(
            Value::Vector(vec![series]),
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a\"b"},"value":[1.500,"NaN"]}]}"#,
        );
    }

    #[test]
    fn annotations_are_listed_up_to_ten() {
        let mut body = String::new();
        let many: Vec<String> = (0..12).map(|i| format!("w{i}")).collect();
        annotations(&mut body, "warnings", "warning", &many);
        assert!(
            body.ends_with(r#""w9","2 more warning annotations omitted"]"#),
            "{body}"
        );
    }
}
