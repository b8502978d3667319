//! Results of queries: numbers, texts, vectors and matrices, with native histograms among their values.

use std::fmt::Write;

use axum::response::Response;
use model::{Bucket, Histogram, LabelSet, TimestampMs};
use query_promql::{Output, Series, Value};

use super::encode::{close_envelope, join, label_set, open_envelope, written};
use crate::number::{push_json, push_scalar, push_seconds, push_value};

/// The answer of `query` and `query_range`; `stats` is JSON already. The value is freed as it is written.
pub(crate) fn answer(output: Output, stats: Option<&str>) -> Response {
    let Output {
        value, warnings, infos, ..
    } = output;
    let mut head = String::new();
    open_envelope(&mut head);
    let mut tail = String::new();
    let rows = begin(&mut head, &mut tail, value);
    if let Some(stats) = stats {
        let _ = write!(tail, ",\"stats\":{stats}");
    }
    tail.push('}');
    close_envelope(&mut tail, &warnings, &infos);
    match rows {
        Rows::None => written::<()>(head, Vec::new(), |_, ()| {}, tail),
        Rows::Vector(rows) => written(head, rows, |out, row| vector_row(out, &row), tail),
        Rows::Matrix(rows) => written(head, rows, |out, row| matrix_row(out, &row), tail),
    }
}

/// What follows the beginning of a result.
enum Rows {
    None,
    Vector(Vec<Series>),
    Matrix(Vec<Series>),
}

/// Writes what comes before the rows and what comes right after them.
fn begin(head: &mut String, tail: &mut String, value: Value) -> Rows {
    match value {
        Value::Scalar(t, v) => {
            head.push_str(r#"{"resultType":"scalar","result":"#);
            head.push('[');
            push_seconds(head, t.0);
            head.push_str(",\"");
            push_scalar(head, v);
            head.push_str("\"]");
            Rows::None
        }
        Value::String(t, s) => {
            head.push_str(r#"{"resultType":"string","result":["#);
            push_seconds(head, t.0);
            head.push(',');
            push_json(head, &s);
            head.push(']');
            Rows::None
        }
        Value::Vector(mut rows) => {
            head.push_str(r#"{"resultType":"vector","result":["#);
            tail.push(']');
            rows.retain(|s| !s.points.is_empty() || !s.histograms.is_empty());
            Rows::Vector(rows)
        }
        Value::Matrix(rows) => {
            head.push_str(r#"{"resultType":"matrix","result":["#);
            tail.push(']');
            Rows::Matrix(rows)
        }
    }
}

fn vector_row(out: &mut String, s: &Series) {
    metric(out, &s.labels);
    if let Some(&(t, v)) = s.points.first() {
        out.push_str(",\"value\":");
        point(out, t, v);
    } else if let Some((t, h)) = s.histograms.first() {
        out.push_str(",\"histogram\":");
        histogram_point(out, *t, h);
    }
    out.push('}');
}

fn matrix_row(out: &mut String, s: &Series) {
    metric(out, &s.labels);
    if !s.points.is_empty() {
        out.push_str(",\"values\":[");
        // One growth instead of many; `[1700000000,"12345.678"],` is a usual length.
        out.reserve(s.points.len() * 28);
        join(out, s.points.iter(), |out, &(t, v)| point(out, t, v));
        out.push(']');
    }
    if !s.histograms.is_empty() {
        out.push_str(",\"histograms\":[");
        join(out, s.histograms.iter(), |out, (t, h)| histogram_point(out, *t, h));
        out.push(']');
    }
    out.push('}');
}

/// `{"metric":{...}`, left open.
fn metric(out: &mut String, labels: &LabelSet) {
    out.push_str("{\"metric\":");
    label_set(out, labels);
}

fn point(out: &mut String, t: TimestampMs, v: f64) {
    out.push('[');
    push_seconds(out, t.0);
    out.push_str(",\"");
    push_value(out, v);
    out.push_str("\"]");
}

fn histogram_point(out: &mut String, t: TimestampMs, h: &Histogram) {
    out.push('[');
    push_seconds(out, t.0);
    out.push_str(",{\"count\":\"");
    push_value(out, h.count);
    out.push_str("\",\"sum\":\"");
    push_value(out, h.sum);
    out.push('"');
    let buckets = h.buckets();
    let mut filled = buckets.iter().filter(|b| b.count != 0.0).peekable();
    if filled.peek().is_some() {
        out.push_str(",\"buckets\":[");
        join(out, filled, |out, b| bucket(out, h, b));
        out.push(']');
    }
    out.push_str("}]");
}

fn bucket(out: &mut String, h: &Histogram, b: &Bucket) {
    let bounds = [b.lower, b.upper, b.count];
    let _ = write!(out, "[{}", inclusive(h, b));
    for number in bounds {
        out.push_str(",\"");
        push_value(out, number);
        out.push('"');
    }
    out.push(']');
}

/// Which bounds belong to a bucket: 0 the upper, 1 the lower, 3 both.
fn inclusive(h: &Histogram, b: &Bucket) -> u8 {
    if h.has_custom_buckets() {
        return if b.lower == f64::NEG_INFINITY { 3 } else { 0 };
    }
    match b.lower < 0.0 {
        // Only the zero bucket lies around zero.
        _ if b.lower == -b.upper => 3,
        true => 1,
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use model::{Buckets, CUSTOM_BUCKETS};
    use query_promql::SampleCounts;

    async fn check(value: Value, data: &str) {
        let output = Output {
            value,
            warnings: Vec::new(),
            infos: Vec::new(),
            samples: SampleCounts::default(),
        };
        let body = axum::body::to_bytes(answer(output, None).into_body(), 1 << 20).await;
        let body = String::from_utf8(body.unwrap_or_default().to_vec()).unwrap_or_default();
        assert_eq!(body, format!(r#"{{"status":"success","data":{data}}}"#));
    }

    fn series(points: Vec<(TimestampMs, f64)>, histograms: Vec<(TimestampMs, Arc<Histogram>)>) -> Series {
        Series {
            labels: LabelSet::from_pairs([("__name__", "up"), ("job", "a\"b")]),
            points,
            histograms,
        }
    }

    #[tokio::test]
    async fn results_have_the_shapes_of_the_api() {
        let t = TimestampMs(1_500);
        check(Value::Scalar(t, 1.0), r#"{"resultType":"scalar","result":[1.500,"1"]}"#).await;
        check(
            Value::String(t, "x".to_owned()),
            r#"{"resultType":"string","result":[1.500,"x"]}"#,
        )
        .await;
        check(Value::Vector(Vec::new()), r#"{"resultType":"vector","result":[]}"#).await;
        check(Value::Matrix(Vec::new()), r#"{"resultType":"matrix","result":[]}"#).await;
        let row = series(vec![(t, f64::NAN), (TimestampMs(2000), 2.5)], Vec::new());
        check(
            Value::Matrix(vec![row.clone(), row.clone()]),
            r#"{"resultType":"matrix","result":[{"metric":{"__name__":"up","job":"a\"b"},"values":[[1.500,"NaN"],[2,"2.5"]]},{"metric":{"__name__":"up","job":"a\"b"},"values":[[1.500,"NaN"],[2,"2.5"]]}]}"#,
        )
        .await;
        check(
            Value::Vector(vec![row]),
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a\"b"},"value":[1.500,"NaN"]}]}"#,
        )
        .await;
    }

    fn exponential() -> Histogram {
        Histogram {
            schema: 0,
            zero_threshold: 0.001,
            zero_count: 2.0,
            count: 12.0,
            sum: -3.25,
            positive: Buckets::from_indexed([(0, 4.0), (2, 1.0), (3, 0.0)]),
            negative: Buckets::from_indexed([(1, 3.0), (2, 2.0)]),
            ..Histogram::stale()
        }
    }

    #[tokio::test]
    async fn histograms_list_their_filled_buckets_from_below() {
        let t = TimestampMs(60_000);
        let row = series(vec![(TimestampMs(0), 1.0)], vec![(t, Arc::new(exponential()))]);
        check(
            Value::Matrix(vec![row]),
            r#"{"resultType":"matrix","result":[{"metric":{"__name__":"up","job":"a\"b"},"values":[[0,"1"]],"histograms":[[60,{"count":"12","sum":"-3.25","buckets":[[1,"-4","-2","2"],[1,"-2","-1","3"],[3,"-0.001","0.001","2"],[0,"0.5","1","4"],[0,"2","4","1"]]}]]}]}"#,
        )
        .await;
        let custom = Histogram {
            schema: CUSTOM_BUCKETS,
            count: 7.0,
            sum: 1e21,
            positive: Buckets::from_indexed([(0, 1.0), (1, 2.0), (2, 4.0)]),
            bounds: [-1.0, 5.0].into(),
            ..Histogram::stale()
        };
        check(
            Value::Vector(vec![series(Vec::new(), vec![(t, Arc::new(custom))])]),
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a\"b"},"histogram":[60,{"count":"7","sum":"1e+21","buckets":[[3,"-Inf","-1","1"],[0,"-1","5","2"],[0,"5","+Inf","4"]]}]}]}"#,
        )
        .await;
        let empty = Histogram {
            count: 0.0,
            sum: 0.0,
            ..Histogram::stale()
        };
        check(
            Value::Vector(vec![series(Vec::new(), vec![(t, Arc::new(empty))])]),
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a\"b"},"histogram":[60,{"count":"0","sum":"0"}]}]}"#,
        )
        .await;
    }
}
